//! What may be asked about: public addresses and public names, and none of one's own.
//!
//! The rules that ask keep to this too; it is checked here once more because what leaves the site cannot be taken back.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use watchfold_schemas::alert::SubjectKind;

/// The longest name, in bytes (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// The longest label of a name, in bytes (RFC 1035, 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// IPv4 blocks that are not public: RFC 6890 and its successors, and multicast.
const V4_NOT_PUBLIC: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Of IPv6, only 2000::/3 is public, without these: protocol assignments and Teredo, documentation, 6to4.
const V6_NOT_PUBLIC: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

const V6_PUBLIC: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Last labels of names that mean something only inside: special-use names (RFC 6761, 6762, 7686, 8375) and the habits
/// of offices and homes.
const INSIDE: [&str; 11] = [
    "local",
    "localhost",
    "localdomain",
    "arpa",
    "internal",
    "lan",
    "home",
    "corp",
    "test",
    "invalid",
    "onion",
];

/// An address or a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    pub kind: SubjectKind,
    /// As it is asked for: an address in its shortest form, a name in lower case without the final dot.
    pub text: String,
}

/// Why a subject is not asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Neither an address nor a name.
    Malformed,
    /// Not public.
    Private,
    /// Of a network or domain of one's own.
    Own,
}

/// Networks and domains of one's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    pub networks: Vec<Network>,
    /// In lower case, without dots at either end; names below them are own too.
    pub names: Vec<String>,
}

/// A network in CIDR notation, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Subject {
    /// The subject in the form in which it is asked for, if it may be.
    pub fn public(kind: SubjectKind, text: &str, own: &Own) -> Result<Subject, Refusal> {
        let text = match kind {
            SubjectKind::Address => public_address(text, own)?,
            SubjectKind::Name => public_name(text, own)?,
        };
        Ok(Subject { kind, text })
    }
}

fn public_address(text: &str, own: &Own) -> Result<String, Refusal> {
    let address: IpAddr = text.trim().parse().map_err(|_| Refusal::Malformed)?;
    let address = address.to_canonical();
    if !is_public(address) {
        return Err(Refusal::Private);
    }
    if own.networks.iter().any(|network| network.holds(address)) {
        return Err(Refusal::Own);
    }
    Ok(address.to_string())
}

fn is_public(address: IpAddr) -> bool {
    let within = |(address_of, bits): (IpAddr, u32)| {
        Network {
            address: address_of,
            bits,
        }
        .holds(address)
    };
    match address {
        IpAddr::V4(_) => !V4_NOT_PUBLIC
            .iter()
            .any(|(of, bits)| within((IpAddr::V4(*of), *bits))),
        IpAddr::V6(_) => {
            within((IpAddr::V6(V6_PUBLIC.0), V6_PUBLIC.1))
                && !V6_NOT_PUBLIC
                    .iter()
                    .any(|(of, bits)| within((IpAddr::V6(*of), *bits)))
        }
    }
}

fn public_name(text: &str, own: &Own) -> Result<String, Refusal> {
    let text = text.trim();
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) {
        return Err(Refusal::Malformed);
    }
    let Some((_, last)) = name.rsplit_once('.') else {
        return Err(Refusal::Private);
    };
    // No name ends in a number: this is an address, or a slip.
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::Malformed);
    }
    if INSIDE.contains(&last) {
        return Err(Refusal::Private);
    }
    if own.names.iter().any(|of| is_below(&name, of)) {
        return Err(Refusal::Own);
    }
    Ok(name)
}

/// Letters, digits, hyphens and the underscores of service names: nothing that would need an escape in a path.
fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(of), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - self.bits.min(32)).unwrap_or(0);
                (of.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(of), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits.min(128)).unwrap_or(0);
                (of.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

/// Not an address, nor one with a number of bits that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Network, NotANetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| NotANetwork)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(whole);
        (bits <= whole)
            .then_some(Network { address, bits })
            .ok_or(NotANetwork)
    }
}

/// A domain as the list of own ones holds it; `None` when it is none.
pub fn domain(text: &str) -> Option<String> {
    let name = text.trim_matches('.').to_ascii_lowercase();
    (!name.is_empty() && name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Own {
        Own {
            networks: vec![
                "93.184.216.0/24".parse().unwrap(),
                "2606:4700::/32".parse().unwrap(),
            ],
            names: vec!["cafe.example.net".to_owned()],
        }
    }

    fn check(kind: SubjectKind, text: &str, want: Result<&str, Refusal>) {
        let got = Subject::public(kind, text, &own()).map(|subject| subject.text);
        assert_eq!(got, want.map(str::to_owned), "{text}");
    }

    #[test]
    fn only_public_addresses_are_asked_about() {
        for (text, want) in [
            ("8.8.8.8", "8.8.8.8"),
            ("1.1.1.1", "1.1.1.1"),
            ("100.63.255.255", "100.63.255.255"),
            ("172.32.0.1", "172.32.0.1"),
            ("2a00:1450:4001:0:0:0:0:200e", "2a00:1450:4001::200e"),
            ("::ffff:8.8.8.8", "8.8.8.8"),
            ("2001:470::1", "2001:470::1"),
        ] {
            check(SubjectKind::Address, text, Ok(want));
        }
        for text in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.9",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.251",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:192.168.1.1",
            "fe80::1",
            "fd00::1",
            "ff02::fb",
            "2001:db8::1",
            "2001::1",
            "2002:c0a8:101::1",
            "3fff::1",
            "64:ff9b::808:808",
        ] {
            check(SubjectKind::Address, text, Err(Refusal::Private));
        }
        check(SubjectKind::Address, "93.184.216.34", Err(Refusal::Own));
        check(SubjectKind::Address, "2606:4700::1", Err(Refusal::Own));
        for text in ["", "8.8.8", "example.com", "8.8.8.8/24", "8.8.8.8 or 1"] {
            check(SubjectKind::Address, text, Err(Refusal::Malformed));
        }
    }

    #[test]
    fn only_public_names_are_asked_about() {
        check(SubjectKind::Name, "Example.COM.", Ok("example.com"));
        check(SubjectKind::Name, "_dmarc.example.com", Ok("_dmarc.example.com"));
        check(SubjectKind::Name, "xn--bcher-kva.de", Ok("xn--bcher-kva.de"));
        check(
            SubjectKind::Name,
            "notcafe.example.net",
            Ok("notcafe.example.net"),
        );
        for text in [
            "router",
            "router.",
            "printer.local",
            "4.3.2.1.in-addr.arpa",
            "db.internal",
            "nas.lan",
            "tv.home",
            "dc.corp",
            "localhost.localdomain",
            "PRINTER.LOCAL",
            "hidden.onion",
        ] {
            check(SubjectKind::Name, text, Err(Refusal::Private));
        }
        check(SubjectKind::Name, "cafe.example.net", Err(Refusal::Own));
        check(SubjectKind::Name, "till.cafe.example.net", Err(Refusal::Own));
        let long = format!("{}.com", "a".repeat(64));
        for text in [
            "",
            ".",
            "a..b",
            "a b.com",
            "a/../b.com",
            "8.8.8.8",
            "ü.com",
            &long,
        ] {
            check(SubjectKind::Name, text, Err(Refusal::Malformed));
        }
    }

    #[test]
    fn networks_are_addresses_with_as_many_bits_as_they_have() {
        for text in ["10.0.0.0/8", "10.1.2.3", "2001:db8::/32", "::/0"] {
            assert!(text.parse::<Network>().is_ok(), "{text}");
        }
        for text in ["10.0.0.0/33", "10.0.0/8", "::/129", "ten", "10.0.0.0/"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        let everything: Network = "0.0.0.0/0".parse().unwrap();
        assert!(everything.holds("8.8.8.8".parse().unwrap()) && !everything.holds("::1".parse().unwrap()));
    }
}
