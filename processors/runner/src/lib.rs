//! Runs chains: reads the log, folds, commits to the store, publishes.
//!
//! It holds nothing that cannot be rebuilt from the log, judges nothing, and knows no kind of event. The folds are
//! behind [`watchfold_folds::StateMachine`], the log behind [`watchfold_log::MessageLog`], the store behind [`StateStore`].

mod checkpoints;
mod crash;
mod error;
mod intake;
mod layout;
mod memory_store;
mod options;
mod outbox;
mod parity;
mod published;
mod recover;
mod retry;
mod runner;
mod sled_store;
mod snapshot;
mod state;
mod stats;
mod store;
#[cfg(test)]
mod tests;

pub use crash::{CrashHook, CrashPoint};
pub use error::RunnerError;
pub use intake::{COLLECTORS_MAX, Folded, fold_all};
pub use memory_store::MemoryStore;
pub use options::RunnerOptions;
pub use outbox::PUBLISH_EVENTS_MAX;
pub use parity::{Checked, NewChain, ParityCheck, ParityOptions, Spans};
pub use runner::ChainRunner;
pub use sled_store::{BROKEN_KEPT_MAX, SledStore};
pub use stats::{RunnerStats, StatsHandle};
pub use store::{Batch, Pairs, StateStore, StoreError};
/// What is run, so that a program of chains needs no further package.
pub use watchfold_folds::{PacketChain, SiteChain};
