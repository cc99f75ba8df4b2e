//! The configuration file: one TOML for every program, checked whole, turned into what the parts are given.
//!
//! Unknown keys, unusable values and dangling references are errors that name the file, the line or key and what to
//! write instead. Secrets may be inline, in a file or in the environment; the site's part, which goes into the log,
//! never holds one. This package knows no collector and no sink: a program brings the sections of the sinks that it
//! runs, and those of others are passed over.

mod capture;
mod check;
mod duration;
mod exclusions;
mod file;
mod hosts;
mod named;
mod page;
mod problems;
mod rules;
mod secret;
mod suggest;
mod whole;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use watchfold_schemas::SiteConfig;
use watchfold_schemas::plain_text::text_of;

pub use capture::{CAPTURES_MAX, COLLECTOR_PREFIX, CaptureConfig, HEAD_PORTS, HEAD_PORTS_MAX};
pub use check::PROBES_MAX;
pub use exclusions::{ExcludedField, RuleExclusion};
pub use file::{Ignored, Sinks};
pub use named::{NAMED_FILES_MAX, Seen, is_hidden};
pub use page::{AddressBlock, PAGE_ENTRIES_MAX, PageAccess};
pub use problems::{Mistake, Problems};
pub use rules::{Found, RULE_ENTRIES_MAX, RulesConfig, Thresholds, Window};
pub use secret::SecretRef;

/// Everything that a file says to one program; `S` is what its sinks are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config<S> {
    /// What the folds are told; recorded in the log.
    pub site: SiteConfig,
    /// Where the page listens, if the file says.
    pub listen: Option<SocketAddr>,
    /// Under which names and through which proxies the page is reached.
    pub page: PageAccess,
    /// Interfaces that packets are taken from.
    pub captures: Vec<CaptureConfig>,
    /// Which rules judge packets and other rows, for the programs that judge.
    pub rules: RulesConfig,
    pub sinks: S,
    /// The file and those that it names as they were read, to tell a change by.
    pub seen: Seen,
    /// What is odd but not wrong, one sentence each.
    pub warnings: Vec<String>,
}

/// What sections of sinks may be checked against.
#[derive(Clone, Copy, Debug)]
pub struct Around<'f> {
    /// Empty where the program serves many sites and the file names none.
    pub site: &'f str,
    /// Where those who read messages can reach the page.
    pub page_url: Option<&'f str>,
    /// What relative paths start from.
    pub directory: &'f Path,
}

/// Whether a file must name a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The program serves the one that is named.
    Required,
    /// The program serves those it is told or finds; then nothing about one site is checked.
    Optional,
}

/// Why a file cannot be used. None of them shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "failed to read {path}: {source}\n  give another file with --config, or make one with `watchfold init`"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}", list(path, mistakes))]
    Invalid {
        path: PathBuf,
        /// In the order of the file.
        mistakes: Vec<Mistake>,
        /// The `[rules]` section as far as it can be read, to check rules in the same pass.
        rules: Option<Box<RulesConfig>>,
    },
}

/// Reads and checks a file. `take` makes of the sinks' sections what the program runs on, and adds what is wrong with
/// them to the problems.
pub fn load<S, T>(path: &Path, naming: Naming, take: Take<S, T>) -> Result<Config<T>, ConfigError>
where
    S: DeserializeOwned + Default,
{
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    // Before anything is read for use: what changes meanwhile is seen as a change later.
    let seen = Seen::look(path, &Seen::default()).map_err(failed)?;
    let text = read_text(path).map_err(failed)?;
    let mut config = parse(&text, path, naming, take)?;
    config.warnings.extend(secret::readable_by_others(path, &text));
    if seen.is_cut() {
        config.warnings.push(format!(
            "{} names more than {NAMED_FILES_MAX} files: changes of the rest take effect at the next start",
            path.display()
        ));
    }
    config.seen = seen;
    Ok(config)
}

/// The text of a file, by its first bytes: [`watchfold_schemas::plain_text`].
pub fn read_text(path: &Path) -> std::io::Result<String> {
    text_of(std::fs::read(path)?).map_err(|not_text| std::io::Error::new(ErrorKind::InvalidData, not_text))
}

/// How a program turns sections into what it runs on.
pub type Take<S, T> = fn(S, &Around<'_>, &mut Problems) -> T;

/// Checks the text of a file; `path` is for messages, and what relative paths in it start from. All mistakes are found in
/// one pass: what cannot be read is left out, and the rest is checked.
pub fn parse<S, T>(
    text: &str,
    path: &Path,
    naming: Naming,
    take: Take<S, T>,
) -> Result<Config<T>, ConfigError>
where
    S: DeserializeOwned + Default,
{
    let mut read = whole::read::<S>(text);
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut found = Problems::default();
    let config = read.file.take().map(|file| {
        let given = check::Given {
            text,
            path,
            directory,
            names: &read.names,
        };
        check::check(file, &given, naming, take, &mut found)
    });
    found.locate(&read.table);
    found.retain(|key, at| read.is_checked(key, at));
    found.rename(|key| read.as_written(key));
    read.problems.extend(found);
    match config {
        Some(config) if read.problems.is_empty() => Ok(config),
        config => Err(ConfigError::Invalid {
            path: path.to_owned(),
            mistakes: read.problems.mistakes(path, text),
            rules: config.map(|config| Box::new(config.rules)),
        }),
    }
}

/// The error of a file that can be read and still not be used, for what only a program that uses it can check.
pub fn refuse(path: &Path, mut problems: Problems) -> ConfigError {
    let text = read_text(path).unwrap_or_default();
    let (table, _) = toml::de::DeTable::parse_recoverable(&text);
    problems.locate(table.get_ref());
    ConfigError::Invalid {
        path: path.to_owned(),
        mistakes: problems.mistakes(path, &text),
        rules: None,
    }
}

/// [`load`] for a program that runs no sink.
pub fn load_site(path: &Path) -> Result<Config<()>, ConfigError> {
    load(path, Naming::Required, |_: Sinks, _, _| ())
}

fn list(path: &Path, mistakes: &[Mistake]) -> String {
    match mistakes {
        [one] => one.to_string(),
        many => {
            let lines: Vec<String> = many.iter().map(|mistake| format!("\n  {mistake}")).collect();
            format!("{}: {} problems{}", path.display(), many.len(), lines.concat())
        }
    }
}

#[cfg(test)]
mod tests;
