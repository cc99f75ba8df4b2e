//! Which of equal packets are copies.

use super::*;

/// Packets as microseconds, content and way: `#` for a copy, `.` for a packet. The state is stored and loaded on the way.
fn check(packets: &[(i64, u64, u16)], want: &str) {
    let mut duplicates = Duplicates::default();
    let mut got = String::new();
    for (us, content, path) in packets {
        let is_copy = duplicates.is_copy(*content << 32, *path, Time(us * 1_000));
        got.push(if is_copy { '#' } else { '.' });
        let stored = duplicates.store();
        duplicates = Duplicates::load(stored.clone());
        assert_eq!(duplicates.store(), stored);
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
}

#[test]
fn equal_packets_that_are_sent_on_purpose_are_packets() {
    // A flood of one packet: one of fifty within 5 ms.
    let flood: Vec<_> = (0..1_000).map(|number| (number * 100, 1, 7)).collect();
    let mut duplicates = Duplicates::default();
    let copies = flood
        .iter()
        .filter(|(us, content, path)| duplicates.is_copy(*content, *path, Time(us * 1_000)))
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
    let flood = 4 * ORIGINALS_MAX as u64;
    for content in 1..=flood {
        assert!(!duplicates.is_copy(content << 32, 7, Time(content as i64)));
    }
    assert_eq!(duplicates.table.len(), ORIGINALS_MAX);
    assert!(
        duplicates.evicted > 2 * ORIGINALS_MAX as u64,
        "{}",
        duplicates.evicted
    );
    assert!(duplicates.is_copy(flood << 32, 7, Time(flood as i64)));
}
