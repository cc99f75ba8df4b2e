//! The `[rules]` section: what it makes of a set, and what it may not name.

use std::path::Path;

use watchfold_config::{Thresholds, Window};
use watchfold_rules::{Found, PackName, RulesConfig, RulesError, rule_set, trigger_in_words};
use watchfold_schemas::rules::{Compare, FieldTest, Rule, RuleState, Test, Value};

use super::{excluded, text};

fn config(set: &str) -> RulesConfig {
    RulesConfig {
        set: set.into(),
        ..RulesConfig::default()
    }
}

fn rule(config: &RulesConfig, name: &str) -> Rule {
    let set = rule_set(config, Path::new(".")).unwrap();
    set.rules.into_iter().find(|rule| rule.name == name).unwrap()
}

fn problems(config: &RulesConfig) -> Vec<String> {
    match rule_set(config, Path::new(".")) {
        Err(RulesError::Section(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_old_key_changes_its_rule_in_both_packs() {
    let cases: [(&str, Thresholds, &str); 11] = [
        (
            "port_scan",
            Thresholds {
                port_scan_threshold: Some(7),
                ..Thresholds::default()
            },
            "7 different",
        ),
        (
            "port_scan",
            Thresholds {
                port_scan_window: Some(Window(7_000)),
                ..Thresholds::default()
            },
            "in 7s",
        ),
        (
            "syn_flood",
            Thresholds {
                syn_flood_threshold: Some(7),
                ..Thresholds::default()
            },
            "7 rows",
        ),
        (
            "syn_flood",
            Thresholds {
                syn_flood_window: Some(Window(7_000)),
                ..Thresholds::default()
            },
            "in 7s",
        ),
        (
            "icmp_flood",
            Thresholds {
                icmp_flood_threshold: Some(7),
                ..Thresholds::default()
            },
            "7 rows",
        ),
        (
            "icmp_flood",
            Thresholds {
                icmp_flood_window: Some(Window(7_500)),
                ..Thresholds::default()
            },
            "in 7500ms",
        ),
        (
            "exfiltration",
            Thresholds {
                exfil_threshold: Some(7),
                ..Thresholds::default()
            },
            "up to 7 in",
        ),
        (
            "exfiltration",
            Thresholds {
                exfil_window: Some(Window(7_200_000)),
                ..Thresholds::default()
            },
            "in 2h",
        ),
        (
            "brute_force",
            Thresholds {
                brute_force_threshold: Some(7),
                ..Thresholds::default()
            },
            "7 rows",
        ),
        (
            "brute_force",
            Thresholds {
                brute_force_window: Some(Window(420_000)),
                ..Thresholds::default()
            },
            "in 7m",
        ),
        (
            "dns_tunnel",
            Thresholds {
                dns_tunnel_threshold: Some(77),
                ..Thresholds::default()
            },
            "77",
        ),
    ];
    for (name, thresholds, want) in cases {
        for pack in PackName::ALL {
            let config = RulesConfig {
                thresholds: thresholds.clone(),
                ..config(pack.name())
            };
            let rule = rule(&config, name);
            let told = format!(
                "{} {}",
                trigger_in_words(&rule.trigger),
                watchfold_rules::test_in_words(&rule.test)
            );
            assert!(told.contains(want), "{pack} {name}: {want:?} is not in {told:?}");
        }
    }
}

#[test]
fn ports_cooldown_states_and_exclusions_are_folded_in() {
    let config = RulesConfig {
        thresholds: Thresholds {
            suspicious_ports: Some(vec![1_234]),
            ..Thresholds::default()
        },
        alert_cooldown_ms: Some(60_000),
        states: [("port_scan".to_owned(), RuleState::Record)].into(),
        exclude: vec![excluded(
            "port_scan",
            &[
                ("source.ip", text("10.9.8.7/8")),
                ("destination.ip", text("2001:DB8::1")),
                ("destination.port", Value::Number(22)),
            ],
        )],
        ..config("classic")
    };
    let set = rule_set(&config, Path::new(".")).unwrap();
    assert!(set.rules.iter().all(|rule| rule.cooldown_ms == 60_000));
    let ports = |name| watchfold_rules::test_in_words(&rule(&config, name).test);
    assert_eq!(ports("suspicious_port_source"), "source.port is 1234");
    assert_eq!(
        ports("suspicious_port_destination"),
        "destination.port is 1234 and not (source.port is 1234)"
    );
    let scan = rule(&config, "port_scan");
    assert_eq!(scan.state, RuleState::Record);
    let field = |field: &str, compare, value| {
        Test::Field(FieldTest {
            field: field.into(),
            compare,
            values: vec![value],
            all: false,
        })
    };
    let want = Test::All(vec![
        field("source.ip", Compare::Cidr, Value::Text("10.0.0.0/8".into())),
        field(
            "destination.ip",
            Compare::Equals,
            Value::Text("2001:db8::1".into()),
        ),
        field("destination.port", Compare::Equals, Value::Number(22)),
    ]);
    assert_eq!(scan.exclusions, [want.into()]);
}

#[test]
fn wrong_names_are_told_with_what_was_meant() {
    let config = RulesConfig {
        states: [("port_scn".to_owned(), RuleState::Off)].into(),
        exclude: vec![
            excluded("syn_flod", &[("destination.ip", text("10.0.0.1"))]),
            excluded("neighbour_changed", &[("destination.port", Value::Number(22))]),
        ],
        ..config("default")
    };
    let told = problems(&config);
    assert_eq!(told.len(), 3, "{told:?}");
    for (told, want) in told.iter().zip([
        "did you mean `port_scan`?",
        "did you mean `syn_flood`?",
        "neighbour rows have no `destination.port`",
    ]) {
        assert!(told.contains(want), "{want:?} is not in {told:?}");
    }
    let away = rule_set(&config_of_directory(), Path::new("/no/such/place"))
        .unwrap_err()
        .to_string();
    assert!(away.contains("/no/such/place/rules"), "{away}");
}

fn config_of_directory() -> RulesConfig {
    config("rules")
}

#[test]
fn old_keys_without_their_rule_are_refused() {
    let files = super::Files::new(&[(
        "a.yml",
        "title: T\nname: port_scan\nlevel: low\nlogsource:\n  category: packet\ndetection:\n  s:\n    tcp.syn: true\n  condition: s\n",
    )]);
    let config = RulesConfig {
        thresholds: Thresholds {
            port_scan_threshold: Some(3),
            syn_flood_window: Some(Window(1_000)),
            suspicious_ports: Some(vec![1]),
            ..Thresholds::default()
        },
        ..config(&files.0.display().to_string())
    };
    let told = problems(&config);
    for (told, want) in told
        .iter()
        .zip(["has no such number", "no rule `syn_flood`", "no rule of category"])
    {
        assert!(told.contains(want), "{want:?} is not in {told:?}");
    }
    assert_eq!(told.len(), 3);
}

#[test]
fn surroundings_are_what_is_given_or_found() {
    let found = Found {
        own_ports: vec![8_737, 80, 80],
        own_addresses: vec!["10.0.0.2".parse().unwrap(), "10.0.0.1".parse().unwrap()],
        gateways: vec!["10.0.0.254".parse().unwrap()],
        lookups: true,
    };
    let mut config = config("default");
    let told = config.surroundings(&found);
    assert_eq!(
        (told.own_ports, told.own_addresses),
        (
            vec![80, 8_737],
            vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()]
        )
    );
    assert_eq!(
        (told.gateways, told.lookups),
        (vec!["10.0.0.254".to_owned()], true)
    );
    config.gateways = vec!["10.0.0.1".into()];
    assert_eq!(config.surroundings(&found).gateways, ["10.0.0.1"]);
}
