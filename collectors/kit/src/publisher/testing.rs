//! A log in memory that a test can break: it refuses, fails or hangs on command.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use watchfold_log::{Ack, Append, LogError, LogReader, MessageLog, Position, Record, Start, StreamInfo};
use watchfold_schemas::{Observation, Origin, Stream, Time, decode_observation, subjects};

pub(crate) struct SwitchLog {
    records: Mutex<Vec<Record>>,
    /// What was asked to be appended, failed or not.
    pub asked: Mutex<Vec<Vec<String>>>,
    pub mode: Mutex<Mode>,
    pub count: watch::Sender<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Takes,
    Full,
    Closed,
    /// Takes the records and then says that it failed.
    LosesAck,
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
        }
    }
}

impl SwitchLog {
    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    pub(crate) fn put(&self, origin: Origin) {
        self.store(&[Append {
            stream: Stream::Observations,
            subject: subjects::observation(&origin.site, "quiet", &origin.collector),
            id: origin.message_id(),
            payload: Default::default(),
        }]);
    }

    pub(crate) fn observations(&self) -> Vec<Observation> {
        self.records
            .lock()
            .unwrap()
            .iter()
            .map(|record| decode_observation(&record.payload).unwrap())
            .collect()
    }

    fn store(&self, messages: &[Append]) -> Vec<Ack> {
        let mut records = self.records.lock().unwrap();
        let mut acks = Vec::new();
        for message in messages {
            let seen: HashSet<_> = records.iter().map(|record| record.id.clone()).collect();
            let duplicate = seen.contains(&message.id);
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
