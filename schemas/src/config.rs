//! The normalised configuration of one site, as it is recorded by an activation and read by folds.
//!
//! It holds what judging needs and nothing else: no secret, no path, no listen address. The TOML file that people
//! edit belongs to the command.

use serde::{Deserialize, Serialize};

use crate::hash::short_hash;

/// The most targets of a site; a site with more is several sites.
pub const TARGETS_MAX: usize = 1_024;

/// The most (address, signal) pairs of all targets together; with it a round of targets fits one record.
pub const ADDRESSES_MAX: usize = 4_096;

/// The most PCs of a site: a /20.
pub const PCS_MAX: usize = 4_096;

/// Everything that the folds of one site are told. Durations are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct SiteConfig {
    pub site: String,
    /// IANA name of the zone in which people at the site read a clock.
    pub time_zone: String,
    pub network: NetworkConfig,
    pub occupancy: OccupancyConfig,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct NetworkConfig {
    pub targets: Vec<Target>,
    /// An outage of at least this length is an incident, a shorter one jitter. Default 10,000.
    pub min_incident_ms: u64,
    /// Distance of reminders of an open incident; 0 sends none. Default 3,600,000.
    pub remind_every_ms: u64,
    /// An open incident that nobody acknowledged becomes critical after this; 0 never. Default 900,000.
    pub escalate_after_ms: u64,
    /// More than `flapping_count` jitters within `flapping_window_ms` are an incident of their own. Default 3.
    pub flapping_count: u32,
    /// Default 600,000.
    pub flapping_window_ms: u64,
    /// A failed probe is repeated after this. Default 1,000.
    pub retry_delay_ms: u64,
    /// A collector not heard of for longer than this is silent, and a jump of its records past it was not measured.
    /// Default 15,000.
    pub silence_ms: u64,
    /// Something that could not be measured for at least this long is an incident. Default 60,000.
    pub fault_incident_ms: u64,
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig {
            targets: Vec::new(),
            min_incident_ms: 10_000,
            remind_every_ms: 3_600_000,
            escalate_after_ms: 900_000,
            flapping_count: 3,
            flapping_window_ms: 600_000,
            retry_delay_ms: 1_000,
            silence_ms: 15_000,
            fault_incident_ms: 60_000,
        }
    }
}

/// Something watched: a router, a server, the internet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Target {
    /// A token; the key of its history.
    pub name: String,
    pub probes: Vec<ProbeSpec>,
    /// How many addresses must answer for the target to be up. Default 1: any.
    pub quorum: u32,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// Names of the targets without which this one cannot be reached.
    pub depends_on: Vec<String>,
}

/// One address of a target and how it is asked. The address is up while any of its signals is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ProbeSpec {
    /// An IPv4 or IPv6 address, or a name.
    pub address: String,
    pub signals: Vec<SignalSpec>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SignalSpec {
    Echo,
    /// Asks `address` itself, as a server, for `query`; any answer with records counts.
    Dns {
        query: String,
        port: u16,
    },
    Tcp {
        port: u16,
    },
    /// GET `url` from `address`; up when the status is `status` and the body holds `contains`.
    Https {
        url: String,
        status: u16,
        contains: Option<String>,
    },
}

impl SignalSpec {
    pub const fn signal(&self) -> Signal {
        match self {
            SignalSpec::Echo => Signal::Echo,
            SignalSpec::Dns { .. } => Signal::Dns,
            SignalSpec::Tcp { .. } => Signal::Tcp,
            SignalSpec::Https { .. } => Signal::Https,
        }
    }
}

/// By what evidence an address was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// ICMP or ICMPv6 echo.
    Echo,
    /// A fresh entry of the neighbour table (ARP or ND).
    Neighbour,
    Dns,
    Tcp,
    Https,
}

impl Signal {
    pub const ALL: [Signal; 5] = [
        Signal::Echo,
        Signal::Neighbour,
        Signal::Dns,
        Signal::Tcp,
        Signal::Https,
    ];

    pub const fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u8) -> Option<Signal> {
        Signal::ALL.get(usize::from(code)).copied()
    }

    pub const fn name(self) -> &'static str {
        match self {
            Signal::Echo => "echo",
            Signal::Neighbour => "neighbour",
            Signal::Dns => "dns",
            Signal::Tcp => "tcp",
            Signal::Https => "https",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct OccupancyConfig {
    pub hosts: Vec<PcHost>,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// Targets whose failure freezes occupancy: the router, as a rule.
    pub depends_on: Vec<String>,
    /// A changed state holds after agreeing for at least this long. Default 180,000.
    pub min_session_ms: u64,
    /// Changes are told together, this long after the first. Default 30,000.
    pub batch_window_ms: u64,
    /// More PCs than this in one message are counted instead of named. Default 5.
    pub named_max: u32,
    /// A snapshot each hour on the clock hour. Default true.
    pub hourly_snapshot: bool,
}

impl Default for OccupancyConfig {
    fn default() -> OccupancyConfig {
        OccupancyConfig {
            hosts: Vec::new(),
            interval_ms: 2_000,
            timeout_ms: 1_000,
            depends_on: Vec::new(),
            min_session_ms: 180_000,
            batch_window_ms: 30_000,
            named_max: 5,
            hourly_snapshot: true,
        }
    }
}

/// A PC. Its history hangs on its key, so renaming it or moving a range keeps the history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct PcHost {
    /// The hardware address where one is configured, else the IP address; see [`PcHost::key`].
    pub address: String,
    /// Lower case with colons. When set, only neighbour entries and echoes under this hardware address count.
    pub mac: Option<String>,
    /// What people call it, `PC-7` say.
    pub name: String,
}

impl PcHost {
    /// The key of its history: the hardware address if known, else the IP address.
    pub fn key(&self) -> &str {
        self.mac.as_deref().unwrap_or(&self.address)
    }
}

impl SiteConfig {
    /// A name for exactly this configuration: equal content gives an equal hash.
    pub fn hash(&self) -> String {
        match rmp_serde::to_vec_named(self) {
            Ok(bytes) => {
                let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                short_hash(&["site-config", &text])
            }
            // Strings and integers always encode; an empty hash equals no recorded one, so it is activated again.
            Err(_) => String::new(),
        }
    }
}
