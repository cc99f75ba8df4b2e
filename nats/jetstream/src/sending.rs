//! How much of an append is on its way at a time, and what a broker answers to a message. Sends nothing.

use serde::Deserialize;
use watchfold_log::{Append, LogError, check_message};
use watchfold_schemas::Stream;
use watchfold_schemas::subjects::{matches, stream_filter};

use crate::failure::{Failure, judge};
use crate::link::{ApiError, Link};

/// Messages that are sent ahead of their acknowledgements: some milliseconds of a server's work.
const AHEAD_MESSAGES_MAX: usize = 256;
/// Bytes that are sent ahead of their acknowledgements, unless one message is larger.
const AHEAD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a message's head besides its id: the version line, the header's name, the id's mark and line ends, rounded up.
pub(crate) const HEAD_BYTES: usize = 64;

/// The answer to a published message.
#[derive(Deserialize)]
pub(crate) struct PubAck {
    #[serde(default)]
    pub(crate) stream: String,
    #[serde(default)]
    pub(crate) seq: u64,
    #[serde(default)]
    pub(crate) duplicate: bool,
    error: Option<ApiError>,
}

impl PubAck {
    pub(crate) fn read(
        link: &Link,
        action: &str,
        payload: &[u8],
    ) -> Result<Result<PubAck, ApiError>, Failure> {
        let mut ack: PubAck = serde_json::from_slice(payload)
            .map_err(|error| Failure::Again(format!("an acknowledgement that cannot be read: {error}")))?;
        match ack.error.take() {
            None => Ok(Ok(ack)),
            Some(error) => judge(link.place(), action, &error).map_or(Ok(Err(error)), Err),
        }
    }
}

/// Refuses what no stream of ours takes; the broker would leave it unanswered.
pub(crate) fn check(message: &Append) -> Result<(), LogError> {
    check_message(message)?;
    if matches(&stream_filter(message.stream), &message.subject) {
        return Ok(());
    }
    Err(LogError::InvalidMessage {
        bytes: message.id.0.len(),
        subject: message.subject.clone(),
    })
}

/// How many messages of one append may be on their way at a time.
pub(crate) const fn ahead_max(stream: Stream) -> usize {
    match stream {
        Stream::Packets | Stream::Observations | Stream::Commands => 1,
        Stream::Events | Stream::Snapshots => AHEAD_MESSAGES_MAX,
    }
}

/// Bytes of a message with its head, as a server counts them against its limit.
pub(crate) fn weight(message: &Append) -> usize {
    message.payload.len() + message.id.0.len() + HEAD_BYTES
}

/// Runs of at most `messages_max` messages and [`AHEAD_BYTES_MAX`] bytes, in order.
pub(crate) fn windows<'a, 'm>(
    messages: &'a [(usize, &'m Append)],
    messages_max: usize,
) -> Vec<&'a [(usize, &'m Append)]> {
    let mut out = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (index, (_, message)) in messages.iter().enumerate() {
        let weight = weight(message);
        if index > from && (index - from >= messages_max || bytes + weight > AHEAD_BYTES_MAX) {
            out.push(&messages[from..index]);
            (from, bytes) = (index, 0);
        }
        bytes += weight;
    }
    if from < messages.len() {
        out.push(&messages[from..]);
    }
    out
}
