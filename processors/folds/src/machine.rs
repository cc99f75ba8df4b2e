//! What a chain is to whoever drives it: a deterministic state machine.
//!
//! The same inputs in the same order give the same events and the same state, wherever it runs and however often it was
//! stopped, stored and loaded between them. Reading the log, keeping what is stored and publishing what is told are the
//! driver's business, and so is what cannot be decoded.

use core::fmt::Display;

use watchfold_schemas::snapshot::StoredEvent;
use watchfold_schemas::{Event, Observation};

use crate::table::Change;

/// The longest key of a state entry, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 200;

/// A chain's state as a store or a snapshot holds it.
pub type StateEntries = Vec<(Vec<u8>, Vec<u8>)>;

/// A chain, driven by a runner or a replay.
pub trait StateMachine: Send + 'static {
    /// Folds the observation that stands at `sequence` of the chain's stream, and tells what follows from it, in order.
    fn apply(&mut self, sequence: u64, observation: &Observation) -> Vec<Event>;

    /// Records that the log no longer has, both ends included: what they held is unknown, and ends nothing.
    fn apply_lost(&mut self, from: u64, to: u64) -> Vec<Event>;

    /// Versions of everything that keeps state, as (name, version), in order.
    fn versions(&self) -> Vec<(String, u32)>;

    /// Entries changed since the last call. Keys are unique per chain, at most [`STATE_KEY_BYTES_MAX`] bytes.
    fn drain_dirty(&mut self) -> Vec<Change>;

    /// Every entry, for a snapshot.
    fn entries(&self) -> StateEntries;

    /// Takes over the entries that `versions` stored, in place of what it holds. On an error the chain is as new.
    fn load(&mut self, versions: &[(String, u32)], entries: StateEntries) -> Result<(), LoadError>;

    /// Forgets everything.
    fn reset(&mut self);

    /// What another chain has to be told because of this event. It stands in the log before the event does, and comes
    /// again with the same identity whenever the event is published again.
    fn told_before(&self, _event: &StoredEvent) -> Option<Observation> {
        None
    }

    /// What is missing without which nothing that comes in is evaluated, with the remedy; `None` while nothing is missing.
    fn lacks(&self) -> Option<&'static str> {
        None
    }

    /// What came in and what it had to do without, for metrics: (name, how often).
    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// Why stored state cannot be taken over; it is then derived again from the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("{fold} was stored by version {found}, and this is version {known}: the state is derived again")]
    Newer { fold: String, found: u32, known: u32 },
    #[error("a stored entry that no fold knows: {key}")]
    UnknownEntry { key: String },
    #[error("{0}")]
    Damaged(String),
}

/// Nothing was stored by a later version than the one that is known here.
pub(crate) fn check_versions(known: Vec<(String, u32)>, stored: &[(String, u32)]) -> Result<(), LoadError> {
    for (fold, known) in known {
        let found = version_of(stored, &fold);
        if found > known {
            return Err(LoadError::Newer { fold, found, known });
        }
    }
    Ok(())
}

/// 0 for a name that is not among them.
pub(crate) fn version_of(versions: &[(String, u32)], name: &str) -> u32 {
    versions
        .iter()
        .find(|(fold, _)| fold == name)
        .map_or(0, |(_, version)| *version)
}

/// Returns what derives in a chain, as a digest names it: the version, and those of what keeps state, which differ between
/// two builds of one version that judge differently.
pub fn software(versions: impl IntoIterator<Item = (impl Display, u32)>) -> String {
    let mut out = env!("CARGO_PKG_VERSION").to_owned();
    for (fold, version) in versions {
        out += &format!(", {fold} {version}");
    }
    out
}
