//! Identity, made once and carried unchanged: an observation's [`Origin`] and an event's [`EventId`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hash::short_hash;
use crate::subjects::{Chain, is_token};
use crate::time::Time;

/// The identity of an observation for ever. Within one (site, collector), `incarnation` never falls and `number`
/// counts from 1 without holes inside an incarnation; a hole is lost data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Origin {
    pub site: String,
    pub collector: String,
    pub incarnation: u64,
    pub number: u64,
}

/// What a log de-duplicates by: an observation's origin, or an event's id. At most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct MessageId(pub String);

impl Origin {
    pub fn message_id(&self) -> MessageId {
        MessageId(self.to_string())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/{}",
            self.site, self.collector, self.incarnation, self.number
        )
    }
}

/// The text is not `site/collector/incarnation/number`.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an origin: expected site/collector/incarnation/number")]
pub struct OriginParseError(String);

impl FromStr for Origin {
    type Err = OriginParseError;
    fn from_str(text: &str) -> Result<Origin, OriginParseError> {
        let mut parts = text.split('/');
        let mut next = || parts.next().ok_or_else(|| OriginParseError(text.to_owned()));
        let (site, collector, incarnation, number) = (next()?, next()?, next()?, next()?);
        match (incarnation.parse(), number.parse(), parts.next()) {
            (Ok(incarnation), Ok(number), None) if is_token(site) && is_token(collector) => Ok(Origin {
                site: site.to_owned(),
                collector: collector.to_owned(),
                incarnation,
                number,
            }),
            _ => Err(OriginParseError(text.to_owned())),
        }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an event stands among those of its chain: after everything that input made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Place {
    /// The sequence of the input record in the chain's stream.
    pub input: u64,
    /// Counts from 0 within that input.
    pub index: u32,
}

/// The identity of an event: 128 bits of SHA-256 over what it is about and what caused it, as 32 hexadecimal digits.
/// No software version goes in, so an upgrade re-derives the same identities.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct EventId(pub String);

/// What made a fold emit an event; part of the event's identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An observation, by its message id.
    Message(MessageId),
    /// A timer, by its name and the deadline at which it fired.
    Timer { timer: String, deadline: Time },
    /// A packet, by its number within its collector's incarnation.
    Packet {
        collector: String,
        incarnation: u64,
        packet: u64,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Message(id) => write!(f, "m:{id}"),
            Cause::Timer { timer, deadline } => write!(f, "t:{timer}@{}", deadline.0),
            Cause::Packet {
                collector,
                incarnation,
                packet,
            } => {
                write!(f, "p:{collector}/{incarnation}/{packet}")
            }
        }
    }
}

impl EventId {
    /// `n` counts the events of that kind and key from that cause, from 0.
    pub fn derive(site: &str, chain: Chain, kind: &str, key: &str, cause: &Cause, n: u32) -> EventId {
        EventId(short_hash(&[
            site,
            chain.token(),
            kind,
            key,
            &cause.to_string(),
            &n.to_string(),
        ]))
    }

    pub fn message_id(&self) -> MessageId {
        MessageId(self.0.clone())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_text_round_trips_and_refuses_the_rest() {
        let origin = Origin {
            site: "cafe-1".into(),
            collector: "ping".into(),
            incarnation: 7,
            number: 42,
        };
        assert_eq!(origin.to_string(), "cafe-1/ping/7/42");
        assert_eq!(origin.to_string().parse::<Origin>().unwrap(), origin);
        for bad in ["", "a/b/c", "a/b/1/2/3", "a b/c/1/2", "a/b/x/2", "a//1/2"] {
            assert!(bad.parse::<Origin>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn event_ids_are_stable_and_tell_their_parts_apart() {
        let cause = Cause::Message(MessageId("cafe-1/ping/7/42".into()));
        let id = |key: &str, n| EventId::derive("cafe-1", Chain::Site, "incident_opened", key, &cause, n).0;
        assert_eq!(id("router", 0), "f0828599b2a65b9a83b16082a20dc170");
        assert_ne!(id("router", 0), id("router", 1));
        assert_ne!(short_hash(&["ab", "c"]), short_hash(&["a", "bc"]));
    }
}
