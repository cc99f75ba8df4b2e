//! The chains' own snapshots in `WF_SNAP`: the newest whole one before a record, so that a late span need not be folded from the
//! beginning of the log.

use std::path::Path;

use watchfold_log::{Start, StreamFiles, StreamReport};
use watchfold_schemas::codec::decode_versioned;
use watchfold_schemas::snapshot::{
    CHUNKS_MAX, SNAPSHOT_VERSION, SnapshotManifest, SnapshotPart, SnapshotRecord, SnapshotState,
};
use watchfold_schemas::{Chain, Stream, subjects};

use crate::ReplayError;
use crate::recording::SiteSnapshot;

/// How many snapshots are tried, the newest first, before the log is folded from its beginning.
const CANDIDATES_MAX: usize = 64;

/// Records per read; each may be a chunk of half a MiB.
const RECORDS_AT_ONCE: usize = 4;

/// `None` when none is whole, or none agrees with the log.
pub(super) fn latest_before(
    directory: &Path,
    (site, chain): (&str, Chain),
    report: &StreamReport,
    sequence: u64,
) -> Result<Option<SiteSnapshot>, ReplayError> {
    let stream = stream_of(chain);
    let filter = subjects::snapshot(site, chain);
    let Some(mut files) = StreamFiles::open_filtered(directory, Stream::Snapshots, &filter)? else {
        return Ok(None);
    };
    let mut candidates = Vec::new();
    loop {
        let batch = files.next(RECORDS_AT_ONCE)?;
        if batch.records.is_empty() && batch.lost.is_none() {
            break;
        }
        for record in batch.records {
            let Ok(SnapshotRecord {
                part: SnapshotPart::Manifest(manifest),
                set,
                ..
            }) = decode(&record.payload)
            else {
                continue;
            };
            let is_before =
                manifest.position.log_id == report.log_id && manifest.position.sequence < sequence;
            // What follows it must still be there.
            let joins = manifest.position.sequence + 1 >= report.first_sequence;
            if is_before && joins && manifest.site == site && manifest.chain == chain {
                candidates.push((set, *manifest));
            }
        }
    }
    candidates.sort_by_key(|(_, manifest)| std::cmp::Reverse(manifest.position.sequence));
    for (set, manifest) in candidates.into_iter().take(CANDIDATES_MAX) {
        if agrees(directory, stream, &manifest)?
            && let Some(state) = read(&mut files, &set, &manifest)?
        {
            return Ok(Some(SiteSnapshot {
                site: site.to_owned(),
                chain,
                sequence: manifest.position.sequence,
                versions: manifest.versions,
                entries: state.entries,
                collectors: state.collectors,
            }));
        }
    }
    Ok(None)
}

/// What a chain reads.
const fn stream_of(chain: Chain) -> Stream {
    match chain {
        Chain::Site => Stream::Observations,
        Chain::Packets => Stream::Packets,
    }
}

/// Whether the record that a snapshot ends with is still the same.
fn agrees(directory: &Path, stream: Stream, manifest: &SnapshotManifest) -> Result<bool, ReplayError> {
    let Some(mut files) = StreamFiles::open(directory, stream)? else {
        return Ok(false);
    };
    files.seek(&Start::Sequence(manifest.position.sequence))?;
    let batch = files.next(1)?;
    let found = batch
        .records
        .first()
        .filter(|record| record.sequence == manifest.position.sequence);
    Ok(found.is_none_or(|record| record.id.0 == manifest.position.id))
}

fn read(
    files: &mut StreamFiles,
    set: &str,
    manifest: &SnapshotManifest,
) -> Result<Option<SnapshotState>, ReplayError> {
    if manifest.chunk_sequences.len() > CHUNKS_MAX {
        return Ok(None);
    }
    let mut state = Vec::new();
    for (index, sequence) in (0_u32..).zip(&manifest.chunk_sequences) {
        files.seek(&Start::Sequence(*sequence))?;
        let batch = files.next(1)?;
        let chunk = batch
            .records
            .first()
            .filter(|record| record.sequence == *sequence);
        match chunk.and_then(|record| decode(&record.payload).ok()) {
            Some(SnapshotRecord {
                set: of,
                part: SnapshotPart::Chunk(chunk),
                ..
            }) if of == set && chunk.index == index && crc32c::crc32c(&chunk.data) == chunk.crc32c => {
                state.extend_from_slice(&chunk.data);
            }
            _ => return Ok(None),
        }
    }
    let is_whole = state.len() as u64 == manifest.bytes && crc32c::crc32c(&state) == manifest.crc32c;
    Ok(is_whole
        .then(|| decode_versioned(&state, "item of state", SNAPSHOT_VERSION).ok())
        .flatten())
}

fn decode(payload: &[u8]) -> Result<SnapshotRecord, watchfold_schemas::CodecError> {
    decode_versioned(payload, "item of a snapshot", SNAPSHOT_VERSION)
}
