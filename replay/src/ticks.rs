//! The clock of a site that exists in capture files alone: ticks at whole multiples of an interval of the packets' own time, the same
//! however the packets are cut into batches.

use watchfold_schemas::observation::{OBSERVATION_VERSION, Tick};
use watchfold_schemas::{Body, Observation, Origin, Span, Time};

/// Between two ticks; as where many sites share a clock.
const INTERVAL: Span = Span::from_seconds(10);

/// Where no packet comes for longer than this, nothing ticks until one does: a file may hold two days a year apart.
const GAP_MAX: Span = Span::from_seconds(60 * 60);

/// What the clock beside a log is called.
const COLLECTOR: &str = "clock";

#[derive(Debug)]
pub(crate) struct Ticks {
    site: String,
    next: Option<Time>,
    number: u64,
}

impl Ticks {
    pub(crate) fn new(site: &str) -> Ticks {
        Ticks {
            site: site.to_owned(),
            next: None,
            number: 0,
        }
    }

    /// The ticks up to `through`, of packets of which the first was at `first`.
    pub(crate) fn until(&mut self, first: Time, through: Time) -> Vec<Observation> {
        // Packets of a batch may lie far behind or ahead of where time has come to.
        let first = first.min(through).max(through - GAP_MAX);
        let mut next = self.next.unwrap_or_else(|| first.floor(INTERVAL));
        if first.since(next) > GAP_MAX {
            next = first.floor(INTERVAL);
        }
        let mut ticks = Vec::new();
        while next <= through {
            self.number += 1;
            ticks.push(self.tick(next));
            next = next + INTERVAL;
        }
        self.next = Some(next);
        ticks
    }

    fn tick(&self, at: Time) -> Observation {
        Observation {
            v: OBSERVATION_VERSION,
            origin: Origin {
                site: self.site.clone(),
                collector: COLLECTOR.to_owned(),
                incarnation: 1,
                number: self.number,
            },
            observed_at: at,
            through: at,
            body: Body::Tick(Tick {
                now: at,
                interval_ms: u32::try_from(INTERVAL.as_millis()).unwrap_or(u32::MAX),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds of all ticks, for batches of (first, through) in tenths of a second.
    fn check(batches: &[(i64, i64)], want: &[i64]) {
        let mut ticks = Ticks::new("capture");
        let tenth = |tenths: i64| Time(tenths * 100_000_000);
        let made = batches
            .iter()
            .flat_map(|(first, through)| ticks.until(tenth(*first), tenth(*through)));
        let seconds: Vec<i64> = made.map(|tick| tick.observed_at.0 / 1_000_000_000).collect();
        assert_eq!(seconds, want, "{batches:?}");
    }

    #[test]
    fn they_do_not_depend_on_batches() {
        check(&[(105, 310)], &[10, 20, 30]);
        check(&[(105, 110), (115, 299), (300, 310)], &[10, 20, 30]);
        // Across midnight of nobody's day: the gap has no ticks, whatever the batch after it holds.
        check(&[(0, 1), (50_095, 50_095), (50_096, 50_105)], &[0, 5_000, 5_010]);
        check(&[(0, 1), (50_095, 50_105)], &[0, 5_000, 5_010]);
    }

    #[test]
    fn they_go_on_after_a_packet_far_ahead_or_behind() {
        check(&[(0, 1), (90_000_000, 99), (100, 201)], &[0, 10, 20]);
        check(
            &[(1_000_000, 1_000_001), (0, 1_000_099), (1_000_100, 1_000_101)],
            &[100_000, 100_010],
        );
    }
}
