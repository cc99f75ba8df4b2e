//! What a key may still be used for: so many calls a minute, a day and a month, days and months in UTC. Pure.
//!
//! A call is spent before it is made, also one that fails. The counts stand beside the log under the key's fingerprint,
//! so that they survive a kill and go with the lease from one process to the next.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use watchfold_schemas::{Span, Time};

/// What is counted as a minute: a little more than one, because the far side counts from when calls arrive.
pub const MINUTE: Span = Span::from_seconds(61);

const DAY: Span = Span::from_seconds(86_400);

/// A stored day that lies further ahead than this was counted under a clock that was wrong.
const AHEAD_MAX_DAYS: i64 = 1;

/// Calls allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub per_minute: u32,
    pub per_day: u32,
    pub per_month: u32,
}

/// The counts of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Days since 1970-01-01, and calls in that one.
    day: i64,
    used_day: u32,
    /// Months since January of the year 0, and calls in that one.
    month: i64,
    used_month: u32,
    /// When the last call was made.
    last_ms: i64,
    /// Nothing is asked before this, because VirusTotal said that it was too much.
    closed_until_ms: i64,
    /// How often in a row it said so for a quota.
    quota_refusals: u32,
    /// The last calls of this process, oldest first; at most `per_minute`.
    #[serde(skip)]
    recent: Vec<Time>,
    /// Of another process, nothing is known but its last call: it may have made as many as it could.
    #[serde(skip)]
    inherited: bool,
}

/// Why nothing may be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    Minute,
    Day,
    Month,
    /// VirusTotal asked to wait.
    Told,
}

impl Budget {
    /// The counts as they were stored; `None` for what no version of this wrote.
    pub fn from_stored(text: &str) -> Option<Budget> {
        let budget: Budget = serde_json::from_str(text).ok()?;
        Some(Budget {
            inherited: true,
            ..budget
        })
    }

    /// As it is stored: far below the 255 bytes that a position's id may have.
    pub fn to_stored(&self) -> String {
        // Seven integers always encode.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The greater of each count of two that were stored in different places, neither of which may be the newer. Only how
    /// often it was too much falls again with an answer, so that is as of the later call.
    pub fn or_more(self, other: Budget) -> Budget {
        let (day, used_day) = (self.day, self.used_day).max((other.day, other.used_day));
        let (month, used_month) = (self.month, self.used_month).max((other.month, other.used_month));
        let (last_ms, quota_refusals) =
            (self.last_ms, self.quota_refusals).max((other.last_ms, other.quota_refusals));
        Budget {
            day,
            used_day,
            month,
            used_month,
            last_ms,
            closed_until_ms: self.closed_until_ms.max(other.closed_until_ms),
            quota_refusals,
            recent: Vec::new(),
            inherited: true,
        }
    }

    /// Until when nothing may be asked, and why; `None` when a call is free.
    pub fn spent(&mut self, now: Time, limits: Limits) -> Option<(Time, Spent)> {
        self.roll(now);
        let closed = Time::from_millis(self.closed_until_ms);
        if now < closed {
            return Some((closed, Spent::Told));
        }
        if self.used_month >= limits.per_month {
            return Some((start_of_month(self.month + 1), Spent::Month));
        }
        if self.used_day >= limits.per_day {
            return Some((start_of_day(self.day + 1), Spent::Day));
        }
        let free_at = self.free_at(limits.per_minute);
        (free_at > now).then_some((free_at, Spent::Minute))
    }

    /// A call is about to be made.
    pub fn spend(&mut self, now: Time, limits: Limits) {
        self.roll(now);
        self.used_day = self.used_day.saturating_add(1);
        self.used_month = self.used_month.saturating_add(1);
        // It is free only once the minute of another process is over.
        self.inherited = false;
        self.last_ms = now.as_millis();
        self.recent.push(now);
        let keep = limits.per_minute as usize;
        let extra = self.recent.len().saturating_sub(keep);
        self.recent.drain(..extra);
    }

    /// The call that was spent last has ended: only now is it certain that it has arrived.
    pub fn arrived(&mut self, now: Time) {
        self.last_ms = now.as_millis();
        if let Some(last) = self.recent.last_mut() {
            *last = now;
        }
    }

    /// It was not too much.
    pub fn accepted(&mut self) {
        self.quota_refusals = 0;
    }

    /// It was too much. With no wait given: a minute, and for a quota that is still used up after it, until the next day.
    pub fn refused(&mut self, now: Time, quota: bool, wait: Option<Span>) -> Time {
        if quota {
            self.quota_refusals = self.quota_refusals.saturating_add(1);
        }
        let until = match wait {
            Some(wait) => now + wait,
            None if quota && self.quota_refusals.is_multiple_of(2) => {
                start_of_day(now.0.div_euclid(DAY.0) + 1)
            }
            None => now + MINUTE,
        };
        self.closed_until_ms = until.as_millis();
        until
    }

    pub fn used_day(&self) -> u32 {
        self.used_day
    }

    pub fn used_month(&self) -> u32 {
        self.used_month
    }

    fn free_at(&self, per_minute: u32) -> Time {
        if self.inherited {
            return Time::from_millis(self.last_ms) + MINUTE;
        }
        match self.recent.len().checked_sub(per_minute as usize) {
            Some(index) => self.recent[index] + MINUTE,
            None => Time(i64::MIN),
        }
    }

    /// Begins a new day or month. A clock that was set back begins none: what was asked stays counted.
    fn roll(&mut self, now: Time) {
        let day = now.0.div_euclid(DAY.0);
        let month = month_of(day);
        let wrong = self.day > day + AHEAD_MAX_DAYS;
        if day > self.day || wrong {
            self.day = day;
            self.used_day = 0;
        }
        if month > self.month || wrong {
            self.month = month;
            self.used_month = 0;
        }
        // No wait reaches further than a day, and no call was made after now.
        if wrong || self.closed_until_ms > (now + DAY).as_millis() {
            self.closed_until_ms = 0;
        }
        self.last_ms = self.last_ms.min(now.as_millis());
        for at in &mut self.recent {
            *at = (*at).min(now);
        }
    }
}

fn start_of_day(day: i64) -> Time {
    Time(day.saturating_mul(DAY.0))
}

/// Months since January of the year 0, of a day since 1970-01-01.
fn month_of(day: i64) -> i64 {
    let seconds = start_of_day(day).as_seconds();
    let date = jiff::Timestamp::from_second(seconds)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_zoned(TimeZone::UTC);
    i64::from(date.year()) * 12 + i64::from(date.month()) - 1
}

fn start_of_month(month: i64) -> Time {
    let year = i16::try_from(month.div_euclid(12)).unwrap_or(i16::MAX);
    let number = i8::try_from(month.rem_euclid(12) + 1).unwrap_or(1);
    let first = jiff::civil::Date::new(year, number, 1).and_then(|date| date.to_zoned(TimeZone::UTC));
    // Past the calendar's end there is no month to wait for.
    first.map_or(Time(i64::MAX), |first| {
        Time::from_seconds(first.timestamp().as_second())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        per_minute: 4,
        per_day: 500,
        per_month: 15_500,
    };

    fn at(text: &str) -> Time {
        text.parse().unwrap()
    }

    /// Makes calls as soon as they are free, until `until` or `most`; returns their times.
    fn greedy(budget: &mut Budget, from: Time, until: Time, most: usize) -> Vec<Time> {
        let (mut now, mut calls) = (from, Vec::new());
        while now < until && calls.len() < most {
            match budget.spent(now, LIMITS) {
                Some((free, _)) => now = free.max(now + Span::from_millis(1)),
                None => {
                    budget.spend(now, LIMITS);
                    budget.arrived(now);
                    calls.push(now);
                }
            }
        }
        calls
    }

    #[test]
    fn no_minute_day_or_month_has_more_calls_than_allowed() {
        let from = at("2026-11-29T23:58:00Z");
        let mut budget = Budget::default();
        let calls = greedy(&mut budget, from, at("2027-01-02T00:00:00Z"), usize::MAX);
        for (index, call) in calls.iter().enumerate() {
            let in_minute = calls[index..]
                .iter()
                .take_while(|other| other.since(*call) <= Span::from_seconds(60))
                .count();
            assert!(in_minute <= 4, "{in_minute} from {call}");
        }
        let of = |prefix: &str| {
            calls
                .iter()
                .filter(|call| call.to_string().starts_with(prefix))
                .count()
        };
        assert_eq!(
            (of("2026-11-29"), of("2026-11-30"), of("2026-12-01")),
            (8, 500, 500)
        );
        assert_eq!(of("2026-12"), 15_500, "31 days of 500");
        assert_eq!(of("2027-01-01"), 500);
    }

    #[test]
    fn a_month_that_is_used_up_waits_for_the_next() {
        let small = Limits {
            per_month: 2,
            ..LIMITS
        };
        let mut budget = Budget::default();
        let now = at("2028-02-28T12:00:00Z");
        budget.spend(now, small);
        assert_eq!(budget.spent(now, small), None);
        budget.spend(now, small);
        assert_eq!(
            budget.spent(now, small),
            Some((at("2028-03-01T00:00:00Z"), Spent::Month))
        );
        assert_eq!(
            budget.spent(at("2028-02-29T23:59:59Z"), small).unwrap().1,
            Spent::Month
        );
        assert_eq!(budget.spent(at("2028-03-01T00:00:00Z"), small), None);
    }

    #[test]
    fn what_is_stored_goes_on_counting() {
        let mut budget = Budget::default();
        let from = at("2026-11-20T10:00:00Z");
        let calls = greedy(&mut budget, from, at("2026-11-21T00:00:00Z"), 499);
        let last = *calls.last().unwrap();
        assert!(budget.to_stored().len() < 255);
        let mut again = Budget::from_stored(&budget.to_stored()).unwrap();
        assert_eq!(again.used_day(), 499);
        // Of the minute nothing is known but its last call.
        assert_eq!(again.spent(last, LIMITS), Some((last + MINUTE, Spent::Minute)));
        let later = last + MINUTE;
        assert_eq!(again.spent(later, LIMITS), None);
        again.spend(later, LIMITS);
        assert_eq!(
            again.spent(later + MINUTE, LIMITS),
            Some((at("2026-11-21T00:00:00Z"), Spent::Day))
        );
        assert_eq!(Budget::from_stored("garbage"), None);
        let or_more = again.clone().or_more(Budget::default());
        assert_eq!(
            (or_more.used_day(), Budget::default().or_more(again).used_day()),
            (500, 500)
        );
    }

    #[test]
    fn of_two_places_each_count_is_the_greater() {
        let now = at("2026-11-20T10:00:00Z");
        let mut early = Budget::default();
        early.spend(now, LIMITS);
        let mut refused = early.clone();
        refused.arrived(now + Span::from_seconds(1));
        refused.refused(now, true, Some(Span::from_seconds(1_700)));
        let mut accepted = refused.clone();
        accepted.arrived(now + Span::from_seconds(2));
        accepted.accepted();
        let mut next_month = Budget::default();
        next_month.spend(at("2026-12-01T00:00:00Z"), LIMITS);
        // (calls in the day, in the month, refusals, when the wait ends)
        let check = |one: &Budget, other: &Budget, want: (u32, u32, u32, i64)| {
            for (one, other) in [(one, other), (other, one)] {
                let both = one.clone().or_more(other.clone());
                let refusals = both.quota_refusals;
                let got = (both.used_day, both.used_month, refusals, both.closed_until_ms);
                assert_eq!(got, want);
                assert_eq!(both.last_ms, one.last_ms.max(other.last_ms));
            }
        };
        let until = (now + Span::from_seconds(1_700)).as_millis();
        check(&early, &refused, (1, 1, 1, until));
        check(&refused, &accepted, (1, 1, 0, until));
        check(&early, &accepted, (1, 1, 0, until));
        check(&refused, &next_month, (1, 1, 0, until));
        let mut twice = early.clone();
        twice.spend(now, LIMITS);
        check(&refused, &twice, (2, 2, 1, until));
    }

    #[test]
    fn a_clock_that_is_set_back_gives_nothing_back() {
        let mut budget = Budget::default();
        let now = at("2026-11-20T00:10:00Z");
        let _ = greedy(&mut budget, now, at("2026-11-20T23:00:00Z"), 500);
        let before = at("2026-11-19T23:50:00Z");
        assert_eq!(budget.spent(before, LIMITS).unwrap().1, Spent::Day);
        // A clock that was years ahead does not close the budget for years.
        let mut ahead = Budget::default();
        let _ = greedy(
            &mut ahead,
            at("2031-01-01T00:00:00Z"),
            at("2031-01-02T00:00:00Z"),
            500,
        );
        ahead.refused(at("2031-01-01T12:00:00Z"), false, Some(DAY));
        let spent = ahead.spent(now, LIMITS).map(|(until, _)| until);
        assert!(spent.is_none_or(|until| until <= now + MINUTE), "{spent:?}");
    }

    #[test]
    fn a_refusal_waits_as_long_as_is_said_else_a_minute_and_then_a_day() {
        let now = at("2026-11-20T10:00:00Z");
        let check = |budget: &mut Budget, quota, wait: Option<i64>, want: Time| {
            let until = budget.refused(now, quota, wait.map(Span::from_seconds));
            assert_eq!(until, want);
            assert_eq!(budget.spent(now, LIMITS), Some((want, Spent::Told)));
            assert_eq!(budget.spent(want, LIMITS), None);
        };
        let tomorrow = at("2026-11-21T00:00:00Z");
        check(
            &mut Budget::default(),
            false,
            Some(17),
            now + Span::from_seconds(17),
        );
        check(&mut Budget::default(), false, None, now + MINUTE);
        let mut budget = Budget::default();
        check(&mut budget, true, None, now + MINUTE);
        check(&mut budget, true, None, tomorrow);
        // The day after, the month may be used up: again one call before the rest of the day is left alone.
        check(&mut budget, true, None, now + MINUTE);
        budget.accepted();
        check(&mut budget, true, None, now + MINUTE);
        check(&mut budget, true, Some(5), now + Span::from_seconds(5));
    }

    #[test]
    fn months_begin_where_the_calendar_says() {
        for (day, month) in [
            ("1970-01-01", "1970-02-01"),
            ("2000-02-29", "2000-03-01"),
            ("2026-12-31", "2027-01-01"),
            ("2100-02-28", "2100-03-01"),
        ] {
            let day = at(&format!("{day}T00:00:00Z")).0.div_euclid(DAY.0);
            let next = start_of_month(month_of(day) + 1);
            assert_eq!(next, at(&format!("{month}T00:00:00Z")));
            assert_eq!(month_of(next.0.div_euclid(DAY.0)), month_of(day) + 1);
        }
    }
}
