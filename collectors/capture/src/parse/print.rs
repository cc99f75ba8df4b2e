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

/// An IPv4 header from its length on, as one little-endian word without the hop limit.
const V4_WITHOUT_HOPS: u64 = !(0xff << 48);

/// An IPv6 header from its payload length on, likewise.
const V6_WITHOUT_HOPS: u64 = !(0xff << 24);

/// The hashes of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Print {
    /// Of what stays the same on every way. 0 where nothing is known: such a packet is a copy of none.
    pub content: u64,
    /// Of the link header with its tags, and the hop limit.
    pub path: u16,
}

impl Print {
    #[inline]
    pub fn of(frame: &[u8], opened: &Opened<'_>) -> Print {
        let link = &frame[..frame.len().saturating_sub(opened.payload.len())];
        let (content, hops) = content(opened.ether_type, opened.payload);
        Print {
            content: content.max(1),
            path: (hash(u64::from(hops), link) >> 48) as u16,
        }
    }
}

/// The hash of what stays the same on every way, and the hop limit.
fn content(ether_type: EtherType, bytes: &[u8]) -> (u64, u8) {
    match (ether_type, bytes.first_chunk::<20>()) {
        (EtherType::IPV4, Some(header)) => {
            let [_, _, a, b, c, d, e, f, hops, protocol, ..] = *header;
            let length = usize::from(u16::from_be_bytes([a, b]));
            let state = u64::from_le_bytes([a, b, c, d, e, f, hops, protocol]) & V4_WITHOUT_HOPS;
            (hash(state, within(bytes, 12, 20, length)), hops)
        }
        (EtherType::IPV6, Some(header)) if bytes.len() >= 40 => {
            let [_, _, _, _, a, b, c, hops, d, e, f, g, ..] = *header;
            let length = 40 + usize::from(u16::from_be_bytes([a, b]));
            let state = u64::from_le_bytes([a, b, c, hops, d, e, f, g]) & V6_WITHOUT_HOPS;
            (hash(state, within(bytes, 8, 40, length)), hops)
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

/// Products of pairs of words, each with numbers of its own, so that none waits for another. The last 16 bytes make a pair
/// that may overlap the one before, instead of a rest that would be copied.
fn hash(state: u64, bytes: &[u8]) -> u64 {
    let pair = |place: u64, pair: &[u8; 16]| {
        let numbers = MIX.map(|mix| mix.wrapping_mul(2 * place + 1));
        let [one, other] = words(pair);
        fold(one ^ numbers[0], other ^ numbers[1])
    };
    let mut sum = 0_u64;
    let last = match bytes.last_chunk::<16>() {
        Some(last) => {
            let pairs = bytes.as_chunks::<16>().0;
            for (place, chunk) in pairs.iter().enumerate() {
                sum = sum.wrapping_add(pair(place as u64 + 1, chunk));
            }
            *last
        }
        None => short(bytes),
    };
    sum = sum.wrapping_add(pair(0, &last));
    fold(state ^ MIX[0], sum ^ MIX[1] ^ bytes.len() as u64) ^ sum
}

fn words(pair: &[u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(*pair);
    [both as u64, (both >> 64) as u64]
}

/// Fewer than 16 bytes, filled up; of 8 or more the first and the last eight.
fn short(bytes: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => {
            out[..8].copy_from_slice(first);
            out[8..].copy_from_slice(last);
        }
        _ => out[..bytes.len()].copy_from_slice(bytes),
    }
    out
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
