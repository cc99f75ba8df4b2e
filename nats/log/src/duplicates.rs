//! The message ids a stream has seen lately, and where. Keeps hashes, not ids; does not survive a restart by itself.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use watchfold_schemas::{Span, Time};

/// How long message ids are remembered: at least the last `count`, and those of the last `span` up to `count_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateWindow {
    pub count: usize,
    pub span: Span,
    /// The cap on ids, whatever `span` asks for; each takes some 100 bytes of memory.
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

/// The ids within the window. Two independently seeded 64-bit hashes stand for an id, so nobody can aim a collision.
pub(crate) struct SeenIds {
    window: DuplicateWindow,
    seeds: [RandomState; 2],
    places: HashMap<u128, u64, PassThrough>,
    order: VecDeque<(u128, u64, Time)>,
    capped: bool,
}

impl SeenIds {
    pub(crate) fn new(window: DuplicateWindow) -> SeenIds {
        SeenIds {
            window,
            seeds: [RandomState::new(), RandomState::new()],
            places: HashMap::default(),
            order: VecDeque::new(),
            capped: false,
        }
    }

    pub(crate) fn hash(&self, id: &str) -> u128 {
        let [low, high] = &self.seeds;
        u128::from(low.hash_one(id)) | u128::from(high.hash_one(id)) << 64
    }

    /// Where the message with this hash stands, if it is within the window.
    pub(crate) fn place(&self, hash: u128) -> Option<u64> {
        self.places.get(&hash).copied()
    }

    pub(crate) fn insert(&mut self, hash: u128, sequence: u64, stored_at: Time) {
        self.places.insert(hash, sequence);
        self.order.push_back((hash, sequence, stored_at));
        while self.order.len() > self.window.count {
            let Some(&(oldest, place, at)) = self.order.front() else {
                break;
            };
            if self.order.len() <= self.window.count_max && stored_at.since(at) < self.window.span {
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
            if self.places.get(&oldest) == Some(&place) {
                self.places.remove(&oldest);
            }
        }
    }

    /// Whether a message that stands before all others, stored at this time, is still within the window.
    pub(crate) fn wants_older(&self, stored_at: Time) -> bool {
        let newest = self.order.back().map_or(stored_at, |(_, _, at)| *at);
        let is_recent =
            newest.since(stored_at) < self.window.span && self.order.len() < self.window.count_max;
        self.order.len() < self.window.count || is_recent
    }

    /// Remembers a message that stands before all others.
    pub(crate) fn prepend(&mut self, hash: u128, sequence: u64, stored_at: Time) {
        self.places.entry(hash).or_insert(sequence);
        self.order.push_front((hash, sequence, stored_at));
    }

    /// Forgets everything from `sequence` on: those messages are not in the log after all.
    pub(crate) fn forget_from(&mut self, sequence: u64) {
        while let Some((hash, place, _)) = self.order.pop_back_if(|(_, place, _)| *place >= sequence) {
            if self.places.get(&hash) == Some(&place) {
                self.places.remove(&hash);
            }
        }
    }
}

/// The keys are hashes already.
#[derive(Clone, Copy, Default)]
struct PassThrough;

impl BuildHasher for PassThrough {
    type Hasher = LowBits;
    fn build_hasher(&self) -> LowBits {
        LowBits(0)
    }
}

struct LowBits(u64);

impl std::hash::Hasher for LowBits {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(count: usize, seconds: i64, count_max: usize) -> SeenIds {
        SeenIds::new(DuplicateWindow {
            count,
            span: Span::from_seconds(seconds),
            count_max,
        })
    }

    fn check(mut seen: SeenIds, inserts: &[(&str, i64)], known: &[&str], forgotten: &[&str]) {
        for (index, (id, seconds)) in inserts.iter().enumerate() {
            seen.insert(seen.hash(id), index as u64 + 1, Time::from_seconds(*seconds));
        }
        for id in known {
            assert!(seen.place(seen.hash(id)).is_some(), "{id} should be known");
        }
        for id in forgotten {
            assert!(seen.place(seen.hash(id)).is_none(), "{id} should be forgotten");
        }
        assert!(seen.order.len() == seen.places.len());
    }

    #[test]
    fn keeps_the_count_and_the_span_and_no_more_than_the_cap() {
        let at = [("a", 0), ("b", 10), ("c", 20), ("d", 30)];
        check(window(2, 0, 9), &at, &["c", "d"], &["a", "b"]);
        check(window(2, 15, 9), &at, &["c", "d"], &["a", "b"]);
        check(window(2, 25, 9), &at, &["b", "c", "d"], &["a"]);
        check(window(2, 25, 2), &at, &["c", "d"], &["a", "b"]);
        check(window(4, 0, 9), &at, &["a", "b", "c", "d"], &[]);
    }

    #[test]
    fn forgets_the_tail_that_was_cut() {
        let mut seen = window(9, 0, 9);
        for (index, id) in ["a", "b", "c"].iter().enumerate() {
            seen.insert(seen.hash(id), index as u64 + 1, Time::EPOCH);
        }
        seen.forget_from(2);
        let place = |id: &str| seen.place(seen.hash(id));
        assert_eq!((place("a"), place("b"), place("c")), (Some(1), None, None));
    }
}
