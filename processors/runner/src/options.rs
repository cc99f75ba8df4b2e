//! The limits and rhythms of a runner, with their reasons. Production uses the defaults; tests make them small.

use std::time::Duration;

use watchfold_schemas::snapshot::{CHUNK_BYTES_MAX, CHUNKS_MAX};
use watchfold_schemas::{Chain, Span};

use crate::crash::CrashHook;

/// Records per read. Their payloads stand in memory together, so it is small enough for an idle product of 40 MB and
/// large enough that a refold is not spent on reading.
const BATCH_RECORDS: usize = 256;

/// The same for packets: a record holds up to 4,096 of them in about 90 KB, and may hold 1 MiB.
const BATCH_PACKET_RECORDS: usize = 16;

/// An emitted event waits at most this long for others to share its commit.
const EVENT_COMMIT: Duration = Duration::from_millis(5);

/// Input without events is committed this often: what a crash makes fold again.
const IDLE_COMMIT: Duration = Duration::from_secs(1);

/// Windows over packets change with each packet, so they are not stored with every commit but this often; a restart
/// folds again, silently, what came since.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// And after this much input: half of what the stream holds, so that a restart finds all of it, and some seconds of folding
/// however fast packets came.
const CHECKPOINT_BYTES: u64 = PACKETS_BYTES / 2;

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

/// A flood of packets would ask for a snapshot every few seconds. The store has the state; a snapshot is for when that is
/// lost, and one that is older than what the stream holds still knows the rules and the attacks that are open.
const PACKET_SNAPSHOT_DISTANCE: Duration = Duration::from_secs(600);

/// One is overdue after this many distances of this machine's own time, whatever the collectors' clocks say: an hour.
pub(crate) const SNAPSHOT_OVERDUE_DISTANCES: u32 = 6;

/// The largest state of a packet chain in a snapshot: the stream of snapshots is shared with chains whose snapshots are
/// needed for longer.
const PACKET_SNAPSHOT_BYTES_MAX: usize = 32 * 1024 * 1024;

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
    /// The least time between two snapshots.
    pub snapshot_distance: Duration,
    pub snapshot_bytes_max: usize,
    /// How often, and after how much input, state goes into the store; with every commit where there is none.
    pub checkpoint: Option<(Duration, u64)>,
    /// For simulators only.
    pub crash: CrashHook,
}

impl RunnerOptions {
    pub fn for_chain(chain: Chain) -> RunnerOptions {
        let site = RunnerOptions {
            stream_bytes_max: OBSERVATIONS_BYTES,
            batch_records_max: BATCH_RECORDS,
            uncommitted_records_max: UNCOMMITTED_RECORDS,
            outbox_events_max: OUTBOX_EVENTS,
            outbox_bytes_max: OUTBOX_BYTES,
            event_commit: EVENT_COMMIT,
            idle_commit: IDLE_COMMIT,
            snapshot_every: SNAPSHOT_EVERY,
            snapshot_distance: Duration::ZERO,
            snapshot_bytes_max: CHUNKS_MAX * CHUNK_BYTES_MAX,
            checkpoint: None,
            crash: CrashHook::default(),
        };
        match chain {
            Chain::Site => site,
            Chain::Packets => RunnerOptions {
                stream_bytes_max: PACKETS_BYTES,
                batch_records_max: BATCH_PACKET_RECORDS,
                // Without events there is nothing to store but a checkpoint.
                idle_commit: CHECKPOINT_EVERY,
                snapshot_distance: PACKET_SNAPSHOT_DISTANCE,
                snapshot_bytes_max: PACKET_SNAPSHOT_BYTES_MAX,
                checkpoint: Some((CHECKPOINT_EVERY, CHECKPOINT_BYTES)),
                ..site
            },
        }
    }
}
