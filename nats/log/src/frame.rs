//! The bytes of a segment: its header and its record frames, as `README.md` lays them out. Touches no file.
//!
//! The checksum of a frame is seeded with the log id and the segment's number, so that a frame of another log, another
//! segment or inside somebody's payload is never taken for one of this segment.

use bytes::Bytes;
use watchfold_schemas::{MessageId, Time};

use crate::message::{MESSAGE_ID_BYTES_MAX, PAYLOAD_BYTES_MAX, SUBJECT_BYTES_MAX};
use crate::{Append, Record};

/// The version that this code writes, and the newest that it reads.
pub const FORMAT: u16 = 1;
/// A segment begins with this many bytes of header.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// A frame before its message id.
pub const FRAME_HEADER_BYTES: usize = 28;
/// The smallest frame: one byte of id, one of subject, no payload.
pub const FRAME_BYTES_MIN: usize = FRAME_HEADER_BYTES + 2;
/// The largest frame. Raising a limit that it is made of needs a new format version.
pub const FRAME_BYTES_MAX: usize =
    FRAME_HEADER_BYTES + MESSAGE_ID_BYTES_MAX + SUBJECT_BYTES_MAX + PAYLOAD_BYTES_MAX;

const MAGIC: &[u8; 8] = b"WFLOGSEG";
/// The length and the checksum; the length counts what follows them.
const PREFIX_BYTES: usize = 8;
/// Set on the first record written after a sync.
const FLAG_FIRST_OF_COMMIT: u8 = 1;

/// A log's identity, made with the stream.
pub type LogId = [u8; 16];

/// What the first 64 bytes of a segment say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub log_id: LogId,
    pub number: u64,
    pub first_sequence: u64,
    pub created_at: Time,
}

/// Why 64 bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderProblem {
    Damaged,
    /// Whole, but of a format that this version does not know.
    Newer(u16),
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.log_id);
        bytes[32..40].copy_from_slice(&self.number.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.created_at.0.to_le_bytes());
        let checksum = header_checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderProblem> {
        let header = bytes
            .first_chunk::<SEGMENT_HEADER_BYTES>()
            .ok_or(HeaderProblem::Damaged)?;
        if header[..8] != MAGIC[..] || u32_at(header, 12) != header_checksum(header) {
            return Err(HeaderProblem::Damaged);
        }
        let format = u16::from_le_bytes([header[8], header[9]]);
        if format > FORMAT {
            return Err(HeaderProblem::Newer(format));
        }
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&header[16..32]);
        Ok(SegmentHeader {
            log_id,
            number: u64_at(header, 32),
            first_sequence: u64_at(header, 40),
            created_at: Time(u64_at(header, 48).cast_signed()),
        })
    }
}

/// Over the header without the checksum itself.
fn header_checksum(header: &[u8; SEGMENT_HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

/// What the checksums of a segment's frames start from.
pub fn frame_seed(log_id: LogId, segment_number: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&log_id), &segment_number.to_le_bytes())
}

/// Appends one frame to `buffer`. The message must have passed [`crate::check_message`].
pub fn encode_frame(
    buffer: &mut Vec<u8>,
    seed: u32,
    sequence: u64,
    stored_at: Time,
    first_of_commit: bool,
    message: &Append,
) {
    let start = buffer.len();
    lay_out_frame(buffer, message);
    complete_frame(&mut buffer[start..], seed, sequence, stored_at, first_of_commit);
}

/// Bytes of the message's frame.
pub(crate) fn frame_bytes_of(message: &Append) -> usize {
    FRAME_HEADER_BYTES + message.id.0.len() + message.subject.len() + message.payload.len()
}

/// Appends what a message alone says of its frame; [`complete_frame`] adds the rest.
pub(crate) fn lay_out_frame(buffer: &mut Vec<u8>, message: &Append) {
    let (id, subject) = (message.id.0.as_bytes(), message.subject.as_bytes());
    let total = frame_bytes_of(message);
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&((total - PREFIX_BYTES) as u32).to_le_bytes());
    header[25] = id.len() as u8;
    header[26] = subject.len() as u8;
    buffer.reserve(total);
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(id);
    buffer.extend_from_slice(subject);
    buffer.extend_from_slice(&message.payload);
}

/// Adds to one laid out frame what is known when it gets its place, and seals it.
pub(crate) fn complete_frame(
    frame: &mut [u8],
    seed: u32,
    sequence: u64,
    stored_at: Time,
    first_of_commit: bool,
) {
    let Some((header, _)) = frame.split_first_chunk_mut::<FRAME_HEADER_BYTES>() else {
        return;
    };
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..24].copy_from_slice(&stored_at.0.to_le_bytes());
    header[24] = if first_of_commit { FLAG_FIRST_OF_COMMIT } else { 0 };
    let checksum = frame_checksum(seed, frame).to_le_bytes();
    frame[4..8].copy_from_slice(&checksum);
}

/// A frame whose checksum held, as offsets into the bytes it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub sequence: u64,
    pub stored_at: Time,
    pub first_of_commit: bool,
    id_bytes: u8,
    subject_bytes: u8,
    /// All of the frame.
    pub bytes: usize,
}

/// What stands at the front of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    Frame(Frame),
    /// It could be a frame of this many bytes, but fewer are given.
    Short(usize),
    Invalid,
}

/// Decodes the frame at the front of `bytes`. Any bytes are safe to give.
pub fn decode_frame(bytes: &[u8], seed: u32) -> Decoded {
    let Some(total) = frame_bytes(bytes) else {
        return if bytes.len() < 4 {
            Decoded::Short(FRAME_BYTES_MIN)
        } else {
            Decoded::Invalid
        };
    };
    let Some(frame) = bytes.get(..total) else {
        return Decoded::Short(total);
    };
    if u32_at(frame, 4) != frame_checksum(seed, frame) {
        return Decoded::Invalid;
    }
    let (flags, id_bytes, subject_bytes) = (frame[24], frame[25], frame[26]);
    let text_end = FRAME_HEADER_BYTES + usize::from(id_bytes) + usize::from(subject_bytes);
    let text = frame.get(FRAME_HEADER_BYTES..text_end);
    let well_formed =
        flags & !FLAG_FIRST_OF_COMMIT == 0 && frame[27] == 0 && id_bytes > 0 && subject_bytes > 0;
    if !well_formed || !text.is_some_and(<[u8]>::is_ascii) && !text_is_utf8(frame, id_bytes, subject_bytes) {
        return Decoded::Invalid;
    }
    Decoded::Frame(Frame {
        sequence: u64_at(frame, 8),
        stored_at: Time(u64_at(frame, 16).cast_signed()),
        first_of_commit: flags & FLAG_FIRST_OF_COMMIT != 0,
        id_bytes,
        subject_bytes,
        bytes: total,
    })
}

/// The sequence that a frame here would have, if the bytes could begin one; nothing is verified.
pub(crate) fn plausible_sequence(bytes: &[u8]) -> Option<u64> {
    frame_bytes(bytes)?;
    (bytes.len() >= 16).then(|| u64_at(bytes, 8))
}

fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let body = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
    let total = body.checked_add(PREFIX_BYTES)?;
    (FRAME_BYTES_MIN..=FRAME_BYTES_MAX)
        .contains(&total)
        .then_some(total)
}

fn text_is_utf8(frame: &[u8], id_bytes: u8, subject_bytes: u8) -> bool {
    let id_end = FRAME_HEADER_BYTES + usize::from(id_bytes);
    let subject = frame.get(id_end..id_end + usize::from(subject_bytes));
    let id = frame.get(FRAME_HEADER_BYTES..id_end);
    [id, subject]
        .iter()
        .all(|text| text.is_some_and(|text| str::from_utf8(text).is_ok()))
}

fn frame_checksum(seed: u32, frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &frame[..4]), &frame[PREFIX_BYTES..])
}

impl Frame {
    pub fn id<'a>(&self, frame: &'a [u8]) -> &'a str {
        text(frame, FRAME_HEADER_BYTES, self.id_bytes)
    }

    pub fn subject<'a>(&self, frame: &'a [u8]) -> &'a str {
        text(
            frame,
            FRAME_HEADER_BYTES + usize::from(self.id_bytes),
            self.subject_bytes,
        )
    }

    /// The record; its payload is a slice of `block`, in which the bytes this was decoded from begin at `start`.
    pub fn record(&self, block: &Bytes, start: usize) -> Record {
        let frame = block.get(start..).unwrap_or_default();
        let payload =
            start + FRAME_HEADER_BYTES + usize::from(self.id_bytes) + usize::from(self.subject_bytes);
        Record {
            sequence: self.sequence,
            stored_at: self.stored_at,
            id: MessageId(self.id(frame).to_owned()),
            subject: self.subject(frame).to_owned(),
            payload: block.slice(payload..start + self.bytes),
        }
    }
}

/// Decoding checked that this is text; other bytes than those decoded give an empty one.
fn text(frame: &[u8], start: usize, bytes: u8) -> &str {
    frame
        .get(start..start + usize::from(bytes))
        .and_then(|text| str::from_utf8(text).ok())
        .unwrap_or_default()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk::<4>()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
