//! What a capture at the café's router would have recorded: a little ordinary traffic, and a few attacks a day.
//!
//! Pure, like the days beside it. It makes packets and no judgement: the rules that find the attacks are the ones that ship.

use core::net::Ipv4Addr;
use std::collections::VecDeque;

use watchfold_rules::{PackName, RuleSource, RulesError};
use watchfold_schemas::observation::OBSERVATION_VERSION;
use watchfold_schemas::packets::{CaptureCounts, CaptureSource, PACKET_ROWS_MAX, PacketBatch, marks};
use watchfold_schemas::rules::{RulesActivation, Surroundings};
use watchfold_schemas::{Body, Chain, Observation, Origin, Span, Time};

use super::cafe::SITE;
use super::day::incarnation_at;
use super::plan::{PCS, Window};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

const COLLECTOR: &str = "capture-lan";
/// Without packets it says so this often.
const QUIET_EVERY_S: i64 = 10;
/// Ordinary traffic: one connection in this time while the café is open.
const ORDINARY_EVERY_S: i64 = 10;
const OPEN: Window = Window::new(9 * HOUR, 14 * HOUR);

/// Somebody outside tries the server's ports: once in the morning, and soon after the page is opened.
const SCANS: [Window; 2] = [
    Window::new(10 * HOUR + 52 * MINUTE, 45),
    Window::new(14 * HOUR + 90, 40),
];
/// A PC of the house guesses passwords at the server.
const GUESSING: [Window; 2] = [
    Window::new(13 * HOUR + 20 * MINUTE, 6 * MINUTE),
    Window::new(14 * HOUR + 16 * MINUTE, 4 * MINUTE),
];
/// Another one sends far more to somebody outside than anybody should.
const UPLOADS: [Window; 1] = [Window::new(14 * HOUR + 50 * MINUTE, 3 * MINUTE)];

const SCANNER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 5);
const SHOP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 200);
const DROP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 80);
const GUESSER: usize = 11;
const UPLOADER: usize = 16;
const PORTS_A_SECOND: i64 = 10;
/// Full packets a second: 1.3 MB/s.
const UPLOADED_A_SECOND: i64 = 900;
const FULL_PACKET_BYTES: u16 = 1_500;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const TCP: u8 = 6;
/// Of an Ethernet interface, as libpcap numbers it.
const ETHERNET: i32 = 1;

/// One end of a connection.
type End = (Ipv4Addr, u16);

#[derive(Clone, Copy, Debug)]
struct Packet {
    after: Span,
    from: End,
    to: End,
    flags: u8,
    length: u16,
}

/// A capture's days one after another; the first record says which rules are in force.
pub struct Capture {
    start: Time,
    length_s: i64,
    second: i64,
    incarnation: u64,
    number: u64,
    packets: u64,
    ready: VecDeque<Observation>,
}

impl Capture {
    /// Days of this length from `start` on.
    pub fn new(start: Time, length_s: i64) -> Result<Capture, RulesError> {
        let mut capture = Capture {
            start,
            length_s,
            second: 0,
            incarnation: incarnation_at(start),
            number: 0,
            packets: 0,
            ready: VecDeque::new(),
        };
        let rules = Body::Rules(Box::new(rules(start)?));
        capture.ready.push_back(Observation {
            v: OBSERVATION_VERSION,
            origin: Origin {
                site: SITE.to_owned(),
                collector: "rules".to_owned(),
                incarnation: capture.incarnation,
                number: 1,
            },
            observed_at: start,
            through: start,
            body: rules,
        });
        Ok(capture)
    }

    /// Goes on by one second.
    fn step(&mut self) {
        let base = self.start + Span::from_seconds(self.second);
        let mut packets = packets_in(self.second);
        packets.sort_by_key(|packet| packet.after);
        let is_due = self.second % QUIET_EVERY_S == 0;
        for rows in packets.chunks(PACKET_ROWS_MAX) {
            let through = rows.last().map_or(base, |packet| base + packet.after);
            self.record(base, through, rows);
        }
        if packets.is_empty() && is_due {
            self.record(base, base, &[]);
        }
        self.second += 1;
        if self.second >= self.length_s {
            self.start = self.start + Span::from_seconds(self.length_s);
            self.second = 0;
        }
    }

    fn record(&mut self, base: Time, through: Time, rows: &[Packet]) {
        self.number += 1;
        let batch = batch(base, self.packets + 1, rows);
        self.packets += rows.len() as u64;
        self.ready.push_back(Observation {
            v: OBSERVATION_VERSION,
            origin: Origin {
                site: SITE.to_owned(),
                collector: COLLECTOR.to_owned(),
                incarnation: self.incarnation,
                number: self.number,
            },
            observed_at: through,
            through,
            body: Body::Batch(Box::new(batch)),
        });
    }
}

impl Iterator for Capture {
    type Item = Observation;

    fn next(&mut self) -> Option<Observation> {
        while self.ready.is_empty() {
            self.step();
        }
        self.ready.pop_front()
    }
}

/// The default pack, as `watchfold up` puts it into force.
fn rules(at: Time) -> Result<RulesActivation, RulesError> {
    let set = watchfold_rules::load(&RuleSource::Pack(PackName::Default))?.of_chain(Chain::Packets);
    let surroundings = Surroundings {
        gateways: vec!["192.168.10.1".to_owned()],
        ..Surroundings::default()
    };
    Ok(RulesActivation {
        at,
        chain: Chain::Packets,
        hash: RulesActivation::hash_of(Chain::Packets, &set, &surroundings),
        set,
        surroundings,
        software: format!("watchfold {} demo", env!("CARGO_PKG_VERSION")),
    })
}

fn packets_in(second: i64) -> Vec<Packet> {
    let mut packets = Vec::new();
    if OPEN.contains(second) && second % ORDINARY_EVERY_S == 3 {
        let pc = (second / ORDINARY_EVERY_S) as usize % PCS;
        let port = 49_152 + (second % 16_000) as u16;
        connection((pc_address(pc), port), (SHOP, 443), 640, &mut packets);
    }
    let running = |windows: &[Window]| {
        let window = windows.iter().find(|window| window.contains(second))?;
        Some(second - window.from_s)
    };
    if let Some(ago_s) = running(&SCANS) {
        for n in 0..PORTS_A_SECOND {
            let to = (SERVER, 1 + (ago_s * PORTS_A_SECOND + n) as u16 * 3);
            let after = Span::from_millis(n * 1_000 / PORTS_A_SECOND);
            let from = (SCANNER, 51_000);
            packets.push(packet(after, from, to, SYN, 60));
            packets.push(packet(after + Span::from_millis(1), to, from, RST | ACK, 54));
        }
    }
    if let Some(ago_s) = running(&GUESSING)
        && ago_s % 2 == 0
    {
        let from = (pc_address(GUESSER), 40_000 + ago_s as u16);
        connection(from, (SERVER, 22), 900, &mut packets);
    }
    if let Some(ago_s) = running(&UPLOADS) {
        let (from, to) = ((pc_address(UPLOADER), 55_012), (DROP, 443));
        if ago_s == 0 {
            packets.push(packet(Span(0), from, to, SYN, 60));
            packets.push(packet(Span::from_millis(9), to, from, SYN | ACK, 60));
        }
        for n in 0..UPLOADED_A_SECOND {
            let after = Span(10_000_000 + n * 980_000_000 / UPLOADED_A_SECOND);
            packets.push(packet(after, from, to, PSH | ACK, FULL_PACKET_BYTES));
            if n % 3 == 0 {
                packets.push(packet(after + Span(400_000), to, from, ACK, 54));
            }
        }
    }
    packets
}

/// A connection that is opened, says a little, and is closed after so long.
fn connection(from: End, to: End, lasts_ms: i64, packets: &mut Vec<Packet>) {
    for (after_ms, is_answer, flags, length) in [
        (0, false, SYN, 60),
        (1, true, SYN | ACK, 60),
        (2, false, ACK, 54),
        (10, false, PSH | ACK, 140),
        (14, true, PSH | ACK, 180),
        (lasts_ms, false, FIN | ACK, 54),
        (lasts_ms + 1, true, FIN | ACK, 54),
        (lasts_ms + 2, false, ACK, 54),
    ] {
        let (from, to) = if is_answer { (to, from) } else { (from, to) };
        packets.push(packet(Span::from_millis(after_ms), from, to, flags, length));
    }
}

const fn packet(after: Span, from: End, to: End, flags: u8, length: u16) -> Packet {
    Packet {
        after,
        from,
        to,
        flags,
        length,
    }
}

/// As `cafe::address_of` has it.
fn pc_address(pc: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 10, 101 + pc as u8)
}

fn batch(base: Time, first: u64, rows: &[Packet]) -> PacketBatch {
    let mut batch = PacketBatch {
        first,
        base,
        source: CaptureSource {
            name: "lan0".to_owned(),
            link_type: ETHERNET,
            snap_length: 262_144,
        },
        counts: CaptureCounts {
            received: first - 1 + rows.len() as u64,
            ..CaptureCounts::default()
        },
        ..PacketBatch::default()
    };
    let mut known: Vec<Ipv4Addr> = Vec::new();
    let mut index_of = |address: Ipv4Addr, dictionary: &mut Vec<u8>| {
        let place = known.iter().position(|one| *one == address).unwrap_or_else(|| {
            known.push(address);
            dictionary.extend(address.octets());
            known.len() - 1
        });
        (place as u16).to_le_bytes()
    };
    for (number, row) in rows.iter().enumerate() {
        let (source, source_port) = row.from;
        let (destination, destination_port) = row.to;
        batch.at_ns.extend((row.after.0 as i32).to_le_bytes());
        batch.numbers.extend((number as i32).to_le_bytes());
        batch.sources.extend(index_of(source, &mut batch.v4));
        batch.destinations.extend(index_of(destination, &mut batch.v4));
        batch.source_ports.extend(source_port.to_le_bytes());
        batch.destination_ports.extend(destination_port.to_le_bytes());
        batch.lengths.extend(row.length.to_le_bytes());
        batch.protocols.push(TCP);
        batch.tcp_flags.push(row.flags);
        batch
            .marks
            .push(if row.flags & PSH == 0 { 0 } else { marks::PAYLOAD });
    }
    batch
}

#[cfg(test)]
mod tests {
    use watchfold_folds::{PacketChain, StateMachine};
    use watchfold_schemas::EventBody;

    use super::*;

    /// A whole day through the packet chain: what was planned begins and ends once, and nothing else is found.
    #[test]
    fn the_rules_that_ship_find_the_planned_attacks_and_nothing_else() {
        let start: Time = "2026-03-01T00:00:00Z".parse().unwrap();
        let mut fold = PacketChain::new(SITE);
        let (mut began, mut ended) = (Vec::new(), Vec::new());
        let until = start + Span::from_seconds(16 * HOUR);
        let day = Capture::new(start, 24 * HOUR).unwrap();
        for (sequence, observation) in (1..).zip(day.take_while(|next| next.observed_at < until)) {
            if let Body::Batch(batch) = &observation.body {
                batch.view().unwrap();
            }
            for event in fold.apply(sequence, &observation) {
                match event.body {
                    EventBody::AttackBegan(attack) => began.push((attack.category, attack.began_at)),
                    EventBody::AttackEnded(attack) => ended.push((attack.category, attack.began_at)),
                    _ => {}
                }
            }
            fold.drain_dirty();
        }
        let planned = [
            ("port_scan", SCANS[0]),
            ("brute_force", GUESSING[0]),
            ("port_scan", SCANS[1]),
            ("brute_force", GUESSING[1]),
            ("exfiltration", UPLOADS[0]),
        ];
        let found: Vec<&str> = began.iter().map(|(category, _)| &**category).collect();
        assert_eq!(found, planned.map(|(category, _)| category));
        for ((_, began_at), (category, window)) in began.iter().zip(planned) {
            let second = began_at.since(start).as_millis() / 1_000;
            assert!(window.contains(second), "{category} from {second} s on");
        }
        assert_eq!(ended, began);
    }
}
