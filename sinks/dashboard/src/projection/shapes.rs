//! The shapes that the API and the live stream send, as `page/src/lib/api.ts` and `openapi.json` describe them.
//!
//! They are answers, not stored types: nothing here is ever read back. An incident and a session are told as their events
//! hold them.

use serde::Serialize;
use watchfold_schemas::alert::{Alert, Attack};
use watchfold_schemas::config::Signal;
use watchfold_schemas::event::{self, Severity, SubjectState};
use watchfold_schemas::observation::Outcome;
use watchfold_schemas::{Chain, Time};

use super::shared::Shared;

/// Where a projection stands: the last sequence of each stream that went into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Position {
    pub events: u64,
    pub observations: u64,
}

impl Position {
    /// Whether everything that made `self` is also in `other`.
    pub fn within(self, other: Position) -> bool {
        self.events <= other.events && self.observations <= other.observations
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AddressStatus {
    pub address: String,
    pub signal: Signal,
    pub outcome: Outcome,
    pub rtt_us: Option<u32>,
    pub at: Time,
    pub detail: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Target {
    pub name: String,
    pub state: SubjectState,
    pub since: Option<Time>,
    pub root: Option<String>,
    pub depends_on: Vec<String>,
    pub quorum: u32,
    pub addresses: Vec<AddressStatus>,
    pub addresses_down: Vec<String>,
    pub rtt_us: Option<u32>,
    /// Samples of the last 30 minutes without an answer from any address.
    pub loss_permille: Option<u64>,
    pub rtt_p50_us: Option<u32>,
    pub rtt_p95_us: Option<u32>,
    pub jitter_us: Option<u64>,
    /// Of the measured time.
    pub uptime_day_ppm: Option<u64>,
    /// How much of the period was measured.
    pub uptime_day_measured_ppm: u64,
    pub uptime_month_ppm: Option<u64>,
    pub uptime_month_measured_ppm: u64,
    pub last_measured_at: Option<Time>,
    /// By a mute of its own.
    pub muted_until: Option<Time>,
    pub maintenance_until: Option<Time>,
    pub incident: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Incident {
    #[serde(flatten)]
    pub incident: event::Incident,
    /// The event that told of its latest change.
    pub event: String,
    /// What was said with its acknowledgement.
    pub acknowledged_note: Option<String>,
    /// When the first message about it was delivered, by a sink's receipt.
    pub notified_at: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Pc {
    pub key: String,
    pub name: String,
    pub address: String,
    pub mac: Option<String>,
    pub present: bool,
    pub frozen: bool,
    pub since: Option<Time>,
    pub seen_by: Vec<Signal>,
    pub last_seen_at: Option<Time>,
    pub session: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OccupancyCount {
    pub current: u32,
    pub total: u32,
    pub percent: u32,
    pub frozen: bool,
    pub root: Option<String>,
    /// False while no PC was probed lately: then who is present is not known.
    pub measured: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Occupancy {
    #[serde(flatten)]
    pub count: OccupancyCount,
    pub pcs: Vec<Pc>,
}

/// A maintenance window that runs or is to come.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Maintenance {
    pub id: String,
    /// Empty means the whole site.
    pub subjects: Vec<String>,
    pub from: Time,
    pub until: Time,
    pub who: String,
    /// Why, in the words of whoever planned it.
    pub note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stage {
    pub name: String,
    pub position: Option<u64>,
    pub head: Option<u64>,
    pub lag: Option<u64>,
    pub age_ms: Option<u64>,
    pub ok: bool,
    /// False for a part that the configuration does not switch on: it does nothing, and nothing is wrong.
    pub configured: bool,
    pub detail: Option<String>,
    /// What it did last, where that is worth a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HistoryPoint {
    pub at: Time,
    pub probes: u64,
    pub answered: u64,
    pub faults: u64,
    pub min_us: Option<u32>,
    pub p50_us: Option<u32>,
    pub p95_us: Option<u32>,
    pub p99_us: Option<u32>,
    pub max_us: Option<u32>,
    pub jitter_us: Option<u64>,
    pub up_ms: Option<u64>,
    pub down_ms: Option<u64>,
    pub suppressed_ms: Option<u64>,
    pub unmeasured_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sample {
    pub target: String,
    pub at: Time,
    pub outcome: Outcome,
    pub rtt_us: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Heatmap {
    pub time_zone: String,
    /// By local weekday (0 = Monday) and hour, in thousandths of a PC.
    pub cells: Vec<Vec<Option<u64>>>,
}

/// An alert, with what its event adds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Alert"))]
pub struct AlertShown {
    /// Of its event.
    pub id: String,
    pub at: Time,
    pub chain: Chain,
    #[serde(flatten)]
    pub alert: Shared<Alert>,
}

/// An attack as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "ShownAttack"))]
pub struct AttackShown {
    #[serde(flatten)]
    pub attack: Attack,
    pub chain: Chain,
    /// The event that told of its latest change, and when that was.
    pub event: String,
    pub told_at: Time,
    /// The incident that it is, where people are told of it.
    pub incident: Option<String>,
}

/// A count for each severity: info, low, medium, high, critical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SeverityCounts(pub [u64; 5]);

impl SeverityCounts {
    pub fn add(&mut self, severity: Severity) {
        self.0[severity as usize] += 1;
    }

    pub fn of(&self, severity: Severity) -> u64 {
        self.0[severity as usize]
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CategoryCount {
    pub category: String,
    pub count: u64,
}

/// Alerts of the last hour by minute, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timeline {
    /// The first moment of the first minute.
    pub from: Time,
    pub minutes: Vec<SeverityCounts>,
}

/// What the open attacks amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Threat {
    /// No packets are captured or judged, so that nothing was found says nothing.
    NotMonitored,
    Normal,
    Moderate,
    Elevated,
    High,
    Critical,
}

/// The counts of alerts and open attacks of rules that are enforced. What only records is counted apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlertTotals {
    pub threat: Threat,
    /// Whether packets are captured and judged.
    pub monitored: bool,
    /// When the log got its newest packets.
    pub packets_at: Option<Time>,
    /// All that the log held since the projection began.
    pub severities: SeverityCounts,
    pub recorded: u64,
    /// Those with the most alerts, most first.
    pub categories: Vec<CategoryCount>,
    pub attacks_open: SeverityCounts,
    pub timeline: Timeline,
}

/// The newest alerts, in the order of their time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NewAlerts {
    pub items: Vec<AlertShown>,
    /// There were more than are told at once: whoever follows lacks some between what it holds and these.
    pub cut: bool,
}

/// The rules of a chain, as far as is known here.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RulesInForce {
    pub chain: Chain,
    /// The name of their set.
    pub set: String,
    /// Where their activation was seen; else only the set is known, from the newest alert.
    pub active: Option<ActiveRules>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ActiveRules {
    pub since: Time,
    /// A name for exactly these rules.
    pub hash: String,
    pub enforced: u64,
    pub recorded: u64,
    pub off: u64,
}

/// What the folded streams say. The server adds what it alone knows to make the whole `State`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Folded {
    pub time_zone: String,
    pub now: Time,
    pub targets: Vec<Target>,
    pub incidents: Vec<Incident>,
    pub occupancy: Occupancy,
    pub sessions: Vec<event::Session>,
    pub maintenance: Vec<Maintenance>,
    pub heatmap: Heatmap,
    pub samples: Vec<Sample>,
    /// The newest, newest first.
    pub alerts: Vec<AlertShown>,
    pub attacks: Vec<AttackShown>,
    pub alert_totals: AlertTotals,
    pub rules: Vec<RulesInForce>,
}

/// One thing that a viewer has to replace, add or remove.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Target(Target),
    TargetRemoved(String),
    Incident(Incident),
    Occupancy(OccupancyCount),
    Pc(Pc),
    PcRemoved(String),
    Session(event::Session),
    /// All that run or are to come.
    Maintenance(Vec<Maintenance>),
    Heatmap(Heatmap),
    Samples(Vec<Sample>),
    Alerts(NewAlerts),
    Attack(Box<AttackShown>),
    AlertTotals(AlertTotals),
    Rules(Vec<RulesInForce>),
    Stages(Vec<Stage>),
}
