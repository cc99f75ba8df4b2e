//! The clock beside the log: appends a tick into a site's subtree at each interval, on the clock's grid.
//!
//! Chains take "now" from ticks. This package judges nothing, and it does not make up for ticks that were missed: a
//! gap in ticks is our own absence, and folds shift their deadlines by it.

mod config;
pub mod part;
mod probe;

pub use config::ClockConfig;
pub use part::Clock;
pub use probe::{run, run_shown};

use watchfold_kit::KitError;

/// Why the clock stopped, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    #[error(
        "an interval of {millis} ms between ticks is outside 100 to 60,000: change interval_ms under [clock]"
    )]
    Interval { millis: u128 },
    #[error("ticks cannot be published: {0}")]
    Publish(#[from] KitError),
}
