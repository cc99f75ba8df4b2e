//! What is read, and what becomes of it; and the documents that are made from the code or must agree with it.

use std::path::Path;

use watchfold_schemas::event::Severity;
use watchfold_schemas::fields::Source;
use watchfold_schemas::rules::{Compare, FieldTest, Rule, RuleState, Test, Trigger, Value};

use super::{Files, read};

fn of(field: &str, compare: Compare, values: Vec<Value>) -> Test {
    Test::Field(FieldTest {
        field: field.into(),
        compare,
        values,
        all: false,
    })
}

fn words(words: &[&str]) -> Vec<Value> {
    words.iter().map(|word| Value::Text((*word).into())).collect()
}

/// The test of a packet rule with these selections and this condition.
fn test(selections: &str, condition: &str) -> Test {
    let text = format!(
        "title: T\nlevel: low\nlogsource:\n  category: packet\ndetection:\n{selections}\n  condition: {condition}\n"
    );
    let mut set = read(&text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(set.rules.len(), 1);
    set.rules.remove(0).test
}

#[test]
fn values_become_tests() {
    for (line, want) in [
        (
            "destination.port: 22",
            of("destination.port", Compare::Equals, vec![Value::Number(22)]),
        ),
        (
            "tcp.syn: true",
            of("tcp.syn", Compare::Equals, vec![Value::Truth(true)]),
        ),
        (
            "source.ip: [10.0.0.1, '2001:DB8::1']",
            of("source.ip", Compare::Equals, words(&["10.0.0.1", "2001:db8::1"])),
        ),
        (
            "source.ip|cidr: 10.1.2.3/8",
            of("source.ip", Compare::Cidr, words(&["10.0.0.0/8"])),
        ),
        (
            "network.bytes|gt: 100",
            of("network.bytes", Compare::Greater, vec![Value::Number(100)]),
        ),
        (
            "network.bytes|gte: 100",
            of("network.bytes", Compare::AtLeast, vec![Value::Number(100)]),
        ),
        (
            "network.bytes|lt: 100",
            of("network.bytes", Compare::Less, vec![Value::Number(100)]),
        ),
        (
            "network.bytes|lte: 100",
            of("network.bytes", Compare::AtMost, vec![Value::Number(100)]),
        ),
        (
            "network.transport: TCP",
            of("network.transport", Compare::Equals, words(&["tcp"])),
        ),
        (
            "dns.question.name|contains: evil",
            of("dns.question.name", Compare::Contains, words(&["evil"])),
        ),
        (
            "dns.question.name|startswith: evil",
            of("dns.question.name", Compare::StartsWith, words(&["evil"])),
        ),
        (
            "dns.question.name|endswith: .evil",
            of("dns.question.name", Compare::EndsWith, words(&[".evil"])),
        ),
        (
            "dns.question.name: '*.evil.?'",
            of("dns.question.name", Compare::Like, words(&["*.evil.?"])),
        ),
        (
            "dns.question.name|contains: 'a*b'",
            of("dns.question.name", Compare::Like, words(&["*a*b*"])),
        ),
        (
            "dns.question.name: 'a\\*b'",
            of("dns.question.name", Compare::Equals, words(&["a*b"])),
        ),
        (
            "dns.question.name: 5",
            of("dns.question.name", Compare::Equals, words(&["5"])),
        ),
        (
            "dns.question.name|exists: false",
            of("dns.question.name", Compare::Exists, vec![Value::Truth(false)]),
        ),
        (
            "destination.port|neq: 22",
            Test::All(vec![
                of("destination.port", Compare::Exists, vec![Value::Truth(true)]),
                Test::Not(Box::new(of(
                    "destination.port",
                    Compare::Equals,
                    vec![Value::Number(22)],
                ))),
            ]),
        ),
        (
            "dns.question.name: ['a', 'b*']",
            Test::Any(vec![
                of("dns.question.name", Compare::Equals, words(&["a"])),
                of("dns.question.name", Compare::Like, words(&["b*"])),
            ]),
        ),
        (
            "dns.question.name|contains|all: ['a', 'b']",
            Test::Field(FieldTest {
                field: "dns.question.name".into(),
                compare: Compare::Contains,
                values: words(&["a", "b"]),
                all: true,
            }),
        ),
    ] {
        assert_eq!(test(&format!("  s:\n    {line}"), "s"), want, "{line}");
    }
}

#[test]
fn conditions_join_selections() {
    let port = |port| of("destination.port", Compare::Equals, vec![Value::Number(port)]);
    let selections = "  a_1:\n    destination.port: 1\n  a_2:\n    destination.port: 2\n  b:\n    - destination.port: 3\n    - destination.port: \
                      4\n      tcp.syn: true";
    let syn = of("tcp.syn", Compare::Equals, vec![Value::Truth(true)]);
    let b = Test::Any(vec![port(3), Test::All(vec![port(4), syn])]);
    for (condition, want) in [
        (
            "1 of a_* and not b",
            Test::All(vec![
                Test::Any(vec![port(1), port(2)]),
                Test::Not(Box::new(b.clone())),
            ]),
        ),
        (
            "all of a_* or b",
            Test::Any(vec![Test::All(vec![port(1), port(2)]), b.clone()]),
        ),
        ("any of them", Test::Any(vec![port(1), port(2), b.clone()])),
        (
            "a_1 or a_2 and b",
            Test::Any(vec![port(1), Test::All(vec![port(2), b.clone()])]),
        ),
        (
            "(a_1 or a_2) and b",
            Test::All(vec![Test::Any(vec![port(1), port(2)]), b]),
        ),
    ] {
        assert_eq!(test(selections, condition), want, "{condition}");
    }
}

const SWEEP: &str = "title: Attempts
name: attempts
logsource:
    category: connection
detection:
    selection:
        connection.outcome: [refused, unanswered]
    condition: selection
---
title: Sweep of {hosts}
id: 1fb7a3f2-6d5e-4a38-b7f5-2f9f0a4f8d11
name: sweep
level: critical
status: test
description: |
    detection: this is text
correlation:
    type: value_count
    rules: attempts
    group-by: [source.ip, destination.port]
    timespan: 5m
    condition:
        field: destination.ip
        gt: 24
custom_attributes:
    watchfold.category: scan
    watchfold.subject: source.ip
    watchfold.cooldown: 1m
    watchfold.version: 3
watchfold.reputation: source.ip
watchfold.state: record
watchfold.message: '{source.ip} failed at {observed} of {threshold} in {window}'
watchfold.exclude:
    - source.ip|cidr: 10.0.0.0/8
      destination.port: 22
";

#[test]
fn a_correlation_becomes_a_rule_whole() {
    let attempts = of(
        "connection.outcome",
        Compare::Equals,
        words(&["refused", "unanswered"]),
    );
    let mut want = Rule {
        id: "1fb7a3f2-6d5e-4a38-b7f5-2f9f0a4f8d11".into(),
        name: "sweep".into(),
        title: "Sweep of {hosts}".into(),
        version: 3,
        category: "scan".into(),
        severity: Severity::Critical,
        state: RuleState::Record,
        source: Source::Connection,
        test: attempts,
        exclusions: vec![
            Test::All(vec![
                of("source.ip", Compare::Cidr, words(&["10.0.0.0/8"])),
                of("destination.port", Compare::Equals, vec![Value::Number(22)]),
            ])
            .into(),
        ],
        trigger: Trigger::Distinct {
            field: "destination.ip".into(),
            group_by: vec!["source.ip".into(), "destination.port".into()],
            window_ms: 300_000,
            at_least: 25,
        },
        subject: vec!["source.ip".into()],
        cooldown_ms: 60_000,
        reputation: Some("source.ip".into()),
        counts_duplicates: false,
        withdrawn_by: None,
        message: "{source.ip} failed at {observed} of {threshold} in {window}".into(),
    };
    assert_eq!(read(SWEEP).unwrap().rules, [want.clone()]);
    let without: Vec<&str> = SWEEP
        .lines()
        .filter(|line| !line.contains("watchfold."))
        .collect();
    let without = without
        .join("\n")
        .replace("custom_attributes:\n", "")
        .split("    - source")
        .next()
        .unwrap()
        .to_owned();
    let bare = without.replace("    - source.ip|cidr: 10.0.0.0/8\n", "");
    want.version = 1;
    want.category = "sweep".into();
    want.state = RuleState::Enforce;
    want.exclusions.clear();
    want.subject = vec!["source.ip".into(), "destination.port".into()];
    want.cooldown_ms = 15_000;
    want.reputation = None;
    want.message = "Sweep of hosts: {source.ip} {destination.port}".into();
    let got = read(bare.trim_end_matches("      destination.port: 22"))
        .unwrap_or_else(|problems| panic!("{problems:#?}\n{bare}"));
    assert_eq!(got.rules, [want]);
}

#[test]
fn a_detection_fires_by_itself_unless_only_correlations_name_it() {
    let names = |text: &str| -> Vec<String> {
        read(text)
            .unwrap()
            .rules
            .into_iter()
            .map(|rule| rule.name)
            .collect()
    };
    let alone = SWEEP
        .split("---")
        .next()
        .unwrap()
        .replace("name: attempts", "level: low");
    assert_eq!(names(&alone), ["attempts"]);
    assert_eq!(names(SWEEP), ["sweep"]);
    let both = SWEEP
        .replace("title: Attempts", "title: Attempts\nlevel: low")
        .replace(
            "    type: value_count",
            "    generate: true\n    type: value_count",
        );
    assert_eq!(names(&both), ["attempts", "sweep"]);
    let top = both
        .replace("    generate: true\n", "")
        .replace("custom_attributes:", "generate: true\ncustom_attributes:");
    assert_eq!(names(&top), ["attempts", "sweep"]);
}

#[test]
fn a_scaled_number_is_the_trigger_and_no_part_of_the_test() {
    let text = "title: T\nlevel: low\nlogsource:\n  category: packet\ndetection:\n  s:\n    dns.question.length|gte: 50\n    dns.response: \
                false\n  condition: s\nwatchfold.scaled: dns.question.length\n";
    let rule = read(text).unwrap().rules.remove(0);
    assert_eq!(
        rule.test,
        of("dns.response", Compare::Equals, vec![Value::Truth(false)])
    );
    let want = Trigger::Value {
        field: "dns.question.length".into(),
        at_least: 50,
    };
    assert_eq!(rule.trigger, want);
}

#[test]
fn references_reach_into_other_files() {
    let (base, correlation) = SWEEP.split_once("---\n").unwrap();
    let files = Files::new(&[("z/base.yml", base), ("a.yml", correlation)]);
    assert_eq!(files.load().unwrap().rules, read(SWEEP).unwrap().rules);
}

fn document(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

#[test]
fn the_field_reference_is_the_table() {
    let path = document("fields.md");
    let want = watchfold_rules::field_reference();
    if std::env::var_os("WATCHFOLD_BLESS").is_some() {
        std::fs::write(&path, &want).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == want,
        "docs/fields.md is another than schemas/src/fields.rs; run this test with WATCHFOLD_BLESS=1"
    );
}

#[test]
fn the_examples_of_the_manual_load() {
    let text = std::fs::read_to_string(document("rules.md")).unwrap();
    let examples: Vec<&str> = text
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(
        examples.len() >= 2,
        "docs/rules.md has {} examples",
        examples.len()
    );
    for example in examples {
        let set = read(example).unwrap_or_else(|problems| panic!("{problems:#?}\n{example}"));
        assert!(!set.rules.is_empty(), "{example}");
    }
}
