//! What alerts and attacks say: a rule as those who are told know it, and its sentence with a row's values in it.

use std::fmt::Write;

use watchfold_schemas::Span;
use watchfold_schemas::alert::{Endpoint, Measured, PacketRanges, Reputation, RuleRef, Tier};
use watchfold_schemas::event::Severity;
use watchfold_schemas::fields::Field;
use watchfold_schemas::rules::{Rule, RuleState, Test, Trigger};

use super::arrivals::hash_bytes;

/// Between the values of a subject.
const SUBJECT_GLUE: &str = " ";

/// What stands for a value that a row has not.
const NO_VALUE: &str = "-";

/// Fields that an alert holds in places of their own.
const TOLD_ELSEWHERE: [Field; 6] = [
    Field::SourceIp,
    Field::DestinationIp,
    Field::SourcePort,
    Field::DestinationPort,
    Field::Transport,
    Field::NeighbourMac,
];

/// A row, for people. Asked only when an alert fires or an attack is told.
pub trait RowFacts {
    /// A field's value as it is written in rules; `None` where the row has none.
    fn text(&self, field: Field) -> Option<String>;

    /// `tcp`, `udp`, `icmp`, `icmpv6`, `arp`, or a protocol's number; empty for what is no packet.
    fn transport(&self) -> String;

    fn community_id(&self) -> Option<String>;

    /// The packets that made the condition hold, this row's last. None for a rule on other observations.
    fn packets(&self) -> PacketRanges;

    fn source(&self) -> Endpoint {
        Endpoint {
            ip: self.text(Field::SourceIp),
            port: self.text(Field::SourcePort).and_then(|port| port.parse().ok()),
            mac: self.text(Field::NeighbourMac),
        }
    }

    fn destination(&self) -> Endpoint {
        Endpoint {
            ip: self.text(Field::DestinationIp),
            port: self
                .text(Field::DestinationPort)
                .and_then(|port| port.parse().ok()),
            mac: None,
        }
    }
}

/// A rule, as its alerts and attacks need it; made once when rules come into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    pub rule: RuleRef,
    pub category: String,
    pub severity: Severity,
    pub state: RuleState,
    pub cooldown: Span,
    /// Zero where the rule has none.
    pub window: Span,
    /// Of the category and the state: what tells attacks apart beside their subject.
    pub kind_hash: u64,
    /// The field that an oracle judges.
    pub reputation: Option<Field>,
    subject: Vec<Field>,
    facts: Vec<Field>,
    message: Vec<Part>,
}

/// A piece of a rule's sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
    Observed,
    Threshold,
    Window,
}

impl Telling {
    /// `set` is the name of the set that the rule stands in. Fields that this version does not know say nothing.
    pub fn of(rule: &Rule, set: &str) -> Telling {
        Telling {
            rule: RuleRef {
                id: rule.id.clone(),
                name: rule.name.clone(),
                title: rule.title.clone(),
                version: rule.version,
                set: set.to_owned(),
            },
            category: rule.category.clone(),
            severity: rule.severity,
            state: rule.state,
            cooldown: span_of(rule.cooldown_ms),
            window: span_of(window_ms(&rule.trigger)),
            kind_hash: kind_hash(&rule.category, rule.state),
            reputation: rule.reputation.as_deref().and_then(Field::from_name),
            subject: known(&rule.subject),
            facts: facts_of(rule),
            message: parts_of(&rule.message),
        }
    }

    /// For how long the condition must be absent until an attack has ended.
    pub fn linger(&self) -> Span {
        self.window.max(self.cooldown)
    }

    /// What a row's alert is about, in words.
    pub fn subject(&self, row: &dyn RowFacts) -> String {
        let value = |field: &Field| row.text(*field).unwrap_or_else(|| NO_VALUE.to_owned());
        self.subject
            .iter()
            .map(value)
            .collect::<Vec<_>>()
            .join(SUBJECT_GLUE)
    }

    /// Further facts, in the order of the field reference.
    pub fn facts(&self, row: &dyn RowFacts) -> Vec<(String, String)> {
        let fact = |field: &Field| Some((field.name().to_owned(), row.text(*field)?));
        self.facts.iter().filter_map(fact).collect()
    }

    /// The rule's sentence about this row.
    pub fn message(&self, row: &dyn RowFacts, measured: Measured, reputation: Option<&Reputation>) -> String {
        let mut out = String::new();
        for part in &self.message {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(field) => out.push_str(row.text(*field).as_deref().unwrap_or(NO_VALUE)),
                Part::Observed => push_number(&mut out, measured.observed),
                Part::Threshold => push_number(&mut out, measured.threshold),
                Part::Window => out.push_str(&window_in_words(measured.window_ms)),
            }
        }
        if let Some(reputation) = reputation {
            push_reputation(&mut out, reputation);
        }
        out
    }
}

/// What [`Telling::kind_hash`] is.
pub fn kind_hash(category: &str, state: RuleState) -> u64 {
    hash_bytes(state as u64, category.as_bytes())
}

fn known(names: &[String]) -> Vec<Field> {
    names.iter().filter_map(|name| Field::from_name(name)).collect()
}

fn span_of(millis: u64) -> Span {
    Span::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

fn window_ms(trigger: &Trigger) -> u64 {
    match trigger {
        Trigger::Each | Trigger::Value { .. } => 0,
        Trigger::Count { window_ms, .. }
        | Trigger::Distinct { window_ms, .. }
        | Trigger::Sum { window_ms, .. } => *window_ms,
    }
}

/// Every field that a rule looks at or speaks of and that has no place of its own in an alert.
fn facts_of(rule: &Rule) -> Vec<Field> {
    let mut names: Vec<&str> = rule.subject.iter().map(String::as_str).collect();
    names.extend(rule.reputation.as_deref());
    fields_of_test(&rule.test, &mut names);
    match &rule.trigger {
        Trigger::Each => {}
        Trigger::Value { field, .. } => names.push(field),
        Trigger::Count { group_by, .. } => names.extend(group_by.iter().map(String::as_str)),
        Trigger::Distinct { field, group_by, .. } | Trigger::Sum { field, group_by, .. } => {
            names.push(field);
            names.extend(group_by.iter().map(String::as_str));
        }
    }
    let mut fields: Vec<Field> = names.into_iter().filter_map(Field::from_name).collect();
    fields.extend(parts_of(&rule.message).into_iter().filter_map(|part| match part {
        Part::Field(field) => Some(field),
        _ => None,
    }));
    fields.sort_unstable();
    fields.dedup();
    fields.retain(|field| !TOLD_ELSEWHERE.contains(field));
    fields
}

fn fields_of_test<'a>(test: &'a Test, names: &mut Vec<&'a str>) {
    match test {
        Test::Field(test) => names.push(&test.field),
        Test::Not(test) => fields_of_test(test, names),
        Test::All(tests) | Test::Any(tests) => tests.iter().for_each(|test| fields_of_test(test, names)),
    }
}

/// Takes a sentence apart. Braces around something that is no field stay as they are.
fn parts_of(message: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = message;
    while let Some((before, inside, after)) = next_braces(rest) {
        let part = match inside {
            "observed" => Some(Part::Observed),
            "threshold" => Some(Part::Threshold),
            "window" => Some(Part::Window),
            name => Field::from_name(name).map(Part::Field),
        };
        match part {
            Some(part) => {
                parts.push(Part::Text(before.to_owned()));
                parts.push(part);
            }
            None => parts.push(Part::Text(format!("{before}{{{inside}}}"))),
        }
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    parts.retain(|part| *part != Part::Text(String::new()));
    parts
}

fn next_braces(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (inside, after) = rest.split_once('}')?;
    Some((before, inside, after))
}

fn push_number(out: &mut String, number: u64) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{number}");
}

fn window_in_words(window_ms: u64) -> String {
    match window_ms {
        0 => "no time".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}

/// Only what is not clean is worth a word.
fn push_reputation(out: &mut String, reputation: &Reputation) {
    let Reputation {
        subject,
        tier,
        malicious,
        score,
    } = reputation;
    if *tier == Tier::Clean {
        return;
    }
    let why = match (malicious, score) {
        (0, 0..) => "some engines suspect it".to_owned(),
        (0, score) => format!("its score is {score}"),
        (1, _) => "1 engine calls it malicious".to_owned(),
        (count, _) => format!("{count} engines call it malicious"),
    };
    let _ = write!(out, " ({subject} has a reputation of {}: {why})", tier.name());
}

/// How near a rule is to its threshold, in thousandths.
pub fn nearness_permille(observed: u64, threshold: u64) -> u32 {
    let permille = u128::from(observed) * 1_000 / u128::from(threshold.max(1));
    u32::try_from(permille).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use watchfold_schemas::fields::Source;
    use watchfold_schemas::rules::{Compare, FieldTest, Value};

    use super::*;

    /// A row by hand.
    #[derive(Default)]
    pub struct Row(pub BTreeMap<&'static str, &'static str>);

    impl Row {
        pub fn of(values: &[(&'static str, &'static str)]) -> Row {
            Row(values.iter().copied().collect())
        }
    }

    impl RowFacts for Row {
        fn text(&self, field: Field) -> Option<String> {
            self.0.get(field.name()).map(|value| (*value).to_owned())
        }

        fn transport(&self) -> String {
            "tcp".into()
        }

        fn community_id(&self) -> Option<String> {
            None
        }

        fn packets(&self) -> PacketRanges {
            PacketRanges::default()
        }
    }

    pub fn rule(message: &str) -> Rule {
        Rule {
            id: "5d0f8d0e-0000-4000-8000-000000000001".into(),
            name: "port_scan".into(),
            title: "Port scan".into(),
            version: 2,
            category: "port_scan".into(),
            severity: Severity::High,
            state: RuleState::Enforce,
            source: Source::Packet,
            test: Test::Field(FieldTest {
                field: "tcp.syn".into(),
                compare: Compare::Equals,
                values: vec![Value::Truth(true)],
                all: false,
            }),
            exclusions: Vec::new(),
            trigger: Trigger::Distinct {
                field: "destination.port".into(),
                group_by: vec!["source.ip".into()],
                window_ms: 10_000,
                at_least: 15,
            },
            subject: vec!["source.ip".into(), "network.vlan.id".into()],
            cooldown_ms: 15_000,
            reputation: Some("external.ip".into()),
            message: message.into(),
        }
    }

    fn row() -> Row {
        Row::of(&[
            ("source.ip", "192.0.2.7"),
            ("source.port", "40000"),
            ("destination.ip", "10.0.0.5"),
            ("destination.port", "443"),
            ("tcp.syn", "true"),
            ("external.ip", "192.0.2.7"),
        ])
    }

    fn check(message: &str, reputation: Option<Reputation>, want: &str) {
        let measured = Measured {
            observed: 17,
            threshold: 15,
            base_threshold: 15,
            window_ms: 10_000,
        };
        let telling = Telling::of(&rule(message), "default");
        assert_eq!(
            telling.message(&row(), measured, reputation.as_ref()),
            want,
            "{message}"
        );
    }

    #[test]
    fn sentences_are_filled() {
        check(
            "{source.ip} tried {observed} of {threshold} ports of {destination.ip} within {window}",
            None,
            "192.0.2.7 tried 17 of 15 ports of 10.0.0.5 within 10 s",
        );
        check("{source.ip}{vlan}", None, "192.0.2.7{vlan}");
        check("vlan {network.vlan.id}, {open", None, "vlan -, {open");
        check("}{}{{source.ip}", None, "}{}{{source.ip}");
        check("", None, "");
    }

    #[test]
    fn a_reputation_is_told_unless_it_is_clean() {
        let of = |tier, malicious, score| {
            Some(Reputation {
                subject: "192.0.2.7".into(),
                tier,
                malicious,
                score,
            })
        };
        check("scan", of(Tier::Clean, 0, 0), "scan");
        for (reputation, why) in [
            (
                of(Tier::Critical, 12, -3),
                "critical: 12 engines call it malicious",
            ),
            (of(Tier::Medium, 1, 0), "medium: 1 engine calls it malicious"),
            (of(Tier::Medium, 0, 0), "medium: some engines suspect it"),
            (of(Tier::Low, 0, -12), "low: its score is -12"),
        ] {
            check(
                "scan",
                reputation,
                &format!("scan (192.0.2.7 has a reputation of {why})"),
            );
        }
    }

    #[test]
    fn subjects_and_facts_are_what_the_rule_names() {
        let telling = Telling::of(&rule("{dns.question.name}"), "default");
        assert_eq!(telling.subject(&row()), "192.0.2.7 -");
        let facts = telling.facts(&row());
        let names: Vec<&str> = facts.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(names, ["external.ip", "tcp.syn"]);
        assert_eq!(telling.linger(), Span::from_seconds(15));
        assert_eq!((telling.rule.version, telling.rule.set.as_str()), (2, "default"));
    }

    #[test]
    fn windows_are_told_in_their_unit() {
        for (ms, want) in [
            (500, "500 ms"),
            (10_000, "10 s"),
            (90_000, "90 s"),
            (300_000, "5 min"),
            (7_200_000, "2 h"),
        ] {
            assert_eq!(window_in_words(ms), want);
        }
    }

    #[test]
    fn nearness_is_in_thousandths() {
        for (observed, threshold, want) in [
            (7, 15, 466),
            (8, 15, 533),
            (15, 15, 1_000),
            (5, 0, 5_000),
            (u64::MAX, 1, u32::MAX),
        ] {
            assert_eq!(nearness_permille(observed, threshold), want);
        }
    }
}
