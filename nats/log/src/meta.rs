//! The small file `stream` beside the segments: what must be known before any segment is read. Replaced as a whole.

use std::path::Path;

use crate::LogError;
use crate::disk::{Disk, io_error, read_small, replace_small};
use crate::frame::{FORMAT, LogId};

pub(crate) const META_NAME: &str = "stream";
const MAGIC: &[u8; 8] = b"WFLOGSTM";
const META_BYTES: usize = 56;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) log_id: LogId,
    /// No segment of this number or above was ever made; written before a segment is, so that no name returns.
    pub(crate) next_segment: u64,
    /// Segments below this are no longer part of the log, whether or not their files are gone.
    pub(crate) first_segment: u64,
    /// Sequences below this were given out.
    pub(crate) next_sequence: u64,
}

pub(crate) enum MetaRead {
    Found(Meta),
    Missing,
    Damaged,
}

impl Meta {
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<MetaRead, LogError> {
        let path = dir.join(META_NAME);
        let content =
            read_small(disk, &path, META_BYTES + 1).map_err(|error| io_error("read", &path, error))?;
        let Some(content) = content else {
            return Ok(MetaRead::Missing);
        };
        let Ok(bytes) = <[u8; META_BYTES]>::try_from(content) else {
            return Ok(MetaRead::Damaged);
        };
        if bytes[..8] != MAGIC[..] || bytes[12..16] != checksum(&bytes) {
            return Ok(MetaRead::Damaged);
        }
        let format = u16::from_le_bytes([bytes[8], bytes[9]]);
        if format > FORMAT {
            return Err(LogError::Newer {
                path: path.display().to_string(),
                found: format,
                known: FORMAT,
            });
        }
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&bytes[16..32]);
        let number = |at: usize| {
            bytes[at..]
                .first_chunk::<8>()
                .map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let (next_segment, first_segment, next_sequence) = (number(32), number(40), number(48));
        Ok(MetaRead::Found(Meta {
            log_id,
            next_segment,
            first_segment,
            next_sequence,
        }))
    }

    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
        let mut bytes = [0; META_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.log_id);
        bytes[32..40].copy_from_slice(&self.next_segment.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_segment.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.next_sequence.to_le_bytes());
        let checksum = checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum);
        replace_small(disk, dir, META_NAME, &bytes)
            .map_err(|error| io_error("save", &dir.join(META_NAME), error))
    }
}

fn checksum(bytes: &[u8; META_BYTES]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]).to_le_bytes()
}
