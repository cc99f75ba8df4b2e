//! Packets as columns: one record for up to [`PACKET_ROWS_MAX`] packets, with one dictionary of addresses and sparse side
//! tables for what only some packets have.
//!
//! It says what was on the wire and never what it means. Columns are little-endian blobs, so that reading one is a copy
//! and a predicate runs over a whole column; [`PacketBatch::view`] checks them once and gives typed access.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::time::{Span, Time};

/// The most packets in one batch; row numbers and addresses fit into 16 bits with room to spare.
pub const PACKET_ROWS_MAX: usize = 4096;

/// The address index of a packet that has none (it is not IP).
pub const NO_ADDRESS: u16 = u16::MAX;

/// The furthest a packet may lie from its batch's `base`: what 32 bits of nanoseconds hold.
pub const PACKET_OFFSET_MAX: Span = Span(i32::MAX as i64);

/// How long after a packet another one of the same content is noted as a repeat. Copies by a mirror port or a bridge come
/// within a fraction of it.
pub const REPEATS_WITHIN: Span = Span::from_millis(5);

/// The most bytes of one packet's payload that a batch carries.
pub const PAYLOAD_HEAD_BYTES_MAX: usize = 64;

/// The longest name in a side table; what DNS allows.
pub const PACKET_NAME_BYTES_MAX: usize = 255;

/// Where packets come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct CaptureSource {
    /// The interface's name, or the file's without its folders.
    pub name: String,
    /// The link type as libpcap numbers it.
    pub link_type: i32,
    /// Bytes kept of each packet.
    pub snap_length: u32,
}

/// Packets since the capture began, this batch included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct CaptureCounts {
    /// Handed to the collector.
    pub received: u64,
    /// Dropped by the kernel because its buffer was full.
    pub dropped_by_kernel: u64,
    /// Dropped by the interface or its driver.
    pub dropped_by_interface: u64,
    /// Dropped by the collector because the log took no more.
    pub dropped_here: u64,
    /// Received and not understood far enough for a row.
    pub undecoded: u64,
    /// Forgotten by the collector, because too many came at once, while copies of them might still come.
    #[serde(default)]
    pub originals_evicted: u64,
}

/// Packets in the order in which they were captured; time usually grows and may fall a little.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct PacketBatch {
    /// The number of the first packet. Packets count from 1 within an incarnation, undecoded ones too, whatever the batching.
    pub first: u64,
    /// The instant that `at_ns` counts from.
    pub base: Time,
    pub source: CaptureSource,
    pub counts: CaptureCounts,
    /// Signed 32 bits for each packet: nanoseconds after `base`.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub at_ns: Vec<u8>,
    /// Signed 32 bits for each packet: its number, counted from `first`. Empty where they count on without a hole, as nearly
    /// always.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub numbers: Vec<u8>,
    /// The dictionary: 4 bytes for each IPv4 address; these have the indices from 0 on.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub v4: Vec<u8>,
    /// The dictionary, continued: 16 bytes for each IPv6 address, with the indices after those.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub v6: Vec<u8>,
    /// 16 bits for each packet: the index of its source, or [`NO_ADDRESS`].
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub sources: Vec<u8>,
    /// 16 bits for each packet: the index of its destination, or [`NO_ADDRESS`].
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub destinations: Vec<u8>,
    /// 16 bits for each packet: the source port; the ICMP or ICMPv6 type where the protocol is one of these.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub source_ports: Vec<u8>,
    /// 16 bits for each packet: the destination port; the ICMP or ICMPv6 code likewise.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub destination_ports: Vec<u8>,
    /// 16 bits for each packet: its length on the wire in bytes; 65535 stands for that or more.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub lengths: Vec<u8>,
    /// The IP protocol of each packet; 255 where it is not IP.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub protocols: Vec<u8>,
    /// The TCP flags of each packet as in its header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub tcp_flags: Vec<u8>,
    /// [`marks`] of each packet.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub marks: Vec<u8>,
    /// Sparse: (row, instant). From this row on, `at_ns` counts from this instant instead: the times of a file may jump.
    #[serde(default)]
    pub bases: Vec<(u16, Time)>,
    /// Sparse columns of repeats, which are packets with the content of one captured at most [`REPEATS_WITHIN`] before. 16
    /// bits for each repeat: its row. Rows rise.
    #[serde(default, with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub repeat_rows: Vec<u8>,
    /// 32 bits for each repeat: a hash of what stays the same when one packet is seen at several places: the IP packet
    /// without hop limit, traffic class and header checksum, or the whole ARP message.
    #[serde(default, with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub repeat_prints: Vec<u8>,
    /// 16 bits for each repeat: a hash of where it was seen: link header, VLANs and hop limit.
    #[serde(default, with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub repeat_paths: Vec<u8>,
    /// Signed 32 bits for each repeat: nanoseconds since the last packet of the same content.
    #[serde(default, with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub repeat_after_ns: Vec<u8>,
    /// Sparse: (row, outermost VLAN).
    pub vlans: Vec<(u16, u16)>,
    /// Sparse: (row, the VLAN within the outermost one), of packets with two tags.
    #[serde(default)]
    pub inner_vlans: Vec<(u16, u16)>,
    pub dns: Vec<DnsRow>,
    pub arp: Vec<ArpRow>,
    pub neighbours: Vec<NeighbourRow>,
    pub dhcp: Vec<DhcpRow>,
    /// Sparse: (row, the server name of a TLS client hello).
    pub tls_names: Vec<(u16, String)>,
    /// Sparse: (row, the host of an HTTP request).
    pub http_hosts: Vec<(u16, String)>,
    /// Sparse, on configured ports alone: the first bytes of the payload.
    pub heads: Vec<PayloadHead>,
}

/// Bits of [`PacketBatch::marks`].
pub mod marks {
    /// A fragment other than the first: it has no ports.
    pub const LATER_FRAGMENT: u8 = 1;
    /// A first fragment of several.
    pub const FIRST_FRAGMENT: u8 = 2;
    /// Less was captured than was on the wire.
    pub const TRUNCATED: u8 = 4;
    /// Its headers end early or contradict each other; what could be read is here.
    pub const MALFORMED: u8 = 8;
    /// It was found inside a tunnel; addresses and ports are those inside.
    pub const TUNNELLED: u8 = 16;
    /// It has a payload.
    pub const PAYLOAD: u8 = 32;
}

/// A packet with the content of one captured at most [`REPEATS_WITHIN`] before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    pub row: u16,
    /// A hash of its content.
    pub print: u32,
    /// A hash of the way that it came.
    pub path: u16,
    /// Since the last packet of the same content; negative where that has the later time.
    pub after: Span,
}

impl PacketBatch {
    /// Adds a repeat behind those that are there.
    pub fn push_repeat(&mut self, repeat: Repeat) {
        let after_ns = repeat.after.0.clamp(-PACKET_OFFSET_MAX.0, PACKET_OFFSET_MAX.0) as i32;
        self.repeat_rows.extend_from_slice(&repeat.row.to_le_bytes());
        self.repeat_prints.extend_from_slice(&repeat.print.to_le_bytes());
        self.repeat_paths.extend_from_slice(&repeat.path.to_le_bytes());
        self.repeat_after_ns.extend_from_slice(&after_ns.to_le_bytes());
    }
}

/// The first question of a DNS message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct DnsRow {
    pub row: u16,
    /// In lower case, without the final dot.
    pub name: String,
    pub query_type: u16,
    pub is_response: bool,
    pub response_code: u8,
    pub answers: u16,
}

/// An ARP message for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ArpRow {
    pub row: u16,
    /// 1 request, 2 reply.
    pub operation: u16,
    pub sender_mac: [u8; 6],
    pub sender_ip: [u8; 4],
    pub target_mac: [u8; 6],
    pub target_ip: [u8; 4],
}

/// A neighbour solicitation or advertisement of IPv6, or a router's advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct NeighbourRow {
    pub row: u16,
    /// The ICMPv6 type: 134 router advertisement, 135 solicitation, 136 advertisement.
    pub message_type: u8,
    /// The address asked for or advertised; the sender's for a router's advertisement.
    pub target: [u8; 16],
    /// The link-layer address that it carries.
    pub mac: Option<[u8; 6]>,
    /// Of an advertisement: router 128, solicited 64, override 32.
    pub flags: u8,
}

/// A DHCPv4 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct DhcpRow {
    pub row: u16,
    /// 1 discover, 2 offer, 3 request, 4 decline, 5 acknowledge, 6 refuse, 7 release, 8 inform.
    pub message_type: u8,
    pub client_mac: [u8; 6],
    /// The address given to the client.
    pub your_ip: [u8; 4],
    pub server: Option<[u8; 4]>,
}

/// The beginning of a payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct PayloadHead {
    pub row: u16,
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub bytes: Vec<u8>,
}

/// A batch whose columns disagree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a packet batch whose columns disagree: {0}")]
pub struct MalformedBatch(pub &'static str);

/// A checked batch: every row exists in every column, every address in the dictionary, every side table in its rows.
#[derive(Clone, Copy, Debug)]
pub struct PacketView<'a> {
    batch: &'a PacketBatch,
    rows: usize,
    v4_addresses: usize,
}

impl PacketBatch {
    /// How many packets it holds, as long as its columns agree.
    pub fn len(&self) -> usize {
        self.protocols.len()
    }

    pub fn is_empty(&self) -> bool {
        self.protocols.is_empty()
    }

    /// Typed access, or what is wrong with the columns.
    pub fn view(&self) -> Result<PacketView<'_>, MalformedBatch> {
        let rows = self.len();
        // Left out, numbers count on.
        let numbers = if self.numbers.is_empty() {
            &self.at_ns
        } else {
            &self.numbers
        };
        let wide = [&self.at_ns, numbers];
        let narrow = [
            &self.sources,
            &self.destinations,
            &self.source_ports,
            &self.destination_ports,
            &self.lengths,
        ];
        let single = [&self.tcp_flags, &self.marks];
        let repeats = self.repeat_rows.len() / 2;
        if self.repeat_rows.len() != repeats * 2
            || self.repeat_prints.len() != repeats * 4
            || self.repeat_paths.len() != repeats * 2
            || self.repeat_after_ns.len() != repeats * 4
            || !column(&self.repeat_rows).is_sorted_by(|one, next| one < next)
        {
            return Err(MalformedBatch("repeats"));
        }
        if !self.bases.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(MalformedBatch("bases"));
        }
        if rows > PACKET_ROWS_MAX
            || wide.iter().any(|column| column.len() != rows * 4)
            || narrow.iter().any(|column| column.len() != rows * 2)
            || single.iter().any(|column| column.len() != rows)
        {
            return Err(MalformedBatch("lengths"));
        }
        if !self.v4.len().is_multiple_of(4) || !self.v6.len().is_multiple_of(16) {
            return Err(MalformedBatch("the dictionary of addresses"));
        }
        let v4_addresses = self.v4.len() / 4;
        let addresses = v4_addresses + self.v6.len() / 16;
        let known = |column: &[u8]| {
            column
                .as_chunks::<2>()
                .0
                .iter()
                .map(|bytes| u16::from_le_bytes(*bytes))
                .all(|index| index == NO_ADDRESS || usize::from(index) < addresses)
        };
        if addresses >= usize::from(NO_ADDRESS) || !known(&self.sources) || !known(&self.destinations) {
            return Err(MalformedBatch("an address that is not in the dictionary"));
        }
        if !self.side_rows().all(|row| usize::from(row) < rows) {
            return Err(MalformedBatch("a side table points past the last row"));
        }
        Ok(PacketView {
            batch: self,
            rows,
            v4_addresses,
        })
    }

    fn side_rows(&self) -> impl Iterator<Item = u16> + '_ {
        let vlans = self.vlans.iter().chain(&self.inner_vlans).map(|(row, _)| *row);
        let names = self.tls_names.iter().chain(&self.http_hosts).map(|(row, _)| *row);
        let bases = self.bases.iter().map(|(row, _)| *row);
        vlans
            .chain(names)
            .chain(bases)
            .chain(column(&self.repeat_rows))
            .chain(self.dns.iter().map(|dns| dns.row))
            .chain(self.arp.iter().map(|arp| arp.row))
            .chain(self.neighbours.iter().map(|neighbour| neighbour.row))
            .chain(self.dhcp.iter().map(|dhcp| dhcp.row))
            .chain(self.heads.iter().map(|head| head.row))
    }
}

/// 16 bits of row `row`; 0 past the end, which a checked batch never is.
#[inline]
fn narrow(column: &[u8], row: usize) -> u16 {
    column
        .as_chunks::<2>()
        .0
        .get(row)
        .map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

#[inline]
fn wide(column: &[u8], row: usize) -> i32 {
    column
        .as_chunks::<4>()
        .0
        .get(row)
        .map_or(0, |bytes| i32::from_le_bytes(*bytes))
}

impl<'a> PacketView<'a> {
    pub fn batch(&self) -> &'a PacketBatch {
        self.batch
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// When the packet was captured.
    #[inline]
    pub fn at(&self, row: usize) -> Time {
        self.base(row) + Span(i64::from(wide(&self.batch.at_ns, row)))
    }

    /// The instant that the time of a row counts from.
    #[inline]
    fn base(&self, row: usize) -> Time {
        if self.batch.bases.is_empty() {
            return self.batch.base;
        }
        let later = self
            .batch
            .bases
            .partition_point(|(from, _)| usize::from(*from) <= row);
        match later.checked_sub(1) {
            Some(place) => self.batch.bases[place].1,
            None => self.batch.base,
        }
    }

    /// The packet's number within its collector's incarnation.
    #[inline]
    pub fn number(&self, row: usize) -> u64 {
        if self.batch.numbers.is_empty() {
            return self.batch.first.saturating_add(row as u64);
        }
        self.batch
            .first
            .saturating_add_signed(i64::from(wide(&self.batch.numbers, row)))
    }

    /// Indices into the dictionary; equal indices are equal addresses.
    #[inline]
    pub fn source_index(&self, row: usize) -> u16 {
        narrow(&self.batch.sources, row)
    }

    #[inline]
    pub fn destination_index(&self, row: usize) -> u16 {
        narrow(&self.batch.destinations, row)
    }

    /// How many addresses the dictionary holds.
    pub fn addresses(&self) -> usize {
        self.v4_addresses + self.batch.v6.len() / 16
    }

    /// The address of an index; `None` for [`NO_ADDRESS`].
    pub fn address(&self, index: u16) -> Option<IpAddr> {
        let index = usize::from(index);
        match index.checked_sub(self.v4_addresses) {
            None => {
                let octets = self.batch.v4.as_chunks::<4>().0.get(index)?;
                Some(IpAddr::V4(Ipv4Addr::from(*octets)))
            }
            Some(index) => {
                let octets = self.batch.v6.as_chunks::<16>().0.get(index)?;
                Some(IpAddr::V6(Ipv6Addr::from(*octets)))
            }
        }
    }

    pub fn source(&self, row: usize) -> Option<IpAddr> {
        self.address(self.source_index(row))
    }

    pub fn destination(&self, row: usize) -> Option<IpAddr> {
        self.address(self.destination_index(row))
    }

    #[inline]
    pub fn source_port(&self, row: usize) -> u16 {
        narrow(&self.batch.source_ports, row)
    }

    #[inline]
    pub fn destination_port(&self, row: usize) -> u16 {
        narrow(&self.batch.destination_ports, row)
    }

    #[inline]
    pub fn length(&self, row: usize) -> u16 {
        narrow(&self.batch.lengths, row)
    }

    #[inline]
    pub fn protocol(&self, row: usize) -> u8 {
        self.batch.protocols.get(row).copied().unwrap_or_default()
    }

    #[inline]
    pub fn tcp_flags(&self, row: usize) -> u8 {
        self.batch.tcp_flags.get(row).copied().unwrap_or_default()
    }

    #[inline]
    pub fn marks(&self, row: usize) -> u8 {
        self.batch.marks.get(row).copied().unwrap_or_default()
    }

    /// The packets with the content of an earlier one, in order.
    pub fn repeats(&self) -> impl Iterator<Item = Repeat> + 'a {
        let batch = self.batch;
        column(&batch.repeat_rows).enumerate().map(|(place, row)| Repeat {
            row,
            print: wide(&batch.repeat_prints, place) as u32,
            path: narrow(&batch.repeat_paths, place),
            after: Span(i64::from(wide(&batch.repeat_after_ns, place))),
        })
    }

    /// A whole column of 16-bit values.
    pub fn source_ports(&self) -> impl ExactSizeIterator<Item = u16> + 'a {
        column(&self.batch.source_ports)
    }

    pub fn destination_ports(&self) -> impl ExactSizeIterator<Item = u16> + 'a {
        column(&self.batch.destination_ports)
    }

    pub fn lengths(&self) -> impl ExactSizeIterator<Item = u16> + 'a {
        column(&self.batch.lengths)
    }

    pub fn sources(&self) -> impl ExactSizeIterator<Item = u16> + 'a {
        column(&self.batch.sources)
    }

    pub fn destinations(&self) -> impl ExactSizeIterator<Item = u16> + 'a {
        column(&self.batch.destinations)
    }

    /// Whole columns of single bytes.
    pub fn protocols(&self) -> &'a [u8] {
        &self.batch.protocols
    }

    pub fn all_tcp_flags(&self) -> &'a [u8] {
        &self.batch.tcp_flags
    }

    pub fn all_marks(&self) -> &'a [u8] {
        &self.batch.marks
    }
}

#[inline]
fn column(bytes: &[u8]) -> impl ExactSizeIterator<Item = u16> + '_ {
    bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|bytes| u16::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;
