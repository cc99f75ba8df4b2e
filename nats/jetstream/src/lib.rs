//! The message plane on NATS JetStream: one stream of the broker for each stream of the plane.
//!
//! It knows no observation, no event and no fold, and keeps nothing of its own: what it says was appended, the broker
//! acknowledged. It makes no cluster; it uses one that is there.

mod log;
mod options;

pub use log::JetStream;
pub use options::{Auth, JetStreamOptions, Secret, StreamLimits, Tls};
