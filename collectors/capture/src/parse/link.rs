//! From a frame to its network header: link types, tags and tunnels.

use etherparse::{EtherType, IpNumber};

use super::Undecoded;

pub const PPPOE_SESSION: u16 = 0x8864;
pub const MPLS_UNICAST: u16 = 0x8847;
pub const MPLS_MULTICAST: u16 = 0x8848;

/// Ethernet inside of something, by the number that GRE gives it.
const TRANSPARENT_ETHERNET: u16 = 0x6558;
const ERSPAN_2: u16 = 0x88BE;
const ERSPAN_3: u16 = 0x22EB;
const VLAN_TAGS: [u16; 3] = [0x8100, 0x88A8, 0x9100];
const ETHERNET_HEADER_BYTES: usize = 14;

/// How frames begin, as libpcap names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    Ethernet,
    /// Linux "cooked" frames of an any-interface capture, version 1.
    LinuxCooked,
    /// The same, version 2.
    LinuxCooked2,
    /// No link header: IPv4 or IPv6.
    Raw,
    /// Four bytes of address family, in either byte order.
    Loopback,
    Ppp,
    Other(i32),
}

impl From<i32> for LinkType {
    fn from(number: i32) -> LinkType {
        match number {
            0 | 108 => LinkType::Loopback,
            1 => LinkType::Ethernet,
            9 | 50 | 166 => LinkType::Ppp,
            // Raw IP has had several numbers on several systems.
            12 | 14 | 101 | 228 | 229 => LinkType::Raw,
            113 => LinkType::LinuxCooked,
            276 => LinkType::LinuxCooked2,
            other => LinkType::Other(other),
        }
    }
}

/// A link type that is not supported, by its number and, where it is one that people meet, by what it is.
pub fn named(number: i32) -> String {
    let name = match number {
        6 => "token ring",
        10 => "FDDI",
        105 => "IEEE 802.11",
        119 => "Prism and IEEE 802.11",
        127 => "radiotap and IEEE 802.11",
        163 => "AVS and IEEE 802.11",
        192 => "PPI",
        189 | 220 | 249 => "USB",
        187 | 201 | 254 | 255 => "Bluetooth",
        195 | 230 | 215 | 283 => "IEEE 802.15.4",
        227 => "SocketCAN",
        239 => "NFLOG",
        240 => "Ethernet of a netANALYZER",
        252 => "exported PDUs of Wireshark",
        253 => "netlink",
        147..=162 => "for private use",
        _ => return number.to_string(),
    };
    format!("{number} ({name})")
}

/// The first two VLAN tags of a packet, the outermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vlans {
    pub outer: Option<u16>,
    pub inner: Option<u16>,
}

impl Vlans {
    /// These tags, and those found further inside.
    #[inline]
    pub fn around(self, inside: Vlans) -> Vlans {
        let mut tags = [self.outer, self.inner, inside.outer, inside.inner]
            .into_iter()
            .flatten();
        Vlans {
            outer: tags.next(),
            inner: tags.next(),
        }
    }

    pub const fn one(vlan: u16) -> Vlans {
        Vlans {
            outer: Some(vlan),
            inner: None,
        }
    }
}

/// A frame without its link header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    pub ether_type: EtherType,
    pub payload: &'a [u8],
    pub vlans: Vlans,
}

impl<'a> Opened<'a> {
    fn untagged(ether_type: EtherType, payload: &'a [u8]) -> Opened<'a> {
        Opened {
            ether_type,
            payload,
            vlans: Vlans::default(),
        }
    }
}

impl LinkType {
    #[inline]
    pub fn open(self, frame: &[u8]) -> Result<Opened<'_>, Undecoded> {
        let (ether_type, payload) = match self {
            LinkType::Ethernet => open_ethernet(frame)?,
            LinkType::LinuxCooked => (be16(frame, 14)?, after(frame, 16)?),
            LinkType::LinuxCooked2 => (be16(frame, 0)?, after(frame, 20)?),
            LinkType::Raw => (ip_version(frame)?.0, frame),
            LinkType::Loopback => {
                let payload = after(frame, 4)?;
                (ip_version(payload)?.0, payload)
            }
            LinkType::Ppp => {
                let (ether_type, payload) = open_ppp(frame)?;
                (ether_type.0, payload)
            }
            LinkType::Other(number) => return Err(Undecoded::LinkType(number)),
        };
        // Tags are read here, so that what they hold may be anything that is understood below.
        let (mut ether_type, mut payload, mut vlans) = (ether_type, payload, Vlans::default());
        while VLAN_TAGS.contains(&ether_type) {
            vlans = vlans.around(Vlans::one(be16(payload, 0)? & 0x0FFF));
            ether_type = be16(payload, 2)?;
            payload = after(payload, 4)?;
        }
        Ok(Opened {
            ether_type: EtherType(ether_type),
            payload,
            vlans,
        })
    }
}

#[inline]
fn open_ethernet(frame: &[u8]) -> Result<(u16, &[u8]), Undecoded> {
    let ether_type = be16(frame, 12)?;
    let payload = after(frame, ETHERNET_HEADER_BYTES)?;
    // Below 1,536 it is a length, and an LLC header follows; SNAP in it brings an ether type of its own.
    match payload {
        [0xAA, 0xAA, 0x03, 0, 0, 0, a, b, rest @ ..] if ether_type < 1_536 => {
            Ok((u16::from_be_bytes([*a, *b]), rest))
        }
        _ if ether_type < 1_536 => Err(Undecoded::OtherProtocol),
        _ => Ok((ether_type, payload)),
    }
}

/// PPP, with or without address and control, with protocol numbers of one or two bytes.
fn open_ppp(frame: &[u8]) -> Result<(EtherType, &[u8]), Undecoded> {
    let frame = match frame {
        [0xFF, 0x03, rest @ ..] | [0x0F | 0x8F, 0x00, rest @ ..] => rest,
        other => other,
    };
    match frame {
        [0x00, 0x21, rest @ ..] | [0x21, rest @ ..] | [0x08, 0x00, rest @ ..] => Ok((EtherType::IPV4, rest)),
        [0x00, 0x57, rest @ ..] | [0x57, rest @ ..] | [0x86, 0xDD, rest @ ..] => Ok((EtherType::IPV6, rest)),
        [] => Err(Undecoded::TooShort),
        _ => Err(Undecoded::OtherProtocol),
    }
}

/// Six bytes of PPPoE, then PPP.
pub fn open_pppoe(bytes: &[u8]) -> Result<(EtherType, &[u8]), Undecoded> {
    open_ppp(after(bytes, 6)?)
}

/// Labels up to the bottom of the stack, then IP of either version.
pub fn open_mpls(bytes: &[u8]) -> Result<(EtherType, &[u8]), Undecoded> {
    let mut rest = bytes;
    loop {
        let [_, _, bottom, _, inner @ ..] = rest else {
            return Err(Undecoded::TooShort);
        };
        rest = inner;
        if bottom & 1 == 1 {
            return Ok((ip_version(rest)?, rest));
        }
    }
}

/// What a tunnel holds: IP in IP, GRE with IP, Ethernet or ERSPAN in it.
pub fn tunnel(number: IpNumber, payload: &[u8]) -> Option<Opened<'_>> {
    match number {
        IpNumber::IPV4 => Some(Opened::untagged(EtherType::IPV4, payload)),
        IpNumber::IPV6 => Some(Opened::untagged(EtherType::IPV6, payload)),
        IpNumber::GRE => open_gre(payload),
        _ => None,
    }
}

fn open_gre(bytes: &[u8]) -> Option<Opened<'_>> {
    let flags = be16(bytes, 0).ok()?;
    let protocol = be16(bytes, 2).ok()?;
    if flags & 0x0007 != 0 {
        // Version 1 carries PPP for PPTP and has another layout.
        return None;
    }
    let has = |bit: u16| usize::from(flags & bit != 0);
    let header = 4 + 4 * (has(0x8000) | has(0x4000)) + 4 * has(0x2000) + 4 * has(0x1000);
    let rest = bytes.get(header..)?;
    match protocol {
        TRANSPARENT_ETHERNET => open_inner_ethernet(rest),
        // Type I has no header of its own and no sequence number, type II has eight bytes, type III twelve.
        ERSPAN_2 if flags & 0x1000 == 0 => open_inner_ethernet(rest),
        ERSPAN_2 => open_inner_ethernet(rest.get(8..)?),
        ERSPAN_3 => open_inner_ethernet(rest.get(12..)?),
        other => Some(Opened::untagged(EtherType(other), rest)),
    }
}

fn open_inner_ethernet(bytes: &[u8]) -> Option<Opened<'_>> {
    LinkType::Ethernet.open(bytes).ok()
}

fn ip_version(bytes: &[u8]) -> Result<EtherType, Undecoded> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => Ok(EtherType::IPV4),
        Some(6) => Ok(EtherType::IPV6),
        Some(_) => Err(Undecoded::OtherProtocol),
        None => Err(Undecoded::TooShort),
    }
}

#[inline]
fn be16(bytes: &[u8], at: usize) -> Result<u16, Undecoded> {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => Ok(u16::from_be_bytes([high, low])),
        _ => Err(Undecoded::TooShort),
    }
}

#[inline]
fn after(bytes: &[u8], header: usize) -> Result<&[u8], Undecoded> {
    bytes.get(header..).ok_or(Undecoded::TooShort)
}
