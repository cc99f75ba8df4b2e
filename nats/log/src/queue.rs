//! What waits for a stream's writer: a queue bounded by bytes, with the word on whether somebody waits for the sync.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::LogError;
use crate::prepared::{Placed, Prepared};

/// Bytes of messages that wait for one stream; more appenders wait for room.
const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that the writer takes at once, so that the first waiting appender does not wait for all later ones.
const COMMIT_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(crate) type Reply = oneshot::Sender<Result<Placed, LogError>>;
pub(crate) type Answer = oneshot::Receiver<Result<Placed, LogError>>;

/// An append on its way to the writer.
pub(crate) struct Request {
    part: Prepared,
    reply: Reply,
    bytes: usize,
    /// Its share of the queue, given back when the writer is done with it.
    room: OwnedSemaphorePermit,
}

impl Request {
    /// The messages, whom to answer, and the room to keep until they are written.
    pub(crate) fn split(self) -> (Prepared, Reply, OwnedSemaphorePermit) {
        (self.part, self.reply, self.room)
    }
}

pub(crate) struct Queue {
    room: Arc<Semaphore>,
    state: Mutex<State>,
    wake: Condvar,
    /// How often an appender had to wait for room.
    waits: AtomicU64,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Request>,
    /// Somebody waits for what was written since the last sync.
    hurry: bool,
    readers_waiting: usize,
    closed: bool,
}

/// What the writer finds when it looks.
pub(crate) struct Work {
    pub(crate) requests: Vec<Request>,
    pub(crate) hurry: bool,
    pub(crate) closed: bool,
}

impl Queue {
    pub(crate) fn new() -> Arc<Queue> {
        let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
        Arc::new(Queue {
            room,
            state: Mutex::default(),
            wake: Condvar::new(),
            waits: AtomicU64::new(0),
        })
    }

    /// Waits for room. With `hurry` the writer syncs at once, otherwise within its delay.
    pub(crate) async fn push(&self, part: Prepared, hurry: bool) -> Result<Answer, LogError> {
        let bytes = part.bytes();
        let share = bytes.min(QUEUE_BYTES_MAX) as u32;
        if self.room.available_permits() < share as usize {
            let waits = self.waits.fetch_add(1, Ordering::Relaxed) + 1;
            // Each time twice as many: enough to be seen, too few to fill another disk.
            if waits.is_power_of_two() {
                tracing::warn!(
                    limit = QUEUE_BYTES_MAX,
                    waits,
                    "appenders wait: the disk is slower than they are"
                );
            }
        }
        let room = self
            .room
            .clone()
            .acquire_many_owned(share)
            .await
            .map_err(|_| LogError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let mut state = self.state();
        if state.closed {
            return Err(LogError::Closed);
        }
        state.hurry |= hurry;
        state.requests.push_back(Request {
            part,
            reply,
            bytes,
            room,
        });
        drop(state);
        self.wake.notify_one();
        Ok(answer)
    }

    /// Somebody waits for what was pushed before.
    pub(crate) fn hurry(&self) {
        self.state().hurry = true;
        self.wake.notify_one();
    }

    /// While the guard lives, appends are synced at once.
    pub(crate) fn reader_waits(self: &Arc<Queue>) -> ReaderWaits {
        self.state().readers_waiting += 1;
        self.wake.notify_one();
        ReaderWaits(self.clone())
    }

    /// Takes no more; what is queued is still served.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.room.close();
        self.wake.notify_one();
    }

    /// Nobody serves it any more: what is left is answered by being dropped.
    pub(crate) fn abandon(&self) {
        self.close();
        self.state().requests.clear();
    }

    /// Waits until there is a request, a hurry about `unsynced` data, or the end of `patience`.
    pub(crate) fn take(&self, unsynced: bool, patience: Duration) -> Work {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        loop {
            let hurry = state.hurry || state.readers_waiting > 0;
            let left = deadline.saturating_duration_since(Instant::now());
            if !state.requests.is_empty() || state.closed || (unsynced && hurry) || left.is_zero() {
                break;
            }
            state = self
                .wake
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let mut requests = Vec::new();
        let mut bytes = 0;
        while let Some(request) = state
            .requests
            .pop_front_if(|next| bytes == 0 || bytes + next.bytes <= COMMIT_BYTES_MAX)
        {
            bytes += request.bytes;
            requests.push(request);
        }
        let hurry = std::mem::take(&mut state.hurry) || state.readers_waiting > 0;
        // Whoever hurries behind the requests taken now keeps hurrying.
        state.hurry = hurry && !state.requests.is_empty();
        Work {
            requests,
            hurry,
            closed: state.closed && state.requests.is_empty(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct ReaderWaits(Arc<Queue>);

impl Drop for ReaderWaits {
    fn drop(&mut self) {
        self.0.state().readers_waiting -= 1;
    }
}
