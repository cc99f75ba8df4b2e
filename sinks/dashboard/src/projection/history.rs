//! A target's past: minutes from the rounds themselves, hours and days from the rollups that the folds emit.
//!
//! It knows no states and no clock; uptime is told in `uptime.rs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::event::{RttHistogram, TargetRollup};
use watchfold_schemas::{Span, Time};

use super::shapes::HistoryPoint;

/// Minutes kept of one target: 48 hours.
pub const MINUTES_MAX: usize = 48 * 60;
/// Minutes kept of all targets together, so that a thousand targets do not take a gigabyte (about 300 bytes each).
pub const MINUTES_TOTAL_MAX: usize = 200_000;
/// Hours kept of one target: 400 days, as long as the log keeps events. About 80 bytes each.
pub const HOURS_MAX: usize = 400 * 24;
/// Days kept of one target.
pub const DAYS_MAX: usize = 400;

const MINUTE: Span = Span::from_seconds(60);
const HOUR: Span = Span::from_seconds(3_600);
const DAY: Span = Span::from_seconds(86_400);

pub const fn minute_of(at: Time) -> i64 {
    at.0.div_euclid(MINUTE.0)
}

pub const fn hour_of(at: Time) -> i64 {
    at.0.div_euclid(HOUR.0)
}

pub const fn start_of_hour(hour: i64) -> Time {
    Time(hour.saturating_mul(HOUR.0))
}

const fn start_of_minute(minute: i64) -> Time {
    Time(minute.saturating_mul(MINUTE.0))
}

/// The rounds of one minute, or of several added up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Minute {
    pub probes: u64,
    pub answered: u64,
    pub faults: u64,
    pub rtt: RttHistogram,
    /// Sum and number of the differences between consecutive round-trip times.
    pub jitter_sum_us: u64,
    pub jitter_count: u64,
}

impl Minute {
    pub fn merge(&mut self, other: &Minute) {
        self.probes += other.probes;
        self.answered += other.answered;
        self.faults += other.faults;
        self.rtt.merge(&other.rtt);
        self.jitter_sum_us += other.jitter_sum_us;
        self.jitter_count += other.jitter_count;
    }

    pub fn jitter_us(&self) -> Option<u64> {
        self.jitter_sum_us.checked_div(self.jitter_count)
    }

    fn point(&self, at: Time) -> HistoryPoint {
        let some = !self.rtt.buckets.is_empty();
        HistoryPoint {
            at,
            probes: self.probes,
            answered: self.answered,
            faults: self.faults,
            min_us: some.then_some(self.rtt.min_us),
            p50_us: self.rtt.quantile_us(500),
            p95_us: self.rtt.quantile_us(950),
            p99_us: self.rtt.quantile_us(990),
            max_us: some.then_some(self.rtt.max_us),
            jitter_us: self.jitter_us(),
            ..HistoryPoint::default()
        }
    }
}

/// The minutes of one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Minutes(BTreeMap<i64, Minute>);

impl Minutes {
    /// The minute that holds `at`, made if it is not too old to be kept; `kept` is how many minutes are.
    pub fn entry(&mut self, at: Time, kept: usize) -> Option<&mut Minute> {
        let minute = minute_of(at);
        let newest = self
            .0
            .last_key_value()
            .map_or(minute, |(newest, _)| minute.max(*newest));
        let oldest = newest.saturating_sub(kept as i64);
        while self
            .0
            .first_key_value()
            .is_some_and(|(first, _)| *first <= oldest)
        {
            self.0.pop_first();
        }
        (minute > oldest).then(|| self.0.entry(minute).or_default())
    }

    /// Everything in the hour before `now` and in the running minute.
    pub fn last_hour(&self, now: Time) -> Minute {
        let mut sum = Minute::default();
        let newest = minute_of(now);
        for (_, minute) in self.0.range(newest - 59..=newest) {
            sum.merge(minute);
        }
        sum
    }

    pub fn points(&self, from: Time, to: Time, limit: usize) -> Vec<HistoryPoint> {
        let range = ceil(from, MINUTE)..=last_before(to, MINUTE);
        if range.is_empty() {
            return Vec::new();
        }
        self.0
            .range(range)
            .take(limit)
            .map(|(at, minute)| minute.point(start_of_minute(*at)))
            .collect()
    }

    /// Hours added up from minutes, for those from `from_hour` on that have no rollup yet.
    fn hours(&self, from_hour: i64) -> BTreeMap<i64, Minute> {
        let mut hours: BTreeMap<i64, Minute> = BTreeMap::new();
        for (at, minute) in self.0.range(from_hour.saturating_mul(60)..) {
            hours.entry(at.div_euclid(60)).or_default().merge(minute);
        }
        hours
    }
}

/// One hour as its rollup told it, without the histogram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hour {
    probes: u64,
    answered: u64,
    faults: u64,
    /// Least, median, 95th and 99th percentile, greatest.
    rtt_us: Option<[u32; 5]>,
    jitter_us: u64,
    pub up_ms: u64,
    pub down_ms: u64,
    suppressed_ms: u64,
    unmeasured_ms: u64,
}

/// Rollups of one UTC day added up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Day {
    sum: Minute,
    up_ms: u64,
    down_ms: u64,
    suppressed_ms: u64,
    unmeasured_ms: u64,
}

/// The hours and days of one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rollups {
    pub hours: BTreeMap<i64, Hour>,
    days: BTreeMap<i64, Day>,
}

impl Rollups {
    /// The first rollup of an hour counts; another one of the same hour is a repetition.
    pub fn add(&mut self, rollup: &TargetRollup) {
        let hour = hour_of(rollup.hour);
        if self.hours.contains_key(&hour) || self.too_old(hour) {
            return;
        }
        self.hours.insert(hour, Hour::from(rollup));
        let day = self.days.entry(hour.div_euclid(24)).or_default();
        day.sum.probes += rollup.probes;
        day.sum.answered += rollup.answered;
        day.sum.faults += rollup.faults;
        day.sum.rtt.merge(&rollup.rtt);
        day.sum.jitter_sum_us += rollup.jitter_us.saturating_mul(rollup.answered);
        day.sum.jitter_count += rollup.answered;
        day.up_ms += rollup.up_ms;
        day.down_ms += rollup.down_ms;
        day.suppressed_ms += rollup.suppressed_ms;
        day.unmeasured_ms += rollup.unmeasured_ms;
        while self.hours.len() > HOURS_MAX {
            self.hours.pop_first();
        }
        while self.days.len() > DAYS_MAX {
            self.days.pop_first();
        }
    }

    fn too_old(&self, hour: i64) -> bool {
        self.hours.len() >= HOURS_MAX
            && self
                .hours
                .first_key_value()
                .is_some_and(|(first, _)| hour < *first)
    }

    /// Hours from rollups, and the ones after the last rollup from what minutes there are.
    pub fn hour_points(
        &self,
        minutes: Option<&Minutes>,
        from: Time,
        to: Time,
        limit: usize,
    ) -> Vec<HistoryPoint> {
        let range = ceil(from, HOUR)..=last_before(to, HOUR);
        if range.is_empty() {
            return Vec::new();
        }
        let told = self
            .hours
            .range(range.clone())
            .map(|(at, hour)| hour.point(start_of_hour(*at)));
        let first_untold = self
            .hours
            .last_key_value()
            .map_or(i64::MIN / 60, |(last, _)| last + 1);
        let running = minutes
            .map(|minutes| minutes.hours(first_untold))
            .unwrap_or_default();
        let untold = running
            .iter()
            .filter(|(at, _)| range.contains(at))
            .map(|(at, sum)| sum.point(start_of_hour(*at)));
        told.chain(untold).take(limit).collect()
    }

    pub fn day_points(&self, from: Time, to: Time, limit: usize) -> Vec<HistoryPoint> {
        let range = ceil(from, DAY)..=last_before(to, DAY);
        if range.is_empty() {
            return Vec::new();
        }
        self.days
            .range(range)
            .take(limit)
            .map(|(at, day)| day.point(Time(at.saturating_mul(DAY.0))))
            .collect()
    }
}

impl From<&TargetRollup> for Hour {
    fn from(rollup: &TargetRollup) -> Hour {
        let rtt = &rollup.rtt;
        let quantile = |permille| rtt.quantile_us(permille).unwrap_or(0);
        Hour {
            probes: rollup.probes,
            answered: rollup.answered,
            faults: rollup.faults,
            rtt_us: (!rtt.buckets.is_empty()).then(|| {
                [
                    rtt.min_us,
                    quantile(500),
                    quantile(950),
                    quantile(990),
                    rtt.max_us,
                ]
            }),
            jitter_us: rollup.jitter_us,
            up_ms: rollup.up_ms,
            down_ms: rollup.down_ms,
            suppressed_ms: rollup.suppressed_ms,
            unmeasured_ms: rollup.unmeasured_ms,
        }
    }
}

impl Hour {
    fn point(&self, at: Time) -> HistoryPoint {
        HistoryPoint {
            at,
            probes: self.probes,
            answered: self.answered,
            faults: self.faults,
            min_us: self.rtt_us.map(|rtt| rtt[0]),
            p50_us: self.rtt_us.map(|rtt| rtt[1]),
            p95_us: self.rtt_us.map(|rtt| rtt[2]),
            p99_us: self.rtt_us.map(|rtt| rtt[3]),
            max_us: self.rtt_us.map(|rtt| rtt[4]),
            jitter_us: (self.answered > 0).then_some(self.jitter_us),
            up_ms: Some(self.up_ms),
            down_ms: Some(self.down_ms),
            suppressed_ms: Some(self.suppressed_ms),
            unmeasured_ms: Some(self.unmeasured_ms),
        }
    }
}

impl Day {
    fn point(&self, at: Time) -> HistoryPoint {
        HistoryPoint {
            up_ms: Some(self.up_ms),
            down_ms: Some(self.down_ms),
            suppressed_ms: Some(self.suppressed_ms),
            unmeasured_ms: Some(self.unmeasured_ms),
            ..self.sum.point(at)
        }
    }
}

/// The first period that begins at or after `from`.
fn ceil(from: Time, every: Span) -> i64 {
    let period = from.0.div_euclid(every.0);
    if from.0.rem_euclid(every.0) == 0 {
        period
    } else {
        period + 1
    }
}

/// The last period that begins before `to`.
fn last_before(to: Time, every: Span) -> i64 {
    ceil(to, every) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollup(hour: i64, rtt_us: u32) -> TargetRollup {
        let mut rtt = RttHistogram::default();
        rtt.record(rtt_us);
        TargetRollup {
            subject: "router".into(),
            hour: start_of_hour(hour),
            probes: 2,
            answered: 1,
            faults: 0,
            rtt,
            jitter_us: 7,
            up_ms: 3_000_000,
            down_ms: 600_000,
            suppressed_ms: 0,
            unmeasured_ms: 0,
        }
    }

    #[test]
    fn hours_add_up_to_days_and_repetitions_do_not_count() {
        let mut rollups = Rollups::default();
        for hour in [24, 25, 25, 49] {
            rollups.add(&rollup(hour, hour as u32));
        }
        let days = rollups.day_points(Time::EPOCH, start_of_hour(100), 10);
        assert_eq!(days.len(), 2);
        assert_eq!(
            (days[0].at, days[0].probes, days[0].down_ms),
            (start_of_hour(24), 4, Some(1_200_000))
        );
        assert_eq!(
            (days[0].min_us, days[0].max_us, days[0].jitter_us),
            (Some(24), Some(25), Some(7))
        );
        let hours = rollups.hour_points(None, start_of_hour(25), start_of_hour(49), 10);
        assert_eq!(hours.len(), 1, "`to` is exclusive: {hours:?}");
    }

    #[test]
    fn hours_without_a_rollup_come_from_minutes() {
        let mut rollups = Rollups::default();
        rollups.add(&rollup(1, 5));
        let mut minutes = Minutes::default();
        for minute in [70, 121, 122] {
            minutes.entry(start_of_minute(minute), 100).unwrap().probes += 3;
        }
        let hours = rollups.hour_points(Some(&minutes), Time::EPOCH, start_of_hour(9), 9);
        assert_eq!(
            hours
                .iter()
                .map(|point| (point.at, point.probes))
                .collect::<Vec<_>>(),
            [(start_of_hour(1), 2), (start_of_hour(2), 6)]
        );
    }

    #[test]
    fn minutes_are_bounded_and_old_ones_are_not_taken_back() {
        let mut minutes = Minutes::default();
        for minute in 0..50 {
            minutes.entry(start_of_minute(minute), 10).unwrap().probes += 1;
        }
        assert_eq!(minutes.0.len(), 10);
        assert!(minutes.entry(start_of_minute(3), 10).is_none());
        assert_eq!(minutes.last_hour(start_of_minute(49)).probes, 10);
    }
}
