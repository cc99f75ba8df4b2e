//! Pings healthchecks.io, or a server of one's own, while every stage advances.
//!
//! It does not watch stages itself: it is handed their progress, [`judge`] says in one pure function whether all
//! advance, [`schedule`] says which ping is due, and [`deliver`] sends it. It never shows the ping's address.

pub mod config;
pub mod deliver;
pub mod judge;
pub mod part;
pub mod render;
pub mod schedule;
#[cfg(feature = "testing")]
pub mod testing;

pub use config::{ConfigError, HealthchecksConfig, HealthchecksSection};
pub use deliver::{SINK, StageSource, run};
pub use judge::{Role, Stage, Verdict, judge};
pub use part::Healthchecks;
