//! Messages of a broker as records of the plane. Decodes no payload.

use async_nats::jetstream::stream::RawMessage;
use async_nats::{HeaderMap, Message};
use serde::Deserialize;
use watchfold_log::Record;
use watchfold_schemas::{MessageId, Stream};

use crate::ids::id_in;
use crate::streams::time;

/// The header that carries the message id, perhaps with a mark ([`crate::ids`]), and by which the broker recognises duplicates.
pub(crate) const ID_HEADER: &str = "Nats-Msg-Id";

/// The answer to `STREAM.MSG.GET`.
#[derive(Deserialize)]
pub(crate) struct Got {
    pub(crate) message: RawMessage,
}

/// The record of a stored message; `None` when its headers are none that a broker stores.
pub(crate) fn of_raw(stream: Stream, raw: RawMessage) -> Option<Record> {
    let stored = async_nats::jetstream::message::StreamMessage::try_from(raw).ok()?;
    Some(Record {
        sequence: stored.sequence,
        stored_at: time(stored.time.unix_timestamp_nanos()),
        id: id_of(stream, stored.sequence, Some(&stored.headers)),
        subject: stored.subject.to_string(),
        payload: stored.payload,
    })
}

/// Where a delivered message stands in its consumer, and what is behind it.
pub(crate) struct Delivered {
    pub(crate) consumer_sequence: u64,
    /// How many more the consumer has to deliver.
    pub(crate) pending: u64,
    pub(crate) record: Record,
}

/// The record of a message that a consumer delivered; `None` for anything else.
pub(crate) fn of_delivered(stream: Stream, message: Message) -> Option<Delivered> {
    let reply = message.reply.as_ref()?.to_string();
    let place = Place::parse(&reply)?;
    let record = Record {
        sequence: place.stream_sequence,
        stored_at: time(i128::from(place.stored_at)),
        id: id_of(stream, place.stream_sequence, message.headers.as_ref()),
        subject: message.subject.to_string(),
        payload: message.payload,
    };
    Some(Delivered {
        consumer_sequence: place.consumer_sequence,
        pending: place.pending,
        record,
    })
}

/// A message without an id comes from a publisher that is none of ours; its place is an identity that stays.
fn id_of(stream: Stream, sequence: u64, headers: Option<&HeaderMap>) -> MessageId {
    let given = headers
        .and_then(|headers| headers.get(ID_HEADER))
        .map(|value| value.as_str());
    MessageId(match given {
        Some(header) if !id_in(header).is_empty() => id_in(header).to_owned(),
        _ => format!("{}:{sequence}", stream.name()),
    })
}

/// What the reply subject of a delivered message says (NATS ADR-15): `$JS.ACK.`, then perhaps domain and account, then
/// stream, consumer, deliveries, stream sequence, consumer sequence, time in nanoseconds, pending, and perhaps more.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    stream_sequence: u64,
    consumer_sequence: u64,
    stored_at: i64,
    pending: u64,
}

impl Place {
    fn parse(reply: &str) -> Option<Place> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let from = match tokens.len() {
            7 => 3,
            9.. => 5,
            _ => return None,
        };
        Some(Place {
            stream_sequence: tokens.get(from)?.parse().ok()?,
            consumer_sequence: tokens.get(from + 1)?.parse().ok()?,
            stored_at: tokens.get(from + 2)?.parse().ok()?,
            pending: tokens.get(from + 3)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_both_forms_are_read_and_others_refused() {
        let want = Place {
            stream_sequence: 100,
            consumer_sequence: 7,
            stored_at: 1_790_230_470_084_404_000,
            pending: 42,
        };
        for (reply, want) in [
            ("$JS.ACK.WF_OBS.x.1.100.7.1790230470084404000.42", Some(&want)),
            (
                "$JS.ACK._.hash.WF_OBS.x.1.100.7.1790230470084404000.42",
                Some(&want),
            ),
            (
                "$JS.ACK.hub.hash.WF_OBS.x.1.100.7.1790230470084404000.42.token",
                Some(&want),
            ),
            ("$JS.ACK.WF_OBS.x.1.100.7.1790230470084404000", None),
            ("$JS.ACK.WF_OBS.x.1.a.7.1790230470084404000.42", None),
            ("$JS.API.WF_OBS.x.1.100.7.1790230470084404000.42", None),
        ] {
            assert_eq!(Place::parse(reply).as_ref(), want, "{reply}");
        }
    }

    #[test]
    fn a_message_without_an_id_is_known_by_its_place() {
        let mut headers = HeaderMap::new();
        assert_eq!(id_of(Stream::Events, 7, Some(&headers)).0, "WF_EVT:7");
        assert_eq!(id_of(Stream::Events, 7, None).0, "WF_EVT:7");
        headers.insert(ID_HEADER, "cafe-1/ping/3/9");
        assert_eq!(id_of(Stream::Events, 7, Some(&headers)).0, "cafe-1/ping/3/9");
    }
}
