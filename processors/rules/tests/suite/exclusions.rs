//! What `[[rules.exclude]]` makes a rule pass over: rows, before they are counted, and nothing beside them.

use watchfold_rules::{PackName, RuleSource, RulesConfig, RulesError, fold_in, load};
use watchfold_schemas::rules::{RuleSet, Value};
use watchfold_schemas::{Span, Time};

use super::story::{BEGIN_MS, Packet, SYN, Told, arp, dns, fold, tcp};
use super::{excluded, text};

const PC: &str = "192.168.1.20";
const RESOLVER: &str = "192.168.1.1:53";

fn pack() -> RuleSet {
    load(&RuleSource::Pack(PackName::Default)).unwrap()
}

fn under(rule: &str, fields: &[(&str, Value)]) -> Result<RuleSet, RulesError> {
    let config = RulesConfig {
        exclude: vec![excluded(rule, fields)],
        ..RulesConfig::default()
    };
    fold_in(&config, pack())
}

/// Thirty TXT questions for random names below a zone, one a second.
fn tunnel(zone: &str, from_s: usize) -> Vec<Packet> {
    let names = (0..30).map(|number| {
        let hash = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{hash:016x}{:016x}zq.{zone}", hash.rotate_left(17))
    });
    names
        .enumerate()
        .map(|(number, name)| {
            let at = (from_s + number) as f64 * 1_000.0;
            dns(at, &format!("{PC}:40000"), RESOLVER, &name, 16, false)
        })
        .collect()
}

fn subjects(rules: &RuleSet, packets: &[Packet]) -> Vec<String> {
    let outcome = fold(rules, packets, &Told::default());
    let mut subjects: Vec<String> = outcome
        .alerts()
        .iter()
        .map(|alert| alert.subject.clone())
        .collect();
    subjects.sort();
    subjects.dedup();
    subjects
}

#[test]
fn lookups_of_reputation_are_silent_and_a_tunnel_beside_them_is_not() {
    let tunnelled = [format!("{PC} example.com")];
    for zone in [
        "c.f.avcloud.e5.sk",
        "v1.sophosxl.net",
        "avqs.mcafee.com",
        "malware.hash.cymru.com",
        "key.dbl.dq.spamhaus.net",
    ] {
        assert_eq!(subjects(&pack(), &tunnel(zone, 0)), [""; 0], "{zone}");
        let both: Vec<Packet> = tunnel(zone, 0)
            .into_iter()
            .chain(tunnel("t.example.com", 31))
            .collect();
        assert_eq!(subjects(&pack(), &both), tunnelled, "{zone}");
    }
    // A zone that only looks like one of the list.
    assert_eq!(
        subjects(&pack(), &tunnel("avqs.mcafee.com.example.com", 0)),
        tunnelled
    );
    assert_eq!(
        subjects(&pack(), &tunnel("notsophosxl.net", 0)),
        [format!("{PC} notsophosxl.net")]
    );
}

#[test]
fn one_zone_is_excluded_and_its_client_is_not() {
    let mut config = RulesConfig::default();
    for rule in ["dns_tunnel", "dns_tunnel_types", "dns_many_names"] {
        config
            .exclude
            .push(excluded(rule, &[("dns.question.zone", text("example.org"))]));
    }
    let rules = fold_in(&config, pack()).unwrap();
    let both: Vec<Packet> = tunnel("a.example.org", 0)
        .into_iter()
        .chain(tunnel("a.example.com", 31))
        .collect();
    assert_eq!(subjects(&rules, &both), [format!("{PC} example.com")]);
}

#[test]
fn values_fit_the_kind_of_their_field() {
    for (rule, key, value) in [
        ("dns_tunnel", "dns.question.name", text("*.example.org")),
        ("dns_tunnel", "dns.question.name|endswith", text(".example.org")),
        ("dns_tunnel", "dns.question.type", Value::Number(16)),
        ("dns_tunnel", "network.vlan.id", Value::Number(20)),
        ("dns_tunnel", "source.ip", text("192.168.0.0/16")),
        ("dns_tunnel", "source.ip|cidr", text("2001:db8::/32")),
        ("dns_tunnel", "dns.question.length|lte", Value::Number(30)),
        ("neighbour_changed", "neighbour.mac", text("02-00-5E-10-00-01")),
        ("neighbour_changed", "neighbour.gateway", Value::Truth(false)),
        ("neighbour_changed", "neighbour.message", text("gratuitous")),
    ] {
        let rules = under(rule, &[(key, value)]).unwrap_or_else(|error| panic!("{key}: {error}"));
        let excluded = rules.rules.iter().find(|one| one.name == rule).unwrap();
        assert!(!excluded.exclusions.is_empty(), "{key}");
    }
}

#[test]
fn what_does_not_fit_names_its_line_and_what_to_write() {
    for (rule, key, value, words) in [
        (
            "dns_tunel",
            "source.ip",
            text("10.0.0.1"),
            "watchfold.toml:6: rules.exclude of `dns_tunel`: the set `default` has no rule `dns_tunel`; did you mean `dns_tunnel`?",
        ),
        (
            "dns_tunnel",
            "neighbour.mac",
            text("02:00:00:00:00:01"),
            "watchfold.toml:7: rules.exclude of `dns_tunnel`: packet rows have no `neighbour.mac`; they have source.ip",
        ),
        (
            "dns_tunnel",
            "dns.question.type",
            text("TXT"),
            "watchfold.toml:7: rules.exclude of `dns_tunnel`: `dns.question.type` is a number",
        ),
        (
            "dns_tunnel",
            "network.vlan.id",
            Value::Number(4_095),
            "it is from 0 to 4094",
        ),
        (
            "dns_tunnel",
            "source.ip",
            text("192.168.1"),
            "`source.ip` is an address",
        ),
        (
            "dns_tunnel",
            "dns.question.zone|re",
            text(".*"),
            "`re` of Sigma is not supported",
        ),
        (
            "dns_tunnel",
            "dns.question.zone|endwith",
            text(".org"),
            "did you mean `endswith`?",
        ),
        (
            "dns_tunnel",
            "dns.question.zone|expand",
            text("%zones%"),
            "there are `%dns_reputation_zones%`",
        ),
    ] {
        let error = under(rule, &[(key, value)]).unwrap_err().to_string();
        assert!(error.contains(words), "{words:?} is not in {error:?}");
    }
    // One mistake hides no other.
    let several = [
        ("neighbour.mac", text("02:00:00:00:00:01")),
        ("network.vlan.id", Value::Number(9_000)),
    ];
    let error = under("dns_tunnel", &several).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 2, "{error}");
}

#[test]
fn addresses_and_networks_of_one_key_are_both_excluded() {
    let mut exclusion = excluded("port_scan", &[("source.ip", text("192.168.1.20"))]);
    exclusion.fields[0].values.push(text("10.0.0.0/8"));
    let config = RulesConfig {
        exclude: vec![exclusion],
        ..RulesConfig::default()
    };
    let rules = fold_in(&config, pack()).unwrap();
    let scan = |from: &str| -> Vec<Packet> {
        (0..40)
            .map(|port| {
                let at = f64::from(port) * 100.0;
                tcp(
                    at,
                    &format!("{from}:40000"),
                    &format!("192.168.1.9:{}", 1_000 + port),
                    SYN,
                )
            })
            .collect()
    };
    for (from, want) in [(PC, false), ("10.1.2.3", false), ("192.168.1.21", true)] {
        let outcome = fold(&rules, &scan(from), &Told::default());
        let fired = outcome.fired().iter().any(|(_, rule)| rule == "port_scan");
        assert_eq!(fired, want, "{from}");
    }
}

#[test]
fn a_hardware_address_is_excluded_alone() {
    let rules = under(
        "neighbour_changed",
        &[("neighbour.mac", text("02:00:00:00:00:02"))],
    )
    .unwrap();
    let changes = |mac: u8| {
        [
            arp(0.0, 2, "192.168.1.30", 1, PC),
            arp(1_000.0, 2, "192.168.1.30", mac, PC),
        ]
    };
    let fired = |rules: &RuleSet, mac| fold(rules, &changes(mac), &Told::default()).fired().len();
    assert_eq!((fired(&pack(), 2), fired(&pack(), 3)), (1, 1));
    assert_eq!((fired(&rules, 2), fired(&rules, 3)), (0, 1));
}

#[test]
fn an_exclusion_ends_by_the_time_of_the_packets() {
    let begin = Time::from_millis(BEGIN_MS);
    let until = |seconds| {
        let mut config = RulesConfig::default();
        for rule in ["dns_tunnel", "dns_tunnel_types"] {
            let mut exclusion = excluded(rule, &[("dns.question.zone", text("example.com"))]);
            exclusion.until = Some(begin + Span::from_seconds(seconds));
            config.exclude.push(exclusion);
        }
        let rules = fold_in(&config, pack()).unwrap();
        let outcome = fold(&rules, &tunnel("example.com", 0), &Told::default());
        outcome.fired().first().map(|(at, _)| at.round() as i64)
    };
    // Twenty names after the end make it fire, and none before does.
    assert_eq!(until(0), Some(19_000));
    assert_eq!(until(5), Some(24_000));
    assert_eq!(until(10), Some(29_000));
    assert_eq!(until(11), None);
}
