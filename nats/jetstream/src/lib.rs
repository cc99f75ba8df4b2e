//! The message plane on NATS JetStream: one stream of the broker for each stream of the plane.
//!
//! It knows no observation, no event and no fold, and keeps nothing of its own: what it says was appended, the broker
//! acknowledged. It makes no cluster; it uses one that is there.

mod absent;
mod bucket;
mod failure;
mod feed;
mod ids;
mod leases;
mod link;
mod log;
mod options;
mod reader;
mod record;
mod sending;
mod streams;
#[cfg(feature = "testing")]
pub mod testing;

pub use leases::LEASE_TTL;
pub use log::JetStream;
pub use options::{Auth, DEADLINE, JetStreamOptions, Secret, StreamLimits, Tls};
