//! Measurements under way: while one lives, no record claims to hold everything up to a later time.
//!
//! It does not know what is measured.

use std::collections::BTreeMap;
use std::sync::Arc;

use watchfold_schemas::{Body, Time};

use crate::KitError;
use crate::publish::clock::{Moment, Stamp};
use crate::publish::publisher::Shared;

/// The most measurements tracked one by one. Beyond it they share one entry that lasts until the last of them ends,
/// so `through` only lags more.
pub const IN_FLIGHT_MAX: usize = 65_536;

/// A measurement under way. Dropping it gives up the measurement; [`InFlight::submit`] publishes its result.
#[must_use = "`through` may pass the measurement once this is dropped"]
pub struct InFlight {
    pub(crate) shared: Arc<Shared>,
    pub(crate) moment: Moment,
    /// Taken when it ends.
    pub(crate) key: Option<InFlightKey>,
}

/// The entry of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InFlightKey {
    Own(u64),
    /// The entry that those beyond [`IN_FLIGHT_MAX`] share.
    Shared,
}

impl InFlight {
    /// When it began.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// Ends the measurement and publishes its result in one step, so that no record in between can claim more than
    /// was sent, and this record's `through` already counts without it. `build` gets the stamp under which the
    /// record is made; times in the body come from [`Stamp::time_of`]. Never waits.
    pub fn submit(mut self, build: impl FnOnce(&Stamp) -> Body) -> Result<(), KitError> {
        let shared = Arc::clone(&self.shared);
        shared.enqueue(Some(&mut self), None, build, None)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        shared.release(self);
    }
}

/// The measurements under way.
#[derive(Debug, Default)]
pub(crate) struct InFlightTable {
    next_key: u64,
    begun: BTreeMap<u64, Moment>,
    /// The earliest of those without an entry, and how many live.
    shared: Option<(Moment, usize)>,
}

impl InFlightTable {
    pub(crate) fn insert(&mut self, moment: Moment, stamp: &Stamp) -> InFlightKey {
        if self.begun.len() >= IN_FLIGHT_MAX {
            let (earliest, count) = self.shared.unwrap_or((moment, 0));
            if count == 0 {
                tracing::warn!(
                    limit = IN_FLIGHT_MAX,
                    "too many measurements at once; their records arrive later"
                );
            }
            let earliest = if stamp.time_of(moment) < stamp.time_of(earliest) {
                moment
            } else {
                earliest
            };
            self.shared = Some((earliest, count + 1));
            return InFlightKey::Shared;
        }
        self.next_key += 1;
        self.begun.insert(self.next_key, moment);
        InFlightKey::Own(self.next_key)
    }

    pub(crate) fn remove(&mut self, key: InFlightKey) {
        match (key, &mut self.shared) {
            (InFlightKey::Own(key), _) => {
                self.begun.remove(&key);
            }
            (InFlightKey::Shared, Some((_, count))) if *count > 1 => *count -= 1,
            (InFlightKey::Shared, _) => self.shared = None,
        }
    }

    /// The start of the earliest one.
    pub(crate) fn earliest(&self, stamp: &Stamp) -> Option<Time> {
        let shared = self.shared.iter().map(|(moment, _)| moment);
        self.begun
            .values()
            .chain(shared)
            .map(|moment| stamp.time_of(*moment))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::clock::ManualClock;
    use watchfold_schemas::Span;

    #[test]
    fn a_full_table_still_holds_through_back() {
        let clock = ManualClock::at(Time::from_seconds(1));
        let mut table = InFlightTable::default();
        let mut stamp = Stamp::start(&clock);
        let keys: Vec<_> = (0..IN_FLIGHT_MAX)
            .map(|_| table.insert(stamp.moment(), &stamp))
            .collect();
        clock.advance(Span::from_seconds(1));
        stamp = stamp.next(&clock);
        let over = [
            table.insert(stamp.moment(), &stamp),
            table.insert(stamp.moment(), &stamp),
        ];
        assert_eq!(over, [InFlightKey::Shared; 2]);
        keys.into_iter().for_each(|key| table.remove(key));
        assert_eq!(table.earliest(&stamp), Some(Time::from_seconds(2)));
        table.remove(InFlightKey::Shared);
        assert_eq!(table.earliest(&stamp), Some(Time::from_seconds(2)));
        table.remove(InFlightKey::Shared);
        assert_eq!(table.earliest(&stamp), None);
    }
}
