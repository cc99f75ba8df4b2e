//! Deadlines as data. A timer belongs to a clock: that of a collector, for what it measures, or the site's, for what
//! is ours. Both run without the jumps in them, so a span that nobody measured moves every deadline by itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use watchfold_schemas::Time;

use crate::fold::FoldId;
use crate::table::{Change, Table};

/// Whose time a deadline is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerClock {
    Site,
    Collector(String),
}

/// A timer of one fold: `name` says what for, `key` about what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    pub fold: FoldId,
    pub name: String,
    pub key: String,
    pub clock: TimerClock,
    /// In its clock's own time.
    pub deadline: Time,
}

/// Every pending timer, with an index by clock and deadline that is rebuilt from the table.
#[derive(Debug)]
pub struct Timers {
    table: Table<Timer>,
    index: BTreeMap<TimerClock, BTreeSet<(Time, String)>>,
}

impl Timers {
    pub fn new() -> Timers {
        Timers {
            table: Table::new("timers/pending/"),
            index: BTreeMap::new(),
        }
    }

    /// Sets it, in place of an earlier one of the same fold, name and key.
    pub fn set(&mut self, timer: Timer) {
        let id = timer.id();
        self.unlink(&id);
        self.index
            .entry(timer.clock.clone())
            .or_default()
            .insert((timer.deadline, id.clone()));
        self.table.insert(&id, timer);
    }

    pub fn cancel(&mut self, fold: FoldId, name: &str, key: &str) {
        let id = timer_id(fold, name, key);
        self.unlink(&id);
        self.table.remove(&id);
    }

    /// The earliest deadline of `clock` that is not after `until`.
    pub fn next_due(&self, clock: &TimerClock, until: Time) -> Option<Time> {
        self.index
            .get(clock)?
            .first()
            .map(|(deadline, _)| *deadline)
            .filter(|deadline| *deadline <= until)
    }

    /// Takes the earliest timer of `clock` that is due by `until`.
    pub fn pop_due(&mut self, clock: &TimerClock, until: Time) -> Option<Timer> {
        self.next_due(clock, until)?;
        let (_, id) = self.index.get_mut(clock)?.pop_first()?;
        self.table.remove(&id)
    }

    pub fn drain_dirty(&mut self, out: &mut Vec<Change>) {
        self.table.drain_dirty(out);
    }

    pub fn store_all(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        self.table.store_all(out);
    }

    pub fn load(&mut self, stored_key: &[u8], bytes: &[u8]) -> Result<bool, String> {
        let Some(id) = self.table.load_key(stored_key, bytes)? else {
            return Ok(false);
        };
        if let Some(timer) = self.table.get(&id) {
            self.index
                .entry(timer.clock.clone())
                .or_default()
                .insert((timer.deadline, id));
        }
        Ok(true)
    }

    fn unlink(&mut self, id: &str) {
        if let Some(old) = self.table.get(id)
            && let Some(deadlines) = self.index.get_mut(&old.clock)
        {
            deadlines.remove(&(old.deadline, id.to_owned()));
        }
    }
}

impl Timer {
    fn id(&self) -> String {
        timer_id(self.fold, &self.name, &self.key)
    }
}

/// Timers with one deadline fire in the order of their folds, then names, then keys: the id sorts that way.
fn timer_id(fold: FoldId, name: &str, key: &str) -> String {
    format!("{}/{name}/{key}", fold.order())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(name: &str, deadline: i64) -> Timer {
        Timer {
            fold: FoldId::Liveness,
            name: name.into(),
            key: "k".into(),
            clock: TimerClock::Site,
            deadline: Time(deadline),
        }
    }

    #[test]
    fn due_timers_come_in_order_and_setting_again_moves() {
        let mut timers = Timers::new();
        timers.set(timer("b", 5));
        timers.set(timer("a", 7));
        timers.set(timer("b", 9));
        assert_eq!(timers.pop_due(&TimerClock::Site, Time(6)), None);
        assert_eq!(timers.pop_due(&TimerClock::Site, Time(9)).unwrap().name, "a");
        assert_eq!(timers.pop_due(&TimerClock::Site, Time(9)).unwrap().name, "b");
        assert_eq!(timers.pop_due(&TimerClock::Site, Time(9)), None);
    }

    #[test]
    fn timers_of_one_deadline_fire_as_the_folds_run() {
        let mut timers = Timers::new();
        let folds = [
            FoldId::Liveness,
            FoldId::Occupancy,
            FoldId::History,
            FoldId::Rules,
            FoldId::Incidents,
            FoldId::Notify,
        ];
        assert!(folds.is_sorted());
        for fold in folds.into_iter().rev() {
            timers.set(Timer {
                fold,
                ..timer("a", 1)
            });
        }
        let fired = std::iter::from_fn(|| timers.pop_due(&TimerClock::Site, Time(1)));
        assert!(fired.map(|timer| timer.fold).eq(folds));
        // What was stored before there were rules is found again.
        assert_eq!(timer_id(FoldId::Incidents, "remind", "k"), "d/remind/k");
    }

    #[test]
    fn cancelled_timers_never_fire_and_stored_ones_do() {
        let mut timers = Timers::new();
        timers.set(timer("a", 1));
        timers.set(timer("b", 2));
        timers.cancel(FoldId::Liveness, "a", "k");
        let mut stored = Vec::new();
        timers.store_all(&mut stored);
        let mut again = Timers::new();
        for (key, bytes) in stored {
            assert!(again.load(&key, &bytes).unwrap());
        }
        assert_eq!(again.pop_due(&TimerClock::Site, Time(9)), Some(timer("b", 2)));
        assert_eq!(again.pop_due(&TimerClock::Site, Time(9)), None);
    }
}
