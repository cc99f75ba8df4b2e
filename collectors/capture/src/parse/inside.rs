//! What packets carry that rules ask for: DNS questions, DHCP, neighbour discovery, the names in TLS and HTTP.
//!
//! Each reader takes what is there and gives nothing where the bytes are not what the port promised.

use std::net::IpAddr;

use watchfold_schemas::packets::{DhcpRow, DnsRow, NeighbourRow, PACKET_NAME_BYTES_MAX};

use super::{Inside, UNSPECIFIED};

const DNS: u16 = 53;
const MULTICAST_DNS: u16 = 5353;
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
/// How far into a request its host is looked for.
const HTTP_HEAD_BYTES: usize = 2_048;
const HTTP_METHODS: [&[u8]; 7] = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
];

pub fn of_udp(source_port: u16, destination_port: u16, payload: &[u8]) -> Inside {
    let is = |port| source_port == port || destination_port == port;
    let inside = if is(DNS) || is(MULTICAST_DNS) {
        dns(payload).map(Inside::Dns)
    } else if is(DHCP_SERVER) || is(DHCP_CLIENT) {
        dhcp(payload).map(Inside::Dhcp)
    } else {
        None
    };
    inside.unwrap_or_default()
}

/// A segment that begins a message; what is spread over several segments is not put together.
pub fn of_tcp(source_port: u16, destination_port: u16, payload: &[u8]) -> Inside {
    let inside = match payload {
        [] => None,
        [0x16, 0x03, ..] => tls_name(payload).map(Inside::TlsName),
        _ if source_port == DNS || destination_port == DNS => payload.get(2..).and_then(dns).map(Inside::Dns),
        _ => http_host(payload).map(Inside::HttpHost),
    };
    inside.unwrap_or_default()
}

/// The header and the first question.
fn dns(message: &[u8]) -> Option<DnsRow> {
    let (header, mut rest) = message.split_first_chunk::<12>()?;
    let questions = u16::from_be_bytes([header[4], header[5]]);
    if questions == 0 {
        return None;
    }
    let mut name = String::new();
    loop {
        let (length, tail) = rest.split_first()?;
        let length = usize::from(*length);
        rest = tail;
        if length == 0 {
            break;
        }
        // A pointer has nothing before the first question to point to.
        if length > 63 || name.len() + length + 1 > PACKET_NAME_BYTES_MAX {
            return None;
        }
        let label = rest.get(..length)?;
        rest = rest.get(length..)?;
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|byte| readable(byte.to_ascii_lowercase())));
    }
    let query_type = rest
        .get(..2)
        .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))?;
    Some(DnsRow {
        row: 0,
        name,
        query_type,
        is_response: header[2] & 0x80 != 0,
        response_code: header[3] & 0x0F,
        answers: u16::from_be_bytes([header[6], header[7]]),
    })
}

/// Printable ASCII stays; everything else would let a packet write into terminals and files.
fn readable(byte: u8) -> char {
    if byte.is_ascii_graphic() && byte != b'.' {
        char::from(byte)
    } else {
        '?'
    }
}

fn dhcp(message: &[u8]) -> Option<DhcpRow> {
    const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
    if message.get(236..240)? != COOKIE {
        return None;
    }
    let mut row = DhcpRow {
        row: 0,
        message_type: 0,
        client_mac: message.get(28..34)?.try_into().ok()?,
        your_ip: message.get(16..20)?.try_into().ok()?,
        server: None,
    };
    let mut options = message.get(240..)?;
    while let [code, rest @ ..] = options {
        match code {
            0 => options = rest,
            255 => break,
            _ => {
                let (length, rest) = rest.split_first()?;
                let value = rest.get(..usize::from(*length))?;
                match (code, value) {
                    (53, [message_type]) => row.message_type = *message_type,
                    (54, server) => row.server = server.try_into().ok(),
                    _ => {}
                }
                options = rest.get(usize::from(*length)..)?;
            }
        }
    }
    (row.message_type != 0).then_some(row)
}

/// Neighbour discovery: `message` begins with the ICMPv6 header.
pub fn of_icmpv6(message_type: u8, message: &[u8], source: Option<IpAddr>) -> Inside {
    neighbour(message_type, message, source).map_or(Inside::Nothing, Inside::Neighbour)
}

fn neighbour(message_type: u8, message: &[u8], source: Option<IpAddr>) -> Option<NeighbourRow> {
    // A router's options follow eight further bytes, a neighbour's the target.
    let (options_at, wanted_option) = match message_type {
        134 => (16, 1),
        135 => (24, 1),
        136 => (24, 2),
        _ => return None,
    };
    let target = match (message_type, source) {
        (134, Some(IpAddr::V6(router))) => router.octets(),
        (134, _) => UNSPECIFIED.octets(),
        _ => message.get(8..24)?.try_into().ok()?,
    };
    let mut options = message.get(options_at..)?;
    let mut mac = None;
    while let [kind, units, ..] = options {
        let length = usize::from(*units) * 8;
        let Some(option) = options.get(..length).filter(|_| length > 0) else {
            break;
        };
        if *kind == wanted_option {
            mac = option.get(2..8).and_then(|bytes| bytes.try_into().ok());
        }
        options = &options[length..];
    }
    let flags = if message_type == 136 { *message.get(4)? } else { 0 };
    Some(NeighbourRow {
        row: 0,
        message_type,
        target,
        mac,
        flags,
    })
}

/// The first server name of a client hello that stands whole in this segment.
fn tls_name(record: &[u8]) -> Option<String> {
    let hello = record.get(5..)?;
    if *hello.first()? != 1 {
        return None;
    }
    // Type and length, version, random.
    let mut rest = hello.get(4 + 2 + 32..)?;
    let session = usize::from(*rest.first()?);
    rest = rest.get(1 + session..)?;
    let suites = usize::from(be16(rest)?);
    rest = rest.get(2 + suites..)?;
    let compressions = usize::from(*rest.first()?);
    rest = rest.get(1 + compressions..)?;
    let extensions = usize::from(be16(rest)?);
    rest = rest.get(2..)?;
    rest = rest.get(..extensions).unwrap_or(rest);
    while rest.len() >= 4 {
        let kind = be16(rest)?;
        let length = usize::from(be16(rest.get(2..)?)?);
        let body = rest.get(4..4 + length)?;
        if kind == 0 {
            // A list of names; the first is a host name when its type is 0.
            let [_, _, 0, high, low, name @ ..] = body else {
                return None;
            };
            let name = name.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
            return name_text(name);
        }
        rest = rest.get(4 + length..)?;
    }
    None
}

fn http_host(request: &[u8]) -> Option<String> {
    // Most payloads are no request, which their first byte tells.
    let begins = |method: &&&[u8]| method.first() == request.first();
    if !HTTP_METHODS
        .iter()
        .filter(begins)
        .any(|method| request.starts_with(method))
    {
        return None;
    }
    let head = &request[..request.len().min(HTTP_HEAD_BYTES)];
    let mut lines = head.split(|byte| *byte == b'\n').skip(1);
    lines
        .by_ref()
        .map_while(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            (!line.is_empty()).then_some(line)
        })
        .find_map(|line| {
            let (name, value) = line.split_at_checked(5)?;
            name.eq_ignore_ascii_case(b"host:").then(|| value.trim_ascii())
        })
        .and_then(name_text)
}

fn name_text(name: &[u8]) -> Option<String> {
    let fits = (1..=PACKET_NAME_BYTES_MAX).contains(&name.len());
    (fits && name.iter().all(u8::is_ascii_graphic)).then(|| {
        name.iter()
            .map(|byte| char::from(byte.to_ascii_lowercase()))
            .collect()
    })
}

fn be16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))
}
