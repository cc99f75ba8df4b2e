//! Packets that were captured twice.

use super::*;

/// SYNs from ports of their own, each seen on these ways 20 microseconds apart.
fn mirrored(count: u16, ways: &[u16]) -> Vec<Wire> {
    let mut packets = Vec::new();
    for number in 0..count {
        for (copy, way) in ways.iter().enumerate() {
            let mut wire = Wire::at(i64::from(number) * 20)
                .syn()
                .print(u32::from(number) + 1, *way);
            wire.at = Time(wire.at.0 + copy as i64 * 20_000);
            wire.ports.0 = 1_000 + number;
            packets.push(wire);
        }
    }
    packets
}

fn flood(counts_duplicates: bool) -> Rule {
    Rule {
        counts_duplicates,
        ..rule(
            "flood",
            truth("tcp.syn", true),
            count(&["source.ip"], 5_000, 100),
            &["source.ip"],
        )
    }
}

fn told(rule: &Rule, packets: &[Wire]) -> (Vec<String>, u64) {
    let mut fed = Fed::under(&set(vec![rule.clone()]));
    for packets in packets.chunks(7) {
        fed.packets(packets);
    }
    fed.quiet(3_600_000);
    let mut told = short(&fed.events);
    told.retain(|told| !told.contains("began"));
    (told, fed.chain.counters().duplicate_packets)
}

#[test]
fn a_packet_that_is_seen_twice_counts_once() {
    let silent: (Vec<String>, u64) = (Vec::new(), 0);
    assert_eq!(told(&flood(false), &mirrored(99, &[1, 1])).0, silent.0);
    let (events, copies) = told(&flood(false), &mirrored(120, &[1, 1]));
    assert_eq!(events, ["1980 alert flood 10.0.0.1 100", "17380 ended flood 21"]);
    assert_eq!(copies, 120);
    // A rule that counts copies, and one that asks for them.
    let (events, copies) = told(&flood(true), &mirrored(60, &[1, 1]));
    assert_eq!((events.len(), copies), (2, 60));
    let copies_alone = Rule {
        test: truth("packet.duplicate", true),
        ..flood(false)
    };
    let (events, _) = told(&copies_alone, &mirrored(120, &[1, 2]));
    assert_eq!(events[0], "1980 alert flood 10.0.0.1 100");
}

#[test]
fn equal_packets_that_are_sent_on_purpose_count() {
    // One packet, a thousand times within a second, and sent again at 20 ms.
    let equal = |every_us: i64, count: i64| -> Vec<Wire> {
        (0..count)
            .map(|number| {
                let mut wire = Wire::at(0).syn().print(7, 1);
                wire.at = Time(number * every_us * 1_000);
                wire
            })
            .collect()
    };
    let (events, copies) = told(&flood(false), &equal(1_000, 1_000));
    assert_eq!(events[0], "119 alert flood 10.0.0.1 100");
    assert_eq!(copies, 167);
    let (events, copies) = told(&flood(false), &equal(20_000, 100));
    assert_eq!((events[0].as_str(), copies), ("1980 alert flood 10.0.0.1 100", 0));
}

#[test]
fn a_copied_answer_or_attempt_changes_no_connection() {
    let mut packets = Vec::new();
    for port in 1..=20 {
        let at = i64::from(port) * 100;
        let syn = Wire::at(at).syn().to("10.0.0.2", port).print(u32::from(port), 1);
        let mut answer = Wire::at(at).from("10.0.0.2").to("10.0.0.1", 40_000);
        (answer.ports.0, answer.flags) = (port, 18);
        let answer = answer.print(100 + u32::from(port), 1);
        packets.extend([syn.clone(), answer.clone(), syn, answer]);
    }
    let mut fed = Fed::under(&varied());
    fed.packets(&packets).quiet(60_000);
    let told = short(&fed.events);
    assert!(told.iter().all(|told| !told.contains("closed_ports")), "{told:?}");
}
