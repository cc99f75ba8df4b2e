//! Rows of every kind as rules and alerts see them: packets, attempts to connect, neighbours.

use core::net::IpAddr;
use std::borrow::Cow;

use watchfold_schemas::alert::PacketRanges;
use watchfold_schemas::fields::Field;
use watchfold_schemas::packets::marks;

use super::columns::Columns;
use super::community_id::community_id;
use super::extract::addresses::{Class, Site};
use super::extract::connections::ConnectionRow;
use super::extract::neighbours::NeighbourFact;
use super::protocols;
use super::telling::RowFacts;
use crate::engine::cell::{Cell, Row};
use crate::engine::segment::Segment;

/// Bits of TCP's flags, as the header has them.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// One packet.
pub struct PacketRow<'a> {
    pub columns: &'a Columns<'a>,
    pub site: &'a Site,
    pub row: u16,
}

impl Row for PacketRow<'_> {
    fn cell(&self, field: Field) -> Option<Cell<'_>> {
        match field {
            Field::SourceIp | Field::DestinationIp | Field::ExternalIp => {
                self.address(field).map(|(address, _)| Cell::Address(address))
            }
            Field::SourcePrivate => self.class(Field::SourceIp, Class::private),
            Field::DestinationPrivate => self.class(Field::DestinationIp, Class::private),
            Field::SourceExternal => self.class(Field::SourceIp, Class::external),
            Field::DestinationExternal => self.class(Field::DestinationIp, Class::external),
            Field::SourcePort | Field::DestinationPort => self.port(field),
            Field::OwnService => Some(Cell::Truth(self.is_own_service())),
            Field::Transport => Some(Cell::text(self.transport_word())),
            Field::Bytes => self.number(u32::from(self.columns.lengths[self.at()])),
            Field::Vlan => self.number(u32::from(self.columns.vlan(self.row)?)),
            Field::InnerVlan => self.number(u32::from(self.columns.inner_vlan(self.row)?)),
            Field::Duplicate => Some(Cell::Truth(self.columns.duplicates.has(self.row))),
            Field::TcpFlags => self.number(u32::from(self.flags()?)),
            Field::TcpSyn => self.flag(SYN),
            Field::TcpAck => self.flag(ACK),
            Field::TcpFin => self.flag(FIN),
            Field::TcpRst => self.flag(RST),
            Field::IcmpType => self.icmp(self.columns.source_ports[self.at()]),
            Field::IcmpCode => self.icmp(self.columns.destination_ports[self.at()]),
            Field::LaterFragment => self.mark(marks::LATER_FRAGMENT),
            Field::Truncated => self.mark(marks::TRUNCATED),
            Field::Malformed => self.mark(marks::MALFORMED),
            Field::Tunnelled => self.mark(marks::TUNNELLED),
            Field::HasPayload => self.mark(marks::PAYLOAD),
            Field::ArpReplyChanged => self.columns.arp(self.row)?.1.map(Cell::Truth),
            Field::TlsServerName => self.columns.tls_name(self.row).map(Cell::text),
            Field::HttpHost => self.columns.http_host(self.row).map(Cell::text),
            Field::PayloadText => self
                .columns
                .head(self.row)
                .map(|bytes| Cell::Text(Cow::Owned(payload_text(bytes)))),
            _ => self.dns(field),
        }
    }

    fn segment(&self) -> Segment {
        self.columns.segment(self.row)
    }
}

impl PacketRow<'_> {
    fn at(&self) -> usize {
        usize::from(self.row)
    }

    fn address(&self, field: Field) -> Option<(IpAddr, Class)> {
        let column = match field {
            Field::SourceIp => &self.columns.sources,
            Field::DestinationIp => &self.columns.destinations,
            _ => &self.columns.external,
        };
        let known = self.columns.known(column[self.at()])?;
        Some((known.address, known.class))
    }

    fn class(&self, field: Field, is: impl Fn(Class) -> bool) -> Option<Cell<'_>> {
        self.address(field).map(|(_, class)| Cell::Truth(is(class)))
    }

    fn number(&self, number: u32) -> Option<Cell<'_>> {
        Some(Cell::Number(i64::from(number)))
    }

    fn port(&self, field: Field) -> Option<Cell<'_>> {
        let column = match field {
            Field::SourcePort => &self.columns.source_ports,
            _ => &self.columns.destination_ports,
        };
        let has_ports = self.columns.kinds.with_ports.has(self.row);
        has_ports.then(|| Cell::Number(i64::from(column[self.at()])))
    }

    fn flags(&self) -> Option<u8> {
        let has_flags = self.columns.kinds.with_flags.has(self.row);
        has_flags.then(|| self.columns.view.tcp_flags(self.at()))
    }

    fn flag(&self, bit: u8) -> Option<Cell<'_>> {
        self.flags().map(|flags| Cell::Truth(flags & bit != 0))
    }

    fn icmp(&self, value: u16) -> Option<Cell<'_>> {
        let has_type = self.columns.kinds.with_type.has(self.row);
        has_type.then(|| Cell::Number(i64::from(value)))
    }

    fn mark(&self, bit: u8) -> Option<Cell<'_>> {
        Some(Cell::Truth(self.columns.view.marks(self.at()) & bit != 0))
    }

    fn is_own_service(&self) -> bool {
        let ends = [
            (&self.columns.sources, &self.columns.source_ports),
            (&self.columns.destinations, &self.columns.destination_ports),
        ];
        self.columns.kinds.with_ports.has(self.row)
            && ends.into_iter().any(|(addresses, ports)| {
                let known = self.columns.known(addresses[self.at()]);
                known.is_some_and(|known| self.site.is_own_service(known.class, ports[self.at()]))
            })
    }

    fn transport_word(&self) -> &'static str {
        match self.columns.view.protocol(self.at()) {
            protocols::TCP => "tcp",
            protocols::UDP => "udp",
            protocols::ICMP => "icmp",
            protocols::ICMPV6 => "icmpv6",
            _ if self.columns.kinds.arp.has(self.row) => "arp",
            _ => "other",
        }
    }

    fn dns(&self, field: Field) -> Option<Cell<'_>> {
        let (dns, name) = self.columns.dns(self.row)?;
        match field {
            Field::DnsName => Some(Cell::text(&dns.name)),
            Field::DnsLength => self.number(name.length),
            Field::DnsZone => Some(Cell::text(name.zone)),
            Field::DnsSubdomainEntropy => self.number(name.entropy_centibits),
            Field::DnsSubdomainLength => self.number(name.subdomain_length),
            Field::DnsLabelLength => self.number(name.label_length_max),
            Field::DnsType => self.number(u32::from(dns.query_type)),
            Field::DnsIsResponse => Some(Cell::Truth(dns.is_response)),
            Field::DnsResponseCode => self.number(u32::from(dns.response_code)),
            Field::DnsAnswers => self.number(u32::from(dns.answers)),
            _ => None,
        }
    }
}

/// Bytes that are not ASCII read as `?`.
pub fn payload_text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' })
        .collect()
}

/// What came of an attempt to connect.
pub struct AttemptRow<'a> {
    pub row: &'a ConnectionRow,
    pub site: &'a Site,
}

impl Row for AttemptRow<'_> {
    fn cell(&self, field: Field) -> Option<Cell<'_>> {
        let ends = &self.row.ends;
        let class =
            |address: IpAddr, is: fn(Class) -> bool| Some(Cell::Truth(is(self.site.classify(address))));
        match field {
            Field::SourceIp => Some(Cell::Address(ends.source)),
            Field::DestinationIp => Some(Cell::Address(ends.destination)),
            Field::SourcePort => Some(Cell::Number(i64::from(ends.source_port))),
            Field::DestinationPort => Some(Cell::Number(i64::from(ends.destination_port))),
            Field::SourcePrivate => class(ends.source, Class::private),
            Field::DestinationPrivate => class(ends.destination, Class::private),
            Field::SourceExternal => class(ends.source, Class::external),
            Field::DestinationExternal => class(ends.destination, Class::external),
            Field::ExternalIp => {
                let is_private = self.site.classify(ends.source).private();
                Some(Cell::Address(if is_private {
                    ends.destination
                } else {
                    ends.source
                }))
            }
            Field::OwnService => {
                let is_own = |address, port| self.site.is_own_service(self.site.classify(address), port);
                let (from, to) = (
                    (ends.source, ends.source_port),
                    (ends.destination, ends.destination_port),
                );
                Some(Cell::Truth(is_own(from.0, from.1) || is_own(to.0, to.1)))
            }
            Field::Transport => Some(Cell::text("tcp")),
            Field::ConnectionOutcome => Some(Cell::text(self.row.outcome.name())),
            Field::ConnectionDuration => Some(Cell::Number(self.row.duration.as_millis())),
            _ => None,
        }
    }

    fn segment(&self) -> Segment {
        self.row.ends.segment
    }
}

/// An announcement of a hardware address.
pub struct AnnouncementRow<'a> {
    pub fact: &'a NeighbourFact,
    pub site: &'a Site,
}

impl Row for AnnouncementRow<'_> {
    fn cell(&self, field: Field) -> Option<Cell<'_>> {
        let fact = self.fact;
        match field {
            Field::SourceIp => Some(Cell::Address(fact.address)),
            Field::DestinationIp => fact.target.map(Cell::Address),
            Field::NeighbourMac => Some(Cell::Mac(fact.mac)),
            Field::NeighbourPreviousMac => fact.previous.map(Cell::Mac),
            Field::NeighbourChange => Some(Cell::text(fact.change.name())),
            Field::NeighbourMessage => Some(Cell::text(fact.message.name())),
            Field::NeighbourExplained => Some(Cell::Truth(fact.explained)),
            Field::NeighbourGateway => {
                let is_configured = self.site.classify(fact.address).gateway();
                Some(Cell::Truth(fact.router || is_configured))
            }
            _ => None,
        }
    }

    fn segment(&self) -> Segment {
        self.fact.segment
    }
}

/// A row with what its alert says beside its fields.
pub struct Told<'a> {
    pub row: &'a dyn Row,
    /// The protocol and both ports, where it is a packet or a connection.
    pub flow: Option<(u8, u16, u16)>,
    pub transport: Cow<'static, str>,
    /// The first packet that counted, the last, and how many did.
    pub packets: (u64, u64, u64),
}

impl Row for Told<'_> {
    fn cell(&self, field: Field) -> Option<Cell<'_>> {
        self.row.cell(field)
    }

    fn segment(&self) -> Segment {
        self.row.segment()
    }
}

impl RowFacts for Told<'_> {
    fn transport(&self) -> String {
        self.transport.clone().into_owned()
    }

    fn community_id(&self) -> Option<String> {
        let address = |field| match self.row.cell(field) {
            Some(Cell::Address(address)) => Some(address),
            _ => None,
        };
        let (protocol, source_port, destination_port) = self.flow?;
        let (source, destination) = (address(Field::SourceIp)?, address(Field::DestinationIp)?);
        community_id(protocol, source, destination, (source_port, destination_port))
    }

    fn packets(&self) -> PacketRanges {
        let (first, last, total) = self.packets;
        PacketRanges {
            ranges: vec![(first, last)],
            total,
        }
    }
}

impl<'a> Told<'a> {
    pub fn packet(row: &'a PacketRow<'a>, packets: (u64, u64, u64)) -> Told<'a> {
        let at = row.at();
        let protocol = row.columns.view.protocol(at);
        let has_header = row.columns.kinds.with_header.has(row.row) && !row.columns.kinds.arp.has(row.row);
        let ports = (row.columns.source_ports[at], row.columns.destination_ports[at]);
        Told {
            row,
            flow: has_header.then_some((protocol, ports.0, ports.1)),
            transport: match row.transport_word() {
                "other" => Cow::Owned(protocol.to_string()),
                word => Cow::Borrowed(word),
            },
            packets,
        }
    }

    pub fn attempt(row: &'a AttemptRow<'a>, packets: (u64, u64, u64)) -> Told<'a> {
        let ends = &row.row.ends;
        Told {
            row,
            flow: Some((protocols::TCP, ends.source_port, ends.destination_port)),
            transport: Cow::Borrowed("tcp"),
            packets,
        }
    }

    pub fn announcement(row: &'a AnnouncementRow<'a>, packets: (u64, u64, u64)) -> Told<'a> {
        let is_v4 = row.fact.address.is_ipv4();
        Told {
            row,
            flow: None,
            transport: Cow::Borrowed(if is_v4 { "arp" } else { "icmpv6" }),
            packets,
        }
    }
}
