//! Stories that a fuzzer writes: bursts of packets, quiet, gaps, verdicts, other rules, restarts of captures. Folded in batches of any
//! size they come to the same.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use watchfold_capture::batch::{BatchBuilder, Pushed};
use watchfold_capture::parse::{Inside, Packet, Print, Vlans};
use watchfold_rules::PackName;
use watchfold_schemas::alert::{SubjectKind, Verdict};
use watchfold_schemas::observation::Gap;
use watchfold_schemas::packets::{
    ArpRow, CaptureCounts, CaptureSource, DhcpRow, DnsRow, NeighbourRow, PACKET_ROWS_MAX,
};
use watchfold_schemas::rules::RulesActivation;
use watchfold_schemas::{Body, Event, Span, Time};

use crate::chain::{Folded, Told, pack};

/// The most packets of a story: enough for the thresholds of the packs that ship.
const PACKETS_MAX: u64 = 500;

/// Stories begin here; packets may come from before.
const BEGIN: Time = Time::from_seconds(1_700_000_000);

/// Bytes that payloads are cut from.
const PAYLOAD: &[u8] = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]} SSH-2.0-x GET / HTTP/1.1";

#[derive(Arbitrary, Clone, Debug)]
pub enum Step {
    Packets(Burst),
    More(Burst),
    Quiet { ms: u32 },
    Gap { begins_ms_ago: i16, ms: u32 },
    Lost,
    Verdict(Said),
    Rules { is_classic: bool },
    Incarnation,
    Collector { number: u8 },
}

/// Packets that differ in one thing.
#[derive(Arbitrary, Clone, Debug)]
pub struct Burst {
    pub source: u8,
    pub destination: u8,
    pub ports: (u16, u16),
    pub kind: Kind,
    pub walk: Walk,
    pub count: u8,
    pub step_ms: i16,
    pub length: u16,
    pub payload: u8,
    pub marks: u8,
    pub vlan: Option<u16>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Kind {
    Segment {
        flags: u8,
    },
    Connection {
        is_answered: bool,
        is_reset: bool,
    },
    Datagram,
    Echo,
    Query {
        letters: u8,
        query_type: u16,
        is_response: bool,
    },
    Arp {
        operation: u8,
        mac: u8,
    },
    Neighbour {
        message_type: u8,
        mac: Option<u8>,
        flags: u8,
    },
    Dhcp {
        message_type: u8,
        mac: u8,
        given: u8,
    },
    TlsName {
        letters: u8,
    },
    HttpHost {
        letters: u8,
    },
    Other {
        protocol: u8,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Walk {
    Nothing,
    SourcePort,
    DestinationPort,
    Source,
    Destination,
    Length,
    Mac,
}

#[derive(Arbitrary, Clone, Debug)]
pub struct Said {
    pub about: u8,
    pub known: bool,
    pub malicious: u8,
    pub suspicious: u8,
    pub holds_s: u16,
}

/// The story in batches of at most so many rows, stored and loaded after so many of them.
pub fn told(steps: &[Step], rows_max: usize, restart_every: Option<usize>) -> (Vec<Told>, u64) {
    let mut telling = Telling {
        folded: Folded::under(pack(PackName::Default)),
        builder: BatchBuilder::new(CaptureSource::default(), &[22, 80, 3_333, 14_444]),
        rows_max,
        restart_every,
        batches: 0,
        collector: "capture-0".to_owned(),
        incarnation: 1,
        packets: 0,
        at: BEGIN,
        through: BTreeMap::new(),
    };
    for step in steps {
        telling.step(step);
    }
    telling.quiet(Span::from_seconds(7_200));
    let counters = telling.folded.chain.counters();
    assert_eq!(counters.malformed_batches, 0);
    assert_eq!(counters.rules_refused, 0);
    (telling.folded.told, telling.packets)
}

/// Some of everything, under these rules.
pub fn mixed(rules: &RulesActivation, rows_max: usize) -> Vec<Told> {
    mix(rules, rows_max).told
}

/// The events of the same.
pub fn mixed_events(rules: &RulesActivation) -> Vec<Event> {
    mix(rules, PACKET_ROWS_MAX).events
}

fn mix(rules: &RulesActivation, rows_max: usize) -> Folded {
    let burst = |number: u8, kind| Burst {
        source: 2 + number % 6,
        destination: 1 + number % 9,
        ports: (40_000, [22, 80, 443, 4_444, 53][usize::from(number % 5)]),
        kind,
        walk: [Walk::DestinationPort, Walk::Destination, Walk::Source, Walk::Mac][usize::from(number % 4)],
        count: 5,
        step_ms: 40,
        length: 60 + u16::from(number) * 100,
        payload: number * 7,
        marks: 0,
        vlan: (number % 5 == 0).then_some(7),
    };
    let kinds = [
        Kind::Segment { flags: 2 },
        Kind::Connection {
            is_answered: false,
            is_reset: true,
        },
        Kind::Connection {
            is_answered: true,
            is_reset: false,
        },
        Kind::Datagram,
        Kind::Echo,
        Kind::Query {
            letters: 70,
            query_type: 16,
            is_response: false,
        },
        Kind::Query {
            letters: 3,
            query_type: 1,
            is_response: true,
        },
        Kind::Arp { operation: 2, mac: 1 },
        Kind::Neighbour {
            message_type: 136,
            mac: Some(4),
            flags: 32,
        },
        Kind::Dhcp {
            message_type: 5,
            mac: 2,
            given: 3,
        },
        Kind::TlsName { letters: 4 },
        Kind::HttpHost { letters: 5 },
        Kind::Other { protocol: 132 },
    ];
    let mut telling = Telling {
        folded: Folded::under(rules),
        builder: BatchBuilder::new(CaptureSource::default(), &[22, 80]),
        rows_max,
        restart_every: None,
        batches: 0,
        collector: "capture-0".to_owned(),
        incarnation: 1,
        packets: 0,
        at: BEGIN,
        through: BTreeMap::new(),
    };
    for (number, kind) in (0_u8..).zip(kinds) {
        telling.step(&Step::Packets(burst(number, kind)));
    }
    telling.quiet(Span::from_seconds(7_200));
    assert_eq!(telling.folded.chain.counters().rules_refused, 0);
    telling.folded
}

struct Telling {
    folded: Folded,
    builder: BatchBuilder,
    rows_max: usize,
    restart_every: Option<usize>,
    batches: usize,
    collector: String,
    incarnation: u64,
    packets: u64,
    at: Time,
    /// How far each incarnation of a collector has told. It promises no more than its packets and quiet have shown, as captures do.
    through: BTreeMap<(String, u64), Time>,
}

impl Telling {
    fn step(&mut self, step: &Step) {
        if let Step::Packets(burst) | Step::More(burst) = step {
            return self.burst(burst);
        }
        self.flush();
        match step {
            Step::Packets(_) | Step::More(_) => {}
            Step::Quiet { ms } => self.quiet(Span::from_millis(i64::from(*ms))),
            Step::Gap { begins_ms_ago, ms } => {
                let from = self.at - Span::from_millis(i64::from(*begins_ms_ago));
                let to = from + Span::from_millis(i64::from(*ms));
                self.at = self.at.max(to);
                self.reach(to);
                let reason = "fuzzed".to_owned();
                let records = 1;
                self.give(Body::Gap(Gap {
                    from,
                    to,
                    records,
                    reason,
                }));
            }
            Step::Lost => self.folded.lose(),
            Step::Verdict(said) => {
                let verdict = said.verdict(self.at);
                self.folded
                    .give("virustotal", 1, self.at, Body::Verdict(Box::new(verdict)));
            }
            Step::Rules { is_classic: true } => self.folded.follow(pack(PackName::Classic), self.at),
            Step::Rules { is_classic: false } => self.folded.follow(pack(PackName::Default), self.at),
            Step::Incarnation => self.incarnation += 1,
            Step::Collector { number } => self.collector = format!("capture-{}", number % 70),
        }
    }

    fn burst(&mut self, burst: &Burst) {
        for number in 0..u16::from(burst.count) {
            if self.packets == PACKETS_MAX {
                return;
            }
            self.at = self.at + Span::from_millis(i64::from(burst.step_ms));
            self.packets += 1;
            if self.builder.len() >= self.rows_max || !self.builder.fits(self.packets, self.at) {
                self.flush();
            }
            let (packet, length) = burst.packet(number);
            let pushed = self.builder.push(self.packets, self.at, length, packet);
            assert_eq!(pushed, Pushed::Taken);
            self.reach(self.at);
        }
    }

    fn quiet(&mut self, span: Span) {
        self.flush();
        self.at = self.at + span;
        self.reach(self.at);
        self.give(Body::Quiet);
    }

    fn flush(&mut self) {
        if self.builder.is_empty() {
            return;
        }
        let batch = self.builder.take(CaptureCounts::default());
        assert!(batch.view().expect("a batch that was built is sound").len() <= PACKET_ROWS_MAX);
        self.give(Body::Batch(Box::new(batch)));
        self.batches += 1;
        if self
            .restart_every
            .is_some_and(|every| self.batches.is_multiple_of(every))
        {
            self.folded.restart();
        }
    }

    fn give(&mut self, body: Body) {
        let (collector, incarnation) = (self.collector.clone(), self.incarnation);
        let through = self.through.get(&(collector.clone(), incarnation));
        let through = through.copied().unwrap_or(self.at);
        self.folded.give(&collector, incarnation, through, body);
    }

    fn reach(&mut self, at: Time) {
        let through = self.through.entry((self.collector.clone(), self.incarnation));
        let through = through.or_insert(at);
        *through = at.max(*through);
    }
}

impl Burst {
    /// The packet with this number of the burst, and its length.
    fn packet(&self, number: u16) -> (Packet<'static>, u32) {
        let walked = |wanted: fn(&Walk) -> bool| if wanted(&self.walk) { number } else { 0 };
        let mac_walk = walked(|walk| matches!(walk, Walk::Mac)) as u8;
        let length = self
            .length
            .wrapping_add(walked(|walk| matches!(walk, Walk::Length)) * 97);
        let mut packet = Packet {
            source: address(self.source, walked(|walk| matches!(walk, Walk::Source))),
            destination: address(self.destination, walked(|walk| matches!(walk, Walk::Destination))),
            source_port: self
                .ports
                .0
                .wrapping_add(walked(|walk| matches!(walk, Walk::SourcePort))),
            destination_port: self
                .ports
                .1
                .wrapping_add(walked(|walk| matches!(walk, Walk::DestinationPort))),
            protocol: 6,
            tcp_flags: 0,
            marks: self.marks,
            vlans: Vlans {
                outer: self.vlan,
                inner: None,
            },
            print: Print::default(),
            inside: Inside::Nothing,
            payload: &PAYLOAD[..usize::from(self.payload).min(PAYLOAD.len())],
        };
        self.kind.fill(&mut packet, number, mac_walk);
        (packet, u32::from(length))
    }
}

impl Kind {
    fn fill(self, packet: &mut Packet<'_>, number: u16, mac_walk: u8) {
        let name = |letters: u8| format!("{}.x{number}.example.org", "n".repeat(usize::from(letters)));
        let mac = |mac: u8| [2, 0, 0, 0, 0, mac.wrapping_add(mac_walk)];
        let (v4, v6) = (|ip| as_v4(ip), |ip| as_v6(ip));
        match self {
            Kind::Segment { flags } => packet.tcp_flags = flags,
            Kind::Connection {
                is_answered,
                is_reset,
            } => {
                let is_answer = is_answered && number % 2 == 1;
                packet.tcp_flags = match (is_answer, is_reset) {
                    (false, _) => 2,
                    (true, false) => 18,
                    (true, true) => 20,
                };
                if is_answer {
                    std::mem::swap(&mut packet.source, &mut packet.destination);
                    std::mem::swap(&mut packet.source_port, &mut packet.destination_port);
                }
            }
            Kind::Datagram => packet.protocol = 17,
            Kind::Echo => {
                packet.protocol = if packet.source.is_some_and(|ip| ip.is_ipv6()) {
                    58
                } else {
                    1
                };
                (packet.source_port, packet.destination_port) = (8, 0);
            }
            Kind::Query {
                letters,
                query_type,
                is_response,
            } => {
                packet.protocol = 17;
                packet.inside = Inside::Dns(DnsRow {
                    row: 0,
                    name: name(letters),
                    query_type,
                    is_response,
                    response_code: 3,
                    answers: 0,
                });
            }
            Kind::Arp {
                operation,
                mac: owner,
            } => {
                packet.protocol = 255;
                packet.inside = Inside::Arp(ArpRow {
                    row: 0,
                    operation: u16::from(operation % 4),
                    sender_mac: mac(owner),
                    sender_ip: v4(packet.source),
                    target_mac: [0; 6],
                    target_ip: v4(packet.destination),
                });
            }
            Kind::Neighbour {
                message_type,
                mac: owner,
                flags,
            } => {
                packet.protocol = 58;
                packet.inside = Inside::Neighbour(NeighbourRow {
                    row: 0,
                    message_type: 134 + message_type % 3,
                    target: v6(packet.source),
                    mac: owner.map(mac),
                    flags,
                });
            }
            Kind::Dhcp {
                message_type,
                mac: owner,
                given,
            } => {
                packet.protocol = 17;
                packet.inside = Inside::Dhcp(DhcpRow {
                    row: 0,
                    message_type: message_type % 9,
                    client_mac: mac(owner),
                    your_ip: [10, 0, 0, given % 8],
                    server: (given % 2 == 0).then_some([10, 0, 0, 1]),
                });
            }
            Kind::TlsName { letters } => packet.inside = Inside::TlsName(name(letters)),
            Kind::HttpHost { letters } => packet.inside = Inside::HttpHost(name(letters)),
            Kind::Other { protocol } => packet.protocol = protocol,
        }
    }
}

impl Said {
    fn verdict(&self, at: Time) -> Verdict {
        let address = address(self.about, 0);
        let (kind, subject) = match address {
            Some(address) => (SubjectKind::Address, address.to_string()),
            None => (SubjectKind::Name, "example.org".to_owned()),
        };
        Verdict {
            at,
            oracle: "virustotal".to_owned(),
            kind,
            subject,
            known: self.known,
            malicious: u32::from(self.malicious),
            suspicious: u32::from(self.suspicious),
            harmless: 1,
            undetected: 1,
            score: -i64::from(self.malicious),
            country: None,
            owner: None,
            categories: Vec::new(),
            expires_at: at + Span::from_seconds(i64::from(self.holds_s)),
        }
    }
}

/// Few hosts, so that packets meet: private, public, IPv6, groups, and none at all.
fn address(host: u8, walked: u16) -> Option<IpAddr> {
    let [high, low] = walked.to_be_bytes();
    let v4 = |net: [u8; 2], host: u8| IpAddr::V4(Ipv4Addr::new(net[0], net[1], high, low.wrapping_add(host)));
    Some(match host % 16 {
        0 => return None,
        host @ 1..=7 => v4([10, 0], host),
        host @ 8..=9 => v4([192, 0], host),
        host @ 10..=11 => v4([8, 8], host),
        12 => IpAddr::V6(Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, walked.wrapping_add(1))),
        13 => IpAddr::V6(Ipv6Addr::new(0x2A00, 1, 0, 0, 0, 0, 0, walked.wrapping_add(1))),
        14 => IpAddr::V4(Ipv4Addr::new(224, 0, high, low.wrapping_add(251))),
        _ => IpAddr::V4(Ipv4Addr::BROADCAST),
    })
}

fn as_v4(address: Option<IpAddr>) -> [u8; 4] {
    match address {
        Some(IpAddr::V4(address)) => address.octets(),
        _ => [0; 4],
    }
}

fn as_v6(address: Option<IpAddr>) -> [u8; 16] {
    match address {
        Some(IpAddr::V6(address)) => address.octets(),
        Some(IpAddr::V4(address)) => address.to_ipv6_mapped().octets(),
        None => [0; 16],
    }
}
