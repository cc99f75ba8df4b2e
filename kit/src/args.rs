//! What every small program takes on its command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use watchfold_connect::ConnectArgs;
use watchfold_schemas::subjects::{TOKEN_BYTES_MAX, is_token};

/// Arguments that all small programs share.
#[derive(Clone, Debug, clap::Args)]
pub struct ProcessArgs {
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// The configuration, the same file as the all-in-one's; sections of other programs are passed over.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the configuration and the arguments, say what is wrong, and start nothing.
    #[arg(long)]
    pub check_config: bool,
    /// Where this process keeps what must survive its restart. No two processes share one.
    #[arg(
        long,
        value_name = "DIR",
        env = "STATE_DIRECTORY",
        default_value = "watchfold-data"
    )]
    pub state: PathBuf,
    /// Answer /livez, /readyz and /metrics here. Away from loopback, /metrics asks for the token in the state directory.
    #[arg(long, value_name = "ADDR")]
    pub status: Option<SocketAddr>,
    /// A site to serve; may be given several times. Default: the one of the configuration, else, for programs that serve many, every
    /// site whose configuration is in the log.
    #[arg(long = "site", value_name = "NAME", value_parser = site)]
    pub sites: Vec<String>,
    /// What to tell on standard error, `debug` or `warn,watchfold_ping=trace` for example.
    #[arg(long, env = "WATCHFOLD_LOG", value_name = "FILTER")]
    pub log_level: Option<String>,
}

/// The name of a site, as a subject can carry it.
pub fn site(text: &str) -> Result<String, String> {
    if is_token(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "a site is 1 to {TOKEN_BYTES_MAX} of the letters a-z, A-Z, digits, '-' and '_'"
        ))
    }
}
