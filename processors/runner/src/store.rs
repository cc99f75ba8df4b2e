//! The store of a chain's state as the runner sees it: a sorted map of bytes with one atomic batch.
//!
//! It is never the truth. Whatever is wrong with it, it can be set aside and filled again from a snapshot and the
//! log. What the keys mean is the business of `layout`, not of a store.

use std::collections::BTreeMap;

/// Changes that are applied together or not at all: `Some` puts, `None` deletes.
pub type Batch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Every pair of a store, by key.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the state in {path} is in use by another process: stop it, or give this one a --data of its own"
    )]
    Locked { path: String },
    #[error("the state in {path} is unusable ({detail}): set it aside, it is rebuilt from the log")]
    Broken { path: String, detail: String },
    #[error("failed to {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: String,
        source: std::io::Error,
    },
}

/// A store of one chain. Calls block; the runner makes them on the chain's own thread.
pub trait StateStore: Send {
    /// Everything, by key.
    fn scan(&self) -> Result<Pairs, StoreError>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Applies all of the batch or none of it. Durable only after [`StateStore::sync`].
    fn apply_batch(&mut self, batch: Batch) -> Result<(), StoreError>;

    /// Makes everything applied durable.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Moves the content out of the way and goes on empty. The last few sets put aside are kept for a look.
    fn set_aside(&mut self) -> Result<(), StoreError>;
}
