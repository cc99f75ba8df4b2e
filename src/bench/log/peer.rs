//! What the log is held against: as many records of as many bytes, each with its CRC32C, written through one buffer to one
//! file by one thread, and synced whenever the first unsynced byte is as old as the log's delay. It keeps no order of its
//! own, knows no duplicates, answers nobody, and could not be read back after a crash.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;

use super::measure::{Plan, Rate};

/// Bytes gathered before they are written: larger ones are no faster here.
const BUFFER_BYTES: usize = 1024 * 1024;

pub fn bare_write(path: &Path, bytes: u64, plan: &Plan) -> anyhow::Result<Rate> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(failed)?;
    let record_bytes = (bytes / plan.records).max(16) as usize;
    let mut record = vec![b'x'; record_bytes];
    let mut buffer = Vec::with_capacity(BUFFER_BYTES + record_bytes);
    let mut unsynced_since: Option<Instant> = None;
    let began = Instant::now();
    for number in 0..plan.records {
        record[8..16].copy_from_slice(&number.to_le_bytes());
        let checksum = crc32c::crc32c(&record[4..]).to_le_bytes();
        record[..4].copy_from_slice(&checksum);
        buffer.extend_from_slice(&record);
        if buffer.len() >= BUFFER_BYTES {
            file.write_all(&buffer).with_context(failed)?;
            buffer.clear();
            if unsynced_since.get_or_insert_with(Instant::now).elapsed() >= plan.sync_delay {
                file.sync_data().with_context(failed)?;
                unsynced_since = None;
            }
        }
    }
    file.write_all(&buffer).with_context(failed)?;
    file.sync_data().with_context(failed)?;
    Ok(Rate::new(
        plan.records,
        plan.records * record_bytes as u64,
        began.elapsed(),
    ))
}
