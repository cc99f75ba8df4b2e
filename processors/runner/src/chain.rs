//! The boundary between the runner and the folds: what a chain must offer to be driven.
//!
//! A chain is pure. It knows no log, no store, no clock and no sequence but the one it is handed.

use watchfold_schemas::snapshot::StoredEvent;
use watchfold_schemas::{Event, Observation};

/// The longest key of a state entry, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 200;

/// A pure chain as the runner drives it.
pub trait ChainFold: Send + 'static {
    /// Versions of all folds of the chain, as (fold id, version), in order.
    fn versions(&self) -> Vec<(String, u32)>;

    /// Applies one input. Undecodable payloads are the runner's business (quarantine), so this gets the decoded
    /// observation. The events come in order; the runner stamps their place.
    fn apply(&mut self, input: ChainInput<'_>) -> Vec<Event>;

    /// State entries changed since the last call: (key, Some(bytes)) to put or (key, None) to delete. Keys are unique
    /// per chain, at most [`STATE_KEY_BYTES_MAX`] bytes.
    fn drain_dirty(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)>;

    /// Every state entry, for a snapshot.
    fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)>;

    /// Replaces the state by stored entries written by `versions`. Err says what could not be taken over (then the
    /// runner sets the store aside and refolds).
    fn load(&mut self, versions: &[(String, u32)], entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), String>;

    /// Forgets everything (start of a refold without a snapshot).
    fn reset(&mut self);

    /// What another chain has to be told because of this event. It stands in the log before the event does, and comes
    /// again with the same identity whenever the event is published again.
    fn told_before(&self, _event: &StoredEvent) -> Option<Observation> {
        None
    }

    /// What the chain had to do without, for metrics: (name, how often).
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// One input of a chain.
#[derive(Clone, Copy, Debug)]
pub enum ChainInput<'a> {
    Observation {
        sequence: u64,
        observation: &'a Observation,
        /// The length of the record's payload.
        size_bytes: usize,
    },
    /// Records that the log no longer has, both ends included: what they held is unknown, never down.
    Lost { from: u64, to: u64 },
}
