//! Pieces of a log in portable files, and the folds over them once more: recording, replaying, digests, differences.
//!
//! It reads and never publishes: it knows no sink, no runner, no broker, no capture and no clock, so that replaying can tell nobody
//! anything. What is replayed goes through the same folds as live.

mod course;
pub mod diff;
pub mod digest;
mod engine;
mod error;
pub mod explain;
mod findings;
mod input;
mod intake;
mod outcomes;
mod outside;
pub mod peers;
mod record;
mod recorded;
pub mod recording;
pub mod scenario;
mod site;
mod still_open;
mod ticks;
mod under;

pub use course::{WARM_UP, WarmUp};
pub use engine::{Counters, Engine, Made};
pub use error::ReplayError;
pub use findings::{FINDINGS_MAX, recorded_findings};
pub use input::{CAPTURE_SITE, Input, Inputs, Selection, Sites, Step};
pub use outcomes::{OUTCOMES_MAX, Outcomes};
pub use outside::{CaptureSummary, Captured, CapturedBatches, Opens, Outside, OutsideError};
pub use record::{Followed, Following, RecordOptions, Recorded, record};
pub use recorded::RecordedEvents;
pub use still_open::StillOpen;
pub use under::{GivenRules, Under};
