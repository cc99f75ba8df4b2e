//! The clocks of a site: one for each collector, and the one beside the log.
//!
//! Each is kept twice: as its owner's wall clock, for people, and *steady*, without the jumps that nobody measured.
//! Deadlines are steady times, so a restart, a clock step or a lost hour moves them all at once.

use serde::{Deserialize, Serialize};
use watchfold_schemas::{Span, Time};

use crate::moment::Moment;
use crate::rows::WaitingRow;
use crate::table::{Change, Table};

/// Ticks further apart than this many of their intervals mean that we were absent.
const TICK_GAP_INTERVALS: i64 = 5;

/// Ours is never absent for less than this: a busy machine may be late by seconds.
const TICK_GAP_MIN: Span = Span::from_seconds(10);

/// The most collectors of one site; records of further ones are counted and not folded.
pub const COLLECTORS_MAX: usize = 1_024;

/// A collector that was silent for this long is not coming back: it was renamed or taken away.
pub const FORGET_AFTER: Span = Span::from_seconds(7 * 86_400);

/// The clock of one collector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectorClock {
    pub incarnation: u64,
    /// Everything observed before this was given to the folds.
    pub through: Time,
    /// Wall time minus steady time.
    pub shift: Span,
    /// The site's time at its last record.
    pub heard: Moment,
    pub silent: bool,
    /// It measures: its silence matters.
    pub measures: bool,
    /// Rows after `through`.
    pub waiting: Vec<WaitingRow>,
}

impl CollectorClock {
    pub fn moment(&self, at: Time) -> Moment {
        Moment::of_wall(at, self.shift)
    }
}

/// The clock beside the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SiteClock {
    pub now: Option<Time>,
    pub shift: Span,
}

/// All clocks of a site.
#[derive(Debug)]
pub struct Clocks {
    pub collectors: Table<CollectorClock>,
    site: Table<SiteClock>,
}

impl Clocks {
    pub fn new() -> Clocks {
        Clocks {
            collectors: Table::new("clocks/collector/"),
            site: Table::new("clocks/site/"),
        }
    }

    /// Whether a collector measures, as far as is known.
    pub fn measures(&self, collector: &str) -> bool {
        self.collectors.get(collector).is_some_and(|clock| clock.measures)
    }

    /// Whether the collector is known, or there is room for it.
    pub fn admits(&self, collector: &str) -> bool {
        self.collectors.len() < COLLECTORS_MAX || self.collectors.get(collector).is_some()
    }

    /// Time begins, or goes on after our absence: what was heard before was heard now. Who was silent already stays so.
    pub fn hear_all(&mut self) {
        let now = self.now();
        for collector in self.collectors.keys() {
            if let Some(clock) = self.collectors.get_mut(&collector)
                && !clock.silent
            {
                clock.heard = now;
            }
        }
    }

    /// The greatest tick.
    pub fn now(&self) -> Moment {
        let clock = self.site.get("").copied().unwrap_or_default();
        Moment::of_wall(clock.now.unwrap_or_default(), clock.shift)
    }

    pub fn has_ticked(&self) -> bool {
        self.site.get("").is_some_and(|clock| clock.now.is_some())
    }

    /// Takes a tick; an older one changes nothing. Tells the tick before.
    ///
    /// `silence` is how long a collector may be silent: where we heard nothing ourselves for longer than that, nobody's
    /// silence says anything. So that is an absence, however far apart ticks are.
    pub fn tick(&mut self, now: Time, interval_ms: u32, silence: Span) -> TickTaken {
        let clock = self.site.entry_or_default("");
        let Some(previous) = clock.now else {
            clock.now = Some(now);
            return TickTaken::First;
        };
        let interval = Span::from_millis(i64::from(interval_ms));
        let limit = Span(interval.0.saturating_mul(TICK_GAP_INTERVALS)).max(TICK_GAP_MIN);
        // Never less than the next tick takes when it is late by half an interval.
        let limit = limit.min(silence.max(Span(interval.0 / 2 * 3)));
        let step = now.since(previous);
        if step > limit || step < Span(-limit.0) {
            clock.shift = clock.shift + step - interval;
            clock.now = Some(now);
            return TickTaken::Resumed;
        }
        if step <= Span::ZERO {
            return TickTaken::Old;
        }
        clock.now = Some(now);
        TickTaken::After(previous)
    }

    pub fn moment_of_steady(&self, steady: Time) -> Moment {
        let shift = self.site.get("").map_or(Span::ZERO, |clock| clock.shift);
        Moment::of_steady(steady, shift)
    }

    pub fn drain_dirty(&mut self, out: &mut Vec<Change>) {
        self.collectors.drain_dirty(out);
        self.site.drain_dirty(out);
    }

    pub fn store_all(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        self.collectors.store_all(out);
        self.site.store_all(out);
    }

    pub fn load(&mut self, key: &[u8], bytes: &[u8]) -> Result<bool, String> {
        Ok(self.collectors.load(key, bytes)? || self.site.load(key, bytes)?)
    }
}

/// What a tick did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickTaken {
    First,
    Old,
    /// We were absent before it, or the clock was set.
    Resumed,
    After(Time),
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Span = Span::from_seconds(15);

    #[test]
    fn a_gap_in_ticks_is_our_absence_and_not_steady_time() {
        let mut clocks = Clocks::new();
        assert_eq!(
            clocks.tick(Time::from_seconds(100), 1_000, SILENCE),
            TickTaken::First
        );
        assert_eq!(
            clocks.tick(Time::from_seconds(101), 1_000, SILENCE),
            TickTaken::After(Time::from_seconds(100))
        );
        assert_eq!(
            clocks.tick(Time::from_seconds(101), 1_000, SILENCE),
            TickTaken::Old
        );
        assert_eq!(
            clocks.tick(Time::from_seconds(3_701), 1_000, SILENCE),
            TickTaken::Resumed
        );
        assert_eq!(
            clocks.now(),
            Moment {
                at: Time::from_seconds(3_701),
                steady: Time::from_seconds(102)
            }
        );
    }

    #[test]
    fn a_tick_is_late_until_all_would_be_silent_and_then_we_were_absent() {
        for (interval_ms, late, steady) in [
            (1_000, 10, 110),
            (1_000, 11, 101),
            (10_000, 15, 115),
            (10_000, 16, 110),
            (30_000, 45, 145),
            (30_000, 46, 130),
        ] {
            let mut clocks = Clocks::new();
            clocks.tick(Time::from_seconds(100), interval_ms, SILENCE);
            clocks.tick(Time::from_seconds(100 + late), interval_ms, SILENCE);
            assert_eq!(
                clocks.now().steady,
                Time::from_seconds(steady),
                "{late} s after the last, every {interval_ms} ms"
            );
        }
    }

    #[test]
    fn a_clock_set_back_by_an_hour_goes_on_from_there() {
        let mut clocks = Clocks::new();
        clocks.tick(Time::from_seconds(10_000), 1_000, SILENCE);
        clocks.tick(Time::from_seconds(6_400), 1_000, SILENCE);
        assert_eq!(
            clocks.now(),
            Moment {
                at: Time::from_seconds(6_400),
                steady: Time::from_seconds(10_001)
            }
        );
    }
}
