//! Echo requests as bytes, and what an ICMP message says of one (RFC 792, RFC 4443). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Reply,
    TimeExceeded,
    Unreachable,
}

const HEADER_BYTES: usize = 8;

const IPV4_HEADER_BYTES_MIN: usize = 20;

const IPV6_HEADER_BYTES: usize = 40;

impl Family {
    const fn request(self) -> u8 {
        match self {
            Family::V4 => 8,
            Family::V6 => 128,
        }
    }

    /// Of an error that quotes a request.
    const fn error(self, kind: u8) -> Option<Heard> {
        match (self, kind) {
            (Family::V4, 11) | (Family::V6, 3) => Some(Heard::TimeExceeded),
            // Destination unreachable and parameter problem; too big, too.
            (Family::V4, 3 | 12) | (Family::V6, 1 | 2 | 4) => Some(Heard::Unreachable),
            _ => None,
        }
    }

    const fn reply(self) -> u8 {
        match self {
            Family::V4 => 0,
            Family::V6 => 129,
        }
    }
}

/// An echo request. The kernel fills the checksum in where the family is IPv6 or the socket is a datagram one.
pub(super) fn request(family: Family, identifier: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![family.request(), 0, 0, 0];
    bytes.extend(identifier.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend_from_slice(payload);
    let sum = checksum(&bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// RFC 1071
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

/// What a message says of a request of ours, its sequence number, and for an error whom the request was for. `None` for everything else.
/// With an identifier only requests under it are ours.
pub(super) fn answer(
    family: Family,
    is_with_header: bool,
    identifier: Option<u16>,
    bytes: &[u8],
) -> Option<(Heard, u16, Option<IpAddr>)> {
    let message = match is_with_header {
        true => after_ipv4_header(bytes)?.1,
        false => bytes,
    };
    let kind = *message.first()?;
    let numbers = |message: &[u8]| {
        let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
        Some((word(4)?, word(6)?))
    };
    let is_ours = |other: u16| identifier.is_none_or(|own| own == other);
    if kind == family.reply() {
        let (other, sequence) = numbers(message)?;
        return is_ours(other).then_some((Heard::Reply, sequence, None));
    }
    let heard = family.error(kind)?;
    let quoted = message.get(HEADER_BYTES..)?;
    let (to, request) = match family {
        Family::V4 => after_ipv4_header(quoted)?,
        Family::V6 => after_ipv6_header(quoted)?,
    };
    let (other, sequence) = numbers(request)?;
    (request.first() == Some(&family.request()) && is_ours(other)).then_some((heard, sequence, Some(to)))
}

/// The destination and what follows.
fn after_ipv4_header(bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
    let length = usize::from(bytes.first()? & 0x0F) * 4;
    let to: [u8; 4] = bytes.get(16..20)?.try_into().ok()?;
    let rest = bytes.get(length.max(IPV4_HEADER_BYTES_MIN)..)?;
    Some((Ipv4Addr::from(to).into(), rest))
}

/// The same; our requests have no extension headers.
fn after_ipv6_header(bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
    let to: [u8; 16] = bytes.get(24..40)?.try_into().ok()?;
    Some((Ipv6Addr::from(to).into(), bytes.get(IPV6_HEADER_BYTES..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(to: [u8; 4], rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45; 16];
        bytes.extend(to);
        bytes.extend_from_slice(rest);
        bytes
    }

    fn ipv6(to: [u8; 16], rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60; 24];
        bytes.extend(to);
        bytes.extend_from_slice(rest);
        bytes
    }

    fn message(kind: u8, rest: &[u8]) -> Vec<u8> {
        [&[kind, 0, 0, 0], rest].concat()
    }

    #[test]
    fn a_request_sums_up_to_nothing() {
        for payload in [&b""[..], b"odd", b"even"] {
            assert_eq!(
                checksum(&request(Family::V4, 0x1234, 7, payload)),
                0,
                "{payload:?}"
            );
        }
    }

    #[test]
    fn replies_and_errors_are_matched_with_their_request() {
        let own = Some(0x0102);
        let reply = |kind| message(kind, &[1, 2, 0, 9, 0xFF]);
        let (to_v4, to_v6) = ([192, 0, 2, 1], [0xFD; 16]);
        let v4_quoted = |kind: u8, identifier| {
            let mut error = message(kind, &[0; 4]);
            error.extend(ipv4(to_v4, &request(Family::V4, identifier, 9, b"")));
            error
        };
        let v6_quoted = |kind: u8| {
            let mut error = message(kind, &[0; 4]);
            error.extend(ipv6(to_v6, &request(Family::V6, 0x0102, 9, b"")));
            error
        };
        let (v4, v6) = (Some(IpAddr::from(to_v4)), Some(IpAddr::from(to_v6)));
        let header = |rest: &[u8]| ipv4([10, 0, 0, 1], rest);
        for (family, is_with_header, identifier, bytes, want) in [
            (Family::V4, false, None, reply(0), Some((Heard::Reply, 9, None))),
            (
                Family::V4,
                true,
                own,
                header(&reply(0)),
                Some((Heard::Reply, 9, None)),
            ),
            (Family::V6, false, own, reply(129), Some((Heard::Reply, 9, None))),
            (Family::V4, true, Some(1), header(&reply(0)), None),
            // Our own request, which a raw socket hears on loopback.
            (Family::V4, true, own, header(&reply(8)), None),
            (
                Family::V4,
                true,
                own,
                header(&v4_quoted(3, 0x0102)),
                Some((Heard::Unreachable, 9, v4)),
            ),
            (
                Family::V4,
                true,
                own,
                header(&v4_quoted(11, 0x0102)),
                Some((Heard::TimeExceeded, 9, v4)),
            ),
            (Family::V4, true, own, header(&v4_quoted(11, 0x0103)), None),
            (Family::V4, true, own, header(&v4_quoted(5, 0x0102)), None),
            (
                Family::V6,
                false,
                own,
                v6_quoted(1),
                Some((Heard::Unreachable, 9, v6)),
            ),
            (
                Family::V6,
                false,
                own,
                v6_quoted(3),
                Some((Heard::TimeExceeded, 9, v6)),
            ),
            (Family::V6, false, own, v6_quoted(135), None),
        ] {
            let got = answer(family, is_with_header, identifier, &bytes);
            assert_eq!(got, want, "{family:?} {bytes:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        for family in [Family::V4, Family::V6] {
            for length in 0..80_usize {
                for first in 0..=255_u8 {
                    let mut bytes = vec![0xFF; length];
                    bytes.iter_mut().take(1).for_each(|byte| *byte = first);
                    for is_with_header in [false, true] {
                        answer(family, is_with_header, None, &bytes);
                        answer(family, is_with_header, Some(0xFFFF), &bytes);
                    }
                }
            }
        }
    }
}
