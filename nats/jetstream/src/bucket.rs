//! A key-value bucket of the broker, laid out as NATS ADR-8 says, so that the `nats kv` command reads it. Values are
//! bytes; what they mean is for others.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, StorageType};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use serde_json::json;

use crate::failure::Failure;
use crate::link::{Link, is_missing_stream};
use crate::record::Got;
use crate::sending::PubAck;
use crate::streams::{self, DUPLICATE_WINDOW};

/// A bucket by name.
pub(crate) struct Bucket {
    pub(crate) name: &'static str,
    /// How long a value stays without being written again; `None` for ever.
    pub(crate) ttl: Option<Duration>,
    pub(crate) description: &'static str,
}

/// The last thing said of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) revision: u64,
    /// `None`: it was removed.
    pub(crate) value: Option<Bytes>,
}

impl Bucket {
    /// The last entry of a key, if there is one.
    pub(crate) async fn get(
        &self,
        link: &Link,
        client: &Client,
        key: &str,
    ) -> Result<Option<Entry>, Failure> {
        if !self.has_held(link, client).await? {
            return Ok(None);
        }
        let body = json!({ "last_by_subj": format!("$KV.{}.{key}", self.name) });
        let what = format!("STREAM.MSG.GET.KV_{}", self.name);
        let raw = match link.api::<Got>(client, &what, &body).await? {
            Ok(got) => got.message,
            Err(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => return Ok(None),
            Err(error) if is_missing_stream(&error) => {
                link.forget_held(self.name);
                return Ok(None);
            }
            Err(error) => return Err(Failure::Final(link.refused(&format!("read {key}"), &error))),
        };
        let stored = async_nats::jetstream::message::StreamMessage::try_from(raw)
            .map_err(|error| Failure::Again(error.to_string()))?;
        let removed = stored.headers.get("KV-Operation").is_some();
        Ok(Some(Entry {
            revision: stored.sequence,
            value: (!removed).then_some(stored.payload),
        }))
    }

    /// Whether it ever held anything, as far as may be asked. nats-server 2.9.10 ends with a nil pointer when it is asked
    /// for a message of a stream that another client is making at this moment; one that never held anything has nothing
    /// to ask for. Once it has held something it was made, so it is asked for that only until then, and again behind
    /// each new connection, where the server may have lost its store.
    async fn has_held(&self, link: &Link, client: &Client) -> Result<bool, Failure> {
        let connection = link.connection();
        if link.has_held(self.name, connection) {
            return Ok(true);
        }
        let what = format!("STREAM.INFO.KV_{}", self.name);
        match link.api::<Info>(client, &what, &()).await? {
            Ok(info) if info.state.last_sequence == 0 => Ok(false),
            Ok(_) => {
                link.note_held(self.name, connection);
                Ok(true)
            }
            // It is missing, and the first write makes it; or this user may not ask.
            Err(_) => Ok(true),
        }
    }

    /// Writes a value, where `expected` is given only over that revision (0: over none). `None`: another was quicker.
    pub(crate) async fn put(
        &self,
        link: &Link,
        client: &Client,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, Failure> {
        self.publish(link, client, key, value, expected, HeaderMap::new())
            .await
    }

    /// Removes the value of that revision, if it is still there.
    pub(crate) async fn remove(
        &self,
        link: &Link,
        client: &Client,
        key: &str,
        revision: u64,
    ) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        self.publish(link, client, key, Bytes::new(), Some(revision), headers)
            .await
            .map(drop)
    }

    async fn publish(
        &self,
        link: &Link,
        client: &Client,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
        mut headers: HeaderMap,
    ) -> Result<Option<u64>, Failure> {
        if let Some(expected) = expected {
            headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
        }
        let subject = format!("$KV.{}.{key}", self.name);
        let subject = match &link.options.domain {
            Some(domain) => format!("$JS.{domain}.API.{subject}"),
            None => subject,
        };
        let headers = (!headers.is_empty()).then_some(headers);
        let answer = match link.request(client, &subject, headers, value).await {
            Err(Failure::NobodyThere) => {
                self.make(link, client).await?;
                return Err(Failure::NobodyThere);
            }
            other => other?,
        };
        match PubAck::read(link, &format!("write {key}"), &answer.payload)? {
            Ok(ack) => Ok(Some(ack.seq)),
            Err(error)
                if [
                    ErrorCode::STREAM_WRONG_LAST_SEQUENCE,
                    ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT,
                ]
                .contains(&error.error_code()) =>
            {
                Ok(None)
            }
            Err(error) => Err(Failure::Final(link.refused(&format!("write {key}"), &error))),
        }
    }

    async fn make(&self, link: &Link, client: &Client) -> Result<(), Failure> {
        let ttl = self.ttl.unwrap_or(Duration::ZERO);
        let config = Config {
            name: format!("KV_{}", self.name),
            description: Some(self.description.to_owned()),
            subjects: vec![format!("$KV.{}.>", self.name)],
            max_messages_per_subject: 1,
            max_messages: -1,
            max_bytes: -1,
            max_consumers: -1,
            max_message_size: -1,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: streams::replicas(link, client),
            max_age: ttl,
            duplicate_window: if ttl.is_zero() {
                DUPLICATE_WINDOW
            } else {
                DUPLICATE_WINDOW.min(ttl)
            },
            allow_rollup: true,
            deny_delete: true,
            ..Config::default()
        };
        match streams::make(link, client, &config).await? {
            Ok(_) => Ok(()),
            // Another made it, as it thought right.
            Err(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => Ok(()),
            Err(error) => Err(Failure::Final(
                link.refused(&format!("make {}", config.name), &error),
            )),
        }
    }
}

/// Any name as a key: what may not stand in one is written `=` and two hexadecimal digits.
pub(crate) fn key_of(name: &str) -> String {
    let mut key = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-/".contains(&byte) {
            key.push(char::from(byte));
        } else {
            key.push_str(&format!("={byte:02x}"));
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_keys_and_stay_distinct() {
        for (name, want) in [
            ("discord/site", "discord/site"),
            ("a.b c", "a=2eb=20c"),
            ("a=2eb", "a=3d2eb"),
            ("*>", "=2a=3e"),
        ] {
            assert_eq!(key_of(name), want);
        }
    }
}
