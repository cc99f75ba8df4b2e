//! When the state of the folds goes into the store. With every commit, unless it changes so much with each record that a
//! commit of events would wait for it: then now and then, and a restart folds again what came since.

use std::time::Duration;

use tokio::time::Instant;

/// The rhythm of one chain.
pub(crate) struct Checkpoints {
    /// At most this long and so many bytes of input apart; every commit is one where there is none.
    apart: Option<(Duration, u64)>,
    last: Instant,
    bytes_since: u64,
    /// Something was folded since.
    unsaved: bool,
    /// The next commit is to be one.
    wanted: bool,
}

impl Checkpoints {
    pub(crate) fn new(apart: Option<(Duration, u64)>) -> Checkpoints {
        Checkpoints {
            apart,
            last: Instant::now(),
            bytes_since: 0,
            unsaved: false,
            wanted: false,
        }
    }

    pub(crate) fn folded(&mut self, bytes: usize) {
        self.unsaved = true;
        self.bytes_since += bytes as u64;
    }

    /// Whether a commit now is one.
    pub(crate) fn is_due(&self) -> bool {
        self.apart.is_none_or(|(every, bytes)| {
            self.unsaved && (self.wanted || self.bytes_since >= bytes || self.last.elapsed() >= every)
        })
    }

    /// Makes the next commit one; tells whether there is anything to store.
    pub(crate) fn want(&mut self) -> bool {
        self.wanted = self.unsaved && self.apart.is_some();
        self.wanted
    }

    pub(crate) fn taken(&mut self) {
        (self.last, self.bytes_since) = (Instant::now(), 0);
        (self.unsaved, self.wanted) = (false, false);
    }
}
