//! The thread that owns a stream: takes what is queued, writes it at once, syncs it for all who wait, answers them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::disk::DirectoryLock;
use crate::prepared::Placed;
use crate::queue::{Queue, Reply, Request};
use crate::stream::StreamStore;
use crate::{LogError, StoredAtClock};

/// How often a stream without appends looks for segments past their age.
const RETAIN_EVERY: Duration = Duration::from_secs(30);

/// How often a stream checks that its files and the log's directory are still where they were. The file that takes records
/// is also checked after each sync, before anything is acknowledged.
const CHECK_EVERY: Duration = Duration::from_secs(2);

pub(crate) struct Writer {
    pub(crate) store: StreamStore,
    /// The directory of the whole log, and its path.
    pub(crate) held: Arc<DirectoryLock>,
    pub(crate) log_dir: PathBuf,
    pub(crate) queue: Arc<Queue>,
    pub(crate) clock: StoredAtClock,
    pub(crate) sync_delay: Duration,
}

/// Written, and answered after the next sync.
type Pending = (Reply, Placed);

impl Writer {
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let _end = QueueEnd(self.queue.clone());
        let mut pending: Vec<Pending> = Vec::new();
        let mut sync_by: Option<Instant> = None;
        let (mut retain_at, mut check_at) = (Instant::now(), Instant::now());
        loop {
            let patience = match sync_by {
                Some(by) => by.saturating_duration_since(Instant::now()),
                None => CHECK_EVERY,
            };
            let work = self.queue.take(sync_by.is_some(), patience);
            self.write(work.requests, &mut pending);
            if sync_by.is_none() && !pending.is_empty() {
                sync_by = Some(Instant::now() + self.sync_delay);
            }
            let is_due = sync_by.is_some_and(|by| by <= Instant::now());
            if is_due || work.hurry || work.closed || !self.store.is_dirty() {
                sync_by = None;
                self.sync(&mut pending);
            }
            if work.closed {
                break;
            }
            if check_at.elapsed() >= CHECK_EVERY {
                check_at = Instant::now();
                self.check();
            }
            if sync_by.is_none() && retain_at.elapsed() >= RETAIN_EVERY {
                retain_at = Instant::now();
                self.retain();
            }
        }
        if let Err(error) = self.store.close() {
            tracing::warn!(%error, "the stream was not closed cleanly; the next open recovers it");
        }
    }

    /// All requests in one write; if that fails none of them is in the log.
    fn write(&mut self, requests: Vec<Request>, pending: &mut Vec<Pending>) {
        if requests.is_empty() {
            return;
        }
        let now = (self.clock)();
        let mut replies = Vec::with_capacity(requests.len());
        let mut parts = Vec::with_capacity(requests.len());
        let mut rooms = Vec::with_capacity(requests.len());
        for request in requests {
            let (part, reply, room) = request.split();
            parts.push(part);
            replies.push(reply);
            rooms.push(room);
        }
        match self.store.append_parts(parts, now) {
            Ok(placed) => pending.extend(replies.into_iter().zip(placed)),
            Err(error) => replies
                .into_iter()
                .for_each(|reply| answer(reply, Err(copy(&error)))),
        }
    }

    fn sync(&mut self, pending: &mut Vec<Pending>) {
        let synced = self.store.sync();
        for (reply, placed) in pending.drain(..) {
            answer(reply, synced.as_ref().map(|()| placed).map_err(copy));
        }
    }

    /// A store that stops says why in the log lines, and to everyone who appends, reads or asks.
    fn check(&mut self) {
        if self.store.has_stopped() {
            return;
        }
        let stopped = match self.held.is_in_place() {
            Ok(false) => Err(self.store.displaced(&self.log_dir)),
            _ => self.store.check_files(),
        };
        drop(stopped);
    }

    fn retain(&mut self) {
        match self.store.retain((self.clock)()) {
            Ok(()) | Err(LogError::Stopped(_)) => {}
            Err(error) => tracing::warn!(%error, "old segments stay until the next try"),
        }
    }
}

/// However the writer ends, nobody waits for it for ever.
struct QueueEnd(Arc<Queue>);

impl Drop for QueueEnd {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn answer(reply: Reply, result: Result<Placed, LogError>) {
    if reply.send(result).is_err() {
        tracing::trace!("an appender did not wait for its answer");
    }
}

/// The same error for each of those who shared a write.
fn copy(error: &LogError) -> LogError {
    match error {
        LogError::Full { path } => LogError::Full { path: path.clone() },
        LogError::Io { action, path, source } => {
            let source = std::io::Error::new(source.kind(), source.to_string());
            LogError::Io {
                action,
                path: path.clone(),
                source,
            }
        }
        LogError::Stopped(why) => LogError::Stopped(why.clone()),
        LogError::TooLarge { bytes, limit } => LogError::TooLarge {
            bytes: *bytes,
            limit: *limit,
        },
        LogError::InvalidMessage { bytes, subject } => LogError::InvalidMessage {
            bytes: *bytes,
            subject: subject.clone(),
        },
        LogError::Locked { path, holder } => LogError::Locked {
            path: path.clone(),
            holder: holder.clone(),
        },
        LogError::Newer { path, found, known } => LogError::Newer {
            path: path.clone(),
            found: *found,
            known: *known,
        },
        LogError::Closed => LogError::Closed,
        // A broker's errors, which no disk has.
        error @ (LogError::Unreachable { .. } | LogError::Refused { .. } | LogError::Mismatch { .. }) => {
            LogError::Stopped(error.to_string())
        }
    }
}
