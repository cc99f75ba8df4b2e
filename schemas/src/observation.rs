//! What was measured or learnt: the input of every fold.
//!
//! An observation says what was seen and never what it means. "Unreachable" and "timed out" are results; "I could
//! not measure" is [`Outcome::Fault`] or [`Fault`]; "I lost some" is [`Gap`].

mod identity;

use serde::{Deserialize, Serialize};

use crate::alert::{Finding, Verdict};
use crate::config::{Signal, SiteConfig};
use crate::origin::{EventId, MessageId, Origin};
use crate::packets::PacketBatch;
use crate::rules::RulesActivation;
use crate::subjects::{Chain, Stream};
use crate::texts::Texts;
use crate::time::{Span, Time};
use crate::why::Why;

/// The version of the stored form of an [`Observation`]; see `docs/formats.md` for the rule of change.
pub const OBSERVATION_VERSION: u16 = 1;

/// One observation with its envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Observation {
    /// [`OBSERVATION_VERSION`] of the writer.
    pub v: u16,
    pub origin: Origin,
    /// When the kit made the record, by the collector's clock.
    pub observed_at: Time,
    /// Everything that this collector observed before this instant is in this record or an earlier one.
    pub through: Time,
    pub body: Body,
}

impl Observation {
    /// What it is known by in a log: its origin, and a finding by the event that it tells of.
    pub fn message_id(&self) -> MessageId {
        match &self.body {
            Body::Finding(finding) => finding.event.message_id(),
            _ => self.origin.message_id(),
        }
    }
}

/// The kinds of observation. Closed: a new kind must be considered by every fold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// One round (or retry) of probes, all targets in it.
    PingRound(PingRound),
    /// Nothing happened; the record carries `through`.
    Quiet,
    /// The collector could not measure something.
    Fault(Fault),
    /// The collector lost records of its own: the span is unknown, never down.
    Gap(Gap),
    /// The clock beside the log.
    Tick(Tick),
    /// A person did something.
    Operator(OperatorAct),
    /// A sink tells what became of a request.
    Receipt(Receipt),
    /// A validated configuration came into force.
    Activation(Box<Activation>),
    /// A stretch of a chain was folded again and compared with what was recorded.
    Parity(Parity),
    /// Captured packets. Stands in `WF_PKT`.
    Batch(Box<PacketBatch>),
    /// What an oracle said about an address or a name. Stands in `WF_PKT`.
    Verdict(Box<Verdict>),
    /// Rules came into force. Stands in the stream of the chain that they are for.
    Rules(Box<RulesActivation>),
    /// What the packet chain found.
    Finding(Box<Finding>),
}

impl Body {
    /// All kinds, as [`Body::kind`] spells them.
    pub const KINDS: [&'static str; 13] = [
        "ping_round",
        "quiet",
        "fault",
        "gap",
        "tick",
        "operator",
        "receipt",
        "activation",
        "parity",
        "batch",
        "verdict",
        "rules",
        "finding",
    ];

    /// The kind as it stands in the subject.
    pub const fn kind(&self) -> &'static str {
        match self {
            Body::PingRound(_) => "ping_round",
            Body::Quiet => "quiet",
            Body::Fault(_) => "fault",
            Body::Gap(_) => "gap",
            Body::Tick(_) => "tick",
            Body::Operator(_) => "operator",
            Body::Receipt(_) => "receipt",
            Body::Activation(_) => "activation",
            Body::Parity(_) => "parity",
            Body::Batch(_) => "batch",
            Body::Verdict(_) => "verdict",
            Body::Rules(_) => "rules",
            Body::Finding(_) => "finding",
        }
    }

    /// The stream that it belongs to.
    pub const fn stream(&self) -> Stream {
        match self {
            Body::Batch(_) | Body::Verdict(_) => Stream::Packets,
            Body::Rules(activation) => match activation.chain {
                Chain::Packets => Stream::Packets,
                Chain::Site => Stream::Observations,
            },
            Body::PingRound(_)
            | Body::Quiet
            | Body::Fault(_)
            | Body::Gap(_)
            | Body::Tick(_)
            | Body::Operator(_)
            | Body::Receipt(_)
            | Body::Activation(_)
            | Body::Parity(_)
            | Body::Finding(_) => Stream::Observations,
        }
    }
}

/// What became of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered as expected.
    Ok,
    /// No answer within the timeout.
    TimedOut,
    /// The network said that it cannot be reached.
    Unreachable,
    /// The other end refused.
    Refused,
    /// It answered, but not with what was asked for (a captive portal, a wrong status, an unusable DNS answer).
    Unexpected,
    /// The collector could not measure. Says nothing about the target.
    Fault,
}

impl Outcome {
    pub const ALL: [Outcome; 6] = [
        Outcome::Ok,
        Outcome::TimedOut,
        Outcome::Unreachable,
        Outcome::Refused,
        Outcome::Unexpected,
        Outcome::Fault,
    ];

    pub const fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u8) -> Option<Outcome> {
        Outcome::ALL.get(usize::from(code)).copied()
    }
}

/// One probe of one address by one signal. The runtime form of a row of [`PingRound`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct PingRow {
    /// The target's name, or `pc:<key>` for a PC of the occupancy area.
    pub subject: String,
    /// The address probed, as text.
    pub address: String,
    pub signal: Signal,
    /// When the probe was sent.
    pub at: Time,
    pub outcome: Outcome,
    /// Round-trip time; set for [`Outcome::Ok`] where the signal has one.
    pub rtt_us: Option<u32>,
    /// The hardware address that the neighbour table held, lower case with colons.
    pub mac: Option<String>,
    /// Why, in a few words, for outcomes that need it and have no [`PingRow::why`].
    pub detail: Option<String>,
    /// Why, for [`Outcome::Unexpected`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// The address that was asked, where the one probed is a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
}

/// A row of a [`PingRound`] without a copy of its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PingRowRef<'a> {
    pub subject: &'a str,
    pub address: &'a str,
    pub signal: Signal,
    pub at: Time,
    pub outcome: Outcome,
    pub rtt_us: Option<u32>,
    pub mac: Option<&'a str>,
    pub detail: Option<&'a str>,
    pub why: Option<&'a Why>,
    pub resolved: Option<&'a str>,
}

impl PingRow {
    pub fn as_row(&self) -> PingRowRef<'_> {
        PingRowRef {
            subject: &self.subject,
            address: &self.address,
            signal: self.signal,
            at: self.at,
            outcome: self.outcome,
            rtt_us: self.rtt_us,
            mac: self.mac.as_deref(),
            detail: self.detail.as_deref(),
            why: self.why.as_ref(),
            resolved: self.resolved.as_deref(),
        }
    }
}

impl PingRowRef<'_> {
    pub fn to_row(self) -> PingRow {
        PingRow {
            subject: self.subject.to_owned(),
            address: self.address.to_owned(),
            signal: self.signal,
            at: self.at,
            outcome: self.outcome,
            rtt_us: self.rtt_us,
            mac: self.mac.map(str::to_owned),
            detail: self.detail.map(str::to_owned),
            why: self.why.cloned(),
            resolved: self.resolved.map(str::to_owned),
        }
    }

    /// Returns why it failed and which address answered, in words for a person.
    pub fn in_words(self) -> Option<String> {
        let why = self.why.map(ToString::to_string);
        let why = why.or_else(|| self.detail.map(str::to_owned));
        match (why, self.resolved) {
            (Some(why), Some(address)) => Some(format!("{why} ({address})")),
            (None, Some(address)) if self.outcome == Outcome::Ok => Some(format!("answered by {address}")),
            (None, Some(address)) => Some(format!("asked {address}")),
            (why, None) => why,
        }
    }
}

/// The prefix of a PC's subject; a target's name cannot hold a colon.
pub const PC_SUBJECT_PREFIX: &str = "pc:";

/// A ping round as columns. Rows are in the order of `at`; [`PingRound::rows`] gives them back.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct PingRound {
    /// Counts scheduled rounds in this incarnation; a retry carries the number of the round that it repeats.
    pub round: u64,
    /// 1 for the scheduled probe, 2 for its retry.
    pub attempt: u8,
    /// The instant that `at_us` counts from.
    pub base: Time,
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<String>"))]
    pub subjects: Texts,
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<String>"))]
    pub addresses: Texts,
    /// [`Signal::code`] of each row.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub signals: Vec<u8>,
    /// [`Outcome::code`] of each row.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub outcomes: Vec<u8>,
    /// When each probe was sent, microseconds after `base`.
    pub at_us: Vec<u32>,
    /// Round-trip time plus one in microseconds, 0 where there is none.
    pub rtt_us_plus_1: Vec<u32>,
    /// Sparse: (row, hardware address).
    pub macs: Vec<(u16, String)>,
    /// Sparse: (row, why).
    pub details: Vec<(u16, String)>,
    /// Sparse: (row, why), as data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whys: Vec<(u16, Why)>,
    /// Sparse: (row, the address behind its name).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<(u16, String)>,
}

/// The most rows in one ping round; a longer sweep is several records.
pub const PING_ROWS_MAX: usize = 4096;

/// A ping round whose columns disagree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a ping round whose columns disagree: {0}")]
pub struct MalformedRound(pub &'static str);

impl PingRound {
    /// Columns from rows. Rows are put in the order of `at`; times before `base` count as `base`.
    pub fn from_rows(round: u64, attempt: u8, mut rows: Vec<PingRow>) -> PingRound {
        rows.sort_by(|a, b| {
            (a.at, &a.subject, &a.address, a.signal).cmp(&(b.at, &b.subject, &b.address, b.signal))
        });
        let base = rows.first().map_or(Time::EPOCH, |row| row.at);
        let mut out = PingRound {
            round,
            attempt,
            base,
            ..PingRound::default()
        };
        for (index, row) in rows.into_iter().take(PING_ROWS_MAX).enumerate() {
            let index = index as u16;
            out.subjects.push(&row.subject);
            out.addresses.push(&row.address);
            out.signals.push(row.signal.code());
            out.outcomes.push(row.outcome.code());
            out.at_us
                .push(u32::try_from(row.at.since(base).0 / 1_000).unwrap_or(u32::MAX));
            out.rtt_us_plus_1
                .push(row.rtt_us.map_or(0, |rtt| rtt.saturating_add(1)));
            out.macs.extend(row.mac.map(|mac| (index, mac)));
            out.details.extend(row.detail.map(|detail| (index, detail)));
            out.whys.extend(row.why.map(|why| (index, why)));
            out.resolved.extend(row.resolved.map(|address| (index, address)));
        }
        out
    }

    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// The rows in time order, or what is wrong with the columns.
    pub fn rows(&self) -> Result<Vec<PingRowRef<'_>>, MalformedRound> {
        let len = self.len();
        let lengths = [
            self.addresses.len(),
            self.signals.len(),
            self.outcomes.len(),
            self.at_us.len(),
            self.rtt_us_plus_1.len(),
        ];
        if len > PING_ROWS_MAX || lengths.iter().any(|other| *other != len) {
            return Err(MalformedRound("lengths"));
        }
        let sparse = |table: &[(u16, String)]| table.iter().all(|(row, _)| usize::from(*row) < len);
        let is_past = |(row, _): &(u16, Why)| usize::from(*row) >= len;
        if !sparse(&self.macs)
            || !sparse(&self.details)
            || !sparse(&self.resolved)
            || self.whys.iter().any(is_past)
        {
            return Err(MalformedRound("a side table points past the last row"));
        }
        let mut rows = Vec::with_capacity(len);
        for i in 0..len {
            rows.push(PingRowRef {
                subject: &self.subjects[i],
                address: &self.addresses[i],
                signal: Signal::from_code(self.signals[i]).ok_or(MalformedRound("an unknown signal"))?,
                at: self.base + Span(i64::from(self.at_us[i]) * 1_000),
                outcome: Outcome::from_code(self.outcomes[i]).ok_or(MalformedRound("an unknown outcome"))?,
                rtt_us: self.rtt_us_plus_1[i].checked_sub(1),
                mac: None,
                detail: None,
                why: None,
                resolved: None,
            });
        }
        for (row, mac) in &self.macs {
            rows[usize::from(*row)].mac = Some(mac);
        }
        for (row, detail) in &self.details {
            rows[usize::from(*row)].detail = Some(detail);
        }
        for (row, why) in &self.whys {
            rows[usize::from(*row)].why = Some(why);
        }
        for (row, address) in &self.resolved {
            rows[usize::from(*row)].resolved = Some(address);
        }
        rows.sort_by_key(|row| row.at);
        Ok(rows)
    }
}

/// The start of a [`Fault::subject`] that names a destination of a sink: `sink:discord/alerts`.
pub const DESTINATION_PREFIX: &str = "sink:";

/// The collector could not measure: no permission, no socket, no resolver, its own uplink gone. Or a destination takes
/// nothing from a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Fault {
    /// What could not be measured: a subject, or the collector itself when empty. Or the destination that takes
    /// nothing, `sink:discord/alerts`.
    pub subject: String,
    pub at: Time,
    /// What went wrong and what to do, in one sentence.
    pub reason: String,
    /// False when an earlier fault of this subject is over.
    pub active: bool,
}

impl Fault {
    /// The subject of faults of a sink's destination; a sink with only one destination has no lanes.
    pub fn destination(sink: &str, lane: Option<&str>) -> String {
        match lane {
            Some(lane) => format!("{DESTINATION_PREFIX}{sink}/{lane}"),
            None => format!("{DESTINATION_PREFIX}{sink}"),
        }
    }

    /// Whether a subject names a destination of a sink. Names of targets hold no colon.
    pub fn is_of_destination(subject: &str) -> bool {
        subject.starts_with(DESTINATION_PREFIX)
    }
}

/// A span of this collector's records that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Gap {
    pub from: Time,
    pub to: Time,
    /// How many records were lost, where known.
    pub records: u64,
    pub reason: String,
}

/// The clock beside the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Tick {
    pub now: Time,
    /// The nominal distance between ticks, in milliseconds.
    pub interval_ms: u32,
}

/// What a person did, and who.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct OperatorAct {
    pub at: Time,
    /// Who acted: the name of a credential, never the credential.
    pub who: String,
    pub act: Act,
    /// Free text for the record, at most 1,000 characters.
    pub note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Stops reminders of an open incident.
    Acknowledge {
        incident: String,
    },
    /// Tells nobody about this subject until then. The incident is recorded all the same.
    Mute {
        subject: String,
        until: Time,
    },
    Unmute {
        subject: String,
    },
    /// A planned window; empty `subjects` means the whole site.
    Maintenance {
        id: String,
        subjects: Vec<String>,
        from: Time,
        until: Time,
    },
    CancelMaintenance {
        id: String,
    },
}

/// What became of a notification request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Receipt {
    pub at: Time,
    /// The sink's name, `discord` say.
    pub sink: String,
    /// The requests that this one act of delivery settled.
    pub requests: Vec<EventId>,
    pub outcome: DeliveryOutcome,
    /// The far side's id of the message, for later edits.
    pub message: Option<String>,
    /// The reason of a failure, without secrets.
    pub detail: Option<String>,
    /// Attempts made.
    pub attempts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOutcome {
    Delivered,
    /// Folded into another message: a later one with the same coalesce key, or one about many incidents.
    Merged,
    /// Its `expires_at` passed undelivered.
    Expired,
    /// The far side will never take it.
    Rejected,
}

/// A configuration came into force. Holds references to secrets only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Activation {
    pub at: Time,
    /// [`SiteConfig::hash`] of `config`.
    pub hash: String,
    pub config: SiteConfig,
    /// The version of the software that activated it.
    pub software: String,
}

/// What a check of a stretch of a chain found: an hour of the site chain, or packets after a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Parity {
    pub chain: Chain,
    /// The first instant of the hour, as its digest has it; of packets, the last one that the snapshot holds.
    pub hour: Time,
    /// The sequences of the first and the last record.
    pub from: u64,
    pub to: u64,
    /// How many events were found equal.
    pub events: u64,
    pub verdict: ParityVerdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ParityVerdict {
    Agreed,
    Differed(ParityDifference),
    /// Why it could not be compared. Says nothing about the chain.
    NotCompared {
        reason: String,
    },
}

/// The first event that was recorded and not derived, derived and not recorded, or is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ParityDifference {
    /// The sequence of the record that the event came from.
    pub input: u64,
    /// The event's index within that record.
    pub index: u32,
    /// That record's message id; empty where it is gone.
    pub message: String,
    /// What stands in the log, in short; `None` for nothing.
    pub recorded: Option<String>,
    /// What was derived now, in short; `None` for nothing.
    pub derived: Option<String>,
}

#[cfg(test)]
mod tests;
