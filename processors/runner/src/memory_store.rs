//! The in-memory twin of the store: for tests and simulations, and what a chain falls back to when its directory
//! cannot be written. It can lose what was not synced, as a power cut does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::{Batch, Pairs, StateStore, StoreError};

/// Handles of one store share its content, so that a test can drop one and open the next.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    synced: BTreeMap<Vec<u8>, Vec<u8>>,
    applied: BTreeMap<Vec<u8>, Vec<u8>>,
    set_aside: u64,
    failures_left: u64,
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// The power goes: only what was synced is left.
    pub fn crash(&self) {
        let mut content = self.lock();
        content.applied = content.synced.clone();
    }

    /// The next `count` writes fail.
    pub fn fail_next(&self, count: u64) {
        self.lock().failures_left = count;
    }

    /// How often the content was set aside.
    pub fn set_aside_count(&self) -> u64 {
        self.lock().set_aside
    }

    /// What is durable, to be put back later.
    pub fn copy(&self) -> Pairs {
        self.lock().synced.clone().into_iter().collect()
    }

    /// Replaces the content, as an operator does who restores an old copy.
    pub fn restore(&self, pairs: Pairs) {
        let mut content = self.lock();
        content.synced = pairs.into_iter().collect();
        content.applied = content.synced.clone();
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryStore {
    fn scan(&self) -> Result<Pairs, StoreError> {
        Ok(self.lock().applied.clone().into_iter().collect())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().applied.get(key).cloned())
    }

    fn apply_batch(&mut self, batch: Batch) -> Result<(), StoreError> {
        let mut content = self.lock();
        if content.failures_left > 0 {
            content.failures_left -= 1;
            return Err(StoreError::Broken {
                path: "memory".into(),
                detail: "told to fail".into(),
            });
        }
        for (key, value) in batch {
            match value {
                Some(value) => content.applied.insert(key, value),
                None => content.applied.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let mut content = self.lock();
        content.synced = content.applied.clone();
        Ok(())
    }

    fn set_aside(&mut self) -> Result<(), StoreError> {
        let mut content = self.lock();
        content.set_aside += 1;
        content.synced.clear();
        content.applied.clear();
        Ok(())
    }
}
