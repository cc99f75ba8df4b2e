//! The message plane's trait over a broker's streams.
//!
//! On `WF_OBS`, `WF_PKT` and `WF_CMD` an append awaits each acknowledgement before it sends the next message, so that
//! no retry can reorder what one publisher sent. On `WF_EVT` and `WF_SNAP` it sends ahead, because their readers
//! tolerate a message that comes late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::Info;
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use watchfold_log::{
    Ack, Append, Leases, LogError, LogReader, MESSAGE_ID_BYTES_MAX, MessageLog, PAYLOAD_BYTES_MAX, Position,
    Record, Start, StreamInfo,
};
use watchfold_schemas::Stream;
use watchfold_schemas::subjects::stream_filter;

use crate::JetStreamOptions;
use crate::absent::Absent;
use crate::bucket::{Bucket, key_of};
use crate::failure::Failure;
use crate::ids::{IdKey, is_marked};
use crate::leases::{BrokerLeases, check_name};
use crate::link::{Link, is_missing_stream};
use crate::reader::Reader;
use crate::record::{self, Got, ID_HEADER};
use crate::sending::{HEAD_BYTES, PubAck, ahead_max, check, weight, windows};
use crate::streams;

/// Bytes that all appenders together have on their way; the others wait. As of the embedded log.
const WAITING_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// How long closing waits for leases to be given back; those that are not run out by themselves.
const CLOSE_MAX: Duration = Duration::from_secs(2);

const POSITIONS: Bucket = Bucket {
    name: "WF_POS",
    ttl: None,
    description: "Watchfold: how far readers have read",
};

/// A broker's streams as a log. Cheap to share.
pub struct JetStream {
    shared: Arc<Shared>,
}

/// What the log, its readers and its leases have in common.
pub(crate) struct Shared {
    pub(crate) link: Link,
    /// Streams that are known to be there and right.
    checked: BTreeMap<Stream, AtomicBool>,
    waiting: Semaphore,
    /// Made by the first append that needs it.
    id_key: OnceCell<IdKey>,
    /// The connection in which this user was refused to look at a stream; 0 before.
    blind: BTreeMap<Stream, AtomicU64>,
    /// Those who renew leases and give them back.
    pub(crate) keepers: TaskTracker,
}

impl JetStream {
    /// Returns at once and connects in the background, for ever. Must be called within a runtime.
    pub fn start(options: JetStreamOptions) -> Arc<JetStream> {
        let shared = Shared {
            link: Link::start(options),
            checked: Stream::ALL.map(|stream| (stream, AtomicBool::new(false))).into(),
            waiting: Semaphore::new(WAITING_BYTES_MAX as usize),
            id_key: OnceCell::new(),
            blind: Stream::ALL.map(|stream| (stream, AtomicU64::new(0))).into(),
            keepers: TaskTracker::new(),
        };
        Arc::new(JetStream {
            shared: Arc::new(shared),
        })
    }

    /// Waits until the broker answers and its streams are there and right.
    pub async fn ready(&self, within: Duration) -> Result<(), LogError> {
        let deadline = Instant::now() + within;
        let shared = &self.shared;
        for stream in Stream::ALL {
            shared
                .link
                .until(deadline, |client| async move {
                    shared.is_there(&client, stream).await
                })
                .await?;
        }
        Ok(())
    }

    /// Leases by name, for the processes that share this broker.
    pub fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(BrokerLeases::new(self.shared.clone()))
    }

    /// Returns once the leases that were dropped are given back and everything sent is on its way, or 2 s later. Appends
    /// need no closing: each returns when the broker has it.
    pub async fn close(&self) {
        let shared = &self.shared;
        shared.keepers.close();
        let given_back = async {
            shared.keepers.wait().await;
            if shared.link.trouble().is_none() {
                return shared.link.connected().await.flush().await;
            }
            Ok(())
        };
        match timeout(CLOSE_MAX, given_back).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection did not take everything at the end"),
            Err(_) => tracing::debug!("leases were not given back in time; they run out by themselves"),
        }
    }

    /// The name of the server that leads a stream, where servers keep it together.
    pub async fn leader(&self, stream: Stream) -> Result<Option<String>, LogError> {
        let shared = &self.shared;
        let info = shared.info(stream).await?;
        Ok(info.cluster.and_then(|cluster| cluster.leader))
    }

    /// For health pages: why nothing gets through just now, `None` while there is a connection.
    pub fn trouble(&self) -> Option<String> {
        self.shared.link.trouble()
    }

    /// For people, without secrets.
    pub fn place(&self) -> &str {
        self.shared.link.place()
    }
}

impl Shared {
    /// Sees once that a stream is there and right. A user who may not ask trusts whoever made it.
    pub(crate) async fn check(&self, client: &Client, stream: Stream) -> Result<(), Failure> {
        let checked = self.checked.get(&stream);
        if checked.is_some_and(|checked| checked.load(Ordering::Acquire)) {
            return Ok(());
        }
        match streams::ensure(&self.link, client, stream).await {
            Ok(_) => {}
            Err(Failure::Denied(error)) => {
                tracing::debug!(stream = stream.name(), %error, "may not look at a stream; taking it as it is");
                self.note_blind(stream);
            }
            Err(failure) => return Err(failure),
        }
        if let Some(checked) = checked {
            checked.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Whether the stream is there. One that is missing is made, unless the log is opened for reading alone.
    async fn is_there(&self, client: &Client, stream: Stream) -> Result<bool, Failure> {
        match self.check(client, stream).await {
            Ok(()) => Ok(true),
            Err(Failure::NotMade) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Whether there is nothing to ask of a stream, because it is missing and is not to be made.
    pub(crate) async fn is_absent(&self, stream: Stream) -> Result<bool, LogError> {
        if !self.link.options.read_only {
            return Ok(false);
        }
        let asked = self
            .link
            .patiently(|client| async move { self.is_there(&client, stream).await });
        Ok(!asked.await?)
    }

    /// The stream is not where it was: look again before the next attempt.
    pub(crate) fn forget(&self, stream: Stream) {
        if let Some(checked) = self.checked.get(&stream) {
            checked.store(false, Ordering::Release);
        }
    }

    /// What the broker says of a stream that is there.
    pub(crate) async fn look(&self, client: &Client, stream: Stream) -> Result<Info, Failure> {
        self.check(client, stream).await?;
        let info = streams::info(&self.link, client, stream).await;
        if matches!(info, Err(Failure::NobodyThere)) {
            self.forget(stream);
        }
        info
    }

    /// Where a stream ends, `None` for a user who may not ask: then an answer is a connection that stands. The broker is not asked again in
    /// that connection, because it logs each refusal.
    async fn end(&self, client: &Client, stream: Stream) -> Result<Option<u64>, Failure> {
        self.check(client, stream).await?;
        let refused_in = self.blind.get(&stream).map(|blind| blind.load(Ordering::Acquire));
        if refused_in == Some(self.link.connection()) {
            return Ok(None);
        }
        match self.look(client, stream).await {
            Ok(info) => Ok(Some(info.state.last_sequence)),
            Err(Failure::Denied(_)) => {
                self.note_blind(stream);
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    fn note_blind(&self, stream: Stream) {
        if let Some(blind) = self.blind.get(&stream) {
            blind.store(self.link.connection(), Ordering::Release);
        }
    }

    /// What the broker is given for the id of `message`.
    async fn id_header(&self, message: &Append) -> Result<String, Failure> {
        if !is_marked(message.stream) {
            return Ok(message.id.0.clone());
        }
        let derived = || async {
            let options = self.link.options.clone();
            tokio::task::spawn_blocking(move || IdKey::derive(&options)).await
        };
        let key = self.id_key.get_or_try_init(derived).await;
        let key = key.map_err(|error| Failure::Again(format!("no key for message ids: {error}")))?;
        Ok(key.header_of(message))
    }

    /// One stored message, by what `STREAM.MSG.GET` takes. Asked of the leader, which has all that was acknowledged.
    pub(crate) async fn fetch(
        &self,
        client: &Client,
        stream: Stream,
        which: &Value,
    ) -> Result<Option<Record>, Failure> {
        self.check(client, stream).await?;
        let what = format!("STREAM.MSG.GET.{}", stream.name());
        match self.link.api::<Got>(client, &what, which).await? {
            Ok(got) => match record::of_raw(stream, got.message) {
                Some(record) => Ok(Some(record)),
                None => Err(Failure::Again("a stored message that cannot be read".to_owned())),
            },
            Err(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            Err(error) if is_missing_stream(&error) => {
                self.forget(stream);
                Err(Failure::NobodyThere)
            }
            Err(error) => Err(Failure::Final(
                self.link.refused(&format!("read {}", stream.name()), &error),
            )),
        }
    }

    /// [`Shared::look`] with its retries.
    pub(crate) async fn info(&self, stream: Stream) -> Result<Info, LogError> {
        self.link
            .patiently(|client| async move { self.look(&client, stream).await })
            .await
    }

    /// [`Shared::fetch`] with its retries.
    pub(crate) async fn find(&self, stream: Stream, which: &Value) -> Result<Option<Record>, LogError> {
        self.link
            .patiently(|client| async move { self.fetch(&client, stream, which).await })
            .await
    }

    async fn append(&self, messages: Vec<Append>) -> Result<Vec<Ack>, LogError> {
        if self.link.options.read_only {
            return Err(self.link.opened_for_reading());
        }
        messages.iter().try_for_each(check)?;
        let mut acks = vec![None; messages.len()];
        for stream in Stream::ALL {
            let numbered: Vec<(usize, &Append)> = messages
                .iter()
                .enumerate()
                .filter(|(_, message)| message.stream == stream)
                .collect();
            for window in windows(&numbered, ahead_max(stream)) {
                let bytes = window.iter().map(|(_, message)| weight(message)).sum();
                let _permit = self.permit(bytes).await?;
                let sent = try_join_all(window.iter().map(|(_, message)| self.publish(message))).await?;
                for ((index, _), ack) in window.iter().zip(sent) {
                    if let Some(place) = acks.get_mut(*index) {
                        *place = Some(ack);
                    }
                }
            }
        }
        Ok(acks.into_iter().flatten().collect())
    }

    /// Waits until so many bytes may be on their way.
    async fn permit(&self, bytes: usize) -> Result<SemaphorePermit<'_>, LogError> {
        let wanted = u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .clamp(1, WAITING_BYTES_MAX);
        if let Ok(permit) = self.waiting.try_acquire_many(wanted) {
            return Ok(permit);
        }
        tracing::warn!(
            limit = WAITING_BYTES_MAX,
            place = self.link.place(),
            "appenders wait: so many bytes are on their way to the broker"
        );
        self.waiting
            .acquire_many(wanted)
            .await
            .map_err(|_| LogError::Closed)
    }

    /// Until the broker has it.
    async fn publish(&self, message: &Append) -> Result<Ack, LogError> {
        self.link
            .patiently(|client| async move { self.publish_once(&client, message).await })
            .await
    }

    async fn publish_once(&self, client: &Client, message: &Append) -> Result<Ack, Failure> {
        let (stream, link) = (message.stream, &self.link);
        self.check(client, stream).await?;
        let bytes = weight(message);
        if let Some(limit) = link.payload_max().filter(|limit| bytes > *limit) {
            return Err(Failure::Final(LogError::TooLarge { bytes, limit }));
        }
        let mut headers = HeaderMap::new();
        headers.insert(ID_HEADER, self.id_header(message).await?);
        let answer = link
            .request(client, &message.subject, Some(headers), message.payload.clone())
            .await;
        let answer = match answer {
            Err(Failure::NobodyThere) => {
                self.forget(stream);
                return Err(Failure::NobodyThere);
            }
            other => other?,
        };
        let action = format!("append to {}", stream.name());
        match PubAck::read(link, &action, &answer.payload)? {
            Ok(ack) if ack.stream != stream.name() => Err(Failure::Final(LogError::Mismatch {
                place: format!("{} on {}", message.subject, link.place()),
                key: "stream",
                found: ack.stream,
                wanted: stream.name().to_owned(),
                remedy: "two streams take this subject: take it from the other with `nats stream edit`"
                    .to_owned(),
            })),
            // The first one is still on its way through the cluster.
            Ok(ack) if ack.seq == 0 => Err(Failure::Again("the message has no place yet".to_owned())),
            Ok(ack) => Ok(Ack {
                sequence: ack.seq,
                duplicate: ack.duplicate,
            }),
            Err(error) if error.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
                let limit = self
                    .look(client, stream)
                    .await
                    .map_or(0, |info| info.config.max_message_size);
                Err(Failure::Final(LogError::TooLarge {
                    bytes,
                    limit: usize::try_from(limit).unwrap_or(0),
                }))
            }
            Err(error) => Err(Failure::Final(link.refused(&action, &error))),
        }
    }
}

/// A filter as the broker takes it: one that asks for everything asks for everything of the stream.
pub(crate) fn filter_in(stream: Stream, filter: &str) -> String {
    if filter == ">" {
        stream_filter(stream)
    } else {
        filter.to_owned()
    }
}

impl MessageLog for JetStream {
    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Ack>, LogError>> {
        self.shared.append(messages).boxed()
    }

    fn payload_bytes_max(&self) -> usize {
        let with_head = self.shared.link.payload_max().unwrap_or(usize::MAX);
        with_head
            .saturating_sub(MESSAGE_ID_BYTES_MAX + HEAD_BYTES)
            .min(PAYLOAD_BYTES_MAX)
    }

    fn reader(
        &self,
        stream: Stream,
        filter: &str,
        start: Start,
    ) -> BoxFuture<'_, Result<Box<dyn LogReader>, LogError>> {
        let filter = filter_in(stream, filter);
        async move {
            if self.shared.is_absent(stream).await? {
                return Ok(
                    Box::new(Absent::new(self.shared.clone(), stream, filter, start)) as Box<dyn LogReader>
                );
            }
            let reader = Reader::open(self.shared.clone(), stream, filter, start).await?;
            Ok(Box::new(reader) as Box<dyn LogReader>)
        }
        .boxed()
    }

    fn info(&self, stream: Stream) -> BoxFuture<'_, Result<StreamInfo, LogError>> {
        let shared = &self.shared;
        async move {
            if shared.is_absent(stream).await? {
                return Ok(streams::absent(stream));
            }
            let info = shared.info(stream).await?;
            Ok(streams::glance(&info))
        }
        .boxed()
    }

    fn end(&self, stream: Stream) -> BoxFuture<'_, Result<Option<u64>, LogError>> {
        let shared = &self.shared;
        async move {
            let asked = shared
                .link
                .patiently(|client| async move { shared.end(&client, stream).await });
            asked.await
        }
        .boxed()
    }

    fn get(&self, stream: Stream, sequence: u64) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        let shared = &self.shared;
        async move {
            // Sequences count from 1, and a server takes 0 for a mistake.
            if sequence == 0 || shared.is_absent(stream).await? {
                return Ok(None);
            }
            let which = json!({ "seq": sequence });
            shared.find(stream, &which).await
        }
        .boxed()
    }

    fn last(&self, stream: Stream, filter: &str) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        let (shared, which) = (&self.shared, json!({ "last_by_subj": filter_in(stream, filter) }));
        async move {
            if shared.is_absent(stream).await? {
                return Ok(None);
            }
            shared.find(stream, &which).await
        }
        .boxed()
    }

    fn load_position(&self, name: &str) -> BoxFuture<'_, Result<Option<Position>, LogError>> {
        let (link, key) = (&self.shared.link, check_name(name).map(|()| key_of(name)));
        async move {
            let key = key?;
            let key = &key;
            let entry = link
                .patiently(|client| async move { POSITIONS.get(link, &client, key).await })
                .await?;
            let Some(value) = entry.and_then(|entry| entry.value) else {
                return Ok(None);
            };
            match serde_json::from_slice(&value) {
                Ok(position) => Ok(Some(position)),
                Err(error) => {
                    tracing::warn!(key, %error, "position is damaged and ignored");
                    Ok(None)
                }
            }
        }
        .boxed()
    }

    fn save_position(&self, name: &str, position: Position) -> BoxFuture<'_, Result<(), LogError>> {
        let (link, key) = (&self.shared.link, check_name(name).map(|()| key_of(name)));
        async move {
            let key = key?;
            let value = serde_json::to_vec(&position).map_err(|error| LogError::InvalidMessage {
                bytes: position.id.len(),
                subject: error.to_string(),
            })?;
            let (key, value) = (&key, &Bytes::from(value));
            link.patiently(|client| async move {
                POSITIONS
                    .put(link, &client, key, value.clone(), None)
                    .await
                    .map(drop)
            })
            .await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use watchfold_schemas::MessageId;

    use super::*;

    #[test]
    fn what_is_sent_ahead_is_bounded_in_messages_and_bytes() {
        let message = |bytes: usize| Append {
            stream: Stream::Events,
            subject: String::new(),
            id: MessageId("i".into()),
            payload: vec![0; bytes].into(),
        };
        for (sizes, messages_max, want) in [
            (vec![], 256, vec![]),
            (vec![10; 5], 2, vec![2, 2, 1]),
            (vec![10; 3], 1, vec![1, 1, 1]),
            (vec![10; 3], 256, vec![3]),
            (vec![3 << 20, 2 << 20, 1 << 20, 5 << 20, 1], 256, vec![1, 2, 1, 1]),
        ] {
            let messages: Vec<Append> = sizes.into_iter().map(message).collect();
            let numbered: Vec<_> = messages.iter().enumerate().collect();
            let got: Vec<usize> = windows(&numbered, messages_max)
                .iter()
                .map(|run| run.len())
                .collect();
            assert_eq!(got, want);
        }
    }
}
