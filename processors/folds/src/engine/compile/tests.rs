//! What compiles, and what is said of the rest.

use super::*;
use crate::engine::cell::Cell;
use watchfold_schemas::event::Severity;
use watchfold_schemas::rules::{Compare, Value};

fn field(name: &str, compare: Compare, value: Value) -> Test {
    Test::Field(FieldTest {
        field: name.to_owned(),
        compare,
        values: vec![value],
        all: false,
    })
}

fn rule(name: &str) -> Rule {
    Rule {
        id: name.to_owned(),
        name: name.to_owned(),
        title: String::new(),
        version: 1,
        category: "test".to_owned(),
        severity: Severity::High,
        state: RuleState::Enforce,
        source: Source::Packet,
        test: field("destination.port", Compare::Equals, Value::Number(22)),
        exclusions: Vec::new(),
        trigger: Trigger::Each,
        subject: vec!["source.ip".to_owned()],
        cooldown_ms: 15_000,
        reputation: None,
        counts_duplicates: false,
        withdrawn_by: None,
        message: String::new(),
    }
}

fn set(rules: Vec<Rule>) -> RuleSet {
    RuleSet {
        name: "tests".to_owned(),
        rules,
    }
}

struct Packet(i64, Option<bool>);

impl Row for Packet {
    fn cell(&self, field: Field) -> Option<Cell<'_>> {
        match field {
            Field::DestinationPort => Some(Cell::Number(self.0)),
            Field::TcpSyn => self.1.map(Cell::Truth),
            _ => None,
        }
    }
}

fn check(test: Test, exclusions: Vec<Test>, row: &Packet, want: bool) {
    let rule = Rule {
        test,
        exclusions: exclusions.into_iter().map(Exclusion::from).collect(),
        ..rule("one")
    };
    let compiled = compile(&set(vec![rule])).unwrap();
    assert_eq!(
        compiled.holds(&compiled.rules[0], row, Time::EPOCH),
        want,
        "{:?}",
        compiled.rules[0].condition
    );
}

#[test]
fn conditions_are_made_of_all_any_not_and_exclusions() {
    let port = |port| field("destination.port", Compare::Equals, Value::Number(port));
    let syn = |truth| field("tcp.syn", Compare::Equals, Value::Truth(truth));
    let not = |test| Test::Not(Box::new(test));
    let row = Packet(22, Some(true));
    check(Test::All(vec![port(22), syn(true)]), vec![], &row, true);
    check(Test::All(vec![port(22), syn(false)]), vec![], &row, false);
    check(Test::Any(vec![port(23), syn(true)]), vec![], &row, true);
    check(Test::Any(vec![port(23), syn(false)]), vec![], &row, false);
    check(Test::All(vec![]), vec![], &row, true);
    check(Test::Any(vec![]), vec![], &row, false);
    check(not(port(23)), vec![], &row, true);
    check(not(port(22)), vec![], &row, false);
    check(port(22), vec![port(80), syn(true)], &row, false);
    check(port(22), vec![port(80), syn(false)], &row, true);
    let udp = Packet(53, None);
    check(syn(false), vec![], &udp, false);
    check(not(syn(true)), vec![], &udp, true);
    check(
        field("tcp.syn", Compare::Exists, Value::Truth(false)),
        vec![],
        &udp,
        true,
    );
}

#[test]
fn an_exclusion_ends_at_its_instant_by_the_time_of_the_row() {
    let port = |port| field("destination.port", Compare::Equals, Value::Number(port));
    let until = Time::from_seconds(100);
    let excluded = Rule {
        test: port(22),
        exclusions: vec![Exclusion {
            reason: Some("a scanner of ours".into()),
            until: Some(until),
            ..port(22).into()
        }],
        ..rule("one")
    };
    let compiled = compile(&set(vec![excluded.clone()])).unwrap();
    for (at, want) in [
        (Time(until.0 - 1), false),
        (until, true),
        (Time(until.0 + 1), true),
    ] {
        let holds = compiled.holds(&compiled.rules[0], &Packet(22, None), at);
        assert_eq!(holds, want, "{at}");
    }
    // Another reason counts no other rows; another end does.
    let mut other = excluded.clone();
    other.exclusions[0].reason = None;
    assert!(judges_alike(&excluded, &other));
    other.exclusions[0].until = None;
    assert!(!judges_alike(&excluded, &other));
}

#[test]
fn checks_and_groups_that_rules_share_are_compiled_once() {
    let counted = |name: &str, state| Rule {
        state,
        trigger: Trigger::Count {
            group_by: vec!["source.ip".to_owned()],
            window_ms: 1_000,
            at_least: 10,
        },
        ..rule(name)
    };
    let rules = vec![
        counted("one", RuleState::Enforce),
        counted("two", RuleState::Record),
        counted("three", RuleState::Off),
    ];
    let compiled = compile(&set(rules)).unwrap();
    assert_eq!(
        (compiled.leaves.len(), compiled.groups.len(), compiled.rules.len()),
        (1, 1, 2)
    );
    assert!(compiled.reads(Source::Packet, Field::DestinationPort));
    assert!(!compiled.reads(Source::Packet, Field::PayloadText));
    assert_eq!(compiled.rules[1].reference.set, "tests");
    assert_eq!(compiled.rules[0].quiet_after(), Span::from_seconds(15));
}

#[test]
fn what_cannot_be_compiled_is_named_with_its_rule_and_field() {
    let count = |group_by: &[&str], window_ms, at_least| Trigger::Count {
        group_by: group_by.iter().map(|name| (*name).to_owned()).collect(),
        window_ms,
        at_least,
    };
    type Change = fn(&mut Rule);
    let changes: [(Change, &str); 10] = [
        (
            |rule| rule.test = field("destination.prot", Compare::Equals, Value::Number(1)),
            "destination.prot: there is no such field",
        ),
        (
            |rule| rule.test = field("neighbour.mac", Compare::Equals, Value::Number(1)),
            "a packet has no such field",
        ),
        (
            |rule| rule.test = field("destination.port", Compare::Like, Value::Number(1)),
            "does not fit a number",
        ),
        (
            |rule| rule.exclusions = vec![field("nothing", Compare::Equals, Value::Number(1)).into()],
            "nothing: there is no such field",
        ),
        (
            |rule| rule.subject = vec!["nobody".to_owned()],
            "nobody: there is no such field",
        ),
        (
            |rule| rule.reputation = Some("source.port".to_owned()),
            "addresses and names alone",
        ),
        (|rule| rule.message = "{who}".to_owned(), "is no field"),
        (
            |rule| rule.subject = vec!["source.ip".to_owned(); 5],
            "4 are the most",
        ),
        (
            |rule| {
                rule.trigger = Trigger::Value {
                    field: "source.ip".to_owned(),
                    at_least: 1,
                }
            },
            "it is no number",
        ),
        (
            |rule| {
                let deep = (0..40).fold(Test::All(Vec::new()), |test, _| Test::Not(Box::new(test)));
                rule.test = deep;
            },
            "nested deeper",
        ),
    ];
    for (change, want) in changes {
        let mut rule = rule("broken");
        change(&mut rule);
        check_problem(vec![rule], want);
    }
    for (trigger, want) in [
        (count(&["source.ip"], 0, 1), "its window is 0 ms"),
        (count(&["source.ip"], WINDOW_MS_MAX + 1, 1), "its window is"),
        (count(&["source.ip"], 1, 0), "its threshold is 0"),
        (count(&["source.ip"], 1, THRESHOLD_MAX + 1), "its threshold is"),
        (
            count(&["ping.target"], 1, 1),
            "ping.target: a packet has no such field",
        ),
    ] {
        check_problem(
            vec![Rule {
                trigger,
                ..rule("broken")
            }],
            want,
        );
    }
    check_problem(vec![rule("broken"), rule("broken")], "the same name");
}

fn check_problem(rules: Vec<Rule>, want: &str) {
    let problems = rules_problems(&set(rules));
    assert!(
        problems.iter().any(|problem| problem.to_string().contains(want)),
        "{want}: {problems:?}"
    );
    assert!(
        problems[0].to_string().starts_with("rule broken: "),
        "{problems:?}"
    );
}
