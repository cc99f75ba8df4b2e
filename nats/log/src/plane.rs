//! The message plane as everyone above it sees it: one trait, whatever carries it.
//!
//! A transport keeps each [`Stream`] in one order, acknowledges an append only once it is synced, shows readers
//! synced records only, and drops an append whose message id it has seen within its duplicate window.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use watchfold_schemas::{MessageId, Stream, Time};

use crate::message::PAYLOAD_BYTES_MAX;

/// A message on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub stream: Stream,
    pub subject: String,
    /// What duplicates are told by.
    pub id: MessageId,
    pub payload: Bytes,
}

/// A message in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts from 1 within its stream, without holes while it is kept.
    pub sequence: u64,
    /// Stamped by the log; never read by folds.
    pub stored_at: Time,
    pub id: MessageId,
    pub subject: String,
    pub payload: Bytes,
}

/// What became of an append. It is durable when the caller sees this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Where it stands; for a duplicate, where the first one stands.
    pub sequence: u64,
    pub duplicate: bool,
}

/// A place in a stream that can be checked: a log that disagrees with it is another log, or lost its tail.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// [`StreamInfo::log_id`] of the stream.
    pub log_id: String,
    /// The last record dealt with; 0 for none.
    pub sequence: u64,
    /// The message id of that record; empty for none.
    pub id: String,
}

/// Where a reader starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first record still kept.
    First,
    /// Records appended after the reader was opened.
    New,
    /// This sequence, or the first kept one after it (then the first batch names the gap).
    Sequence(u64),
    /// The first record stored at or after this time.
    StoredAt(Time),
}

/// What a reader got: records in order, and what it missed before them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Records lost between what was read before and `records`: retention overtook the reader, or damage.
    pub lost: Option<LostRange>,
    pub records: Vec<Record>,
    /// The last synced sequence of the stream when the batch was made; lag is the distance to it.
    pub last_sequence: u64,
}

/// Sequences that a reader asked for and the log no longer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRange {
    pub from: u64,
    pub to: u64,
}

/// A stream at a glance.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StreamInfo {
    /// Made when the stream was made; never reused.
    pub log_id: String,
    /// The first sequence kept; one more than `last_sequence` when empty.
    pub first_sequence: u64,
    /// The last synced sequence; 0 when nothing was ever appended.
    pub last_sequence: u64,
    pub last_stored_at: Option<Time>,
    pub bytes: u64,
    pub segments: u64,
    /// Records dropped because their checksum did not hold, since the log was opened.
    pub damaged: u64,
}

/// Why the log did not take or give a message.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the disk holding {path} is full: free space there; nothing acknowledged was lost")]
    Full { path: String },
    #[error("failed to {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: String,
        source: std::io::Error,
    },
    #[error(
        "{path} belongs to another running process{holder}: stop it, or give this one a --data of its own"
    )]
    Locked { path: String, holder: String },
    #[error("a message of {bytes} bytes is over the limit of {limit}: send fewer rows in one record")]
    TooLarge { bytes: usize, limit: usize },
    #[error("{path} has format {found}; this version reads up to {known}: upgrade to open it")]
    Newer { path: String, found: u16, known: u16 },
    #[error("a message id of {bytes} bytes or a subject that is not made of tokens: {subject:?}")]
    InvalidMessage { bytes: usize, subject: String },
    #[error("the log stopped after an earlier failure ({0}): restart to recover it")]
    Stopped(String),
    #[error("the log is closed")]
    Closed,
    /// Nothing answered in time. What was appended may be in the log or not; appending it again settles that.
    #[error("{place} does not answer ({reason}): {remedy}")]
    Unreachable {
        place: String,
        reason: String,
        remedy: String,
    },
    /// Somebody answered and said no: permissions, credentials, limits of an account.
    #[error("{place} refused to {action} ({reason}): {remedy}")]
    Refused {
        place: String,
        action: String,
        reason: String,
        remedy: String,
    },
    /// What is there is not what this program can work with.
    #[error("{place} has {key} {found} where {wanted} is needed: {remedy}")]
    Mismatch {
        place: String,
        key: &'static str,
        found: String,
        wanted: String,
        remedy: String,
    },
}

/// Records read at a time by [`MessageLog::subjects`] where a transport has no list of its own.
const SUBJECTS_BATCH: usize = 1_024;

/// The message plane.
pub trait MessageLog: Send + Sync + 'static {
    /// Appends in the given order and resolves once all of it is synced, one [`Ack`] for each message. On an error
    /// nothing of it is acknowledged; the same messages may be appended again, their ids tell duplicates.
    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Ack>, LogError>>;

    /// The longest payload that it takes, as far as is known; a broker may be set to less than [`PAYLOAD_BYTES_MAX`].
    fn payload_bytes_max(&self) -> usize {
        PAYLOAD_BYTES_MAX
    }

    /// A reader of one stream; `filter` is a NATS subject filter.
    fn reader(
        &self,
        stream: Stream,
        filter: &str,
        start: Start,
    ) -> BoxFuture<'_, Result<Box<dyn LogReader>, LogError>>;

    fn info(&self, stream: Stream) -> BoxFuture<'_, Result<StreamInfo, LogError>>;

    /// The last sequence of a stream, as an answer to whether the log is there. `None` where it answers and this user may not know.
    fn end(&self, stream: Stream) -> BoxFuture<'_, Result<Option<u64>, LogError>> {
        async move { Ok(Some(self.info(stream).await?.last_sequence)) }.boxed()
    }

    /// The record at `sequence`, if it is kept.
    fn get(&self, stream: Stream, sequence: u64) -> BoxFuture<'_, Result<Option<Record>, LogError>>;

    /// The last record whose subject matches, if one is kept.
    fn last(&self, stream: Stream, filter: &str) -> BoxFuture<'_, Result<Option<Record>, LogError>>;

    /// The matching subjects of which something is kept. It may read the whole stream: for a start, not for a loop.
    fn subjects(&self, stream: Stream, filter: &str) -> BoxFuture<'_, Result<BTreeSet<String>, LogError>> {
        let filter = filter.to_owned();
        async move {
            let mut reader = self.reader(stream, &filter, Start::First).await?;
            let mut subjects = BTreeSet::new();
            loop {
                let batch = reader.try_next(SUBJECTS_BATCH).await?;
                if batch.records.is_empty() && batch.lost.is_none() {
                    return Ok(subjects);
                }
                subjects.extend(batch.records.into_iter().map(|record| record.subject));
            }
        }
        .boxed()
    }

    /// A durable position by name, `None` when it was never saved.
    fn load_position(&self, name: &str) -> BoxFuture<'_, Result<Option<Position>, LogError>>;

    /// Saved and synced when this resolves.
    fn save_position(&self, name: &str, position: Position) -> BoxFuture<'_, Result<(), LogError>>;
}

/// Reads one stream in order. Dropping it costs nothing.
pub trait LogReader: Send {
    /// The next records, at most `max`, waiting until there is at least one (or a loss to tell). Dropping the future
    /// loses nothing.
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>>;

    /// Like [`LogReader::next`], but returns an empty batch when nothing more is synced. A batch of fewer than `max` records is not the end:
    /// over a broker it holds what has arrived so far. Only an empty batch, without a loss, is.
    fn try_next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>>;
}

/// Whether a position agrees with the log: the record there carries the same message id.
pub async fn agrees(log: &dyn MessageLog, stream: Stream, position: &Position) -> Result<bool, LogError> {
    let info = log.info(stream).await?;
    if info.log_id != position.log_id || position.sequence > info.last_sequence {
        return Ok(false);
    }
    if position.sequence == 0 || position.sequence < info.first_sequence {
        return Ok(true);
    }
    Ok(log
        .get(stream, position.sequence)
        .await?
        .is_none_or(|record| record.id.0 == position.id))
}
