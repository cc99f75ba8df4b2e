//! What every sink shares: reading events once ([`EventReader`]), and telling each request once ([`deliver`]).
//!
//! It knows no destination and finds no words: a sink brings a [`Destination`] and this package brings order, merging,
//! retries, expiry, receipts and the state that survives a restart. It never judges and never measures.

mod backoff;
mod delivery;
mod destination;
mod error;
mod ledger;
mod plan;
mod reader;
mod secret;
mod state;
mod stats;

pub use backoff::{BACKOFF_MS_MAX, backoff};
pub use delivery::deliver;
pub use destination::{Attempt, Destination, Edit, EditOutcome, Outcome, Pause, SinkContext};
pub use error::SinkError;
pub use plan::{Job, PendingRequest};
pub use reader::{DEDUP_WINDOW, EventBatch, EventReader, ReaderCounts};
pub use secret::Secret;
pub use state::{STATE_VERSION, read_state, save_state, set_aside_state};
pub use stats::{Count, Counted, SinkStats, Stats};

#[cfg(test)]
mod tests;
