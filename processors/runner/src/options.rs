//! The limits and rhythms of a runner, with their reasons. Production uses the defaults; tests make them small.

use std::time::Duration;

use watchfold_schemas::{Chain, Span};

use crate::crash::CrashHook;

/// Records per read. Their payloads stand in memory together, so it is small enough for an idle product of 40 MB and
/// large enough that a refold is not spent on reading.
const BATCH_RECORDS: usize = 256;

/// An emitted event waits at most this long for others to share its commit.
const EVENT_COMMIT: Duration = Duration::from_millis(5);

/// Input without events is committed this often: what a crash makes fold again.
const IDLE_COMMIT: Duration = Duration::from_secs(1);

/// Records folded without a commit, whatever the time: bounds one batch of the store during a refold.
const UNCOMMITTED_RECORDS: u64 = 16_384;

/// Events and bytes in the outbox at which no more input is folded.
const OUTBOX_EVENTS: usize = 16_384;
const OUTBOX_BYTES: usize = 8 * 1024 * 1024;

/// A snapshot an hour, by ticks, bounds a rebuild to an hour of input.
const SNAPSHOT_EVERY: Span = Span::from_seconds(3_600);

/// The default byte limits of the streams that chains read.
const OBSERVATIONS_BYTES: u64 = 8 * 1024 * 1024 * 1024;
const PACKETS_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// A snapshot every eighth of the stream, so that a flood does not carry the last one out of reach.
pub(crate) const SNAPSHOTS_PER_STREAM: u64 = 8;

/// How long a stopping runner goes on publishing.
pub(crate) const STOP_WAIT: Duration = Duration::from_secs(2);

/// Distances between attempts to read or to publish, doubling from the first to the last.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(50);
pub(crate) const RETRY_LAST: Duration = Duration::from_secs(5);

/// A snapshot that could not be written is tried again after this.
pub(crate) const SNAPSHOT_RETRY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct RunnerOptions {
    /// The byte limit of the chain's stream, as its retention has it.
    pub stream_bytes_max: u64,
    pub batch_records_max: usize,
    pub uncommitted_records_max: u64,
    pub outbox_events_max: usize,
    pub outbox_bytes_max: usize,
    pub event_commit: Duration,
    pub idle_commit: Duration,
    pub snapshot_every: Span,
    /// For simulators only.
    pub crash: CrashHook,
}

impl RunnerOptions {
    pub fn for_chain(chain: Chain) -> RunnerOptions {
        RunnerOptions {
            stream_bytes_max: match chain {
                Chain::Site => OBSERVATIONS_BYTES,
                Chain::Packets => PACKETS_BYTES,
            },
            batch_records_max: BATCH_RECORDS,
            uncommitted_records_max: UNCOMMITTED_RECORDS,
            outbox_events_max: OUTBOX_EVENTS,
            outbox_bytes_max: OUTBOX_BYTES,
            event_commit: EVENT_COMMIT,
            idle_commit: IDLE_COMMIT,
            snapshot_every: SNAPSHOT_EVERY,
            crash: CrashHook::default(),
        }
    }
}
