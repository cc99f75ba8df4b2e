//! The pure folds: observations in, events out.
//!
//! A fold knows no clock, no file, no socket, no environment and no randomness: time is in its input, and what it
//! emits depends on nothing but the observations that it was given, in their order. Running them, storing their
//! state and publishing their events belong to the runner.

#[macro_use]
mod list;

mod chain;
mod clocks;
mod detections;
mod emit;
mod engine;
mod fold;
mod hours;
mod machine;
mod merge;
mod moment;
mod packets;
mod rows;
mod store;
mod table;
mod timers;

// Each fold of the site chain sees what those above it emitted for the same step.
site_folds! {
    liveness: Liveness,
    occupancy: Occupancy,
    history: History,
    rules: Rules,
    incidents: Incidents,
    notify: Notify,
}

pub use chain::SiteChain;
pub use engine::{RuleProblem, rules_problems};
pub use machine::{LoadError, STATE_KEY_BYTES_MAX, StateEntries, StateMachine, software};
pub use packets::{PacketChain, PacketCounters, RuleRows, community_id, finding_of};
