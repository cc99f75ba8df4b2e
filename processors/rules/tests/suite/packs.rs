//! What ships: it loads, its rules have the numbers that they are known for, and no name or id is in both packs by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use watchfold_config::HEAD_PORTS;
use watchfold_rules::{PackName, RuleSource, load, trigger_in_words};
use watchfold_schemas::event::Severity;
use watchfold_schemas::rules::{RuleSet, RuleState, Test, Value};

static PACKS: LazyLock<BTreeMap<PackName, RuleSet>> = LazyLock::new(|| {
    let loaded = |name| load(&RuleSource::Pack(name)).unwrap_or_else(|error| panic!("{error}"));
    PackName::ALL
        .into_iter()
        .map(|name| (name, loaded(name)))
        .collect()
});

pub fn pack(name: PackName) -> RuleSet {
    PACKS[&name].clone()
}

#[test]
fn the_classic_rules_are_those_of_before() {
    let set = pack(PackName::Classic);
    let rules: Vec<(&str, Severity, String, String, Option<&str>)> = set
        .rules
        .iter()
        .map(|rule| {
            let subject = rule.subject.join(" ");
            (
                rule.name.as_str(),
                rule.severity,
                trigger_in_words(&rule.trigger),
                subject,
                rule.reputation.as_deref(),
            )
        })
        .collect();
    let row = |name, severity, trigger: &str, subject: &str, reputation| {
        (name, severity, trigger.to_owned(), subject.to_owned(), reputation)
    };
    let source = Some("source.ip");
    assert_eq!(
        rules,
        [
            row("arp_spoofing", Severity::Critical, "each row", "source.ip", None),
            row(
                "brute_force",
                Severity::High,
                "30 rows in 30s of one source.ip and destination.port",
                "source.ip",
                source
            ),
            row(
                "dns_tunnel",
                Severity::Medium,
                "dns.question.length of 50 or more",
                "source.ip",
                Some("dns.question.name")
            ),
            row(
                "exfiltration",
                Severity::High,
                "network.bytes adding up to 5000000 in 1m of one source.ip",
                "source.ip",
                Some("destination.ip")
            ),
            row(
                "icmp_flood",
                Severity::High,
                "100 rows in 5s of one source.ip",
                "source.ip",
                source
            ),
            row(
                "port_scan",
                Severity::High,
                "15 different destination.port in 10s of one source.ip",
                "source.ip",
                source
            ),
            row(
                "suspicious_port_destination",
                Severity::Medium,
                "each row",
                "source.ip destination.port",
                Some("external.ip")
            ),
            row(
                "suspicious_port_source",
                Severity::Medium,
                "each row",
                "source.ip source.port",
                Some("external.ip")
            ),
            row(
                "syn_flood",
                Severity::Critical,
                "200 rows in 5s of one source.ip",
                "source.ip",
                source
            ),
        ]
    );
    assert!(
        set.rules
            .iter()
            .all(|rule| rule.cooldown_ms == 15_000 && rule.state == RuleState::Enforce)
    );
}

#[test]
fn every_rule_has_an_id_of_its_own() {
    let mut seen = BTreeMap::new();
    for pack_name in PackName::ALL {
        let set = pack(pack_name);
        assert_eq!(set.name, pack_name.name());
        for rule in &set.rules {
            assert_ne!(rule.id, rule.name, "{} has no id", rule.name);
            let other = seen.insert(rule.id.clone(), rule.name.clone());
            assert_eq!(other, None, "the id of {}", rule.name);
        }
    }
}

#[test]
fn the_default_pack_has_what_the_classic_one_looks_for() {
    let categories = |name| {
        pack(name)
            .rules
            .into_iter()
            .map(|rule| rule.category)
            .collect::<BTreeSet<_>>()
    };
    let (classic, default) = (categories(PackName::Classic), categories(PackName::Default));
    let missing: Vec<_> = classic.difference(&default).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Else the rule on the pools' protocol would never see it.
#[test]
fn where_mining_pools_listen_payloads_are_kept() {
    fn ports(test: &Test) -> Vec<i64> {
        match test {
            Test::All(tests) | Test::Any(tests) => tests.iter().flat_map(ports).collect(),
            Test::Not(_) => Vec::new(),
            Test::Field(test) if test.field != "destination.port" => Vec::new(),
            Test::Field(test) => test
                .values
                .iter()
                .filter_map(|value| match value {
                    Value::Number(port) => Some(*port),
                    _ => None,
                })
                .collect(),
        }
    }
    let set = pack(PackName::Default);
    let rule = set.rules.iter().find(|rule| rule.name == "mining_port").unwrap();
    let named = ports(&rule.test);
    assert_eq!(named.len(), 9, "{named:?}");
    for port in named {
        assert!(HEAD_PORTS.map(i64::from).contains(&port), "{port}");
    }
}
