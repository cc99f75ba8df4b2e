//! Snapshots in the log: writing one, and finding the newest that is whole.
//!
//! Chunks are appended first, each awaited, and the manifest last; it names where its chunks stand and the manifest
//! before it. Removing old ones is the retention of the stream's business.

use watchfold_log::{Append, LogError, MessageLog, Position, Start};
use watchfold_schemas::codec::{decode_versioned, encode};
use watchfold_schemas::hash::short_hash;
use watchfold_schemas::snapshot::{
    CHUNK_BYTES_MAX, CHUNKS_MAX, FoldVersion, SNAPSHOT_VERSION, SnapshotChunk, SnapshotManifest,
    SnapshotPart, SnapshotPosition, SnapshotRecord, SnapshotState,
};
use watchfold_schemas::{Chain, CodecError, MessageId, Stream, subjects};

use crate::crash::{CrashHook, CrashPoint};

/// How many snapshots are looked at before the chain is folded from its first record: the two hourly ones, and a
/// daily one for each day that a stream reaches back.
const CANDIDATES_MAX: usize = 64;

/// How many manifests are followed back to one moment: those of 80 days at one an hour.
const LOOKED_AT_MAX: usize = 2_048;

/// Records per read when the stream has to be searched; each may be a chunk of half a MiB.
const SEARCH_RECORDS: usize = 4;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Encode(#[from] CodecError),
    #[error(
        "the state takes {bytes} bytes, more than a snapshot holds: the chain rebuilds from older ones or the log"
    )]
    TooLarge { bytes: usize },
    #[error("stopped by a test")]
    Crashed,
}

/// A snapshot to be written. The manifest's `chunk_sequences`, `bytes` and `crc32c` are filled in by [`write`].
pub(crate) struct Draft {
    pub(crate) manifest: SnapshotManifest,
    pub(crate) state: Vec<u8>,
}

/// One that stands in the log, as far as its manifest tells.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) sequence: u64,
    set: String,
    pub(crate) manifest: SnapshotManifest,
}

impl Draft {
    pub(crate) fn new(
        manifest: SnapshotManifest,
        state: &SnapshotState,
        bytes_max: usize,
    ) -> Result<Draft, SnapshotError> {
        // The whole is larger than a message may be; only its chunks go through the codec's limit.
        let state = rmp_serde::to_vec_named(state).map_err(CodecError::from)?;
        if state.len() > bytes_max.min(CHUNKS_MAX * CHUNK_BYTES_MAX) {
            return Err(SnapshotError::TooLarge { bytes: state.len() });
        }
        Ok(Draft { manifest, state })
    }

    /// The position is the snapshot's identity. The content goes in too, so that the chunks of two attempts at one
    /// position (by two versions, say) never count as one set.
    fn set(&self) -> String {
        let SnapshotPosition { log_id, sequence, id } = &self.manifest.position;
        let hash = short_hash(&[
            log_id,
            &sequence.to_string(),
            id,
            &self.manifest.crc32c.to_string(),
        ]);
        format!("{sequence}-{}", &hash[..16])
    }
}

/// Appends the snapshot; returns its manifest's sequence.
pub(crate) async fn write(
    log: &dyn MessageLog,
    mut draft: Draft,
    crash: &CrashHook,
) -> Result<u64, SnapshotError> {
    draft.manifest.bytes = draft.state.len() as u64;
    draft.manifest.crc32c = crc32c::crc32c(&draft.state);
    let set = draft.set();
    let (site, chain) = (draft.manifest.site.clone(), draft.manifest.chain);
    let append = async |name: String, part: SnapshotPart| -> Result<u64, SnapshotError> {
        let record = SnapshotRecord {
            v: SNAPSHOT_VERSION,
            set: set.clone(),
            part,
        };
        let message = Append {
            stream: Stream::Snapshots,
            subject: subjects::snapshot(&site, chain),
            id: MessageId(format!("snap/{site}/{}/{set}/{name}", chain.token())),
            payload: encode(&record)?.into(),
        };
        Ok(log
            .append(vec![message])
            .await?
            .first()
            .map_or(0, |ack| ack.sequence))
    };
    for (index, data) in (0_u32..).zip(draft.state.chunks(CHUNK_BYTES_MAX)) {
        let chunk = SnapshotChunk {
            index,
            crc32c: crc32c::crc32c(data),
            data: data.to_vec(),
        };
        let sequence = append(index.to_string(), SnapshotPart::Chunk(chunk)).await?;
        draft.manifest.chunk_sequences.push(sequence);
        if crash.reached(CrashPoint::DuringSnapshot) {
            return Err(SnapshotError::Crashed);
        }
    }
    append(
        "manifest".to_owned(),
        SnapshotPart::Manifest(Box::new(draft.manifest)),
    )
    .await
}

/// The manifests of a chain, the newest first.
pub(crate) async fn candidates(
    log: &dyn MessageLog,
    site: &str,
    chain: Chain,
) -> Result<Vec<Candidate>, LogError> {
    let Some(last) = log
        .last(Stream::Snapshots, &subjects::snapshot(site, chain))
        .await?
    else {
        return Ok(Vec::new());
    };
    // Normally the last record is a manifest, and each names the one before.
    let mut found = Vec::new();
    let mut next = candidate(last.sequence, &last.payload, site, chain);
    while let Some(at) = next {
        found.push(at);
        next = match found.last() {
            Some(at) if found.len() < CANDIDATES_MAX => before(log, at, site, chain).await?,
            _ => None,
        };
    }
    if found.is_empty() {
        search(log, site, chain).await
    } else {
        Ok(found)
    }
}

/// The newest that was taken at or before `sequence` of the chain's input. Only manifests are read.
pub(crate) async fn newest_before(
    log: &dyn MessageLog,
    site: &str,
    chain: Chain,
    sequence: u64,
) -> Result<Option<Candidate>, LogError> {
    let Some(last) = log
        .last(Stream::Snapshots, &subjects::snapshot(site, chain))
        .await?
    else {
        return Ok(None);
    };
    // One that is being written ends in a chunk; then there is none for now.
    let mut next = candidate(last.sequence, &last.payload, site, chain);
    for _ in 0..LOOKED_AT_MAX {
        let Some(at) = next else { break };
        if at.manifest.position.sequence <= sequence {
            return Ok(Some(at));
        }
        next = before(log, &at, site, chain).await?;
    }
    Ok(None)
}

/// The one that a manifest names as the one before.
async fn before(
    log: &dyn MessageLog,
    at: &Candidate,
    site: &str,
    chain: Chain,
) -> Result<Option<Candidate>, LogError> {
    let Some(sequence) = at.manifest.previous.filter(|previous| *previous < at.sequence) else {
        return Ok(None);
    };
    let record = log.get(Stream::Snapshots, sequence).await?;
    Ok(record.and_then(|record| candidate(sequence, &record.payload, site, chain)))
}

/// Those that were taken at `sequence` of the chain's input or later, the newest first. Only manifests are read.
pub(crate) async fn newest_from(
    log: &dyn MessageLog,
    site: &str,
    chain: Chain,
    sequence: u64,
) -> Result<Vec<Candidate>, LogError> {
    let mut found = Vec::new();
    let mut next = newest_before(log, site, chain, u64::MAX).await?;
    while let Some(at) = next {
        if at.manifest.position.sequence < sequence || found.len() >= CANDIDATES_MAX {
            break;
        }
        next = before(log, &at, site, chain).await?;
        found.push(at);
    }
    Ok(found)
}

/// Reads the whole stream, for when it ends in a set without a manifest.
async fn search(log: &dyn MessageLog, site: &str, chain: Chain) -> Result<Vec<Candidate>, LogError> {
    let mut reader = log
        .reader(Stream::Snapshots, &subjects::snapshot(site, chain), Start::First)
        .await?;
    let mut found = std::collections::VecDeque::new();
    loop {
        let batch = reader.try_next(SEARCH_RECORDS).await?;
        if batch.records.is_empty() && batch.lost.is_none() {
            return Ok(found.into());
        }
        for record in batch.records {
            if let Some(candidate) = candidate(record.sequence, &record.payload, site, chain) {
                found.push_front(candidate);
                found.truncate(CANDIDATES_MAX);
            }
        }
    }
}

fn candidate(sequence: u64, payload: &[u8], site: &str, chain: Chain) -> Option<Candidate> {
    match decode_record(payload).ok()? {
        SnapshotRecord {
            set,
            part: SnapshotPart::Manifest(manifest),
            ..
        } => {
            let ours = manifest.site == site && manifest.chain == chain;
            ours.then_some(Candidate {
                sequence,
                set,
                manifest: *manifest,
            })
        }
        SnapshotRecord {
            part: SnapshotPart::Chunk(_),
            ..
        } => None,
    }
}

impl Candidate {
    pub(crate) fn position(&self) -> Position {
        let SnapshotPosition { log_id, sequence, id } = self.manifest.position.clone();
        Position { log_id, sequence, id }
    }

    pub(crate) fn versions(&self) -> Vec<(String, u32)> {
        let pair = |entry: &FoldVersion| (entry.fold.clone(), entry.version);
        self.manifest.versions.iter().map(pair).collect()
    }

    /// The content, or why the set does not count.
    pub(crate) async fn read(&self, log: &dyn MessageLog) -> Result<Result<SnapshotState, String>, LogError> {
        let manifest = &self.manifest;
        if manifest.chunk_sequences.len() > CHUNKS_MAX {
            return Ok(Err(format!("it names {} chunks", manifest.chunk_sequences.len())));
        }
        let mut state = Vec::new();
        for (index, sequence) in (0_u32..).zip(&manifest.chunk_sequences) {
            let Some(record) = log.get(Stream::Snapshots, *sequence).await? else {
                return Ok(Err(format!("its chunk {index} is gone")));
            };
            match self.chunk(index, &record.payload) {
                Ok(data) => state.extend_from_slice(&data),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        if state.len() as u64 != manifest.bytes || crc32c::crc32c(&state) != manifest.crc32c {
            return Ok(Err("its checksum does not hold".to_owned()));
        }
        Ok(decode_versioned(&state, "item of state", SNAPSHOT_VERSION).map_err(|error| error.to_string()))
    }

    fn chunk(&self, index: u32, payload: &[u8]) -> Result<Vec<u8>, String> {
        let record = decode_record(payload).map_err(|error| error.to_string())?;
        match record.part {
            SnapshotPart::Chunk(chunk) if record.set == self.set && chunk.index == index => {
                let holds = crc32c::crc32c(&chunk.data) == chunk.crc32c;
                holds
                    .then_some(chunk.data)
                    .ok_or_else(|| format!("the checksum of its chunk {index} does not hold"))
            }
            _ => Err(format!("another record stands where its chunk {index} was")),
        }
    }
}

fn decode_record(payload: &[u8]) -> Result<SnapshotRecord, CodecError> {
    decode_versioned(payload, "item of a snapshot", SNAPSHOT_VERSION)
}
