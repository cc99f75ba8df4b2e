//! The café as it is configured: what is watched, and what is peculiar about some of it. Pure data.

use watchfold_schemas::config::{NetworkConfig, OccupancyConfig, PcHost, ProbeSpec, SignalSpec, Target};
use watchfold_schemas::{SiteConfig, Span};

use super::plan::PCS;

pub const SITE: &str = "demo-cafe";

/// The distance of rounds, and how far the generator goes at once.
pub const ROUND_S: i64 = 2;
pub const TIMEOUT: Span = Span::from_millis(1_000);
pub const RETRY_DELAY: Span = Span::from_millis(1_000);

/// PCs whose firewall drops echo requests: only the neighbour table shows that they are on.
pub const ECHOLESS: [usize; 3] = [6, 12, 17];
/// The first PC that hangs on the wireless network.
pub const WIRELESS_FROM: usize = 15;

/// The probes of targets in their order: target, address.
pub const PROBES: [(&str, &str); 4] = [
    ("router", "192.168.10.1"),
    ("server", "192.168.10.5"),
    ("internet", "8.8.8.8"),
    ("internet", "1.1.1.1"),
];

/// What the site is told: three targets, one behind the other, and twenty PCs behind the router.
pub fn config() -> SiteConfig {
    let target = |name: &str, depends_on: &[&str]| Target {
        name: name.to_owned(),
        probes: PROBES
            .iter()
            .filter(|(target, _)| *target == name)
            .map(|(_, address)| ProbeSpec {
                address: (*address).to_owned(),
                signals: vec![SignalSpec::Echo],
            })
            .collect(),
        quorum: 1,
        interval_ms: ROUND_S as u64 * 1_000,
        timeout_ms: TIMEOUT.as_millis() as u64,
        depends_on: depends_on.iter().map(|name| (*name).to_owned()).collect(),
    };
    let host = |pc: usize| PcHost {
        address: address_of(pc),
        mac: None,
        name: format!("PC-{:02}", pc + 1),
    };
    SiteConfig {
        site: SITE.to_owned(),
        time_zone: "UTC".to_owned(),
        network: NetworkConfig {
            targets: vec![
                target("router", &[]),
                target("server", &["router"]),
                target("internet", &["router"]),
            ],
            retry_delay_ms: RETRY_DELAY.as_millis() as u64,
            ..NetworkConfig::default()
        },
        occupancy: OccupancyConfig {
            hosts: (0..PCS).map(host).collect(),
            interval_ms: ROUND_S as u64 * 1_000,
            timeout_ms: TIMEOUT.as_millis() as u64,
            depends_on: vec!["router".to_owned()],
            ..OccupancyConfig::default()
        },
    }
}

pub fn address_of(pc: usize) -> String {
    format!("192.168.10.{}", 101 + pc)
}
