//! One frame as one row: addresses, ports, flags, and the few things inside that rules ask for. Pure.
//!
//! It reads as far as the frame goes: a truncated or contradictory packet gives what stands before the fault, marked as
//! such. It keeps no state, so fragments stay fragments and streams are not put together.

mod inside;
mod link;
mod plain;
mod print;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{ArpPacketSlice, EtherType, IpNumber, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use watchfold_schemas::packets::{ArpRow, DhcpRow, DnsRow, NeighbourRow, marks};

pub use link::{LinkType, Vlans};
pub use print::Print;

/// The protocol of a packet that is not IP.
pub const NOT_IP: u8 = 255;

/// Tunnels within tunnels are followed this deep; further ones stay closed.
const TUNNEL_DEPTH_MAX: u8 = 4;

/// One packet as a batch stores it. Row numbers in `inside` are 0; the batch sets them.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet<'a> {
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
    /// The ICMP type where the protocol is ICMP or ICMPv6.
    pub source_port: u16,
    /// The ICMP code likewise.
    pub destination_port: u16,
    /// [`NOT_IP`] for ARP.
    pub protocol: u8,
    pub tcp_flags: u8,
    /// [`marks`].
    pub marks: u8,
    pub vlans: Vlans,
    /// Of the whole frame, with whatever tunnel it carries.
    pub print: Print,
    pub inside: Inside,
    /// What follows the transport header, as far as it was captured.
    pub payload: &'a [u8],
}

/// What a packet carries, as far as rules ask.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Inside {
    #[default]
    Nothing,
    Dns(DnsRow),
    Arp(ArpRow),
    Neighbour(NeighbourRow),
    Dhcp(DhcpRow),
    /// The server name of a TLS client hello.
    TlsName(String),
    /// The host of an HTTP request.
    HttpHost(String),
}

/// Why a frame gives no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Undecoded {
    #[error("of link type {}, which is not supported", link::named(*.0))]
    LinkType(i32),
    #[error("shorter than their first header")]
    TooShort,
    #[error("neither IP nor ARP")]
    OtherProtocol,
    #[error("with an IP header that cannot be read")]
    IpHeader,
}

/// Reads one frame of which `wire_length` bytes were on the wire.
#[inline]
pub fn decode(link: LinkType, frame: &[u8], wire_length: u32) -> Result<Packet<'_>, Undecoded> {
    let opened = link.open(frame)?;
    let mut packet = network(opened.ether_type, opened.payload, 0)?;
    packet.vlans = opened.vlans.around(packet.vlans);
    packet.print = Print::of(frame, &opened);
    if (frame.len() as u64) < u64::from(wire_length) {
        packet.marks |= marks::TRUNCATED;
    }
    Ok(packet)
}

/// Reads from the network header on.
#[inline]
fn network(ether_type: EtherType, bytes: &[u8], depth: u8) -> Result<Packet<'_>, Undecoded> {
    match plain::packet(ether_type, bytes) {
        Some(packet) => Ok(packet),
        None => any_network(ether_type, bytes, depth),
    }
}

/// The same, whatever it is.
fn any_network(ether_type: EtherType, bytes: &[u8], depth: u8) -> Result<Packet<'_>, Undecoded> {
    match ether_type.0 {
        link::PPPOE_SESSION => {
            let (inner, payload) = link::open_pppoe(bytes)?;
            return network(inner, payload, depth);
        }
        link::MPLS_UNICAST | link::MPLS_MULTICAST => {
            let (inner, payload) = link::open_mpls(bytes)?;
            return network(inner, payload, depth);
        }
        _ => {}
    }
    let sliced = LaxSlicedPacket::from_ether_type(ether_type, bytes);
    let tag = |place: usize| sliced.vlan_ids().get(place).map(|vlan| vlan.value());
    let vlans = Vlans {
        outer: tag(0),
        inner: tag(1),
    };
    let is_malformed = sliced.stop_err.is_some();
    let mut packet = match &sliced.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let mut packet = Packet::between(header.source_addr().into(), header.destination_addr().into());
            if header.is_fragmenting_payload() {
                packet.marks |= fragment_mark(header.fragments_offset().value());
            }
            packet.take_payload(&sliced, ip.payload().ip_number, ip.payload().payload, depth);
            packet
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let mut packet = Packet::between(header.source_addr().into(), header.destination_addr().into());
            if ip.is_payload_fragmented() {
                packet.marks |= fragment_mark(ipv6_fragment_offset(ip));
            }
            packet.take_payload(&sliced, ip.payload().ip_number, ip.payload().payload, depth);
            packet
        }
        Some(LaxNetSlice::Arp(arp)) => arp_packet(arp)?,
        None => return inner_ether_type(&sliced, depth, ether_type),
    };
    packet.vlans = vlans.around(packet.vlans);
    if is_malformed {
        packet.marks |= marks::MALFORMED;
    }
    Ok(packet)
}

/// Behind VLAN tags there may be what etherparse does not open but this does.
fn inner_ether_type<'a>(
    sliced: &LaxSlicedPacket<'a>,
    depth: u8,
    outer: EtherType,
) -> Result<Packet<'a>, Undecoded> {
    let is_broken_ip = |ether_type: EtherType| matches!(ether_type, EtherType::IPV4 | EtherType::IPV6);
    let Some(payload) = sliced.ether_payload() else {
        return Err(if is_broken_ip(outer) {
            Undecoded::IpHeader
        } else {
            Undecoded::OtherProtocol
        });
    };
    let inner = payload.ether_type;
    match inner.0 {
        link::PPPOE_SESSION | link::MPLS_UNICAST | link::MPLS_MULTICAST if inner != outer => {
            network(inner, payload.payload, depth)
        }
        _ if is_broken_ip(inner) => Err(Undecoded::IpHeader),
        _ => Err(Undecoded::OtherProtocol),
    }
}

fn fragment_mark(offset: u16) -> u8 {
    if offset == 0 {
        marks::FIRST_FRAGMENT
    } else {
        marks::LATER_FRAGMENT
    }
}

fn ipv6_fragment_offset(ip: &etherparse::LaxIpv6Slice<'_>) -> u16 {
    use etherparse::Ipv6ExtensionSlice;
    let offset = ip
        .extensions()
        .clone()
        .into_iter()
        .find_map(|extension| match extension {
            Ipv6ExtensionSlice::Fragment(fragment) => Some(fragment.fragment_offset().value()),
            _ => None,
        });
    offset.unwrap_or(0)
}

impl<'a> Packet<'a> {
    #[inline]
    fn between(source: IpAddr, destination: IpAddr) -> Packet<'a> {
        Packet {
            source: Some(source),
            destination: Some(destination),
            source_port: 0,
            destination_port: 0,
            protocol: NOT_IP,
            tcp_flags: 0,
            marks: 0,
            vlans: Vlans::default(),
            print: Print::default(),
            inside: Inside::Nothing,
            payload: &[],
        }
    }

    /// Reads what the IP header announces; a tunnel is entered and its inner packet takes the outer one's place.
    fn take_payload(&mut self, sliced: &LaxSlicedPacket<'a>, number: IpNumber, payload: &'a [u8], depth: u8) {
        self.protocol = number.0;
        if self.marks & marks::LATER_FRAGMENT != 0 {
            self.set_payload(payload);
            return;
        }
        if depth < TUNNEL_DEPTH_MAX
            && let Some(tunnel) = link::tunnel(number, payload)
            && let Ok(inside) = network(tunnel.ether_type, tunnel.payload, depth + 1)
        {
            let outer = self.vlans;
            *self = inside;
            self.vlans = outer.around(tunnel.vlans).around(self.vlans);
            self.marks |= marks::TUNNELLED;
            return;
        }
        match &sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                self.source_port = tcp.source_port();
                self.destination_port = tcp.destination_port();
                self.tcp_flags = tcp.header_slice().get(13).copied().unwrap_or_default();
                self.set_payload(tcp.payload());
                self.inside = inside::of_tcp(self.source_port, self.destination_port, self.payload);
            }
            Some(TransportSlice::Udp(udp)) => {
                self.source_port = udp.source_port();
                self.destination_port = udp.destination_port();
                self.set_payload(udp.payload());
                self.inside = inside::of_udp(self.source_port, self.destination_port, self.payload);
            }
            Some(TransportSlice::Icmpv4(icmp)) => {
                self.source_port = icmp.type_u8().into();
                self.destination_port = icmp.code_u8().into();
                self.set_payload(icmp.payload());
            }
            Some(TransportSlice::Icmpv6(icmp)) => {
                self.source_port = icmp.type_u8().into();
                self.destination_port = icmp.code_u8().into();
                self.set_payload(icmp.payload());
                self.inside = inside::of_icmpv6(icmp.type_u8(), icmp.slice(), self.source);
            }
            _ => self.take_broken_transport(payload),
        }
    }

    /// A transport header that is cut off still shows its ports when these were captured.
    fn take_broken_transport(&mut self, payload: &'a [u8]) {
        let has_ports = matches!(IpNumber(self.protocol), IpNumber::TCP | IpNumber::UDP);
        if let ([a, b, c, d, ..], true) = (payload, has_ports) {
            self.source_port = u16::from_be_bytes([*a, *b]);
            self.destination_port = u16::from_be_bytes([*c, *d]);
            self.marks |= marks::MALFORMED;
            return;
        }
        if has_ports {
            self.marks |= marks::MALFORMED;
        }
        self.set_payload(payload);
    }

    #[inline]
    fn set_payload(&mut self, payload: &'a [u8]) {
        self.payload = payload;
        if !payload.is_empty() {
            self.marks |= marks::PAYLOAD;
        }
    }
}

/// ARP for IPv4 over Ethernet; its sender and target stand as source and destination.
fn arp_packet<'a>(arp: &ArpPacketSlice<'_>) -> Result<Packet<'a>, Undecoded> {
    let row = (|| {
        Some(ArpRow {
            row: 0,
            operation: arp.operation().0,
            sender_mac: arp.sender_hw_addr().try_into().ok()?,
            sender_ip: arp.sender_protocol_addr().try_into().ok()?,
            target_mac: arp.target_hw_addr().try_into().ok()?,
            target_ip: arp.target_protocol_addr().try_into().ok()?,
        })
    })();
    let row = row.ok_or(Undecoded::OtherProtocol)?;
    let mut packet = Packet::between(
        Ipv4Addr::from(row.sender_ip).into(),
        Ipv4Addr::from(row.target_ip).into(),
    );
    packet.inside = Inside::Arp(row);
    Ok(packet)
}

/// The unspecified address, for sources that are not told.
const UNSPECIFIED: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

/// A packet is handed on by value a few times, and what is longer than this is copied by a call each time.
const _: () = assert!(size_of::<Packet<'_>>() <= 128);

#[cfg(test)]
mod tests;
