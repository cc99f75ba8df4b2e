//! The packet chain from batches to events: thresholds, time, order, restarts.

mod copies;
mod order;
mod points;
mod segments;

use proptest::prelude::*;
use watchfold_schemas::rules::{Rule, Surroundings, Trigger};
use watchfold_schemas::{Body, Chain, EventBody, EventId};

use super::*;
use crate::machine::StateMachine;
use crate::packets::testing::rules::{classic, count, rule, set, truth, varied, word};
use crate::packets::testing::{Fed, Side, Wire, activation, observation, short};
use watchfold_schemas::alert::{SubjectKind, Verdict};

/// The inherited rules over these packets, and then an hour of nothing.
fn check(packets: &[Wire], want: &[&str]) {
    let mut fed = Fed::under(&classic());
    for packets in packets.chunks(100) {
        fed.packets(packets);
    }
    fed.quiet(3_600_000);
    assert_eq!(short(&fed.events), want);
}

#[test]
fn a_scan_is_fifteen_ports_and_not_fourteen() {
    let scan = |ports: u16| {
        (1..=ports)
            .map(|port| Wire::at(i64::from(port)).to("10.0.0.2", port))
            .collect::<Vec<_>>()
    };
    check(&scan(14), &[]);
    check(
        &scan(15),
        &[
            "15 alert port_scan 10.0.0.1 15",
            "15 began port_scan 10.0.0.1",
            "15015 ended port_scan 1",
        ],
    );
}

#[test]
fn a_flood_is_two_hundred_syns_within_a_closed_window() {
    let flood = |last_ms: i64| {
        let mut packets: Vec<_> = (0..199).map(|number| Wire::at(number * 10).syn()).collect();
        packets.push(Wire::at(last_ms).syn());
        packets
    };
    check(&flood(5_001), &[]);
    let began = [
        "5000 alert syn_flood 10.0.0.1 200",
        "5000 began syn_flood 10.0.0.1",
        "20000 ended syn_flood 1",
    ];
    check(&flood(5_000), &began);
}

#[test]
fn the_other_inherited_rules_fire_at_their_thresholds() {
    let echoes = |count: i64| {
        (0..count)
            .map(|number| Wire::at(number).echo())
            .collect::<Vec<_>>()
    };
    check(&echoes(99), &[]);
    check(
        &echoes(100)[..],
        &[
            "99 alert icmp_flood 10.0.0.1 100",
            "99 began icmp_flood 10.0.0.1",
            "15099 ended icmp_flood 1",
        ],
    );
    let logins = |count: i64| {
        (0..count)
            .map(|number| Wire::at(number * 1_000).syn().to("10.0.0.2", 22))
            .collect::<Vec<_>>()
    };
    check(&logins(29), &[]);
    check(
        &logins(30),
        &[
            "29000 alert brute_force 10.0.0.1 30",
            "29000 began brute_force 10.0.0.1",
            "59000 ended brute_force 1",
        ],
    );
    check(&[Wire::at(0).dns(&"a".repeat(49))], &[]);
    check(
        &[Wire::at(0).dns(&"a".repeat(50))],
        &[
            "0 alert dns_tunnelling 10.0.0.1 50",
            "0 began dns_tunnelling 10.0.0.1",
            "15000 ended dns_tunnelling 1",
        ],
    );
    check(
        &[Wire::at(0).from("192.0.2.1").to("10.0.0.2", 4_444)],
        &[
            "0 alert suspicious_port 192.0.2.1 1",
            "0 began suspicious_port 192.0.2.1",
            "15000 ended suspicious_port 1",
        ],
    );
    check(
        &[
            Wire::at(0).arp(2, 1),
            Wire::at(1).arp(2, 1),
            Wire::at(2).arp(1, 9),
        ],
        &[],
    );
    check(
        &[Wire::at(0).arp(2, 1), Wire::at(1).arp(2, 2)],
        &[
            "1 alert arp_spoofing 10.0.0.1 1",
            "1 began arp_spoofing 10.0.0.1",
            "15001 ended arp_spoofing 1",
        ],
    );
    let upload = |bytes: u64| {
        let mut packets: Vec<_> = (0..99).map(|number| Wire::at(number).length(50_000)).collect();
        packets.push(Wire::at(60_000).length((bytes - 99 * 50_000) as u16));
        packets
    };
    check(&upload(4_999_999), &[]);
    check(
        &upload(5_000_000),
        &[
            "60000 alert exfiltration 10.0.0.1 5000000",
            "60000 began exfiltration 10.0.0.1",
            "120000 ended exfiltration 1",
        ],
    );
}

#[test]
fn the_cooldown_ends_at_exactly_fifteen_seconds() {
    let packets: Vec<_> = [0, 14_900, 15_000]
        .iter()
        .map(|ms| Wire::at(*ms).to("192.0.2.1", 4_444))
        .collect();
    check(
        &packets,
        &[
            "0 alert suspicious_port 192.0.2.1 1",
            "0 began suspicious_port 192.0.2.1",
            "15000 alert suspicious_port 192.0.2.1 1",
            "30000 ended suspicious_port 3",
        ],
    );
}

#[test]
fn an_alert_says_what_when_where_and_which_packets() {
    let mut fed = Fed::under(&classic());
    let scan: Vec<_> = (1..=15)
        .map(|port| Wire::at(i64::from(port)).syn().to("10.0.0.2", port))
        .collect();
    fed.packets(&scan);
    let event = &fed.events[0];
    let EventBody::AlertRaised(alert) = &event.body else {
        panic!("{event:?}")
    };
    assert_eq!(alert.seen_by.packets.ranges, [(1, 15)]);
    assert_eq!(
        (alert.seen_by.packets.total, alert.seen_by.interface.as_str()),
        (15, "eth0")
    );
    assert_eq!(
        (alert.transport.as_str(), alert.destination.port),
        ("tcp", Some(15))
    );
    assert_eq!(alert.message, "15 of 15 in 10 s");
    assert!(alert.community_id.as_ref().is_some_and(|id| id.starts_with("1:")));
    assert_eq!(
        (event.key.as_str(), event.chain),
        (alert.attack.as_str(), Chain::Packets)
    );
    let cause = Cause::Packet {
        collector: "capture-lan".to_owned(),
        incarnation: 7,
        packet: 15,
    };
    assert_eq!(event.cause, cause);
}

#[test]
fn without_rules_nothing_follows_and_rules_that_judge_alike_keep_their_windows() {
    let mut fed = Fed::under(&set(Vec::new()));
    let scan = |ports: std::ops::RangeInclusive<u16>| {
        ports
            .map(|port| Wire::at(i64::from(port)).to("10.0.0.2", port))
            .collect::<Vec<_>>()
    };
    fed.packets(&scan(1..=20))
        .give(&activation(&classic(), Surroundings::default()));
    fed.packets(&scan(30..=43));
    let mut louder = classic();
    louder.rules[5].message = "louder".to_owned();
    fed.give(&activation(&louder, Surroundings::default()))
        .restart()
        .packets(&scan(44..=44));
    assert_eq!(
        short(&fed.events),
        ["44 alert port_scan 10.0.0.1 15", "44 began port_scan 10.0.0.1"]
    );
    let mut without = classic();
    without.rules.remove(5);
    fed.give(&activation(&without, Surroundings::default()));
    assert_eq!(short(&fed.events)[2..], ["44 ended port_scan 1"]);
    assert_eq!(fed.chain.rules().unwrap().set, without);
}

#[test]
fn a_reputation_lowers_the_threshold_of_the_row_at_hand_and_is_asked_for_in_time() {
    let surroundings = Surroundings {
        lookups: true,
        ..Surroundings::default()
    };
    let mut fed = Fed::among(&classic(), surroundings);
    let scan = |ports: std::ops::RangeInclusive<u16>| {
        ports
            .map(|port| Wire::at(i64::from(port)).from("8.8.8.8").to("10.0.0.2", port))
            .collect::<Vec<_>>()
    };
    fed.packets(&scan(1..=7)).packets(&scan(8..=8));
    assert_eq!(short(&fed.events), ["8 asks port_scan 8.8.8.8 533"]);
    let verdict = Verdict {
        at: Time::from_millis(8),
        oracle: "virustotal".to_owned(),
        kind: SubjectKind::Address,
        subject: "8.8.8.8".to_owned(),
        known: true,
        malicious: 1,
        suspicious: 0,
        harmless: 0,
        undetected: 0,
        score: 0,
        country: None,
        owner: None,
        categories: Vec::new(),
        expires_at: Time::from_seconds(100),
    };
    fed.give(&observation(
        "virustotal",
        1,
        1,
        Time::from_millis(8),
        Body::Verdict(Box::new(verdict)),
    ));
    fed.restart().packets(&scan(8..=8));
    assert_eq!(
        short(&fed.events)[1..],
        ["8 alert port_scan 8.8.8.8 8", "8 began port_scan 8.8.8.8"]
    );
    let EventBody::AlertRaised(alert) = &fed.events[1].body else {
        panic!("{:?}", fed.events)
    };
    assert_eq!((alert.measured.threshold, alert.measured.base_threshold), (8, 15));
    assert_eq!(alert.severity, watchfold_schemas::event::Severity::Critical);
}

#[test]
fn exclusions_and_groups_of_four_fields() {
    let mut excluded = rule(
        "ports",
        word("network.transport", "tcp"),
        Trigger::Each,
        &["source.ip"],
    );
    excluded.exclusions = vec![truth("tcp.syn", true).into()];
    let group = ["source.ip", "destination.ip", "source.port", "destination.port"];
    let flow = rule("flow", truth("tcp.syn", true), count(&group, 1_000, 2), &group);
    let mut fed = Fed::under(&set(vec![excluded, flow]));
    let other = |mut wire: Wire, port| {
        wire.ports.0 = port;
        wire
    };
    fed.packets(&[
        Wire::at(0).syn(),
        other(Wire::at(1).syn(), 40_001),
        other(Wire::at(2).syn(), 40_001),
        Wire::at(3),
    ]);
    assert_eq!(
        short(&fed.events),
        [
            "2 alert flow 10.0.0.1 10.0.0.2 40001 80 2",
            "2 began flow 10.0.0.1 10.0.0.2 40001 80",
            "3 alert ports 10.0.0.1 1",
            "3 began ports 10.0.0.1"
        ]
    );
}

#[test]
fn what_time_brings_comes_before_the_row_of_its_instant() {
    let mut fed = Fed::under(&varied());
    let attempts: Vec<_> = (1..=5)
        .map(|port| Wire::at(i64::from(port)).syn().to("10.0.0.2", port))
        .collect();
    fed.packets(&attempts);
    fed.packets(&[
        Wire::at(3_004).to("10.0.0.3", 1),
        Wire::at(3_005).to("192.0.2.1", 4_444),
    ]);
    assert_eq!(
        short(&fed.events),
        [
            "3005 alert closed_ports 10.0.0.1 5",
            "3005 began closed_ports 10.0.0.1",
            "3005 alert suspicious_port 192.0.2.1 1",
            "3005 began suspicious_port 192.0.2.1"
        ]
    );
    assert!(
        matches!(&fed.events[0].cause, Cause::Timer { timer, .. } if timer == "connections/unanswered/capture-lan/7/5")
    );
}

#[test]
fn late_packets_count_at_the_newest_time_and_are_counted() {
    let mut fed = Fed::under(&classic());
    let mut packets: Vec<_> = (1..=14)
        .map(|port| Wire::at(20_000).to("10.0.0.2", port))
        .collect();
    packets.push(Wire::at(19_500).to("10.0.0.2", 15));
    packets.push(Wire::at(18_999).to("10.0.0.2", 16));
    fed.packets(&packets);
    assert_eq!(short(&fed.events)[0], "20000 alert port_scan 10.0.0.1 15");
    assert_eq!(fed.chain.counters().late_packets, 1);
}

#[test]
fn a_new_incarnation_ends_attacks_and_begins_windows_anew() {
    let mut fed = Fed::under(&classic());
    let scan: Vec<_> = (1..=20)
        .map(|port| Wire::at(i64::from(port)).to("10.0.0.2", port))
        .collect();
    fed.packets(&scan);
    let batch = crate::packets::testing::batch(&[Wire::at(5).to("10.0.0.2", 99)], 1);
    let next = observation(
        "capture-lan",
        8,
        1,
        Time::from_millis(5),
        Body::Batch(Box::new(batch)),
    );
    fed.give(&next);
    let events = short(&fed.events);
    assert_eq!(events[events.len() - 1], "20 ended port_scan 6");
    assert_eq!(fed.chain.now(), Some(Time::from_millis(5)));
    fed.restart();
}

#[test]
fn a_gap_moves_the_end_of_an_attack_and_ends_nothing() {
    for is_log in [false, true] {
        let mut fed = Fed::under(&classic());
        fed.packets(&[Wire::at(1_000).to("192.0.2.1", 4_444)]);
        if is_log {
            assert!(fed.chain.apply_lost(3, 4).is_empty());
            fed.quiet(101_000);
        } else {
            let gap = Gap {
                from: Time::from_seconds(1),
                to: Time::from_seconds(101),
                records: 9,
                reason: String::new(),
            };
            fed.give(&observation(
                "capture-lan",
                7,
                3,
                Time::from_seconds(101),
                Body::Gap(gap),
            ));
        }
        fed.restart().quiet(115_999);
        assert_eq!(fed.events.len(), 2, "{:?}", short(&fed.events));
        fed.quiet(116_000);
        assert_eq!(short(&fed.events)[2], "116000 ended suspicious_port 1");
    }
}

#[test]
fn a_flood_of_invented_sources_stays_within_bounds_and_its_victim_is_told() {
    let mut fed = Fed::under(&varied());
    let flood = |number: u32| {
        let mut wire = Wire::at(i64::from(number / 50)).syn().to("10.9.9.9", 443);
        wire.source = Some(core::net::IpAddr::V4((0x2d00_0000 + number).into()));
        wire
    };
    let numbers: Vec<u32> = (0..150_000).collect();
    for chunk in numbers.chunks(4_096) {
        fed.packets(&chunk.iter().map(|number| flood(*number)).collect::<Vec<_>>());
    }
    let counters = fed.chain.counters();
    assert!(
        counters.windows_evicted > 100_000 && counters.facts_evicted > 50_000,
        "{counters:?}"
    );
    let told = short(&fed.events);
    assert_eq!(told[0], "0 alert victim_flood 10.9.9.9 40");
    let grown = told
        .iter()
        .filter(|told| told.contains("grew victim_flood"))
        .count();
    assert!(grown > 5, "{told:?}");
    assert!(told.iter().all(|told| told.contains("victim_flood")), "{told:?}");
    let entries = fed.chain.entries();
    assert!(entries.iter().all(|(_, bytes)| bytes.len() <= 256 * 1024));
    assert!(entries.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 32 * 1024 * 1024);
}

/// Packets of a small network in which much happens.
fn traffic() -> impl Strategy<Value = Vec<Wire>> {
    let host = 1_u8..6;
    let packet = (0_i64..400, host.clone(), host, 0_u8..12, 0_u16..40, 0_u8..4);
    prop::collection::vec(packet, 1..300).prop_map(|packets| {
        let mut at = 10_000;
        let mut out = Vec::new();
        for (step, source, destination, kind, port, late) in packets {
            at += if step > 390 { 2_500 } else { step / 10 };
            let mut wire = Wire::at(if late == 0 { at - 700 } else { at });
            wire.print = (u32::from(port % 3) * u32::from(source), u16::from(late));
            wire.vlans = [&[][..], &[10], &[10, 20]][usize::from(port) % 3].to_vec();
            if kind % 5 == 0 {
                wire.marks = watchfold_schemas::packets::marks::PAYLOAD;
            }
            let wire = wire
                .from(&format!(
                    "{}.{source}",
                    if source > 3 { "8.8.8" } else { "10.0.0" }
                ))
                .to(&format!("10.0.0.{destination}"), port);
            out.push(match kind {
                0..4 => wire.syn(),
                4 => Wire {
                    flags: 18,
                    ports: (port, 40_000),
                    ..wire
                },
                5 => Wire {
                    flags: 20,
                    ports: (port, 40_000),
                    ..wire
                },
                6 => wire.dns(&format!("{}x{port}.example.org", "n".repeat(usize::from(port)))),
                7 => wire.arp(2, destination),
                8 => wire.echo(),
                9 => wire.to("192.0.2.1", 4_444),
                _ => wire.length(1_400),
            });
        }
        out
    })
}

fn told(
    packets: &[Wire],
    sizes: &[usize],
    restart_every: usize,
) -> (Vec<(EventId, Vec<u8>)>, PacketCounters) {
    let surroundings = Surroundings {
        lookups: true,
        ..Surroundings::default()
    };
    let mut fed = Fed::among(&varied(), surroundings);
    let (mut rest, mut number) = (packets, 0);
    while !rest.is_empty() {
        let size = sizes[number % sizes.len()].min(rest.len());
        fed.packets(&rest[..size]);
        rest = &rest[size..];
        number += 1;
        if number % restart_every == 0 {
            fed.restart();
        }
    }
    fed.quiet(10_000_000);
    let content = fed
        .events
        .iter()
        .map(|event| (event.id.clone(), event.content().unwrap()))
        .collect();
    (content, fed.chain.counters())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn events_depend_neither_on_batches_nor_on_restarts(
        packets in traffic(),
        sizes in prop::collection::vec(1_usize..60, 1..6),
        restart_every in 1_usize..8,
    ) {
        let (whole, counters) = told(&packets, &[4_096], 1_000);
        prop_assert_eq!(counters.packets, packets.len() as u64);
        for sizes in [&[1][..], &[7], &sizes] {
            prop_assert_eq!(&told(&packets, sizes, 1_000).0, &whole, "in batches of {:?}", sizes);
        }
        prop_assert_eq!(&told(&packets, &sizes, restart_every).0, &whole, "restarted");
        let mut ids: Vec<_> = whole.iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), whole.len(), "an id came twice");
    }

    /// A store that is given only what changed holds what a snapshot holds.
    #[test]
    fn what_changed_adds_up_to_everything(packets in traffic(), every in 1_usize..40) {
        let mut fed = Fed::under(&varied());
        let mut store = BTreeMap::new();
        for (number, chunk) in packets.chunks(every).enumerate() {
            fed.packets(chunk);
            if number == 3 {
                fed.give(&activation(&classic(), Surroundings::default()));
            }
            for (key, bytes) in fed.chain.drain_dirty() {
                match bytes {
                    Some(bytes) => { store.insert(key, bytes); }
                    None => { store.remove(&key); }
                }
            }
            let all: BTreeMap<_, _> = fed.chain.entries().into_iter().collect();
            prop_assert_eq!(&store, &all);
        }
        prop_assert!(fed.chain.drain_dirty().is_empty());
    }
}

#[test]
fn state_that_cannot_be_read_leaves_a_new_chain() {
    let mut fed = Fed::under(&classic());
    fed.packets(&[Wire::at(0).to("192.0.2.1", 4_444)]);
    let (versions, entries) = (fed.chain.versions(), fed.chain.entries());
    let load = |versions: &[(String, u32)], entries| PacketChain::new("cafe-1").load(versions, entries);
    assert!(load(&versions, entries.clone()).is_ok());
    assert!(
        load(&[("packets".to_owned(), 99)], entries.clone())
            .unwrap_err()
            .to_string()
            .contains("99")
    );
    for number in 0..entries.len() {
        let mut torn = entries.clone();
        let half = torn[number].1.len() / 2;
        torn[number].1.truncate(half);
        let _either_way_it_does_not_panic = load(&versions, torn);
    }
    let foreign = vec![(b"packets/point/nobody/attacks/0000".to_vec(), Vec::new())];
    assert!(load(&versions, foreign).is_err());
}

#[test]
fn what_cannot_be_used_is_counted() {
    let mut fed = Fed::under(&set(vec![rule(
        "heads",
        word("payload.text", "x"),
        Trigger::Each,
        &["source.ip"],
    )]));
    let mut wire = Wire::at(0);
    wire.marks = watchfold_schemas::packets::marks::PAYLOAD;
    fed.packets(&[wire.clone()]);
    wire.side = Side::Head(b"y".to_vec());
    fed.packets(&[wire]);
    let mut broken = crate::packets::testing::batch(&[Wire::at(1)], 1);
    broken.lengths.clear();
    fed.give(&observation(
        "capture-lan",
        7,
        9,
        Time::from_millis(1),
        Body::Batch(Box::new(broken)),
    ));
    let unknown = Rule {
        subject: vec!["of.later.versions".to_owned()],
        ..rule("later", word("payload.text", "x"), Trigger::Each, &[])
    };
    fed.give(&activation(&set(vec![unknown]), Surroundings::default()));
    let counters = fed.chain.counters();
    assert_eq!(
        (
            counters.batches_without_heads,
            counters.malformed_batches,
            counters.rules_refused
        ),
        (1, 1, 1)
    );
    assert_eq!(fed.chain.began_ms(), 0);
}
