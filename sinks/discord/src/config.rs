//! The section `[sinks.discord]`: a webhook address for each class of notice.
//!
//! It does not read secrets from files or the environment: whoever loads the configuration resolves them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_config::{Around, Problems, SecretRef};
use watchfold_schemas::event::NoticeClass;
use watchfold_sink_kit::Secret;

/// What example configurations carry in place of an address.
const PLACEHOLDER: &str = "YOUR_";

/// The section as it stands in the file; `S` is however the file writes a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "S: Deserialize<'de>"))]
pub struct DiscordSection<S> {
    /// Webhook for incidents: opened, updated, reminders, closed.
    #[serde(default = "none")]
    pub alerts: Option<S>,
    /// Webhook for sessions and the hourly snapshot.
    #[serde(default = "none")]
    pub occupancy: Option<S>,
    /// Webhook for screenshots.
    #[serde(default = "none")]
    pub screenshots: Option<S>,
}

/// The section with its secrets resolved. A class without a webhook is not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscordConfig {
    pub webhooks: BTreeMap<NoticeClass, Secret>,
    /// The sender's name and the footer: the site's name.
    pub username: String,
    /// Where the page can be reached by those who read the messages; without it messages carry no links.
    pub page_url: Option<String>,
}

/// A key of the section that cannot be used. Never shows its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("sinks.discord.{key} is empty: give the webhook's address, or remove the key")]
    Empty { key: &'static str },
    #[error(
        "sinks.discord.{key} is still the placeholder: copy the webhook's address from the channel's settings"
    )]
    Placeholder { key: &'static str },
    #[error(
        "sinks.discord.{key} is not a webhook's address: it looks like https://discord.com/api/webhooks/<id>/<token>"
    )]
    NotAnAddress { key: &'static str },
    #[error("the page's address for links is not an http or https address")]
    PageUrl,
}

impl ConfigError {
    /// The path of the key that it is about.
    fn key(&self) -> String {
        match self {
            ConfigError::Empty { key }
            | ConfigError::Placeholder { key }
            | ConfigError::NotAnAddress { key } => format!("sinks.discord.{key}"),
            ConfigError::PageUrl => "dashboard.public_url".to_owned(),
        }
    }
}

impl<S> DiscordSection<S> {
    /// The given keys with their values, by class.
    pub fn classes(self) -> Vec<(NoticeClass, S)> {
        let all = [
            (NoticeClass::Alerts, self.alerts),
            (NoticeClass::Occupancy, self.occupancy),
            (NoticeClass::Screenshots, self.screenshots),
        ];
        all.into_iter()
            .filter_map(|(class, secret)| Some((class, secret?)))
            .collect()
    }
}

impl DiscordSection<SecretRef> {
    /// The section with its secrets; what is wrong with it is added to the problems.
    pub fn resolve(self, around: &Around<'_>, problems: &mut Problems) -> Option<DiscordConfig> {
        let mut webhooks = BTreeMap::new();
        for (class, reference) in self.classes() {
            let key = format!("sinks.discord.{}", key(class));
            match reference.resolve(&key, around.directory) {
                Ok(secret) => drop(webhooks.insert(class, secret)),
                Err(why) => problems.push(key, why),
            }
        }
        DiscordConfig::new(
            webhooks,
            around.site.to_owned(),
            around.page_url.map(str::to_owned),
        )
        .map_err(|error| problems.push(error.key(), error.to_string()))
        .ok()
    }
}

impl DiscordConfig {
    pub fn new(
        webhooks: BTreeMap<NoticeClass, Secret>,
        username: String,
        page_url: Option<String>,
    ) -> Result<DiscordConfig, ConfigError> {
        let mut checked = BTreeMap::new();
        for (class, secret) in webhooks {
            checked.insert(class, check_webhook(key(class), &secret)?);
        }
        if page_url.as_deref().is_some_and(|url| parse_http(url).is_none()) {
            return Err(ConfigError::PageUrl);
        }
        Ok(DiscordConfig {
            webhooks: checked,
            username,
            page_url,
        })
    }
}

/// The key of a class in the section, which is its lane's name too.
pub const fn key(class: NoticeClass) -> &'static str {
    match class {
        NoticeClass::Alerts => "alerts",
        NoticeClass::Occupancy => "occupancy",
        NoticeClass::Screenshots => "screenshots",
    }
}

fn check_webhook(key: &'static str, secret: &Secret) -> Result<Secret, ConfigError> {
    let text = secret.expose().trim();
    if text.is_empty() {
        return Err(ConfigError::Empty { key });
    }
    if text.contains(PLACEHOLDER) {
        return Err(ConfigError::Placeholder { key });
    }
    match parse_http(text) {
        Some(url) if url.path().len() > 1 => Ok(Secret::new(text)),
        _ => Err(ConfigError::NotAnAddress { key }),
    }
}

fn parse_http(text: &str) -> Option<reqwest::Url> {
    let url = reqwest::Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

fn none<S>() -> Option<S> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(alerts: &str, want: Result<(), ConfigError>) {
        let webhooks = BTreeMap::from([(NoticeClass::Alerts, Secret::new(alerts))]);
        let got = DiscordConfig::new(webhooks, "cafe-1".into(), None);
        if let Err(error) = &got
            && alerts.len() > 3
        {
            assert!(
                !error.to_string().contains(alerts) && error.to_string().contains("sinks.discord.alerts")
            );
        }
        assert_eq!(got.map(|_| ()), want, "{alerts}");
    }

    #[test]
    fn an_unusable_address_is_an_error_that_names_the_key_and_hides_the_value() {
        check("https://discord.com/api/webhooks/1/t0ken", Ok(()));
        check("  https://discord.com/api/webhooks/1/t0ken\n", Ok(()));
        check(" ", Err(ConfigError::Empty { key: "alerts" }));
        check(
            "https://discord.com/api/webhooks/YOUR_ID/YOUR_TOKEN",
            Err(ConfigError::Placeholder { key: "alerts" }),
        );
        for bad in [
            "hook.example/api/webhooks/1/t0ken",
            "ftp://hook.example/api",
            "https://hook.example",
            "t0ken",
        ] {
            check(bad, Err(ConfigError::NotAnAddress { key: "alerts" }));
        }
    }

    #[test]
    fn debug_shows_no_address() {
        let webhooks = BTreeMap::from([(
            NoticeClass::Alerts,
            Secret::new("https://d.example/api/webhooks/1/t0ken"),
        )]);
        let config = DiscordConfig::new(webhooks, "cafe-1".into(), None).unwrap();
        assert!(!format!("{config:?}").contains("t0ken"));
    }

    #[test]
    fn the_example_parses_and_unknown_keys_do_not() {
        #[derive(Deserialize)]
        struct File {
            sinks: Sinks,
        }
        #[derive(Deserialize)]
        struct Sinks {
            discord: DiscordSection<toml::Value>,
        }
        let file: File = toml::from_str(include_str!("../example.toml")).unwrap();
        let classes: Vec<NoticeClass> = file
            .sinks
            .discord
            .classes()
            .into_iter()
            .map(|(class, _)| class)
            .collect();
        assert_eq!(classes, [NoticeClass::Alerts, NoticeClass::Occupancy]);
        assert!(toml::from_str::<DiscordSection<String>>("alert = \"x\"").is_err());
    }
}
