//! What every sink shares: reading events once ([`EventReader`]), and telling each request once ([`deliver`]).
//!
//! It knows no destination and finds no words: a sink brings a [`Destination`] and this package brings order, merging,
//! retries, expiry, receipts and the state that survives a restart. It never judges and never measures.

mod backoff;
mod delivery;
mod destination;
mod error;
mod ledger;
mod outlet;
mod plan;
mod rank;
mod reach;
mod reader;
mod secret;
mod state;
mod stats;

pub use backoff::{BACKOFF_MS_MAX, backoff};
pub use delivery::{deliver, withdraw};
pub use destination::{Attempt, Destination, Edit, EditOutcome, Outcome, Pause, SinkContext};
pub use error::SinkError;
pub use outlet::{Outlet, OutletContext};
pub use plan::{Job, PendingRequest};
pub use reach::{Failure, Reach, TAKES_NOTHING_MS_MAX};
pub use reader::{DEDUP_WINDOW, EventBatch, EventReader, ReaderCounts};
pub use secret::Secret;
pub use state::{STATE_VERSION, read_state, recorded_faults, save_state, set_aside_state};
pub use stats::{Count, Counted, SinkStats, Stats};

#[cfg(test)]
mod tests;
