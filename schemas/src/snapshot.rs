//! How a chain's snapshot is written down: chunks of one encoded [`SnapshotState`], then a [`SnapshotManifest`].
//!
//! A set of records counts only once its manifest stands and every chunk's checksum holds; an incomplete set is
//! ignored in favour of an older one. What the state entries hold belongs to the folds and is not known here.

use serde::{Deserialize, Serialize};

use crate::origin::Place;
use crate::subjects::Chain;
use crate::time::Time;

/// The version of the stored form of a [`SnapshotRecord`] and a [`SnapshotState`].
pub const SNAPSHOT_VERSION: u16 = 1;

/// The most bytes of state in one chunk, so that its record stays below 512 KiB with its envelope.
pub const CHUNK_BYTES_MAX: usize = 511 * 1024;

/// The most chunks of one snapshot: about 255 MiB of state, far above what the limits of the folds allow.
pub const CHUNKS_MAX: usize = 512;

/// One record of `WF_SNAP`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct SnapshotRecord {
    /// [`SNAPSHOT_VERSION`] of the writer.
    pub v: u16,
    /// What the chunks and the manifest of one snapshot share: the position's sequence, and a hash of position and
    /// content.
    pub set: String,
    pub part: SnapshotPart,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SnapshotPart {
    Chunk(SnapshotChunk),
    Manifest(Box<SnapshotManifest>),
}

/// A piece of an encoded [`SnapshotState`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct SnapshotChunk {
    /// Counts from 0 within its set.
    pub index: u32,
    /// CRC32C of `data`.
    pub crc32c: u32,
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub data: Vec<u8>,
}

/// The last record of a set: what it holds and where its chunks stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct SnapshotManifest {
    pub site: String,
    pub chain: Chain,
    /// The last input that is in the state. It is the snapshot's identity.
    pub position: SnapshotPosition,
    /// The last event that was acknowledged when the snapshot was taken. Later ones are in the outbox, so a log of
    /// events that ends before this has lost some that the snapshot cannot bring back.
    pub published: Option<Place>,
    /// The versions of the folds that wrote the entries, in the chain's order.
    pub versions: Vec<FoldVersion>,
    /// The greatest tick that the chain had seen.
    pub at: Time,
    /// Where the chunks stand in the stream, by index.
    pub chunk_sequences: Vec<u64>,
    /// Length and CRC32C of the encoded state.
    pub bytes: u64,
    pub crc32c: u32,
    /// The manifest before this one, as a sequence of the stream.
    pub previous: Option<u64>,
}

/// A place in the chain's input that can be checked against a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct SnapshotPosition {
    /// The identity of the stream.
    pub log_id: String,
    /// 0 when nothing was read.
    pub sequence: u64,
    /// The message id of the record at `sequence`; empty for none, or where that record was lost.
    pub id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct FoldVersion {
    pub fold: String,
    pub version: u32,
}

/// The content of a snapshot, encoded as one and cut into chunks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct SnapshotState {
    /// [`SNAPSHOT_VERSION`] of the writer.
    pub v: u16,
    /// The chain's state, its active configuration in it.
    pub entries: Vec<StateEntry>,
    /// Events committed and not known to be acknowledged, in order.
    pub outbox: Vec<StoredEvent>,
    /// How far each collector was read.
    pub collectors: Vec<CollectorPosition>,
}

/// One entry of a chain's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct StateEntry {
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub key: Vec<u8>,
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub value: Vec<u8>,
}

/// An event on its way into the log, as it will be appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct StoredEvent {
    pub place: Place,
    pub subject: String,
    /// The event's id, which is its message id.
    pub id: String,
    /// The encoded event.
    #[serde(with = "serde_bytes")]
    #[cfg_attr(feature = "json-schema", schemars(with = "Vec<u8>"))]
    pub payload: Vec<u8>,
}

/// The last observation taken from one collector; what is not newer is a duplicate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct CollectorPosition {
    pub collector: String,
    pub incarnation: u64,
    pub number: u64,
    /// Where it stood in the stream.
    pub sequence: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode_versioned, encode};

    fn check(part: SnapshotPart) {
        let record = SnapshotRecord {
            v: SNAPSHOT_VERSION,
            set: "7-0123456789abcdef".into(),
            part,
        };
        let bytes = encode(&record).unwrap();
        let back: SnapshotRecord = decode_versioned(&bytes, "snapshot", SNAPSHOT_VERSION).unwrap();
        assert_eq!(back, record);
    }

    #[test]
    fn a_full_chunk_survives_and_its_record_stays_below_512_kib() {
        let chunk = SnapshotChunk {
            index: 3,
            crc32c: 9,
            data: vec![0xc1; CHUNK_BYTES_MAX],
        };
        let record = SnapshotRecord {
            v: SNAPSHOT_VERSION,
            set: "s".repeat(64),
            part: SnapshotPart::Chunk(chunk.clone()),
        };
        assert!(encode(&record).unwrap().len() <= 512 * 1024);
        check(SnapshotPart::Chunk(chunk));
    }

    #[test]
    fn a_manifest_survives() {
        check(SnapshotPart::Manifest(Box::new(SnapshotManifest {
            site: "cafe-1".into(),
            chain: Chain::Site,
            position: SnapshotPosition {
                log_id: "log".into(),
                sequence: 7,
                id: "cafe-1/ping/1/7".into(),
            },
            published: Some(Place { input: 6, index: 1 }),
            versions: vec![FoldVersion {
                fold: "liveness".into(),
                version: 2,
            }],
            at: Time::from_seconds(3_600),
            chunk_sequences: vec![1, 2],
            bytes: 600_000,
            crc32c: 5,
            previous: None,
        })));
    }
}
