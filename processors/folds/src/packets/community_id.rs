//! Community ID, version 1: one text for both directions of a flow, the same that Zeek and Suricata give it.
//!
//! Without a seed. A later fragment has no ports, so nobody can tell its flow; its ID would be that of another one.

use core::net::IpAddr;

use sha1::{Digest, Sha1};

use super::protocols;

/// What stands before every ID of this version.
const VERSION: &str = "1:";

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// ICMP types that answer each other: a message of one and a message of the other belong to one flow.
const ICMP_PAIRS: [(u16, u16); 5] = [(0, 8), (9, 10), (13, 14), (15, 16), (17, 18)];

/// The same of ICMPv6: echo, listeners, routers, neighbours, node information, home agents.
const ICMPV6_PAIRS: [(u16, u16); 6] = [
    (128, 129),
    (130, 131),
    (133, 134),
    (135, 136),
    (139, 140),
    (144, 145),
];

/// The ID of a packet's flow. `ports` are the source's and the destination's; of ICMP and ICMPv6 the type and the code; of
/// other protocols they are not looked at. `None` where the addresses are of two families.
pub fn community_id(protocol: u8, source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> Option<String> {
    if source.is_ipv4() != destination.is_ipv4() {
        return None;
    }
    let (ports, one_way) = ports_of(protocol, ports);
    let (from, to) = (
        (source, ports.map(|ports| ports.0)),
        (destination, ports.map(|ports| ports.1)),
    );
    let (from, to) = if one_way || from <= to {
        (from, to)
    } else {
        (to, from)
    };
    let mut hash = Sha1::new();
    // The seed.
    hash.update([0, 0]);
    for (address, _) in [from, to] {
        match address {
            IpAddr::V4(address) => hash.update(address.octets()),
            IpAddr::V6(address) => hash.update(address.octets()),
        }
    }
    hash.update([protocol, 0]);
    for port in [from.1, to.1].into_iter().flatten() {
        hash.update(port.to_be_bytes());
    }
    let mut out = VERSION.to_owned();
    base64(&hash.finalize(), &mut out);
    Some(out)
}

/// What stands for ports, if anything, and whether an answer would be another flow.
fn ports_of(protocol: u8, (source, destination): (u16, u16)) -> (Option<(u16, u16)>, bool) {
    let pairs: &[(u16, u16)] = match protocol {
        protocols::TCP | protocols::UDP | protocols::SCTP => return (Some((source, destination)), false),
        protocols::ICMP => &ICMP_PAIRS,
        protocols::ICMPV6 => &ICMPV6_PAIRS,
        _ => return (None, false),
    };
    for (one, other) in pairs {
        if source == *one {
            return (Some((source, *other)), false);
        }
        if source == *other {
            return (Some((source, *one)), false);
        }
    }
    (Some((source, destination)), true)
}

fn base64(bytes: &[u8], out: &mut String) {
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = (bits >> (18 - 6 * index)) & 63;
            let padding = index > group.len();
            out.push(if padding {
                '='
            } else {
                char::from(BASE64[digit as usize])
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that the specification's reference programs give.
    #[test]
    fn ids_are_those_of_the_specification() {
        let v4 = ["192.168.0.89", "192.168.0.1"];
        let nodes = ["fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea"];
        let hosts = [
            "3ffe:507:0:1:260:97ff:fe07:69ea",
            "3ffe:507:0:1:200:86ff:fe05:80da",
        ];
        let web = ["128.232.110.120", "66.35.250.204"];
        let resolver = ["192.168.1.52", "8.8.8.8"];
        for (protocol, [one, other], ports, want) in [
            (6, web, (34_855, 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            (
                6,
                ["10.0.0.1", "10.0.0.2"],
                (10, 11_569),
                "1:SXBGMX1lBOwhhoDrZynfROxnhnM=",
            ),
            (17, resolver, (54_585, 53), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            (
                132,
                ["192.168.170.8", "192.168.170.56"],
                (7, 80),
                "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ=",
            ),
            (1, v4, (8, 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            (1, v4, (20, 0), "1:3o2RFccXzUgjl7zDpqmY7yJi8rI="),
            (1, v4, (20, 1), "1:tz/fHIDUHs19NkixVVoOZywde+I="),
            (58, nodes, (135, 0), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
            (58, hosts, (3, 0), "1:NdobDX8PQNJbAyfkWxhtL2Pqp5w="),
            (
                46,
                ["10.1.24.4", "10.1.12.1"],
                (0, 0),
                "1:/nQI4Rh/TtY3mf0R2gJFBkVlgS4=",
            ),
        ] {
            check(protocol, one, other, ports, want);
        }
    }

    #[test]
    fn answers_have_the_id_of_what_they_answer() {
        check(
            6,
            "66.35.250.204",
            "128.232.110.120",
            (80, 34_855),
            "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
        );
        check(
            1,
            "192.168.0.1",
            "192.168.0.89",
            (0, 20),
            "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=",
        );
        let (node, other) = ("fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da");
        check(58, node, other, (136, 0), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=");
        check(
            46,
            "10.1.12.1",
            "10.1.24.4",
            (9, 9),
            "1:/nQI4Rh/TtY3mf0R2gJFBkVlgS4=",
        );
        // An error message has no answer, so its reverse is another flow.
        let (host, other) = (
            "3ffe:507:0:1:200:86ff:fe05:80da",
            "3ffe:507:0:1:260:97ff:fe07:69ea",
        );
        check(58, host, other, (3, 0), "1:/OGBt9BN1ofenrmSPWYicpij2Vc=");
    }

    #[test]
    fn two_families_have_no_flow() {
        let (one, other) = ("192.0.2.1".parse().unwrap(), "::1".parse().unwrap());
        assert_eq!(community_id(6, one, other, (1, 2)), None);
    }

    fn check(protocol: u8, source: &str, destination: &str, ports: (u16, u16), want: &str) {
        let id = community_id(
            protocol,
            source.parse().unwrap(),
            destination.parse().unwrap(),
            ports,
        );
        assert_eq!(
            id.as_deref(),
            Some(want),
            "{protocol} {source} {destination} {ports:?}"
        );
    }
}
