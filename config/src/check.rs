//! From the file to what the parts are given, with every problem found and not only the first.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use watchfold_schemas::SiteConfig;
use watchfold_schemas::config::{
    ADDRESSES_MAX, NetworkConfig, OccupancyConfig, ProbeSpec, SignalSpec, TARGETS_MAX, Target,
};
use watchfold_schemas::subjects::{TOKEN_BYTES_MAX, is_token};

use super::duration::Millis;
use super::{Around, Config, Naming, Take, capture, file, hosts, page, rules};

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

pub fn check<S, T>(
    file: file::File<S>,
    text: &str,
    directory: &Path,
    naming: Naming,
    take: Take<S, T>,
) -> Result<Config<T>, Vec<String>> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let site = site(file.site.as_deref(), naming, &mut problems);
    let time_zone = time_zone(file.time_zone.as_deref(), &mut problems);
    let network = network(file.network, &mut problems);
    let occupancy = occupancy(file.occupancy, &network, &mut problems);
    let captures = capture::check(file.capture, &mut problems);
    if network.targets.is_empty()
        && occupancy.hosts.is_empty()
        && captures.is_empty()
        && naming == Naming::Required
    {
        warnings.push(
            "nothing is watched: add [[network.targets]], [occupancy] ranges or [[capture]]".to_owned(),
        );
    }
    let rules = rules::check(file.rules, text, &time_zone, &mut problems);
    let round_ms = occupancy.timeout_ms + PC_ROUND_SLACK_MS;
    if !occupancy.hosts.is_empty() && occupancy.interval_ms < round_ms {
        warnings.push(format!(
            "occupancy.interval is {}ms, and a round may take {round_ms}ms: rounds will be left out",
            occupancy.interval_ms
        ));
    }
    let page = page::check(&file.dashboard, &mut problems);
    let around = Around {
        site: &site,
        page_url: file.dashboard.public_url.as_deref(),
        directory,
    };
    let sinks = take(file.sinks, &around, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Config {
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
    })
}

fn site(given: Option<&str>, naming: Naming, problems: &mut Vec<String>) -> String {
    match given {
        Some(name) if !is_token(name) => problems.push(format!(
            "site {name:?} must be 1 to {TOKEN_BYTES_MAX} of the letters a-z, A-Z, digits, '-' and '_'"
        )),
        None if naming == Naming::Required => {
            problems.push("the name of the site is missing: begin with site = \"cafe-1\"".to_owned());
        }
        _ => {}
    }
    given.unwrap_or_default().to_owned()
}

fn time_zone(given: Option<&str>, problems: &mut Vec<String>) -> String {
    match given {
        Some(name) => {
            if jiff::tz::TimeZone::get(name).is_err() {
                problems.push(format!(
                    "time_zone {name:?} is not known: write it as \"Europe/Berlin\" or \"UTC\""
                ));
            }
            name.to_owned()
        }
        None => jiff::tz::TimeZone::system()
            .iana_name()
            .unwrap_or("UTC")
            .to_owned(),
    }
}

fn network(file: file::Network, problems: &mut Vec<String>) -> NetworkConfig {
    let default = NetworkConfig::default();
    let or = |given: Option<Millis>, default: u64| given.map_or(default, |millis| millis.0);
    let interval = or(file.interval, TARGET_INTERVAL_MS);
    let timeout = or(file.timeout, TARGET_TIMEOUT_MS);
    let mut targets = Vec::new();
    for given in file.targets {
        targets.push(target(given, interval, timeout, problems));
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
        problems.push("network.flapping.count must be between 1 and 1000".to_owned());
    }
    if network.silence_ms < 5_000 {
        problems.push("network.silence is under 5s: a busy machine would be called silent".to_owned());
    }
    dependencies(&network.targets, problems);
    network
}

fn target(file: file::Target, interval: u64, timeout: u64, problems: &mut Vec<String>) -> Target {
    let key = format!("network.targets {:?}", file.name);
    if !is_token(&file.name) {
        problems.push(format!(
            "{key}: a name is 1 to {TOKEN_BYTES_MAX} of the letters a-z, A-Z, digits, '-' and '_'"
        ));
    }
    let addresses = file.address.into_list();
    if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
        problems.push(format!(
            "{key}: {} addresses; give 1 to {ADDRESSES_MAX}",
            addresses.len()
        ));
    }
    let given = file
        .signals
        .unwrap_or_else(|| vec![file::Signal::Word("echo".to_owned())]);
    if given.is_empty() || given.len() > PROBES_MAX {
        problems.push(format!("{key}: {} signals; give 1 to {PROBES_MAX}", given.len()));
    }
    let signals: Vec<SignalSpec> = given
        .into_iter()
        .filter_map(|one| signal(one, &key, problems))
        .collect();
    for address in &addresses {
        if address.parse::<IpAddr>().is_err() && !is_host_name(address) {
            problems.push(format!(
                "{key}: {address:?} is neither an address nor a host name"
            ));
        }
    }
    let quorum = file.quorum.unwrap_or(1);
    if quorum == 0 || quorum as usize > addresses.len().max(1) {
        problems.push(format!("{key}: quorum {quorum} of {} addresses", addresses.len()));
    }
    let interval_ms = file.interval.map_or(interval, |millis| millis.0);
    let timeout_ms = file.timeout.map_or(timeout, |millis| millis.0);
    times(&key, interval_ms, timeout_ms, problems);
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

fn times(key: &str, interval_ms: u64, timeout_ms: u64, problems: &mut Vec<String>) {
    if interval_ms < INTERVAL_MS_MIN {
        problems.push(format!(
            "{key}: an interval of {interval_ms}ms is under {INTERVAL_MS_MIN}ms"
        ));
    }
    if timeout_ms == 0 || timeout_ms > TIMEOUT_MS_MAX {
        problems.push(format!(
            "{key}: a timeout of {timeout_ms}ms is not between 1ms and {TIMEOUT_MS_MAX}ms"
        ));
    }
}

fn signal(file: file::Signal, key: &str, problems: &mut Vec<String>) -> Option<SignalSpec> {
    match file {
        file::Signal::Word(word) if word == "echo" => Some(SignalSpec::Echo),
        file::Signal::Word(word) => {
            let known = "\"echo\", { dns = \"name\" }, { tcp = port } or { https = \"url\" }";
            problems.push(format!("{key}: no signal {word:?}; there are {known}"));
            None
        }
        file::Signal::Dns(dns) => Some(SignalSpec::Dns {
            query: dns.dns,
            port: dns.port.unwrap_or(53),
        }),
        file::Signal::Tcp(tcp) => Some(SignalSpec::Tcp { port: tcp.tcp }),
        file::Signal::Https(https) => {
            if !https.https.starts_with("https://") && !https.https.starts_with("http://") {
                problems.push(format!(
                    "{key}: {:?} is not an http or https address",
                    https.https
                ));
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
fn dependencies(targets: &[Target], problems: &mut Vec<String>) {
    if targets.len() > TARGETS_MAX {
        problems.push(format!(
            "network: {} targets, and the limit is {TARGETS_MAX}",
            targets.len()
        ));
    }
    let mut by_name: BTreeMap<&str, &Target> = BTreeMap::new();
    for target in targets {
        if by_name.insert(&target.name, target).is_some() {
            problems.push(format!("network.targets {:?} is given twice", target.name));
        }
    }
    for target in targets {
        for parent in &target.depends_on {
            if !by_name.contains_key(parent.as_str()) {
                let known: Vec<&str> = by_name.keys().copied().collect();
                problems.push(format!(
                    "network.targets {:?} depends on {parent:?}, which is not a target; there are {}",
                    target.name,
                    known.join(", ")
                ));
            }
        }
        if reaches(&by_name, target, &target.name, &mut Vec::new()) {
            problems.push(format!(
                "network.targets {:?} depends on itself, directly or through others",
                target.name
            ));
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
    problems: &mut Vec<String>,
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
    for parent in &depends_on {
        if !network.targets.iter().any(|target| target.name == *parent) {
            problems.push(format!(
                "occupancy.depends_on: {parent:?} is not one of the network's targets"
            ));
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
    times("occupancy", occupancy.interval_ms, occupancy.timeout_ms, problems);
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
