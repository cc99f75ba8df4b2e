//! Packets of a small network with attacks in them, and rules that find these: everyday connections, two port scans, a
//! flood from made-up sources and a host that takes over another one's address.

use core::net::Ipv4Addr;

use watchfold_log::Append;
use watchfold_schemas::event::Severity;
use watchfold_schemas::fields::Source;
use watchfold_schemas::packets::{ArpRow, PacketBatch};
use watchfold_schemas::rules::{
    Compare, FieldTest, Rule, RuleSet, RuleState, RulesActivation, Surroundings, Test, Trigger, Value,
};
use watchfold_schemas::{Body, Chain, Observation, Span, Stream, Time};

use super::world::{Rng, message_in, observation};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const SCANNER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 66);

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST_ACK: u8 = 20;
const ACK: u8 = 16;
const SYN_ACK: u8 = 18;

/// A packet of a second, by its place in it.
struct Wire {
    ms: i32,
    ends: [(Ipv4Addr, u16); 2],
    flags: u8,
    arp: Option<[u8; 6]>,
}

/// The rules, and then a batch for each second.
pub(super) fn traffic(seconds: u64, seed: u64) -> Vec<Append> {
    let mut rng = Rng::new(seed);
    let mut packets = 0;
    let batches = (1..=seconds).map(|second| {
        let wires = second_of(second, &mut rng);
        let batch = batch_of(second, &wires, packets + 1);
        packets += wires.len() as u64;
        captured(second, batch)
    });
    let batches: Vec<Observation> = batches.collect();
    let messages = batches.iter().map(|batch| message_in(Stream::Packets, batch));
    std::iter::once(message_in(Stream::Packets, &activation()))
        .chain(messages)
        .collect()
}

fn second_of(second: u64, rng: &mut Rng) -> Vec<Wire> {
    let mut wires = Vec::new();
    for _ in 0..3 {
        let client = (
            Ipv4Addr::new(192, 168, 1, 100 + rng.below(12) as u8),
            40_000 + rng.below(20_000) as u16,
        );
        let ms = rng.below(400) as i32;
        exchange(&mut wires, ms, client, (SERVER, 443), &[SYN, ACK, ACK, FIN | ACK]);
    }
    let of_cycle = second % 900;
    if (100..112).contains(&of_cycle) {
        for _ in 0..6 {
            let port = 1 + rng.below(1_000) as u16;
            let ms = 500 + rng.below(300) as i32;
            wires.push(Wire::tcp(ms, (SCANNER, 50_000), (SERVER, port), SYN));
            wires.push(Wire::tcp(ms + 1, (SERVER, port), (SCANNER, 50_000), RST_ACK));
        }
    }
    if (400..408).contains(&of_cycle) {
        for _ in 0..80 {
            let made_up = Ipv4Addr::from_bits(0x2d00_0000 + rng.below(1 << 24) as u32);
            let ms = rng.below(1_000) as i32;
            wires.push(Wire::tcp(ms, (made_up, 1_024), (SERVER, 80), SYN));
        }
    }
    if second.is_multiple_of(30) {
        let mac = match of_cycle {
            600..700 => [2, 0, 0, 0, 0, 66],
            _ => [2, 0, 0, 0, 0, 1],
        };
        let arp = Some(mac);
        wires.push(Wire {
            arp,
            ..Wire::tcp(990, (GATEWAY, 0), (SERVER, 0), 0)
        });
    }
    wires.sort_by_key(|wire| wire.ms);
    wires
}

/// What the one side sends, each answered.
fn exchange(wires: &mut Vec<Wire>, ms: i32, client: (Ipv4Addr, u16), server: (Ipv4Addr, u16), sends: &[u8]) {
    for (step, flags) in (0..).zip(sends) {
        let answer = if *flags == SYN { SYN_ACK } else { ACK };
        wires.push(Wire::tcp(ms + step * 20, client, server, *flags));
        wires.push(Wire::tcp(ms + step * 20 + 5, server, client, answer));
    }
}

impl Wire {
    fn tcp(ms: i32, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), flags: u8) -> Wire {
        Wire {
            ms,
            ends: [from, to],
            flags,
            arp: None,
        }
    }
}

fn start_of(second: u64) -> Time {
    Time::from_seconds(1_700_000_000) + Span::from_seconds(second as i64)
}

fn batch_of(second: u64, wires: &[Wire], first: u64) -> PacketBatch {
    let mut addresses: Vec<Ipv4Addr> = wires.iter().flat_map(|wire| wire.ends).map(|end| end.0).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let index = |address: Ipv4Addr| addresses.binary_search(&address).unwrap() as u16;
    let mut out = PacketBatch {
        first,
        base: start_of(second),
        ..PacketBatch::default()
    };
    out.source.name = "eth0".to_owned();
    for (row, wire) in (0_u16..).zip(wires) {
        let [source, destination] = wire.ends;
        out.at_ns.extend((wire.ms * 1_000_000).to_le_bytes());
        out.numbers.extend(i32::from(row).to_le_bytes());
        out.sources.extend(index(source.0).to_le_bytes());
        out.destinations.extend(index(destination.0).to_le_bytes());
        out.source_ports.extend(source.1.to_le_bytes());
        out.destination_ports.extend(destination.1.to_le_bytes());
        out.lengths.extend(60_u16.to_le_bytes());
        out.protocols.push(if wire.arp.is_some() { 255 } else { 6 });
        out.tcp_flags.push(wire.flags);
        out.marks.push(0);
        if let Some(sender_mac) = wire.arp {
            out.arp.push(ArpRow {
                row,
                operation: 2,
                sender_mac,
                sender_ip: source.0.octets(),
                target_mac: [0; 6],
                target_ip: destination.0.octets(),
            });
        }
    }
    out.v4 = addresses.iter().flat_map(Ipv4Addr::octets).collect();
    out
}

fn captured(second: u64, batch: PacketBatch) -> Observation {
    let through = start_of(second + 1);
    Observation {
        observed_at: through,
        through,
        ..observation("capture-lan", 1, second, Body::Batch(Box::new(batch)))
    }
}

fn activation() -> Observation {
    let (set, surroundings) = (rules(), Surroundings::default());
    let activation = RulesActivation {
        at: start_of(0),
        chain: Chain::Packets,
        hash: RulesActivation::hash_of(Chain::Packets, &set, &surroundings),
        set,
        surroundings,
        software: "tests".to_owned(),
    };
    observation("config", 1, 1, Body::Rules(Box::new(activation)))
}

fn rules() -> RuleSet {
    let field = |field: &str, value: Value| {
        Test::Field(FieldTest {
            field: field.to_owned(),
            compare: Compare::Equals,
            values: vec![value],
            all: false,
        })
    };
    let rule = |name: &str, source: Source, test: Test, trigger: Trigger, subject: &str| Rule {
        id: format!("id-{name}"),
        name: name.to_owned(),
        title: name.to_owned(),
        version: 1,
        category: name.to_owned(),
        severity: Severity::High,
        state: RuleState::Enforce,
        source,
        test,
        exclusions: Vec::new(),
        trigger,
        subject: vec![subject.to_owned()],
        cooldown_ms: 15_000,
        reputation: None,
        counts_duplicates: false,
        withdrawn_by: None,
        message: "{observed} of {threshold} in {window}".to_owned(),
    };
    let opening = Test::All(vec![
        field("tcp.syn", Value::Truth(true)),
        field("tcp.ack", Value::Truth(false)),
    ]);
    let refused = field("connection.outcome", Value::Text("refused".to_owned()));
    let changed = field("neighbour.change", Value::Text("changed".to_owned()));
    let scanned = Trigger::Distinct {
        field: "destination.port".to_owned(),
        group_by: vec!["source.ip".to_owned()],
        window_ms: 10_000,
        at_least: 15,
    };
    let flooded = Trigger::Count {
        group_by: vec!["destination.ip".to_owned()],
        window_ms: 5_000,
        at_least: 200,
    };
    let rules = vec![
        rule("port_scan", Source::Connection, refused, scanned, "source.ip"),
        rule("syn_flood", Source::Packet, opening, flooded, "destination.ip"),
        rule(
            "neighbour_changed",
            Source::Neighbour,
            changed,
            Trigger::Each,
            "source.ip",
        ),
    ];
    RuleSet {
        name: "tests".to_owned(),
        rules,
    }
}
