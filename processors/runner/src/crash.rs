//! Where a simulator can stop a runner dead: between any two steps of commit, publish and snapshot.
//!
//! Production sets no hook. A crash is an early return: nothing is flushed, nothing is told.

use std::fmt;
use std::sync::Arc;

/// The steps at which a runner asks its hook whether to crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CrashPoint {
    /// Folded, nothing of it applied to the store.
    BeforeCommit,
    /// Applied to the store, not synced: a power cut takes it away, a kill does not.
    BeforeSync,
    /// Committed, nothing of it published.
    AfterCommit,
    /// What another chain is told stands in the log, the events that it is told because of do not.
    AfterTelling,
    /// Half of a batch of events published.
    MidPublish,
    /// Published and acknowledged, still in the stored outbox.
    AfterPublish,
    /// Some chunks of a snapshot written, its manifest not.
    DuringSnapshot,
}

impl CrashPoint {
    pub const ALL: [CrashPoint; 7] = [
        CrashPoint::BeforeCommit,
        CrashPoint::BeforeSync,
        CrashPoint::AfterCommit,
        CrashPoint::AfterTelling,
        CrashPoint::MidPublish,
        CrashPoint::AfterPublish,
        CrashPoint::DuringSnapshot,
    ];
}

/// Asked at each step; `true` crashes there.
#[derive(Clone, Default)]
pub struct CrashHook(Option<Arc<dyn Fn(CrashPoint) -> bool + Send + Sync>>);

impl CrashHook {
    pub fn new(ask: impl Fn(CrashPoint) -> bool + Send + Sync + 'static) -> CrashHook {
        CrashHook(Some(Arc::new(ask)))
    }

    pub(crate) fn reached(&self, point: CrashPoint) -> bool {
        self.0.as_ref().is_some_and(|ask| ask(point))
    }
}

impl fmt::Debug for CrashHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "CrashHook(set)"
        } else {
            "CrashHook(none)"
        })
    }
}
