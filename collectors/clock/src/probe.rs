//! Reads the kit's clock and publishes ticks.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchfold_kit::{Progress, Publisher};
use watchfold_schemas::observation::Tick;
use watchfold_schemas::{Body, Span, Time};

use crate::ClockError;

/// Shorter intervals only fill the log.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Longer ones would make every deadline of a chain late by as much.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// How often it is shown how the clock goes.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Publishes a tick at once and then at every multiple of `interval` by the collector's clock, until cancelled.
/// After a late wake there is one tick, not a burst; after a step of the clock the grid is the new one. While the log
/// has not taken a tick there is no other.
pub async fn run(
    publisher: Arc<Publisher>,
    interval: Duration,
    cancel: CancellationToken,
) -> Result<(), ClockError> {
    let millis = interval.as_millis();
    let interval_ms = match u32::try_from(millis) {
        Ok(interval_ms) if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) => interval_ms,
        _ => return Err(ClockError::Interval { millis }),
    };
    let every = Span::from_millis(i64::from(interval_ms));
    let mut due = publisher.now();
    loop {
        let now = publisher.now();
        let left = due.since(now);
        if left > every {
            // The wall clock was set back; the old grid point is out of reach.
            due = next_tick(now, every);
        } else if left.is_positive() {
            let left = Duration::from_nanos(left.0.unsigned_abs());
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(left) => {}
            }
        } else {
            // Ticks that wait for the log would all come at once, ahead of what others measured meanwhile, and make
            // those look silent. One that waits is enough: what follows it is a gap, and that is our own absence.
            if publisher.stats().queued == 0 {
                publisher.submit_with(|stamp| {
                    Body::Tick(Tick {
                        now: stamp.now(),
                        interval_ms,
                    })
                })?;
            }
            due = next_tick(now, every);
        }
    }
}

/// [`run`], and shows how it goes: it writes often, so it is the first to know of a log that takes nothing.
pub async fn run_shown(
    publisher: Arc<Publisher>,
    interval: Duration,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(), ClockError> {
    let ticks = run(publisher.clone(), interval, cancel);
    tokio::pin!(ticks);
    loop {
        let stats = publisher.stats();
        progress.advance(stats.published, stats.published + stats.queued);
        match publisher.trouble() {
            Some(trouble) => progress.fail(trouble),
            None => progress.ok(),
        }
        tokio::select! {
            ended = &mut ticks => return ended,
            () = tokio::time::sleep(SHOW_EVERY) => {}
        }
    }
}

/// The first grid point after `now`.
fn next_tick(now: Time, every: Span) -> Time {
    now.floor(every) + every
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use tokio::time::Instant;
    use watchfold_kit::Clock;
    use watchfold_log::memory::MemoryLog;
    use watchfold_log::{MessageLog, Start};
    use watchfold_schemas::{Stream, decode_observation};

    use super::*;

    /// The runtime's paused clock, plus what the test adds to both clocks or to the wall alone.
    struct TestClock {
        started: Instant,
        slept: Arc<AtomicI64>,
        stepped: Arc<AtomicI64>,
    }

    impl Clock for TestClock {
        fn wall(&self) -> Time {
            Time::from_millis(1_000_250) + self.monotonic() + Span(self.stepped.load(Ordering::SeqCst))
        }
        fn monotonic(&self) -> Span {
            let elapsed = i64::try_from(self.started.elapsed().as_nanos()).unwrap();
            Span(elapsed + self.slept.load(Ordering::SeqCst))
        }
    }

    /// Ticks in milliseconds after 1,000 s: two, then the machine is held for `slept_ms` or its clock set by
    /// `stepped_ms`, then up to `want.len()`.
    async fn check(slept_ms: i64, stepped_ms: i64, want: &[i64]) {
        let log = MemoryLog::new();
        let dir = tempfile::tempdir().unwrap();
        let (slept, stepped) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let clock = TestClock {
            started: Instant::now(),
            slept: Arc::clone(&slept),
            stepped: Arc::clone(&stepped),
        };
        let publisher = Publisher::open_with_clock(log.clone(), "cafe", "clock", dir.path(), Box::new(clock));
        let publisher = publisher.await.unwrap();
        let cancel = CancellationToken::new();
        let running = tokio::spawn(run(publisher, Duration::from_secs(1), cancel.clone()));
        let mut reader = log
            .reader(Stream::Observations, "wf.obs.cafe.tick.clock", Start::First)
            .await
            .unwrap();
        let mut got = Vec::new();
        while got.len() < want.len() {
            for record in reader.next(1).await.unwrap().records {
                let Body::Tick(tick) = decode_observation(&record.payload).unwrap().body else {
                    panic!()
                };
                got.push(tick.now.as_millis() - 1_000_000);
            }
            if got.len() == 2 {
                slept.store(slept_ms * 1_000_000, Ordering::SeqCst);
                stepped.store(stepped_ms * 1_000_000, Ordering::SeqCst);
            }
        }
        cancel.cancel();
        running.await.unwrap().unwrap();
        assert_eq!(got, want, "slept {slept_ms}, stepped {stepped_ms}");
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_stand_on_the_grid_without_bursts() {
        check(0, 0, &[250, 1_000, 2_000, 3_000]).await;
        // Held for 10 s in the second after 1.0: one late tick, then the grid.
        check(10_000, 0, &[250, 1_000, 12_000, 13_000]).await;
        // Set forward and back: the next tick is on the new grid.
        check(0, 60_500, &[250, 1_000, 62_500, 63_000]).await;
        check(0, -500_500, &[250, 1_000, -498_000, -497_000]).await;
    }

    #[tokio::test]
    async fn an_interval_out_of_range_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let publisher = Publisher::open(MemoryLog::new(), "cafe", "clock", dir.path())
            .await
            .unwrap();
        for interval in [Duration::ZERO, Duration::from_millis(99), Duration::from_secs(61)] {
            let error = run(Arc::clone(&publisher), interval, CancellationToken::new())
                .await
                .unwrap_err();
            assert!(matches!(error, ClockError::Interval { .. }), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_log_takes_none_one_tick_waits() {
        let log = MemoryLog::new();
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock {
            started: Instant::now(),
            slept: Arc::default(),
            stepped: Arc::default(),
        };
        let publisher = Publisher::open_with_clock(log.clone(), "cafe", "clock", dir.path(), Box::new(clock));
        let publisher = publisher.await.unwrap();
        let cancel = CancellationToken::new();
        let running = tokio::spawn(run(publisher.clone(), Duration::from_secs(1), cancel.clone()));
        let ticks = || log.records(Stream::Observations).len();
        while ticks() < 3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        log.fail_appends(true);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(publisher.stats().queued, 1);
        let before = ticks();
        log.fail_appends(false);
        while ticks() < before + 3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        cancel.cancel();
        running.await.unwrap().unwrap();
    }
}
