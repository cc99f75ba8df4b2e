//! How much of the measured time a target was up: from rollups, and for the hours that have none yet from its
//! changes of state.

use watchfold_schemas::event::SubjectState;
use watchfold_schemas::{Span, Time};

use super::history::{Rollups, hour_of, start_of_hour};
use super::told::Subject;

/// Parts per million of the measured time since `from`. Suppressed, frozen and unmeasured time counts for neither.
pub fn uptime_ppm(
    rollups: Option<&Rollups>,
    subject: Option<&Subject>,
    last_measured_at: Option<Time>,
    from: Time,
    now: Time,
) -> Option<u64> {
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
    // A silent collector leaves the state as it was; that time is not measured.
    let until = last_measured_at.map_or(from, |at| at.min(now));
    if let Some(subject) = subject {
        let mut end = until;
        for (since, state) in subject.transitions.iter().rev() {
            let span_ms = end
                .since((*since).max(untold_from))
                .as_millis()
                .max(0)
                .unsigned_abs();
            match state {
                SubjectState::Up | SubjectState::Suspect => up_ms += span_ms,
                SubjectState::Down => down_ms += span_ms,
                SubjectState::Unknown | SubjectState::Suppressed | SubjectState::Frozen => {}
            }
            end = end.min(*since);
            if *since <= untold_from {
                break;
            }
        }
    }
    up_ms.saturating_mul(1_000_000).checked_div(up_ms + down_ms)
}

pub const UPTIME_DAY: Span = Span::from_seconds(86_400);
pub const UPTIME_MONTH: Span = Span::from_seconds(30 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(transitions: &[(i64, SubjectState)], measured_s: i64, want: Option<u64>) {
        let mut subject = Subject::default();
        subject.transitions.extend(
            transitions
                .iter()
                .map(|(s, state)| (Time::from_seconds(*s), *state)),
        );
        let at = Time::from_seconds;
        assert_eq!(
            uptime_ppm(None, Some(&subject), Some(at(measured_s)), at(100), at(1_100)),
            want,
            "{transitions:?}"
        );
    }

    #[test]
    fn states_count_from_the_windows_start_to_the_last_measurement() {
        use SubjectState::*;
        check(&[], 1_000, None);
        check(&[(0, Up)], 1_000, Some(1_000_000));
        check(&[(0, Up), (600, Down)], 1_100, Some(500_000));
        check(&[(0, Up), (600, Suppressed)], 1_100, Some(1_000_000));
        check(&[(0, Unknown), (600, Down)], 1_100, Some(0));
        check(&[(0, Up), (350, Down), (600, Up)], 1_100, Some(750_000));
        // Silent since 350.
        check(&[(0, Up), (225, Down)], 350, Some(500_000));
        check(&[(0, Up)], 50, None);
    }
}
