//! Packets of interfaces and capture files, as batches of columns.
//!
//! It reads frames and never judges them: a scan, a flood or a leak is the folds' word.

pub mod batch;
mod columns;
pub mod config;
mod error;
pub mod file;
pub mod file_time;
#[cfg(test)]
mod hostile;
mod live;
mod look;
pub mod observe;
mod order;
pub mod parse;
pub mod part;
mod pcapng;
mod probe;
pub mod repeats;
pub mod ring;
mod several;
mod tap;
#[cfg(test)]
mod testing;
mod unread;

pub use error::CaptureError;
pub use look::look;
pub use observe::{FileObservations, FileOptions};
pub use part::{Capture, RINGS};
pub use probe::run;
pub use several::{Farewell, Given, farewell, farewell_to_gone, gone, run_several};
pub use tap::Interface;
pub use unread::{FileSummary, Unread};
pub use watchfold_config::CaptureConfig;

/// The interfaces of this machine.
pub fn interfaces() -> Result<Vec<Interface>, CaptureError> {
    tap::interfaces()
}

/// Whether packets can be captured so: opens the interface and lets go of it.
pub fn check(capture: &CaptureConfig) -> Result<(), CaptureError> {
    tap::Tap::open(capture).map(drop)
}
