//! What was derived: the output of folds.
//!
//! Everything here can be derived again from the observations. An event carries what its readers need, so that no
//! reader has to open a processor's store.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::alert::{Alert, Attack, LookupWanted};
use crate::hash::short_hash;
use crate::origin::{Cause, EventId, MessageId};
use crate::subjects::Chain;
use crate::time::Time;
use crate::why::{self, ProbeReason};

pub use crate::flood::{FLOOD_SUBJECTS_NAMED_MAX, Flood, FloodOf};
pub use crate::origin::Place;
pub use crate::severity::Severity;

/// The version of the stored form of an [`Event`]; see `docs/formats.md` for the rule of change.
pub const EVENT_VERSION: u16 = 1;

/// The most origins that an event names as its causes; the total is always kept.
pub const CAUSES_MAX: usize = 64;

/// One event with its envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// [`EVENT_VERSION`] of the writer.
    pub v: u16,
    pub id: EventId,
    pub site: String,
    pub chain: Chain,
    /// When it holds, in the time of what was observed.
    pub at: Time,
    /// What it is about: a subject, an incident's or a session's id.
    pub key: String,
    pub cause: Cause,
    /// Counts the events of this kind and key from this cause.
    pub n: u32,
    pub place: Place,
    pub causes: Causes,
    pub body: EventBody,
}

/// The observations behind an event.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Causes {
    /// The first [`CAUSES_MAX`].
    pub messages: Vec<MessageId>,
    /// How many there were.
    pub total: u64,
}

impl Causes {
    /// Adds one more observation; the caller names each once.
    pub fn push(&mut self, message: &MessageId) {
        self.total += 1;
        if self.messages.len() < CAUSES_MAX {
            self.messages.push(message.clone());
        }
    }
}

/// The kinds of event. Closed: a new kind must be considered by every reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EventBody {
    /// A target, PC or collector changed its state.
    SubjectChanged(SubjectChanged),
    /// Some of a target's addresses stopped or resumed answering while its quorum holds.
    SubjectDegraded(SubjectDegraded),
    /// An outage too short for an incident.
    JitterRecorded(JitterRecorded),
    IncidentOpened(Incident),
    IncidentEscalated(Incident),
    IncidentReminded(Incident),
    IncidentAcknowledged(Incident),
    IncidentClosed(Incident),
    SessionStarted(Session),
    SessionEnded(Session),
    OccupancySnapshot(OccupancySnapshot),
    /// One clock hour of one target's history.
    TargetRollup(TargetRollup),
    /// Somebody should be told.
    NotificationRequested(Box<NotificationRequest>),
    /// An operator's mute or maintenance window changed, or ended.
    SilenceChanged(Silence),
    /// What a chain derived within an hour, as one number.
    Digest(HourDigest),
    /// A rule fired.
    AlertRaised(Box<Alert>),
    AttackBegan(Box<Attack>),
    /// Its severity rose, or its peak doubled.
    AttackGrew(Box<Attack>),
    AttackEnded(Box<Attack>),
    /// A rule would like to know what an oracle thinks.
    LookupWanted(LookupWanted),
}

impl EventBody {
    /// All kinds, as [`EventBody::kind`] spells them.
    pub const KINDS: [&'static str; 20] = [
        "subject_changed",
        "subject_degraded",
        "jitter_recorded",
        "incident_opened",
        "incident_escalated",
        "incident_reminded",
        "incident_acknowledged",
        "incident_closed",
        "session_started",
        "session_ended",
        "occupancy_snapshot",
        "target_rollup",
        "notification_requested",
        "silence_changed",
        "digest",
        "alert_raised",
        "attack_began",
        "attack_grew",
        "attack_ended",
        "lookup_wanted",
    ];

    /// The kind as it stands in the subject and goes into the event's id.
    pub const fn kind(&self) -> &'static str {
        match self {
            EventBody::SubjectChanged(_) => "subject_changed",
            EventBody::SubjectDegraded(_) => "subject_degraded",
            EventBody::JitterRecorded(_) => "jitter_recorded",
            EventBody::IncidentOpened(_) => "incident_opened",
            EventBody::IncidentEscalated(_) => "incident_escalated",
            EventBody::IncidentReminded(_) => "incident_reminded",
            EventBody::IncidentAcknowledged(_) => "incident_acknowledged",
            EventBody::IncidentClosed(_) => "incident_closed",
            EventBody::SessionStarted(_) => "session_started",
            EventBody::SessionEnded(_) => "session_ended",
            EventBody::OccupancySnapshot(_) => "occupancy_snapshot",
            EventBody::TargetRollup(_) => "target_rollup",
            EventBody::NotificationRequested(_) => "notification_requested",
            EventBody::SilenceChanged(_) => "silence_changed",
            EventBody::Digest(_) => "digest",
            EventBody::AlertRaised(_) => "alert_raised",
            EventBody::AttackBegan(_) => "attack_began",
            EventBody::AttackGrew(_) => "attack_grew",
            EventBody::AttackEnded(_) => "attack_ended",
            EventBody::LookupWanted(_) => "lookup_wanted",
        }
    }
}

/// The states of the one state machine that all subjects share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SubjectState {
    /// Never measured, or not since it could be reached again.
    #[default]
    Unknown,
    Up,
    /// It failed once; the next result decides.
    Suspect,
    Down,
    /// It cannot be reached because an ancestor is down.
    Suppressed,
    /// A parent is down and its last state is held; its clocks stand still.
    Frozen,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct SubjectChanged {
    /// A target's name, `pc:<key>` or `collector:<name>`.
    pub subject: String,
    pub from: SubjectState,
    pub to: SubjectState,
    /// The first moment of the new state.
    pub since: Time,
    /// The ancestor that is to blame, for [`SubjectState::Suppressed`] and [`SubjectState::Frozen`].
    pub root: Option<String>,
    /// What the probes said, for [`SubjectState::Down`].
    pub detail: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct SubjectDegraded {
    pub subject: String,
    /// The addresses that do not answer; empty when all answer again.
    pub addresses_down: Vec<String>,
    pub since: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct JitterRecorded {
    pub subject: String,
    pub since: Time,
    pub until: Time,
    pub duration_ms: u64,
}

/// What an incident is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IncidentClass {
    /// A target is down.
    Outage,
    /// A target keeps dropping out for less than an incident.
    Flapping,
    /// Nothing is heard of a collector.
    CollectorSilent,
    /// A collector cannot measure something, or records were gone before they were judged.
    MeasurementFault,
    /// The same observations, folded again, gave other events.
    Parity,
    /// A rule's condition holds.
    Attack,
    /// A destination of a sink refuses or does not take what it is sent.
    DeliveryFault,
}

impl IncidentClass {
    pub const fn name(self) -> &'static str {
        match self {
            IncidentClass::Outage => "outage",
            IncidentClass::Flapping => "flapping",
            IncidentClass::CollectorSilent => "collector_silent",
            IncidentClass::MeasurementFault => "measurement_fault",
            IncidentClass::Parity => "parity",
            IncidentClass::Attack => "attack",
            IncidentClass::DeliveryFault => "delivery_fault",
        }
    }
}

/// An incident as it stood when the event was emitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Incident {
    /// [`Incident::derive_id`]; holds no software version.
    pub id: String,
    pub class: IncidentClass,
    pub subject: String,
    pub severity: Severity,
    /// The first moment of what went wrong.
    pub started_at: Time,
    /// When it had lasted long enough to be an incident.
    pub opened_at: Time,
    pub ended_at: Option<Time>,
    /// From start to end, once ended. Never less than what was measured, whatever the clocks did.
    pub duration_ms: Option<u64>,
    /// How much of it nobody measured.
    pub unmeasured_ms: u64,
    /// It was opened long after it had begun because its observations came late.
    pub late: bool,
    /// Who acknowledged it.
    pub acknowledged_by: Option<String>,
    pub acknowledged_at: Option<Time>,
    pub reminders: u32,
    /// Subjects that cannot be seen because of it.
    pub suppressed: Vec<String>,
    /// Why it ended.
    pub close_reason: Option<CloseReason>,
    /// What the probes said that have no reason below, or the attack's message.
    pub detail: Option<String>,
    /// Why probes got an unexpected answer, for [`IncidentClass::Outage`]; at most 16. Absent otherwise, like `attack`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<ProbeReason>,
    /// The attack, for [`IncidentClass::Attack`]. Absent otherwise, so that the bytes of other incidents, and digests of
    /// them, are what they were before there were attacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack: Option<Box<Attack>>,
    /// Many attacks at once, for [`IncidentClass::Attack`] without `attack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flood: Option<Box<Flood>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    Recovered,
    /// Its subject is no longer configured.
    Removed,
    /// The attack's condition has been absent for long enough.
    Ended,
}

impl Incident {
    /// Returns what was seen and why, as one line for a person.
    pub fn in_words(&self) -> Option<String> {
        why::in_words(self.detail.as_deref(), &self.reasons)
    }

    pub fn derive_id(site: &str, class: IncidentClass, subject: &str, started_at: Time) -> String {
        short_hash(&["incident", site, class.name(), subject, &started_at.0.to_string()])[..16].to_owned()
    }
}

/// A PC's presence from its first to its last moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Session {
    /// [`Session::derive_id`].
    pub id: String,
    /// The PC's key: hardware or IP address.
    pub pc: String,
    pub name: String,
    /// The first moment of presence, not of its confirmation.
    pub started_at: Time,
    /// The first moment of absence.
    pub ended_at: Option<Time>,
    pub duration_ms: Option<u64>,
    /// How much of it nobody measured.
    pub unmeasured_ms: u64,
}

impl Session {
    pub fn derive_id(site: &str, pc: &str, started_at: Time) -> String {
        short_hash(&["session", site, pc, &started_at.0.to_string()])[..16].to_owned()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct OccupancySnapshot {
    pub at: Time,
    pub current: u32,
    pub total: u32,
    /// Integer percent, rounded down.
    pub percent: u32,
    /// The count is held because an ancestor is down.
    pub frozen: bool,
}

/// One clock hour of one target, in the time of its collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct TargetRollup {
    pub subject: String,
    /// The first instant of the hour, in UTC.
    pub hour: Time,
    /// Probes sent, those answered, and those that could not be measured.
    pub probes: u64,
    pub answered: u64,
    pub faults: u64,
    /// Round-trip times, so that hours can be added up to days.
    pub rtt: RttHistogram,
    /// Mean absolute difference of consecutive round-trip times, in microseconds.
    pub jitter_us: u64,
    pub up_ms: u64,
    pub down_ms: u64,
    /// Not counted against uptime: an ancestor was down.
    pub suppressed_ms: u64,
    /// Not counted against uptime: nobody measured.
    pub unmeasured_ms: u64,
}

/// A histogram with buckets of at most 1/16 relative width. Adding two is exact.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct RttHistogram {
    /// (bucket, count), by bucket.
    pub buckets: Vec<(u16, u64)>,
    pub min_us: u32,
    pub max_us: u32,
}

impl RttHistogram {
    pub fn record(&mut self, rtt_us: u32) {
        let first = self.buckets.is_empty();
        self.min_us = if first { rtt_us } else { self.min_us.min(rtt_us) };
        self.max_us = self.max_us.max(rtt_us);
        self.add(bucket_of(rtt_us), 1);
    }

    pub fn merge(&mut self, other: &RttHistogram) {
        if other.buckets.is_empty() {
            return;
        }
        let first = self.buckets.is_empty();
        self.min_us = if first {
            other.min_us
        } else {
            self.min_us.min(other.min_us)
        };
        self.max_us = self.max_us.max(other.max_us);
        for (bucket, count) in &other.buckets {
            self.add(*bucket, *count);
        }
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// The value that `permille` of 1,000 do not exceed, to the width of its bucket; `None` when empty.
    pub fn quantile_us(&self, permille: u32) -> Option<u32> {
        let rank = (self.count() * u64::from(permille)).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                return Some(bucket_top(*bucket).clamp(self.min_us, self.max_us));
            }
        }
        None
    }

    fn add(&mut self, bucket: u16, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |(at, _)| *at) {
            Ok(found) => self.buckets[found].1 += count,
            Err(place) => self.buckets.insert(place, (bucket, count)),
        }
    }
}

/// Values below 32 µs have buckets of their own; above, each power of two has 16.
fn bucket_of(value: u32) -> u16 {
    if value < 32 {
        return value as u16;
    }
    let exponent = 31 - value.leading_zeros();
    let step = (value >> (exponent - 4)) & 15;
    (32 + (exponent - 5) * 16 + step) as u16
}

/// The greatest value in a bucket.
fn bucket_top(bucket: u16) -> u32 {
    if bucket < 32 {
        return u32::from(bucket);
    }
    let exponent = u32::from(bucket - 32) / 16 + 5;
    let step = u64::from((bucket - 32) % 16);
    let top = ((16 + step + 1) << (exponent - 4)) - 1;
    u32::try_from(top).unwrap_or(u32::MAX)
}

/// To whom a request goes: a sink maps each class to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NoticeClass {
    Alerts,
    Occupancy,
    Screenshots,
}

/// Somebody should be told. The request's identity is its event's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct NotificationRequest {
    pub class: NoticeClass,
    /// Undelivered requests that share it may be told as one; for an incident, its id.
    pub coalesce_key: String,
    /// Not told any more after this.
    pub expires_at: Time,
    /// IANA name of the zone to show times in.
    pub time_zone: String,
    pub notice: Notice,
}

/// What to tell, as data. Sinks find the words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    IncidentOpened {
        incident: Incident,
        pcs_present: Option<u32>,
    },
    /// Something about an open incident changed that is worth showing but not worth a sound: edit in place.
    IncidentUpdated {
        incident: Incident,
    },
    IncidentReminder {
        incident: Incident,
        open_for_ms: u64,
    },
    IncidentClosed {
        incident: Incident,
        pcs_present: Option<u32>,
    },
    SessionsStarted {
        sessions: SessionList,
    },
    SessionsEnded {
        sessions: SessionList,
    },
    OccupancySnapshot {
        snapshot: OccupancySnapshot,
    },
}

/// Sessions in one message: named while they are few, else only counted.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct SessionList {
    /// Empty when there are more than the configured number.
    pub named: Vec<Session>,
    pub total: u32,
    /// The window that the list covers, for the link to the full list.
    pub from: Time,
    pub to: Time,
}

/// A mute or a maintenance window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Silence {
    /// `mute:<subject>` or `maintenance:<id>`.
    pub id: String,
    /// Empty means the whole site.
    pub subjects: Vec<String>,
    pub from: Time,
    pub until: Time,
    pub who: String,
    /// False once it is over or was taken back.
    pub active: bool,
}

/// The digest of what a chain derived between two ticks: an hour, or what there was of it.
///
/// It begins after the tick that ended the one before, and ends with the first tick at or past the end of its hour. All
/// events of both ticks' records are before it. So it covers whole records, and hours without a tick have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct HourDigest {
    /// The first instant of the hour in which it began, in UTC, by the chain's ticks.
    pub hour: Time,
    /// The tick after which it begins.
    pub from: Time,
    /// The tick with which it ends; more than an hour later where nothing ticked.
    pub until: Time,
    pub events: u64,
    /// [`crate::digest::EventDigest::hex`].
    pub sha256: String,
    /// The software that derived them, oldest first; more than one where it was replaced within the hour.
    pub software: Vec<String>,
}
