//! How much of the measured time a target was up, and how much of a period was measured: from rollups, and for the hours
//! that have none yet from the changes of its state within the spans in which it was measured.

use std::collections::VecDeque;

use watchfold_schemas::event::SubjectState;
use watchfold_schemas::{Span, Time};

use super::history::{Rollups, hour_of, start_of_hour};
use super::told::Subject;

pub const UPTIME_DAY: Span = Span::from_seconds(86_400);
pub const UPTIME_MONTH: Span = Span::from_seconds(30 * 86_400);

/// In parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uptime {
    /// Of the measured time; `None` where nothing was measured.
    pub up_ppm: Option<u64>,
    /// Of the whole period, also of what lies before the first measurement.
    pub measured_ppm: u64,
}

/// Returns the uptime in the period that ends now and begins `length` ago, or up to an hour earlier: rollups are whole
/// hours. Suppressed, frozen and unmeasured time counts for neither up nor down, and is not measured.
pub fn uptime(
    rollups: Option<&Rollups>,
    subject: Option<&Subject>,
    measured: &VecDeque<(Time, Time)>,
    length: Span,
    now: Time,
) -> Uptime {
    let from = start_of_hour(hour_of(now - length));
    let (mut up_ms, mut down_ms) = (0_u64, 0_u64);
    let mut untold_from = from;
    if let Some(rollups) = rollups {
        for (_, hour) in rollups.hours.range(hour_of(from)..) {
            up_ms += hour.up_ms;
            down_ms += hour.down_ms;
        }
        if let Some((last, _)) = rollups.hours.last_key_value() {
            untold_from = from.max(start_of_hour(last + 1));
        }
    }
    if let Some(subject) = subject {
        for (first, last) in measured {
            let (up, down) = within(subject, (*first).max(untold_from), (*last).min(now));
            up_ms += up;
            down_ms += down;
        }
    }
    let period_ms = now.since(from).as_millis().max(1).unsigned_abs();
    Uptime {
        up_ppm: up_ms.saturating_mul(1_000_000).checked_div(up_ms + down_ms),
        measured_ppm: ((up_ms + down_ms).saturating_mul(1_000_000) / period_ms).min(1_000_000),
    }
}

/// Milliseconds up and down between two instants.
fn within(subject: &Subject, first: Time, last: Time) -> (u64, u64) {
    let (mut up_ms, mut down_ms) = (0, 0);
    let mut end = last;
    for (since, state) in subject.transitions.iter().rev() {
        let span_ms = end.since((*since).max(first)).as_millis().max(0).unsigned_abs();
        match state {
            SubjectState::Up | SubjectState::Suspect => up_ms += span_ms,
            SubjectState::Down => down_ms += span_ms,
            SubjectState::Unknown | SubjectState::Suppressed | SubjectState::Frozen => {}
        }
        end = end.min(*since);
        if *since <= first {
            break;
        }
    }
    (up_ms, down_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: i64 = 86_400;

    /// The uptime of a day that ends a thousand seconds after a whole hour; times are seconds of that hour.
    fn day(transitions: &[(i64, SubjectState)], measured: &[(i64, i64)]) -> Uptime {
        let at = |second: i64| Time::from_seconds(2 * DAY_S + second);
        let mut subject = Subject::default();
        let transitions = transitions.iter().map(|(second, state)| (at(*second), *state));
        subject.transitions.extend(transitions);
        let measured = measured
            .iter()
            .map(|(first, last)| (at(*first), at(*last)))
            .collect();
        uptime(None, Some(&subject), &measured, UPTIME_DAY, at(1_000))
    }

    fn check(transitions: &[(i64, SubjectState)], measured: &[(i64, i64)], want: Option<u64>) {
        assert_eq!(
            day(transitions, measured).up_ppm,
            want,
            "{transitions:?} {measured:?}"
        );
    }

    #[test]
    fn states_count_while_they_are_measured() {
        use SubjectState::*;
        let whole = &[(0, 1_000)];
        check(&[], whole, None);
        check(&[(0, Up)], whole, Some(1_000_000));
        check(&[(0, Up)], &[], None);
        check(&[(0, Up), (500, Down)], whole, Some(500_000));
        check(&[(0, Up), (500, Suppressed)], whole, Some(1_000_000));
        check(&[(0, Unknown), (500, Down)], whole, Some(0));
        check(&[(0, Up), (250, Down), (500, Up)], whole, Some(750_000));
        // Silent since 300.
        check(&[(0, Up), (150, Down)], &[(0, 300)], Some(500_000));
    }

    #[test]
    fn our_own_absence_is_not_up() {
        use SubjectState::*;
        // Down for 228 s of 1,639 s that were measured; 810 s passed while nothing ran.
        let transitions = &[(-1_449, Up), (-1_000, Down), (-772, Up)];
        let measured = &[(-1_449, -400), (410, 1_000)];
        check(transitions, measured, Some(1_000_000 - 228_000_000 / 1_639 - 1));
        assert_eq!(
            day(transitions, measured).measured_ppm,
            1_639 * 1_000_000 / (DAY_S as u64 + 1_000)
        );
    }

    #[test]
    fn a_period_that_was_hardly_measured_says_so() {
        let nine_seconds = day(&[(0, SubjectState::Up)], &[(991, 1_000)]);
        assert_eq!(nine_seconds.up_ppm, Some(1_000_000));
        assert_eq!(
            nine_seconds.measured_ppm, 102,
            "nine seconds of a day and a thousand seconds"
        );
    }
}
