//! What rules say: alerts, the attacks that alerts belong to, and what is asked about addresses and names outside.
//!
//! An alert is one firing of a rule and obeys its cooldown. An attack is one incident: it begins with the first firing,
//! sees every packet for which its condition holds, and ends once the condition has been absent for long enough.

use serde::{Deserialize, Serialize};

use crate::hash::short_hash;
use crate::origin::{EventId, Place};
use crate::rules::RuleState;
use crate::severity::Severity;
use crate::time::Time;

/// The most packet ranges that an alert or an attack names; the total is always kept.
pub const PACKET_RANGES_MAX: usize = 64;

/// The most victims that an attack names; the total is always kept.
pub const VICTIMS_MAX: usize = 16;

/// Which rule fired, in which set.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct RuleRef {
    /// [`crate::rules::Rule::id`].
    pub id: String,
    /// [`crate::rules::Rule::name`].
    pub name: String,
    pub title: String,
    /// [`crate::rules::Rule::version`].
    pub version: u32,
    /// The name of the set: `default`, `classic`, or that of a directory.
    pub set: String,
}

/// One end of a packet or connection.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Endpoint {
    pub ip: Option<String>,
    pub port: Option<u16>,
    /// Lower case with colons.
    pub mac: Option<String>,
}

/// Packets of one collector's incarnation, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct PacketRanges {
    /// First and last of each, both included, in order; at most [`PACKET_RANGES_MAX`].
    pub ranges: Vec<(u64, u64)>,
    /// How many packets counted; a range may hold others between them.
    pub total: u64,
}

/// Who captured what a rule saw.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct SeenBy {
    pub collector: String,
    pub incarnation: u64,
    /// The interface, or the name of the file.
    pub interface: String,
    /// None for a rule on other observations than packets.
    pub packets: PacketRanges,
    /// The VLANs of what was seen, the outermost first; empty without a tag. The last field, because state is stored by
    /// position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<u16>,
}

/// What made a rule fire, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Measured {
    /// The count, the number of distinct values, the sum, or the value.
    pub observed: u64,
    /// What had to be reached, after the reputation's factor.
    pub threshold: u64,
    /// The same before it.
    pub base_threshold: u64,
    /// 0 where the rule has no window.
    pub window_ms: u64,
}

/// How bad an outside oracle holds an address or name to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    #[default]
    Clean,
    Low,
    Medium,
    High,
    Critical,
}

impl Tier {
    pub const ALL: [Tier; 5] = [Tier::Clean, Tier::Low, Tier::Medium, Tier::High, Tier::Critical];

    pub const fn name(self) -> &'static str {
        match self {
            Tier::Clean => "clean",
            Tier::Low => "low",
            Tier::Medium => "medium",
            Tier::High => "high",
            Tier::Critical => "critical",
        }
    }
}

/// What an oracle had said when the rule fired. Without a verdict there is no reputation.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Reputation {
    /// The address or name that was judged.
    pub subject: String,
    pub tier: Tier,
    /// Engines that call it malicious, and the oracle's own score.
    pub malicious: u32,
    pub score: i64,
    /// False when the oracle was asked and knows nothing of the subject; the tier says nothing then. State is stored by
    /// position, so this field stays the last one.
    #[serde(default = "is_known", skip_serializing_if = "is_set")]
    pub known: bool,
}

const fn is_known() -> bool {
    true
}

const fn is_set(value: &bool) -> bool {
    *value
}

/// One firing of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Alert {
    pub rule: RuleRef,
    /// What cooldowns and attacks are told apart by, with `subject`: `port_scan`, say.
    pub category: String,
    /// After the reputation's influence.
    pub severity: Severity,
    /// [`RuleState::Record`]: stored, and nobody is told.
    pub state: RuleState,
    /// [`Attack::id`].
    pub attack: String,
    /// What it is about: the values of the rule's subject fields, joined by a blank.
    pub subject: String,
    pub source: Endpoint,
    pub destination: Endpoint,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `arp`, or a protocol's number.
    pub transport: String,
    /// Community ID v1 of the packet that made it fire.
    pub community_id: Option<String>,
    pub measured: Measured,
    /// Absent where the rule asks for none, and where no verdict was there.
    pub reputation: Option<Reputation>,
    pub seen_by: SeenBy,
    /// One sentence for people.
    pub message: String,
    /// Further facts: (field, value), in the order of the field reference.
    pub facts: Vec<(String, String)>,
}

/// A row of alerts about one subject, as it stood when the event was emitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Attack {
    /// [`Attack::derive_id`]; holds no software version.
    pub id: String,
    /// The rule that fired last.
    pub rule: RuleRef,
    pub category: String,
    /// The highest so far.
    pub severity: Severity,
    pub state: RuleState,
    pub subject: String,
    pub source: Endpoint,
    /// The destination of the last firing.
    pub destination: Endpoint,
    pub transport: String,
    pub community_id: Option<String>,
    /// When its condition first held.
    pub began_at: Time,
    /// When its condition last held.
    pub last_at: Time,
    pub ended_at: Option<Time>,
    /// The greatest measured, and when.
    pub peak: Measured,
    pub peak_at: Time,
    pub alerts: u64,
    /// Packets, or rows, for which the condition held.
    pub matches: u64,
    /// Destinations, the first [`VICTIMS_MAX`] in the order in which they were hit.
    pub victims: Vec<String>,
    /// How many destinations were told apart; a lower bound once it reaches the extractor's limit.
    pub victims_total: u64,
    pub reputation: Option<Reputation>,
    pub seen_by: SeenBy,
    pub message: String,
}

impl Attack {
    pub fn derive_id(site: &str, collector: &str, category: &str, subject: &str, began_at: Time) -> String {
        let began_at = began_at.0.to_string();
        short_hash(&["attack", site, collector, category, subject, &began_at])[..16].to_owned()
    }
}

/// What the packet chain tells the site chain. Its message id is its event's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Finding {
    pub event: EventId,
    /// Of the event, in the packet chain.
    pub place: Place,
    pub stage: AttackStage,
    pub attack: Attack,
}

/// Under which collector's name findings stand in the log.
pub const FINDINGS_COLLECTOR: &str = "packets";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AttackStage {
    Began,
    /// Its severity rose, or its peak doubled.
    Grew,
    Ended,
}

/// What a question to an oracle is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    Address,
    /// A domain name in lower case, without the final dot.
    Name,
}

/// A rule would like to know what an oracle thinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct LookupWanted {
    pub kind: SubjectKind,
    pub subject: String,
    /// How near the rule is to firing, in thousandths of its threshold; 1,000 and more has fired. Nearer goes first.
    pub nearness_permille: u32,
    /// [`crate::rules::Rule::name`].
    pub rule: String,
}

/// What an oracle said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Verdict {
    pub at: Time,
    /// `virustotal`, say.
    pub oracle: String,
    pub kind: SubjectKind,
    pub subject: String,
    /// False when the oracle knows nothing of it; the figures are 0 then.
    pub known: bool,
    /// How many engines call it so.
    pub malicious: u32,
    pub suspicious: u32,
    pub harmless: u32,
    pub undetected: u32,
    /// The oracle's own score; below 0 is bad.
    pub score: i64,
    pub country: Option<String>,
    /// The owner of its network, or the registrar of its name.
    pub owner: Option<String>,
    /// At most three.
    pub categories: Vec<String>,
    /// Not to be believed after this.
    pub expires_at: Time,
}
