//! One field of one row, whatever the row is.

use core::net::IpAddr;
use std::borrow::Cow;

use watchfold_schemas::fields::Field;

use super::print::Print;
use super::segment::Segment;

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    Address(IpAddr),
    Mac([u8; 6]),
    Number(i64),
    Truth(bool),
    Text(Cow<'a, str>),
}

/// Something that rules look at. A field that the row lacks is `None`.
pub trait Row {
    fn cell(&self, field: Field) -> Option<Cell<'_>>;

    /// Where its addresses mean something.
    fn segment(&self) -> Segment {
        Segment::NONE
    }

    /// The print of a field: of an address, that of the address in its segment.
    fn print(&self, field: Field) -> Option<Print> {
        let cell = self.cell(field)?;
        let print = Print::of(&cell);
        Some(match cell {
            Cell::Address(_) => self.segment().print(print),
            _ => print,
        })
    }
}

impl<'a> Cell<'a> {
    pub fn text(text: &'a str) -> Cell<'a> {
        Cell::Text(Cow::Borrowed(text))
    }

    /// As people and alerts read it.
    pub fn readable(&self) -> String {
        match self {
            Cell::Address(address) => address.to_string(),
            Cell::Mac(mac) => readable_mac(*mac),
            Cell::Number(number) => number.to_string(),
            Cell::Truth(truth) => truth.to_string(),
            Cell::Text(text) => text.clone().into_owned(),
        }
    }
}

/// Lower case with colons.
pub fn readable_mac(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// The reverse, of either case; hyphens are taken too.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut out = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut out {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_as_they_are_written() {
        let mac = [0x0a, 0, 0x27, 0xff, 1, 2];
        assert_eq!(readable_mac(mac), "0a:00:27:ff:01:02");
        for text in ["0a:00:27:ff:01:02", "0A-00-27-FF-01-02"] {
            assert_eq!(parse_mac(text), Some(mac), "{text}");
        }
        for text in [
            "",
            "0a:00:27:ff:01",
            "0a:00:27:ff:01:02:03",
            "0a:0:27:ff:01:02",
            "zz:00:27:ff:01:02",
        ] {
            assert_eq!(parse_mac(text), None, "{text}");
        }
    }
}
