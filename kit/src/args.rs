//! What every small program can be told on its command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use watchfold_config::Config;
use watchfold_connect::ConnectArgs;
use watchfold_schemas::subjects::{TOKEN_BYTES_MAX, is_token};

use crate::exit::Usage;
use crate::reload::{Followed, Load};

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
    /// What to tell on standard error, `debug` or `warn,watchfold_ping=trace` for example.
    #[arg(long, env = "WATCHFOLD_LOG", value_name = "FILTER")]
    pub log_level: Option<String>,
}

impl ProcessArgs {
    /// The configuration, read by `load`, for a program that needs the section `section` of it.
    pub fn configuration<S>(&self, section: &str, load: Load<S>) -> anyhow::Result<Followed<S>> {
        let missing = || Usage(format!("give --config FILE with a section [{section}]"));
        let path = self.config.clone().ok_or_else(missing)?;
        let current = load(&path)?;
        Ok(Followed { path, load, current })
    }
}

/// Which sites a program serves that can serve several.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SitesArgs {
    /// A site to serve; may be given several times. Default: every site whose configuration is in the log.
    #[arg(long = "site", value_name = "NAME", value_parser = site)]
    pub sites: Vec<String>,
}

impl SitesArgs {
    /// The sites of the command line, else the one that the file names, else none in particular.
    pub fn or_named_by<S>(self, config: &Config<S>) -> Vec<String> {
        let named = &config.site.site;
        match self.sites.is_empty() && !named.is_empty() {
            true => vec![named.clone()],
            false => self.sites,
        }
    }
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
