//! The sparse index beside a sealed segment: where to start looking. Made from the data, never trusted over it: a reader
//! that does not find the frame an entry names walks the segment from its start.

use std::path::Path;

use watchfold_schemas::Time;

use crate::disk::{Disk, read_small, write_all_at};

/// An entry for each so many bytes of records.
pub(crate) const INDEX_EVERY_BYTES: u64 = 256 * 1024;
/// Bytes of an index file worth reading: enough for a segment of 10 GiB.
const INDEX_BYTES_MAX: usize = 1024 * 1024;
const MAGIC: &[u8; 8] = b"WFLOGIDX";
const ENTRY_BYTES: usize = 24;

/// A frame's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) sequence: u64,
    pub(crate) offset: u64,
    pub(crate) stored_at: Time,
}

/// Grows with a segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) entries: Vec<IndexEntry>,
}

impl Index {
    pub(crate) fn note(&mut self, sequence: u64, offset: u64, stored_at: Time) {
        if self
            .entries
            .last()
            .is_none_or(|last| offset >= last.offset + INDEX_EVERY_BYTES)
        {
            self.entries.push(IndexEntry {
                sequence,
                offset,
                stored_at,
            });
        }
    }

    /// The last entry at or before `sequence`.
    pub(crate) fn before(&self, sequence: u64) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.sequence <= sequence);
        self.entries[..after].last().copied()
    }

    /// Not synced: a torn index is no index.
    pub(crate) fn save(&self, disk: &dyn Disk, path: &Path, seed: u32) {
        let mut content = MAGIC.to_vec();
        content.extend_from_slice(&[0; 4]);
        for entry in &self.entries {
            content.extend_from_slice(&entry.sequence.to_le_bytes());
            content.extend_from_slice(&entry.offset.to_le_bytes());
            content.extend_from_slice(&entry.stored_at.0.to_le_bytes());
        }
        let checksum = crc32c::crc32c_append(seed, &content[12..]).to_le_bytes();
        content[8..12].copy_from_slice(&checksum);
        let saved = disk
            .create(path)
            .and_then(|file| write_all_at(file.as_ref(), 0, &content));
        if let Err(error) = saved {
            tracing::debug!(path = %path.display(), %error, "no index for this segment: readers will walk it");
        }
    }

    /// `None` when there is none, or one that does not check.
    pub(crate) fn load(disk: &dyn Disk, path: &Path, seed: u32) -> Option<Index> {
        let content = read_small(disk, path, INDEX_BYTES_MAX).ok()??;
        let (head, body) = content.split_at_checked(12)?;
        let checksum = crc32c::crc32c_append(seed, body).to_le_bytes();
        if head[..8] != MAGIC[..] || head[8..] != checksum || !body.len().is_multiple_of(ENTRY_BYTES) {
            return None;
        }
        let number = |entry: &[u8], at: usize| {
            entry[at..]
                .first_chunk::<8>()
                .map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let entry = |entry: &[u8]| IndexEntry {
            sequence: number(entry, 0),
            offset: number(entry, 8),
            stored_at: Time(number(entry, 16).cast_signed()),
        };
        Some(Index {
            entries: body.chunks_exact(ENTRY_BYTES).map(entry).collect(),
        })
    }
}
