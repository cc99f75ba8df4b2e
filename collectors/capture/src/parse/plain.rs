//! Most packets: TCP or UDP in IP, whole, without options or extensions of IP and without contradictions. Anything else is
//! read the long way, which gives the same for these.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::EtherType;

use super::{Packet, inside};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The flags and the offset of an IPv4 header that fragments have: more to come, or not the first.
const FRAGMENT: u16 = 0x3fff;

/// The packet, where it is a plain one.
pub fn packet(ether_type: EtherType, bytes: &[u8]) -> Option<Packet<'_>> {
    match ether_type {
        EtherType::IPV4 => v4(bytes),
        EtherType::IPV6 => v6(bytes),
        _ => None,
    }
}

fn v4(bytes: &[u8]) -> Option<Packet<'_>> {
    let (header, _) = bytes.split_first_chunk::<20>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT;
    // Version 4 and five words: no options.
    if header[0] != 0x45 || fragment != 0 {
        return None;
    }
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    let packet = Packet::between(source.into(), destination.into());
    with_transport(packet, header[9], bytes.get(20..length)?)
}

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

fn with_transport<'a>(mut packet: Packet<'a>, protocol: u8, bytes: &'a [u8]) -> Option<Packet<'a>> {
    let (header, _) = bytes.split_first_chunk::<8>()?;
    packet.protocol = protocol;
    packet.source_port = u16::from_be_bytes([header[0], header[1]]);
    packet.destination_port = u16::from_be_bytes([header[2], header[3]]);
    match protocol {
        TCP => {
            let words = usize::from(bytes.get(12)? >> 4);
            if words < 5 {
                return None;
            }
            let payload = bytes.get(words * 4..)?;
            packet.tcp_flags = bytes[13];
            packet.set_payload(payload);
            packet.inside = inside::of_tcp(packet.source_port, packet.destination_port, payload);
        }
        UDP if usize::from(u16::from_be_bytes([header[4], header[5]])) == bytes.len() => {
            let payload = &bytes[8..];
            packet.set_payload(payload);
            packet.inside = inside::of_udp(packet.source_port, packet.destination_port, payload);
        }
        _ => return None,
    }
    Some(packet)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::parse::any_network;

    /// A packet of some kind, without its Ethernet header.
    fn built(is_v6: bool, is_tcp: bool, port: u16, payload: &[u8]) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([1; 6], [2; 6]);
        let ip = if is_v6 {
            ethernet.ipv6([3; 16], [4; 16], 64)
        } else {
            ethernet.ipv4([10, 0, 0, 1], [192, 0, 2, 9], 64)
        };
        let mut out = Vec::new();
        if is_tcp {
            ip.tcp(40_000, port, 1, 1).syn().write(&mut out, payload).unwrap();
        } else {
            ip.udp(40_000, port).write(&mut out, payload).unwrap();
        }
        out.split_off(14)
    }

    proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]
            #[test]
            fn plain_packets_are_read_as_the_long_way_reads_them(
                (is_v6, is_tcp) in any::<(bool, bool)>(),
                port in prop::sample::select(vec![53_u16, 67, 80, 443, 4_444]),
                payload in prop::collection::vec(any::<u8>(), 0..80),
                changes in prop::collection::vec((0_usize..70, any::<u8>()), 0..4),
                cut in prop::option::of(0_usize..140),
                padding in 0_usize..4,
            ) {
                let mut bytes = built(is_v6, is_tcp, port, &payload);
                if changes.is_empty() && cut.is_none() {
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
