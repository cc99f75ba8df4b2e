//! The section `[sinks.virustotal]`: the key, what it may be used for, and what is never asked about.
//!
//! It does not read secrets from files or the environment: whoever loads the configuration resolves them.

use serde::{Deserialize, Serialize};
use watchfold_config::{Around, Problems, SecretRef};
use watchfold_schemas::Span;
use watchfold_sink_kit::Secret;

use crate::budget::Limits;
use crate::render::Lifetimes;
use crate::subject::{Network, Own, domain};

/// Where the API is.
pub const ADDRESS: &str = "https://www.virustotal.com/api/v3";

/// Where the key is taken from when the section names none.
pub const KEY_VARIABLE: &str = "VIRUSTOTAL_API_KEY";

/// What example configurations carry in place of a key.
const PLACEHOLDER: &str = "YOUR_";

/// The limits of the public API.
const PER_MINUTE_DEFAULT: u32 = 4;
const PER_DAY_DEFAULT: u32 = 500;
const PER_MONTH_DEFAULT: u32 = 15_500;

/// More calls a minute than one at a time can make.
const PER_MINUTE_MAX: u32 = 1_000;

/// A verdict of what is clean holds for a day: the key's day has room for 500 subjects.
const CLEAN_FOR_H_DEFAULT: u32 = 24;

/// One of what is malicious is renewed four times a day: such subjects are few, and what is said of them changes.
const MALICIOUS_FOR_H_DEFAULT: u32 = 6;

/// The longest that a verdict may hold, in hours: a month.
const HOURS_MAX: u32 = 744;

/// Networks or domains of one's own that a file may list.
const OWN_MAX: usize = 256;

/// The section as it stands in the file; `S` is however the file writes a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "S: Deserialize<'de>"))]
pub struct VirusTotalSection<S> {
    /// The API key. Without it the environment variable `VIRUSTOTAL_API_KEY` is taken.
    #[serde(default = "none")]
    pub key: Option<S>,
    /// Where the API is, if not at its usual place: https, or http on this machine.
    #[serde(default)]
    pub address: Option<String>,
    /// Calls that the key allows, all sites together.
    #[serde(default)]
    pub per_minute: Option<u32>,
    #[serde(default)]
    pub per_day: Option<u32>,
    #[serde(default)]
    pub per_month: Option<u32>,
    /// Hours until a verdict is old: of what fewer than three engines call malicious, and of the rest.
    #[serde(default)]
    pub clean_for_h: Option<u32>,
    #[serde(default)]
    pub malicious_for_h: Option<u32>,
    /// Networks of one's own, in CIDR notation: never asked about.
    #[serde(default)]
    pub own_networks: Vec<String>,
    /// Domains of one's own: neither they nor names below them are ever asked about.
    #[serde(default)]
    pub own_names: Vec<String>,
}

/// The section with its secret resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirusTotalConfig {
    /// Without one, nothing is asked.
    pub key: Option<Secret>,
    /// Without a slash at its end.
    pub address: String,
    pub limits: Limits,
    pub lifetimes: Lifetimes,
    pub own: Own,
}

/// A key of the section that cannot be used. Never shows the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("sinks.virustotal.key is empty: give the API key, or remove the line")]
    Empty,
    #[error("sinks.virustotal.key is still the placeholder: copy the API key from the account's page")]
    Placeholder,
    #[error("sinks.virustotal.key is not an API key: it is made of letters and digits alone")]
    NotAKey,
    #[error(
        "sinks.virustotal.address is {0:?}: use https, or http on this machine, as in {ADDRESS}; without a query"
    )]
    Address(String),
    #[error("sinks.virustotal.{name} is {value}: use 1 to {max}")]
    Range {
        name: &'static str,
        value: u32,
        max: u32,
    },
    #[error(
        "sinks.virustotal.own_networks: {0:?} is not a network: write it as 203.0.113.0/24 or 2001:db8::/32"
    )]
    Network(String),
    #[error("sinks.virustotal.own_names: {0:?} is not a domain: write it as example.net")]
    Name(String),
    #[error("sinks.virustotal.{name} lists {count}: {OWN_MAX} are the most")]
    TooMany { name: &'static str, count: usize },
}

impl ConfigError {
    /// The path of the key that it is about.
    fn key(&self) -> String {
        let name = match self {
            ConfigError::Empty | ConfigError::Placeholder | ConfigError::NotAKey => "key",
            ConfigError::Address(_) => "address",
            ConfigError::Network(_) => "own_networks",
            ConfigError::Name(_) => "own_names",
            ConfigError::Range { name, .. } | ConfigError::TooMany { name, .. } => name,
        };
        format!("sinks.virustotal.{name}")
    }
}

impl VirusTotalSection<SecretRef> {
    /// The section with its secret; what is wrong with it is added to the problems.
    pub fn resolve(self, around: &Around<'_>, problems: &mut Problems) -> Option<VirusTotalConfig> {
        // That it is not set is no mistake: then nothing is asked.
        let variable = std::env::var(KEY_VARIABLE).ok();
        self.resolve_beside(variable, around, problems)
    }

    fn resolve_beside(
        self,
        variable: Option<String>,
        around: &Around<'_>,
        problems: &mut Problems,
    ) -> Option<VirusTotalConfig> {
        let key = match &self.key {
            Some(reference) => {
                let key = reference.resolve::<Secret>("sinks.virustotal.key", around.directory);
                Some(
                    key.map_err(|why| problems.push("sinks.virustotal.key", why))
                        .ok()?,
                )
            }
            None => variable.map(Secret::new).filter(|key| !key.is_empty()),
        };
        self.with_key(key)
            .map_err(|error| problems.push(error.key(), error.to_string()))
            .ok()
    }
}

impl<S> VirusTotalSection<S> {
    /// The section with this key in place of its own.
    pub fn with_key(self, key: Option<Secret>) -> Result<VirusTotalConfig, ConfigError> {
        let limits = Limits {
            per_minute: within("per_minute", self.per_minute, PER_MINUTE_DEFAULT, PER_MINUTE_MAX)?,
            per_day: within("per_day", self.per_day, PER_DAY_DEFAULT, u32::MAX)?,
            per_month: within("per_month", self.per_month, PER_MONTH_DEFAULT, u32::MAX)?,
        };
        let hours = |hours: u32| Span::from_seconds(i64::from(hours) * 3_600);
        let lifetimes = Lifetimes {
            clean: hours(within(
                "clean_for_h",
                self.clean_for_h,
                CLEAN_FOR_H_DEFAULT,
                HOURS_MAX,
            )?),
            malicious: hours(within(
                "malicious_for_h",
                self.malicious_for_h,
                MALICIOUS_FOR_H_DEFAULT,
                HOURS_MAX,
            )?),
        };
        Ok(VirusTotalConfig {
            key: key.map(|key| check_key(&key)).transpose()?,
            address: check_address(self.address)?,
            limits,
            lifetimes,
            own: own(self.own_networks, self.own_names)?,
        })
    }
}

impl VirusTotalConfig {
    /// Everything as it is without a line in the section, with this key.
    pub fn with_defaults(key: Option<Secret>) -> Result<VirusTotalConfig, ConfigError> {
        VirusTotalSection::<String>::default().with_key(key)
    }
}

impl<S> Default for VirusTotalSection<S> {
    fn default() -> VirusTotalSection<S> {
        VirusTotalSection {
            key: None,
            address: None,
            per_minute: None,
            per_day: None,
            per_month: None,
            clean_for_h: None,
            malicious_for_h: None,
            own_networks: Vec::new(),
            own_names: Vec::new(),
        }
    }
}

fn none<S>() -> Option<S> {
    None
}

fn within(name: &'static str, given: Option<u32>, default: u32, max: u32) -> Result<u32, ConfigError> {
    let value = given.unwrap_or(default);
    (1..=max)
        .contains(&value)
        .then_some(value)
        .ok_or(ConfigError::Range { name, value, max })
}

/// Keys are 64 hexadecimal digits today; only what a header could not carry is refused.
fn check_key(key: &Secret) -> Result<Secret, ConfigError> {
    let text = key.expose().trim();
    if text.is_empty() {
        return Err(ConfigError::Empty);
    }
    if text.contains(PLACEHOLDER) {
        return Err(ConfigError::Placeholder);
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(ConfigError::NotAKey);
    }
    Ok(Secret::new(text))
}

/// The key must not cross a network in the clear.
fn check_address(address: Option<String>) -> Result<String, ConfigError> {
    let text = address.unwrap_or_else(|| ADDRESS.to_owned());
    let trimmed = text.trim().trim_end_matches('/');
    let url = reqwest::Url::parse(trimmed).ok().filter(|url| {
        let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        plain && url.password().is_none()
    });
    let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
    let here = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    match url.as_ref().map(|url| url.scheme()) {
        Some("https") if !host.is_empty() => Ok(trimmed.to_owned()),
        Some("http") if here => Ok(trimmed.to_owned()),
        _ => Err(ConfigError::Address(without_credentials(trimmed))),
    }
}

/// What somebody put before an `@` is a credential.
fn without_credentials(text: &str) -> String {
    text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned()
}

fn own(networks: Vec<String>, names: Vec<String>) -> Result<Own, ConfigError> {
    for (name, count) in [("own_networks", networks.len()), ("own_names", names.len())] {
        if count > OWN_MAX {
            return Err(ConfigError::TooMany { name, count });
        }
    }
    let networks = networks
        .into_iter()
        .map(|text| text.parse::<Network>().map_err(|_| ConfigError::Network(text)));
    let names = names
        .into_iter()
        .map(|text| domain(&text).ok_or(ConfigError::Name(text)));
    Ok(Own {
        networks: networks.collect::<Result<_, _>>()?,
        names: names.collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const KEY: &str = "0123456789abcdef";

    fn resolve(text: &str) -> Result<VirusTotalConfig, Vec<String>> {
        resolve_beside(text, None)
    }

    fn resolve_beside(text: &str, variable: Option<&str>) -> Result<VirusTotalConfig, Vec<String>> {
        let section: VirusTotalSection<SecretRef> = toml::from_str(text).unwrap();
        let around = Around {
            site: "cafe-1",
            page_url: None,
            directory: Path::new("."),
        };
        let mut problems = Problems::default();
        section
            .resolve_beside(variable.map(str::to_owned), &around, &mut problems)
            .ok_or_else(|| problems.messages().into_iter().map(str::to_owned).collect())
    }

    fn check(text: &str, want: ConfigError) {
        let problems = resolve(text).expect_err(text);
        assert_eq!(problems, [want.to_string()], "{text}");
        assert!(!problems[0].contains("s3cret"), "{problems:?}");
    }

    #[test]
    fn the_example_is_the_default_but_for_what_is_ones_own() {
        #[derive(Deserialize)]
        struct File {
            sinks: Sinks,
        }
        #[derive(Deserialize)]
        struct Sinks {
            virustotal: VirusTotalSection<toml::Value>,
        }
        let file: File = toml::from_str(include_str!("../example.toml")).unwrap();
        let example = file.sinks.virustotal.with_key(Some(Secret::new(KEY))).unwrap();
        let default = VirusTotalConfig::with_defaults(Some(Secret::new(KEY))).unwrap();
        assert_eq!((example.own.networks.len(), example.own.names.len()), (1, 1));
        let own = Own::default();
        assert_eq!(VirusTotalConfig { own, ..example }, default);
        assert_eq!(default.address, ADDRESS);
        assert!(toml::from_str::<VirusTotalSection<String>>("api_key = \"x\"").is_err());
    }

    #[test]
    fn what_cannot_be_used_names_the_key_and_hides_the_secret() {
        check("key = \"\"", ConfigError::Empty);
        check("key = \"YOUR_KEY\"", ConfigError::Placeholder);
        check("key = \"s3cret key\"", ConfigError::NotAKey);
        for address in [
            "http://www.virustotal.com/api/v3",
            "ftp://127.0.0.1/",
            "www.virustotal.com",
            "https://x.example/api?key=1",
            "http://127.0.0.1.example/api/v3",
        ] {
            let text = format!("key = \"{KEY}\"\naddress = \"{address}\"");
            check(
                &text,
                ConfigError::Address(address.trim_end_matches('/').to_owned()),
            );
        }
        check(
            "address = \"https://me:s3cret@x.example\"",
            ConfigError::Address("x.example".to_owned()),
        );
        check(
            "per_day = 0",
            ConfigError::Range {
                name: "per_day",
                value: 0,
                max: u32::MAX,
            },
        );
        check(
            "clean_for_h = 745",
            ConfigError::Range {
                name: "clean_for_h",
                value: 745,
                max: 744,
            },
        );
        check(
            "own_networks = [\"10.0.0.0/40\"]",
            ConfigError::Network("10.0.0.0/40".into()),
        );
        check("own_names = [\"a b\"]", ConfigError::Name("a b".into()));
        let problems = resolve("key = { file = \"no/such/file\" }").unwrap_err();
        assert!(problems[0].contains("sinks.virustotal.key"), "{problems:?}");
    }

    #[test]
    fn addresses_on_this_machine_need_no_tls() {
        for address in [
            "http://127.0.0.1:8080/api/v3/",
            "http://[::1]:1",
            "http://localhost:1/x",
        ] {
            let text = format!("key = \"{KEY}\"\naddress = \"{address}\"");
            assert_eq!(resolve(&text).unwrap().address, address.trim_end_matches('/'));
        }
    }

    #[test]
    fn the_key_of_the_section_is_taken_before_any_other_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, format!("{KEY}\n")).unwrap();
        let text = format!("key = {{ file = {:?} }}", path.display().to_string());
        for text in [text, format!("key = \"{KEY}\"")] {
            let config = resolve_beside(&text, Some("another")).unwrap();
            assert_eq!(config.key, Some(Secret::new(KEY)));
            assert!(!format!("{config:?}").contains(KEY));
        }
        assert_eq!(resolve_beside("", Some(KEY)).unwrap().key, Some(Secret::new(KEY)));
        for nothing in [None, Some(" ")] {
            assert_eq!(resolve_beside("", nothing).unwrap().key, None);
        }
        let missing = "key = { env = \"WATCHFOLD_TEST_NO_SUCH_VARIABLE\" }";
        assert!(resolve(missing).unwrap_err()[0].contains("is not set"));
    }
}
