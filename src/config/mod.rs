//! The configuration file as the all-in-one reads it: every section, for everything that runs in one process.
//!
//! How a file is read and checked is `watchfold-config`; here stands which sinks' sections the command takes.

use std::net::SocketAddr;
use std::path::Path;

use watchfold_config::{Around, CaptureConfig, Naming, PageAccess, RulesConfig, SecretRef, Sinks};
use watchfold_dashboard::DashboardConfig;
use watchfold_discord::{DiscordConfig, DiscordSection};
use watchfold_healthchecks::{HealthchecksConfig, HealthchecksSection};
use watchfold_schemas::SiteConfig;
use watchfold_virustotal::{VirusTotalConfig, VirusTotalSection};

pub use watchfold_config::{ConfigError, Seen};

/// Everything that a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What the folds are told; recorded in the log.
    pub site: SiteConfig,
    pub listen: SocketAddr,
    /// Whether the command line gave `listen`, which then holds whatever the file says.
    pub is_listen_given: bool,
    /// Under which names and through which proxies the page is reached.
    pub page: PageAccess,
    /// Interfaces that packets are taken from.
    pub captures: Vec<CaptureConfig>,
    /// Which rules judge packets and other rows.
    pub rules: RulesConfig,
    pub discord: Option<DiscordConfig>,
    pub healthchecks: Option<HealthchecksConfig>,
    pub virustotal: Option<VirusTotalConfig>,
    /// The file and those that it names as they were read, to tell a change by.
    pub seen: Seen,
    /// What is odd but not wrong, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    watchfold_config::load(path, Naming::Required, told).and_then(|config| checked(config, path))
}

/// Checks the text of a file; `path` is for messages, and what relative paths in it start from.
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    watchfold_config::parse(text, path, Naming::Required, told).and_then(|config| checked(config, path))
}

type Sections =
    Sinks<DiscordSection<SecretRef>, HealthchecksSection<SecretRef>, VirusTotalSection<SecretRef>>;

struct Told {
    discord: Option<DiscordConfig>,
    healthchecks: Option<HealthchecksConfig>,
    virustotal: Option<VirusTotalConfig>,
}

fn told(sinks: Sections, around: &Around<'_>, problems: &mut Vec<String>) -> Told {
    let discord = sinks
        .discord
        .and_then(|section| section.resolve(around, problems));
    let healthchecks = sinks
        .healthchecks
        .and_then(|section| section.resolve(around, problems));
    let virustotal = sinks
        .virustotal
        .and_then(|section| section.resolve(around, problems));
    Told {
        discord,
        healthchecks,
        virustotal,
    }
}

/// What only a collector can check is checked too.
fn checked(config: watchfold_config::Config<Told>, path: &Path) -> Result<Config, ConfigError> {
    let problems = watchfold_capture::config::check_filters(&config.captures);
    match problems.is_empty() {
        true => Ok(whole(config)),
        false => Err(ConfigError::Invalid {
            path: path.to_owned(),
            problems,
        }),
    }
}

fn whole(config: watchfold_config::Config<Told>) -> Config {
    let told = config.sinks;
    Config {
        site: config.site,
        listen: config.listen.unwrap_or_else(|| DashboardConfig::default().listen),
        is_listen_given: false,
        page: config.page,
        captures: config.captures,
        rules: config.rules,
        discord: told.discord,
        healthchecks: told.healthchecks,
        virustotal: told.virustotal,
        seen: config.seen,
        warnings: config.warnings,
    }
}

#[cfg(test)]
mod tests;
