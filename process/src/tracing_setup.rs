//! Log lines of a process: to standard error, coloured on a terminal, plain elsewhere.

use std::io::IsTerminal;

/// Ours from `info` on, everybody else's from `warn` on.
const FILTER_DEFAULT: &str = "warn,watchfold=info";

/// Once in a process, before anything is told.
pub fn start_tracing(filter: Option<&str>) {
    let filter = tracing_subscriber::EnvFilter::new(filter.unwrap_or(FILTER_DEFAULT));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .init();
}

/// TLS with ring. The provider can be chosen once in a process; a second choice would be the same one.
pub fn choose_tls() {
    drop(rustls::crypto::ring::default_provider().install_default());
}
