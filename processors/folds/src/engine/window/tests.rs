//! Windows against a list of everything that came: exact up to the threshold, bounded, and the same after being stored.

use proptest::prelude::*;

use super::*;
use crate::engine::compile::{Measure, WindowRule};
use watchfold_schemas::fields::Field;

const LIMITS: Limits = Limits {
    keys: 64,
    cells: 4_096,
};
const SPAN: Span = Span::from_seconds(10);

fn windows(measure: Measure, at_least: u64) -> Windows {
    let rule = WindowRule {
        measure,
        group: 0,
        span: SPAN,
        at_least,
    };
    Windows::new(&rule, LIMITS)
}

fn push(windows: &mut Windows, key: i64, at_ms: i64, amount: u64) -> u64 {
    let entry = Entry {
        at: Time::from_millis(at_ms),
        number: at_ms as u64,
        amount,
    };
    windows.push(Print::of_number(key), entry).observed
}

const DISTINCT: Measure = Measure::Distinct(Field::DestinationPort);
const SUM: Measure = Measure::Sum {
    field: Field::Bytes,
    parts: None,
};

fn stored_and_loaded(windows: &Windows, measure: Measure, at_least: u64) -> Windows {
    let mut again = self::windows(measure, at_least);
    for (shard, bytes) in windows.store(true) {
        again.load(shard, &bytes).unwrap();
    }
    again
}

/// What a list of all rows says.
fn counted(measure: Measure, rows: &[(i64, u64)], at_ms: i64) -> u64 {
    let within = rows.iter().filter(|(at, _)| *at >= at_ms - SPAN.as_millis());
    match measure {
        Measure::Rows => within.count() as u64,
        Measure::Distinct(_) => within
            .map(|(_, value)| value)
            .collect::<std::collections::BTreeSet<_>>()
            .len() as u64,
        Measure::Sum { .. } => within.map(|(_, amount)| amount).sum(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn up_to_the_threshold_every_window_is_exact_and_beyond_it_a_lower_bound(
        rows in prop::collection::vec((0_i64..3_000, 0_u64..30), 1..400),
        at_least in 1_u64..40,
        restore_every in 1_usize..50,
    ) {
        for measure in [Measure::Rows, DISTINCT, SUM] {
            let mut windows = windows(measure, at_least);
            let (mut at, mut seen) = (0, Vec::new());
            for (number, (step, amount)) in rows.iter().enumerate() {
                at += step;
                seen.push((at, *amount));
                let want = counted(measure, &seen, at);
                let got = push(&mut windows, 1, at, *amount);
                prop_assert_eq!(got.min(at_least), want.min(at_least), "{:?} at {}", measure, at);
                prop_assert!(got <= want, "{:?}: {} of {}", measure, got, want);
                if number % restore_every == 0 {
                    windows = stored_and_loaded(&windows, measure, at_least);
                }
            }
        }
    }

    #[test]
    fn a_sum_in_parts_is_too_low_by_at_most_the_oldest_part(
        rows in prop::collection::vec((0_i64..3_000, 0_u64..30), 1..300),
        parts in 1_u32..20,
    ) {
        let measure = Measure::Sum { field: Field::Bytes, parts: Some(parts) };
        let mut windows = windows(measure, 1_000);
        let (mut at, mut seen) = (0, Vec::new());
        let part_ms = SPAN.as_millis() / i64::from(parts) + 1;
        for (step, amount) in rows {
            at += step;
            seen.push((at, amount));
            let got = push(&mut windows, 1, at, amount);
            let most = counted(measure, &seen, at);
            let oldest = at - SPAN.as_millis();
            let of_oldest: u64 = seen.iter().filter(|(row, _)| *row >= oldest && *row <= oldest + part_ms).map(|(_, amount)| amount).sum();
            prop_assert!(got <= most && got + of_oldest >= most, "{} of {}, {} in the oldest part", got, most, of_oldest);
        }
    }
}

#[test]
fn windows_are_closed() {
    for (measure, at_least) in [(Measure::Rows, 2), (DISTINCT, 2), (SUM, 3)] {
        let mut windows = windows(measure, at_least);
        push(&mut windows, 1, 0, 1);
        assert_eq!(
            push(&mut windows, 1, 10_000, 2),
            at_least,
            "{measure:?}: exactly as old as the window"
        );
        let mut windows = self::windows(measure, at_least);
        push(&mut windows, 1, 0, 1);
        assert!(push(&mut windows, 1, 10_001, 2) < at_least, "{measure:?}: older");
    }
}

#[test]
fn causes_name_the_first_packet_that_counts() {
    let mut windows = windows(Measure::Rows, 3);
    let mut last = None;
    for at_ms in [0, 5_000, 6_000, 12_000] {
        let entry = Entry {
            at: Time::from_millis(at_ms),
            number: at_ms as u64,
            amount: 1,
        };
        last = Some(windows.push(Print::of_number(1), entry).window);
    }
    assert_eq!(windows.causes(last.unwrap()), (5_000, 3));
}

#[test]
fn a_flood_of_keys_stays_within_bounds_and_forgets_the_oldest_first() {
    for measure in [Measure::Rows, DISTINCT, SUM] {
        let mut windows = windows(measure, 100);
        for key in 0..10_000 {
            push(&mut windows, key, key, 1);
            push(&mut windows, -1, key, key as u64);
            assert!(windows.keys() <= LIMITS.keys, "{measure:?}");
        }
        assert!(windows.take_evicted() > 9_000, "{measure:?}");
        assert!(
            push(&mut windows, -1, 10_000, 1) > 100,
            "{measure:?}: what is active is kept"
        );
        assert_eq!(
            push(&mut windows, 9_999, 10_000, 2),
            if measure == SUM { 3 } else { 2 },
            "{measure:?}"
        );
    }
}

#[test]
fn rows_of_all_keys_together_are_bounded() {
    let mut windows = windows(Measure::Rows, 1_000);
    for row in 0..20_000 {
        push(&mut windows, row % 40, 0, 1);
    }
    let evicted = windows.take_evicted();
    assert!(evicted > 40, "{evicted}");
    assert!(
        push(&mut windows, 39, 0, 1) < 1_000,
        "it was forgotten on the way"
    );
}

#[test]
fn windows_that_ended_are_swept_and_not_counted_as_forgotten() {
    let mut windows = windows(Measure::Rows, 5);
    for key in 0..50 {
        push(&mut windows, key, 0, 1);
    }
    push(&mut windows, 99, 120_000, 1);
    assert_eq!((windows.keys(), windows.take_evicted()), (1, 0));
}

#[test]
fn only_shards_that_changed_are_stored_again() {
    let mut windows = windows(Measure::Rows, 5);
    for key in 0..50 {
        push(&mut windows, key, 0, 1);
    }
    assert!(windows.store(false).len() > 20);
    windows.mark_clean();
    assert!(windows.store(false).is_empty());
    push(&mut windows, 7, 1, 1);
    let changed = windows.store(false);
    assert_eq!(changed.len(), 2, "its shard, and when the next sweep is");
    assert!(windows.load(changed[0].0, b"garbage").is_none());
}

#[test]
fn an_exact_sum_of_too_many_rows_is_too_low_and_counted() {
    let mut windows = windows(SUM, u64::MAX);
    windows.set_limits(Limits {
        cells: 2 * QUEUE_MAX,
        ..LIMITS
    });
    for _ in 0..QUEUE_MAX {
        push(&mut windows, 1, 0, 1);
    }
    assert_eq!(windows.take_evicted(), 0);
    for _ in 0..3 {
        push(&mut windows, 1, 0, 1);
    }
    assert_eq!(push(&mut windows, 1, 0, 0), QUEUE_MAX as u64);
    assert_eq!(windows.take_evicted(), 3);
}
