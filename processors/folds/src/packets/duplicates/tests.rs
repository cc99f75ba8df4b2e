//! Which of equal packets are copies.

use std::collections::BTreeMap;

use super::*;

/// Packets of a capture point, of which a collector names those that repeat one.
#[derive(Default)]
struct Captured {
    last: BTreeMap<u64, Time>,
    duplicates: Duplicates,
}

impl Captured {
    fn is_copy(&mut self, us: i64, content: u64, path: u16) -> bool {
        let at = Time(us * 1_000);
        let before = self.last.insert(content, at);
        let after = before.map(|before| at.since(before));
        after.is_some_and(|after| {
            let repeat = Repeat {
                row: 0,
                print: content as u32,
                path,
                after,
            };
            is_within(after, REPEATS_WITHIN) && self.duplicates.is_copy(content << 32, &repeat, at)
        })
    }
}

/// Packets as microseconds, content and way: `#` for a copy, `.` for a packet. The state is stored and loaded on the way.
fn check(packets: &[(i64, u64, u16)], want: &str) {
    let mut captured = Captured::default();
    let mut got = String::new();
    for (us, content, path) in packets {
        let is_copy = captured.is_copy(*us, *content, *path);
        got.push(if is_copy { '#' } else { '.' });
        let stored = captured.duplicates.store();
        captured.duplicates = Duplicates::load(stored.clone());
        assert_eq!(captured.duplicates.store(), stored);
    }
    assert_eq!(got, want, "{packets:?}");
}

#[test]
fn a_copy_is_marked_once_for_each_way_that_it_came() {
    // As a mirror port delivers it, and as a router and a bridge do.
    check(&[(0, 1, 7), (20, 1, 7)], ".#");
    check(&[(0, 1, 7), (20, 1, 8), (30, 1, 9)], ".##");
    check(
        &[(0, 1, 7), (20, 1, 8), (30, 1, 7), (40, 1, 8), (50, 1, 7)],
        ".##..",
    );
    let ways: Vec<_> = (0..12).map(|path| (i64::from(path), 1, path)).collect();
    check(&ways, ".########...");
}

#[test]
fn copies_come_within_five_milliseconds() {
    check(&[(0, 1, 7), (5_000, 1, 7)], ".#");
    check(&[(0, 1, 7), (5_001, 1, 7)], "..");
    // What came later than that is an original of its own.
    check(
        &[(0, 1, 7), (5_001, 1, 7), (10_000, 1, 7), (10_001, 1, 7)],
        "..#.",
    );
    // The last packet that it equals is a copy of one that is too long ago.
    check(&[(0, 1, 7), (4_000, 1, 7), (8_000, 1, 7), (9_000, 1, 7)], ".#.#");
    check(
        &[(0, 1, 7), (4_000, 1, 7), (10_000, 1, 7), (11_000, 1, 7)],
        ".#.#",
    );
}

#[test]
fn copies_are_known_by_their_own_times() {
    // The copy was captured first and is read later, before and after a jump of the file's time.
    check(&[(100, 1, 7), (90, 1, 8)], ".#");
    check(
        &[(9_000_000, 1, 7), (20, 2, 7), (40, 2, 7), (60, 1, 7), (80, 1, 7)],
        "..#.#",
    );
}

#[test]
fn equal_packets_that_are_sent_on_purpose_are_packets() {
    // A flood of one packet: one of fifty within 5 ms.
    let flood: Vec<_> = (0..1_000).map(|number| (number * 100, 1, 7)).collect();
    let mut captured = Captured::default();
    let copies = flood
        .iter()
        .filter(|(us, content, path)| captured.is_copy(*us, *content, *path))
        .count();
    assert_eq!(copies, 20);
    // A segment that is sent again 6 ms later, and one that is sent again at once three times.
    check(&[(0, 1, 7), (6_000, 1, 7), (12_000, 1, 7)], "...");
    check(&[(0, 1, 7), (10, 1, 7), (20, 1, 7), (30, 1, 7)], ".#..");
    check(&[(0, 1, 7), (10, 2, 7)], "..");
}

#[test]
fn a_flood_stays_within_its_bound_and_says_what_it_forgot() {
    let mut duplicates = Duplicates::default();
    let repeat = Repeat {
        row: 0,
        print: 0,
        path: 7,
        after: Span(1),
    };
    let flood = 4 * ORIGINALS_MAX as u64;
    for content in 1..=flood {
        assert!(duplicates.is_copy(content << 32, &repeat, Time(content as i64)));
    }
    assert_eq!(duplicates.table.len(), ORIGINALS_MAX);
    assert!(
        duplicates.evicted > 2 * ORIGINALS_MAX as u64,
        "{}",
        duplicates.evicted
    );
    assert!(
        !duplicates.is_copy(flood << 32, &repeat, Time(flood as i64)),
        "its way is known"
    );
}
