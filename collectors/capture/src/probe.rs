//! The thread of one interface: reads packets, publishes batches, and tells when it cannot see.
//!
//! It never ends by itself: an interface that is gone is tried again, with longer and longer pauses.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use watchfold_config::CaptureConfig;
use watchfold_kit::{Clock, InFlight, KitError, Progress, Publisher, SystemClock};
use watchfold_schemas::observation::{Fault, Gap};
use watchfold_schemas::packets::{CaptureSource, PACKET_ROWS_MAX};
use watchfold_schemas::{Body, Span, Stream, Time};

use crate::batch::BatchLimits;
use crate::error::CaptureError;
use crate::live::{LiveBatch, Reading};
use crate::ring::RingWriter;
use crate::tap::{self, Drops, OpenWire, Wire};

/// A batch with packets in it waits no longer for more.
const BATCH_WAIT: Span = Span::from_millis(50);

/// A batch at least this often, empty if nothing came, so that what folds packets hears of time passing.
const BATCH_EVERY: Span = Span::from_millis(500);

/// How long the thread rests when there is nothing to read. The kernel gathers packets for longer than this.
const REST: Duration = Duration::from_millis(5);

/// A packet captured longer ago than this was handed over: the kernel gathers for 20 ms, and a loaded machine is slow.
const HANDED_OVER: Span = Span::from_millis(200);

/// An observation at least this often, so that who looks at observations alone sees the collector live.
const QUIET_EVERY: Duration = Duration::from_secs(5);

/// Bytes that may wait for the log before packets are dropped: three quarters of the publisher's own limit at its
/// smallest, so that its queue never has to lose the oldest.
const BACKLOG_BYTES_MAX: u64 = 12 * 1024 * 1024;

/// How long a full backlog is waited for while the kernel's buffer takes what comes.
const BACKLOG_WAIT: Duration = Duration::from_millis(50);

/// How often drops are counted; asking takes a system call and a file.
const DROPS_EVERY: Span = Span::from_seconds(1);

/// At most one warning of each kind in this time.
const WARN_EVERY: Span = Span::from_seconds(60);

/// The pauses before an interface is tried again double from here to there.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Captures on one interface until cancelled. What cannot be captured is told as a fault and tried again.
///
/// `progress` counts records; whole packets are kept in `ring_dir` if the configuration wants some kept.
pub async fn run(
    publisher: Arc<Publisher>,
    config: CaptureConfig,
    ring_dir: PathBuf,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(), CaptureError> {
    run_on(tap::live(), publisher, config, ring_dir, progress, cancel).await
}

/// The same on whatever is opened so.
pub(crate) async fn run_on(
    open: OpenWire,
    publisher: Arc<Publisher>,
    config: CaptureConfig,
    ring_dir: PathBuf,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(), CaptureError> {
    let stopping = cancel.child_token();
    let _stop_on_return = stopping.clone().drop_guard();
    publisher.spawn_quiet(QUIET_EVERY, stopping.clone());
    let outcome = on_a_thread(open, publisher.clone(), config, ring_dir, progress, stopping).await;
    if let Err(error @ (CaptureError::Panicked { .. } | CaptureError::Thread { .. })) = &outcome {
        // The thread cannot say so any more. Whoever starts it again ends the fault with that.
        tell_fault(&publisher, error.to_string(), true)?;
    }
    outcome
}

async fn on_a_thread(
    open: OpenWire,
    publisher: Arc<Publisher>,
    config: CaptureConfig,
    ring_dir: PathBuf,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(), CaptureError> {
    let interface = config.interface.clone();
    let (done, ended) = oneshot::channel();
    let probe = move || {
        let ended = Probe::new(publisher, config, ring_dir, progress, cancel).run(&open);
        // Whoever waited was dropped with the runtime.
        drop(done.send(ended));
    };
    thread::Builder::new()
        .name("capture".to_owned())
        .spawn(probe)
        .map_err(|source| CaptureError::Thread {
            interface: interface.clone(),
            source,
        })?;
    ended.await.unwrap_or(Err(CaptureError::Panicked { interface }))
}

struct Probe {
    publisher: Arc<Publisher>,
    config: CaptureConfig,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    wall: SystemClock,
    live: LiveBatch,
    ring: Option<RingWriter>,
    /// Holds `through` back to where packets are known to be complete.
    complete: Option<InFlight>,
    /// Dropped before this interface was opened for the last time.
    drops_before: Drops,
    drops_counted_at: Option<Time>,
    published_at: Option<Time>,
    /// When the interface was opened.
    opened_at: Time,
    dropping: bool,
    /// Since the last batch that was published.
    dropped: Option<Dropped>,
    warned_at: Option<Time>,
    /// The fault that was told and is not over.
    fault: Option<String>,
    /// From when on nothing was seen, and in which epoch of the clock.
    blind_since: Option<(Time, u64)>,
}

/// Batches that the log had no room for.
#[derive(Clone, Copy)]
struct Dropped {
    from: Time,
    to: Time,
    /// Of the clock that these times are by.
    epoch: u64,
    batches: u64,
}

impl Probe {
    fn new(
        publisher: Arc<Publisher>,
        config: CaptureConfig,
        ring_dir: PathBuf,
        progress: Arc<Progress>,
        cancel: CancellationToken,
    ) -> Probe {
        // Packets are numbered from 1.
        publisher.renew();
        let wall = SystemClock::new();
        let reading = read_clock(&publisher, &wall);
        let ring = config
            .ring_bytes_max
            .map(|bytes_max| RingWriter::start(ring_dir, bytes_max));
        let live = LiveBatch::new(reading, &config.head_ports);
        Probe {
            live,
            publisher,
            config,
            progress,
            cancel,
            wall,
            ring,
            complete: None,
            drops_before: Drops::default(),
            drops_counted_at: None,
            published_at: None,
            opened_at: reading.stamp.now(),
            dropping: false,
            dropped: None,
            warned_at: None,
            fault: None,
            blind_since: None,
        }
    }

    fn run(mut self, open: &OpenWire) -> Result<(), CaptureError> {
        // An earlier process may have ended with a fault open, or this one's thread in a panic, and nobody else would end it.
        tell_fault(&self.publisher, "the collector starts".to_owned(), false)?;
        let mut pause = PAUSE_MIN;
        loop {
            let opened = open(&self.config);
            let seen = opened.is_ok();
            match opened.and_then(|mut wire| self.capture(&mut *wire)) {
                Ok(()) => return Ok(()),
                Err(error @ CaptureError::Kit(_)) => return Err(error),
                Err(error) => self.cannot_see(&error)?,
            }
            pause = if seen {
                PAUSE_MIN
            } else {
                (pause * 2).min(PAUSE_MAX)
            };
            if !self.rest(pause) {
                return Ok(());
            }
        }
    }

    /// False when it is time to end.
    fn rest(&self, pause: Duration) -> bool {
        let mut rested = Duration::ZERO;
        while rested < pause && !self.cancel.is_cancelled() {
            thread::sleep(REST);
            rested += REST;
        }
        !self.cancel.is_cancelled()
    }

    /// Publishes packets until cancelled, or until the interface gives no more.
    fn capture(&mut self, tap: &mut dyn Wire) -> Result<(), CaptureError> {
        self.can_see(tap)?;
        loop {
            if self.cancel.is_cancelled() {
                self.count_drops(tap, None);
                return self.publish(None);
            }
            let reading = read_clock(&self.publisher, &self.wall);
            self.live.read_clock(reading);
            let room = PACKET_ROWS_MAX - self.live.len().min(PACKET_ROWS_MAX - 1);
            let mut failed = Ok(());
            let read = tap.read(room, &mut |raw| {
                let mut at = self.live.time_of(&raw);
                if !self.live.fits(at) {
                    let published = self.publish(None);
                    failed = std::mem::replace(&mut failed, Ok(())).and(published);
                    // A new clock may have begun with that.
                    at = self.live.time_of(&raw);
                }
                self.live.push(at, &raw);
                if let Some(ring) = &mut self.ring {
                    ring.push(self.live.number(), at, &raw);
                }
            });
            failed?;
            let now = reading.stamp.now();
            match read {
                Ok(read) => {
                    self.count_drops(tap, Some(now));
                    self.publish_if_due(now, read)?;
                    if read == 0 {
                        thread::sleep(REST);
                    }
                }
                Err(error) => {
                    self.publish(None)?;
                    return Err(error);
                }
            }
        }
    }

    fn publish_if_due(&mut self, now: Time, read: usize) -> Result<(), CaptureError> {
        let is_full = self.live.is_full();
        let is_old = self
            .live
            .begun_at()
            .is_some_and(|begun| now.since(begun) >= BATCH_WAIT);
        let is_time = self
            .published_at
            .is_none_or(|published| now.since(published) >= BATCH_EVERY || now < published);
        if !(is_full || is_old || is_time) {
            return Ok(());
        }
        // Where nothing more is waiting, everything up to a little while ago is here.
        self.publish((read == 0).then(|| now - HANDED_OVER))
    }

    /// Publishes what there is. `complete` is up to when packets are known to be here, beside those that are.
    fn publish(&mut self, complete: Option<Time>) -> Result<(), CaptureError> {
        let now = self.publisher.now();
        self.published_at = Some(now);
        // Of the next batch: a broker tells with each connection.
        let limits = BatchLimits::within(self.publisher.payload_bytes_max());
        if self.is_overrun() {
            self.drop_batch(now);
            return Ok(());
        }
        self.tell_dropped()?;
        let finished = self.live.finish(now);
        self.live.set_limits(limits);
        // One that is behind what was said before moves nothing.
        let through = self.live.latest().max(complete).unwrap_or(self.opened_at);
        let next = self.publisher.begin(through);
        let guard = self.complete.replace(next);
        let (before, packets) = (self.live.epoch(), finished.packets());
        let mut epoch = before;
        let build = |stamp: &watchfold_kit::Stamp| {
            epoch = stamp.epoch();
            Body::Batch(Box::new(finished.under(stamp, before)))
        };
        match guard {
            Some(guard) => guard.submit(build)?,
            None => self.publisher.submit_with(build)?,
        }
        self.live.published(epoch, packets);
        if let Some(ring) = &mut self.ring {
            let stats = self.publisher.stats();
            let incarnation = stats.incarnation - stats.steps + epoch;
            // Packets that a step of the clock gave other numbers are not kept under their old ones.
            ring.commit((epoch == before).then_some(incarnation));
        }
        self.show();
        Ok(())
    }

    /// Whether the log took nothing for so long that what is here cannot wait for it.
    fn is_overrun(&mut self) -> bool {
        let is_full = || self.publisher.stats().queued_bytes > BACKLOG_BYTES_MAX;
        let mut waited = Duration::ZERO;
        while is_full() {
            if self.dropping || waited >= BACKLOG_WAIT || self.cancel.is_cancelled() {
                return true;
            }
            thread::sleep(REST);
            waited += REST;
        }
        self.dropping = false;
        false
    }

    /// There is room again: what was dropped meanwhile is a gap among the packets, before the batch that counts it.
    fn tell_dropped(&mut self) -> Result<(), CaptureError> {
        let Some(dropped) = self.dropped.take() else {
            return Ok(());
        };
        let gap = Gap {
            from: dropped.from,
            to: dropped.to,
            records: dropped.batches,
            reason: "packets were dropped because the log took none".to_owned(),
        };
        self.tell_gap(gap, dropped.epoch)
    }

    /// Nothing was seen for a while, by a clock that may have been set since: then a new incarnation says so.
    fn tell_gap(&self, gap: Gap, epoch: u64) -> Result<(), CaptureError> {
        if epoch == self.publisher.stats().steps {
            self.publisher.submit_in(Stream::Packets, Body::Gap(gap))?;
        }
        Ok(())
    }

    /// The next batch that is published says how many were dropped.
    fn drop_batch(&mut self, now: Time) {
        let epoch = self.live.epoch();
        let finished = self.live.finish(now);
        self.live.forget_repeats();
        self.live.counts.dropped_here += finished.packets();
        if finished.packets() > 0 {
            let begun = Dropped {
                from: finished.begins_at(),
                to: now,
                epoch,
                batches: 0,
            };
            let dropped = self.dropped.get_or_insert(begun);
            // What the kernel still has may be older than now.
            dropped.to = self.live.latest().unwrap_or(now);
            dropped.batches += 1;
        }
        if let Some(ring) = &mut self.ring {
            ring.commit(None);
        }
        self.dropping = true;
        if self
            .warned_at
            .is_none_or(|warned| now.since(warned) >= WARN_EVERY)
        {
            self.warned_at = Some(now);
            tracing::warn!(
                interface = self.config.interface,
                dropped = self.live.counts.dropped_here,
                "packets are dropped because the log takes none"
            );
        }
        self.show();
    }

    fn show(&self) {
        self.publisher.report(&self.progress);
        if self.dropping {
            let dropped = self.live.counts.dropped_here;
            self.progress.fail(format!(
                "{dropped} packets were dropped because the log takes none; see the log's own error"
            ));
        } else if let Some(trouble) = self.ring.as_ref().and_then(RingWriter::trouble) {
            self.progress.fail(trouble);
        }
    }

    fn count_drops(&mut self, tap: &mut dyn Wire, now: Option<Time>) {
        let counted = self.drops_counted_at;
        if let (Some(now), Some(counted)) = (now, counted)
            && now.since(counted).0.abs() < DROPS_EVERY.0
        {
            return;
        }
        self.drops_counted_at = now;
        let drops = tap.drops();
        let by_kernel = self.drops_before.by_kernel + drops.by_kernel;
        let counts = &mut self.live.counts;
        if by_kernel > counts.dropped_by_kernel {
            tracing::warn!(
                interface = self.config.interface,
                dropped = by_kernel - counts.dropped_by_kernel,
                "the kernel dropped packets because they were not read in time; a larger buffer_mib bridges bursts"
            );
            self.progress
                .note(format!("the kernel dropped {by_kernel} packets so far"));
        }
        counts.dropped_by_kernel = by_kernel;
        counts.dropped_by_interface = self.drops_before.by_interface + drops.by_interface;
    }

    /// The interface is open: a fault is over, and what passed meanwhile is a gap among the packets.
    fn can_see(&mut self, tap: &dyn Wire) -> Result<(), CaptureError> {
        let source = CaptureSource {
            name: self.config.interface.clone(),
            link_type: tap.link_type(),
            snap_length: self.config.snap_length,
        };
        if let Some(ring) = &mut self.ring {
            ring.set_source(&source);
        }
        self.live.set_source(source);
        let counts = &self.live.counts;
        self.drops_before = Drops {
            by_kernel: counts.dropped_by_kernel,
            by_interface: counts.dropped_by_interface,
        };
        self.drops_counted_at = None;
        tracing::info!(
            interface = self.config.interface,
            collector = self.config.collector(),
            "capturing"
        );
        if let Some(reason) = self.fault.take() {
            self.progress.ok();
            tell_fault(&self.publisher, reason.clone(), false)?;
            if let Some((from, epoch)) = self.blind_since.take() {
                let to = self.publisher.now();
                let gap = Gap {
                    from: from.min(to),
                    to,
                    records: 0,
                    reason,
                };
                self.tell_gap(gap, epoch)?;
            }
        }
        self.complete = Some(self.publisher.start());
        self.opened_at = self.publisher.now();
        Ok(())
    }

    fn cannot_see(&mut self, error: &CaptureError) -> Result<(), CaptureError> {
        let reason = error.to_string();
        self.progress.fail(reason.clone());
        if let Some(complete) = self.complete.take() {
            let stats = self.publisher.stats();
            self.blind_since = Some((self.publisher.now(), stats.steps));
            drop(complete);
        }
        if self.fault.as_ref() == Some(&reason) {
            return Ok(());
        }
        tracing::error!(
            interface = self.config.interface,
            error = reason,
            "packets cannot be captured"
        );
        self.fault = Some(reason.clone());
        tell_fault(&self.publisher, reason, true)
    }
}

/// Of the collector itself, which has no other subject.
fn tell_fault(publisher: &Publisher, reason: String, active: bool) -> Result<(), CaptureError> {
    let told = publisher.submit_with(|stamp| {
        Body::Fault(Fault {
            subject: String::new(),
            at: stamp.now(),
            reason,
            active,
        })
    });
    told.map_err(|error: KitError| error.into())
}

fn read_clock(publisher: &Publisher, wall: &SystemClock) -> Reading {
    Reading {
        stamp: publisher.stamp(),
        wall: wall.wall(),
    }
}

#[cfg(test)]
mod tests;
