//! The recording: a piece of a log in one portable file, format version 1.
//!
//! ```text
//! preamble   magic 8 B · format version u16 · 0 u16 · header length u32 · header CRC32C u32 · header (MessagePack)
//! frame      header 92 B · content, compressed with LZ4 where that makes it smaller
//! …          snapshots of the sites' chains, and batches of records in the order of the log
//! frame      the index of the frames
//! trailer    offset of the index u64 · magic 8 B
//! ```
//!
//! Numbers are little endian. Each frame's header and content have a CRC32C, and each frame holds the SHA-256 of the hash before it
//! and its own header and content; the first hashes the preamble. So a frame that was changed, left out, added or moved is
//! found, and the last hash stands for the whole file. The index and the trailer end a recording that was finished; a file
//! without them is still being written, or was cut off, and is read by walking its frames.
//!
//! Nothing here knows what a record means.

mod frame;
mod reader;
mod writer;

use serde::{Deserialize, Serialize};
use watchfold_schemas::observation::Activation;
use watchfold_schemas::snapshot::{CollectorPosition, FoldVersion, StateEntry};
use watchfold_schemas::{Body, Chain, Stream, Time};

pub use reader::{Ending, Frame, FrameContent, Reader};
pub use writer::{Finished, Writer};

/// The version of everything in the file; see `docs/formats.md` for the rule of change.
pub const FORMAT_VERSION: u16 = 1;

/// The extension that the command suggests; nothing depends on it.
pub const EXTENSION: &str = "wfrec";

/// Content before compression at which a frame is closed: large enough to compress well, small enough that a reader of a file
/// that grows sees it soon and that damage takes little with it.
pub const BLOCK_BYTES: usize = 256 * 1024;

/// Content of records between two sets of snapshots: folding as much to reach a moment takes less than half a second.
pub const SNAPSHOT_EVERY_BYTES: u64 = 32 * 1024 * 1024;

/// And no less than so many times what the last set took, so that the snapshots of many sites do not outweigh their records.
const SNAPSHOT_DISTANCE: u64 = 4;

/// The most content of a frame, before and after compression: a snapshot is one frame, and the largest snapshot of a
/// chain is 255 MiB.
pub const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The most bytes of the header in the preamble: a configuration for each of thousands of sites.
pub const HEADER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Entries of the index at which it begins to leave out frames of records: encoded they take some 32 MiB, and 64 GiB of full frames come
/// before that.
const INDEX_ENTRIES_MAX: usize = 262_144;

/// What a sink did: the only kind that no chain looks at.
const KIND_WITHOUT_CONSEQUENCE: &str = "receipt";

const MAGIC: &[u8; 8] = b"\x89WFREC\r\n";
const END_MAGIC: &[u8; 8] = b"WFREC\x1aND";

/// What a recording is of.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT_VERSION`] of the writer.
    pub v: u16,
    /// The version of the software that wrote it.
    pub software: String,
    /// The sites that have records in the span.
    pub sites: Vec<String>,
    /// The span asked for, by `stored_at`: from included, to not; `None` is open.
    pub from: Option<Time>,
    pub to: Option<Time>,
    /// The streams held, `WF_OBS` say.
    pub streams: Vec<String>,
    /// The configuration in force at the start, for each site that had one.
    pub activations: Vec<ActivationInForce>,
    /// How each site begins.
    pub beginnings: Vec<Beginning>,
    /// The kinds of observation that were recorded, `ping_round` say; none named means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
}

impl Header {
    /// Whether it holds every kind that chains look at: only then what followed can be derived of it.
    pub fn is_basis(&self) -> bool {
        let mut needed = Body::KINDS
            .iter()
            .filter(|kind| **kind != KIND_WITHOUT_CONSEQUENCE);
        self.kinds.is_empty() || needed.all(|kind| self.kinds.iter().any(|held| held == kind))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationInForce {
    pub site: String,
    pub activation: Activation,
}

/// What is known about a site before its first record in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    pub site: String,
    pub state: BeginningState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeginningState {
    /// There is nothing before its first record.
    Empty,
    /// A snapshot stands before the first record, folded from everything before.
    Snapshot,
    /// A snapshot stands before the first record, folded from this sequence on: the log held nothing earlier any more.
    LeadIn { from_sequence: u64 },
    /// There is no snapshot, and the log held nothing earlier any more.
    Cut,
}

/// The state of one of a site's chains after a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSnapshot {
    pub site: String,
    #[serde(default = "site_chain")]
    pub chain: Chain,
    /// The last record that is in it, as a sequence of the stream that the chain reads; 0 for none.
    pub sequence: u64,
    /// The versions of the folds that wrote the entries.
    pub versions: Vec<FoldVersion>,
    pub entries: Vec<StateEntry>,
    /// How far each collector was read.
    pub collectors: Vec<CollectorPosition>,
}

/// Before there were two, a recording held the state of one chain.
const fn site_chain() -> Chain {
    Chain::Site
}

/// One thing in a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    Record(StoredRecord),
    /// Sequences of a stream that the log no longer had when it was recorded.
    Lost {
        from: u64,
        to: u64,
        #[serde(default = "of_observations")]
        stream: RecordStream,
    },
}

const fn of_observations() -> RecordStream {
    RecordStream::Observations
}

/// A record as it stood in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRecord {
    pub stream: RecordStream,
    pub sequence: u64,
    pub stored_at: Time,
    pub id: String,
    pub subject: String,
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}

/// The streams that a recording can hold. Closed; append at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordStream {
    #[serde(rename = "WF_OBS")]
    Observations,
    #[serde(rename = "WF_EVT")]
    Events,
    #[serde(rename = "WF_PKT")]
    Packets,
}

impl RecordStream {
    pub const fn stream(self) -> Stream {
        match self {
            RecordStream::Observations => Stream::Observations,
            RecordStream::Events => Stream::Events,
            RecordStream::Packets => Stream::Packets,
        }
    }

    pub const fn of(stream: Stream) -> Option<RecordStream> {
        match stream {
            Stream::Observations => Some(RecordStream::Observations),
            Stream::Events => Some(RecordStream::Events),
            Stream::Packets => Some(RecordStream::Packets),
            Stream::Commands | Stream::Snapshots => None,
        }
    }

    /// Whether a chain reads it.
    pub const fn is_input(self) -> bool {
        matches!(self, RecordStream::Observations | RecordStream::Packets)
    }
}

/// One frame in the index. In that of a very long recording it stands for the frames of records before it, too, that have no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    pub offset: u64,
    pub kind: FrameKind,
    /// Of `WF_OBS`; both 0 in a frame without any of its records.
    pub first_sequence: u64,
    pub last_sequence: u64,
    /// Of whatever is in it.
    pub first_stored_at: Time,
    pub last_stored_at: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// The state of one site's chain; several stand together where there are several sites.
    Snapshot,
    Records,
    Index,
}

/// Why a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("this is not a recording")]
    NotARecording,
    #[error("a recording of format {found}; this version reads up to {known}: upgrade to read it")]
    Newer { found: u16, known: u16 },
    #[error("the beginning of the recording is damaged: {0}")]
    Header(String),
    #[error("the frame at byte {offset} is damaged ({reason}); what follows can be read")]
    Damaged { offset: u64, reason: String },
    #[error(
        "the frame at byte {offset} does not follow the one before it: a frame was changed, left out or moved"
    )]
    Unchained { offset: u64 },
    #[error(
        "{bytes} bytes in one frame, over the limit of {FRAME_BYTES_MAX}: the state of this site cannot be recorded"
    )]
    TooLarge { bytes: usize },
    #[error("failed to encode: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
