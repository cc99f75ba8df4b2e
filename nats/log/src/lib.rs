//! The message plane's trait and its embedded, single-process log.

pub mod plane;

pub use plane::*;
