//! Buckets of round-trip times.

use super::*;

#[test]
fn buckets_hold_their_values_within_a_sixteenth() {
    for value in (0..2_000).chain([4_095, 4_096, 1_000_000, u32::MAX - 1, u32::MAX]) {
        let bucket = bucket_of(value);
        let top = bucket_top(bucket);
        assert!(top >= value, "{value} above the top {top} of its bucket");
        assert!(
            u64::from(top - value) <= u64::from(value) / 16,
            "{value} in a bucket up to {top}"
        );
        if bucket > 0 {
            assert!(
                bucket_top(bucket - 1) < value,
                "{value} belongs into an earlier bucket"
            );
        }
    }
}

#[test]
fn quantiles_of_merged_hours_are_those_of_the_whole() {
    let (mut whole, mut left, mut right) = (
        RttHistogram::default(),
        RttHistogram::default(),
        RttHistogram::default(),
    );
    for value in 1..=1_000 {
        whole.record(value);
        if value % 3 == 0 {
            left.record(value)
        } else {
            right.record(value)
        }
    }
    left.merge(&right);
    assert_eq!(left, whole);
    assert_eq!(whole.quantile_us(0), Some(1));
    assert_eq!(whole.quantile_us(1_000), Some(1_000));
    assert!((500..=532).contains(&whole.quantile_us(500).unwrap()));
    assert_eq!(RttHistogram::default().quantile_us(500), None);
}

#[test]
fn causes_are_capped_but_counted() {
    let mut causes = Causes::default();
    for number in 0..100 {
        causes.push(&MessageId(format!("s/c/1/{number}")));
    }
    assert_eq!((causes.messages.len(), causes.total), (CAUSES_MAX, 100));
}
