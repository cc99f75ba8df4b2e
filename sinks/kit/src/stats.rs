//! What a sink or an oracle did, as counters for `/metrics` and for tests. Counting only; nothing is decided by them.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something a sink counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Requests delivered.
    Delivered,
    /// Requests folded into a later message, or with nothing left to show.
    Merged,
    /// Requests whose `expires_at` passed.
    Expired,
    /// Requests that the far side will never take.
    Rejected,
    /// Attempts that failed and are made again.
    Retried,
    /// Edits given up; the message they were for keeps its old look.
    EditsDropped,
    /// Requests that expired while their class had no destination.
    Unroutable,
    /// Old requests skipped because retention may have taken their receipts.
    TooOld,
    /// Records that could not be decoded.
    Quarantined,
    /// Events dropped because they had been read before.
    Repeated,
    /// Records that the log lost before they were read.
    Lost,
    /// Times that a named limit was reached.
    LimitsHit,
    /// Receipts that had to be written again.
    ReceiptsRetried,
    /// State files set aside, or that could not be written.
    StateFailures,
}

impl Counted for Count {
    const ALL: &'static [Count] = &[
        Count::Delivered,
        Count::Merged,
        Count::Expired,
        Count::Rejected,
        Count::Retried,
        Count::EditsDropped,
        Count::Unroutable,
        Count::TooOld,
        Count::Quarantined,
        Count::Repeated,
        Count::Lost,
        Count::LimitsHit,
        Count::ReceiptsRetried,
        Count::StateFailures,
    ];

    fn name(self) -> &'static str {
        match self {
            Count::Delivered => "delivered",
            Count::Merged => "merged",
            Count::Expired => "expired",
            Count::Rejected => "rejected",
            Count::Retried => "retried",
            Count::EditsDropped => "edits_dropped",
            Count::Unroutable => "unroutable",
            Count::TooOld => "too_old",
            Count::Quarantined => "quarantined",
            Count::Repeated => "repeated",
            Count::Lost => "lost",
            Count::LimitsHit => "limits_hit",
            Count::ReceiptsRetried => "receipts_retried",
            Count::StateFailures => "state_failures",
        }
    }
}

/// An enum of what is counted.
pub trait Counted: Copy + Eq + 'static {
    /// In the order in which they are shown.
    const ALL: &'static [Self];

    /// The counter's name in metrics.
    fn name(self) -> &'static str;
}

/// What was counted since the process started.
#[derive(Debug)]
pub struct Stats<C> {
    /// In the order of [`Counted::ALL`].
    values: Vec<AtomicU64>,
    counted: PhantomData<fn(C)>,
}

/// What a sink did.
pub type SinkStats = Stats<Count>;

impl<C: Counted> Default for Stats<C> {
    fn default() -> Stats<C> {
        Stats {
            values: C::ALL.iter().map(|_| AtomicU64::default()).collect(),
            counted: PhantomData,
        }
    }
}

impl<C: Counted> Stats<C> {
    pub fn get(&self, count: C) -> u64 {
        self.value(count).map_or(0, |value| value.load(Ordering::Relaxed))
    }

    pub fn add(&self, count: C, amount: u64) {
        if let Some(value) = self.value(count) {
            value.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Name and value of every counter.
    pub fn rows(&self) -> Vec<(&'static str, u64)> {
        let named = C::ALL.iter().zip(&self.values);
        named
            .map(|(count, value)| (count.name(), value.load(Ordering::Relaxed)))
            .collect()
    }

    fn value(&self, count: C) -> Option<&AtomicU64> {
        let place = C::ALL.iter().position(|other| *other == count)?;
        self.values.get(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_place_of_its_own() {
        let stats = SinkStats::default();
        for (index, count) in Count::ALL.iter().enumerate() {
            stats.add(*count, index as u64 + 1);
            assert_eq!(stats.get(*count), index as u64 + 1);
        }
        let values: Vec<u64> = stats.rows().into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, (1..=14).collect::<Vec<u64>>());
    }
}
