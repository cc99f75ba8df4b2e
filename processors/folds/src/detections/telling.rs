//! What alerts and attacks say about a row: subject, ends, facts and the rule's sentence, with a reputation in words.

use std::fmt::Write;

use watchfold_schemas::Span;
use watchfold_schemas::alert::{Endpoint, Measured, PacketRanges, Reputation, Tier};
use watchfold_schemas::fields::Field;
use watchfold_schemas::rules::{Rule, Test, Trigger};

use crate::engine::cell::{Cell, Row};
use crate::engine::compile::CompiledRule;

/// Between the values of a subject.
const SUBJECT_GLUE: &str = " ";

/// What stands in a subject for a value that a row has not.
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
pub trait RowFacts: Row {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `arp`, or a protocol's number; empty for what is no packet.
    fn transport(&self) -> String;

    fn community_id(&self) -> Option<String>;

    /// The packets that made the condition hold, this row's last. None for a rule on other observations.
    fn packets(&self) -> PacketRanges;

    fn source(&self) -> Endpoint {
        Endpoint {
            ip: self.readable(Field::SourceIp),
            port: self.port(Field::SourcePort),
            mac: self.readable(Field::NeighbourMac),
        }
    }

    fn destination(&self) -> Endpoint {
        Endpoint {
            ip: self.readable(Field::DestinationIp),
            port: self.port(Field::DestinationPort),
            mac: None,
        }
    }

    fn readable(&self, field: Field) -> Option<String> {
        self.cell(field).map(|cell| cell.readable())
    }

    fn port(&self, field: Field) -> Option<u16> {
        match self.cell(field)? {
            Cell::Number(number) => u16::try_from(number).ok(),
            _ => None,
        }
    }
}

/// What a row's alert is about, in words.
pub fn subject(rule: &CompiledRule, row: &dyn RowFacts) -> String {
    let value = |field: &Field| row.readable(*field).unwrap_or_else(|| NO_VALUE.to_owned());
    rule.subject
        .iter()
        .map(value)
        .collect::<Vec<_>>()
        .join(SUBJECT_GLUE)
}

/// The rule's sentence about a row.
pub fn message(
    rule: &CompiledRule,
    row: &dyn RowFacts,
    measured: Measured,
    reputation: Option<&Reputation>,
) -> String {
    let window = Span::from_millis(i64::try_from(measured.window_ms).unwrap_or(i64::MAX));
    let mut out = rule
        .message
        .write(row, measured.observed, measured.threshold, window);
    if let Some(reputation) = reputation {
        push_reputation(&mut out, reputation);
    }
    out
}

/// Every field that a rule looks at or speaks of and that has no place of its own in an alert, in the order of the field
/// reference.
pub fn facts(rule: &CompiledRule, row: &dyn RowFacts) -> Vec<(String, String)> {
    let fact = |field: &Field| Some((field.name().to_owned(), row.readable(*field)?));
    fields_of(rule).iter().filter_map(fact).collect()
}

fn fields_of(rule: &CompiledRule) -> Vec<Field> {
    let mut fields = rule.subject.clone();
    fields.extend(rule.reputation);
    fields.extend(rule.message.fields());
    fields.extend(names_of(&rule.rule).into_iter().filter_map(Field::from_name));
    fields.sort_unstable();
    fields.dedup();
    fields.retain(|field| !TOLD_ELSEWHERE.contains(field));
    fields
}

fn names_of(rule: &Rule) -> Vec<&str> {
    let mut names = Vec::new();
    names_of_test(&rule.test, &mut names);
    match &rule.trigger {
        Trigger::Each => {}
        Trigger::Value { field, .. } => names.push(field),
        Trigger::Count { group_by, .. } => names.extend(group_by.iter().map(String::as_str)),
        Trigger::Distinct { field, group_by, .. } | Trigger::Sum { field, group_by, .. } => {
            names.push(field);
            names.extend(group_by.iter().map(String::as_str));
        }
    }
    names
}

fn names_of_test<'a>(test: &'a Test, names: &mut Vec<&'a str>) {
    match test {
        Test::Field(test) => names.push(&test.field),
        Test::Not(test) => names_of_test(test, names),
        Test::All(tests) | Test::Any(tests) => tests.iter().for_each(|test| names_of_test(test, names)),
    }
}

/// Only what is not clean is worth a word.
fn push_reputation(out: &mut String, reputation: &Reputation) {
    let Reputation {
        subject,
        tier,
        malicious,
        score,
        known,
    } = reputation;
    if !known || *tier == Tier::Clean {
        return;
    }
    let why = match (malicious, score) {
        (0, 0..) => "some engines suspect it".to_owned(),
        (0, score) => format!("its score is {score}"),
        (1, _) => "1 engine calls it malicious".to_owned(),
        (count, _) => format!("{count} engines call it malicious"),
    };
    // Writing to a string cannot fail.
    let _ = write!(out, " ({subject} has a reputation of {}: {why})", tier.name());
}

/// How near a rule is to its threshold, in thousandths.
pub fn nearness_permille(observed: u64, threshold: u64) -> u32 {
    let permille = u128::from(observed) * 1_000 / u128::from(threshold.max(1));
    u32::try_from(permille).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use watchfold_schemas::event::Severity;
    use watchfold_schemas::fields::Source;
    use watchfold_schemas::rules::{Compare, FieldTest, RuleSet, RuleState, Value};

    use super::*;
    use crate::engine::compile::compile;

    /// A row by hand.
    pub struct HandRow(pub Vec<(Field, Cell<'static>)>);

    impl Row for HandRow {
        fn cell(&self, field: Field) -> Option<Cell<'_>> {
            let found = self.0.iter().find(|(name, _)| *name == field);
            found.map(|(_, cell)| cell.clone())
        }
    }

    impl RowFacts for HandRow {
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

    /// A SYN from 192.0.2.7 to port 22 of 10.0.0.5.
    pub fn row() -> HandRow {
        let outside = Cell::Address([192, 0, 2, 7].into());
        HandRow(vec![
            (Field::SourceIp, outside.clone()),
            (Field::SourcePort, Cell::Number(40_000)),
            (Field::DestinationIp, Cell::Address([10, 0, 0, 5].into())),
            (Field::DestinationPort, Cell::Number(22)),
            (Field::TcpSyn, Cell::Truth(true)),
            (Field::ExternalIp, outside),
        ])
    }

    /// A port scan: 15 ports in 10 s, silent for 15 s, asking about the external end.
    pub fn rule(change: impl FnOnce(&mut Rule)) -> CompiledRule {
        let mut rule = Rule {
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
            subject: vec!["source.ip".into()],
            cooldown_ms: 15_000,
            reputation: Some("external.ip".into()),
            counts_duplicates: false,
            withdrawn_by: None,
            message: "{source.ip} tried {observed} ports".into(),
        };
        change(&mut rule);
        let set = RuleSet {
            name: "default".into(),
            rules: vec![rule],
        };
        compile(&set).unwrap().rules.remove(0)
    }

    fn check(reputation: Option<Reputation>, want: &str) {
        let measured = Measured {
            observed: 17,
            threshold: 15,
            base_threshold: 15,
            window_ms: 10_000,
        };
        let rule = rule(|rule| rule.message = "{source.ip}: {observed} of {threshold} in {window}".into());
        assert_eq!(message(&rule, &row(), measured, reputation.as_ref()), want);
    }

    #[test]
    fn a_reputation_is_told_unless_it_is_clean() {
        let of = |tier, malicious, score| {
            Some(Reputation {
                subject: "192.0.2.7".into(),
                tier,
                malicious,
                score,
                known: true,
            })
        };
        let plain = "192.0.2.7: 17 of 15 in 10 s";
        check(None, plain);
        check(of(Tier::Clean, 0, 0), plain);
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
                reputation,
                &format!("{plain} (192.0.2.7 has a reputation of {why})"),
            );
        }
    }

    #[test]
    fn subjects_and_facts_are_what_the_rule_names() {
        let rule = rule(|rule| {
            rule.subject.push("network.vlan.id".into());
            rule.message = "{tcp.flags} {packet.truncated}".into();
        });
        assert_eq!(subject(&rule, &row()), "192.0.2.7 -");
        let names: Vec<&str> = fields_of(&rule).iter().map(|field| field.name()).collect();
        assert_eq!(
            names,
            [
                "external.ip",
                "network.vlan.id",
                "tcp.flags",
                "tcp.syn",
                "packet.truncated"
            ]
        );
        let told = facts(&rule, &row());
        let want = [("external.ip", "192.0.2.7"), ("tcp.syn", "true")];
        assert_eq!(
            told,
            want.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(row().source().port, Some(40_000));
        assert_eq!(row().destination().ip.as_deref(), Some("10.0.0.5"));
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
