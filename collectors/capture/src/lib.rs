//! Packets from capture files, as batches of columns.
//!
//! It reads frames and never judges them: a scan, a flood or a leak is the folds' word.

pub mod batch;
pub mod config;
mod error;
pub mod file;
pub mod observe;
pub mod parse;
#[cfg(test)]
mod testing;

pub use error::CaptureError;
pub use observe::{FileObservations, FileOptions};
