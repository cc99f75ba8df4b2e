//! What tells one packet from another when copies of it are captured: a hash of its content, and one of the way that it came.
//! Pure.
//!
//! A router lowers the hop limit and writes the checksum anew, and may change the traffic class; a switch changes tags. The
//! content leaves these out, so that one packet has one hash wherever it is seen.

use etherparse::EtherType;

use super::link::Opened;

/// The bytes that count behind an IP header: any transport header, whose checksum stands for the rest.
const BEHIND_IP_BYTES: usize = 64;

/// The bytes that count of what is not IP: an ARP message is 28 bytes long, and padding behind it is no part of it.
const OTHER_BYTES: usize = 28;

/// Odd numbers without a pattern: the first digits of the square roots of 5 and 7 in binary.
const MIX: [u64; 2] = [0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1];

/// The hashes of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Print {
    /// 0 where nothing is known: such a packet is a copy of none.
    pub content: u32,
    /// Of the link header with its tags, and the hop limit.
    pub path: u16,
}

impl Print {
    pub fn of(frame: &[u8], opened: &Opened<'_>) -> Print {
        let header = &frame[..frame.len().saturating_sub(opened.payload.len())];
        let (content, hops) = content(opened.ether_type, opened.payload);
        Print {
            content: ((content >> 32) as u32).max(1),
            path: (hash(u64::from(hops), header) >> 48) as u16,
        }
    }
}

/// The hash of what stays the same on every way, and the hop limit.
fn content(ether_type: EtherType, bytes: &[u8]) -> (u64, u8) {
    match (ether_type, bytes) {
        (EtherType::IPV4, [_, _, high, low, ..]) if bytes.len() >= 20 => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let state = hash(u64::from(bytes[9]), &bytes[2..8]);
            (hash(state, within(bytes, 12, 20, length)), bytes[8])
        }
        (EtherType::IPV6, [_, _, _, _, high, low, ..]) if bytes.len() >= 40 => {
            let length = 40 + usize::from(u16::from_be_bytes([*high, *low]));
            let state = hash(u64::from(bytes[6]), &bytes[4..6]);
            (hash(state, within(bytes, 8, 40, length)), bytes[7])
        }
        _ => {
            let counted = bytes.len().min(OTHER_BYTES);
            (hash(u64::from(ether_type.0), &bytes[..counted]), 0)
        }
    }
}

/// The packet from `from` on: the rest of its header, and what counts behind it without what pads the frame.
fn within(bytes: &[u8], from: usize, header: usize, length: usize) -> &[u8] {
    let end = (header + BEHIND_IP_BYTES).min(bytes.len());
    // A length of 0 is that of a packet that the network card cuts into several.
    let end = if length < header { end } else { end.min(length) };
    &bytes[from..end]
}

fn hash(state: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = fold(state ^ MIX[0], MIX[1] ^ bytes.len() as u64);
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), MIX[1]);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(state ^ u64::from_le_bytes(last), MIX[0])
}

/// Both halves of a product, so that every bit of either factor counts.
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use crate::parse::{LinkType, Print, decode};

    /// A SYN of these ports, seen with this hop limit and these hardware addresses.
    fn seen(port: u16, hops: u8, mac: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let builder = PacketBuilder::ethernet2([mac; 6], [2; 6]).ipv4([10, 0, 0, 1], [192, 0, 2, 9], hops);
        builder
            .tcp(40_000, port, 1, 1)
            .syn()
            .write(&mut out, &[])
            .unwrap();
        out
    }

    fn print(frame: &[u8]) -> Print {
        decode(LinkType::Ethernet, frame, frame.len() as u32)
            .unwrap()
            .print
    }

    #[test]
    fn one_packet_has_one_content_on_every_way() {
        let original = print(&seen(80, 64, 1));
        assert_eq!(original, print(&seen(80, 64, 1)));
        let mut padded = seen(80, 64, 1);
        padded.extend([0; 6]);
        assert_eq!(original, print(&padded));
        let mut tagged = seen(80, 64, 1);
        tagged.splice(12..12, [0x81, 0, 0, 10]);
        let mut marked = seen(80, 64, 1);
        marked[15] = 0x28;
        for other in [seen(80, 63, 1), seen(80, 64, 3), tagged] {
            let other = print(&other);
            assert_eq!(other.content, original.content);
            assert_ne!(other.path, original.path);
        }
        assert_eq!(print(&marked).content, original.content);
    }

    #[test]
    fn other_packets_have_other_contents() {
        let original = print(&seen(80, 64, 1));
        assert_ne!(print(&seen(81, 64, 1)).content, original.content);
        for at in [16, 18, 20, 23, 26, 33, 36, 38, 45, 50] {
            let mut other = seen(80, 64, 1);
            other[at] ^= 1;
            if let Ok(packet) = decode(LinkType::Ethernet, &other, other.len() as u32) {
                assert_ne!(packet.print.content, original.content, "byte {at}");
            }
        }
    }

    #[test]
    fn a_frame_that_ends_early_has_a_content_too() {
        let whole = seen(80, 64, 1);
        for length in 34..whole.len() {
            if let Ok(packet) = decode(LinkType::Ethernet, &whole[..length], whole.len() as u32) {
                assert_ne!(packet.print, Print::default(), "{length}");
            }
        }
    }
}
