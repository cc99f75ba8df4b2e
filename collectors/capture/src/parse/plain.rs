//! Most packets: whole, without extensions of IP and without contradictions, and of a protocol that is no tunnel. Anything
//! else is read the long way, which gives the same for these.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::EtherType;

use super::{Packet, inside};

const ICMP: u8 = 1;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ESP: u8 = 50;
const ICMPV6: u8 = 58;
const OSPF: u8 = 89;
const PIM: u8 = 103;
const VRRP: u8 = 112;
const SCTP: u8 = 132;

/// ICMP messages with a longer header, whose length has to be right.
const ICMP_TIMESTAMPS: [u8; 2] = [13, 14];

/// The header of ICMP of either version.
const ICMP_HEADER_BYTES: usize = 8;

const IGMP_BYTES_MIN: usize = 8;
const IGMP_QUERY: u8 = 0x11;

/// The words of a TCP header without options.
const TCP_WORDS_MIN: usize = 5;

/// The words of an IPv4 header without options.
const V4_WORDS_MIN: u8 = 5;

/// The flags and the offset of an IPv4 header that fragments have: more to come, or not the first.
const FRAGMENT: u16 = 0x3fff;

/// The packet, where it is a plain one.
#[inline]
pub fn packet(ether_type: EtherType, bytes: &[u8]) -> Option<Packet<'_>> {
    match ether_type {
        EtherType::IPV4 => v4(bytes),
        EtherType::IPV6 => v6(bytes),
        _ => None,
    }
}

#[inline]
fn v4(bytes: &[u8]) -> Option<Packet<'_>> {
    let (header, _) = bytes.split_first_chunk::<20>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT;
    let words = header[0] & 0x0f;
    if header[0] >> 4 != 4 || words < V4_WORDS_MIN || fragment != 0 {
        return None;
    }
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    let packet = Packet::between(source.into(), destination.into());
    with_transport(packet, header[9], bytes.get(usize::from(words) * 4..length)?)
}

#[inline]
fn v6(bytes: &[u8]) -> Option<Packet<'_>> {
    let (header, rest) = bytes.split_first_chunk::<40>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 {
        return None;
    }
    let (source, _) = header[8..].split_first_chunk::<16>()?;
    let (destination, _) = header[24..].split_first_chunk::<16>()?;
    let packet = Packet::between(
        Ipv6Addr::from(*source).into(),
        Ipv6Addr::from(*destination).into(),
    );
    with_transport(packet, header[6], rest.get(..length)?)
}

#[inline]
fn with_transport<'a>(mut packet: Packet<'a>, protocol: u8, bytes: &'a [u8]) -> Option<Packet<'a>> {
    packet.protocol = protocol;
    match protocol {
        TCP => {
            let (header, _) = bytes.split_first_chunk::<20>()?;
            let words = usize::from(header[12] >> 4);
            if words < TCP_WORDS_MIN {
                return None;
            }
            let payload = bytes.get(words * 4..)?;
            (packet.source_port, packet.destination_port) = ports(header);
            packet.tcp_flags = header[13];
            packet.set_payload(payload);
            packet.inside = inside::of_tcp(packet.source_port, packet.destination_port, payload);
        }
        UDP => {
            let (header, payload) = bytes.split_first_chunk::<8>()?;
            if usize::from(u16::from_be_bytes([header[4], header[5]])) != bytes.len() {
                return None;
            }
            (packet.source_port, packet.destination_port) = ports(header);
            packet.set_payload(payload);
            packet.inside = inside::of_udp(packet.source_port, packet.destination_port, payload);
        }
        ICMP | ICMPV6 => {
            let (header, payload) = bytes.split_first_chunk::<ICMP_HEADER_BYTES>()?;
            let (is_v4, message_type) = (packet.source.is_some_and(|source| source.is_ipv4()), header[0]);
            // Each belongs to one version of IP.
            if is_v4 != (protocol == ICMP) || (is_v4 && ICMP_TIMESTAMPS.contains(&message_type)) {
                return None;
            }
            packet.source_port = message_type.into();
            packet.destination_port = header[1].into();
            packet.set_payload(payload);
            if !is_v4 {
                packet.inside = inside::of_icmpv6(message_type, bytes, packet.source);
            }
        }
        // A query may contradict itself.
        IGMP if bytes.len() < IGMP_BYTES_MIN || bytes[0] == IGMP_QUERY => return None,
        // Of which nothing further is read.
        IGMP | ESP | OSPF | PIM | VRRP | SCTP if !bytes.is_empty() => packet.set_payload(bytes),
        _ => return None,
    }
    Some(packet)
}

fn ports<const BYTES: usize>(header: &[u8; BYTES]) -> (u16, u16) {
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    (port(0), port(2))
}

#[cfg(test)]
mod tests {
    use etherparse::{IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, PacketBuilder};
    use proptest::prelude::*;

    use super::*;
    use crate::parse::any_network;

    /// A packet of some kind, without its Ethernet header. Of other protocols than TCP and UDP the payload is all.
    fn built(is_v6: bool, protocol: u8, options: bool, port: u16, payload: &[u8]) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([1; 6], [2; 6]);
        let ip = match (is_v6, options) {
            (true, _) => ethernet.ipv6([3; 16], [4; 16], 64),
            (false, false) => ethernet.ipv4([10, 0, 0, 1], [192, 0, 2, 9], 64),
            (false, true) => {
                let mut header =
                    Ipv4Header::new(0, 64, IpNumber::TCP, [10, 0, 0, 1], [192, 0, 2, 9]).unwrap();
                header.options = [1; 8].into();
                ethernet.ip(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
            }
        };
        let mut out = Vec::new();
        match protocol {
            TCP => ip.tcp(40_000, port, 1, 1).syn().write(&mut out, payload).unwrap(),
            UDP => ip.udp(40_000, port).write(&mut out, payload).unwrap(),
            _ => ip.write(&mut out, IpNumber::IGMP, payload).unwrap(),
        }
        // The builder refuses numbers of extension headers.
        let mut out = out.split_off(14);
        out[if is_v6 { 6 } else { 9 }] = protocol;
        out
    }

    proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4_000, ..ProptestConfig::default() })]
            #[test]
            fn plain_packets_are_read_as_the_long_way_reads_them(
                (is_v6, options) in any::<(bool, bool)>(),
                protocol in prop_oneof![
                    prop::sample::select(vec![TCP, UDP, ICMP, ICMPV6, IGMP, ESP, SCTP, 4, 47, 51]),
                    any::<u8>(),
                ],
                port in prop::sample::select(vec![53_u16, 67, 80, 443, 4_444]),
                payload in prop::collection::vec(any::<u8>(), 0..80),
                changes in prop::collection::vec((0_usize..70, any::<u8>()), 0..4),
                cut in prop::option::of(0_usize..140),
                padding in 0_usize..4,
            ) {
                let mut bytes = built(is_v6, protocol, options, port, &payload);
                if changes.is_empty() && cut.is_none() && matches!(protocol, TCP | UDP) {
    let own = if is_v6 { EtherType::IPV6 } else { EtherType::IPV4 };
                    let is_plain = packet(own, &bytes).is_some();
                    prop_assert!(is_plain);
                }
                for (at, value) in changes {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = value;
                    }
                }
                bytes.truncate(cut.unwrap_or(usize::MAX));
                bytes.extend(vec![0; padding]);
                for ether_type in [EtherType::IPV4, EtherType::IPV6] {
                    if let Some(plain) = packet(ether_type, &bytes) {
                        prop_assert_eq!(Ok(plain), any_network(ether_type, &bytes, 0));
                    }
                }
            }
        }
}
