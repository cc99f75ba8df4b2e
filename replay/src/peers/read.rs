//! Reads `eve.json` and `notice.log`, the latter as JSON or with tabs, line by line. Lines come from a program that reads hostile packets:
//! nothing in them is trusted.

use core::net::IpAddr;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use serde_json::Value;
use watchfold_folds::community_id;
use watchfold_schemas::Time;
use watchfold_schemas::plain_text::{foreign, without_mark};

use super::{Heard, Peer, Said};
use crate::ReplayError;

/// A longer line is passed over, and counted: an alert of either with all its payload takes less.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// The most alerts of a file: some hundred MB of memory.
pub const SAID_MAX: usize = 1_000_000;

/// Bytes of a name that are kept.
const NAME_CHARS_MAX: usize = 200;

/// How a file of Zeek's with tabs begins.
const ZEEK_HEADER: &str = "#separator";

pub(super) fn is_of_peer(path: &Path) -> bool {
    let mut begin = [0; 16];
    let Ok(mut file) = File::open(path) else {
        return false;
    };
    let read = file.read(&mut begin).unwrap_or(0);
    let begin = &begin[..read];
    // A peer's file in another encoding is refused by its name when it is read.
    let is_utf16 = [b"\xff\xfe{\0".as_slice(), b"\xfe\xff\0{"]
        .iter()
        .any(|mark| begin.starts_with(mark));
    let begin = without_mark(begin).trim_ascii_start();
    is_utf16 || begin.starts_with(b"{") || begin.starts_with(ZEEK_HEADER.as_bytes())
}

pub(super) fn hear(path: &Path) -> Result<Heard, ReplayError> {
    let failed = |source| ReplayError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut heard = Heard::default();
    let mut columns = Columns::default();
    let mut line = Vec::new();
    if let Some(not_text) = foreign(reader.fill_buf().map_err(failed)?) {
        return Err(failed(std::io::Error::new(ErrorKind::InvalidData, not_text)));
    }
    let mut is_first = true;
    while next_line(&mut reader, &mut line).map_err(failed)? {
        let bytes = if std::mem::take(&mut is_first) {
            without_mark(&line)
        } else {
            &line
        };
        let Ok(text) = std::str::from_utf8(bytes) else {
            heard.lines += 1;
            heard.unreadable += 1;
            continue;
        };
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            continue;
        }
        heard.lines += 1;
        let read = match text.strip_prefix('#') {
            Some(header) => {
                columns.note(header);
                Line::Other
            }
            None if text.starts_with('{') => of_json(text),
            None => columns.of_line(text),
        };
        match read {
            Line::Said(said) => heard.said.push(*said),
            Line::Other => heard.others += 1,
            Line::Unreadable => heard.unreadable += 1,
        }
        if heard.said.len() > SAID_MAX {
            return Err(ReplayError::TooMuchSaid {
                path: path.to_owned(),
                limit: SAID_MAX,
            });
        }
    }
    Ok(heard)
}

/// Reads a line of at most [`LINE_BYTES_MAX`]; of a longer one nothing that could be read remains.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let limit = LINE_BYTES_MAX as u64;
    let read = reader.by_ref().take(limit).read_until(b'\n', line)?;
    if read == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        reader.skip_until(b'\n')?;
        line.clear();
        // Neither JSON nor a line of columns.
        line.push(0xff);
    }
    Ok(read > 0)
}

enum Line {
    Said(Box<Said>),
    Other,
    Unreadable,
}

fn of_json(text: &str) -> Line {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return Line::Unreadable;
    };
    let said = match (value["event_type"].as_str(), value["note"].as_str()) {
        (Some("alert"), _) => of_eve(&value),
        (Some(_), _) => return Line::Other,
        (None, Some(note)) => of_notice(note, |name| match &value[name] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }),
        (None, None) => return Line::Other,
    };
    said.map_or(Line::Unreadable, |said| Line::Said(Box::new(said)))
}

fn of_eve(value: &Value) -> Option<Said> {
    let text = |name: &str| value[name].as_str();
    let address = |name: &str| text(name)?.parse::<IpAddr>().ok();
    let number = |name: &str| value[name].as_u64().and_then(|port| u16::try_from(port).ok());
    let (source, destination) = (address("src_ip"), address("dest_ip"));
    let protocol = text("proto").and_then(protocol);
    let ports = match protocol {
        Some(1 | 58) => number("icmp_type").zip(number("icmp_code")),
        _ => number("src_port").zip(number("dest_port")),
    };
    Some(Said {
        at: time(text("timestamp")?)?,
        peer: Peer::Suricata,
        name: name(
            value["alert"]["signature"]
                .as_str()
                .unwrap_or("without a signature"),
        ),
        community_id: given_or_computed(text("community_id"), protocol, (source, destination), ports),
        source,
        destination,
    })
}

/// A notice by its fields, however they are written.
fn of_notice(note: &str, field: impl Fn(&str) -> Option<String>) -> Option<Said> {
    let address = |names: [&str; 2]| {
        let first = names.into_iter().find_map(&field)?;
        first.parse::<IpAddr>().ok()
    };
    let number = |name: &str| field(name)?.parse::<u16>().ok();
    let (source, destination) = (address(["id.orig_h", "src"]), address(["id.resp_h", "dst"]));
    let protocol = field("proto").as_deref().and_then(protocol);
    let ports = number("id.orig_p").zip(number("id.resp_p"));
    let given = field("community_id");
    Some(Said {
        at: time(&field("ts")?)?,
        peer: Peer::Zeek,
        name: name(note),
        community_id: given_or_computed(given.as_deref(), protocol, (source, destination), ports),
        source,
        destination,
    })
}

fn given_or_computed(
    given: Option<&str>,
    protocol: Option<u8>,
    addresses: (Option<IpAddr>, Option<IpAddr>),
    ports: Option<(u16, u16)>,
) -> Option<String> {
    if let Some(given) = given.filter(|given| given.starts_with("1:") && given.len() < 64) {
        return Some(given.to_owned());
    }
    community_id(protocol?, addresses.0?, addresses.1?, ports?)
}

fn protocol(name: &str) -> Option<u8> {
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmp" => Some(1),
        "ipv6-icmp" | "icmp6" => Some(58),
        "sctp" => Some(132),
        other => other.parse().ok(),
    }
}

/// RFC 3339 with any offset, or seconds since 1970 with a fraction.
fn time(text: &str) -> Option<Time> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    // Suricata writes its offset without a colon.
    if let Some((head, tail)) = text.split_at_checked(text.len().saturating_sub(2))
        && head.len() > 20
        && let Ok(time) = format!("{head}:{tail}").parse()
    {
        return Some(time);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().ok().filter(|nanos| *nanos >= 0)?;
    Some(Time(seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?))
}

/// As much of a foreign text as is worth showing, on one line.
fn name(text: &str) -> String {
    let visible = text.chars().map(|one| if one.is_control() { ' ' } else { one });
    visible.take(NAME_CHARS_MAX).collect()
}

/// The columns of a file with tabs, as its header names them.
struct Columns {
    separator: char,
    unset: String,
    fields: Vec<String>,
}

impl Default for Columns {
    fn default() -> Columns {
        Columns {
            separator: '\t',
            unset: "-".to_owned(),
            fields: Vec::new(),
        }
    }
}

impl Columns {
    fn note(&mut self, header: &str) {
        if let Some(separator) = header.strip_prefix("separator ") {
            let code = separator
                .strip_prefix("\\x")
                .map(|hex| u8::from_str_radix(hex, 16));
            self.separator = match code {
                Some(Ok(code)) => char::from(code),
                _ => separator.chars().next().unwrap_or('\t'),
            };
            return;
        }
        let mut parts = header.split(self.separator);
        match parts.next() {
            Some("fields") => self.fields = parts.map(str::to_owned).collect(),
            Some("unset_field") => self.unset = parts.next().unwrap_or("-").to_owned(),
            _ => {}
        }
    }

    fn of_line(&self, text: &str) -> Line {
        let values: Vec<&str> = text.split(self.separator).collect();
        if self.fields.is_empty() || values.len() != self.fields.len() {
            return Line::Unreadable;
        }
        let field = |name: &str| {
            let at = self.fields.iter().position(|field| field == name)?;
            let value = values.get(at).filter(|value| **value != self.unset)?;
            Some((*value).to_owned())
        };
        match field("note") {
            Some(note) => of_notice(&note, field).map_or(Line::Unreadable, |said| Line::Said(Box::new(said))),
            None => Line::Other,
        }
    }
}
