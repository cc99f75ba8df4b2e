//! Attacks as a store holds them, in the order in which they began.

use serde::{Deserialize, Serialize};
use watchfold_schemas::Time;

use super::{Attacks, Open, place_of};

/// [`Attacks`] as a store holds them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredAttacks {
    open: Vec<Open>,
    next_ordinal: u64,
    minute: Time,
    begun_in_minute: u32,
    evicted: u64,
    refused: u64,
}

impl Attacks {
    pub fn store(&self) -> StoredAttacks {
        StoredAttacks {
            open: self.open.iter().cloned().collect(),
            next_ordinal: self.next_ordinal,
            minute: self.minute,
            begun_in_minute: self.begun_in_minute,
            evicted: self.evicted,
            refused: self.refused,
        }
    }

    pub fn load(stored: StoredAttacks) -> Attacks {
        let mut out = Attacks {
            next_ordinal: stored.next_ordinal,
            minute: stored.minute,
            begun_in_minute: stored.begun_in_minute,
            evicted: stored.evicted,
            refused: stored.refused,
            ..Attacks::default()
        };
        for open in stored.open {
            let hash = place_of(&open.attack.category, open.key);
            let place = (open.due, open.ordinal);
            let slot = out.open.push(hash, open);
            out.due.insert(place, slot);
        }
        out
    }
}
