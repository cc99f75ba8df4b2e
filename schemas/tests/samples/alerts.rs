//! Packets, rules, and everything that rules say.

use watchfold_schemas::alert::{
    Alert, Attack, AttackStage, Endpoint, Finding, LookupWanted, Measured, PacketRanges, Reputation, RuleRef,
    SeenBy, SubjectKind, Tier, Verdict,
};
use watchfold_schemas::event::{EventBody, IncidentClass, Place, Severity};
use watchfold_schemas::fields::Source;
use watchfold_schemas::packets::{
    ArpRow, CaptureCounts, CaptureSource, DhcpRow, DnsRow, NO_ADDRESS, NeighbourRow, PacketBatch,
    PayloadHead, Repeat, marks,
};
use watchfold_schemas::rules::{
    Compare, FieldTest, Rule, RuleSet, RuleState, RulesActivation, Surroundings, Test, Trigger, Value,
};
use watchfold_schemas::{Body, Chain, EventId, Span};

use super::{START, after, events};

pub fn observations() -> Vec<(&'static str, Body)> {
    vec![
        ("", Body::Batch(Box::new(batch()))),
        ("copies", Body::Batch(Box::new(copies()))),
        ("", verdict(SubjectKind::Address, "203.0.113.9")),
        ("name", verdict(SubjectKind::Name, "bad.example")),
        ("packets", rules(Chain::Packets)),
        ("site", rules(Chain::Site)),
        ("withdrawn", withdrawn()),
        ("began", finding(AttackStage::Began)),
        ("grew", finding(AttackStage::Grew)),
        ("ended", finding(AttackStage::Ended)),
    ]
}

pub fn events() -> Vec<(&'static str, EventBody)> {
    let incident = watchfold_schemas::event::Incident {
        attack: Some(Box::new(attack())),
        ..events::incident(IncidentClass::Attack, Severity::High)
    };
    let ended = watchfold_schemas::event::Incident {
        close_reason: Some(watchfold_schemas::event::CloseReason::Ended),
        ..incident.clone()
    };
    let wanted = |kind, subject: &str| {
        EventBody::LookupWanted(LookupWanted {
            kind,
            subject: subject.into(),
            nearness_permille: 750,
            rule: "port_scan".into(),
        })
    };
    let tiers = Tier::ALL.map(|tier| {
        let alert = Alert {
            reputation: Some(Reputation { tier, ..reputation() }),
            ..alert()
        };
        (tier.name(), EventBody::AlertRaised(Box::new(alert)))
    });
    let mut bodies = tiers.to_vec();
    bodies.extend([
        ("", EventBody::AttackBegan(Box::new(attack()))),
        ("", EventBody::AttackGrew(Box::new(attack()))),
        ("", EventBody::AttackEnded(Box::new(attack()))),
        ("", wanted(SubjectKind::Address, "203.0.113.9")),
        ("name", wanted(SubjectKind::Name, "bad.example")),
        ("attack", EventBody::IncidentOpened(incident)),
        ("ended", EventBody::IncidentClosed(ended)),
    ]);
    bodies
}

/// A packet that repeats the one before it, behind two tags, of a file whose times jump.
fn copies() -> PacketBatch {
    let mut out = PacketBatch {
        inner_vlans: vec![(0, 13)],
        bases: vec![(1, START)],
        ..batch()
    };
    out.counts.originals_evicted = 5;
    out.push_repeat(Repeat {
        row: 1,
        print: 7,
        path: 2,
        after: Span(1_500),
    });
    out
}

fn batch() -> PacketBatch {
    let wide = |values: [i32; 2]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let narrow = |values: [u16; 2]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
    PacketBatch {
        first: 7,
        base: START,
        source: CaptureSource {
            name: "eth0".into(),
            link_type: 1,
            snap_length: 262_144,
        },
        counts: CaptureCounts {
            received: 8,
            dropped_by_kernel: 1,
            dropped_by_interface: 2,
            dropped_here: 3,
            undecoded: 4,
            originals_evicted: 0,
        },
        at_ns: wide([0, 1_500]),
        numbers: wide([0, 1]),
        v4: vec![192, 0, 2, 1],
        v6: vec![0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        sources: narrow([0, NO_ADDRESS]),
        destinations: narrow([1, 0]),
        source_ports: narrow([40_000, 0]),
        destination_ports: narrow([53, 0]),
        lengths: narrow([80, 42]),
        protocols: vec![17, 255],
        tcp_flags: vec![0, 0],
        marks: vec![marks::PAYLOAD, marks::TRUNCATED],
        bases: Vec::new(),
        repeat_rows: Vec::new(),
        repeat_prints: Vec::new(),
        repeat_paths: Vec::new(),
        repeat_after_ns: Vec::new(),
        vlans: vec![(0, 12)],
        inner_vlans: Vec::new(),
        dns: vec![DnsRow {
            row: 0,
            name: "a.example".into(),
            query_type: 1,
            is_response: true,
            response_code: 3,
            answers: 2,
        }],
        arp: vec![ArpRow {
            row: 1,
            operation: 2,
            sender_mac: [2, 0, 0, 0, 0, 1],
            sender_ip: [192, 0, 2, 1],
            target_mac: [2, 0, 0, 0, 0, 2],
            target_ip: [192, 0, 2, 2],
        }],
        neighbours: vec![NeighbourRow {
            row: 1,
            message_type: 136,
            target: [1; 16],
            mac: Some([2, 0, 0, 0, 0, 3]),
            flags: 96,
        }],
        dhcp: vec![DhcpRow {
            row: 0,
            message_type: 5,
            client_mac: [2, 0, 0, 0, 0, 4],
            your_ip: [192, 0, 2, 9],
            server: Some([192, 0, 2, 1]),
        }],
        tls_names: vec![(0, "www.example".into())],
        http_hosts: vec![(0, "www.example".into())],
        heads: vec![PayloadHead {
            row: 0,
            bytes: b"SSH-2.0".to_vec(),
        }],
    }
}

fn verdict(kind: SubjectKind, subject: &str) -> Body {
    Body::Verdict(Box::new(Verdict {
        at: after(12),
        oracle: "virustotal".into(),
        kind,
        subject: subject.into(),
        known: true,
        malicious: 9,
        suspicious: 1,
        harmless: 60,
        undetected: 20,
        score: -11,
        country: Some("NL".into()),
        owner: Some("Example Networks".into()),
        categories: vec!["malware".into()],
        expires_at: after(3_612),
    }))
}

fn rules(chain: Chain) -> Body {
    let set = RuleSet {
        name: "default".into(),
        rules: all_rules(),
    };
    let surroundings = Surroundings {
        own_networks: vec!["198.51.100.0/24".into()],
        own_ports: vec![8_737],
        own_addresses: vec!["192.0.2.1".into()],
        gateways: vec!["192.0.2.254".into()],
        lookups: true,
    };
    Body::Rules(Box::new(RulesActivation {
        at: after(13),
        chain,
        hash: RulesActivation::hash_of(chain, &set, &surroundings),
        set,
        surroundings,
        software: "0.1.0".into(),
    }))
}

/// A rule that counts copies, and takes back what was used.
fn withdrawn() -> Body {
    let Body::Rules(mut activation) = rules(Chain::Packets) else {
        unreachable!("rules are an activation");
    };
    for rule in &mut activation.set.rules {
        rule.counts_duplicates = true;
        rule.withdrawn_by = Some(field_test(Compare::Equals, Value::Text("used".into())));
    }
    Body::Rules(activation)
}

/// Every trigger, test, comparison, value, state and source stands in one of them.
fn all_rules() -> Vec<Rule> {
    let group_by = || vec!["source.ip".to_owned()];
    let triggers = [
        Trigger::Each,
        Trigger::Value {
            field: "dns.question.length".into(),
            at_least: 50,
        },
        Trigger::Count {
            group_by: group_by(),
            window_ms: 5_000,
            at_least: 200,
        },
        Trigger::Distinct {
            field: "destination.port".into(),
            group_by: group_by(),
            window_ms: 10_000,
            at_least: 15,
        },
        Trigger::Sum {
            field: "network.bytes".into(),
            group_by: group_by(),
            window_ms: 60_000,
            at_least: 5_000_000,
            parts: Some(60),
        },
    ];
    let states = [RuleState::Enforce, RuleState::Record, RuleState::Off];
    let rule = |(i, trigger): (usize, Trigger)| Rule {
        id: format!("6f1c7a52-3d1e-4a55-9a71-00000000000{i}"),
        name: format!("rule_{i}"),
        title: "A rule".into(),
        version: 2,
        category: "sample".into(),
        severity: Severity::High,
        state: states[i % states.len()],
        source: Source::ALL[i % Source::ALL.len()],
        test: Test::All(vec![
            Test::Any(comparisons()),
            Test::Not(Box::new(field_test(Compare::Equals, Value::Number(443)))),
        ]),
        exclusions: vec![field_test(Compare::Cidr, Value::Text("192.0.2.0/24".into())).into()],
        trigger,
        subject: group_by(),
        cooldown_ms: 15_000,
        reputation: Some("source.ip".into()),
        counts_duplicates: false,
        withdrawn_by: None,
        message: "{source.ip} did {observed} in {window}".into(),
    };
    triggers.into_iter().enumerate().map(rule).collect()
}

fn comparisons() -> Vec<Test> {
    [
        (Compare::Equals, Value::Truth(true)),
        (Compare::Contains, Value::Text("x".into())),
        (Compare::StartsWith, Value::Text("x".into())),
        (Compare::EndsWith, Value::Text("x".into())),
        (Compare::Like, Value::Text("a*b".into())),
        (Compare::Cidr, Value::Text("192.0.2.0/24".into())),
        (Compare::Greater, Value::Number(1)),
        (Compare::AtLeast, Value::Number(1)),
        (Compare::Less, Value::Number(1)),
        (Compare::AtMost, Value::Number(1)),
        (Compare::Exists, Value::Truth(true)),
    ]
    .map(|(compare, value)| field_test(compare, value))
    .to_vec()
}

fn field_test(compare: Compare, value: Value) -> Test {
    Test::Field(FieldTest {
        field: "source.ip".into(),
        compare,
        values: vec![value],
        all: true,
    })
}

fn finding(stage: AttackStage) -> Body {
    Body::Finding(Box::new(Finding {
        event: EventId("f0828599b2a65b9a83b16082a20dc170".into()),
        place: Place { input: 9, index: 1 },
        stage,
        attack: attack(),
    }))
}

fn endpoint(ip: &str, port: u16) -> Endpoint {
    Endpoint {
        ip: Some(ip.into()),
        port: Some(port),
        mac: Some("02:00:00:00:00:01".into()),
    }
}

fn rule_ref() -> RuleRef {
    RuleRef {
        id: "6f1c7a52-3d1e-4a55-9a71-000000000000".into(),
        name: "port_scan".into(),
        title: "Port scan".into(),
        version: 2,
        set: "default".into(),
    }
}

fn measured() -> Measured {
    Measured {
        observed: 15,
        threshold: 8,
        base_threshold: 15,
        window_ms: 10_000,
    }
}

fn reputation() -> Reputation {
    Reputation {
        subject: "192.0.2.66".into(),
        tier: Tier::Medium,
        malicious: 1,
        score: -5,
        known: true,
    }
}

fn seen_by() -> SeenBy {
    SeenBy {
        collector: "capture-eth0".into(),
        incarnation: 1_769_846_400_000,
        interface: "eth0".into(),
        vlans: Vec::new(),
        packets: PacketRanges {
            ranges: vec![(7, 42)],
            total: 15,
        },
    }
}

fn alert() -> Alert {
    Alert {
        rule: rule_ref(),
        category: "port_scan".into(),
        severity: Severity::High,
        state: RuleState::Record,
        attack: "0011223344556677".into(),
        subject: "192.0.2.66".into(),
        source: endpoint("192.0.2.66", 40_000),
        destination: endpoint("192.0.2.1", 22),
        transport: "tcp".into(),
        community_id: Some("1:LQU9qZlK+B5F3KDmev6m5PMibrg=".into()),
        measured: measured(),
        reputation: Some(reputation()),
        seen_by: seen_by(),
        message: "192.0.2.66 tried 15 ports of 192.0.2.1 within 10 s.".into(),
        facts: vec![("dns.question.name".into(), "a.example".into())],
    }
}

fn attack() -> Attack {
    Attack {
        id: "0011223344556677".into(),
        rule: rule_ref(),
        category: "port_scan".into(),
        severity: Severity::High,
        state: RuleState::Enforce,
        subject: "192.0.2.66".into(),
        source: endpoint("192.0.2.66", 40_000),
        destination: endpoint("192.0.2.1", 22),
        transport: "tcp".into(),
        community_id: Some("1:LQU9qZlK+B5F3KDmev6m5PMibrg=".into()),
        began_at: after(20),
        last_at: after(50),
        ended_at: Some(after(65)),
        peak: measured(),
        peak_at: after(40),
        alerts: 3,
        matches: 120,
        victims: vec!["192.0.2.1".into()],
        victims_total: 1,
        reputation: Some(reputation()),
        seen_by: seen_by(),
        message: "192.0.2.66 tried 15 ports of 192.0.2.1 within 10 s.".into(),
    }
}
