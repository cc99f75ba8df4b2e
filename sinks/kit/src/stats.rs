//! What a sink did, as counters for `/metrics` and for tests. Counting only; nothing is decided by them.

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

impl Count {
    pub const ALL: [Count; 14] = [
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

    /// The counter's name in metrics.
    pub const fn name(self) -> &'static str {
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

/// Counters since the process started.
#[derive(Debug, Default)]
pub struct SinkStats {
    values: [AtomicU64; Count::ALL.len()],
}

impl SinkStats {
    pub fn get(&self, count: Count) -> u64 {
        self.values[count as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: Count, amount: u64) {
        self.values[count as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// Name and value of every counter.
    pub fn rows(&self) -> Vec<(&'static str, u64)> {
        Count::ALL
            .into_iter()
            .map(|count| (count.name(), self.get(count)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_place_of_its_own() {
        let stats = SinkStats::default();
        for (index, count) in Count::ALL.into_iter().enumerate() {
            stats.add(count, index as u64 + 1);
        }
        let values: Vec<u64> = stats.rows().into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, (1..=14).collect::<Vec<u64>>());
    }
}
