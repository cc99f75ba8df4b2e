//! What a runner has done, for health pages, metrics and tests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One counter or gauge. Readers see each for itself; together they are not one instant.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares the counters and their plain copy together, so that none can be forgotten in the other.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Count,)*
            /// Those of the fold, as of the last look at it.
            pub(crate) fold: Mutex<Vec<(&'static str, u64)>>,
        }

        /// A runner's counters since it was opened, and its gauges, at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct RunnerStats { $($(#[$doc])* pub $name: u64,)* }

        impl RunnerStats {
            /// Name and value of every counter and gauge.
            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        impl Counters {
            fn snapshot(&self) -> RunnerStats {
                RunnerStats { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Observations folded.
    records,
    /// Records that could not be decoded, or name another site; they stay in the log.
    quarantined,
    /// Observations dropped because their collector's number was seen, or their incarnation is over.
    duplicates,
    /// Collectors forgotten because there were more than the table holds.
    collectors_evicted,
    /// Records that the log no longer had.
    lost_records,
    /// Events emitted by the fold.
    events,
    /// Events of a refold that had been published before.
    events_silenced,
    /// Events that no log will ever take (too large), dropped.
    events_refused,
    /// Events acknowledged by the log.
    published,
    /// Acknowledged events that the log had already.
    published_duplicates,
    /// Appends of events that failed and are tried again.
    publish_failures,
    commits,
    /// Times that folding stopped because the outbox was full.
    outbox_full,
    /// Chains brought up from a snapshot or from the first record.
    rebuilds,
    /// Stores put aside because they were broken, behind the events or in disagreement with the log.
    stores_set_aside,
    /// 1 while the state is kept in memory because its directory cannot be used.
    store_in_memory,
    snapshots,
    snapshot_failures,
    /// Gauge: the last sequence dealt with.
    position,
    /// Gauge: the last sequence known to be in the log.
    head,
    /// Gauge: events emitted and not yet acknowledged.
    outbox,
    /// Gauge: the last input of which every event is in the log.
    settled,
    /// Gauge: the last input that other software folded, as far as is known; 0 for none.
    foreign,
    /// Times that the folds' state went into the store, apart from commits of events alone.
    checkpoints,
    /// Observations appended for another chain to read.
    told,
}

/// Reads a runner's counters while it runs.
#[derive(Clone, Debug)]
pub struct StatsHandle(pub(crate) Arc<Counters>);

impl StatsHandle {
    pub fn snapshot(&self) -> RunnerStats {
        self.0.snapshot()
    }

    /// What the fold had to do without, by name: empty for a chain that counts nothing.
    pub fn fold_counters(&self) -> Vec<(&'static str, u64)> {
        self.0.fold.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
