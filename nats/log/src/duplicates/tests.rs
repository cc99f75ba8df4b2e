//! The window against what it says it keeps, and its table against a plain map.

use std::collections::HashMap;

use proptest::prelude::*;

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
    assert_eq!(seen.order.len(), known.len());
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

/// A step of the window's life, with hashes that look alike as often as they can.
#[derive(Clone, Debug)]
enum Step {
    Insert(u128),
    Prepend(u128),
    /// So many of the newest.
    Forget(u64),
}

/// Few tags, few neighbours, and few upper halves: searches collide, wrap around, and meet other hashes of their tag.
fn hashes() -> impl Strategy<Value = u128> {
    let tag = prop_oneof![0_u32..4, 1020_u32..1028, (u32::MAX - 3)..=u32::MAX];
    (tag, 0_u128..3).prop_map(|(tag, above)| u128::from(tag) | above << 64)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => hashes().prop_map(Step::Insert),
        2 => hashes().prop_map(Step::Prepend),
        1 => (1_u64..5).prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 0..400)
}

proptest! {
    /// The window holds a hash exactly if it is the newest of that hash among those kept, as a plain list has it.
    #[test]
    fn hashes_that_look_alike_are_told_apart(steps in steps(), count in 1_usize..60) {
        let mut seen = window(count, 0, count);
        let mut plain: Vec<(u128, u64)> = Vec::new();
        let (mut first, mut next) = (1_000_000, 1_000_000);
        for step in steps {
            match step {
                // The log asks first, and keeps no duplicates.
                Step::Insert(hash) if seen.place(hash).is_none() => {
                    seen.insert(hash, next, Time::EPOCH);
                    plain.push((hash, next));
                    next += 1;
                    plain.drain(..plain.len().saturating_sub(count));
                }
                Step::Prepend(hash) if plain.len() < count => {
                    first -= 1;
                    seen.prepend(hash, first, Time::EPOCH);
                    plain.insert(0, (hash, first));
                }
                Step::Forget(newest) => {
                    seen.forget_from(next.saturating_sub(newest));
                    // One that stood there twice is then forgotten altogether; the log never cuts what it once recovered.
                    let cut: Vec<u128> = plain.iter().filter(|(_, at)| *at >= next - newest).map(|(h, _)| *h).collect();
                    plain.retain(|(_, at)| *at < next - newest);
                    prop_assert!(cut.iter().all(|hash| seen.place(*hash).is_none()));
                    if plain.iter().any(|(hash, _)| cut.contains(hash)) {
                        return Ok(());
                    }
                }
                Step::Insert(_) | Step::Prepend(_) => {}
            }
            let newest: HashMap<u128, u64> = plain.iter().copied().collect();
            for (hash, sequence) in &newest {
                prop_assert_eq!(seen.place(*hash), Some(*sequence));
            }
            for above in 0..3_u128 {
                for tag in [0_u32, 1, 2, 3, 1023, 1024, u32::MAX] {
                    let hash = u128::from(tag) | above << 64;
                    prop_assert_eq!(seen.place(hash), newest.get(&hash).copied());
                }
            }
        }
    }
}

#[test]
fn a_full_window_turns_over_many_times() {
    let mut seen = window(5_000, 0, 5_000);
    for number in 0..60_000_u64 {
        let hash = seen.hash(&number.to_string());
        assert_eq!(seen.place(hash), None, "{number} was never seen");
        seen.insert(hash, number, Time::EPOCH);
        let old = number.saturating_sub(4_999);
        assert_eq!(seen.place(seen.hash(&old.to_string())), Some(old));
    }
    let forgotten = (0..55_000).filter(|old: &u64| seen.place(seen.hash(&old.to_string())).is_some());
    assert_eq!(forgotten.count(), 0);
}

#[test]
fn what_is_taken_back_again_and_again_leaves_nothing_behind() {
    let mut seen = window(100, 0, 100);
    for number in 0..100 {
        seen.insert(seen.hash(&format!("kept {number}")), number, Time::EPOCH);
    }
    for _ in 0..2_000 {
        for number in 100..150 {
            seen.insert(seen.hash(&format!("refused {number}")), number, Time::EPOCH);
        }
        seen.forget_from(100);
    }
    assert_eq!(seen.place(seen.hash("refused 100")), None);
    assert_eq!(seen.place(seen.hash("kept 99")), Some(99));
    seen.purge();
    assert_eq!(
        seen.slots.used(),
        seen.order.len(),
        "the table holds what is forgotten"
    );
}

/// As recovery may find them: a message that came again after the window had forgotten it.
#[test]
fn of_a_message_that_stands_twice_the_last_place_counts() {
    let mut seen = window(3, 0, 3);
    let place = |seen: &SeenIds| seen.place(seen.hash("twice"));
    seen.insert(seen.hash("twice"), 5, Time::EPOCH);
    seen.insert(seen.hash("twice"), 6, Time::EPOCH);
    assert_eq!(place(&seen), Some(6));
    seen.prepend(seen.hash("twice"), 4, Time::EPOCH);
    assert_eq!(place(&seen), Some(6));
    seen.insert(seen.hash("other"), 7, Time::EPOCH);
    seen.insert(seen.hash("another"), 8, Time::EPOCH);
    assert_eq!(
        place(&seen),
        Some(6),
        "forgetting the first place does not forget the last"
    );
    seen.insert(seen.hash("one more"), 9, Time::EPOCH);
    assert_eq!(place(&seen), None);
}
