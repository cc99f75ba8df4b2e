//! What the end-to-end tests share: [`story`] turns a few lines of text into the observations of a site, [`command`] builds the
//! programs, [`promtool`] checks metrics, [`service`] is a port that a test takes away and brings back, and [`until`] waits for what a test expects.

pub mod command;
pub mod promtool;
pub mod service;
pub mod story;
mod waiting;

pub use waiting::{LIMIT, LOOK_EVERY, until};
