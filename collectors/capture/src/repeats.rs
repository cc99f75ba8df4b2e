//! Which packets have the content of one captured just before: candidates for copies. Pure.
//!
//! It says how long ago that was, and never whether a packet is a copy. Most packets are no repeats, so a batch carries
//! hashes for few.

use watchfold_schemas::packets::REPEATS_WITHIN;
use watchfold_schemas::{Span, Time};

/// The most contents that are known at a time.
pub const CONTENTS_MAX: usize = WAYS * SETS;

/// Contents that are kept in one place of the table: as many as a line of the processor's cache holds.
const WAYS: usize = 4;

/// Places of the table. Packets of 5 ms fit at three million a second.
const SETS: usize = 4_096;

/// When a content was last captured.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// 0 where nothing was seen.
    content: u64,
    at: Time,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Set([Seen; WAYS]);

/// What one collector captured within the last milliseconds.
#[derive(Default)]
pub struct Repeats {
    /// Empty until the first packet.
    sets: Vec<Set>,
    /// Contents forgotten while they might still be repeated.
    pub evicted: u64,
}

impl Repeats {
    /// Takes the next packet. Says how long after the last one of the same content it was captured, where that is within
    /// [`REPEATS_WITHIN`]; the span is negative where it has the earlier time.
    pub fn push(&mut self, content: u64, at: Time) -> Option<Span> {
        if content == 0 {
            return None;
        }
        if self.sets.is_empty() {
            self.sets.resize(SETS, Set::default());
        }
        let set = &mut self.sets[(content >> 32) as usize % SETS].0;
        if let Some(seen) = set.iter_mut().find(|seen| seen.content == content) {
            let after = at.since(std::mem::replace(&mut seen.at, at));
            return is_within(after).then_some(after);
        }
        let is_over = |seen: &Seen| seen.content == 0 || !is_within(at.since(seen.at));
        let way = set.iter().position(is_over).unwrap_or_else(|| {
            self.evicted += 1;
            let oldest = (0..WAYS).min_by_key(|way| (set[*way].at, set[*way].content));
            oldest.unwrap_or_default()
        });
        set[way] = Seen { content, at };
        None
    }

    /// Packets were lost: what comes now repeats nothing that anybody knows.
    pub fn forget(&mut self) {
        self.sets.clear();
    }
}

fn is_within(span: Span) -> bool {
    span.0.unsigned_abs() <= REPEATS_WITHIN.0.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets as microseconds and content; after how many microseconds each repeats one.
    fn check(packets: &[(i64, u64)], want: &[Option<i64>]) {
        let mut repeats = Repeats::default();
        let got: Vec<Option<i64>> = packets
            .iter()
            .map(|(us, content)| repeats.push(content << 32, Time(us * 1_000)))
            .map(|after| after.map(|after| after.0 / 1_000))
            .collect();
        assert_eq!(got, want, "{packets:?}");
    }

    #[test]
    fn a_repeat_comes_within_five_milliseconds_of_the_last_of_its_content() {
        check(
            &[(0, 1), (20, 1), (30, 2), (5_020, 1)],
            &[None, Some(20), None, Some(5_000)],
        );
        check(&[(0, 1), (5_001, 1), (10_000, 1)], &[None, None, Some(4_999)]);
        check(&[(100, 1), (90, 1)], &[None, Some(-10)]);
        check(&[(0, 0), (0, 0)], &[None, None]);
    }

    #[test]
    fn a_jump_of_time_leaves_room_for_what_comes_after_it() {
        let mut repeats = Repeats::default();
        for content in 1..=CONTENTS_MAX as u64 {
            repeats.push(content << 32, Time::from_seconds(1_000));
        }
        for content in 1..=CONTENTS_MAX as u64 {
            assert_eq!(repeats.push(content << 32 | 1, Time::from_seconds(10)), None);
        }
        assert_eq!(repeats.evicted, 0);
        assert_eq!(
            repeats.push(7 << 32 | 1, Time::from_seconds(10)),
            Some(Span::ZERO)
        );
    }

    #[test]
    fn more_contents_than_it_holds_are_forgotten_and_counted() {
        let mut repeats = Repeats::default();
        let count = 4 * CONTENTS_MAX as u64;
        for content in 1..=count {
            assert_eq!(repeats.push(content << 32, Time(content as i64)), None);
        }
        assert_eq!(repeats.sets.len() * WAYS, CONTENTS_MAX);
        assert_eq!(repeats.evicted, count - CONTENTS_MAX as u64);
        assert_eq!(repeats.push(count << 32, Time(count as i64)), Some(Span::ZERO));
        assert_eq!(
            repeats.push(1 << 32, Time(count as i64)),
            None,
            "it was forgotten"
        );
        repeats.forget();
        assert_eq!(repeats.push(count << 32, Time(count as i64)), None);
    }
}
