//! Rules as data: the normalised form that an activation records and the folds compile.
//!
//! People write Sigma; `processors/rules` parses and checks it and makes this of it. Nothing here is code, a regular
//! expression or a path. Fields are named as in [`crate::fields`].

use serde::{Deserialize, Serialize};

use crate::fields::Source;
use crate::hash::short_hash;
use crate::severity::Severity;
use crate::subjects::Chain;
use crate::time::Time;

/// The most rules in one set.
pub const RULES_MAX: usize = 512;

/// The most values in one test of a field.
pub const VALUES_MAX: usize = 1_024;

/// The most fields in a group or a subject.
pub const GROUP_FIELDS_MAX: usize = 4;

/// The highest threshold of a count or of distinct values: what is kept for each key grows with it.
pub const THRESHOLD_MAX: u64 = 100_000;

/// The longest window: a day.
pub const WINDOW_MS_MAX: u64 = 86_400_000;

/// All rules in force for one chain of a site.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct RuleSet {
    /// `default`, `classic`, or the name of a directory.
    pub name: String,
    /// In the order in which they are tried, which is that of their names.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Rule {
    /// Sigma's `id`, a UUID; the name where there is none.
    pub id: String,
    /// A token, unique in its set: `port_scan`.
    pub name: String,
    pub title: String,
    /// Raised by its author when its meaning changes.
    pub version: u32,
    /// What its cooldowns and attacks are told apart by; rules may share one.
    pub category: String,
    pub severity: Severity,
    pub state: RuleState,
    pub source: Source,
    /// Which rows it looks at.
    pub test: Test,
    /// Rows that it passes over although they meet `test`.
    pub exclusions: Vec<Exclusion>,
    pub trigger: Trigger,
    /// The fields whose values say what an alert is about: the key of its cooldown and of its attack.
    pub subject: Vec<String>,
    /// After an alert, the same category and subject is silent for this long; at exactly this it speaks again.
    pub cooldown_ms: u64,
    /// The field whose value an oracle is asked about, and whose tier scales the threshold and raises the severity.
    pub reputation: Option<String>,
    /// Whether a packet that was seen twice counts twice. Without it the copies that `packet.duplicate` marks are passed over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counts_duplicates: bool,
    /// Rows that take a value back that was counted: of a trigger on distinct values alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn_by: Option<Test>,
    /// One sentence with fields in braces: `{source.ip} tried {observed} ports of {destination.ip}`. Besides fields there
    /// are `{observed}`, `{threshold}` and `{window}`.
    pub message: String,
}

/// Rows that a rule does not count, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Exclusion {
    /// Which rows. Its one key lies beside the others, where it was before there were any others.
    #[serde(flatten)]
    pub test: Test,
    /// Why, for the people who read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Rows from this instant on are counted again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

impl From<Test> for Exclusion {
    fn from(test: Test) -> Exclusion {
        Exclusion {
            test,
            reason: None,
            until: None,
        }
    }
}

impl Exclusion {
    /// It excludes no row from `at` on.
    pub fn is_over(&self, at: Time) -> bool {
        self.until.is_some_and(|until| until <= at)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RuleState {
    #[default]
    Enforce,
    /// Its alerts are stored, and nobody is told.
    Record,
    Off,
}

/// A condition on one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// True when empty.
    All(Vec<Test>),
    /// False when empty.
    Any(Vec<Test>),
    Not(Box<Test>),
    Field(FieldTest),
}

/// A field against values: any of them, or all where `all` says so. A row that lacks the field does not meet it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct FieldTest {
    pub field: String,
    pub compare: Compare,
    pub values: Vec<Value>,
    pub all: bool,
}

/// How a field is compared. Texts are compared without regard to ASCII case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    Equals,
    Contains,
    StartsWith,
    EndsWith,
    /// A text with `*` for anything and `?` for one character; behind a `\` these two and `\` are themselves.
    Like,
    /// An address in a network in CIDR notation.
    Cidr,
    Greater,
    AtLeast,
    Less,
    AtMost,
    /// Whether the row has the field; the value is a truth.
    Exists,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// A text, an address, a network, or a hardware address.
    Text(String),
    Number(i64),
    Truth(bool),
}

/// When rows that meet the test make the rule fire. Windows slide on the time of what was observed and are closed: a row
/// exactly as old as the window counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Each row.
    Each,
    /// A row whose number reaches a threshold that reputation may scale.
    Value { field: String, at_least: u64 },
    /// So many rows of one group within the window.
    Count {
        group_by: Vec<String>,
        window_ms: u64,
        at_least: u64,
    },
    /// So many different values of a field.
    Distinct {
        field: String,
        group_by: Vec<String>,
        window_ms: u64,
        at_least: u64,
    },
    /// A number of all rows adds up to so much.
    Sum {
        field: String,
        group_by: Vec<String>,
        window_ms: u64,
        at_least: u64,
        /// Into how many parts the window may be cut for a bound on memory; the sum is then too low by at most what the
        /// oldest part held. None is exact.
        parts: Option<u32>,
    },
}

/// Rules came into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct RulesActivation {
    pub at: Time,
    pub chain: Chain,
    /// [`RulesActivation::hash_of`] of what follows.
    pub hash: String,
    pub set: RuleSet,
    pub surroundings: Surroundings,
    /// The version of the software that activated it.
    pub software: String,
}

/// What rules may know of the site.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Surroundings {
    /// Networks that are the site's own beside the private ones, in CIDR notation.
    pub own_networks: Vec<String>,
    /// Ports on which Watchfold itself listens at `own_addresses`.
    pub own_ports: Vec<u16>,
    pub own_addresses: Vec<String>,
    /// Addresses of routers: a change of their hardware address weighs most.
    pub gateways: Vec<String>,
    /// An oracle is configured, so that rules may ask.
    pub lookups: bool,
}

impl RulesActivation {
    /// A name for exactly these rules: equal content gives an equal hash.
    pub fn hash_of(chain: Chain, set: &RuleSet, surroundings: &Surroundings) -> String {
        match rmp_serde::to_vec_named(&(chain, set, surroundings)) {
            Ok(bytes) => {
                let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                short_hash(&["rules", &text])
            }
            // Strings and integers always encode; an empty hash equals no recorded one, so it is activated again.
            Err(_) => String::new(),
        }
    }
}

impl RuleSet {
    /// The rules that look at what `chain` reads.
    pub fn of_chain(&self, chain: Chain) -> RuleSet {
        RuleSet {
            name: self.name.clone(),
            rules: self
                .rules
                .iter()
                .filter(|rule| rule.source.chain() == chain)
                .cloned()
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusion_without_reason_and_end_is_stored_as_its_test_alone() {
        let test = Test::Field(FieldTest {
            field: "destination.port".into(),
            compare: Compare::Equals,
            values: vec![Value::Number(443), Value::Truth(true), Value::Text("x".into())],
            all: false,
        });
        let bare = Exclusion::from(Test::Not(Box::new(Test::All(vec![test.clone()]))));
        let full = Exclusion {
            reason: Some("a backup".into()),
            until: Some(Time(1_700_000_000_000_000_001)),
            ..bare.clone()
        };
        let before = rmp_serde::to_vec_named(&bare.test).unwrap();
        assert_eq!(rmp_serde::to_vec_named(&bare).unwrap(), before);
        assert_eq!(rmp_serde::from_slice::<Exclusion>(&before).unwrap(), bare);
        for exclusion in [bare, full] {
            let packed = rmp_serde::to_vec_named(&exclusion).unwrap();
            assert_eq!(rmp_serde::from_slice::<Exclusion>(&packed).unwrap(), exclusion);
            let json = serde_json::to_string(&exclusion).unwrap();
            assert_eq!(
                serde_json::from_str::<Exclusion>(&json).unwrap(),
                exclusion,
                "{json}"
            );
        }
    }
}
