//! The message ids a stream has seen lately, and where. Keeps hashes, not ids; does not survive a restart by itself.

mod slots;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use watchfold_schemas::{Span, Time};

use slots::Slots;

/// How long message ids are remembered: at least the last `count`, and those of the last `span` up to `count_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateWindow {
    pub count: usize,
    pub span: Span,
    /// The cap on ids, whatever `span` asks for; each takes some 64 bytes of memory.
    pub count_max: usize,
}

impl DuplicateWindow {
    /// 65,536 ids as readers of events remember, and 2 minutes as brokers do; at most 262,144 ids.
    pub const DEFAULT: DuplicateWindow = DuplicateWindow {
        count: 65_536,
        span: Span::from_seconds(120),
        count_max: 262_144,
    };
}

impl Default for DuplicateWindow {
    fn default() -> DuplicateWindow {
        DuplicateWindow::DEFAULT
    }
}

/// Two independently seeded 64-bit hashes stand for an id: nobody who does not know the seeds can aim a collision, and
/// by chance a full window meets one in some 10^33 messages. So a hit is believed without reading the stored id.
#[derive(Clone, Default)]
pub(crate) struct IdHasher {
    seeds: [RandomState; 2],
}

impl IdHasher {
    pub(crate) fn hash(&self, id: &str) -> u128 {
        let [low, high] = &self.seeds;
        u128::from(low.hash_one(id)) | u128::from(high.hash_one(id)) << 64
    }
}

/// The ids within the window.
pub(crate) struct SeenIds {
    window: DuplicateWindow,
    hasher: IdHasher,
    /// Oldest first. One that was seen again after it had been forgotten may stand here twice; the last one counts.
    order: VecDeque<Seen>,
    /// Counts on with each id, and wraps: an id's number less this one is its place in `order`.
    first_number: u32,
    slots: Slots,
    /// The table has numbers below `first_number`.
    outdated: bool,
    capped: bool,
}

#[derive(Clone, Copy)]
struct Seen {
    /// Halves, because whole they would be padded to 16 bytes.
    hash: [u64; 2],
    sequence: u64,
    stored_at: Time,
}

impl Seen {
    fn new(hash: u128, sequence: u64, stored_at: Time) -> Seen {
        let hash = [hash as u64, (hash >> 64) as u64];
        Seen {
            hash,
            sequence,
            stored_at,
        }
    }

    fn hash(&self) -> u128 {
        u128::from(self.hash[0]) | u128::from(self.hash[1]) << 64
    }
}

impl SeenIds {
    pub(crate) fn new(window: DuplicateWindow) -> SeenIds {
        SeenIds {
            window,
            hasher: IdHasher::default(),
            order: VecDeque::new(),
            first_number: 0,
            slots: Slots::new(),
            outdated: false,
            capped: false,
        }
    }

    /// The hashes that this window understands; another one's mean nothing to it.
    pub(crate) fn hasher(&self) -> IdHasher {
        self.hasher.clone()
    }

    pub(crate) fn hash(&self, id: &str) -> u128 {
        self.hasher.hash(id)
    }

    /// Where the message with this hash stands, if it is within the window.
    pub(crate) fn place(&self, hash: u128) -> Option<u64> {
        let number = self.find(hash)?;
        self.order.get(self.index(number)).map(|seen| seen.sequence)
    }

    pub(crate) fn insert(&mut self, hash: u128, sequence: u64, stored_at: Time) {
        // Before the new one comes, so that a full window never outgrows its memory.
        while self.order.len() >= self.window.count {
            let Some(&Seen { stored_at: at, .. }) = self.order.front() else {
                break;
            };
            if self.order.len() < self.window.count_max && stored_at.since(at) < self.window.span {
                break;
            }
            if stored_at.since(at) < self.window.span && !self.capped {
                self.capped = true;
                tracing::warn!(
                    limit = self.window.count_max,
                    "duplicate window is full: ids of less than its time span are forgotten from now on"
                );
            }
            self.order.pop_front();
            self.first_number = self.first_number.wrapping_add(1);
            self.outdated = true;
        }
        let number = self.number(self.order.len());
        let older = self.find(hash);
        self.order.push_back(Seen::new(hash, sequence, stored_at));
        match older {
            Some(older) => self.slots.replace(hash, older, number),
            None => self.fill_slot(hash, number),
        }
    }

    /// Whether a message that stands before all others, stored at this time, is still within the window.
    pub(crate) fn wants_older(&self, stored_at: Time) -> bool {
        let newest = self.order.back().map_or(stored_at, |seen| seen.stored_at);
        let is_recent =
            newest.since(stored_at) < self.window.span && self.order.len() < self.window.count_max;
        self.order.len() < self.window.count || is_recent
    }

    /// How many more it would take at most.
    pub(crate) fn room(&self) -> usize {
        let count_max = self.window.count.max(self.window.count_max);
        count_max.saturating_sub(self.order.len())
    }

    /// Remembers a message that stands before all others.
    pub(crate) fn prepend(&mut self, hash: u128, sequence: u64, stored_at: Time) {
        if self.outdated {
            self.purge();
        }
        self.first_number = self.first_number.wrapping_sub(1);
        self.order.push_front(Seen::new(hash, sequence, stored_at));
        if self.find(hash).is_none() {
            self.fill_slot(hash, self.first_number);
        }
    }

    /// Forgets everything from `sequence` on: those messages are not in the log after all.
    pub(crate) fn forget_from(&mut self, sequence: u64) {
        let before = self.order.len();
        while self.order.pop_back_if(|seen| seen.sequence >= sequence).is_some() {}
        if self.order.len() < before {
            self.purge();
        }
    }

    /// Takes the numbers out of the table that mean nothing any more, before they are given out again.
    fn purge(&mut self) {
        let (first, count) = (self.first_number, self.order.len());
        let is_kept = |number: u32| (number.wrapping_sub(first) as usize) < count;
        self.slots.rebuild(count, is_kept);
        self.outdated = false;
    }

    /// The oldest leave order but not table, where their numbers are found to mean nothing.
    fn find(&self, hash: u128) -> Option<u32> {
        self.slots.find(hash, |number| {
            let seen = self.order.get(self.index(number));
            seen.is_some_and(|seen| seen.hash() == hash)
        })
    }

    fn fill_slot(&mut self, hash: u128, number: u32) {
        if self.slots.is_crowded() {
            self.purge();
        }
        self.slots.insert(hash, number);
    }

    fn index(&self, number: u32) -> usize {
        number.wrapping_sub(self.first_number) as usize
    }

    /// Places are far below 2^32: the window's cap keeps them there, and so does memory.
    fn number(&self, index: usize) -> u32 {
        self.first_number.wrapping_add(index as u32)
    }
}

#[cfg(test)]
mod tests;
