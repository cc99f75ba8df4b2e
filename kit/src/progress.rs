//! Whether a part advances, for health pages and for the outside watchdog. It judges nothing: readers do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How far one part is. Cheap to update from anywhere.
#[derive(Debug)]
pub struct Progress {
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    position: u64,
    head: u64,
    advanced_at: Option<Instant>,
    detail: Option<String>,
    failing_since: Option<Instant>,
    note: Option<String>,
    unconfigured: bool,
}

/// [`Progress`] at one instant.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ProgressSnapshot {
    pub name: String,
    /// What the part has dealt with: a sequence, a round.
    pub position: u64,
    /// What there is to deal with.
    pub head: u64,
    /// How long ago the part last advanced or was found at the head; `None` before the first time.
    pub advanced_age: Option<Duration>,
    /// What is wrong, while something is.
    pub detail: Option<String>,
    /// For how long something has been wrong without a break.
    pub failing_age: Option<Duration>,
    /// What it did last, where that is worth a line; nothing is wrong with it.
    pub note: Option<String>,
    /// False while the configuration does not switch the part on: it has nothing to do.
    pub configured: bool,
}

impl Progress {
    pub fn new(name: &str) -> Arc<Progress> {
        Arc::new(Progress {
            name: name.to_owned(),
            state: Mutex::default(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The part is at `position` of `head`. Its age starts anew when it moved or has nothing left to do.
    pub fn advance(&self, position: u64, head: u64) {
        let mut state = self.state();
        if position > state.position || position >= head {
            state.advanced_at = Some(Instant::now());
        }
        state.position = position;
        state.head = head.max(position);
    }

    /// Something is wrong; stands until [`Progress::ok`].
    pub fn fail(&self, detail: String) {
        let mut state = self.state();
        state.failing_since.get_or_insert_with(Instant::now);
        state.detail = Some(detail);
    }

    pub fn ok(&self) {
        let mut state = self.state();
        (state.detail, state.failing_since) = (None, None);
    }

    /// What the part did last; stands until the next note.
    pub fn note(&self, note: String) {
        self.state().note = Some(note);
    }

    /// The configuration does not switch the part on. It is neither behind nor at work, until [`Progress::resume`].
    pub fn idle(&self) {
        self.advance(0, 0);
        let mut state = self.state();
        state.unconfigured = true;
        state.detail = None;
    }

    /// The configuration switches the part on.
    pub fn resume(&self) {
        self.state().unconfigured = false;
    }

    pub fn snapshot(&self) -> ProgressSnapshot {
        let state = self.state();
        ProgressSnapshot {
            name: self.name.clone(),
            position: state.position,
            head: state.head,
            advanced_age: state.advanced_at.map(|at| at.elapsed()),
            detail: state.detail.clone(),
            failing_age: state.failing_since.map(|since| since.elapsed()),
            note: state.note.clone(),
            configured: !state.unconfigured,
        }
    }

    /// A panic elsewhere leaves plain numbers behind, so a poisoned lock is still good.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_stands_still_ages_and_one_at_the_head_does_not() {
        let progress = Progress::new("chain");
        assert_eq!(progress.snapshot().advanced_age, None);
        progress.advance(3, 5);
        let first = progress.state().advanced_at;
        progress.advance(3, 9);
        assert_eq!(progress.state().advanced_at, first, "no move, and behind");
        progress.advance(9, 9);
        assert!(progress.state().advanced_at > first);
        assert_eq!(progress.snapshot().failing_age, None);
        progress.fail("disk".into());
        let since = progress.state().failing_since;
        assert_eq!(progress.snapshot().detail.as_deref(), Some("disk"));
        progress.fail("another disk".into());
        assert!(since.is_some() && progress.state().failing_since == since);
        progress.ok();
        assert_eq!(progress.snapshot().failing_age, None);
        let got = progress.snapshot();
        assert_eq!((got.position, got.head, got.detail), (9, 9, None));
    }

    #[test]
    fn a_part_without_a_configuration_is_not_at_work() {
        let progress = Progress::new("sink");
        assert!(progress.snapshot().configured);
        progress.idle();
        assert!(!progress.snapshot().configured);
        progress.resume();
        assert!(progress.snapshot().configured);
    }
}
