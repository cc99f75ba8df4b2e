//! The pcapng format: sections of blocks, each section in a byte order of its own. `draft-ietf-opsawg-pcapng` describes it.
//!
//! Every option that says how packets are to be understood is computed, or refused by name: `if_tsresol`, `if_tsoffset`,
//! `if_fcslen` and the check sequence in `epb_flags`. `if_tzone` has no defined meaning, and nobody writes it.

use std::io;

use watchfold_schemas::{Span, Time};

use super::fields::{Order, without_fcs};
use super::skipped::Skipped;
use super::window::Window;
use super::{BLOCK_BYTES_MAX, ENDS_WITHIN, Frame, INTERFACES_MAX, NO_PACKET, Next, TOO_LARGE};
use crate::parse::LinkType;
use crate::pcapng::PACKET_ID;

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
/// Obsolete, and still in files of the first years.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Type, length, and the length once more at the end.
const FRAME_BYTES: usize = 12;
/// Bytes of a section header that are read: its frame, byte order, version and length.
const SECTION_BYTES_MIN: usize = 28;
/// Bytes of a packet block before the packet, without the frame.
const PACKET_HEADER_BYTES: usize = 20;

const BYTE_ORDER: [u8; 4] = [0x1A, 0x2B, 0x3C, 0x4D];
const BYTE_ORDER_SWAPPED: [u8; 4] = [0x4D, 0x3C, 0x2B, 0x1A];

const IF_TSRESOL: u16 = 9;
const IF_FCSLEN: u16 = 13;
const IF_TSOFFSET: u16 = 14;
/// `epb_flags`, and `pack_flags` of the obsolete block.
const FLAGS: u16 = 2;

/// No check sequence has more bytes; a greater `if_fcslen` counts bits, as the specification once said.
const FCS_BYTES_MAX: u8 = 15;

const NANOS_PER_SECOND: i128 = 1_000_000_000;
/// Ten to the minus ninth of a second is a nanosecond.
const NANOSECOND_EXPONENT: u32 = 9;

/// State of the sections read so far that later packets depend on.
#[derive(Debug)]
pub struct PcapNg {
    order: Order,
    /// Interfaces of the current section, in their order; an error says why the packets of an interface cannot be read.
    interfaces: Vec<Result<Interface, Skipped>>,
    /// Set when the section has more than [`INTERFACES_MAX`] interfaces.
    has_more_interfaces: bool,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: i32,
    snap_length: u32,
    unit: Unit,
    offset_seconds: i64,
    fcs_bytes: u8,
}

/// The unit of time stamps, as part of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// So many nanoseconds: a tenth, a millionth and so on, down to a nanosecond.
    Nanoseconds(i128),
    /// So many units make a nanosecond.
    PerNanosecond(i128),
    /// Two to the minus this.
    Binary(u32),
}

impl PcapNg {
    pub fn new() -> PcapNg {
        PcapNg {
            order: Order { is_big_endian: false },
            interfaces: Vec::new(),
            has_more_interfaces: false,
        }
    }

    /// Returns the next block, and the bytes that it takes.
    pub fn next<'w>(&mut self, window: &'w mut Window) -> io::Result<(Next<'w>, usize)> {
        // With the byte order of a section header, which comes behind its length.
        let head = window.peek(FRAME_BYTES)?;
        if head.is_empty() {
            return Ok((Next::End, 0));
        }
        if head.len() < FRAME_BYTES {
            return Ok((Next::Torn(ENDS_WITHIN), 0));
        }
        let kind = self.order.u32(head, 0);
        if kind == SECTION_HEADER {
            match head[8..12].first_chunk() {
                Some(&BYTE_ORDER) => self.order.is_big_endian = true,
                Some(&BYTE_ORDER_SWAPPED) => self.order.is_big_endian = false,
                _ => return Ok((Next::Torn(NO_PACKET), 0)),
            }
        }
        let size = self.order.u32(head, 4) as usize;
        if size < FRAME_BYTES {
            return Ok((Next::Torn(NO_PACKET), 0));
        }
        if size > BLOCK_BYTES_MAX {
            return Ok((Next::Torn(TOO_LARGE), 0));
        }
        let Some(block) = window.peek(size)?.get(..size) else {
            return Ok((Next::Torn(ENDS_WITHIN), 0));
        };
        if self.order.u32(block, size - 4) as usize != size {
            return Ok((Next::Torn(NO_PACKET), 0));
        }
        let body = &block[8..size - 4];
        let next = match kind {
            SECTION_HEADER => self.begin_section(block),
            INTERFACE_DESCRIPTION => self.describe(body),
            SIMPLE_PACKET => Next::Skipped(Skipped::Simple),
            ENHANCED_PACKET => self.packet(self.order.u32(body, 0), body),
            // A count of drops stands beside the interface's number, in 16 bits each.
            PACKET => self.packet(u32::from(self.order.u16(body, 0)), body),
            _ => Next::Nothing,
        };
        Ok((next, size))
    }

    fn begin_section(&mut self, block: &[u8]) -> Next<'static> {
        if block.len() < SECTION_BYTES_MIN {
            return Next::Torn(NO_PACKET);
        }
        let (major, minor) = (self.order.u16(block, 12), self.order.u16(block, 14));
        // 1.2 is 1.0, the specification says; there is no 1.1.
        if major != 1 || minor > 2 {
            return Next::Unsupported(format!(
                "it has version {major}.{minor} of the pcapng format, and version 1.0 is supported"
            ));
        }
        self.interfaces.clear();
        self.has_more_interfaces = false;
        Next::Nothing
    }

    fn describe(&mut self, body: &[u8]) -> Next<'static> {
        if body.len() < 8 {
            return Next::Torn(NO_PACKET);
        }
        if self.interfaces.len() < INTERFACES_MAX {
            self.interfaces.push(Interface::of(self.order, body));
        } else {
            self.has_more_interfaces = true;
        }
        Next::Nothing
    }

    fn interface(&self, index: u32) -> Result<Interface, Skipped> {
        match self.interfaces.get(index as usize) {
            Some(interface) => *interface,
            None if self.has_more_interfaces => Err(Skipped::TooManyInterfaces),
            None => Err(Skipped::UnknownInterface),
        }
    }

    fn packet<'w>(&self, interface: u32, body: &'w [u8]) -> Next<'w> {
        match self.try_packet(interface, body) {
            Ok(frame) => Next::Frame(frame),
            Err(why) => Next::Skipped(why),
        }
    }

    fn try_packet<'w>(&self, interface: u32, body: &'w [u8]) -> Result<Frame<'w>, Skipped> {
        if body.len() < PACKET_HEADER_BYTES {
            return Err(Skipped::Contradictory);
        }
        let field = |at: usize| self.order.u32(body, at);
        let interface = self.interface(interface)?;
        let at = interface.time(u64::from(field(4)) << 32 | u64::from(field(8)))?;
        let rest = &body[PACKET_HEADER_BYTES..];
        let captured = field(12) as usize;
        let bytes = rest.get(..captured).ok_or(Skipped::Contradictory)?;
        let options = rest.get(captured.next_multiple_of(4)..).unwrap_or_default();
        let (mut fcs_bytes, mut given_number) = (interface.fcs_bytes, None);
        for option in Options::of(self.order, options).map_while(Result::ok) {
            match (option.code, option.value.len()) {
                (FLAGS, 4) => fcs_bytes = fcs_of_flags(self.order.u32(option.value, 0)).unwrap_or(fcs_bytes),
                (PACKET_ID, 8) => given_number = Some(self.order.u64(option.value, 0)),
                _ => {}
            }
        }
        let (bytes, wire_length) = without_fcs(bytes, field(16), fcs_bytes);
        Ok(Frame {
            number: 0,
            at,
            link: LinkType::from(interface.link_type),
            link_type: interface.link_type,
            snap_length: interface.snap_length,
            wire_length,
            bytes,
            given_number,
        })
    }
}

/// Bits 5 to 8 count the bytes of the check sequence; 0 says that nothing is known of it.
fn fcs_of_flags(flags: u32) -> Option<u8> {
    match (flags >> 5 & 0xF) as u8 {
        0 => None,
        bytes => Some(bytes),
    }
}

impl Interface {
    fn of(order: Order, body: &[u8]) -> Result<Interface, Skipped> {
        let mut interface = Interface {
            link_type: i32::from(order.u16(body, 0)),
            snap_length: order.u32(body, 4),
            // The specification's default: microseconds.
            unit: Unit::Nanoseconds(1_000),
            offset_seconds: 0,
            fcs_bytes: 0,
        };
        for option in Options::of(order, &body[8..]) {
            let RawOption { code, value } = option?;
            match (code, value) {
                (IF_TSRESOL, [exponent]) => interface.unit = Unit::of(*exponent)?,
                (IF_TSRESOL, _) => return Err(Skipped::OptionLength("if_tsresol")),
                (IF_FCSLEN, [length]) => interface.fcs_bytes = fcs_bytes(*length)?,
                (IF_FCSLEN, _) => return Err(Skipped::OptionLength("if_fcslen")),
                (IF_TSOFFSET, value) if value.len() == 8 => {
                    interface.offset_seconds = order.u64(value, 0).cast_signed();
                }
                (IF_TSOFFSET, _) => return Err(Skipped::OptionLength("if_tsoffset")),
                _ => {}
            }
        }
        Ok(interface)
    }

    fn time(&self, ticks: u64) -> Result<Time, Skipped> {
        let nanos = self.unit.nanos(i128::from(ticks)) + i128::from(self.offset_seconds) * NANOS_PER_SECOND;
        let nanos = i64::try_from(nanos).map_err(|_| Skipped::TimeOutOfRange)?;
        Ok(Time::EPOCH + Span(nanos))
    }
}

/// Writers count bytes, although the specification said bits.
fn fcs_bytes(length: u8) -> Result<u8, Skipped> {
    match length {
        0..=FCS_BYTES_MAX => Ok(length),
        bits if bits.is_multiple_of(8) && bits / 8 <= FCS_BYTES_MAX => Ok(bits / 8),
        _ => Err(Skipped::FcsLength(length)),
    }
}

impl Unit {
    /// The top bit says whether the others are the negative exponent of two or of ten.
    fn of(resolution: u8) -> Result<Unit, Skipped> {
        let exponent = u32::from(resolution & 0x7F);
        if resolution & 0x80 != 0 {
            return Ok(Unit::Binary(exponent));
        }
        let power = |exponent: u32| 10_i128.checked_pow(exponent);
        let unit = match exponent.checked_sub(NANOSECOND_EXPONENT) {
            Some(finer) => power(finer).map(Unit::PerNanosecond),
            None => power(NANOSECOND_EXPONENT - exponent).map(Unit::Nanoseconds),
        };
        unit.ok_or(Skipped::Resolution(resolution))
    }

    /// Whole nanoseconds; a part of one is dropped. 64 bits of ticks in these units fit into 128 bits.
    fn nanos(self, ticks: i128) -> i128 {
        match self {
            Unit::Nanoseconds(nanos) => ticks * nanos,
            Unit::PerNanosecond(units) => ticks / units,
            Unit::Binary(exponent) => (ticks * NANOS_PER_SECOND) >> exponent,
        }
    }
}

struct RawOption<'a> {
    code: u16,
    value: &'a [u8],
}

/// The options at the end of a block, up to the one that ends them.
struct Options<'a> {
    order: Order,
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    fn of(order: Order, rest: &'a [u8]) -> Options<'a> {
        Options { order, rest }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<RawOption<'a>, Skipped>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }
        let (code, length) = (self.order.u16(rest, 0), usize::from(self.order.u16(rest, 2)));
        if rest.len() < 4 {
            return Some(Err(Skipped::Options));
        }
        if code == 0 {
            return None;
        }
        let Some(value) = rest.get(4..4 + length) else {
            return Some(Err(Skipped::Options));
        };
        self.rest = rest.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(RawOption { code, value }))
    }
}
