//! Log lines of a process: to standard error, coloured on a terminal, plain elsewhere.

use crate::console;
use crate::exit::is_colour_refused;

/// Ours from `info` on, everybody else's from `warn` on.
const FILTER_DEFAULT: &str = "warn,watchfold=info";

/// Once in a process, before anything is told.
pub fn start_tracing(filter: Option<&str>) {
    let filter = tracing_subscriber::EnvFilter::new(filter.unwrap_or(FILTER_DEFAULT));
    let colour = console::is_messages_terminal() && !is_colour_refused();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(console::messages)
        .with_ansi(colour)
        .with_target(false)
        .init();
}

/// TLS with ring. The provider can be chosen once in a process; a second choice would be the same one.
pub fn choose_tls() {
    drop(rustls::crypto::ring::default_provider().install_default());
}
