//! The embedded log: a directory of streams that one process owns, each with a writer thread of its own.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use watchfold_schemas::Stream;

use crate::disk::{DirectoryLock, Disk, RealDisk, io_error};
use crate::duplicates::IdHasher;
use crate::frame::LogId;
use crate::options::{Options, SYNC_DELAY_MAX};
use crate::positions::Positions;
use crate::prepared::Prepared;
use crate::queue::{Answer, Queue};
use crate::read::StreamReader;
use crate::stream::StreamStore;
use crate::view::{Damage, View};
use crate::writer::Writer;
use crate::{Ack, Append, Batch, LogError, LogReader, MessageLog, Position, Record, Start, StreamInfo};

/// The directory of named positions, beside the streams'.
pub(crate) const POSITIONS_DIR: &str = "positions";

/// The log in a directory. Dropping it waits for its writers to finish.
pub struct Embedded {
    streams: BTreeMap<Stream, StreamHandle>,
    positions: Arc<Positions>,
    /// Last: the directory is free once nothing writes to it.
    _lock: Arc<DirectoryLock>,
}

struct StreamHandle {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    hasher: IdHasher,
    queue: Arc<Queue>,
    views: watch::Receiver<View>,
    damage: Damage,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// An append that is on its way.
pub struct Submitted {
    queue: Arc<Queue>,
    answer: Answer,
}

impl Submitted {
    /// Has it synced at once, and waits for that.
    pub async fn wait(self) -> Result<Vec<Ack>, LogError> {
        self.queue.hurry();
        placed(self.answer).await
    }
}

/// Waits for the sync, and for what the writer says of it.
async fn placed(answer: Answer) -> Result<Vec<Ack>, LogError> {
    let placed = answer.await.unwrap_or(Err(LogError::Closed))?;
    Ok(placed.acks())
}

impl Embedded {
    /// Opens the log in `dir` or makes one, and recovers what a crash left. Blocks while it reads the ends of the streams.
    pub fn open(dir: &Path, options: Options) -> Result<Arc<Embedded>, LogError> {
        Embedded::open_on(Arc::new(RealDisk), dir, options)
    }

    /// Like [`Embedded::open`], on another disk.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Arc<Embedded>, LogError> {
        disk.create_dir(dir)
            .map_err(|error| io_error("create", dir, error))?;
        let lock = match disk.lock(dir).map_err(|error| io_error("lock", dir, error))? {
            Ok(lock) => Arc::new(lock),
            Err(holder) => {
                return Err(LogError::Locked {
                    path: dir.display().to_string(),
                    holder,
                });
            }
        };
        let positions = Arc::new(Positions::open(disk.clone(), &dir.join(POSITIONS_DIR))?);
        let mut log = Embedded {
            streams: BTreeMap::new(),
            positions,
            _lock: lock.clone(),
        };
        for stream in Stream::ALL {
            let handle = StreamHandle::open(disk.clone(), (dir, &lock), stream, &options)?;
            log.streams.insert(stream, handle);
        }
        Ok(Arc::new(log))
    }

    /// Queues messages of one stream without waiting for their sync, which comes within the stream's `sync_delay`.
    pub async fn submit(&self, stream: Stream, messages: Vec<Append>) -> Result<Submitted, LogError> {
        let handle = self.stream(stream)?;
        if let Some(stray) = messages.iter().find(|message| message.stream != stream) {
            return Err(LogError::InvalidMessage {
                bytes: stray.id.0.len(),
                subject: stray.subject.clone(),
            });
        }
        let part = handle.prepare(messages)?;
        let answer = handle.queue.push(part, false).await?;
        Ok(Submitted {
            queue: handle.queue.clone(),
            answer,
        })
    }

    /// Refuses further appends, and returns once everything taken is synced and the writers have ended. Blocks.
    pub fn close(&self) {
        for handle in self.streams.values() {
            handle.queue.close();
        }
        for (stream, handle) in &self.streams {
            let thread = handle
                .thread
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if thread.is_some_and(|thread| thread.join().is_err()) {
                tracing::error!(%stream, "the stream's writer panicked; the next open recovers it");
            }
        }
    }

    fn stream(&self, stream: Stream) -> Result<&StreamHandle, LogError> {
        self.streams.get(&stream).ok_or(LogError::Closed)
    }

    /// Queues each stream's messages, then waits for all; acks come back in the order of `messages`.
    async fn append_all(&self, messages: Vec<Append>) -> Result<Vec<Ack>, LogError> {
        let Some(first) = messages.first().map(|message| message.stream) else {
            return Ok(Vec::new());
        };
        if messages.iter().all(|message| message.stream == first) {
            let handle = self.stream(first)?;
            let part = handle.prepare(messages)?;
            return placed(handle.queue.push(part, true).await?).await;
        }
        let order: Vec<Stream> = messages.iter().map(|message| message.stream).collect();
        let mut by_stream: BTreeMap<Stream, Vec<Append>> = BTreeMap::new();
        for message in messages {
            by_stream.entry(message.stream).or_default().push(message);
        }
        // All are checked before any is queued.
        let mut parts = Vec::with_capacity(by_stream.len());
        for (stream, messages) in by_stream {
            let handle = self.stream(stream)?;
            parts.push((stream, handle, handle.prepare(messages)?));
        }
        let mut answers = Vec::with_capacity(parts.len());
        for (stream, handle, part) in parts {
            answers.push((stream, handle.queue.push(part, true).await?));
        }
        let mut acks = BTreeMap::new();
        for (stream, answer) in answers {
            acks.insert(stream, placed(answer).await?.into_iter());
        }
        let in_order = order
            .iter()
            .map(|stream| acks.get_mut(stream).and_then(Iterator::next));
        in_order.collect::<Option<Vec<Ack>>>().ok_or(LogError::Closed)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

impl StreamHandle {
    fn open(
        disk: Arc<dyn Disk>,
        (log_dir, held): (&Path, &Arc<DirectoryLock>),
        stream: Stream,
        options: &Options,
    ) -> Result<StreamHandle, LogError> {
        let dir = log_dir.join(stream.name());
        let stream_options = options.stream(stream);
        let store = StreamStore::open(disk.clone(), &dir, stream_options, fresh_log_id())?;
        let (queue, views, damage) = (Queue::new(), store.views(), store.damage());
        let hasher = store.hasher();
        let sync_delay = stream_options.sync_delay.min(SYNC_DELAY_MAX);
        let writer = Writer {
            store,
            held: held.clone(),
            log_dir: log_dir.to_owned(),
            queue: queue.clone(),
            clock: options.clock.clone(),
            sync_delay,
        };
        let thread = std::thread::Builder::new()
            .name(format!("log-{}", stream.name()))
            .spawn(move || writer.run())
            .map_err(|error| io_error("start the writer of", &dir, error))?;
        Ok(StreamHandle {
            disk,
            dir,
            hasher,
            queue,
            views,
            damage,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The messages are dropped here, by the thread that most likely made them.
    fn prepare(&self, messages: Vec<Append>) -> Result<Prepared, LogError> {
        Prepared::new(&self.hasher, &messages)
    }

    fn view(&self) -> View {
        self.views.borrow().clone()
    }

    fn reader(&self, filter: &str) -> StreamReader {
        StreamReader::new(
            self.disk.clone(),
            self.dir.clone(),
            self.damage.clone(),
            filter,
            1,
        )
    }
}

/// Random enough that no two streams ever share one: the standard library's hash keys come from the system's randomness.
fn fresh_log_id() -> LogId {
    let mut log_id = [0; 16];
    for half in log_id.chunks_exact_mut(8) {
        half.copy_from_slice(&RandomState::new().hash_one(std::process::id()).to_le_bytes());
    }
    log_id
}

/// Reading is blocking, so it leaves the threads that serve everyone.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(LogError::Stopped(error.to_string())))
}

impl MessageLog for Embedded {
    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Ack>, LogError>> {
        self.append_all(messages).boxed()
    }

    fn reader(
        &self,
        stream: Stream,
        filter: &str,
        start: Start,
    ) -> BoxFuture<'_, Result<Box<dyn LogReader>, LogError>> {
        let filter = filter.to_owned();
        async move {
            let handle = self.stream(stream)?;
            let (mut reader, view) = (handle.reader(&filter), handle.view());
            let reader = blocking(move || reader.seek(&view, &start).map(|()| reader)).await?;
            let (queue, views) = (handle.queue.clone(), handle.views.clone());
            Ok(Box::new(EmbeddedReader { reader, queue, views }) as Box<dyn LogReader>)
        }
        .boxed()
    }

    /// [`LogError::Stopped`] when any of the streams has stopped: the log as a whole needs to be opened again.
    fn info(&self, stream: Stream) -> BoxFuture<'_, Result<StreamInfo, LogError>> {
        let mut all = self.streams.values();
        let info = all
            .try_for_each(|handle| handle.views.borrow().refuse_if_stopped())
            .and_then(|()| self.stream(stream))
            .map(|handle| handle.view().info(&handle.damage));
        async move { info }.boxed()
    }

    fn get(&self, stream: Stream, sequence: u64) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        async move {
            let handle = self.stream(stream)?;
            let (mut reader, view) = (handle.reader(">"), handle.view());
            blocking(move || reader.get(&view, sequence)).await
        }
        .boxed()
    }

    fn last(&self, stream: Stream, filter: &str) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        let filter = filter.to_owned();
        async move {
            let handle = self.stream(stream)?;
            let (mut reader, view) = (handle.reader(&filter), handle.view());
            blocking(move || reader.last(&view)).await
        }
        .boxed()
    }

    fn load_position(&self, name: &str) -> BoxFuture<'_, Result<Option<Position>, LogError>> {
        let (positions, name) = (self.positions.clone(), name.to_owned());
        blocking(move || positions.load(&name)).boxed()
    }

    fn save_position(&self, name: &str, position: Position) -> BoxFuture<'_, Result<(), LogError>> {
        let (positions, name) = (self.positions.clone(), name.to_owned());
        blocking(move || positions.save(&name, &position)).boxed()
    }
}

struct EmbeddedReader {
    reader: StreamReader,
    queue: Arc<Queue>,
    views: watch::Receiver<View>,
}

impl EmbeddedReader {
    /// Advances only when the batch is handed over, so that a dropped future loses nothing.
    async fn read(&mut self, max: usize) -> Result<Batch, LogError> {
        let view = self.views.borrow_and_update().clone();
        loop {
            if self.reader.next_sequence() >= view.next_sequence {
                return Ok(Batch {
                    last_sequence: view.next_sequence - 1,
                    ..Batch::default()
                });
            }
            let (mut reader, view) = (self.reader.clone(), view.clone());
            let read = move || reader.read(&view, max.max(1)).map(|batch| (reader, batch));
            let (reader, batch) = blocking(read).await?;
            self.reader = reader;
            if !batch.records.is_empty() || batch.lost.is_some() {
                return Ok(batch);
            }
        }
    }
}

impl LogReader for EmbeddedReader {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        async move {
            loop {
                let batch = self.read(max).await?;
                if !batch.records.is_empty() || batch.lost.is_some() {
                    return Ok(batch);
                }
                self.views.borrow().refuse_if_stopped()?;
                let _waits = self.queue.reader_waits();
                if self.views.changed().await.is_err() {
                    return Err(LogError::Closed);
                }
            }
        }
        .boxed()
    }

    fn try_next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        async move { self.read(max).await }.boxed()
    }
}
