//! Packets by hand, batches of any size made of them, and rules to hold against them. For tests alone.

pub mod rules;

use core::net::IpAddr;
use std::collections::BTreeMap;

use watchfold_schemas::event::Event;
use watchfold_schemas::observation::{Body, OBSERVATION_VERSION, Observation};
use watchfold_schemas::origin::Origin;
use watchfold_schemas::packets::{
    ArpRow, DnsRow, NO_ADDRESS, PACKET_OFFSET_MAX, PacketBatch, PayloadHead, REPEATS_WITHIN, Repeat,
};
use watchfold_schemas::rules::{RuleSet, RulesActivation, Surroundings};
use watchfold_schemas::{Chain, Span, Time};

use super::PacketChain;
use crate::machine::StateMachine;

pub const SITE: &str = "cafe-1";

/// One packet.
#[derive(Clone, Debug)]
pub struct Wire {
    pub at: Time,
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
    pub ports: (u16, u16),
    pub protocol: u8,
    pub flags: u8,
    pub marks: u8,
    pub length: u16,
    /// The outermost first.
    pub vlans: Vec<u16>,
    /// What its content and its way are, as hashes; 0 says nothing.
    pub print: (u32, u16),
    /// Since the last packet of the same content, where that is known.
    pub repeats: Option<Span>,
    pub side: Side,
}

/// What only some packets have.
#[derive(Clone, Debug)]
pub enum Side {
    Nothing,
    Dns(String, u16, bool),
    /// Operation, sender's hardware address.
    Arp(u16, [u8; 6]),
    Tls(String),
    Http(String),
    Head(Vec<u8>),
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Wire {
    pub fn at(ms: i64) -> Wire {
        Wire {
            at: Time::from_millis(ms),
            source: Some(address("10.0.0.1")),
            destination: Some(address("10.0.0.2")),
            ports: (40_000, 80),
            protocol: 6,
            flags: 16,
            marks: 0,
            length: 60,
            vlans: Vec::new(),
            print: (0, 0),
            repeats: None,
            side: Side::Nothing,
        }
    }

    pub fn from(mut self, source: &str) -> Wire {
        self.source = Some(address(source));
        self
    }

    pub fn to(mut self, destination: &str, port: u16) -> Wire {
        self.destination = Some(address(destination));
        self.ports.1 = port;
        self
    }

    pub fn syn(mut self) -> Wire {
        self.flags = 2;
        self
    }

    pub fn vlans(mut self, vlans: &[u16]) -> Wire {
        self.vlans = vlans.to_vec();
        self
    }

    /// Content and way.
    pub fn print(mut self, content: u32, path: u16) -> Wire {
        self.print = (content, path);
        self
    }

    pub fn length(mut self, length: u16) -> Wire {
        self.length = length;
        self
    }

    pub fn echo(mut self) -> Wire {
        (self.protocol, self.ports, self.flags) = (1, (8, 0), 0);
        self
    }

    pub fn dns(mut self, name: &str) -> Wire {
        (self.protocol, self.ports, self.flags) = (17, (40_000, 53), 0);
        self.side = Side::Dns(name.to_owned(), 1, false);
        self
    }

    pub fn arp(mut self, operation: u16, mac: u8) -> Wire {
        (self.protocol, self.ports, self.flags) = (255, (0, 0), 0);
        self.side = Side::Arp(operation, [mac; 6]);
        self
    }
}

/// A batch of packets; the first has this number.
pub fn batch(packets: &[Wire], first: u64) -> PacketBatch {
    let mut dictionary: Vec<IpAddr> = packets
        .iter()
        .flat_map(|wire| [wire.source, wire.destination])
        .flatten()
        .collect();
    dictionary.sort_unstable();
    dictionary.dedup();
    let base = packets.first().map_or(Time::default(), |wire| wire.at);
    let mut out = PacketBatch {
        first,
        base,
        ..PacketBatch::default()
    };
    out.source.name = "eth0".to_owned();
    for address in &dictionary {
        match address {
            IpAddr::V4(address) => out.v4.extend(address.octets()),
            IpAddr::V6(address) => out.v6.extend(address.octets()),
        }
    }
    let index = |address: Option<IpAddr>| {
        address.map_or(NO_ADDRESS, |address| {
            dictionary.iter().position(|known| *known == address).unwrap() as u16
        })
    };
    for (row, wire) in packets.iter().enumerate() {
        out.at_ns.extend((wire.at.since(base).0 as i32).to_le_bytes());
        out.numbers.extend((row as i32).to_le_bytes());
        out.sources.extend(index(wire.source).to_le_bytes());
        out.destinations.extend(index(wire.destination).to_le_bytes());
        out.source_ports.extend(wire.ports.0.to_le_bytes());
        out.destination_ports.extend(wire.ports.1.to_le_bytes());
        out.lengths.extend(wire.length.to_le_bytes());
        out.protocols.push(wire.protocol);
        out.tcp_flags.push(wire.flags);
        out.marks.push(wire.marks);
        if let Some(after) = wire.repeats {
            out.push_repeat(Repeat {
                row: row as u16,
                print: wire.print.0,
                path: wire.print.1,
                after,
            });
        }
        let mut vlans = wire.vlans.iter().map(|vlan| (row as u16, *vlan));
        out.vlans.extend(vlans.next());
        out.inner_vlans.extend(vlans.next());
        push_side(&mut out, row as u16, wire);
    }
    out
}

fn push_side(out: &mut PacketBatch, row: u16, wire: &Wire) {
    let v4 = |address: Option<IpAddr>| match address {
        Some(IpAddr::V4(address)) => address.octets(),
        _ => [0; 4],
    };
    match &wire.side {
        Side::Nothing => {}
        Side::Dns(name, query_type, is_response) => out.dns.push(DnsRow {
            row,
            name: name.clone(),
            query_type: *query_type,
            is_response: *is_response,
            response_code: 0,
            answers: 0,
        }),
        Side::Arp(operation, mac) => out.arp.push(ArpRow {
            row,
            operation: *operation,
            sender_mac: *mac,
            sender_ip: v4(wire.source),
            target_mac: [0; 6],
            target_ip: v4(wire.destination),
        }),
        Side::Tls(name) => out.tls_names.push((row, name.clone())),
        Side::Http(host) => out.http_hosts.push((row, host.clone())),
        Side::Head(bytes) => out.heads.push(PayloadHead {
            row,
            bytes: bytes.clone(),
        }),
    }
}

pub fn observation(collector: &str, incarnation: u64, number: u64, through: Time, body: Body) -> Observation {
    Observation {
        v: OBSERVATION_VERSION,
        origin: Origin {
            site: SITE.to_owned(),
            collector: collector.to_owned(),
            incarnation,
            number,
        },
        observed_at: through,
        through,
        body,
    }
}

pub fn activation(set: &RuleSet, surroundings: Surroundings) -> Observation {
    let activation = RulesActivation {
        at: Time::EPOCH,
        chain: Chain::Packets,
        hash: RulesActivation::hash_of(Chain::Packets, set, &surroundings),
        set: set.clone(),
        surroundings,
        software: "tests".to_owned(),
    };
    observation("config", 1, 1, Time::EPOCH, Body::Rules(Box::new(activation)))
}

/// A chain under these rules, and how it is fed.
pub struct Fed {
    pub chain: PacketChain,
    sequence: u64,
    packets: u64,
    through: Time,
    /// By content, when it was last captured.
    contents: BTreeMap<u32, Time>,
    pub events: Vec<Event>,
}

impl Fed {
    pub fn under(set: &RuleSet) -> Fed {
        Fed::among(set, Surroundings::default())
    }

    pub fn among(set: &RuleSet, surroundings: Surroundings) -> Fed {
        let mut out = Fed {
            chain: PacketChain::new(SITE),
            sequence: 0,
            packets: 0,
            through: Time(i64::MIN),
            contents: BTreeMap::new(),
            events: Vec::new(),
        };
        out.give(&activation(set, surroundings));
        out
    }

    pub fn give(&mut self, observation: &Observation) -> &mut Fed {
        self.sequence += 1;
        self.events.extend(self.chain.apply(self.sequence, observation));
        self
    }

    /// One batch, or as many as their times need.
    pub fn packets(&mut self, packets: &[Wire]) -> &mut Fed {
        let base = packets.first().map_or(Time::default(), |wire| wire.at);
        let fits = |wire: &Wire| wire.at.since(base).0.abs() <= PACKET_OFFSET_MAX.0;
        let first = packets
            .iter()
            .position(|wire| !fits(wire))
            .unwrap_or(packets.len());
        self.one_batch(&packets[..first]);
        if first < packets.len() {
            self.packets(&packets[first..]);
        }
        self
    }

    fn one_batch(&mut self, packets: &[Wire]) -> &mut Fed {
        let mut packets = packets.to_vec();
        for wire in packets.iter_mut().filter(|wire| wire.print.0 != 0) {
            let before = self.contents.insert(wire.print.0, wire.at);
            let after = before.map(|before| wire.at.since(before));
            wire.repeats = after.filter(|after| after.0.abs() <= REPEATS_WITHIN.0);
        }
        let batch = batch(&packets, self.packets + 1);
        self.packets += packets.len() as u64;
        let newest = packets.iter().map(|wire| wire.at).max();
        self.through = self.through.max(newest.unwrap_or(self.through));
        let body = Body::Batch(Box::new(batch));
        let observation = observation("capture-lan", 7, self.sequence + 1, self.through, body);
        self.give(&observation)
    }

    /// Nothing more until this time.
    pub fn quiet(&mut self, ms: i64) -> &mut Fed {
        self.through = self.through.max(Time::from_millis(ms));
        let batch = Body::Batch(Box::new(batch(&[], self.packets + 1)));
        let observation = observation("capture-lan", 7, self.sequence + 1, self.through, batch);
        self.give(&observation)
    }

    /// Stores the state and goes on with a chain that loaded it.
    pub fn restart(&mut self) -> &mut Fed {
        let mut again = PacketChain::new(SITE);
        again.load(&self.chain.versions(), self.chain.entries()).unwrap();
        self.chain = again;
        self
    }
}

/// Events in short: what, whose, when in milliseconds, how much.
pub fn short(events: &[Event]) -> Vec<String> {
    use watchfold_schemas::EventBody;
    let text = |event: &Event| {
        let at = event.at.as_millis();
        match &event.body {
            EventBody::AlertRaised(alert) => {
                format!(
                    "{at} alert {} {} {}",
                    alert.rule.name, alert.subject, alert.measured.observed
                )
            }
            EventBody::AttackBegan(attack) => format!("{at} began {} {}", attack.category, attack.subject),
            EventBody::AttackGrew(attack) => {
                format!("{at} grew {} {}", attack.category, attack.peak.observed)
            }
            EventBody::AttackEnded(attack) => format!("{at} ended {} {}", attack.category, attack.matches),
            EventBody::LookupWanted(wanted) => {
                format!(
                    "{at} asks {} {} {}",
                    wanted.rule, wanted.subject, wanted.nearness_permille
                )
            }
            other => format!("{at} {}", other.kind()),
        }
    };
    events.iter().map(text).collect()
}
