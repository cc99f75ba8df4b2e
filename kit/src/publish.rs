//! Publishing observations: the clock at the edge, their identity, and store and forward.
//!
//! A [`Publisher`] stamps, numbers and appends. What the log cannot take waits in bounded memory, or in a bounded spool on disk.
//! `README.md` states the promises and limits.

mod clock;
mod forward;
mod in_flight;
mod incarnation;
mod publisher;
mod queue;
mod retry;
mod sending;
mod spool;
mod writer;

pub use clock::{Clock, ManualClock, Moment, STEP_SPAN_MIN, Stamp, SystemClock};
pub use in_flight::{IN_FLIGHT_MAX, InFlight};
pub use incarnation::published_from;
pub use publisher::{Publisher, PublisherOptions, PublisherStats};
pub use queue::{QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX};
pub use spool::SpoolOptions;
