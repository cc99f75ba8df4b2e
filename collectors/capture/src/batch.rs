//! Puts packets together into batches: columns, one dictionary of addresses, side tables. Pure.
//!
//! It decides when a batch is full by rows, by bytes and by what its columns can hold; how long a batch may wait is up to
//! whoever captures.

use watchfold_schemas::packets::{
    CaptureCounts, CaptureSource, PACKET_OFFSET_MAX, PACKET_ROWS_MAX, PAYLOAD_HEAD_BYTES_MAX, PacketBatch,
    PayloadHead, Repeat,
};
use watchfold_schemas::{Span, Time};

use crate::columns::{self, Dictionary, Row};
use crate::parse::{Inside, Packet};
use crate::repeats::Repeats;
use watchfold_config::HEAD_PORTS_MAX;

/// A batch is closed when its side tables hold this many bytes; columns and dictionary add at most 218 KB, and a message
/// may have 768 KiB.
pub const SIDE_BYTES_MAX: usize = 384 * 1024;

/// About what one row of a side table takes beside its text.
const SIDE_ROW_BYTES: usize = 64;

/// What a repeat takes, and at most what a jump of time takes.
const REPEAT_BYTES: usize = 12;
const BASE_BYTES: usize = 13;

/// 65,536 ports, 64 in a word.
const PORT_WORDS: usize = 1 << 10;

/// The most that one row takes in columns and dictionary: 21 bytes, and two IPv6 addresses of its own.
const ROW_BYTES_MAX: usize = 53;

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
    /// The instant that the times of further rows count from.
    base: Time,
    repeats: Repeats,
    rows: Vec<Row>,
    dictionary: Dictionary,
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
        BatchBuilder {
            batch: empty(source),
            base: Time::EPOCH,
            repeats: Repeats::default(),
            rows: Vec::with_capacity(PACKET_ROWS_MAX),
            dictionary: Dictionary::default(),
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
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds the packet with this number, captured at this time, of this length on the wire. The time may be any.
    pub fn push(&mut self, number: u64, at: Time, wire_length: u32, packet: Packet<'_>) -> Pushed {
        if self.is_empty() {
            self.batch.first = number;
            self.batch.base = at;
            self.base = at;
        }
        let Some(number) = self.number(number) else {
            return Pushed::Full;
        };
        let row = self.len() as u16;
        let row_of = Row {
            at_ns: self.offset(row, at),
            number,
            source: self.dictionary.index(packet.source),
            destination: self.dictionary.index(packet.destination),
            source_port: packet.source_port,
            destination_port: packet.destination_port,
            length: u16::try_from(wire_length).unwrap_or(u16::MAX),
            protocol: packet.protocol,
            tcp_flags: packet.tcp_flags,
            marks: packet.marks,
        };
        self.rows.push(row_of);
        let batch = &mut self.batch;
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
        if let Some(after) = self.repeats.push(packet.print.content, at) {
            self.batch.push_repeat(Repeat {
                row,
                print: packet.print.content as u32,
                path: packet.print.path,
                after,
            });
            self.side_bytes += REPEAT_BYTES;
        }
        self.push_head(row, &packet);
        self.push_inside(row, packet.inside);
        Pushed::Taken
    }

    /// Whether this packet can be pushed before the batch is taken.
    pub fn has_room(&self, number: u64) -> bool {
        self.is_empty() || self.number(number).is_some()
    }

    /// The same, where its time lies close to that of the first.
    pub fn fits(&self, number: u64, at: Time) -> bool {
        self.is_empty() || self.has_room(number) && offset_ns(at.since(self.base)).is_some()
    }

    /// The number within this batch, if there is room for one more packet.
    fn number(&self, number: u64) -> Option<i32> {
        if self.is_full() {
            return None;
        }
        i32::try_from(number.saturating_sub(self.batch.first)).ok()
    }

    /// Where a row stands after its base, which is a new one where time has jumped.
    fn offset(&mut self, row: u16, at: Time) -> i32 {
        offset_ns(at.since(self.base)).unwrap_or_else(|| {
            self.batch.bases.push((row, at));
            self.base = at;
            self.side_bytes += BASE_BYTES;
            0
        })
    }

    /// Packets were lost: those that come now repeat nothing that a batch holds.
    pub fn forget_repeats(&mut self) {
        self.repeats.forget();
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
        batch.counts = CaptureCounts {
            originals_evicted: self.repeats.evicted,
            ..counts
        };
        columns::write(&self.rows, &self.dictionary, &mut batch);
        self.rows.clear();
        self.dictionary.clear();
        self.side_bytes = 0;
        batch
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

/// A batch without packets.
fn empty(source: CaptureSource) -> PacketBatch {
    PacketBatch {
        source,
        ..PacketBatch::default()
    }
}

fn offset_ns(offset: Span) -> Option<i32> {
    (offset.0.unsigned_abs() <= PACKET_OFFSET_MAX.0.unsigned_abs()).then_some(offset.0 as i32)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

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
    fn a_batch_is_full_by_rows() {
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
    }

    #[test]
    fn a_batch_holds_times_that_jump() {
        let mut builder = BatchBuilder::new(CaptureSource::default(), &[]);
        let bytes = frame([10, 0, 0, 1], 22);
        // A file may give any time, and their distance need not be one that can be counted.
        let times = [
            0,
            5,
            3_000_000_000,
            3_000_000_009,
            -3_000_000_000,
            i64::MIN,
            i64::MAX,
            7,
        ];
        for (number, at) in (1..).zip(times) {
            assert_eq!(builder.fits(number, Time(at)), number < 3 || number == 4, "{at}");
            assert_eq!(
                push(&mut builder, number, Time(at), &bytes),
                Pushed::Taken,
                "{at}"
            );
        }
        let batch = builder.take(CaptureCounts::default());
        let view = batch.view().unwrap();
        let got: Vec<i64> = (0..view.len()).map(|row| view.at(row).0).collect();
        assert_eq!(got, times);
        assert_eq!(batch.bases.len(), 5);
        push(&mut builder, 9, Time(1), &bytes);
        assert_eq!(
            builder.take(CaptureCounts::default()).bases,
            [],
            "the next one begins anew"
        );
    }

    #[test]
    fn a_packet_that_was_captured_just_before_is_noted_across_batches() {
        let mut builder = BatchBuilder::new(CaptureSource::default(), &[]);
        let (one, other) = (frame([10, 0, 0, 1], 22), frame([10, 0, 0, 2], 22));
        push(&mut builder, 1, Time(0), &one);
        push(&mut builder, 2, Time(10), &other);
        assert!(builder.take(CaptureCounts::default()).repeat_rows.is_empty());
        push(&mut builder, 3, Time(20), &frame([10, 0, 0, 3], 22));
        push(&mut builder, 4, Time(30), &one);
        let batch = builder.take(CaptureCounts::default());
        let repeats: Vec<(u16, Span)> = batch
            .view()
            .unwrap()
            .repeats()
            .map(|repeat| (repeat.row, repeat.after))
            .collect();
        assert_eq!(repeats, [(1, Span(30))]);
        // Once packets were lost, nobody knows what the next ones are copies of.
        builder.forget_repeats();
        push(&mut builder, 5, Time(40), &one);
        assert!(builder.take(CaptureCounts::default()).repeat_rows.is_empty());
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
