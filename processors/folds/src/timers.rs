//! Deadlines as data. A timer belongs to a clock: that of a collector, for what it measures, or the site's, for what
//! is ours. Both run without the jumps in them, so a span that nobody measured moves every deadline by itself.
//!
//! State names a timer by its fold, its kind and its key, so it stays readable when folds or kinds are added between others.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use watchfold_schemas::Time;

use crate::table::{Change, Table};

/// Whose time a deadline is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerClock {
    Site,
    Collector(String),
}

/// One fold's kinds of timers, by the names that state and causes hold.
#[derive(Clone, Copy, Debug)]
pub struct FoldTimers {
    pub fold: &'static str,
    pub kinds: &'static [&'static str],
}

/// A kind of timer: the place of its fold in the list of folds, and its place among that fold's kinds. Timers of one
/// deadline fire in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId {
    pub fold: u8,
    pub kind: u8,
}

/// A timer that is due: `key` says about what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    pub id: TimerId,
    pub key: String,
    /// In its clock's own time.
    pub deadline: Time,
}

/// A pending timer as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    clock: TimerClock,
    deadline: Time,
}

/// Every pending timer, with an index by clock and deadline that is rebuilt from the table.
#[derive(Debug)]
pub struct Timers {
    folds: &'static [FoldTimers],
    table: Table<Pending>,
    index: BTreeMap<TimerClock, BTreeSet<(Time, TimerId, String)>>,
}

impl Timers {
    pub fn new(folds: &'static [FoldTimers]) -> Timers {
        Timers {
            folds,
            table: Table::new("timers/pending/"),
            index: BTreeMap::new(),
        }
    }

    /// Sets it, in place of an earlier one of the same kind and key.
    pub fn set(&mut self, id: TimerId, key: &str, clock: TimerClock, deadline: Time) {
        let name = self.name(id, key);
        self.unlink(&name, id, key);
        self.index
            .entry(clock.clone())
            .or_default()
            .insert((deadline, id, key.to_owned()));
        self.table.insert(&name, Pending { clock, deadline });
    }

    pub fn cancel(&mut self, id: TimerId, key: &str) {
        let name = self.name(id, key);
        self.unlink(&name, id, key);
        self.table.remove(&name);
    }

    /// Takes the earliest timer of `clock` that is due by `until`.
    pub fn pop_due(&mut self, clock: &TimerClock, until: Time) -> Option<Timer> {
        let pending = self.index.get_mut(clock)?;
        pending.first().filter(|(deadline, ..)| *deadline <= until)?;
        let (deadline, id, key) = pending.pop_first()?;
        let name = self.name(id, &key);
        self.table.remove(&name)?;
        Some(Timer { id, key, deadline })
    }

    /// What state and causes call it: `fold/kind/key`.
    pub fn name(&self, id: TimerId, key: &str) -> String {
        let fold = self.folds.get(usize::from(id.fold));
        let kind = fold.and_then(|fold| fold.kinds.get(usize::from(id.kind)));
        let (Some(fold), Some(kind)) = (fold, kind) else {
            unreachable!("only kinds of the folds in the list are set")
        };
        format!("{}/{kind}/{key}", fold.fold)
    }

    /// The name of the fold at a place of the list.
    pub fn fold(&self, place: u8) -> Option<&'static str> {
        self.folds.get(usize::from(place)).map(|fold| fold.fold)
    }

    pub fn drain_dirty(&mut self, out: &mut Vec<Change>) {
        self.table.drain_dirty(out);
    }

    pub fn store_all(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        self.table.store_all(out);
    }

    pub fn load(&mut self, stored_key: &[u8], bytes: &[u8]) -> Result<bool, String> {
        let Some(name) = self.table.load_key(stored_key, bytes)? else {
            return Ok(false);
        };
        let Some((id, key)) = self.read(&name) else {
            return Err(format!("timers/pending/{name} is no timer of this version"));
        };
        let key = key.to_owned();
        if let Some(timer) = self.table.get(&name) {
            self.index
                .entry(timer.clock.clone())
                .or_default()
                .insert((timer.deadline, id, key));
        }
        Ok(true)
    }

    /// The reverse of [`Timers::name`].
    fn read<'n>(&self, name: &'n str) -> Option<(TimerId, &'n str)> {
        let mut parts = name.splitn(3, '/');
        let (fold, kind, key) = (parts.next()?, parts.next()?, parts.next()?);
        let place = self.folds.iter().position(|known| known.fold == fold)?;
        let kind = self.folds[place].kinds.iter().position(|known| *known == kind)?;
        let id = TimerId {
            fold: place as u8,
            kind: kind as u8,
        };
        Some((id, key))
    }

    fn unlink(&mut self, name: &str, id: TimerId, key: &str) {
        if let Some(old) = self.table.get(name)
            && let Some(pending) = self.index.get_mut(&old.clock)
        {
            pending.remove(&(old.deadline, id, key.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDS: &[FoldTimers] = &[
        FoldTimers {
            fold: "z_first",
            kinds: &["b", "a"],
        },
        FoldTimers {
            fold: "a_second",
            kinds: &["c"],
        },
    ];

    const B: TimerId = TimerId { fold: 0, kind: 0 };
    const A: TimerId = TimerId { fold: 0, kind: 1 };
    const C: TimerId = TimerId { fold: 1, kind: 0 };

    fn set(timers: &mut Timers, id: TimerId, deadline: i64) {
        timers.set(id, "k/1", TimerClock::Site, Time(deadline));
    }

    fn fired(timers: &mut Timers, until: i64) -> Vec<TimerId> {
        std::iter::from_fn(|| timers.pop_due(&TimerClock::Site, Time(until)))
            .map(|timer| timer.id)
            .collect()
    }

    #[test]
    fn due_timers_come_in_order_and_setting_again_moves() {
        let mut timers = Timers::new(FOLDS);
        set(&mut timers, B, 5);
        set(&mut timers, A, 7);
        set(&mut timers, B, 9);
        assert_eq!(fired(&mut timers, 6), []);
        assert_eq!(fired(&mut timers, 9), [A, B]);
        assert_eq!(fired(&mut timers, 9), []);
    }

    #[test]
    fn timers_of_one_deadline_fire_as_folds_and_their_kinds_are_listed() {
        let mut timers = Timers::new(FOLDS);
        for id in [C, A, B] {
            set(&mut timers, id, 1);
        }
        assert_eq!(fired(&mut timers, 1), [B, A, C]);
    }

    #[test]
    fn cancelled_timers_never_fire_and_stored_ones_do() {
        let mut timers = Timers::new(FOLDS);
        set(&mut timers, A, 1);
        set(&mut timers, B, 2);
        set(&mut timers, C, 2);
        timers.cancel(A, "k/1");
        let mut stored = Vec::new();
        timers.store_all(&mut stored);
        let mut again = Timers::new(FOLDS);
        for (key, bytes) in &stored {
            assert!(again.load(key, bytes).unwrap());
        }
        assert_eq!(fired(&mut again, 9), [B, C]);
        assert_eq!(stored[0].0, b"timers/pending/a_second/c/k/1");
    }

    /// The first fold of the list above came later.
    #[test]
    fn stored_timers_are_found_again_after_a_fold_was_added_before_theirs_and_unknown_ones_are_named() {
        const OLDER: &[FoldTimers] = &[FoldTimers {
            fold: "a_second",
            kinds: &["c"],
        }];
        let mut older = Timers::new(OLDER);
        set(&mut older, TimerId { fold: 0, kind: 0 }, 1);
        let mut stored = Vec::new();
        older.store_all(&mut stored);
        let mut newer = Timers::new(FOLDS);
        assert!(newer.load(&stored[0].0, &stored[0].1).unwrap());
        assert_eq!(fired(&mut newer, 1), [C]);
        let error = newer
            .load(b"timers/pending/a_second/gone/k", &stored[0].1)
            .unwrap_err();
        assert_eq!(
            error,
            "timers/pending/a_second/gone/k is no timer of this version"
        );
    }
}
