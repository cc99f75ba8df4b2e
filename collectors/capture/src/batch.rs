//! Puts packets together into batches: columns, one dictionary of addresses, side tables. Pure.
//!
//! It decides when a batch is full by rows, by bytes and by what its columns can hold; how long a batch may wait is up to
//! whoever captures.

use core::net::IpAddr;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use watchfold_schemas::packets::{
    CaptureCounts, CaptureSource, NO_ADDRESS, PACKET_OFFSET_MAX, PACKET_ROWS_MAX, PAYLOAD_HEAD_BYTES_MAX,
    PacketBatch, PayloadHead,
};
use watchfold_schemas::{Span, Time};

use crate::parse::{Inside, Packet};
use watchfold_config::HEAD_PORTS_MAX;

/// A batch is closed when its side tables hold this many bytes; columns and dictionary add at most 242 KB, and a message
/// may have 768 KiB.
pub const SIDE_BYTES_MAX: usize = 384 * 1024;

/// About what one row of a side table takes beside its text.
const SIDE_ROW_BYTES: usize = 64;

/// 65,536 ports, 64 in a word.
const PORT_WORDS: usize = 1 << 10;

/// The most that one row takes in columns and dictionary: 27 bytes, and two IPv6 addresses of its own.
const ROW_BYTES_MAX: usize = 59;

/// What a batch takes beside columns, dictionary and side tables, and what the last row of a side table may be over.
const FRAME_BYTES: usize = 2 * 1024;

/// How much goes into one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    pub rows_max: usize,
    pub side_bytes_max: usize,
}

impl Default for BatchLimits {
    fn default() -> BatchLimits {
        BatchLimits {
            rows_max: PACKET_ROWS_MAX,
            side_bytes_max: SIDE_BYTES_MAX,
        }
    }
}

impl BatchLimits {
    /// For a log that takes no longer payload: half for the rows, half for what is beside them. A row at least.
    pub fn within(payload_bytes_max: usize) -> BatchLimits {
        let half = payload_bytes_max.saturating_sub(FRAME_BYTES) / 2;
        BatchLimits {
            rows_max: (half / ROW_BYTES_MAX).clamp(1, PACKET_ROWS_MAX),
            side_bytes_max: half.clamp(1, SIDE_BYTES_MAX),
        }
    }
}

/// Collects packets; [`BatchBuilder::take`] gives the batch.
pub struct BatchBuilder {
    batch: PacketBatch,
    indices: HashMap<IpAddr, u16, RandomState>,
    /// Addresses in the order of their first packet; IPv6 indices are moved behind the IPv4 ones at the end.
    addresses: Vec<IpAddr>,
    sources: Vec<u16>,
    destinations: Vec<u16>,
    side_bytes: usize,
    limits: BatchLimits,
    /// Ports whose payloads' first bytes are kept: a bit for each port there is, because every packet with a payload asks.
    head_ports: Box<[u64; PORT_WORDS]>,
}

/// What the builder says to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Taken,
    /// It does not fit: take the batch, then push it again.
    Full,
}

impl BatchBuilder {
    pub fn new(source: CaptureSource, head_ports: &[u16]) -> BatchBuilder {
        let mut wanted = Box::new([0; PORT_WORDS]);
        for port in head_ports.iter().take(HEAD_PORTS_MAX) {
            wanted[usize::from(port >> 6)] |= 1 << (port & 63);
        }
        let batch = empty(source);
        BatchBuilder {
            batch,
            indices: HashMap::default(),
            addresses: Vec::new(),
            sources: Vec::new(),
            destinations: Vec::new(),
            side_bytes: 0,
            limits: BatchLimits::default(),
            head_ports: wanted,
        }
    }

    /// Also of the batch under way.
    pub fn set_limits(&mut self, limits: BatchLimits) {
        self.limits = limits;
    }

    pub fn is_full(&self) -> bool {
        self.len() >= self.limits.rows_max || self.side_bytes >= self.limits.side_bytes_max
    }

    /// What the packets to come are from. The batch so far must have been taken.
    pub fn set_source(&mut self, source: CaptureSource) {
        self.batch.source = source;
    }

    pub fn source(&self) -> &CaptureSource {
        &self.batch.source
    }

    pub fn len(&self) -> usize {
        self.sources.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Adds the packet with this number, captured at this time, of this length on the wire.
    pub fn push(&mut self, number: u64, at: Time, wire_length: u32, packet: Packet<'_>) -> Pushed {
        if self.is_empty() {
            self.batch.first = number;
            self.batch.base = at;
        }
        let Some((offset, number)) = self.place(number, at) else {
            return Pushed::Full;
        };
        let row = self.len() as u16;
        let source = self.index(packet.source);
        let destination = self.index(packet.destination);
        self.sources.push(source);
        self.destinations.push(destination);
        let batch = &mut self.batch;
        batch.at_ns.extend_from_slice(&offset.to_le_bytes());
        batch.numbers.extend_from_slice(&number.to_le_bytes());
        batch
            .source_ports
            .extend_from_slice(&packet.source_port.to_le_bytes());
        batch
            .destination_ports
            .extend_from_slice(&packet.destination_port.to_le_bytes());
        let length = u16::try_from(wire_length).unwrap_or(u16::MAX);
        batch.lengths.extend_from_slice(&length.to_le_bytes());
        batch.protocols.push(packet.protocol);
        batch.tcp_flags.push(packet.tcp_flags);
        batch.marks.push(packet.marks);
        batch
            .prints
            .extend_from_slice(&packet.print.content.to_le_bytes());
        batch.paths.extend_from_slice(&packet.print.path.to_le_bytes());
        let tags = [
            (packet.vlans.outer, &mut batch.vlans),
            (packet.vlans.inner, &mut batch.inner_vlans),
        ];
        for (tag, rows) in tags {
            if let Some(vlan) = tag {
                rows.push((row, vlan));
                self.side_bytes += 7;
            }
        }
        self.push_head(row, &packet);
        self.push_inside(row, packet.inside);
        Pushed::Taken
    }

    /// Whether this packet can be pushed before the batch is taken.
    pub fn fits(&self, number: u64, at: Time) -> bool {
        self.is_empty() || self.place(number, at).is_some()
    }

    /// Where the packet stands in this batch, if it fits into it.
    fn place(&self, number: u64, at: Time) -> Option<(i32, i32)> {
        if self.is_full() {
            return None;
        }
        let number = i32::try_from(number.saturating_sub(self.batch.first)).ok()?;
        Some((offset_ns(at.since(self.batch.base))?, number))
    }

    /// Like [`BatchBuilder::take`], for a batch that may be empty: then it stands at this instant, before the packet
    /// with this number.
    pub fn take_at(&mut self, at: Time, next_number: u64, counts: CaptureCounts) -> PacketBatch {
        let is_empty = self.is_empty();
        let mut batch = self.take(counts);
        if is_empty {
            (batch.base, batch.first) = (at, next_number);
        }
        batch
    }

    /// The batch so far, with these counts; the builder begins anew. An empty one says that nothing came.
    pub fn take(&mut self, counts: CaptureCounts) -> PacketBatch {
        let next = empty(self.batch.source.clone());
        let mut batch = std::mem::replace(&mut self.batch, next);
        batch.counts = counts;
        let places = dictionary(&self.addresses, &mut batch);
        let place = |index: &u16| places.get(usize::from(*index)).copied().unwrap_or(NO_ADDRESS);
        batch.sources = little_endian(&self.sources, place);
        batch.destinations = little_endian(&self.destinations, place);
        if counts_on(&batch.numbers) {
            batch.numbers.clear();
        }
        self.indices.clear();
        self.addresses.clear();
        self.sources.clear();
        self.destinations.clear();
        self.side_bytes = 0;
        batch
    }

    fn index(&mut self, address: Option<IpAddr>) -> u16 {
        let Some(address) = address else {
            return NO_ADDRESS;
        };
        // Two for each row at most, so that 16 bits always do.
        let next = self.addresses.len() as u16;
        let addresses = &mut self.addresses;
        *self.indices.entry(address).or_insert_with(|| {
            addresses.push(address);
            next
        })
    }

    fn push_head(&mut self, row: u16, packet: &Packet<'_>) {
        let is_wanted = |port: u16| self.head_ports[usize::from(port >> 6)] >> (port & 63) & 1 == 1;
        if packet.payload.is_empty() || !(is_wanted(packet.source_port) || is_wanted(packet.destination_port))
        {
            return;
        }
        let bytes = packet.payload[..packet.payload.len().min(PAYLOAD_HEAD_BYTES_MAX)].to_vec();
        self.side_bytes += SIDE_ROW_BYTES + bytes.len();
        self.batch.heads.push(PayloadHead { row, bytes });
    }

    fn push_inside(&mut self, row: u16, inside: Inside) {
        let text_bytes = match inside {
            Inside::Nothing => return,
            Inside::Dns(mut dns) => {
                dns.row = row;
                let bytes = dns.name.len();
                self.batch.dns.push(dns);
                bytes
            }
            Inside::Arp(mut arp) => {
                arp.row = row;
                self.batch.arp.push(arp);
                0
            }
            Inside::Neighbour(mut neighbour) => {
                neighbour.row = row;
                self.batch.neighbours.push(neighbour);
                0
            }
            Inside::Dhcp(mut dhcp) => {
                dhcp.row = row;
                self.batch.dhcp.push(dhcp);
                0
            }
            Inside::TlsName(name) => {
                let bytes = name.len();
                self.batch.tls_names.push((row, name));
                bytes
            }
            Inside::HttpHost(host) => {
                let bytes = host.len();
                self.batch.http_hosts.push((row, host));
                bytes
            }
        };
        self.side_bytes += SIDE_ROW_BYTES + text_bytes;
    }
}

/// A batch without packets and with room for all that may come.
fn empty(source: CaptureSource) -> PacketBatch {
    let column = |bytes: usize| Vec::with_capacity(PACKET_ROWS_MAX * bytes);
    PacketBatch {
        source,
        at_ns: column(4),
        numbers: column(4),
        source_ports: column(2),
        destination_ports: column(2),
        lengths: column(2),
        protocols: column(1),
        tcp_flags: column(1),
        marks: column(1),
        prints: column(4),
        paths: column(2),
        ..PacketBatch::default()
    }
}

fn little_endian(indices: &[u16], place: impl Fn(&u16) -> u16) -> Vec<u8> {
    let mut out = vec![0; indices.len() * 2];
    for (bytes, index) in out.as_chunks_mut::<2>().0.iter_mut().zip(indices) {
        *bytes = place(index).to_le_bytes();
    }
    out
}

/// Whether numbers grow by one from 0 on, so that they need not be written.
fn counts_on(numbers: &[u8]) -> bool {
    let numbers = numbers
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| i32::from_le_bytes(*bytes));
    numbers.enumerate().all(|(row, number)| number as usize == row)
}

fn offset_ns(offset: Span) -> Option<i32> {
    (offset.0.unsigned_abs() <= PACKET_OFFSET_MAX.0.unsigned_abs()).then_some(offset.0 as i32)
}

/// Writes the dictionary, IPv4 first, and gives each address its place in it.
fn dictionary(addresses: &[IpAddr], batch: &mut PacketBatch) -> Vec<u16> {
    let v4_count = addresses.iter().filter(|address| address.is_ipv4()).count() as u16;
    let (mut next_v4, mut next_v6) = (0, v4_count);
    let mut places = Vec::with_capacity(addresses.len());
    for address in addresses {
        let next = match address {
            IpAddr::V4(address) => {
                batch.v4.extend_from_slice(&address.octets());
                &mut next_v4
            }
            IpAddr::V6(address) => {
                batch.v6.extend_from_slice(&address.octets());
                &mut next_v6
            }
        };
        places.push(*next);
        *next += 1;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{LinkType, Print, Vlans, decode};
    use etherparse::PacketBuilder;
    use watchfold_schemas::packets::PACKET_NAME_BYTES_MAX;
    use watchfold_schemas::{Body, Observation, Origin};

    fn frame(source: [u8; 4], port: u16) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4(source, [192, 0, 2, 9], 64)
            .tcp(40_000, port, 1, 1);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"SSH-2.0").unwrap();
        bytes
    }

    fn push(builder: &mut BatchBuilder, number: u64, at: Time, bytes: &[u8]) -> Pushed {
        let length = bytes.len() as u32;
        builder.push(
            number,
            at,
            length,
            decode(LinkType::Ethernet, bytes, length).unwrap(),
        )
    }

    #[test]
    fn packets_come_out_as_they_went_in() {
        let mut builder = BatchBuilder::new(CaptureSource::default(), &[22]);
        assert_eq!(
            push(&mut builder, 5, Time(100), &frame([10, 0, 0, 1], 22)),
            Pushed::Taken
        );
        assert_eq!(
            push(&mut builder, 7, Time(90), &frame([10, 0, 0, 2], 80)),
            Pushed::Taken
        );
        let counts = CaptureCounts {
            received: 7,
            ..CaptureCounts::default()
        };
        let batch = builder.take(counts);
        let view = batch.view().unwrap();
        assert_eq!((view.number(0), view.number(1), view.at(1)), (5, 7, Time(90)));
        assert_eq!(view.source(1), Some(IpAddr::from([10, 0, 0, 2])));
        assert_eq!(view.destination(0), view.destination(1));
        assert_eq!((view.addresses(), view.destination_port(0)), (3, 22));
        assert_eq!(batch.numbers.len(), 8, "there is a hole between 5 and 7");
        assert_eq!(batch.heads.len(), 1);
        assert_eq!(batch.heads[0].bytes, b"SSH-2.0");
        assert!(builder.is_empty() && builder.take(counts).view().unwrap().is_empty());
    }

    #[test]
    fn a_batch_is_full_by_rows_and_by_time() {
        let mut builder = BatchBuilder::new(CaptureSource::default(), &[]);
        let bytes = frame([10, 0, 0, 1], 22);
        for number in 0..PACKET_ROWS_MAX as u64 {
            assert_eq!(push(&mut builder, number + 1, Time(0), &bytes), Pushed::Taken);
        }
        assert_eq!(push(&mut builder, 5_000, Time(0), &bytes), Pushed::Full);
        let full = builder.take(CaptureCounts::default());
        assert!(full.numbers.is_empty(), "they count on");
        assert_eq!(full.view().unwrap().number(4_095), 4_096);
        assert_eq!(push(&mut builder, 5_000, Time(0), &bytes), Pushed::Taken);
        // A file may give any time, and their distance need not be one that can be counted.
        for far in [Time(3_000_000_000), Time(-3_000_000_000), Time(i64::MIN)] {
            assert_eq!(push(&mut builder, 5_001, far, &bytes), Pushed::Full, "{far}");
        }
    }

    /// Every row with two addresses and a name of its own, the longest that there are.
    fn fill(limits: BatchLimits) -> (usize, usize) {
        let mut builder = BatchBuilder::new(CaptureSource::default(), &[443]);
        builder.set_limits(limits);
        for number in 1_u64.. {
            let address = |side: u64| IpAddr::from(u128::from(number * 2 + side).to_be_bytes());
            let packet = Packet {
                source: Some(address(0)),
                destination: Some(address(1)),
                source_port: 40_000,
                destination_port: 443,
                protocol: 6,
                tcp_flags: 0x18,
                marks: 0,
                vlans: Vlans {
                    outer: Some(7),
                    inner: Some(8),
                },
                print: Print::default(),
                inside: Inside::TlsName("n".repeat(PACKET_NAME_BYTES_MAX)),
                payload: &[0; 1_400],
            };
            // Every other one, so that numbers have to be written.
            if builder.push(number * 2, Time(0), 1_500, packet) == Pushed::Full {
                break;
            }
        }
        let rows = builder.len();
        let batch = builder.take(CaptureCounts::default());
        (rows, encoded(batch))
    }

    fn encoded(batch: PacketBatch) -> usize {
        let observation = Observation {
            v: 1,
            origin: Origin {
                site: "s".repeat(64),
                collector: "c".repeat(64),
                incarnation: u64::MAX,
                number: u64::MAX,
            },
            observed_at: Time(0),
            through: Time(0),
            body: Body::Batch(Box::new(batch)),
        };
        watchfold_schemas::encode_observation(&observation).unwrap().len()
    }

    #[test]
    fn a_batch_fits_into_what_the_log_takes() {
        assert_eq!(BatchLimits::within(1_047_552), BatchLimits::default());
        for payload_bytes_max in [8 << 10, 32 << 10, 64 << 10, 256 << 10, 1_047_552] {
            let (rows, bytes) = fill(BatchLimits::within(payload_bytes_max));
            assert!(
                bytes <= payload_bytes_max,
                "{bytes} of {payload_bytes_max}, {rows} rows"
            );
            assert!(
                rows >= payload_bytes_max / 2_048,
                "{rows} rows in {payload_bytes_max}"
            );
        }
        assert_eq!(BatchLimits::within(0).rows_max, 1);
    }
}
