//! How fast a replay goes: by the times at which its records were stored, or its packets captured. The folds know nothing of it.

use std::time::{Duration, Instant};

use watchfold_replay::Step;
use watchfold_schemas::{Span, Time};

use crate::cli::Speed;

/// A span without any record, when nobody watched or between two inputs, counts as no longer than this.
const GAP_MAX: Span = Span::from_seconds(60);

/// Slept at once, so that progress is shown meanwhile.
const SLEEP_MAX: Duration = Duration::from_millis(250);

/// Says how long to wait before a step.
pub struct Pace {
    times: Option<f64>,
    began: Option<Instant>,
    /// When the record before is due, after the beginning.
    due: Duration,
    last: Option<Time>,
}

impl Pace {
    pub fn new(speed: Speed) -> Pace {
        let times = match speed {
            Speed::Max => None,
            Speed::Times(times) => Some(times),
        };
        Pace {
            times,
            began: None,
            due: Duration::ZERO,
            last: None,
        }
    }

    /// How long to wait before this step is looked at again; `None` when it is due. The lead-in is always due.
    pub fn wait(&mut self, step: &Step) -> Option<Duration> {
        let at = match step {
            Step::Record {
                record,
                lead_in: false,
                ..
            } => record.stored_at,
            Step::Captured {
                observation,
                lead_in: false,
                ..
            } => observation.through,
            _ => return None,
        };
        self.times?;
        let elapsed = self.began.get_or_insert_with(Instant::now).elapsed();
        self.wait_until(at, elapsed)
    }

    fn wait_until(&mut self, at: Time, elapsed: Duration) -> Option<Duration> {
        let times = self.times?;
        let passed = self.last.map_or(Span(0), |last| at.since(last));
        self.last = self.last.max(Some(at));
        let passed_s = passed.0.clamp(0, GAP_MAX.0) as f64 / 1e9;
        self.due += Duration::try_from_secs_f64(passed_s / times).unwrap_or_default();
        let wait = self.due.saturating_sub(elapsed);
        (!wait.is_zero()).then(|| wait.min(SLEEP_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::speed;

    /// (the record's second, seconds elapsed, milliseconds to wait)
    fn check(at: &str, records: &[(i64, f64, Option<u64>)]) {
        let mut pace = Pace::new(speed(at).unwrap());
        for (index, (second, elapsed, want)) in records.iter().enumerate() {
            let got = pace.wait_until(Time::from_seconds(*second), Duration::from_secs_f64(*elapsed));
            assert_eq!(
                got.map(|wait| wait.as_millis() as u64),
                *want,
                "record {index} at {at}"
            );
        }
    }

    #[test]
    fn records_come_as_they_were_stored_so_many_times_as_fast() {
        check("max", &[(0, 0.0, None), (1_000, 0.0, None)]);
        check(
            "1x",
            &[
                (0, 0.0, None),
                (1, 0.9, Some(100)),
                (1, 1.0, None),
                (2, 1.0, Some(250)),
            ],
        );
        check(
            "10x",
            &[
                (0, 0.0, None),
                (1, 0.0, Some(100)),
                (2, 0.15, Some(50)),
                (2, 0.2, None),
            ],
        );
        check("0.5x", &[(0, 0.0, None), (1, 1.9, Some(100))]);
        // A record that was stored before the last one is due at once; a day without any counts a minute.
        check(
            "10x",
            &[
                (100, 0.0, None),
                (50, 0.0, None),
                (86_500, 5.9, Some(100)),
                (86_501, 6.0, Some(100)),
            ],
        );
    }

    #[test]
    fn a_speed_is_written_as_people_say_it() {
        for wrong in ["", "x", "10", "0x", "-1x", "fast", "nanx", "infx", "1e9x"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }
}
