//! Numbers that look random and follow from a seed: the same on every machine. Nothing secret may hang on them.

/// A splitmix64 generator (Steele, Lea and Flood, 2014). Its whole state is one counter.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// The golden ratio's odd fraction of 2^64: the counter's step, which reaches every state once.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// Generators of one seed and different `purpose`s have nothing to do with each other.
    pub fn new(seed: u64, purpose: &str) -> Random {
        let mixed = purpose.bytes().fold(seed, |mixed, byte| {
            Random(mixed.rotate_left(8) ^ u64::from(byte)).next()
        });
        Random(mixed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from `0..limit`; 0 when there is nothing to choose from.
    pub fn below(&mut self, limit: u64) -> u64 {
        // The bias of a remainder is beyond seeing for limits far below 2^64.
        self.next().checked_rem(limit).unwrap_or_default()
    }

    /// Evenly from `low..high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self
            .below(u64::try_from(high - low).unwrap_or_default())
            .cast_signed()
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Mostly near 0 and seldom near `limit`, as waiting times in queues are: the cube of an even choice.
    pub fn skewed(&mut self, limit: u64) -> u64 {
        let thousandths = self.below(1_000);
        limit * thousandths * thousandths * thousandths / 1_000_000_000
    }
}
