//! Rules for tests: the eight that were inherited, and others of every shape.

use watchfold_schemas::event::Severity;
use watchfold_schemas::fields::Source;
use watchfold_schemas::rules::{Compare, FieldTest, Rule, RuleSet, RuleState, Test, Trigger, Value};

pub fn number(field: &str, numbers: &[i64]) -> Test {
    is(
        field,
        numbers.iter().map(|number| Value::Number(*number)).collect(),
    )
}

pub fn word(field: &str, word: &str) -> Test {
    is(field, vec![Value::Text(word.to_owned())])
}

pub fn truth(field: &str, truth: bool) -> Test {
    is(field, vec![Value::Truth(truth)])
}

fn is(field: &str, values: Vec<Value>) -> Test {
    Test::Field(FieldTest {
        field: field.to_owned(),
        compare: Compare::Equals,
        values,
        all: false,
    })
}

fn names(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| (*field).to_owned()).collect()
}

pub fn count(group_by: &[&str], window_ms: u64, at_least: u64) -> Trigger {
    Trigger::Count {
        group_by: names(group_by),
        window_ms,
        at_least,
    }
}

pub fn distinct(field: &str, group_by: &[&str], window_ms: u64, at_least: u64) -> Trigger {
    Trigger::Distinct {
        field: field.to_owned(),
        group_by: names(group_by),
        window_ms,
        at_least,
    }
}

pub fn sum(field: &str, group_by: &[&str], window_ms: u64, at_least: u64, parts: Option<u32>) -> Trigger {
    Trigger::Sum {
        field: field.to_owned(),
        group_by: names(group_by),
        window_ms,
        at_least,
        parts,
    }
}

pub fn rule(name: &str, test: Test, trigger: Trigger, subject: &[&str]) -> Rule {
    Rule {
        id: format!("id-{name}"),
        name: name.to_owned(),
        title: name.to_owned(),
        version: 1,
        category: name.to_owned(),
        severity: Severity::High,
        state: RuleState::Enforce,
        source: Source::Packet,
        test,
        exclusions: Vec::new(),
        trigger,
        subject: names(subject),
        cooldown_ms: 15_000,
        reputation: None,
        counts_duplicates: false,
        withdrawn_by: None,
        message: "{observed} of {threshold} in {window}".to_owned(),
    }
}

pub fn set(rules: Vec<Rule>) -> RuleSet {
    RuleSet {
        name: "tests".to_owned(),
        rules,
    }
}

/// The eight inherited rules.
pub fn classic() -> RuleSet {
    let suspicious = [
        1080, 2323, 4444, 5555, 6666, 6667, 6668, 6669, 8080, 8443, 8888, 9001, 9030, 12345, 31337, 54321,
        65535,
    ];
    let logins = [21, 22, 23, 25, 110, 143, 389, 445, 1433, 3306, 3389, 5432, 5900];
    let opening = || Test::All(vec![truth("tcp.syn", true), truth("tcp.ack", false)]);
    let asks = |rule: Rule, field: &str| Rule {
        reputation: Some(field.to_owned()),
        ..rule
    };
    let login = Test::All(vec![
        truth("tcp.syn", true),
        truth("tcp.ack", false),
        number("destination.port", &logins),
    ]);
    let port = Test::Any(vec![
        number("source.port", &suspicious),
        number("destination.port", &suspicious),
    ]);
    let echo = Test::All(vec![word("network.transport", "icmp"), number("icmp.type", &[8])]);
    let long_name = Trigger::Value {
        field: "dns.question.length".to_owned(),
        at_least: 50,
    };
    let tunnel = Test::Field(FieldTest {
        field: "dns.question.name".to_owned(),
        compare: Compare::Exists,
        values: vec![Value::Truth(true)],
        all: false,
    });
    set(vec![
        rule(
            "arp_spoofing",
            truth("arp.reply_changed", true),
            Trigger::Each,
            &["source.ip"],
        ),
        asks(
            rule(
                "brute_force",
                login,
                count(&["source.ip", "destination.port"], 30_000, 30),
                &["source.ip"],
            ),
            "source.ip",
        ),
        asks(
            rule("dns_tunnelling", tunnel, long_name, &["source.ip"]),
            "dns.question.name",
        ),
        asks(
            rule(
                "exfiltration",
                truth("source.private", true),
                sum("network.bytes", &["source.ip"], 60_000, 5_000_000, None),
                &["source.ip"],
            ),
            "destination.ip",
        ),
        asks(
            rule(
                "icmp_flood",
                echo,
                count(&["source.ip"], 5_000, 100),
                &["source.ip"],
            ),
            "source.ip",
        ),
        asks(
            rule(
                "port_scan",
                word("network.transport", "tcp"),
                distinct("destination.port", &["source.ip"], 10_000, 15),
                &["source.ip"],
            ),
            "source.ip",
        ),
        asks(
            rule("suspicious_port", port, Trigger::Each, &["external.ip"]),
            "external.ip",
        ),
        asks(
            rule(
                "syn_flood",
                opening(),
                count(&["source.ip"], 5_000, 200),
                &["source.ip"],
            ),
            "source.ip",
        ),
    ])
}

/// Rules over attempts to connect and neighbours, with groups of several fields, exclusions and every trigger.
pub fn varied() -> RuleSet {
    let of = |source: Source, rule: Rule| Rule { source, ..rule };
    let refused = Test::Any(vec![
        word("connection.outcome", "refused"),
        word("connection.outcome", "unanswered"),
    ]);
    let changed = Test::All(vec![
        Test::Any(vec![
            word("neighbour.change", "changed"),
            word("neighbour.change", "flip_flop"),
        ]),
        Test::Not(Box::new(truth("neighbour.explained", true))),
    ]);
    let mut rules = classic().rules;
    rules.extend([
        of(
            Source::Connection,
            rule(
                "closed_ports",
                refused,
                distinct("destination.port", &["source.ip", "destination.ip"], 60_000, 5),
                &["source.ip"],
            ),
        ),
        of(
            Source::Connection,
            Rule {
                withdrawn_by: Some(word("connection.outcome", "used")),
                ..rule(
                    "tried_ports",
                    word("connection.outcome", "tried"),
                    distinct("destination.port", &["source.ip", "destination.ip"], 10_000, 12),
                    &["source.ip"],
                )
            },
        ),
        of(
            Source::Neighbour,
            rule("neighbour_changed", changed, Trigger::Each, &["source.ip"]),
        ),
        rule(
            "upload",
            Test::Not(Box::new(truth("source.external", true))),
            sum(
                "network.bytes",
                &["source.ip", "destination.ip"],
                20_000,
                3_000,
                Some(20),
            ),
            &["source.ip", "destination.ip"],
        ),
        rule(
            "victim_flood",
            truth("tcp.syn", true),
            count(&["destination.ip"], 5_000, 40),
            &["destination.ip"],
        ),
        rule(
            "names",
            truth("dns.response", false),
            distinct("dns.question.name", &["dns.question.zone"], 30_000, 4),
            &["dns.question.zone"],
        ),
        rule(
            "flow",
            number("destination.port", &[80]),
            count(
                &["source.ip", "destination.ip", "source.port", "destination.port"],
                3_000,
                3,
            ),
            &["source.ip"],
        ),
    ]);
    set(rules)
}
