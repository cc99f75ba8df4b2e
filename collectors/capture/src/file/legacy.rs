//! The pcap format: one header, then records. `draft-ietf-opsawg-pcap` describes it.

use std::io;

use watchfold_schemas::Time;

use super::fields::{Order, without_fcs};
use super::magic::Variant;
use super::skipped::Skipped;
use super::window::Window;
use super::{BLOCK_BYTES_MAX, ENDS_WITHIN, Frame, Next, TOO_LARGE};
use crate::parse::LinkType;

pub const HEADER_BYTES: usize = 24;

const RECORD_BYTES: usize = 16;
/// The modified format has the interface's number, the protocol and the packet type behind the usual header.
const MODIFIED_RECORD_BYTES: usize = 24;

/// Versions of the format that exist and libpcap reads: 2.0 to 2.4.
const VERSION: (u16, u16) = (2, 4);

/// In the last field of the header, the link type has 16 bits; of the others these are understood.
const LINK_TYPE_BITS: u32 = 0xFFFF;
const FCS_IS_PRESENT: u32 = 0x0400_0000;
const FCS_WORDS_SHIFT: u32 = 28;

/// What the header says about the records.
#[derive(Clone, Copy, Debug)]
pub struct Pcap {
    order: Order,
    nanos_per_unit: i64,
    record_bytes: usize,
    lengths: Lengths,
    link_type: i32,
    snap_length: u32,
    fcs_bytes: u8,
}

/// The order of the captured and the original length, which old versions wrote the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    CapturedFirst,
    OriginalFirst,
    /// Both were written under one version; the captured length is the smaller one.
    Either,
}

impl Pcap {
    /// Reads the header; an error names what is not supported.
    pub fn begin(variant: Variant, header: &[u8]) -> Result<Pcap, String> {
        let order = Order {
            is_big_endian: variant.is_big_endian,
        };
        let (major, minor) = (order.u16(header, 4), order.u16(header, 6));
        if major != VERSION.0 || minor > VERSION.1 {
            return Err(format!(
                "it has version {major}.{minor} of the pcap format, and versions 2.0 to 2.4 are supported"
            ));
        }
        let network = order.u32(header, 20);
        let fcs_words = match network & FCS_IS_PRESENT {
            0 => 0,
            _ => network >> FCS_WORDS_SHIFT,
        };
        Ok(Pcap {
            order,
            nanos_per_unit: i64::from(variant.nanos_per_unit),
            record_bytes: match variant.is_modified {
                true => MODIFIED_RECORD_BYTES,
                false => RECORD_BYTES,
            },
            lengths: match minor {
                0..3 => Lengths::OriginalFirst,
                3 => Lengths::Either,
                _ => Lengths::CapturedFirst,
            },
            link_type: (network & LINK_TYPE_BITS) as i32,
            snap_length: order.u32(header, 16),
            // Four bits of 16-bit words: 30 bytes at most.
            fcs_bytes: (fcs_words * 2) as u8,
        })
    }

    /// Returns the next record, and the bytes that it takes.
    pub fn next<'w>(&self, window: &'w mut Window) -> io::Result<(Next<'w>, usize)> {
        let header = window.peek(self.record_bytes)?;
        if header.is_empty() {
            return Ok((Next::End, 0));
        }
        if header.len() < self.record_bytes {
            return Ok((Next::Torn(ENDS_WITHIN), 0));
        }
        let field = |at: usize| self.order.u32(header, at);
        let (seconds, fraction) = (i64::from(field(0)), i64::from(field(4)));
        let (captured, original) = self.lengths.of(field(8), field(12));
        let size = self.record_bytes + captured as usize;
        if size > BLOCK_BYTES_MAX {
            return Ok((Next::Torn(TOO_LARGE), 0));
        }
        let record = window.peek(size)?;
        let Some(bytes) = record.get(self.record_bytes..size) else {
            return Ok((Next::Torn(ENDS_WITHIN), 0));
        };
        let nanos = fraction * self.nanos_per_unit;
        if nanos > NANOS_PER_SECOND {
            return Ok((Next::Skipped(Skipped::Fraction), size));
        }
        let (bytes, wire_length) = without_fcs(bytes, original, self.fcs_bytes);
        let frame = Frame {
            number: 0,
            at: Time(seconds * NANOS_PER_SECOND + nanos),
            link: LinkType::from(self.link_type),
            link_type: self.link_type,
            snap_length: self.snap_length,
            wire_length,
            bytes,
            given_number: None,
        };
        Ok((Next::Frame(frame), size))
    }
}

const NANOS_PER_SECOND: i64 = 1_000_000_000;

impl Lengths {
    fn of(self, first: u32, second: u32) -> (u32, u32) {
        match self {
            Lengths::CapturedFirst => (first, second),
            Lengths::OriginalFirst => (second, first),
            Lengths::Either => (first.min(second), first.max(second)),
        }
    }
}
