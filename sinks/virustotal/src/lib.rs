//! Asks VirusTotal about addresses and names that rules want to know of, and puts what it says into the log.
//!
//! Rules ask by events; the answers are observations, so that folds and replays read them from the log and never call
//! anybody. It judges nothing: tiers and thresholds are the folds'. It asks for what it is asked, within one budget for
//! the key, and never about what is private. It never shows the key.

pub mod answer;
pub mod budget;
pub mod cache;
pub mod config;
pub mod deliver;
mod memory;
mod oracle;
pub mod part;
pub mod queue;
pub mod render;
mod stats;
pub mod subject;
mod telling;
#[cfg(feature = "testing")]
pub mod testing;

pub use config::{ConfigError, VirusTotalConfig, VirusTotalSection};
pub use deliver::{LookupContext, Publishers, one_site, run};
pub use part::VirusTotal;
pub use stats::{LookupCount, LookupStats};
pub use watchfold_log::Leases;

use watchfold_kit::KitError;
use watchfold_log::LogError;

/// What verdicts call this oracle, and the name of the collector that publishes them.
pub const ORACLE: &str = "virustotal";

/// Look-ups cannot go on; the supervisor may start them again.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The log could not be read or asked; what its message says must be dealt with first.
    #[error("the log failed under the look-ups: {0}")]
    Log(#[from] LogError),
    #[error("verdicts cannot be published: {0}")]
    Publish(#[from] KitError),
    /// The HTTP client could not be made: the process has not installed its TLS provider.
    #[error("failed to make an HTTP client: {0}; install the rustls ring provider before starting sinks")]
    Client(String),
}
