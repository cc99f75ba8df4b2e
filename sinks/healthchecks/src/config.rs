//! The section `[sinks.healthchecks]`: the ping's address and how often.
//!
//! It does not read secrets from files or the environment: whoever loads the configuration resolves them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use watchfold_config::{Around, Problems, SecretRef};
use watchfold_sink_kit::Secret;

/// The least distance of pings, in seconds: of more than five a minute some may be dropped unrecorded.
pub const PERIOD_S_MIN: u64 = 12;

/// The default distance of pings, in seconds.
pub const PERIOD_S_DEFAULT: u64 = 60;

/// The greatest distance of pings, in seconds: a day, which is the longest anybody should wait to learn of silence.
pub const PERIOD_S_MAX: u64 = 86_400;

/// What example configurations carry in place of an address.
const PLACEHOLDER: &str = "YOUR_";

/// The section as it stands in the file; `S` is however the file writes a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthchecksSection<S> {
    /// `https://hc-ping.com/<uuid>`, `https://hc-ping.com/<ping-key>/<slug>`, or the same on a server of one's own.
    pub url: S,
    /// Seconds between pings.
    #[serde(default = "period_s_default")]
    pub period_s: u64,
}

/// The section with its secret resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthchecksConfig {
    pub url: Secret,
    pub period: Duration,
    /// The site's name, for the text of pings.
    pub site: String,
}

/// A key of the section that cannot be used. Never shows the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("sinks.healthchecks.url is empty: give the check's ping address, or remove the section")]
    Empty,
    #[error("sinks.healthchecks.url is still the placeholder: copy the ping address from the check's page")]
    Placeholder,
    #[error("sinks.healthchecks.url is not a ping address: it looks like https://hc-ping.com/<uuid>")]
    NotAnAddress,
    #[error(
        "sinks.healthchecks.url ends in a slug with other characters than a-z, 0-9, '-' and '_': the server refuses it"
    )]
    Slug,
    #[error(
        "sinks.healthchecks.url ends in /{0}, which is added by Watchfold where it belongs: give the address without it"
    )]
    Suffix(String),
    #[error(
        "sinks.healthchecks.period_s is {0}: use {PERIOD_S_MIN} to {PERIOD_S_MAX}; the server drops pings closer together"
    )]
    Period(u64),
}

impl ConfigError {
    /// The path of the key that it is about.
    fn key(&self) -> &'static str {
        match self {
            ConfigError::Period(_) => "sinks.healthchecks.period_s",
            _ => "sinks.healthchecks.url",
        }
    }
}

impl HealthchecksSection<SecretRef> {
    /// The section with its secret; what is wrong with it is added to the problems.
    pub fn resolve(self, around: &Around<'_>, problems: &mut Problems) -> Option<HealthchecksConfig> {
        let url: Secret = self
            .url
            .resolve("sinks.healthchecks.url", around.directory)
            .map_err(|why| problems.push("sinks.healthchecks.url", why))
            .ok()?;
        HealthchecksConfig::new(url, self.period_s, around.site.to_owned())
            .map_err(|error| problems.push(error.key(), error.to_string()))
            .ok()
    }
}

impl HealthchecksConfig {
    pub fn new(url: Secret, period_s: u64, site: String) -> Result<HealthchecksConfig, ConfigError> {
        if !(PERIOD_S_MIN..=PERIOD_S_MAX).contains(&period_s) {
            return Err(ConfigError::Period(period_s));
        }
        let text = url.expose().trim();
        check_address(text)?;
        Ok(HealthchecksConfig {
            url: Secret::new(text),
            period: Duration::from_secs(period_s),
            site,
        })
    }
}

fn check_address(text: &str) -> Result<(), ConfigError> {
    if text.is_empty() {
        return Err(ConfigError::Empty);
    }
    if text.contains(PLACEHOLDER) {
        return Err(ConfigError::Placeholder);
    }
    let url = reqwest::Url::parse(text).map_err(|_| ConfigError::NotAnAddress)?;
    let segments: Vec<&str> = url
        .path_segments()
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect();
    let Some(last) = segments
        .last()
        .filter(|_| matches!(url.scheme(), "http" | "https") && url.has_host())
    else {
        return Err(ConfigError::NotAnAddress);
    };
    if segments.len() > 1 && matches!(*last, "start" | "fail" | "log") {
        return Err(ConfigError::Suffix((*last).to_owned()));
    }
    if is_uuid(last) {
        return Ok(());
    }
    let is_slug =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if segments.len() < 2 {
        return Err(ConfigError::NotAnAddress);
    }
    if last.bytes().all(is_slug) {
        Ok(())
    } else {
        Err(ConfigError::Slug)
    }
}

/// 8-4-4-4-12 hexadecimal digits.
pub(crate) fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

const fn period_s_default() -> u64 {
    PERIOD_S_DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, period_s: u64, want: Result<(), ConfigError>) {
        let got = HealthchecksConfig::new(Secret::new(url), period_s, "cafe-1".into());
        if let Err(error) = &got {
            assert!(error.to_string().contains("sinks.healthchecks."), "{error}");
            assert!(url.len() < 9 || !error.to_string().contains(url), "{error}");
        }
        assert_eq!(got.map(|_| ()), want, "{url}");
    }

    #[test]
    fn an_unusable_address_is_an_error_that_names_the_key_and_hides_the_value() {
        let uuid = "https://hc-ping.com/5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278";
        check(uuid, 60, Ok(()));
        check(&format!("{uuid}\n"), 12, Ok(()));
        check(
            "http://10.0.0.1:8000/ping/5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278",
            60,
            Ok(()),
        );
        check(
            "https://hc-ping.com/fqOOd6-F4MMNuCEnzTU01w/watch-fold_1?create=1",
            60,
            Ok(()),
        );
        check(
            "https://hc-ping.com/fqOOd6-F4MMNuCEnzTU01w/Watchfold",
            60,
            Err(ConfigError::Slug),
        );
        check(
            &format!("{uuid}/start"),
            60,
            Err(ConfigError::Suffix("start".into())),
        );
        check("", 60, Err(ConfigError::Empty));
        check("https://hc-ping.com/YOUR_UUID", 60, Err(ConfigError::Placeholder));
        for bad in [
            "hc-ping.com/5bf6",
            "https://hooks.example",
            "https://hc-ping.com/5bf66975",
            "mailto:a@b.example",
        ] {
            check(bad, 60, Err(ConfigError::NotAnAddress));
        }
        check(uuid, 11, Err(ConfigError::Period(11)));
        check(uuid, 86_401, Err(ConfigError::Period(86_401)));
    }

    #[test]
    fn the_example_parses_and_unknown_keys_do_not() {
        let file: toml::Table = toml::from_str(include_str!("../example.toml")).unwrap();
        let section: HealthchecksSection<toml::Value> =
            file["sinks"]["healthchecks"].clone().try_into().unwrap();
        assert_eq!(section.period_s, PERIOD_S_DEFAULT);
        assert!(toml::from_str::<HealthchecksSection<String>>("url = \"x\"\nperiod = 1").is_err());
    }
}
