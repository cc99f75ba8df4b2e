//! The pure folds: observations in, events out.
//!
//! A fold knows no clock, no file, no socket, no environment and no randomness: time is in its input, and what it
//! emits depends on nothing but the observations that it was given, in their order. Running them, storing their
//! state and publishing their events belong to the runner.

mod chain;
mod clocks;
mod engine;
mod fold;
mod history;
mod hours;
mod incidents;
mod liveness;
mod machine;
mod notify;
mod occupancy;
mod packets;
mod rules;
mod table;
mod timers;

pub use chain::{ChainCounters, SiteChain};
pub use engine::{RuleProblem, rules_problems};
pub use fold::{Fold, FoldId};
pub use hours::{SOFTWARE, software};
pub use machine::{LoadError, STATE_KEY_BYTES_MAX, StateEntries, StateMachine};
pub use packets::{PacketChain, PacketCounters, RuleRows, community_id, finding_of};
