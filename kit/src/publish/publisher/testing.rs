//! A log in memory that a test can break: it refuses, fails or hangs on command; and a collector with a spool beside it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use watchfold_log::{Ack, Append, LogError, LogReader, MessageLog, Position, Record, Start, StreamInfo};
use watchfold_schemas::observation::Fault;
use watchfold_schemas::{Body, Observation, Origin, Span, Stream, Time, decode_observation, subjects};

use super::{Publisher, PublisherOptions, Shared};
use crate::publish::clock::{Clock, ManualClock, Stamp};
use crate::{KitError, SpoolOptions};

pub(crate) struct SwitchLog {
    records: Mutex<Vec<Record>>,
    /// What was asked to be appended, failed or not.
    pub asked: Mutex<Vec<Vec<String>>>,
    pub mode: Mutex<Mode>,
    pub count: watch::Sender<usize>,
    /// Stores what it has seen again, as one does whose duplicate window has passed.
    pub forgets: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Takes,
    Full,
    Closed,
    /// Takes the records and then says that it failed.
    LosesAck,
    /// Takes so many of an append and then says that it failed.
    TakesSome(usize),
    /// Takes nothing and never answers.
    Hangs,
    /// Refuses payloads above this many bytes.
    Limit(usize),
}

impl Default for SwitchLog {
    fn default() -> SwitchLog {
        SwitchLog {
            records: Mutex::default(),
            asked: Mutex::default(),
            mode: Mutex::new(Mode::Takes),
            count: watch::Sender::new(0),
            forgets: AtomicBool::new(false),
        }
    }
}

impl SwitchLog {
    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    pub(crate) fn put(&self, origin: Origin) {
        self.put_in(Stream::Observations, origin);
    }

    pub(crate) fn put_in(&self, stream: Stream, origin: Origin) {
        self.store(&[Append {
            stream,
            subject: subjects::of_observation(stream, &origin.site, "quiet", &origin.collector),
            id: origin.message_id(),
            payload: Default::default(),
        }]);
    }

    pub(crate) fn observations(&self) -> Vec<Observation> {
        self.observations_in(&Stream::ALL)
    }

    pub(crate) fn observations_in(&self, streams: &[Stream]) -> Vec<Observation> {
        let is_in = |record: &&Record| {
            subjects::stream_of(&record.subject).is_some_and(|stream| streams.contains(&stream))
        };
        self.records
            .lock()
            .unwrap()
            .iter()
            .filter(is_in)
            .map(|record| decode_observation(&record.payload).unwrap())
            .collect()
    }

    fn store(&self, messages: &[Append]) -> Vec<Ack> {
        let mut records = self.records.lock().unwrap();
        let mut acks = Vec::new();
        for message in messages {
            assert_eq!(
                subjects::stream_of(&message.subject),
                Some(message.stream),
                "{message:?}"
            );
            // A stream knows its own records alone.
            let of_stream = |record: &&Record| subjects::stream_of(&record.subject) == Some(message.stream);
            let seen: HashSet<_> = records
                .iter()
                .filter(of_stream)
                .map(|record| record.id.clone())
                .collect();
            let duplicate = seen.contains(&message.id) && !self.forgets.load(Ordering::Relaxed);
            if !duplicate {
                let sequence = records.len() as u64 + 1;
                records.push(Record {
                    sequence,
                    stored_at: Time::EPOCH,
                    id: message.id.clone(),
                    subject: message.subject.clone(),
                    payload: message.payload.clone(),
                });
            }
            acks.push(Ack {
                sequence: records.len() as u64,
                duplicate,
            });
        }
        self.count.send_replace(records.len());
        acks
    }
}

impl MessageLog for SwitchLog {
    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Ack>, LogError>> {
        self.asked
            .lock()
            .unwrap()
            .push(messages.iter().map(|message| message.id.0.clone()).collect());
        let full = || Err(LogError::Full { path: "/full".into() });
        let mode = *self.mode.lock().unwrap();
        let answer = match mode {
            Mode::Takes => Ok(self.store(&messages)),
            Mode::Full => full(),
            Mode::Closed => Err(LogError::Closed),
            Mode::LosesAck => {
                self.store(&messages);
                full()
            }
            Mode::TakesSome(some) => {
                self.store(&messages[..some.min(messages.len())]);
                full()
            }
            Mode::Hangs => return std::future::pending().boxed(),
            Mode::Limit(limit) => match messages.iter().find(|message| message.payload.len() > limit) {
                Some(message) => Err(LogError::TooLarge {
                    bytes: message.payload.len(),
                    limit,
                }),
                None => Ok(self.store(&messages)),
            },
        };
        async move { answer }.boxed()
    }

    fn reader(&self, _: Stream, _: &str, _: Start) -> BoxFuture<'_, Result<Box<dyn LogReader>, LogError>> {
        async { Err(LogError::Closed) }.boxed()
    }

    fn info(&self, _: Stream) -> BoxFuture<'_, Result<StreamInfo, LogError>> {
        async { Err(LogError::Closed) }.boxed()
    }

    fn get(&self, _: Stream, _: u64) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        async { Ok(None) }.boxed()
    }

    fn last(&self, _: Stream, filter: &str) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        if *self.mode.lock().unwrap() == Mode::Hangs {
            return std::future::pending().boxed();
        }
        let records = self.records.lock().unwrap();
        let found = records
            .iter()
            .rev()
            .find(|record| subjects::matches(filter, &record.subject))
            .cloned();
        async move { Ok(found) }.boxed()
    }

    fn load_position(&self, _: &str) -> BoxFuture<'_, Result<Option<Position>, LogError>> {
        async { Ok(None) }.boxed()
    }

    fn save_position(&self, _: &str, _: Position) -> BoxFuture<'_, Result<(), LogError>> {
        async { Ok(()) }.boxed()
    }
}

pub(crate) const START: Time = Time::from_seconds(1_000);

/// A clock that the test keeps a hand on.
pub(crate) struct Held(pub Arc<ManualClock>);

impl Clock for Held {
    fn wall(&self) -> Time {
        self.0.wall()
    }
    fn monotonic(&self) -> Span {
        self.0.monotonic()
    }
}

/// A log, a clock and a data directory, which outlive the collector's processes.
pub(crate) struct World {
    pub log: Arc<SwitchLog>,
    pub clock: Arc<ManualClock>,
    pub dir: tempfile::TempDir,
    pub bytes_max: u64,
    pub streams: &'static [Stream],
}

impl World {
    pub(crate) fn new(bytes_max: u64) -> World {
        World {
            log: Arc::default(),
            clock: Arc::new(ManualClock::at(START)),
            dir: tempfile::tempdir().unwrap(),
            bytes_max,
            streams: PublisherOptions::default().streams,
        }
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("spool/ping")
    }

    pub(crate) fn spool_options(&self) -> SpoolOptions {
        SpoolOptions {
            directory: self.dir.path().join("spool"),
            bytes_max: self.bytes_max,
        }
    }

    pub(crate) async fn try_open(&self) -> Result<Arc<Publisher>, KitError> {
        let options = PublisherOptions {
            spool: Some(self.spool_options()),
            streams: self.streams,
            queue_records_max: 100,
            queue_bytes_max: 1_000_000,
            clock: Box::new(Held(self.clock.clone())),
        };
        Publisher::open_with(self.log.clone(), "cafe", "ping", self.dir.path(), options).await
    }

    pub(crate) async fn open(&self) -> Arc<Publisher> {
        self.try_open().await.unwrap()
    }

    /// One observation with this name, a millisecond after the last.
    pub(crate) fn submit(&self, publisher: &Publisher, name: &str, bytes: usize) {
        self.clock.advance(Span::from_millis(1));
        let subject = name.to_owned();
        let fault = |stamp: &Stamp| {
            Body::Fault(Fault {
                subject,
                at: stamp.now(),
                reason: "x".repeat(bytes),
                active: true,
            })
        };
        publisher.submit_with(fault).unwrap();
    }

    /// What readers make of the log: numbers seen are dropped.
    pub(crate) fn accepted(&self) -> Vec<Observation> {
        self.accepted_in(&Stream::ALL)
    }

    /// What readers of these streams make of them.
    pub(crate) fn accepted_in(&self, streams: &[Stream]) -> Vec<Observation> {
        let mut last = (0, 0);
        let mut all = self.log.observations_in(streams);
        all.retain(|observation| {
            let place = (observation.origin.incarnation, observation.origin.number);
            let is_new = place > last;
            last = last.max(place);
            is_new
        });
        all
    }

    /// The names of faults, and `gap of N`.
    pub(crate) fn names(&self) -> Vec<String> {
        self.names_in(&Stream::ALL)
    }

    pub(crate) fn names_in(&self, streams: &[Stream]) -> Vec<String> {
        let name = |observation: Observation| match observation.body {
            Body::Fault(fault) => fault.subject,
            Body::Gap(gap) => format!("gap of {}", gap.records),
            Body::Batch(batch) => format!("from {}", batch.first),
            body => body.kind().to_owned(),
        };
        self.accepted_in(streams).into_iter().map(name).collect()
    }
}

/// Waits for a condition that other threads bring about; the runtime's clock may stand still or fly.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited too long: {what}");
}

impl Publisher {
    /// Ends at once, as if the process had been killed.
    pub(crate) async fn kill(self: Arc<Publisher>) {
        let mut publisher = Arc::into_inner(self).expect("the only handle");
        publisher.writer.abort();
        let _ = (&mut publisher.writer).await;
        // The held clock moves only when no blocking work is left, which a killed process would not do either.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// Ends the writer alone, so that a test can take its place.
    pub(crate) async fn stop_writer(&self) -> Arc<Shared> {
        self.writer.abort();
        until("the writer is gone", || self.writer.is_finished()).await;
        Arc::clone(&self.shared)
    }

    /// Ends in order.
    pub(crate) async fn end(self: Arc<Publisher>) {
        let Publisher { _closing, writer, .. } = Arc::into_inner(self).expect("the only handle");
        drop(_closing);
        writer.await.unwrap();
    }
}
