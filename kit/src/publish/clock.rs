//! The only clock of a collector: it goes forward, follows the wall clock slowly, and says when the wall stepped.
//!
//! It does not set or discipline the system's clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use watchfold_schemas::{Span, Time};

/// A difference between the wall clock and the collector's clock above this is a step and starts a new incarnation.
/// One second: time daemons slew what is smaller (ntpd steps from 128 ms on, chrony as configured, 1 s as shipped).
pub const STEP_SPAN_MIN: Span = Span::from_seconds(1);

/// A difference below [`STEP_SPAN_MIN`] is followed by at most one part in this many of the time that passed, so
/// the clock never goes back and a round's spacing is never off by more than 5 %.
const SLEW_PARTS: i64 = 20;

/// Where time comes from. Everything else in a collector takes time as an argument.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, which may step.
    fn wall(&self) -> Time;
    /// Time since an arbitrary start; never falls.
    fn monotonic(&self) -> Span;
}

/// The clocks of the operating system.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    pub fn new() -> SystemClock {
        SystemClock {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge: every other time in the system comes from here"
    )]
    fn wall(&self) -> Time {
        let nanos = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
        };
        Time(nanos)
    }

    fn monotonic(&self) -> Span {
        Span(i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX))
    }
}

/// A clock that a test moves by hand.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    monotonic: AtomicI64,
}

impl ManualClock {
    pub fn at(wall: Time) -> ManualClock {
        ManualClock {
            wall: AtomicI64::new(wall.0),
            monotonic: AtomicI64::new(0),
        }
    }

    /// Time passes on both clocks.
    pub fn advance(&self, span: Span) {
        self.monotonic.fetch_add(span.0, Ordering::SeqCst);
        self.step(span);
    }

    /// Somebody sets the wall clock; no time passes.
    pub fn step(&self, span: Span) {
        self.wall.fetch_add(span.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Time {
        Time(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Span {
        Span(self.monotonic.load(Ordering::SeqCst))
    }
}

/// An instant that survives a step of the wall clock: within its incarnation it is the time first stamped, after a
/// step it is counted back from the new time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    epoch: u64,
    at: Time,
    monotonic: Span,
}

/// The collector's clock at one reading. Times in a record must come from the stamp under which it is published.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// How many steps there were.
    pub(crate) epoch: u64,
    now: Time,
    monotonic: Span,
}

impl Stamp {
    /// The first reading.
    pub fn start(clock: &dyn Clock) -> Stamp {
        Stamp {
            epoch: 0,
            now: clock.wall(),
            monotonic: clock.monotonic(),
        }
    }

    pub fn now(&self) -> Time {
        self.now
    }

    /// How many steps of the wall clock there were: each begins a new incarnation, in which what is counted begins anew.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The moment of this reading.
    pub fn moment(&self) -> Moment {
        Moment {
            epoch: self.epoch,
            at: self.now,
            monotonic: self.monotonic,
        }
    }

    /// A time of this incarnation as a moment; one in the future counts as now.
    pub(crate) fn moment_at(&self, at: Time) -> Moment {
        let at = at.min(self.now);
        Moment {
            epoch: self.epoch,
            at,
            monotonic: self.monotonic - self.now.since(at),
        }
    }

    /// When the moment was, on the time line of this stamp.
    pub fn time_of(&self, moment: Moment) -> Time {
        if moment.epoch == self.epoch {
            moment.at
        } else {
            self.now - (self.monotonic - moment.monotonic)
        }
    }

    /// The next reading: time has passed by the monotonic clock, bent a little towards the wall clock; a wall clock
    /// that is too far away starts a new epoch there.
    pub fn next(&self, clock: &dyn Clock) -> Stamp {
        let (wall, monotonic) = (clock.wall(), clock.monotonic().max(self.monotonic));
        let elapsed = monotonic - self.monotonic;
        let now = self.now + elapsed;
        let drift = wall.since(now);
        if drift.0.saturating_abs() > STEP_SPAN_MIN.0 {
            return Stamp {
                epoch: self.epoch + 1,
                now: wall,
                monotonic,
            };
        }
        let slew_max = elapsed.0 / SLEW_PARTS;
        Stamp {
            epoch: self.epoch,
            now: now + Span(drift.0.clamp(-slew_max, slew_max)),
            monotonic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies (advance, step) pairs in milliseconds and compares (epoch, now) in milliseconds after 1,000 s.
    fn check(moves: &[(i64, i64)], want: (u64, i64)) {
        let start = Time::from_seconds(1_000);
        let clock = ManualClock::at(start);
        let mut stamp = Stamp::start(&clock);
        for (advance, step) in moves {
            clock.advance(Span::from_millis(*advance));
            clock.step(Span::from_millis(*step));
            let next = stamp.next(&clock);
            assert!(
                next.epoch > stamp.epoch || next.now >= stamp.now,
                "{stamp:?} {next:?}"
            );
            stamp = next;
        }
        assert_eq!(
            (stamp.epoch, stamp.now.since(start).as_millis()),
            want,
            "{moves:?}"
        );
    }

    #[test]
    fn time_passes_slews_and_steps() {
        check(&[(500, 0), (700, 0)], (0, 1_200));
        // A small set-back is followed at 5 %, and never backwards.
        check(&[(1_000, -600)], (0, 950));
        check(&[(1_000, -600), (12_000, 0)], (0, 12_400));
        check(&[(0, -600)], (0, 0));
        // A small set-forward likewise.
        check(&[(1_000, 20)], (0, 1_020));
        check(&[(1_000, 900)], (0, 1_050));
        // The limit itself is no step; beyond it is, both ways.
        check(&[(0, 1_000)], (0, 0));
        check(&[(0, 1_001)], (1, 1_001));
        check(&[(1_000, -3_600_000)], (1, -3_599_000));
        check(&[(0, 5_000), (1_000, 0), (0, -5_000)], (2, 1_000));
    }

    #[test]
    fn a_moment_before_a_step_is_counted_back_from_the_new_time() {
        let clock = ManualClock::at(Time::from_seconds(1_000));
        let first = Stamp::start(&clock);
        let moment = first.moment();
        clock.advance(Span::from_millis(300));
        assert_eq!(first.next(&clock).time_of(moment), Time::from_seconds(1_000));
        clock.step(Span::from_seconds(-500));
        assert_eq!(first.next(&clock).time_of(moment), Time::from_seconds(500));
    }
}
