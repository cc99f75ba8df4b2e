//! What is probed, how and how often, from the site's configuration. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use watchfold_schemas::SiteConfig;
use watchfold_schemas::config::{ADDRESSES_MAX, PCS_MAX, SignalSpec, TARGETS_MAX};
use watchfold_schemas::observation::PC_SUBJECT_PREFIX;

/// Nothing is probed more often than this; a shorter interval in the configuration counts as this.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Everything to probe, by schedule.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PingPlan {
    pub groups: Vec<Group>,
    /// A failed probe is repeated after this.
    pub retry_delay: Duration,
    /// What did not fit the limits.
    pub left_out: usize,
}

/// What is probed together, in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub interval: Duration,
    pub kind: GroupKind,
    pub probes: Vec<Probe>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupKind {
    Targets,
    /// Paced, and looked up in the neighbour table.
    Pcs,
}

/// One address asked by one signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// As it stands in the record.
    pub subject: String,
    /// As configured: an IP address or a name.
    pub address: String,
    pub signal: SignalSpec,
    pub timeout: Duration,
}

impl PingPlan {
    pub fn new(config: &SiteConfig) -> PingPlan {
        let mut plan = PingPlan {
            retry_delay: Duration::from_millis(config.network.retry_delay_ms),
            ..PingPlan::default()
        };
        let mut groups: BTreeMap<(GroupKind, Duration), Vec<Probe>> = BTreeMap::new();
        let targets = &config.network.targets;
        plan.left_out += targets.len().saturating_sub(TARGETS_MAX);
        let mut taken = 0;
        for target in targets.iter().take(TARGETS_MAX) {
            let group = groups
                .entry((GroupKind::Targets, interval(target.interval_ms)))
                .or_default();
            for probe in &target.probes {
                for signal in &probe.signals {
                    if taken == ADDRESSES_MAX {
                        plan.left_out += 1;
                        continue;
                    }
                    taken += 1;
                    group.push(Probe {
                        subject: target.name.clone(),
                        address: probe.address.clone(),
                        signal: signal.clone(),
                        timeout: Duration::from_millis(target.timeout_ms),
                    });
                }
            }
        }
        let occupancy = &config.occupancy;
        plan.left_out += occupancy.hosts.len().saturating_sub(PCS_MAX);
        let pcs = occupancy.hosts.iter().take(PCS_MAX).map(|host| Probe {
            subject: format!("{PC_SUBJECT_PREFIX}{}", host.key()),
            address: host.address.clone(),
            signal: SignalSpec::Echo,
            timeout: Duration::from_millis(occupancy.timeout_ms),
        });
        groups.insert((GroupKind::Pcs, interval(occupancy.interval_ms)), pcs.collect());
        groups.retain(|_, probes| !probes.is_empty());
        let group = |((kind, interval), probes)| Group {
            interval,
            kind,
            probes,
        };
        plan.groups = groups.into_iter().map(group).collect();
        plan
    }
}

fn interval(millis: u64) -> Duration {
    Duration::from_millis(millis).max(INTERVAL_MIN)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use watchfold_schemas::config::{NetworkConfig, OccupancyConfig, PcHost, ProbeSpec, Target};

    use super::*;

    fn target(name: &str, interval_ms: u64, addresses: &[&str]) -> Target {
        let probe = |address: &&str| ProbeSpec {
            address: (*address).into(),
            signals: vec![SignalSpec::Echo],
        };
        Target {
            name: name.into(),
            probes: addresses.iter().map(probe).collect(),
            quorum: 1,
            interval_ms,
            timeout_ms: 1_000,
            depends_on: Vec::new(),
        }
    }

    fn site(targets: Vec<Target>, pcs: usize) -> SiteConfig {
        let host = |n: usize| PcHost {
            address: format!("10.0.{}.{}", n / 256, n % 256),
            mac: None,
            name: String::new(),
        };
        SiteConfig {
            network: NetworkConfig {
                targets,
                ..NetworkConfig::default()
            },
            occupancy: OccupancyConfig {
                hosts: (0..pcs).map(host).collect(),
                ..OccupancyConfig::default()
            },
            ..SiteConfig::default()
        }
    }

    fn check(config: &SiteConfig, want: &[(GroupKind, u64, usize)], left_out: usize) {
        let plan = PingPlan::new(config);
        let got: Vec<_> = plan
            .groups
            .iter()
            .map(|group| (group.kind, group.interval.as_millis() as u64, group.probes.len()))
            .collect();
        assert_eq!((got.as_slice(), plan.left_out), (want, left_out));
    }

    #[test]
    fn what_is_due_together_is_one_group() {
        let targets = vec![
            target("router", 2_000, &["10.0.0.1"]),
            target("internet", 2_000, &["8.8.8.8", "1.1.1.1"]),
            target("printer", 30_000, &["10.0.0.9"]),
            target("eager", 1, &["10.0.0.8"]),
        ];
        check(
            &site(targets, 3),
            &[
                (GroupKind::Targets, 100, 1),
                (GroupKind::Targets, 2_000, 3),
                (GroupKind::Targets, 30_000, 1),
                (GroupKind::Pcs, 2_000, 3),
            ],
            0,
        );
        check(&site(vec![], 0), &[], 0);
    }

    #[test]
    fn what_is_beyond_the_limits_is_counted() {
        check(&site(vec![], PCS_MAX + 2), &[(GroupKind::Pcs, 2_000, PCS_MAX)], 2);
        let many = (0..TARGETS_MAX + 1)
            .map(|n| target(&format!("t{n}"), 2_000, &["10.0.0.1"]))
            .collect();
        check(&site(many, 0), &[(GroupKind::Targets, 2_000, TARGETS_MAX)], 1);
        let wide = vec![target("wide", 2_000, &["10.0.0.1"; ADDRESSES_MAX + 3])];
        check(&site(wide, 0), &[(GroupKind::Targets, 2_000, ADDRESSES_MAX)], 3);
    }

    #[test]
    fn a_pc_is_known_by_its_hardware_address_if_it_has_one() {
        let mut config = site(vec![], 2);
        config.occupancy.hosts[1].mac = Some("02:00:00:00:00:01".into());
        let plan = PingPlan::new(&config);
        let subjects: Vec<_> = plan.groups[0]
            .probes
            .iter()
            .map(|probe| probe.subject.as_str())
            .collect();
        assert_eq!(subjects, ["pc:10.0.0.0", "pc:02:00:00:00:00:01"]);
    }

    #[test]
    fn the_example_parses_into_a_plan() {
        #[derive(Deserialize)]
        struct File {
            network: NetworkConfig,
            occupancy: OccupancyConfig,
        }
        let File { network, occupancy } = toml::from_str(include_str!("../example.toml")).unwrap();
        check(
            &SiteConfig {
                network,
                occupancy,
                ..SiteConfig::default()
            },
            &[(GroupKind::Targets, 2_000, 5), (GroupKind::Pcs, 2_000, 2)],
            0,
        );
    }
}
