//! From the file to what the parts are given, with every problem found and not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use watchfold_schemas::SiteConfig;
use watchfold_schemas::config::{
    ADDRESSES_MAX, NetworkConfig, OccupancyConfig, ProbeSpec, SignalSpec, TARGETS_MAX, Target,
};
use watchfold_schemas::subjects::{TOKEN_BYTES_MAX, is_token};

use super::duration::Millis;
use super::{Around, Config, Naming, Problems, Take, capture, file, hosts, page, rules};

/// The most signals of one address; more say nothing that these do not.
pub const PROBES_MAX: usize = 8;

/// Faster probing only loads the network.
const INTERVAL_MS_MIN: u64 = 200;
/// A round must have ended before the one after the next begins.
const TIMEOUT_MS_MAX: u64 = 30_000;

/// What a round of PCs takes beside its timeout: the answers of neighbours, and pacing.
const PC_ROUND_SLACK_MS: u64 = 500;

const TARGET_INTERVAL_MS: u64 = 2_000;
const TARGET_TIMEOUT_MS: u64 = 1_000;

/// What a file is checked with.
pub struct Given<'f> {
    pub text: &'f str,
    pub path: &'f Path,
    /// What relative paths start from.
    pub directory: &'f Path,
    /// The names of all targets, of those too that could not be read.
    pub names: &'f BTreeSet<String>,
}

/// Turns a file into what the parts are given. Where there are problems the result is for further checks only.
pub fn check<S, T>(
    file: file::File<S>,
    given: &Given<'_>,
    naming: Naming,
    take: Take<S, T>,
    problems: &mut Problems,
) -> Config<T> {
    let mut warnings = Vec::new();
    let site = site(file.site.as_deref(), naming, problems);
    let time_zone = time_zone(file.time_zone.as_deref(), problems);
    let network = network(file.network, given.names, problems);
    let occupancy = occupancy(file.occupancy, &network, given.names, problems);
    let captures = capture::check(file.capture, problems);
    if network.targets.is_empty()
        && occupancy.hosts.is_empty()
        && captures.is_empty()
        && naming == Naming::Required
    {
        warnings.push(
            "nothing is watched: add [[network.targets]], [occupancy] ranges or [[capture]]".to_owned(),
        );
    }
    let rules = rules::check(file.rules, given, &time_zone, problems);
    let round_ms = occupancy.timeout_ms + PC_ROUND_SLACK_MS;
    if !occupancy.hosts.is_empty() && occupancy.interval_ms < round_ms {
        warnings.push(format!(
            "occupancy.interval is {}ms, and a round may take {round_ms}ms: rounds will be left out",
            occupancy.interval_ms
        ));
    }
    let page = page::check(&file.dashboard, problems);
    let around = Around {
        site: &site,
        page_url: file.dashboard.public_url.as_deref(),
        directory: given.directory,
    };
    let sinks = take(file.sinks, &around, problems);
    Config {
        site: SiteConfig {
            site,
            time_zone,
            network,
            occupancy,
        },
        listen: file.dashboard.listen,
        page,
        captures,
        rules,
        sinks,
        seen: super::Seen::default(),
        warnings,
    }
}

fn site(given: Option<&str>, naming: Naming, problems: &mut Problems) -> String {
    match given {
        Some(name) if !is_token(name) => problems.push(
            "site",
            format!(
                "site {name:?} must be 1 to {TOKEN_BYTES_MAX} of the letters a-z, A-Z, digits, '-' and '_'"
            ),
        ),
        None if naming == Naming::Required => {
            problems.push(
                "site",
                "the name of the site is missing: begin with site = \"cafe-1\"".to_owned(),
            );
        }
        _ => {}
    }
    given.unwrap_or_default().to_owned()
}

fn time_zone(given: Option<&str>, problems: &mut Problems) -> String {
    match given {
        Some(name) => {
            if jiff::tz::TimeZone::get(name).is_err() {
                problems.push(
                    "time_zone",
                    format!("time_zone {name:?} is not known: write it as \"Europe/Berlin\" or \"UTC\""),
                );
            }
            name.to_owned()
        }
        None => jiff::tz::TimeZone::system()
            .iana_name()
            .unwrap_or("UTC")
            .to_owned(),
    }
}

fn network(file: file::Network, names: &BTreeSet<String>, problems: &mut Problems) -> NetworkConfig {
    let default = NetworkConfig::default();
    let or = |given: Option<Millis>, default: u64| given.map_or(default, |millis| millis.0);
    let interval = or(file.interval, TARGET_INTERVAL_MS);
    let timeout = or(file.timeout, TARGET_TIMEOUT_MS);
    let mut targets = Vec::new();
    for (index, given) in file.targets.into_iter().enumerate() {
        let path = format!("network.targets[{index}]");
        targets.push(target(given, &path, (interval, timeout), problems));
    }
    let network = NetworkConfig {
        min_incident_ms: or(file.min_incident, default.min_incident_ms),
        remind_every_ms: or(file.remind_every, default.remind_every_ms),
        escalate_after_ms: or(file.escalate_after, default.escalate_after_ms),
        flapping_count: file.flapping.count.unwrap_or(default.flapping_count),
        flapping_window_ms: or(file.flapping.window, default.flapping_window_ms),
        retry_delay_ms: or(file.retry_delay, default.retry_delay_ms),
        silence_ms: or(file.silence, default.silence_ms),
        fault_incident_ms: or(file.fault_incident, default.fault_incident_ms),
        targets,
    };
    if !(1..=1_000).contains(&network.flapping_count) {
        problems.push(
            "network.flapping.count",
            "network.flapping.count must be between 1 and 1000".to_owned(),
        );
    }
    if network.silence_ms < 5_000 {
        problems.push(
            "network.silence",
            "network.silence is under 5s: a busy machine would be called silent".to_owned(),
        );
    }
    dependencies(&network.targets, names, problems);
    network
}

fn target(
    file: file::Target,
    path: &str,
    (interval, timeout): (u64, u64),
    problems: &mut Problems,
) -> Target {
    let key = format!("network.targets {:?}", file.name);
    if !is_token(&file.name) {
        problems.push(
            format!("{path}.name"),
            format!("{key}: a name is 1 to {TOKEN_BYTES_MAX} of the letters a-z, A-Z, digits, '-' and '_'"),
        );
    }
    let is_list = matches!(file.address, file::OneOrMany::Many(_));
    let addresses = file.address.into_list();
    if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
        problems.push(
            format!("{path}.address"),
            format!("{key}: {} addresses; give 1 to {ADDRESSES_MAX}", addresses.len()),
        );
    }
    let given = file
        .signals
        .unwrap_or_else(|| vec![file::Signal::Word("echo".to_owned())]);
    if given.is_empty() || given.len() > PROBES_MAX {
        problems.push(
            format!("{path}.signals"),
            format!("{key}: {} signals; give 1 to {PROBES_MAX}", given.len()),
        );
    }
    let signals: Vec<SignalSpec> = given
        .into_iter()
        .enumerate()
        .filter_map(|(index, one)| signal(one, &key, &format!("{path}.signals[{index}]"), problems))
        .collect();
    for (index, address) in addresses.iter().enumerate() {
        if address.parse::<IpAddr>().is_err() && !is_host_name(address) {
            let at = match is_list {
                true => format!("{path}.address[{index}]"),
                false => format!("{path}.address"),
            };
            problems.push(
                at,
                format!("{key}: {address:?} is neither an address nor a host name"),
            );
        }
    }
    let quorum = file.quorum.unwrap_or(1);
    if quorum == 0 || quorum as usize > addresses.len().max(1) {
        problems.push(
            format!("{path}.quorum"),
            format!("{key}: quorum {quorum} of {} addresses", addresses.len()),
        );
    }
    let interval_ms = file.interval.map_or(interval, |millis| millis.0);
    let timeout_ms = file.timeout.map_or(timeout, |millis| millis.0);
    times(&key, path, (interval_ms, timeout_ms), problems);
    Target {
        name: file.name,
        probes: addresses
            .into_iter()
            .map(|address| ProbeSpec {
                address,
                signals: signals.clone(),
            })
            .collect(),
        quorum,
        interval_ms,
        timeout_ms,
        depends_on: file.depends_on,
    }
}

fn times(key: &str, path: &str, (interval_ms, timeout_ms): (u64, u64), problems: &mut Problems) {
    if interval_ms < INTERVAL_MS_MIN {
        problems.push(
            format!("{path}.interval"),
            format!("{key}: an interval of {interval_ms}ms is under {INTERVAL_MS_MIN}ms"),
        );
    }
    if timeout_ms == 0 || timeout_ms > TIMEOUT_MS_MAX {
        problems.push(
            format!("{path}.timeout"),
            format!("{key}: a timeout of {timeout_ms}ms is not between 1ms and {TIMEOUT_MS_MAX}ms"),
        );
    }
}

fn signal(file: file::Signal, key: &str, path: &str, problems: &mut Problems) -> Option<SignalSpec> {
    match file {
        file::Signal::Word(word) if word == "echo" => Some(SignalSpec::Echo),
        file::Signal::Word(word) => {
            let known = "\"echo\", { dns = \"name\" }, { tcp = port } or { https = \"url\" }";
            problems.push(path, format!("{key}: no signal {word:?}; there are {known}"));
            None
        }
        file::Signal::Dns(dns) => Some(SignalSpec::Dns {
            query: dns.dns,
            port: dns.port.unwrap_or(53),
        }),
        file::Signal::Tcp(tcp) => Some(SignalSpec::Tcp { port: tcp.tcp }),
        file::Signal::Https(https) => {
            if !https.https.starts_with("https://") && !https.https.starts_with("http://") {
                problems.push(
                    format!("{path}.https"),
                    format!("{key}: {:?} is not an http or https address", https.https),
                );
            }
            Some(SignalSpec::Https {
                url: https.https,
                status: https.status.unwrap_or(200),
                contains: https.contains,
            })
        }
    }
}

/// Names must be unique, dependencies exist, and nothing may depend on itself.
fn dependencies(targets: &[Target], names: &BTreeSet<String>, problems: &mut Problems) {
    if targets.len() > TARGETS_MAX {
        problems.push(
            "network.targets",
            format!(
                "network: {} targets, and the limit is {TARGETS_MAX}",
                targets.len()
            ),
        );
    }
    let mut by_name: BTreeMap<&str, &Target> = BTreeMap::new();
    for (index, target) in targets.iter().enumerate() {
        if by_name.insert(&target.name, target).is_some() {
            problems.push(
                format!("network.targets[{index}].name"),
                format!("network.targets {:?} is given twice", target.name),
            );
        }
    }
    for (index, target) in targets.iter().enumerate() {
        for (nth, parent) in target.depends_on.iter().enumerate() {
            if !names.contains(parent) {
                let known: Vec<&str> = by_name.keys().copied().collect();
                problems.push(
                    format!("network.targets[{index}].depends_on[{nth}]"),
                    format!(
                        "network.targets {:?} depends on {parent:?}, which is not a target; there are {}",
                        target.name,
                        known.join(", ")
                    ),
                );
            }
        }
        if reaches(&by_name, target, &target.name, &mut Vec::new()) {
            problems.push(
                format!("network.targets[{index}].depends_on"),
                format!(
                    "network.targets {:?} depends on itself, directly or through others",
                    target.name
                ),
            );
        }
    }
}

fn reaches<'t>(
    by_name: &BTreeMap<&str, &'t Target>,
    from: &'t Target,
    to: &str,
    seen: &mut Vec<&'t str>,
) -> bool {
    from.depends_on.iter().any(|parent| {
        if parent == to {
            return true;
        }
        if seen.contains(&parent.as_str()) {
            return false;
        }
        seen.push(parent);
        by_name
            .get(parent.as_str())
            .is_some_and(|parent| reaches(by_name, parent, to, seen))
    })
}

fn occupancy(
    file: Option<file::Occupancy>,
    network: &NetworkConfig,
    names: &BTreeSet<String>,
    problems: &mut Problems,
) -> OccupancyConfig {
    let default = OccupancyConfig::default();
    let Some(file) = file else { return default };
    let or = |given: Option<Millis>, default: u64| given.map_or(default, |millis| millis.0);
    let has_router = network.targets.iter().any(|target| target.name == "router");
    let depends_on = file.depends_on.unwrap_or_else(|| {
        if has_router {
            vec!["router".to_owned()]
        } else {
            Vec::new()
        }
    });
    for (nth, parent) in depends_on.iter().enumerate() {
        if !names.contains(parent) {
            problems.push(
                format!("occupancy.depends_on[{nth}]"),
                format!("occupancy.depends_on: {parent:?} is not one of the network's targets"),
            );
        }
    }
    let occupancy = OccupancyConfig {
        hosts: hosts::hosts(&file.ranges, &file.hosts, problems),
        interval_ms: or(file.interval, default.interval_ms),
        timeout_ms: or(file.timeout, default.timeout_ms),
        depends_on,
        min_session_ms: or(file.min_session, default.min_session_ms),
        batch_window_ms: or(file.batch_window, default.batch_window_ms),
        named_max: file.named_max.unwrap_or(default.named_max),
        hourly_snapshot: file.snapshot.unwrap_or(default.hourly_snapshot),
    };
    let lengths = (occupancy.interval_ms, occupancy.timeout_ms);
    times("occupancy", "occupancy", lengths, problems);
    occupancy
}

/// RFC 1123: labels of letters, digits and hyphens, 253 characters in all.
pub fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let looks_like_a_wrong_address = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.len() <= 253 && !looks_like_a_wrong_address && text.trim_end_matches('.').split('.').all(label)
}
