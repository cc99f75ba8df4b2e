//! How much each stream keeps and how long an append may wait for its sync. Defaults are those of the message plane.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use watchfold_schemas::{Span, Stream, Time};

use crate::{DuplicateWindow, StoredAtClock};

/// The longest that an append nobody waits for may stay unsynced.
pub const SYNC_DELAY_MAX: Duration = Duration::from_millis(50);
/// Segments of a limited stream: retention drops whole ones, so a stream keeps at least three quarters of its limit.
const SEGMENTS_PER_LIMIT: u64 = 4;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
const DAY: Span = Span::from_seconds(24 * 60 * 60);

/// One stream's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Bytes on disk, headers included. The oldest segments go before an append would pass it.
    pub bytes_max: u64,
    /// Records older than this go, once all of their segment are.
    pub age_max: Option<Span>,
    /// A segment is sealed when it holds this many bytes; a single commit may exceed it.
    pub segment_bytes: u64,
    /// A segment is sealed when it is this old.
    pub segment_age: Span,
    /// 0 to [`SYNC_DELAY_MAX`]: how long an append may stay unsynced while neither it nor a reader waits.
    pub sync_delay: Duration,
    pub duplicates: DuplicateWindow,
}

impl StreamOptions {
    pub const fn new(bytes_max: u64, age_max: Option<Span>) -> StreamOptions {
        StreamOptions {
            bytes_max,
            age_max,
            segment_bytes: 64 * MIB,
            segment_age: DAY,
            sync_delay: Duration::from_millis(5),
            duplicates: DuplicateWindow::DEFAULT,
        }
    }

    /// The bytes at which a segment is sealed, so that a small limit still has segments to drop.
    pub(crate) fn segment_bytes_used(&self) -> u64 {
        self.segment_bytes.min(self.bytes_max / SEGMENTS_PER_LIMIT)
    }

    /// The age at which a segment is sealed, likewise.
    pub(crate) fn segment_age_used(&self) -> Span {
        match self.age_max {
            Some(age) => self
                .segment_age
                .min(Span(age.0 / SEGMENTS_PER_LIMIT.cast_signed())),
            None => self.segment_age,
        }
    }
}

/// What a stream keeps by default.
pub const fn default_stream_options(stream: Stream) -> StreamOptions {
    match stream {
        Stream::Packets => StreamOptions::new(2 * GIB, None),
        Stream::Observations => StreamOptions::new(8 * GIB, Some(Span(30 * DAY.0))),
        Stream::Events => StreamOptions::new(8 * GIB, Some(Span(400 * DAY.0))),
        Stream::Commands => StreamOptions::new(256 * MIB, Some(Span(7 * DAY.0))),
        Stream::Snapshots => StreamOptions::new(2 * GIB, Some(Span(400 * DAY.0))),
    }
}

/// A log's options.
#[derive(Clone)]
pub struct Options {
    /// Streams that differ from [`default_stream_options`].
    pub streams: BTreeMap<Stream, StreamOptions>,
    pub clock: StoredAtClock,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            streams: BTreeMap::new(),
            clock: Arc::new(wall_clock),
        }
    }
}

impl Options {
    /// The same limits for every stream.
    pub fn uniform(options: StreamOptions) -> Options {
        let streams = Stream::ALL.into_iter().map(|stream| (stream, options)).collect();
        Options {
            streams,
            ..Options::default()
        }
    }

    pub fn stream(&self, stream: Stream) -> StreamOptions {
        self.streams
            .get(&stream)
            .copied()
            .unwrap_or_else(|| default_stream_options(stream))
    }
}

/// The clock behind `stored_at`, and the only one that this package reads.
#[expect(
    clippy::disallowed_methods,
    reason = "the log stamps `stored_at`; nothing else asks here"
)]
fn wall_clock() -> Time {
    let nanos = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    };
    Time(nanos)
}
