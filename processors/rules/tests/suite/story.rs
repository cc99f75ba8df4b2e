//! Stories of packets: written as they would be seen on a wire, folded by the packet chain under a pack, told as the alerts
//! and attacks that come of them.

use core::net::{IpAddr, SocketAddr};

use watchfold_folds::{PacketChain, StateMachine};
use watchfold_schemas::alert::{Alert, Attack, LookupWanted, SubjectKind, Verdict};
use watchfold_schemas::event::{EventBody, Severity};
use watchfold_schemas::observation::{Body, OBSERVATION_VERSION, Observation};
use watchfold_schemas::packets::{
    ArpRow, CaptureSource, DhcpRow, DnsRow, NO_ADDRESS, NeighbourRow, PacketBatch, PayloadHead, marks,
};
use watchfold_schemas::rules::{RuleSet, RulesActivation, Surroundings};
use watchfold_schemas::{Chain, Event, Origin, Span, Time};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const NOT_IP: u8 = 255;

/// When stories begin, in milliseconds: far from the epoch, and no whole second.
pub const BEGIN_MS: i64 = 1_767_225_600_123;

/// How long nothing happens after a story, so that every attack ends.
const QUIET_MS: i64 = 900_000;

/// A packet as it was seen.
#[derive(Clone, Debug, Default)]
pub struct Packet {
    /// After the story's beginning.
    at: Span,
    ends: Option<(IpAddr, IpAddr)>,
    ports: (u16, u16),
    protocol: u8,
    flags: u8,
    length: u16,
    marks: u8,
    dns: Option<DnsRow>,
    arp: Option<ArpRow>,
    neighbour: Option<NeighbourRow>,
    dhcp: Option<DhcpRow>,
    head: Option<Vec<u8>>,
}

fn ip_packet(ms: f64, source: &str, destination: &str, protocol: u8) -> Packet {
    let end = |text: &str| match text.parse::<SocketAddr>() {
        Ok(end) => (end.ip(), end.port()),
        Err(_) => (
            text.parse::<IpAddr>()
                .unwrap_or_else(|_| panic!("{text} is no end")),
            0,
        ),
    };
    let (source, destination) = (end(source), end(destination));
    Packet {
        at: Span::from_nanos((ms * 1e6).round() as i64),
        ends: Some((source.0, destination.0)),
        ports: (source.1, destination.1),
        protocol,
        length: 60,
        ..Packet::default()
    }
}

/// A TCP packet without a payload; times are in milliseconds, ends are `address:port`.
pub fn tcp(ms: f64, source: &str, destination: &str, flags: u8) -> Packet {
    Packet {
        flags,
        ..ip_packet(ms, source, destination, TCP)
    }
}

pub fn udp(ms: f64, source: &str, destination: &str) -> Packet {
    ip_packet(ms, source, destination, UDP)
}

/// An echo request.
pub fn echo(ms: f64, source: &str, destination: &str) -> Packet {
    Packet {
        ports: (8, 0),
        ..ip_packet(ms, source, destination, ICMP)
    }
}

/// A question about a name, or with `answer` the answer to one.
pub fn dns(ms: f64, source: &str, destination: &str, name: &str, query_type: u16, answer: bool) -> Packet {
    Packet {
        dns: Some(DnsRow {
            row: 0,
            name: name.to_owned(),
            query_type,
            is_response: answer,
            response_code: 0,
            answers: u16::from(answer),
        }),
        marks: marks::PAYLOAD,
        ..ip_packet(ms, source, destination, UDP)
    }
}

/// An ARP message: 1 asks, 2 answers. The hardware address is `02:00:00:00:00:` and `mac`.
pub fn arp(ms: f64, operation: u16, sender: &str, mac: u8, target: &str) -> Packet {
    let octets = |text: &str| text.parse::<core::net::Ipv4Addr>().unwrap().octets();
    Packet {
        ports: (0, 0),
        arp: Some(ArpRow {
            row: 0,
            operation,
            sender_mac: [2, 0, 0, 0, 0, mac],
            sender_ip: octets(sender),
            target_mac: [0; 6],
            target_ip: octets(target),
        }),
        ends: None,
        length: 42,
        ..ip_packet(ms, sender, target, NOT_IP)
    }
}

/// An IPv6 neighbour advertisement.
pub fn advertisement(ms: f64, target: &str, mac: u8) -> Packet {
    let address: core::net::Ipv6Addr = target.parse().unwrap();
    Packet {
        ports: (136, 0),
        neighbour: Some(NeighbourRow {
            row: 0,
            message_type: 136,
            target: address.octets(),
            mac: Some([2, 0, 0, 0, 0, mac]),
            flags: 32,
        }),
        ..ip_packet(ms, target, "ff02::1", 58)
    }
}

/// A DHCP acknowledgement that gives an address to a hardware address.
pub fn dhcp_ack(ms: f64, given: &str, mac: u8) -> Packet {
    Packet {
        dhcp: Some(DhcpRow {
            row: 0,
            message_type: 5,
            client_mac: [2, 0, 0, 0, 0, mac],
            your_ip: given.parse::<core::net::Ipv4Addr>().unwrap().octets(),
            server: None,
        }),
        ..ip_packet(ms, "192.168.1.1:67", "255.255.255.255:68", UDP)
    }
}

impl Packet {
    pub fn moved_to(self, ms: f64) -> Packet {
        Packet {
            at: Span::from_nanos((ms * 1e6).round() as i64),
            ..self
        }
    }

    /// Of an echo request the reply.
    pub fn answering(self) -> Packet {
        Packet {
            ports: (0, 0),
            ends: self.ends.map(|(source, destination)| (destination, source)),
            ..self
        }
    }

    /// Bytes on the wire; a payload is in them.
    pub fn of(self, length: u16) -> Packet {
        Packet {
            length,
            marks: self.marks | marks::PAYLOAD,
            ..self
        }
    }

    /// The beginning of its payload.
    pub fn saying(self, text: &str) -> Packet {
        Packet {
            head: Some(text.as_bytes()[..text.len().min(64)].to_vec()),
            ..self.of(200)
        }
    }
}

/// A connection that is opened and closed again after `lasting_ms`, in six packets.
pub fn connection(ms: f64, source: &str, destination: &str, lasting_ms: f64) -> Vec<Packet> {
    let end = ms + lasting_ms;
    vec![
        tcp(ms, source, destination, SYN),
        tcp(ms + 0.2, destination, source, SYN | ACK),
        tcp(ms + 0.4, source, destination, ACK),
        tcp(ms + 0.6, source, destination, ACK | PSH).of(500),
        tcp(end, source, destination, FIN | ACK),
        tcp(end + 0.2, destination, source, FIN | ACK),
    ]
}

/// Packets in time order.
pub fn sorted(mut packets: Vec<Packet>) -> Vec<Packet> {
    packets.sort_by_key(|packet| packet.at);
    packets
}

/// What a story is folded with.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub surroundings: Surroundings,
    /// Subject, engines that call it malicious, engines that suspect it, score; and after how many milliseconds.
    pub verdicts: Vec<(f64, &'static str, u32, u32, i64)>,
}

/// What came of a story.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub events: Vec<Event>,
}

impl Outcome {
    /// When each alert was, in milliseconds after the beginning, and of which rule.
    pub fn fired(&self) -> Vec<(f64, String)> {
        let alerts = self.events.iter().filter_map(|event| match &event.body {
            EventBody::AlertRaised(alert) => Some((after_begin(event.at), alert.rule.name.clone())),
            _ => None,
        });
        alerts.collect()
    }

    pub fn alerts(&self) -> Vec<&Alert> {
        let alerts = self.events.iter().filter_map(|event| match &event.body {
            EventBody::AlertRaised(alert) => Some(&**alert),
            _ => None,
        });
        alerts.collect()
    }

    /// Attacks as they ended, with when that was.
    pub fn attacks(&self) -> Vec<(f64, &Attack)> {
        let ended = self.events.iter().filter_map(|event| match &event.body {
            EventBody::AttackEnded(attack) => Some((after_begin(event.at), &**attack)),
            _ => None,
        });
        ended.collect()
    }

    pub fn wanted(&self) -> Vec<&LookupWanted> {
        let wanted = self.events.iter().filter_map(|event| match &event.body {
            EventBody::LookupWanted(wanted) => Some(wanted),
            _ => None,
        });
        wanted.collect()
    }

    /// Rules and subjects of all alerts, once each, in the order in which they came.
    pub fn what(&self) -> Vec<(String, Severity, String)> {
        let mut seen = Vec::new();
        for alert in self.alerts() {
            let one = (alert.rule.name.clone(), alert.severity, alert.subject.clone());
            if !seen.contains(&one) {
                seen.push(one);
            }
        }
        seen
    }
}

fn after_begin(at: Time) -> f64 {
    at.since(Time::from_millis(BEGIN_MS)).0 as f64 / 1e6
}

/// Folds a story twice, in batches of different sizes, and says what came of it.
pub fn fold(set: &RuleSet, packets: &[Packet], told: &Told) -> Outcome {
    let whole = fold_in(set, packets, told, 4_096);
    if packets.len() < 2_000 {
        let alone = fold_in(set, packets, told, 1);
        let events = |outcome: &Outcome| -> Vec<String> {
            let bodies = outcome
                .events
                .iter()
                .map(|event| format!("{} {} {:?}", event.at, event.key, event.body));
            bodies.collect()
        };
        assert_eq!(
            events(&whole),
            events(&alone),
            "what comes of a story depends on its batches"
        );
    }
    whole
}

fn fold_in(set: &RuleSet, packets: &[Packet], told: &Told, rows: usize) -> Outcome {
    let set = set.of_chain(Chain::Packets);
    let activation = RulesActivation {
        at: Time::from_millis(BEGIN_MS),
        chain: Chain::Packets,
        hash: RulesActivation::hash_of(Chain::Packets, &set, &told.surroundings),
        set,
        surroundings: told.surroundings.clone(),
        software: "test".into(),
    };
    let mut folded = Folded {
        chain: PacketChain::new("cafe-1"),
        sequence: 0,
        number: 0,
        outcome: Outcome::default(),
    };
    folded.take(
        "rules",
        Time::from_millis(BEGIN_MS),
        Body::Rules(Box::new(activation)),
    );
    let mut verdicts = told.verdicts.clone();
    verdicts.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut verdicts = verdicts.into_iter().peekable();
    let mut rest = packets;
    let mut first = 1;
    while !rest.is_empty() {
        let start = rest[0].at;
        while let Some(verdict) = verdicts.next_if(|verdict| verdict.0 * 1e6 <= start.0 as f64) {
            folded.learn(&verdict);
        }
        // A batch ends where a verdict comes between its packets.
        let until = verdicts
            .peek()
            .map_or(i64::MAX, |verdict| (verdict.0 * 1e6) as i64);
        let span = |packet: &&Packet| packet.at.0 < until && packet.at.0 - start.0 < 1_000_000_000;
        let len = rest.iter().take(rows).take_while(span).count().max(1);
        let (now, later) = rest.split_at(len);
        let batch = batch(now, first);
        let through = now.iter().map(|packet| packet.at).max().unwrap();
        folded.take(
            "capture-lan",
            Time::from_millis(BEGIN_MS) + through,
            Body::Batch(Box::new(batch)),
        );
        first += len as u64;
        rest = later;
    }
    let end = packets.last().map_or(Span::ZERO, |packet| packet.at) + Span::from_millis(QUIET_MS);
    folded.take("capture-lan", Time::from_millis(BEGIN_MS) + end, Body::Quiet);
    folded.outcome
}

struct Folded {
    chain: PacketChain,
    sequence: u64,
    number: u64,
    outcome: Outcome,
}

impl Folded {
    fn take(&mut self, collector: &str, through: Time, body: Body) {
        self.sequence += 1;
        self.number += u64::from(collector == "capture-lan");
        let observation = Observation {
            v: OBSERVATION_VERSION,
            origin: Origin {
                site: "cafe-1".into(),
                collector: collector.into(),
                incarnation: 1,
                number: if collector == "capture-lan" {
                    self.number
                } else {
                    self.sequence
                },
            },
            observed_at: through,
            through,
            body,
        };
        self.outcome
            .events
            .extend(self.chain.apply(self.sequence, &observation));
    }

    fn learn(&mut self, verdict: &(f64, &str, u32, u32, i64)) {
        let (ms, subject, malicious, suspicious, score) = *verdict;
        let at = Time::from_millis(BEGIN_MS) + Span::from_nanos((ms * 1e6) as i64);
        let kind = if subject.parse::<IpAddr>().is_ok() {
            SubjectKind::Address
        } else {
            SubjectKind::Name
        };
        let verdict = Verdict {
            at,
            oracle: "test".into(),
            kind,
            subject: subject.into(),
            known: true,
            malicious,
            suspicious,
            harmless: 0,
            undetected: 0,
            score,
            country: None,
            owner: None,
            categories: Vec::new(),
            expires_at: at + Span::from_seconds(86_400),
        };
        self.take("virustotal", at, Body::Verdict(Box::new(verdict)));
    }
}

fn batch(packets: &[Packet], first: u64) -> PacketBatch {
    let base = packets[0].at;
    let mut batch = PacketBatch {
        first,
        base: Time::from_millis(BEGIN_MS) + base,
        source: CaptureSource {
            name: "lan".into(),
            link_type: 1,
            snap_length: 262_144,
        },
        ..PacketBatch::default()
    };
    let mut addresses: Vec<IpAddr> = packets
        .iter()
        .filter_map(|packet| packet.ends)
        .flat_map(|(one, other)| [one, other])
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    for address in &addresses {
        match address {
            IpAddr::V4(address) => batch.v4.extend(address.octets()),
            IpAddr::V6(address) => batch.v6.extend(address.octets()),
        }
    }
    let index = |address: IpAddr| addresses.binary_search(&address).unwrap() as u16;
    for (row, packet) in packets.iter().enumerate() {
        let (source, destination) = packet.ends.map_or((NO_ADDRESS, NO_ADDRESS), |(one, other)| {
            (index(one), index(other))
        });
        batch.at_ns.extend(((packet.at - base).0 as i32).to_le_bytes());
        batch.numbers.extend((row as i32).to_le_bytes());
        batch.sources.extend(source.to_le_bytes());
        batch.destinations.extend(destination.to_le_bytes());
        batch.source_ports.extend(packet.ports.0.to_le_bytes());
        batch.destination_ports.extend(packet.ports.1.to_le_bytes());
        batch.lengths.extend(packet.length.to_le_bytes());
        batch.protocols.push(packet.protocol);
        batch.tcp_flags.push(packet.flags);
        batch.marks.push(packet.marks);
        side_tables(&mut batch, packet, row as u16);
    }
    batch
}

fn side_tables(batch: &mut PacketBatch, packet: &Packet, row: u16) {
    batch
        .dns
        .extend(packet.dns.clone().map(|dns| DnsRow { row, ..dns }));
    batch.arp.extend(packet.arp.map(|arp| ArpRow { row, ..arp }));
    batch.neighbours.extend(
        packet
            .neighbour
            .map(|neighbour| NeighbourRow { row, ..neighbour }),
    );
    batch.dhcp.extend(packet.dhcp.map(|dhcp| DhcpRow { row, ..dhcp }));
    batch
        .heads
        .extend(packet.head.clone().map(|bytes| PayloadHead { row, bytes }));
}
