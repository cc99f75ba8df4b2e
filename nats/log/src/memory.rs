//! A [`MessageLog`] in memory, for the tests of everything above the log. Keeps nothing on disk, syncs nothing, and can
//! lose its tail, its front or its temper on request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use watchfold_schemas::subjects::matches;
use watchfold_schemas::{Stream, Time};

use crate::duplicates::{DuplicateWindow, SeenIds};
use crate::{
    Ack, Append, Batch, LogError, LogReader, LostRange, MessageLog, Position, Record, Start, StoredAtClock,
    StreamInfo, check_message,
};

/// Tells the instances of one process apart.
static INSTANCE: AtomicU64 = AtomicU64::new(1);

/// The twin. Cheap to make, shared by `Arc`.
pub struct MemoryLog {
    shared: Arc<Shared>,
    clock: StoredAtClock,
    failing: AtomicBool,
    silent: AtomicBool,
}

struct Shared {
    /// A new one with each log that takes the place of the one before.
    instance: AtomicU64,
    state: Mutex<State>,
    /// Bumped after each change; readers wait on it.
    changes: watch::Sender<u64>,
}

struct State {
    streams: BTreeMap<Stream, StreamState>,
    positions: BTreeMap<String, Position>,
}

struct StreamState {
    /// The sequence of `records[0]`, or of the next record.
    first_sequence: u64,
    records: VecDeque<Record>,
    seen: SeenIds,
}

impl MemoryLog {
    /// A log whose `stored_at` starts at 2026-01-01T00:00:00Z and rises by a millisecond with each append.
    pub fn new() -> Arc<MemoryLog> {
        let now_ms = AtomicI64::new(1_767_225_600_000);
        MemoryLog::with_clock(Arc::new(move || {
            Time::from_millis(now_ms.fetch_add(1, Ordering::Relaxed))
        }))
    }

    pub fn with_clock(clock: StoredAtClock) -> Arc<MemoryLog> {
        MemoryLog::with_window(clock, DuplicateWindow::default())
    }

    pub fn with_window(clock: StoredAtClock, window: DuplicateWindow) -> Arc<MemoryLog> {
        let stream = |stream| {
            (
                stream,
                StreamState {
                    first_sequence: 1,
                    records: VecDeque::new(),
                    seen: SeenIds::new(window),
                },
            )
        };
        let state = State {
            streams: Stream::ALL.map(stream).into(),
            positions: BTreeMap::new(),
        };
        let shared = Shared {
            instance: INSTANCE.fetch_add(1, Ordering::Relaxed).into(),
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
        };
        Arc::new(MemoryLog {
            shared: Arc::new(shared),
            clock,
            failing: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        })
    }

    /// While `failing`, appends and saved positions are refused as if the disk were full.
    pub fn fail_appends(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// While `silent`, it does not tell how its streams stand, though it takes records.
    pub fn fail_info(&self, silent: bool) {
        self.silent.store(silent, Ordering::SeqCst);
    }

    /// Forgets the oldest `count` records, as retention does.
    pub fn truncate_front(&self, stream: Stream, count: usize) {
        self.change(stream, |state| {
            let count = count.min(state.records.len());
            state.records.drain(..count);
            state.first_sequence += count as u64;
        });
    }

    /// Loses the newest `count` records as a broker does that acknowledged before it synced: their sequences are given
    /// out again, so that positions beyond the loss no longer agree.
    pub fn truncate_tail(&self, stream: Stream, count: usize) {
        self.change(stream, |state| {
            let kept = state.records.len().saturating_sub(count);
            state.records.truncate(kept);
            state.seen.forget_from(state.next_sequence());
        });
    }

    /// Begins a new, empty log in its place, as a broker does whose store was wiped. Readers end with
    /// [`LogError::Stopped`].
    pub fn replace(&self) {
        let mut state = self.shared.state();
        for stream in state.streams.values_mut() {
            stream.records.clear();
            stream.seen.forget_from(0);
            stream.first_sequence = 1;
        }
        state.positions.clear();
        let next = INSTANCE.fetch_add(1, Ordering::Relaxed);
        self.shared.instance.store(next, Ordering::SeqCst);
        drop(state);
        self.shared.changes.send_modify(|version| *version += 1);
    }

    /// Everything kept of one stream, in order.
    pub fn records(&self, stream: Stream) -> Vec<Record> {
        self.shared
            .state()
            .streams
            .get(&stream)
            .map_or_else(Vec::new, |state| state.records.iter().cloned().collect())
    }

    fn change(&self, stream: Stream, change: impl FnOnce(&mut StreamState)) {
        if let Some(state) = self.shared.state().streams.get_mut(&stream) {
            change(state);
        }
        self.shared.changes.send_modify(|version| *version += 1);
    }

    fn refuse_if_failing(&self) -> Result<(), LogError> {
        if self.failing.load(Ordering::SeqCst) {
            return Err(LogError::Full {
                path: "memory".into(),
            });
        }
        Ok(())
    }

    fn append_now(&self, messages: Vec<Append>) -> Result<Vec<Ack>, LogError> {
        messages.iter().try_for_each(check_message)?;
        self.refuse_if_failing()?;
        let mut acks = Vec::with_capacity(messages.len());
        let mut state = self.shared.state();
        for message in messages {
            let Some(stream) = state.streams.get_mut(&message.stream) else {
                return Err(LogError::Closed);
            };
            acks.push(stream.append(message, (self.clock)()));
        }
        drop(state);
        self.shared.changes.send_modify(|version| *version += 1);
        Ok(acks)
    }
}

impl Shared {
    /// A panic elsewhere leaves whole records behind, so the state stays usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, stream: Stream, look: impl FnOnce(&StreamState) -> T) -> Result<T, LogError> {
        self.state()
            .streams
            .get(&stream)
            .map(look)
            .ok_or(LogError::Closed)
    }
}

impl StreamState {
    fn next_sequence(&self) -> u64 {
        self.first_sequence + self.records.len() as u64
    }

    fn append(&mut self, message: Append, stored_at: Time) -> Ack {
        let hash = self.seen.hash(&message.id.0);
        if let Some(sequence) = self.seen.place(hash) {
            return Ack {
                sequence,
                duplicate: true,
            };
        }
        let sequence = self.next_sequence();
        self.seen.insert(hash, sequence, stored_at);
        let Append {
            id, subject, payload, ..
        } = message;
        self.records.push_back(Record {
            sequence,
            stored_at,
            id,
            subject,
            payload,
        });
        Ack {
            sequence,
            duplicate: false,
        }
    }

    fn get(&self, sequence: u64) -> Option<&Record> {
        let index = sequence.checked_sub(self.first_sequence)?;
        self.records.get(usize::try_from(index).ok()?)
    }

    fn start(&self, start: &Start) -> u64 {
        match start {
            Start::First => self.first_sequence,
            Start::New => self.next_sequence(),
            Start::Sequence(sequence) => (*sequence).max(1),
            Start::StoredAt(time) => self
                .records
                .iter()
                .find(|record| record.stored_at >= *time)
                .map_or(self.next_sequence(), |record| record.sequence),
        }
    }

    /// What a reader at `next` with `filter` gets, and where it stands then.
    fn read(&self, next: u64, filter: &str, max: usize) -> (Batch, u64) {
        let last_sequence = self.next_sequence() - 1;
        let lost = (next < self.first_sequence).then(|| LostRange {
            from: next,
            to: self.first_sequence - 1,
        });
        let mut next = next.max(self.first_sequence);
        let mut records = Vec::new();
        while let Some(record) = self.get(next).filter(|_| records.len() < max) {
            if matches(filter, &record.subject) {
                records.push(record.clone());
            }
            next += 1;
        }
        (
            Batch {
                lost,
                records,
                last_sequence,
            },
            next,
        )
    }
}

impl MessageLog for MemoryLog {
    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Ack>, LogError>> {
        async move { self.append_now(messages) }.boxed()
    }

    fn reader(
        &self,
        stream: Stream,
        filter: &str,
        start: Start,
    ) -> BoxFuture<'_, Result<Box<dyn LogReader>, LogError>> {
        let filter = filter.to_owned();
        async move {
            let next = self.shared.with(stream, |state| state.start(&start))?;
            let changes = self.shared.changes.subscribe();
            let shared = self.shared.clone();
            Ok(Box::new(MemoryReader {
                instance: shared.instance.load(Ordering::SeqCst),
                shared,
                stream,
                filter,
                next,
                changes,
            }) as Box<dyn LogReader>)
        }
        .boxed()
    }

    fn info(&self, stream: Stream) -> BoxFuture<'_, Result<StreamInfo, LogError>> {
        let info = self.shared.with(stream, |state| StreamInfo {
            log_id: format!("memory-{}-{stream}", self.shared.instance.load(Ordering::SeqCst)),
            first_sequence: state.first_sequence,
            last_sequence: state.next_sequence() - 1,
            last_stored_at: state.records.back().map(|record| record.stored_at),
            bytes: state
                .records
                .iter()
                .map(|record| record.payload.len() as u64)
                .sum(),
            segments: 1,
            damaged: 0,
        });
        let silent = self.silent.load(Ordering::SeqCst);
        async move {
            match silent {
                true => Err(LogError::Unreachable {
                    place: "memory".to_owned(),
                    reason: "asked to".to_owned(),
                    remedy: "ask again".to_owned(),
                }),
                false => info,
            }
        }
        .boxed()
    }

    fn get(&self, stream: Stream, sequence: u64) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        let record = self.shared.with(stream, |state| state.get(sequence).cloned());
        async move { record }.boxed()
    }

    fn last(&self, stream: Stream, filter: &str) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        let record = self.shared.with(stream, |state| {
            state
                .records
                .iter()
                .rev()
                .find(|record| matches(filter, &record.subject))
                .cloned()
        });
        async move { record }.boxed()
    }

    fn load_position(&self, name: &str) -> BoxFuture<'_, Result<Option<Position>, LogError>> {
        let position = self.shared.state().positions.get(name).cloned();
        async move { Ok(position) }.boxed()
    }

    fn save_position(&self, name: &str, position: Position) -> BoxFuture<'_, Result<(), LogError>> {
        let name = name.to_owned();
        async move {
            self.refuse_if_failing()?;
            self.shared.state().positions.insert(name, position);
            Ok(())
        }
        .boxed()
    }
}

struct MemoryReader {
    shared: Arc<Shared>,
    instance: u64,
    stream: Stream,
    filter: String,
    next: u64,
    changes: watch::Receiver<u64>,
}

impl MemoryReader {
    fn read(&mut self, max: usize) -> Result<Batch, LogError> {
        if self.shared.instance.load(Ordering::SeqCst) != self.instance {
            return Err(LogError::Stopped(format!("{} was made anew", self.stream)));
        }
        let (batch, next) = self.shared.with(self.stream, |state| {
            state.read(self.next, &self.filter, max.max(1))
        })?;
        self.next = next;
        Ok(batch)
    }
}

impl LogReader for MemoryReader {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        async move {
            loop {
                self.changes.borrow_and_update();
                let batch = self.read(max)?;
                if !batch.records.is_empty() || batch.lost.is_some() {
                    return Ok(batch);
                }
                if self.changes.changed().await.is_err() {
                    return Err(LogError::Closed);
                }
            }
        }
        .boxed()
    }

    fn try_next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        async move { self.read(max) }.boxed()
    }
}
