//! Walks the frames of one segment in order, past damage, within the bytes it is told are there. Judges nothing: it
//! says what it found and what it had to skip.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{DiskFile, read_full_at};
use crate::frame::{Decoded, FRAME_BYTES_MIN, FRAME_HEADER_BYTES, Frame, decode_frame, plausible_sequence};

/// Read at once: large enough that system calls do not count, small enough for a reader that waits for little.
const BLOCK_BYTES: u64 = 256 * 1024;

/// A frame and where it was.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) frame: Frame,
    /// Exactly the frame's bytes.
    pub(crate) bytes: Bytes,
    pub(crate) offset: u64,
    /// Bytes before it that are no valid frame.
    pub(crate) skipped: u64,
}

/// Cheap to clone: a place, a shared file and a shared block.
#[derive(Clone)]
pub(crate) struct Walk {
    file: Arc<dyn DiskFile>,
    seed: u32,
    offset: u64,
    end: u64,
    /// Sequences in a segment have no holes, so this is the sequence of the frame at `offset` unless bytes are skipped.
    expected: u64,
    block: Bytes,
    block_offset: u64,
}

impl Walk {
    pub(crate) fn new(file: Arc<dyn DiskFile>, seed: u32, offset: u64, end: u64, expected: u64) -> Walk {
        Walk {
            file,
            seed,
            offset,
            end,
            expected,
            block: Bytes::new(),
            block_offset: offset,
        }
    }

    /// The segment grew, or turned out shorter.
    pub(crate) fn set_end(&mut self, end: u64) {
        self.end = end;
    }

    /// The sequence of the frame right here, unless it is damaged.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// The frame right here if it is whole and due, with the block that holds it and where it begins there. Otherwise
    /// nothing moves, and [`Walk::next`] says what is here.
    pub(crate) fn next_due(&mut self) -> io::Result<Option<(Frame, &Bytes, usize)>> {
        let at = self.offset;
        let Some(frame) = self.frame_at(at, self.expected, self.expected)? else {
            return Ok(None);
        };
        self.pass(&frame, at);
        Ok(Some((frame, &self.block, (at - self.block_offset) as usize)))
    }

    /// The next valid frame, `None` when there is none before the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found>> {
        let damaged_from = self.offset;
        if let Some(frame) = self.frame_at(damaged_from, self.expected, self.expected)? {
            return Ok(Some(self.found(frame, damaged_from, 0)));
        }
        let mut at = damaged_from + 1;
        while at + FRAME_BYTES_MIN as u64 <= self.end {
            // A lost frame took at least the smallest frame's bytes, so the sequence cannot have run further ahead.
            let sequence_max = self.expected + (at - damaged_from) / FRAME_BYTES_MIN as u64 + 1;
            if let Some(frame) = self.frame_at(at, self.expected, sequence_max)? {
                return Ok(Some(self.found(frame, at, at - damaged_from)));
            }
            at += 1;
        }
        Ok(None)
    }

    fn found(&mut self, frame: Frame, offset: u64, skipped: u64) -> Found {
        self.pass(&frame, offset);
        let start = (offset - self.block_offset) as usize;
        Found {
            frame,
            bytes: self.block.slice(start..start + frame.bytes),
            offset,
            skipped,
        }
    }

    fn pass(&mut self, frame: &Frame, offset: u64) {
        self.offset = offset + frame.bytes as u64;
        self.expected = frame.sequence + 1;
    }

    fn frame_at(&mut self, at: u64, sequence_min: u64, sequence_max: u64) -> io::Result<Option<Frame>> {
        let header = self.bytes_at(at, FRAME_HEADER_BYTES as u64)?;
        // Checked before the checksum: what is skipped byte by byte must be cheap to refuse.
        let plausible =
            plausible_sequence(header).is_some_and(|s| (sequence_min..=sequence_max).contains(&s));
        if !plausible {
            return Ok(None);
        }
        let seed = self.seed;
        let mut decoded = decode_frame(self.bytes_at(at, 0)?, seed);
        if let Decoded::Short(wanted) = decoded {
            decoded = decode_frame(self.bytes_at(at, wanted as u64)?, seed);
        }
        match decoded {
            Decoded::Frame(frame) => Ok(Some(frame)),
            Decoded::Short(_) | Decoded::Invalid => Ok(None),
        }
    }

    /// What of the segment is at hand from `at`: at least `wanted` bytes, unless the segment ends before.
    fn bytes_at(&mut self, at: u64, wanted: u64) -> io::Result<&[u8]> {
        let left = self.end.saturating_sub(at);
        let block_end = self.block_offset + self.block.len() as u64;
        let at_hand = if at < self.block_offset {
            0
        } else {
            block_end.saturating_sub(at)
        };
        if at_hand < wanted.min(left) || (at_hand == 0 && left > 0) {
            let mut block = vec![0; BLOCK_BYTES.max(wanted).min(left) as usize];
            let filled = read_full_at(self.file.as_ref(), at, &mut block)?;
            if filled < block.len() {
                // The file is shorter than the log believes; what is missing is damage.
                block.truncate(filled);
                self.end = self.end.min(at + filled as u64);
            }
            self.block = Bytes::from(block);
            self.block_offset = at;
        }
        let start = at.saturating_sub(self.block_offset).min(self.block.len() as u64) as usize;
        let left = self.end.saturating_sub(at) as usize;
        let bytes = &self.block[start..];
        Ok(&bytes[..bytes.len().min(left)])
    }
}
