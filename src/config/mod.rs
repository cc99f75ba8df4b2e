//! The configuration file as the all-in-one reads it: every section, for everything that runs in one process.
//!
//! How a file is read and checked is `watchfold-config`; here stands which sinks' sections the command takes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use watchfold_config::{Around, CaptureConfig, Naming, PageAccess, Problems, RulesConfig, SecretRef, Sinks};
use watchfold_dashboard::{DashboardConfig, PageSection};
use watchfold_discord::{DiscordConfig, DiscordSection};
use watchfold_healthchecks::{HealthchecksConfig, HealthchecksSection};
use watchfold_kit::{Loaded, sections};
use watchfold_schemas::SiteConfig;
use watchfold_virustotal::{VirusTotalConfig, VirusTotalSection};

pub use watchfold_config::{ConfigError, Mistake, Seen};

/// Everything that a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// What the folds are told; recorded in the log.
    pub site: SiteConfig,
    pub listen: SocketAddr,
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

/// Reads a file for every part. `listen` of the command line holds whatever the file says.
pub fn loaded(path: &Path, listen: Option<SocketAddr>) -> Result<Loaded, ConfigError> {
    let mut config = load(path)?;
    config.listen = listen.unwrap_or(config.listen);
    let page = PageSection {
        listen: Some(config.listen),
        access: config.page.clone(),
    };
    let sections = sections::Sections::default()
        .with(Some(config.site.clone()))
        .with(Some(page))
        .with(Some(config.captures.clone()))
        .with(config.discord.clone())
        .with(config.healthchecks.clone())
        .with(config.virustotal.clone());
    Ok(Loaded {
        site: Some(config.site.site.clone()),
        seen: config.seen.clone(),
        warnings: config.warnings.clone(),
        sections: sections.with(Some(config)),
    })
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

fn told(sinks: Sections, around: &Around<'_>, problems: &mut Problems) -> Told {
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
        true => Ok(whole(config, path)),
        false => Err(watchfold_config::refuse(path, problems)),
    }
}

fn whole(config: watchfold_config::Config<Told>, path: &Path) -> Config {
    let told = config.sinks;
    Config {
        path: path.to_owned(),
        site: config.site,
        listen: config.listen.unwrap_or_else(|| DashboardConfig::default().listen),
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
