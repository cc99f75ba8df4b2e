//! The vocabulary of Watchfold: what is measured ([`observation`]), what is derived ([`event`]), where each
//! message lives ([`subjects`]), and how it is written down ([`codec`]).
//!
//! This package knows no clock, no I/O, no collector, no fold and no sink. Every type here that reaches a log is a
//! stored type: it is versioned, has a generated JSON Schema in `json/` and a frozen sample in `samples/`.

pub mod alert;
pub mod codec;
pub mod config;
pub mod digest;
pub mod event;
pub mod fields;
mod flood;
pub mod hash;
pub mod observation;
pub mod origin;
pub mod packets;
pub mod plain_text;
pub mod rules;
pub mod severity;
pub mod snapshot;
pub mod subjects;
pub mod texts;
pub mod time;
pub mod why;

pub use codec::{CodecError, decode_event, decode_observation, encode_event, encode_observation};
pub use config::SiteConfig;
pub use event::{Event, EventBody};
pub use observation::{Body, Observation};
pub use origin::{EventId, MessageId, Origin};
pub use subjects::{Chain, Stream};
pub use texts::Texts;
pub use time::{Span, Time};
