//! Writes pcapng: a section, its interfaces, packets with nanoseconds and their numbers. Pure; reading is `file.rs`.

use watchfold_schemas::Time;
use watchfold_schemas::packets::CaptureSource;

/// The option that holds a packet's number.
pub(crate) const PACKET_ID: u16 = 5;

const SECTION: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1A2B_3C4D;

const COMMENT: u16 = 1;
const USER_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
/// Ten to the minus ninth: nanoseconds.
const NANOSECONDS: u8 = 9;

/// The longest value of an option.
const OPTION_BYTES_MAX: usize = 4_096;

/// What begins a file. The comment says what it holds.
pub(crate) fn section(out: &mut Vec<u8>, comment: &str) {
    block(out, SECTION, |body| {
        body.extend(BYTE_ORDER.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        // The length of the section is not known.
        body.extend(u64::MAX.to_le_bytes());
        option(body, USER_APPLICATION, b"watchfold");
        if !comment.is_empty() {
            option(body, COMMENT, comment.as_bytes());
        }
        option(body, 0, &[]);
    });
}

/// An interface; packets name it by its place, counted from 0.
pub(crate) fn interface(out: &mut Vec<u8>, source: &CaptureSource) {
    block(out, INTERFACE, |body| {
        let link_type = u16::try_from(source.link_type).unwrap_or(u16::MAX);
        body.extend(link_type.to_le_bytes());
        body.extend([0, 0]);
        body.extend(source.snap_length.to_le_bytes());
        option(body, INTERFACE_NAME, source.name.as_bytes());
        option(body, TIME_RESOLUTION, &[NANOSECONDS]);
        option(body, 0, &[]);
    });
}

/// A packet as it stands in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PacketRecord<'a> {
    pub interface: u32,
    pub number: u64,
    pub at: Time,
    pub wire_length: u32,
    pub bytes: &'a [u8],
}

impl PacketRecord<'_> {
    /// Bytes that [`packet`] writes for it.
    pub(crate) fn size(&self) -> usize {
        12 + 20 + self.bytes.len().next_multiple_of(4) + 16
    }
}

pub(crate) fn packet(out: &mut Vec<u8>, packet: &PacketRecord<'_>) {
    block(out, ENHANCED_PACKET, |body| {
        let nanos = u64::try_from(packet.at.0).unwrap_or(0);
        body.extend(packet.interface.to_le_bytes());
        body.extend(((nanos >> 32) as u32).to_le_bytes());
        body.extend((nanos as u32).to_le_bytes());
        body.extend((packet.bytes.len() as u32).to_le_bytes());
        body.extend(packet.wire_length.to_le_bytes());
        body.extend_from_slice(packet.bytes);
        pad(body);
        option(body, PACKET_ID, &packet.number.to_le_bytes());
        option(body, 0, &[]);
    });
}

/// A block begins and ends with its length.
fn block(out: &mut Vec<u8>, kind: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    write(out);
    let length = ((out.len() - start + 4) as u32).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&length);
    out.extend(length);
}

/// Everything before it is a multiple of four bytes long.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(OPTION_BYTES_MAX)];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend_from_slice(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::ops::ControlFlow;
    use std::path::Path;

    use super::*;
    use crate::file::{CaptureFile, End};

    #[test]
    fn what_is_written_is_read_again() {
        let source = CaptureSource {
            name: "eth0".to_owned(),
            link_type: 1,
            snap_length: 96,
        };
        let mut out = Vec::new();
        section(&mut out, "the packets of an alert");
        interface(&mut out, &source);
        let header = out.len();
        let at = Time(1_700_000_000_123_456_789);
        let packets: Vec<Vec<u8>> = (0..5_u8)
            .map(|length| vec![length; usize::from(length)])
            .collect();
        for (number, bytes) in (7..).zip(&packets) {
            let record = PacketRecord {
                interface: 0,
                number,
                at,
                wire_length: 99,
                bytes,
            };
            let before = out.len();
            packet(&mut out, &record);
            assert_eq!(out.len() - before, record.size());
        }
        assert!(header.is_multiple_of(4) && out.len().is_multiple_of(4));
        let mut file = CaptureFile::read(Path::new("x"), Box::new(Cursor::new(out))).unwrap();
        let mut read = Vec::new();
        let end = file.for_each(|frame| {
            assert_eq!(
                (frame.at, frame.wire_length, frame.link_type, frame.snap_length),
                (at, 99, 1, 96)
            );
            read.push((frame.given_number, frame.bytes.to_vec()));
            ControlFlow::Continue(())
        });
        assert_eq!(end.unwrap(), End::Whole);
        let wanted: Vec<_> = (7..).map(Some).zip(packets).collect();
        assert_eq!(read, wanted);
    }
}
