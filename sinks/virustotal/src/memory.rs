//! What survives a restart: how far questions were read, which wait, what is known, and who was told of a fault.
//!
//! One small file. Missing or damaged it costs calls and no truth: it is set aside, and questions of the last hour are
//! read again. The counts of the budget stand beside the log; the file has a copy in case that is lost.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use watchfold_log::Position;
use watchfold_sink_kit::{read_state, save_state, set_aside_state};

use crate::budget::Budget;
use crate::cache::{Cache, Cached};
use crate::queue::{Queue, Waiting};

/// The version of the file that this code writes. A newer one is set aside like a damaged one.
const MEMORY_VERSION: u16 = 1;

/// Everything that is kept.
#[derive(Default)]
pub(crate) struct Memory {
    /// The last record read of `WF_EVT`.
    pub position: Option<Position>,
    pub queue: Queue,
    pub cache: Cache,
    /// Sites that know of a fault that is not over.
    pub faulted: BTreeSet<String>,
    /// The fingerprint of the key that was used last, and its counts.
    pub key: String,
    pub budget: Budget,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryFile {
    v: u16,
    position: Option<Position>,
    waiting: Vec<Waiting>,
    known: Vec<Cached>,
    faulted: BTreeSet<String>,
    key: String,
    budget: String,
}

impl Memory {
    /// What the file holds; tells why it was set aside, if it was. Blocking.
    pub fn load(path: &Path) -> (Memory, Option<String>) {
        let reason = match read_state::<MemoryFile>(path) {
            Ok(None) => return (Memory::default(), None),
            Ok(Some(file)) if file.v == MEMORY_VERSION => return (Memory::from_file(file), None),
            Ok(Some(file)) => format!("it is version {}", file.v),
            Err(reason) => reason,
        };
        set_aside_state(path);
        (Memory::default(), Some(reason))
    }

    fn from_file(file: MemoryFile) -> Memory {
        Memory {
            position: file.position,
            queue: Queue::from_list(file.waiting),
            cache: Cache::from_list(file.known),
            faulted: file.faulted,
            key: file.key,
            budget: Budget::from_stored(&file.budget).unwrap_or_default(),
        }
    }

    pub fn to_file(&self) -> MemoryFile {
        MemoryFile {
            v: MEMORY_VERSION,
            position: self.position.clone(),
            waiting: self.queue.list().cloned().collect(),
            known: self.cache.list().cloned().collect(),
            faulted: self.faulted.clone(),
            key: self.key.clone(),
            budget: self.budget.to_stored(),
        }
    }
}

impl MemoryFile {
    /// Durable when this returns. Blocking.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        save_state(path, self)
    }
}
