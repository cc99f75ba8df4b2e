//! The one way in and out of bytes: MessagePack with field names, and a version that is looked at first.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::event::{EVENT_VERSION, Event};
use crate::observation::{OBSERVATION_VERSION, Observation};

/// The largest encoded message. It leaves room below the 1 MiB that brokers take by default.
pub const MESSAGE_BYTES_MAX: usize = 768 * 1024;

/// Why bytes are not a message, or a message not bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("an {what} of format {found}; this version reads up to {known}: upgrade to read it")]
    Newer {
        what: &'static str,
        found: u16,
        known: u16,
    },
    #[error("not an {what}: {source}")]
    Malformed {
        what: &'static str,
        source: rmp_serde::decode::Error,
    },
    #[error("cannot be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    #[error("{bytes} bytes encoded, over the limit of {MESSAGE_BYTES_MAX}: send fewer rows in one record")]
    TooLarge { bytes: usize },
}

pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = rmp_serde::to_vec_named(value)?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes)
}

pub fn encode_observation(observation: &Observation) -> Result<Vec<u8>, CodecError> {
    encode(observation)
}

pub fn encode_event(event: &Event) -> Result<Vec<u8>, CodecError> {
    encode(event)
}

pub fn decode_observation(bytes: &[u8]) -> Result<Observation, CodecError> {
    decode_versioned(bytes, "observation", OBSERVATION_VERSION)
}

pub fn decode_event(bytes: &[u8]) -> Result<Event, CodecError> {
    decode_versioned(bytes, "event", EVENT_VERSION)
}

/// Decodes a stored type that begins with a field `v`, and says so when a newer version wrote it.
pub fn decode_versioned<T: DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
    known: u16,
) -> Result<T, CodecError> {
    rmp_serde::from_slice(bytes).map_err(|source| match rmp_serde::from_slice::<Version>(bytes) {
        Ok(Version { v }) if v > known => CodecError::Newer {
            what,
            found: v,
            known,
        },
        _ => CodecError::Malformed { what, source },
    })
}

#[derive(Deserialize)]
struct Version {
    v: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::{Body, Tick};
    use crate::{Origin, Time};

    fn tick(v: u16) -> Observation {
        Observation {
            v,
            origin: Origin {
                site: "s".into(),
                collector: "clock".into(),
                incarnation: 1,
                number: 1,
            },
            observed_at: Time(1),
            through: Time(1),
            body: Body::Tick(Tick {
                now: Time(1),
                interval_ms: 1_000,
            }),
        }
    }

    #[test]
    fn an_observation_survives() {
        let bytes = encode_observation(&tick(OBSERVATION_VERSION)).unwrap();
        assert_eq!(decode_observation(&bytes).unwrap(), tick(OBSERVATION_VERSION));
    }

    #[test]
    fn a_newer_format_names_the_version_needed() {
        #[derive(Serialize)]
        struct Future {
            v: u16,
            body: u8,
        }
        let bytes = encode(&Future {
            v: OBSERVATION_VERSION + 1,
            body: 0,
        })
        .unwrap();
        let error = decode_observation(&bytes).unwrap_err();
        assert!(matches!(error, CodecError::Newer { .. }), "{error}");
    }

    #[test]
    fn garbage_is_an_error() {
        for bytes in [&b""[..], b"\xc1", b"\xdf\xff\xff\xff\xff", b"hello"] {
            assert!(decode_observation(bytes).is_err() && decode_event(bytes).is_err());
        }
    }
}
