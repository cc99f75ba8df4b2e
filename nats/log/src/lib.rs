//! The message plane's trait ([`MessageLog`]), its embedded single-process log, and an in-memory twin for tests.
//!
//! This package knows no observation, no event and no fold: messages are subjects, ids and bytes. It opens no socket.

mod duplicates;
pub mod memory;
mod message;
pub mod plane;

pub use duplicates::DuplicateWindow;
pub use message::{MESSAGE_ID_BYTES_MAX, PAYLOAD_BYTES_MAX, SUBJECT_BYTES_MAX, check_message};
pub use plane::*;

/// Stamps `stored_at`. Injected, so that tests and replays choose the time.
pub type StoredAtClock = std::sync::Arc<dyn Fn() -> watchfold_schemas::Time + Send + Sync>;
