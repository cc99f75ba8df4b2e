//! The message plane's trait ([`MessageLog`]), its embedded single-process log ([`Embedded`]), and an in-memory twin for
//! tests ([`memory::MemoryLog`]).
//!
//! This package knows no observation, no event and no fold: messages are subjects, ids and bytes. It opens no socket.

#[cfg(feature = "contract")]
pub mod contract;
pub mod disk;
mod duplicates;
mod embedded;
mod filter;
pub mod frame;
mod index;
mod layout;
mod lease;
pub mod memory;
mod message;
mod meta;
mod options;
pub mod plane;
pub mod positions;
mod prepared;
mod queue;
mod read;
pub mod stream;
pub mod verify;
mod view;
mod walk;
mod writer;

pub use duplicates::DuplicateWindow;
pub use embedded::{Embedded, Submitted};
pub use layout::Segment;
pub use lease::{LEASE_NAME_BYTES_MAX, Lease, Leases, LocalLeases};
pub use message::{MESSAGE_ID_BYTES_MAX, PAYLOAD_BYTES_MAX, SUBJECT_BYTES_MAX, check_message};
pub use options::{Options, SYNC_DELAY_MAX, StreamOptions, default_stream_options};
pub use plane::*;
pub use read::StreamReader;
pub use verify::{Report, StreamFiles, StreamReport, stat, verify};
pub use view::{Damage, View};

/// Stamps `stored_at`. Injected, so that tests and replays choose the time.
pub type StoredAtClock = std::sync::Arc<dyn Fn() -> watchfold_schemas::Time + Send + Sync>;
