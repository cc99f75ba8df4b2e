//! The `[rules]` section: which rules, in which state, with which thresholds, and what is the site's own.
//!
//! It is checked as far as the file alone allows; whether the rules that it names exist is known to those who load them.

use core::net::IpAddr;
use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer};
use watchfold_schemas::rules::{RuleState, Surroundings, THRESHOLD_MAX, VALUES_MAX, WINDOW_MS_MAX};
use watchfold_schemas::subjects::is_token;

use super::Problems;
use super::check::Given;
use super::duration::Millis;
use super::exclusions::{self, RuleExclusion};

/// The most entries of `own_networks`, `gateways` and `exclude`; each is tried for many packets.
pub const RULE_ENTRIES_MAX: usize = 256;

/// What a site says about its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesConfig {
    /// `default`, `classic`, or a directory, from the file's own.
    pub set: String,
    /// Networks that are the site's own beside the private ones: addresses, or CIDR notation.
    pub own_networks: Vec<String>,
    /// Addresses of routers; those found on this machine where none is given.
    pub gateways: Vec<String>,
    /// By the rule's name.
    pub states: BTreeMap<String, RuleState>,
    pub thresholds: Thresholds,
    /// Of every rule, in place of its own.
    pub alert_cooldown_ms: Option<u64>,
    pub exclude: Vec<RuleExclusion>,
}

/// Thresholds and windows of the rules that both packs have, by the names that they have had for years.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    pub port_scan_threshold: Option<u64>,
    pub port_scan_window: Option<Window>,
    pub syn_flood_threshold: Option<u64>,
    pub syn_flood_window: Option<Window>,
    pub icmp_flood_threshold: Option<u64>,
    pub icmp_flood_window: Option<Window>,
    /// Characters of a queried name.
    pub dns_tunnel_threshold: Option<u64>,
    /// Bytes.
    pub exfil_threshold: Option<u64>,
    pub exfil_window: Option<Window>,
    pub brute_force_threshold: Option<u64>,
    pub brute_force_window: Option<Window>,
    pub suspicious_ports: Option<Vec<u16>>,
}

/// What a program knows of the machine that it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Ports on which Watchfold listens, at `own_addresses`.
    pub own_ports: Vec<u16>,
    pub own_addresses: Vec<IpAddr>,
    /// Routers; used where the file names none.
    pub gateways: Vec<IpAddr>,
    /// An oracle is configured.
    pub lookups: bool,
}

/// A window in milliseconds: a duration with its unit, or a whole number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(pub u64);

impl Default for RulesConfig {
    fn default() -> RulesConfig {
        RulesConfig {
            set: "default".to_owned(),
            own_networks: Vec::new(),
            gateways: Vec::new(),
            states: BTreeMap::new(),
            thresholds: Thresholds::default(),
            alert_cooldown_ms: None,
            exclude: Vec::new(),
        }
    }
}

impl RulesConfig {
    /// What rules may know of the site, sorted, so that the order in a file makes no other rules.
    pub fn surroundings(&self, found: &Found) -> Surroundings {
        let texts = |addresses: &[IpAddr]| sorted(addresses.iter().map(IpAddr::to_string).collect());
        let mut own_ports = found.own_ports.clone();
        own_ports.sort_unstable();
        own_ports.dedup();
        Surroundings {
            own_networks: sorted(self.own_networks.clone()),
            own_ports,
            own_addresses: texts(&found.own_addresses),
            gateways: if self.gateways.is_empty() {
                texts(&found.gateways)
            } else {
                sorted(self.gateways.clone())
            },
            lookups: found.lookups,
        }
    }
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    set: Option<String>,
    own_networks: Vec<String>,
    gateways: Vec<String>,
    states: BTreeMap<String, RuleState>,
    port_scan_threshold: Option<u64>,
    port_scan_window: Option<Window>,
    syn_flood_threshold: Option<u64>,
    syn_flood_window: Option<Window>,
    icmp_flood_threshold: Option<u64>,
    icmp_flood_window: Option<Window>,
    dns_tunnel_threshold: Option<u64>,
    exfil_threshold: Option<u64>,
    exfil_window: Option<Window>,
    brute_force_threshold: Option<u64>,
    brute_force_window: Option<Window>,
    suspicious_ports: Option<Vec<u16>>,
    alert_cooldown: Option<Window>,
    exclude: Vec<exclusions::Table>,
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Window, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        match value {
            toml::Value::Integer(seconds) => u64::try_from(seconds)
                .ok()
                .and_then(|seconds| seconds.checked_mul(1_000))
                .map(Window)
                .ok_or_else(|| serde::de::Error::custom("a window is a number of seconds, or \"10s\"")),
            text => Millis::deserialize(text)
                .map(|millis| Window(millis.0))
                .map_err(serde::de::Error::custom),
        }
    }
}

/// Checks the section of a file; problems name the key.
pub fn check(
    mut section: Section,
    given: &Given<'_>,
    time_zone: &str,
    problems: &mut Problems,
) -> RulesConfig {
    let networks = [
        ("own_networks", &section.own_networks),
        ("gateways", &section.gateways),
    ];
    for (key, list) in networks {
        limit(key, list.len(), RULE_ENTRIES_MAX, problems);
        for (index, given) in list.iter().enumerate() {
            let usable = match key {
                "gateways" => given.parse::<IpAddr>().is_ok(),
                _ => is_network(given),
            };
            if !usable {
                let like = if key == "gateways" {
                    "an address"
                } else {
                    "an address or a network like \"203.0.113.0/24\""
                };
                problems.push(
                    format!("rules.{key}[{index}]"),
                    format!("rules.{key}: {given:?} is not {like}"),
                );
            }
        }
    }
    limit("exclude", section.exclude.len(), RULE_ENTRIES_MAX, problems);
    for name in section.states.keys() {
        if !is_token(name) {
            problems.push(
                format!("rules.states.{name}"),
                format!("rules.states: {name:?} is no name of a rule"),
            );
        }
    }
    // A zone that does not exist is a problem of its own.
    let zone = TimeZone::get(time_zone).unwrap_or(TimeZone::UTC);
    let exclude = std::mem::take(&mut section.exclude)
        .into_iter()
        .enumerate()
        .map(|(index, table)| exclusions::check(table, index, given, &zone, problems))
        .collect();
    let cooldown = section.alert_cooldown;
    if cooldown.is_some_and(|window| !(1_000..=WINDOW_MS_MAX).contains(&window.0)) {
        problems.push(
            "rules.alert_cooldown",
            "rules.alert_cooldown must be from 1s to 24h".to_owned(),
        );
    }
    RulesConfig {
        set: section.set.clone().unwrap_or_else(|| "default".to_owned()),
        own_networks: section.own_networks.clone(),
        gateways: section.gateways.clone(),
        states: section.states.clone(),
        alert_cooldown_ms: cooldown.map(|window| window.0),
        exclude,
        thresholds: thresholds(section, problems),
    }
}

fn thresholds(section: Section, problems: &mut Problems) -> Thresholds {
    let counts = [
        ("port_scan_threshold", section.port_scan_threshold),
        ("syn_flood_threshold", section.syn_flood_threshold),
        ("icmp_flood_threshold", section.icmp_flood_threshold),
        ("brute_force_threshold", section.brute_force_threshold),
        ("dns_tunnel_threshold", section.dns_tunnel_threshold),
    ];
    for (key, count) in counts {
        if count.is_some_and(|count| !(1..=THRESHOLD_MAX).contains(&count)) {
            problems.push(
                format!("rules.{key}"),
                format!("rules.{key} must be from 1 to {THRESHOLD_MAX}"),
            );
        }
    }
    if section.exfil_threshold == Some(0) {
        problems.push(
            "rules.exfil_threshold",
            "rules.exfil_threshold must be at least 1 byte".to_owned(),
        );
    }
    let windows = [
        ("port_scan_window", section.port_scan_window),
        ("syn_flood_window", section.syn_flood_window),
        ("icmp_flood_window", section.icmp_flood_window),
        ("exfil_window", section.exfil_window),
        ("brute_force_window", section.brute_force_window),
    ];
    for (key, window) in windows {
        if window.is_some_and(|window| !(1..=WINDOW_MS_MAX).contains(&window.0)) {
            problems.push(
                format!("rules.{key}"),
                format!("rules.{key} must be longer than nothing and at most 24h"),
            );
        }
    }
    let ports = section.suspicious_ports.as_ref().map(Vec::len);
    if ports == Some(0) {
        problems.push(
            "rules.suspicious_ports",
            "rules.suspicious_ports is empty: to have no such rule, set its state to \"off\" in [rules.states]"
                .to_owned(),
        );
    }
    limit("suspicious_ports", ports.unwrap_or(0), VALUES_MAX, problems);
    Thresholds {
        port_scan_threshold: section.port_scan_threshold,
        port_scan_window: section.port_scan_window,
        syn_flood_threshold: section.syn_flood_threshold,
        syn_flood_window: section.syn_flood_window,
        icmp_flood_threshold: section.icmp_flood_threshold,
        icmp_flood_window: section.icmp_flood_window,
        dns_tunnel_threshold: section.dns_tunnel_threshold,
        exfil_threshold: section.exfil_threshold,
        exfil_window: section.exfil_window,
        brute_force_threshold: section.brute_force_threshold,
        brute_force_window: section.brute_force_window,
        suspicious_ports: section.suspicious_ports,
    }
}

fn limit(key: &str, len: usize, max: usize, problems: &mut Problems) {
    if len > max {
        problems.push(
            format!("rules.{key}"),
            format!("rules.{key}: {len} entries, and the limit is {max}"),
        );
    }
}

/// An address, or a network in CIDR notation.
pub fn is_network(text: &str) -> bool {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    prefix.is_none_or(|prefix| {
        prefix.bytes().all(|byte| byte.is_ascii_digit())
            && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= bits)
    })
}
