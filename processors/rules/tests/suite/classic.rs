//! The classic pack against packets: every threshold from both sides, every window at its edge, cooldowns, tiers, severities
//! and what an oracle is asked about.

use watchfold_rules::PackName;
use watchfold_schemas::alert::Tier;
use watchfold_schemas::event::Severity;

use super::packs::pack;
use super::story::{ACK, Outcome, Packet, RST, SYN, Told, arp, dns, echo, fold, tcp, udp};

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";

fn classic(packets: &[Packet]) -> Outcome {
    fold(&pack(PackName::Classic), packets, &Told::default())
}

/// These alerts come of a story: milliseconds and rule.
#[track_caller]
fn check(packets: &[Packet], want: &[(f64, &str)]) {
    let want: Vec<(f64, String)> = want.iter().map(|(at, rule)| (*at, (*rule).to_owned())).collect();
    assert_eq!(classic(packets).fired(), want);
}

fn end(address: &str, port: usize) -> String {
    format!("{address}:{port}")
}

/// TCP packets to so many ports, this far apart; ports that no other rule knows.
fn ports(count: usize, apart_ms: f64, flags: u8) -> Vec<Packet> {
    let packet = |number: usize| {
        tcp(
            number as f64 * apart_ms,
            &end(A, 40_000),
            &end(B, 600 + number),
            flags,
        )
    };
    (0..count).map(packet).collect()
}

fn at(packet: Packet, ms: f64) -> Packet {
    packet.moved_to(ms)
}

fn syns(count: usize, apart_ms: f64) -> Vec<Packet> {
    let packet = |number| {
        tcp(
            number as f64 * apart_ms,
            &end(A, 40_000 + number),
            &end(B, 80),
            SYN,
        )
    };
    (0..count).map(packet).collect()
}

fn echoes(count: usize, apart_ms: f64) -> Vec<Packet> {
    (0..count)
        .map(|number| echo(number as f64 * apart_ms, A, B))
        .collect()
}

fn logins(count: usize, apart_ms: f64, port: usize) -> Vec<Packet> {
    let packet = |number| {
        tcp(
            number as f64 * apart_ms,
            &end(A, 40_000 + number),
            &end(B, port),
            SYN,
        )
    };
    (0..count).map(packet).collect()
}

fn name(length: usize) -> String {
    let zone = ".example.com";
    format!("{}{zone}", "a".repeat(length - zone.len()))
}

/// Packets of a private source that add up to so many bytes.
fn bytes(sum: u64, apart_ms: f64) -> Vec<Packet> {
    let full = sum / 50_000;
    let mut sizes = vec![50_000; full as usize];
    let rest = (sum % 50_000) as u16;
    sizes.extend((rest > 0).then_some(rest));
    let packet = |(number, size): (usize, u16)| {
        udp(number as f64 * apart_ms, "10.0.0.5:40000", "10.0.0.9:5000").of(size)
    };
    sizes.into_iter().enumerate().map(packet).collect()
}

#[test]
fn port_scan_at_fifteen_ports_in_ten_seconds() {
    check(&ports(14, 100.0, SYN), &[]);
    check(&ports(15, 100.0, SYN), &[(1_400.0, "port_scan")]);
    check(&ports(15, 100.0, ACK), &[(1_400.0, "port_scan")]);
    check(&ports(15, 100.0, RST | ACK), &[(1_400.0, "port_scan")]);
    // The first is exactly as old as the window, and a nanosecond older.
    let mut edge = ports(15, 100.0, SYN);
    edge[14] = at(edge[14].clone(), 10_000.0);
    check(&edge, &[(10_000.0, "port_scan")]);
    edge[14] = at(edge[14].clone(), 10_000.000_001);
    check(&edge, &[]);
    // The same port again keeps it young and counts once; UDP and another source count for nothing.
    let mut again = ports(14, 100.0, SYN);
    again.push(at(again[0].clone(), 1_500.0));
    check(&again, &[]);
    let mut other = ports(15, 100.0, SYN);
    other[7] = tcp(700.0, "192.0.2.77:40000", &end(B, 607), SYN);
    check(&other, &[]);
    other[7] = udp(700.0, &end(A, 40_000), &end(B, 607));
    check(&other, &[]);
}

#[test]
fn syn_flood_at_two_hundred_in_five_seconds() {
    check(&syns(199, 10.0), &[]);
    check(&syns(200, 10.0), &[(1_990.0, "syn_flood")]);
    let mut edge = syns(200, 10.0);
    edge[199] = at(edge[199].clone(), 5_000.0);
    check(&edge, &[(5_000.0, "syn_flood")]);
    edge[199] = at(edge[199].clone(), 5_000.000_001);
    check(&edge, &[]);
    let mut answered = syns(200, 10.0);
    answered[3] = tcp(30.0, &end(A, 80), &end(B, 40_003), SYN | ACK);
    check(&answered, &[]);
    // Whoever sends to many counts all the same.
    let many: Vec<Packet> = (0..200)
        .map(|number| {
            tcp(
                number as f64,
                &end(A, 40_000),
                &format!("192.0.2.{}:80", number % 250),
                SYN,
            )
        })
        .collect();
    check(&many, &[(199.0, "syn_flood")]);
}

#[test]
fn icmp_flood_at_a_hundred_in_five_seconds() {
    check(&echoes(99, 10.0), &[]);
    check(&echoes(100, 10.0), &[(990.0, "icmp_flood")]);
    let mut edge = echoes(100, 10.0);
    edge[99] = at(edge[99].clone(), 5_000.0);
    check(&edge, &[(5_000.0, "icmp_flood")]);
    edge[99] = at(edge[99].clone(), 5_000.000_001);
    check(&edge, &[]);
    let answers: Vec<Packet> = echoes(100, 10.0).into_iter().map(Packet::answering).collect();
    check(&answers, &[]);
}

#[test]
fn brute_force_at_thirty_in_thirty_seconds_for_each_port() {
    for port in [21, 22, 23, 25, 110, 143, 389, 445, 1433, 3306, 3389, 5432, 5900] {
        check(&logins(29, 100.0, port), &[]);
        check(&logins(30, 100.0, port), &[(2_900.0, "brute_force")]);
    }
    check(&logins(30, 100.0, 80), &[]);
    let mut edge = logins(30, 100.0, 22);
    edge[29] = at(edge[29].clone(), 30_000.0);
    check(&edge, &[(30_000.0, "brute_force")]);
    edge[29] = at(edge[29].clone(), 30_000.000_001);
    check(&edge, &[]);
    // Two ports are counted apart, any number of victims together.
    let mut two = logins(30, 100.0, 22);
    two[5] = tcp(500.0, &end(A, 40_005), &end(B, 23), SYN);
    check(&two, &[]);
    let victims: Vec<Packet> = (0..30)
        .map(|number| {
            tcp(
                f64::from(number),
                &end(A, 40_000),
                &format!("192.0.2.{}:22", number + 10),
                SYN,
            )
        })
        .collect();
    check(&victims, &[(29.0, "brute_force")]);
}

#[test]
fn suspicious_ports_on_either_side() {
    let listed = [
        1080, 2323, 4444, 5555, 6666, 6667, 6668, 6669, 8080, 8443, 8888, 9001, 9030, 12345, 31337, 54321,
        65535,
    ];
    for port in listed {
        let (away, back) = ("suspicious_port_destination", "suspicious_port_source");
        check(&[tcp(0.0, &end(A, 1_024), &end(B, port), ACK)], &[(0.0, away)]);
        check(&[udp(0.0, &end(A, 1_024), &end(B, port))], &[(0.0, away)]);
        check(&[tcp(0.0, &end(A, port), &end(B, 1_024), ACK)], &[(0.0, back)]);
        for near in [port - 1, port + 1]
            .into_iter()
            .filter(|near| !listed.contains(near) && *near < 65_536)
        {
            check(&[tcp(0.0, &end(A, 1_024), &end(B, near), ACK)], &[]);
        }
    }
    // The source's port is looked at first, and the port is part of what is silent.
    check(
        &[tcp(0.0, &end(A, 4_444), &end(B, 5_555), ACK)],
        &[(0.0, "suspicious_port_source")],
    );
    let twice = [
        tcp(0.0, &end(A, 1_024), &end(B, 4_444), ACK),
        tcp(1.0, &end(A, 1_024), &end(B, 4_444), ACK),
        tcp(2.0, &end(A, 1_024), &end(B, 5_555), ACK),
        tcp(3.0, &end(A, 4_444), &end(B, 1_024), ACK),
    ];
    check(
        &twice,
        &[
            (0.0, "suspicious_port_destination"),
            (2.0, "suspicious_port_destination"),
        ],
    );
}

#[test]
fn dns_tunnelling_at_fifty_characters_in_questions_and_answers() {
    let question = |length| dns(0.0, &end(A, 40_000), &end(B, 53), &name(length), 1, false);
    let answer = |length| dns(0.0, &end(B, 53), &end(A, 40_000), &name(length), 1, true);
    check(&[question(49)], &[]);
    check(&[question(50)], &[(0.0, "dns_tunnel")]);
    check(&[answer(49)], &[]);
    check(&[answer(50)], &[(0.0, "dns_tunnel")]);
    assert_eq!(classic(&[answer(50)]).alerts()[0].subject, B);
    assert_eq!(classic(&[question(50)]).alerts()[0].measured.observed, 50);
}

#[test]
fn exfiltration_at_five_million_bytes_in_a_minute() {
    check(&bytes(4_999_999, 10.0), &[]);
    check(&bytes(5_000_000, 10.0), &[(990.0, "exfiltration")]);
    let mut edge = bytes(5_000_000, 10.0);
    edge[99] = at(edge[99].clone(), 60_000.0);
    check(&edge, &[(60_000.0, "exfiltration")]);
    edge[99] = at(edge[99].clone(), 60_000.000_001);
    check(&edge, &[]);
    // Who is not private sends what he likes; the last recipient is named.
    let public: Vec<Packet> = (0..100)
        .map(|number| udp(f64::from(number), "192.0.2.5:40000", "10.0.0.9:5000").of(60_000))
        .collect();
    check(&public, &[]);
    let mut last = bytes(5_000_000, 10.0);
    last[99] = udp(990.0, "10.0.0.5:40000", "203.0.113.9:5000").of(50_000);
    let outcome = classic(&last);
    assert_eq!(outcome.alerts()[0].destination.ip.as_deref(), Some("203.0.113.9"));
    assert_eq!(
        (
            outcome.alerts()[0].measured.observed,
            outcome.alerts()[0].subject.as_str()
        ),
        (5_000_000, "10.0.0.5")
    );
}

#[test]
fn arp_spoofing_at_the_second_reply_with_another_address() {
    let (asked, answered) = (1, 2);
    let of = |ms, operation, mac| arp(ms, operation, "192.168.1.1", mac, "192.168.1.20");
    check(&[of(0.0, answered, 1), of(1.0, answered, 1)], &[]);
    check(
        &[of(0.0, answered, 1), of(1.0, answered, 2)],
        &[(1.0, "arp_spoofing")],
    );
    check(&[of(0.0, asked, 1), of(1.0, asked, 2), of(2.0, answered, 3)], &[]);
    // It follows the last one, so back again is the next, after the cooldown.
    check(
        &[
            of(0.0, answered, 1),
            of(1.0, answered, 2),
            of(15_001.0, answered, 1),
        ],
        &[(1.0, "arp_spoofing"), (15_001.0, "arp_spoofing")],
    );
    assert_eq!(
        classic(&[of(0.0, answered, 1), of(1.0, answered, 2)]).alerts()[0].subject,
        "192.168.1.1"
    );
}

#[test]
fn a_cooldown_is_over_at_exactly_fifteen_seconds() {
    let one = |ms| tcp(ms, &end(A, 1_024), &end(B, 4_444), ACK);
    let rule = "suspicious_port_destination";
    check(&[one(0.0), one(14_900.0)], &[(0.0, rule)]);
    check(&[one(0.0), one(14_999.999_999)], &[(0.0, rule)]);
    check(&[one(0.0), one(15_000.0)], &[(0.0, rule), (15_000.0, rule)]);
    check(
        &[one(0.0), one(14_900.0), one(15_000.0)],
        &[(0.0, rule), (15_000.0, rule)],
    );
    // One attack for as long as it goes on, with every packet in it.
    let long: Vec<Packet> = (0..50).map(|second| one(f64::from(second) * 1_000.0)).collect();
    let outcome = classic(&long);
    assert_eq!(outcome.alerts().len(), 4);
    let attacks = outcome.attacks();
    assert_eq!(attacks.len(), 1);
    let (ended, attack) = &attacks[0];
    assert_eq!(
        (*ended, attack.matches, attack.alerts),
        (49_000.0 + 15_000.0, 50, 4)
    );
}

/// What an oracle says to be of a tier: malicious, suspicious, score.
const TIERS: [(Tier, u32, u32, i64); 5] = [
    (Tier::Critical, 9, 0, 0),
    (Tier::High, 3, 0, 0),
    (Tier::Medium, 1, 0, 0),
    (Tier::Low, 0, 0, -11),
    (Tier::Clean, 0, 4, -10),
];

/// With a verdict on `subject`, of each tier, a story first fires at its packet number `first`, counted from one.
#[track_caller]
fn check_tiers(
    subject: &'static str,
    story: &[Packet],
    rule: &str,
    first: [usize; 5],
    severities: [Severity; 5],
) {
    for (((tier, malicious, suspicious, score), first), severity) in
        TIERS.into_iter().zip(first).zip(severities)
    {
        let told = Told {
            verdicts: vec![(0.0, subject, malicious, suspicious, score)],
            ..Told::default()
        };
        let set = pack(PackName::Classic);
        let alerts = |packets: &[Packet]| {
            fold(&set, packets, &told)
                .alerts()
                .into_iter()
                .filter(|alert| alert.rule.name == rule)
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(alerts(&story[..first - 1]), [], "{rule} {tier:?}: one fewer");
        let fired = alerts(&story[..first]);
        assert_eq!(fired.len(), 1, "{rule} {tier:?}");
        assert_eq!(
            (
                fired[0].severity,
                fired[0].reputation.as_ref().map(|told| told.tier)
            ),
            (severity, Some(tier)),
            "{rule}"
        );
        let suffix = fired[0].message.to_lowercase().contains(tier.name());
        assert_eq!(suffix, tier != Tier::Clean, "{rule}: {}", fired[0].message);
    }
}

const HIGH: [Severity; 5] = [
    Severity::Critical,
    Severity::Critical,
    Severity::Critical,
    Severity::High,
    Severity::High,
];
const CRITICAL: [Severity; 5] = [Severity::Critical; 5];
const MEDIUM: [Severity; 5] = [
    Severity::Critical,
    Severity::High,
    Severity::High,
    Severity::Medium,
    Severity::Medium,
];

#[test]
fn tiers_scale_thresholds_and_raise_severities() {
    check_tiers(A, &ports(15, 10.0, ACK), "port_scan", [2, 4, 8, 12, 15], HIGH);
    check_tiers(A, &syns(200, 1.0), "syn_flood", [20, 50, 100, 150, 200], CRITICAL);
    check_tiers(A, &echoes(100, 1.0), "icmp_flood", [10, 25, 50, 75, 100], HIGH);
    check_tiers(A, &logins(30, 1.0, 22), "brute_force", [3, 8, 15, 23, 30], HIGH);
    check_tiers(
        "10.0.0.9",
        &bytes(5_000_000, 1.0),
        "exfiltration",
        [10, 25, 50, 75, 100],
        HIGH,
    );
}

#[test]
fn tiers_scale_the_length_of_a_name() {
    for ((tier, malicious, suspicious, score), (first, severity)) in
        TIERS.into_iter().zip([5, 13, 25, 38, 50].into_iter().zip(MEDIUM))
    {
        for (length, fires) in [(first - 1, false), (first, true)] {
            let name: &'static str = Box::leak(format!("{}.xy", "a".repeat(length - 3)).into_boxed_str());
            let told = Told {
                verdicts: vec![(0.0, name, malicious, suspicious, score)],
                ..Told::default()
            };
            let question = [dns(0.0, &end(A, 40_000), &end(B, 53), name, 1, false)];
            let outcome = fold(&pack(PackName::Classic), &question, &told);
            let severities: Vec<Severity> = outcome.alerts().iter().map(|alert| alert.severity).collect();
            assert_eq!(
                severities,
                if fires { vec![severity] } else { vec![] },
                "{tier:?} {length} {name}"
            );
        }
    }
}

#[test]
fn tiers_raise_the_severity_of_a_suspicious_port() {
    for ((tier, malicious, suspicious, score), severity) in TIERS.into_iter().zip(MEDIUM) {
        // The external end: the destination of a private source, else the source.
        for (source, destination, asked) in [("10.0.0.5", B, B), (A, "10.0.0.5", A), (A, B, A)] {
            let told = Told {
                verdicts: vec![(0.0, asked, malicious, suspicious, score)],
                ..Told::default()
            };
            let packet = [tcp(0.0, &end(source, 1_024), &end(destination, 4_444), ACK)];
            let outcome = fold(&pack(PackName::Classic), &packet, &told);
            assert_eq!(outcome.alerts()[0].severity, severity, "{tier:?} of {asked}");
            let reputation = outcome.alerts()[0].reputation.clone().unwrap();
            assert_eq!((reputation.subject.as_str(), reputation.tier), (asked, tier));
        }
    }
}

#[test]
fn what_a_site_says_of_a_rule_holds() {
    use watchfold_config::{Thresholds, Window};
    use watchfold_rules::{RulesConfig, fold_in};
    use watchfold_schemas::rules::{RuleState, Value};

    use super::{excluded, text};

    let under = |config: &RulesConfig, packets: &[Packet]| -> Vec<(f64, String, RuleState)> {
        let outcome = fold(
            &fold_in(config, pack(PackName::Classic)).unwrap(),
            packets,
            &Told::default(),
        );
        let fired = outcome.fired().into_iter().zip(outcome.alerts());
        fired.map(|((at, rule), alert)| (at, rule, alert.state)).collect()
    };
    let scan = |at, state| vec![(at, "port_scan".to_owned(), state)];
    let mut config = RulesConfig {
        thresholds: Thresholds {
            port_scan_threshold: Some(5),
            port_scan_window: Some(Window(400)),
            ..Thresholds::default()
        },
        ..RulesConfig::default()
    };
    let enforce = RuleState::Enforce;
    assert_eq!(under(&config, &ports(5, 100.0, ACK)), scan(400.0, enforce));
    assert_eq!(under(&config, &ports(5, 101.0, ACK)), []);
    config.alert_cooldown_ms = Some(1_000);
    assert_eq!(
        under(&config, &ports(16, 100.0, ACK)),
        [scan(400.0, enforce), scan(1_400.0, enforce)].concat()
    );
    config.states.insert("port_scan".into(), RuleState::Record);
    assert_eq!(
        under(&config, &ports(5, 100.0, ACK)),
        scan(400.0, RuleState::Record)
    );
    config.states.insert("port_scan".into(), RuleState::Off);
    assert_eq!(under(&config, &ports(16, 100.0, ACK)), []);
    config.states.clear();
    let between = |source: &str, destination: &str, port: &[i64]| {
        let ends = [("source.ip", text(source)), ("destination.ip", text(destination))];
        let ports = port.iter().map(|port| ("destination.port", Value::Number(*port)));
        let fields: Vec<_> = ends.into_iter().chain(ports).collect();
        vec![excluded("port_scan", &fields)]
    };
    config.exclude = between("192.0.2.0/24", B, &[]);
    assert_eq!(under(&config, &ports(16, 100.0, ACK)), []);
    // Only the packets to this port are passed over.
    config.exclude = between(A, B, &[602]);
    assert_eq!(under(&config, &ports(5, 100.0, ACK)), []);
    assert_eq!(under(&config, &ports(6, 80.0, ACK)), scan(400.0, enforce));
    config.exclude = between("192.0.2.77", B, &[]);
    assert_eq!(under(&config, &ports(5, 100.0, ACK)), scan(400.0, enforce));
}

#[test]
fn nobody_is_asked_about_arp() {
    let told = Told {
        verdicts: vec![(0.0, "192.168.1.1", 20, 0, -100)],
        ..Told::default()
    };
    let story = [
        arp(0.0, 2, "192.168.1.1", 1, "192.168.1.20"),
        arp(1.0, 2, "192.168.1.1", 2, "192.168.1.20"),
    ];
    let outcome = fold(&pack(PackName::Classic), &story, &told);
    assert_eq!(outcome.alerts()[0].reputation, None);
}

#[test]
fn a_verdict_counts_once_it_is_there_and_changes_nothing_before() {
    let told = Told {
        verdicts: vec![(105.0, A, 9, 0, 0)],
        ..Told::default()
    };
    // Eleven ports before the verdict: nothing. The next packet is judged by it, and sees all twelve.
    let outcome = fold(&pack(PackName::Classic), &ports(15, 10.0, ACK), &told);
    assert_eq!(outcome.fired()[0], (110.0, "port_scan".to_owned()));
    assert_eq!(
        (
            outcome.alerts()[0].measured.observed,
            outcome.alerts()[0].measured.threshold
        ),
        (12, 2)
    );
    // The first alert is unscaled, the next one, within the cooldown, is worse and so is told.
    let told = Told {
        verdicts: vec![(145.0, A, 9, 0, 0)],
        ..Told::default()
    };
    let outcome = fold(&pack(PackName::Classic), &ports(20, 10.0, ACK), &told);
    let severities: Vec<(f64, Severity)> = outcome
        .fired()
        .iter()
        .zip(outcome.alerts())
        .map(|((at, _), alert)| (*at, alert.severity))
        .collect();
    assert_eq!(severities, [(140.0, Severity::High), (150.0, Severity::Critical)]);
}

#[test]
fn what_an_oracle_is_asked_about_is_what_each_rule_names() {
    let mut told = Told::default();
    told.surroundings.lookups = true;
    // Addresses that mean somebody: others are never asked about.
    let source = "8.8.4.4";
    let asked = |packets: &[Packet], rule: &str| -> Vec<String> {
        let outcome = fold(&pack(PackName::Classic), packets, &told);
        let of_rule = outcome
            .wanted()
            .into_iter()
            .filter(|wanted| wanted.rule == rule)
            .map(|wanted| wanted.subject.clone());
        let mut subjects: Vec<String> = of_rule.collect();
        subjects.dedup();
        subjects
    };
    let from = |number: usize, port: usize, flags| {
        tcp(number as f64, &end(source, 40_000), &end("10.0.0.9", port), flags)
    };
    let scan: Vec<Packet> = (0..8).map(|number| from(number, 600 + number, ACK)).collect();
    assert_eq!(asked(&scan, "port_scan"), [source]);
    assert_eq!(asked(&scan[..7], "port_scan"), [""; 0]);
    let flood: Vec<Packet> = (0..100).map(|number| from(number, 80, SYN)).collect();
    assert_eq!(asked(&flood, "syn_flood"), [source]);
    let echoes: Vec<Packet> = (0..50)
        .map(|number| echo(f64::from(number), source, "10.0.0.9"))
        .collect();
    assert_eq!(asked(&echoes, "icmp_flood"), [source]);
    let logins: Vec<Packet> = (0..15).map(|number| from(number, 22, SYN)).collect();
    assert_eq!(asked(&logins, "brute_force"), [source]);
    let port = [tcp(0.0, &end("10.0.0.9", 1_024), &end(source, 4_444), ACK)];
    assert_eq!(asked(&port, "suspicious_port_destination"), [source]);
    let question = [dns(
        0.0,
        &end(A, 40_000),
        &end(B, 53),
        "a.long.enough.name.example.com.google.com",
        1,
        false,
    )];
    assert_eq!(
        asked(&question, "dns_tunnel"),
        ["a.long.enough.name.example.com.google.com"]
    );
    let upload: Vec<Packet> = (0..50)
        .map(|number| udp(f64::from(number), "10.0.0.9:40000", &end(source, 5_000)).of(50_000))
        .collect();
    assert_eq!(asked(&upload, "exfiltration"), [source]);
    let spoofed = [
        arp(0.0, 2, "192.168.1.1", 1, "192.168.1.20"),
        arp(1.0, 2, "192.168.1.1", 2, "192.168.1.20"),
    ];
    assert_eq!(asked(&spoofed, "arp_spoofing"), [""; 0]);
}
