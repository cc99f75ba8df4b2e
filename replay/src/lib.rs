//! Pieces of a log in portable files, and the folds over them once more: recording, replaying, digests, differences.
//!
//! It reads and never publishes: it knows no sink, no runner, no broker and no clock, so that replaying can tell nobody
//! anything. What is replayed goes through the same folds as live.

pub mod diff;
pub mod digest;
mod engine;
mod error;
pub mod explain;
mod input;
mod intake;
mod outcomes;
mod record;
mod recorded;
pub mod recording;
pub mod scenario;

pub use engine::{Counters, Engine, Under, WARM_UP, WarmUp};
pub use error::ReplayError;
pub use input::{Input, Inputs, Selection, Sites, Step};
pub use outcomes::{OUTCOMES_MAX, Outcomes};
pub use record::{Followed, Following, RecordOptions, Recorded, record};
pub use recorded::RecordedEvents;
