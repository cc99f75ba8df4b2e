//! The configuration file: one TOML, checked whole, turned into what the parts are given.
//!
//! Unknown keys, unusable values and dangling references are errors that name the file, the line or key and what to
//! write instead. Secrets may be inline, in a file or in the environment; the site's part, which goes into the log,
//! never holds one.

mod check;
mod duration;
mod file;
mod hosts;
mod secret;
mod suggest;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use watchfold_discord::DiscordConfig;
use watchfold_healthchecks::HealthchecksConfig;
use watchfold_schemas::SiteConfig;

/// Everything that a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What the folds are told; recorded in the log.
    pub site: SiteConfig,
    pub listen: SocketAddr,
    pub discord: Option<DiscordConfig>,
    pub healthchecks: Option<HealthchecksConfig>,
    /// The file as it was read, to tell a change by.
    pub text: FileText,
    /// What is odd but not wrong, one sentence each.
    pub warnings: Vec<String>,
}

/// The text of a file, which may hold secrets: its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct FileText(pub String);

impl std::fmt::Debug for FileText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Why a file cannot be used. None of them shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "failed to read {path}: {source}\n  give another file with --config, or make one with `watchfold init`"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {message}")]
    Syntax { path: PathBuf, message: String },
    #[error("{path}: {}", list(problems))]
    Invalid { path: PathBuf, problems: Vec<String> },
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut config = parse(&text, path)?;
    config.warnings.extend(secret::readable_by_others(path, &text));
    config.text = FileText(text);
    Ok(config)
}

/// Checks the text of a file; `path` is for messages, and what relative paths in it start from.
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let syntax = |error: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        message: suggest::explain(&error, text),
    };
    let file: file::File = toml::from_str(text).map_err(syntax)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    check::check(file, directory).map_err(|problems| ConfigError::Invalid {
        path: path.to_owned(),
        problems,
    })
}

fn list(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => {
            let lines: Vec<String> = many.iter().map(|problem| format!("\n  - {problem}")).collect();
            format!("{} problems{}", many.len(), lines.concat())
        }
    }
}

#[cfg(test)]
mod tests;
