//! The bytes of a frame: its header, its checksums, its place in the chain of hashes. Touches no file.

use sha2::{Digest, Sha256};
use watchfold_schemas::Time;

use super::{FRAME_BYTES_MAX, FrameKind, IndexEntry, RecordingError};

/// Where a frame may begin; unlikely in compressed content.
pub(super) const MARKER: [u8; 4] = [0xf7, b'W', b'F', 0x0b];

/// The bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 92;

/// How many of them come before the hash and are covered by it.
const HASHED_BYTES: usize = 52;

pub(super) type Hash = [u8; 32];

/// A frame's header, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameKind,
    pub(super) is_compressed: bool,
    pub(super) stored_bytes: u32,
    pub(super) raw_bytes: u32,
    pub(super) items: u32,
    pub(super) first_sequence: u64,
    pub(super) last_sequence: u64,
    pub(super) first_stored_at: Time,
    pub(super) last_stored_at: Time,
    pub(super) hash: Hash,
    content_crc: u32,
}

/// What a frame holds before it has bytes.
pub(super) struct Draft<'a> {
    pub(super) kind: FrameKind,
    pub(super) content: &'a [u8],
    pub(super) items: u32,
    pub(super) sequences: (u64, u64),
    pub(super) stored_at: (Time, Time),
}

impl Draft<'_> {
    /// The whole frame, and its hash.
    pub(super) fn seal(&self, before: &Hash) -> Result<(Vec<u8>, Hash), RecordingError> {
        let too_large = || RecordingError::TooLarge {
            bytes: self.content.len(),
        };
        if self.content.len() > FRAME_BYTES_MAX {
            return Err(too_large());
        }
        let compressed = lz4_flex::block::compress(self.content);
        let is_compressed = compressed.len() < self.content.len();
        let stored: &[u8] = if is_compressed { &compressed } else { self.content };
        let length = |bytes: usize| u32::try_from(bytes).map_err(|_| too_large());
        let mut out = Vec::with_capacity(HEADER_BYTES + stored.len());
        out.extend_from_slice(&MARKER);
        out.extend_from_slice(&[code_of(self.kind), u8::from(is_compressed), 0, 0]);
        for number in [length(stored.len())?, length(self.content.len())?, self.items] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.sequences.0.to_le_bytes());
        out.extend_from_slice(&self.sequences.1.to_le_bytes());
        out.extend_from_slice(&self.stored_at.0.0.to_le_bytes());
        out.extend_from_slice(&self.stored_at.1.0.to_le_bytes());
        let hash = chained(before, &out, stored);
        out.extend_from_slice(&hash);
        out.extend_from_slice(&crc32c::crc32c(stored).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.extend_from_slice(stored);
        Ok((out, hash))
    }
}

impl FrameHeader {
    /// `None` when these bytes are not a header whose checksum holds.
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<FrameHeader> {
        let mut fields = Fields(bytes);
        if fields.take::<4>() != MARKER {
            return None;
        }
        let [kind, compression, _, _] = fields.take::<4>();
        let header = FrameHeader {
            kind: kind_of(kind)?,
            is_compressed: compression == 1,
            stored_bytes: fields.number(),
            raw_bytes: fields.number(),
            items: fields.number(),
            first_sequence: u64::from_le_bytes(fields.take()),
            last_sequence: u64::from_le_bytes(fields.take()),
            first_stored_at: Time(i64::from_le_bytes(fields.take())),
            last_stored_at: Time(i64::from_le_bytes(fields.take())),
            hash: fields.take(),
            content_crc: fields.number(),
        };
        let holds = fields.number() == crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        let bounded =
            header.stored_bytes as usize <= FRAME_BYTES_MAX && header.raw_bytes as usize <= FRAME_BYTES_MAX;
        (holds && bounded && compression <= 1).then_some(header)
    }

    /// The content before compression, or why there is none.
    pub(super) fn open(&self, stored: Vec<u8>) -> Result<Vec<u8>, String> {
        if crc32c::crc32c(&stored) != self.content_crc {
            return Err("its checksum does not hold".to_owned());
        }
        let raw_bytes = self.raw_bytes as usize;
        let content = if self.is_compressed {
            lz4_flex::block::decompress(&stored, raw_bytes).map_err(|error| error.to_string())?
        } else {
            stored
        };
        if content.len() == raw_bytes {
            Ok(content)
        } else {
            Err("its length is another".to_owned())
        }
    }

    pub(super) fn follows(&self, before: &Hash, header: &[u8; HEADER_BYTES], stored: &[u8]) -> bool {
        chained(before, &header[..HASHED_BYTES], stored) == self.hash
    }

    pub(super) fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.stored_bytes)
    }

    pub(super) fn entry(&self, offset: u64) -> IndexEntry {
        IndexEntry {
            offset,
            kind: self.kind,
            first_sequence: self.first_sequence,
            last_sequence: self.last_sequence,
            first_stored_at: self.first_stored_at,
            last_stored_at: self.last_stored_at,
        }
    }
}

/// The hash that the first frame follows.
pub(super) fn first_hash(preamble: &[u8]) -> Hash {
    Sha256::digest(preamble).into()
}

fn chained(before: &Hash, header: &[u8], stored: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(header);
    hash.update(stored);
    hash.finalize().into()
}

const fn code_of(kind: FrameKind) -> u8 {
    match kind {
        FrameKind::Snapshot => 1,
        FrameKind::Records => 2,
        FrameKind::Index => 3,
    }
}

const fn kind_of(code: u8) -> Option<FrameKind> {
    match code {
        1 => Some(FrameKind::Snapshot),
        2 => Some(FrameKind::Records),
        3 => Some(FrameKind::Index),
        _ => None,
    }
}

/// Takes fixed fields off a header one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
}
