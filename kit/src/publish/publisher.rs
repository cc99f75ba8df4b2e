//! Stamps, numbers and publishes the observations of one collector.
//!
//! It never blocks a measuring loop on the log: records wait in a bounded queue for the writer task.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_log::{Ack, MessageLog};
use watchfold_schemas::observation::{Gap, OBSERVATION_VERSION};
use watchfold_schemas::subjects::is_token;
use watchfold_schemas::{Body, Observation, Origin, Stream, Time, encode_observation};

use crate::publish::clock::{Clock, Moment, Stamp, SystemClock};
use crate::publish::in_flight::{InFlight, InFlightTable};
use crate::publish::incarnation::{IncarnationFile, Started};
use crate::publish::queue::{AckSender, Pending, QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX, Queue};
use crate::publish::spool::{Spool, SpoolOptions};
use crate::publish::writer::{self, Writer};
use crate::{KitError, Progress};

/// One warning for this many dropped observations, so that an outage of the log does not flood the terminal.
pub(crate) const DROPS_PER_WARNING: u64 = 1_000;

/// Publishes for one collector of one site. Dropping the last handle lets the writer finish what is queued.
pub struct Publisher {
    shared: Arc<Shared>,
    log: Arc<dyn MessageLog>,
    file: IncarnationFile,
    _closing: tokio_util::sync::DropGuard,
    #[cfg(test)]
    writer: tokio::task::JoinHandle<()>,
}

/// What a publisher may be told beside its name.
pub struct PublisherOptions {
    /// For logs that are reached over a network: what the log cannot take waits there.
    pub spool: Option<SpoolOptions>,
    /// The streams that its observations belong to.
    pub streams: &'static [Stream],
    /// Encoded bytes that may wait in memory.
    pub queue_bytes_max: usize,
    pub(crate) queue_records_max: usize,
    pub(crate) clock: Box<dyn Clock>,
}

impl PublisherOptions {
    /// The streams of a collector of packets: batches beside what everybody observes.
    pub(crate) const PACKETS: &'static [Stream] = &[Stream::Packets, Stream::Observations];

    /// For a collector of packets, or of verdicts, which stand among them.
    pub fn packets(spool: Option<SpoolOptions>) -> PublisherOptions {
        PublisherOptions {
            spool,
            streams: PublisherOptions::PACKETS,
            ..PublisherOptions::default()
        }
    }
}

impl Default for PublisherOptions {
    fn default() -> PublisherOptions {
        PublisherOptions {
            spool: None,
            streams: &[Stream::Observations],
            queue_bytes_max: QUEUE_BYTES_MAX,
            queue_records_max: QUEUE_RECORDS_MAX,
            clock: Box::new(SystemClock::new()),
        }
    }
}

/// Counters since the publisher was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublisherStats {
    pub incarnation: u64,
    /// Acknowledged by the log.
    pub published: u64,
    /// Waiting for the log, in memory or in the spool.
    pub queued: u64,
    /// Encoded bytes that wait in memory to be numbered; at most [`PublisherOptions::queue_bytes_max`].
    pub queued_bytes: u64,
    /// Of these, what waits in the spool.
    pub spooled: u64,
    /// Bytes of the spool on disk, forwarded records that it still keeps included.
    pub spooled_bytes: u64,
    /// Taken by the log from the spool; `published` counts them too.
    pub forwarded: u64,
    /// Lost to a full queue, to a full or damaged spool, or refused by the log for good.
    pub dropped: u64,
    /// Of these, what the spool lost.
    pub spool_lost: u64,
    /// Appends that failed and were tried again.
    pub retries: u64,
    /// Steps of the wall clock.
    pub steps: u64,
}

/// What the handles and the writer share.
pub(crate) struct Shared {
    pub site: String,
    pub collector: String,
    clock: Box<dyn Clock>,
    state: Mutex<State>,
    /// Rung when there is something to write.
    pub bell: Notify,
    /// How many queued observations were settled: written, refused or dropped.
    settled: watch::Sender<u64>,
}

struct State {
    stamp: Stamp,
    incarnation: u64,
    through: Time,
    streams: &'static [Stream],
    in_flight: InFlightTable,
    queue: Queue,
    queued: u64,
    /// When an observation was last published that is no batch: packets do not show who looks at observations alone
    /// that the collector lives.
    observed_at: Instant,
    closed: bool,
    /// Why the log does not take records, while it does not.
    trouble: Option<String>,
    /// When the oldest record of the spool could not be sent, while there is a spool.
    spooling_since: Option<Time>,
    stats: PublisherStats,
}

impl Publisher {
    /// Opens a new incarnation of `collector`, whose number is kept in `state_dir`.
    pub async fn open(
        log: Arc<dyn MessageLog>,
        site: &str,
        collector: &str,
        state_dir: &Path,
    ) -> Result<Arc<Publisher>, KitError> {
        Publisher::open_with(log, site, collector, state_dir, PublisherOptions::default()).await
    }

    /// The same, with a spool on disk for what the log cannot take: for logs that are reached over a network. What an
    /// earlier process left there is forwarded first. The log need not be reachable.
    pub async fn open_with_spool(
        log: Arc<dyn MessageLog>,
        site: &str,
        collector: &str,
        state_dir: &Path,
        spool: SpoolOptions,
    ) -> Result<Arc<Publisher>, KitError> {
        let options = PublisherOptions {
            spool: Some(spool),
            ..PublisherOptions::default()
        };
        Publisher::open_with(log, site, collector, state_dir, options).await
    }

    /// The same under another clock; for tests and simulations.
    pub async fn open_with_clock(
        log: Arc<dyn MessageLog>,
        site: &str,
        collector: &str,
        state_dir: &Path,
        clock: Box<dyn Clock>,
    ) -> Result<Arc<Publisher>, KitError> {
        let options = PublisherOptions {
            clock,
            ..PublisherOptions::default()
        };
        Publisher::open_with(log, site, collector, state_dir, options).await
    }

    /// The same with everything that can be told.
    pub async fn open_with(
        log: Arc<dyn MessageLog>,
        site: &str,
        collector: &str,
        state_dir: &Path,
        options: PublisherOptions,
    ) -> Result<Arc<Publisher>, KitError> {
        let PublisherOptions {
            spool,
            streams,
            clock,
            ..
        } = options;
        let queue = Queue::new(options.queue_records_max, options.queue_bytes_max);
        for (what, name) in [("the site", site), ("the collector", collector)] {
            if !is_token(name) {
                return Err(KitError::InvalidName {
                    what,
                    name: name.to_owned(),
                });
            }
        }
        let file = IncarnationFile::new(state_dir, collector);
        let stamp = Stamp::start(&*clock);
        let mut spool = match spool {
            Some(options) => Some(Spool::start(&options, collector, streams).await?),
            None => None,
        };
        let spooled = spool
            .as_ref()
            .map(|spool| spool.newest().map_or(0, |newest| newest.origin.incarnation));
        let now = stamp.now();
        let Started {
            incarnation,
            is_saved,
        } = file.start(&*log, site, collector, now, spooled, streams).await?;
        let shared = Arc::new(Shared {
            site: site.to_owned(),
            collector: collector.to_owned(),
            clock,
            state: Mutex::new(State {
                stamp,
                incarnation,
                through: stamp.now(),
                streams,
                in_flight: InFlightTable::default(),
                queue,
                queued: 0,
                observed_at: Instant::now(),
                closed: false,
                trouble: None,
                spooling_since: None,
                stats: PublisherStats::default(),
            }),
            bell: Notify::new(),
            settled: watch::Sender::new(0),
        });
        let closing = CancellationToken::new();
        if let Some(spool) = &mut spool {
            let (records, bytes) = (spool.records(), spool.bytes().await);
            shared.spooled(records, bytes, spool.mark().map(|mark| mark.through));
            if spool.take_untold() {
                shared.tell_of_lost_spool()?;
            }
        }
        let on_disk = is_saved.then_some(incarnation);
        let writer = Writer::new(log.clone(), Arc::clone(&shared), file.clone(), on_disk, spool);
        let writing = tokio::spawn(writer::run(writer, closing.clone()));
        #[cfg(not(test))]
        drop(writing);
        Ok(Arc::new(Publisher {
            shared,
            log,
            file,
            _closing: closing.drop_guard(),
            #[cfg(test)]
            writer: writing,
        }))
    }

    /// The collector's clock. It never falls within an incarnation.
    pub fn now(&self) -> Time {
        self.shared.read_clock().stamp.now()
    }

    /// Now, as an instant that survives a step of the wall clock.
    pub fn moment(&self) -> Moment {
        self.shared.read_clock().stamp.moment()
    }

    /// Begins a new incarnation, for a collector that counts something anew within one process.
    pub fn renew(&self) {
        self.renew_after(0);
    }

    /// The same behind this incarnation, which another process had under this name.
    pub fn renew_after(&self, other: u64) {
        let mut state = self.shared.read_clock();
        state.incarnation = state.incarnation.max(other) + 1;
    }

    /// A reading of the clock. A record that is made later may have another epoch: [`Publisher::submit_with`] tells which.
    pub fn stamp(&self) -> Stamp {
        self.shared.read_clock().stamp
    }

    /// Begins a measurement now. Preferred over [`Publisher::begin`]: no record can slip in between.
    pub fn start(&self) -> InFlight {
        Shared::begin(&self.shared, None)
    }

    /// Begins a measurement that started at `at`, a reading of [`Publisher::now`]. While the guard lives, `through`
    /// of records stays at or before `at`.
    pub fn begin(&self, at: Time) -> InFlight {
        Shared::begin(&self.shared, Some(at))
    }

    /// Publishes and waits until the log has synced the record; while it is spooled, that is when it was forwarded.
    pub async fn publish(&self, body: Body) -> Result<Ack, KitError> {
        self.publish_with(|_| body).await
    }

    /// Like [`Publisher::publish`] for a body that carries times: `build` gets the stamp of the record.
    pub async fn publish_with(&self, build: impl FnOnce(&Stamp) -> Body) -> Result<Ack, KitError> {
        let (sender, receiver) = oneshot::channel();
        self.shared.enqueue(None, None, build, Some(sender))?;
        receiver.await.unwrap_or(Err(KitError::Closed))
    }

    /// Queues for publishing and never waits. What becomes of the record is seen in [`Publisher::stats`].
    pub fn submit(&self, body: Body) -> Result<(), KitError> {
        self.shared.enqueue(None, None, |_| body, None)
    }

    /// [`Publisher::submit`] for an observation that is to stand in another stream than its kind belongs to: a gap or a
    /// fault among packets.
    pub fn submit_in(&self, stream: Stream, body: Body) -> Result<(), KitError> {
        self.shared.enqueue(None, Some(stream), |_| body, None)
    }

    /// Like [`Publisher::submit`] for a body that carries times.
    pub fn submit_with(&self, build: impl FnOnce(&Stamp) -> Body) -> Result<(), KitError> {
        self.shared.enqueue(None, None, build, None)
    }

    /// Waits until everything queued so far is in the log, in the spool or lost. Bound it: without a spool, a log that
    /// takes nothing keeps it waiting.
    pub async fn flush(&self) {
        let goal = self.shared.state().queued;
        let mut settled = self.shared.settled.subscribe();
        // The sender lives in `self`, so the wait ends only by reaching the goal.
        let _ = settled.wait_for(|settled| *settled >= goal).await;
    }

    /// The collector is over, and everything of it is settled: [`published_from`] names it no more, until it begins a new incarnation.
    ///
    /// [`published_from`]: crate::published_from
    pub fn retire(&self) -> Result<(), KitError> {
        self.file.retire()
    }

    pub fn stats(&self) -> PublisherStats {
        let state = self.shared.state();
        PublisherStats {
            incarnation: state.incarnation,
            queued_bytes: state.queue.bytes() as u64,
            queued: state.queued.saturating_sub(*self.shared.settled.borrow()) + state.stats.spooled,
            steps: state.stamp.epoch,
            ..state.stats
        }
    }

    /// The longest payload that the log takes, as far as is known: an encoded observation, that is.
    pub fn payload_bytes_max(&self) -> usize {
        self.log.payload_bytes_max()
    }

    /// Why the log does not have all records yet, and how many wait for it.
    pub fn trouble(&self) -> Option<String> {
        let state = self.shared.state();
        let Some(since) = state.spooling_since else {
            return state.trouble.clone();
        };
        let waiting = format!("{} records since {since} wait in the spool", state.stats.spooled);
        Some(match &state.trouble {
            Some(trouble) => format!("{waiting}: {trouble}"),
            None => format!("{waiting} and are being forwarded"),
        })
    }

    /// Shows how far the log has what was published: position, head, and what is wrong.
    pub fn report(&self, progress: &Progress) {
        let stats = self.stats();
        progress.advance(stats.published, stats.published + stats.queued);
        match self.trouble() {
            Some(trouble) => progress.fail(trouble),
            None => progress.ok(),
        }
    }

    /// Publishes a quiet record whenever no observation was published for `every`, so that `through` keeps advancing.
    /// Batches of packets do not count: who looks at observations sees none of them.
    pub fn spawn_quiet(self: &Arc<Publisher>, every: Duration, cancel: CancellationToken) {
        let publisher = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let Some(alive) = publisher.upgrade() else { return };
                let due = alive.shared.state().observed_at + every;
                if due <= Instant::now() {
                    if let Err(error) = alive.submit(Body::Quiet) {
                        tracing::debug!(%error, "no more quiet records");
                        return;
                    }
                    continue;
                }
                drop(alive);
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep_until(due) => {}
                }
            }
        });
    }
}

impl Shared {
    /// A panic while the lock was held leaves consistent values behind: every change is made after what can fail.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state under a fresh reading of the clock. A step of the wall clock begins a new incarnation here.
    fn read_clock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let next = state.stamp.next(&*self.clock);
        if next.epoch != state.stamp.epoch {
            state.incarnation += 1;
            state.through = state
                .in_flight
                .earliest(&next)
                .map_or(next.now(), |begun| begun.min(next.now()));
            tracing::warn!(
                collector = self.collector,
                from = %state.stamp.now(),
                to = %next.now(),
                incarnation = state.incarnation,
                "the wall clock was set; a new incarnation begins"
            );
        }
        state.stamp = next;
        state
    }

    fn begin(this: &Arc<Shared>, at: Option<Time>) -> InFlight {
        let mut state = this.read_clock();
        let stamp = state.stamp;
        let moment = at.map_or(stamp.moment(), |at| stamp.moment_at(at));
        let key = state.in_flight.insert(moment, &stamp);
        InFlight {
            shared: Arc::clone(this),
            moment,
            key: Some(key),
        }
    }

    pub(crate) fn release(&self, ended: &mut InFlight) {
        if let Some(key) = ended.key.take() {
            self.state().in_flight.remove(key);
        }
    }

    /// Stamps and queues one observation, ending the measurement that it reports.
    pub(crate) fn enqueue(
        &self,
        ended: Option<&mut InFlight>,
        stream: Option<Stream>,
        build: impl FnOnce(&Stamp) -> Body,
        ack: Option<AckSender>,
    ) -> Result<(), KitError> {
        let mut guard = self.read_clock();
        let state = &mut *guard;
        if state.closed {
            return Err(KitError::Closed);
        }
        let observed_at = state.stamp.now();
        if let Some(key) = ended.and_then(|ended| ended.key.take()) {
            state.in_flight.remove(key);
        }
        let begun = state.in_flight.earliest(&state.stamp);
        let through = begun
            .map_or(observed_at, |begun| begun.min(observed_at))
            .max(state.through);
        // The number is given when the record is sent; the largest one makes the size an upper bound.
        let origin = self.origin(state.incarnation, u64::MAX);
        let body = build(&state.stamp);
        let observation = Observation {
            v: OBSERVATION_VERSION,
            origin,
            observed_at,
            through,
            body,
        };
        let bytes = encode_observation(&observation)?.len();
        let stream = stream.unwrap_or(observation.body.stream());
        state.through = through;
        if stream == Stream::Observations {
            state.observed_at = Instant::now();
        }
        state.queued += 1;
        let dropped = state.queue.push(Pending {
            ticket: state.queued,
            incarnation: state.incarnation,
            observed_at,
            through,
            stream,
            body: observation.body,
            bytes,
            ack,
        });
        if dropped > 0 && state.stats.dropped.is_multiple_of(DROPS_PER_WARNING) {
            tracing::warn!(
                collector = self.collector,
                queued = state.queue.len(),
                "observations are being dropped because the log takes none"
            );
        }
        state.stats.dropped += dropped;
        drop(guard);
        self.bell.notify_one();
        Ok(())
    }

    pub(crate) fn origin(&self, incarnation: u64, number: u64) -> Origin {
        Origin {
            site: self.site.clone(),
            collector: self.collector.clone(),
            incarnation,
            number,
        }
    }

    /// The incarnation of the oldest queued observation.
    pub(crate) fn waiting_incarnation(&self) -> Option<u64> {
        self.state().queue.incarnation()
    }

    pub(crate) fn take(&self, incarnation: u64, records: usize, bytes: usize) -> Vec<Pending> {
        self.state().queue.take(incarnation, records, bytes)
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut PublisherStats)) {
        change(&mut self.state().stats);
    }

    pub(crate) fn trouble(&self, trouble: Option<String>) {
        self.state().trouble = trouble;
    }

    /// What the spool holds; `since` is when its oldest record was sent before, or now.
    pub(crate) fn spooled(&self, records: u64, bytes: u64, since: Option<Time>) {
        let mut state = self.state();
        let now = state.stamp.now();
        state.spooling_since = match (records, state.spooling_since) {
            (0, _) => None,
            (_, Some(since)) => Some(since),
            (_, None) => Some(since.unwrap_or(now)),
        };
        (state.stats.spooled, state.stats.spooled_bytes) = (records, bytes);
    }

    /// How much was lost is not known; a new incarnation is a span that nobody measured in any case.
    pub(crate) fn tell_of_lost_spool(&self) -> Result<(), KitError> {
        let streams = self.state().streams;
        streams.iter().try_for_each(|stream| {
            self.enqueue(
                None,
                Some(*stream),
                |stamp| lost_with_the_spool(stamp.now()),
                None,
            )
        })
    }

    /// Everything up to this ticket is in the log, in the spool or lost.
    pub(crate) fn settle(&self, ticket: u64) {
        self.settled
            .send_modify(|settled| *settled = (*settled).max(ticket));
    }

    /// Nothing more is taken; who waits is told.
    pub(crate) fn close(&self) {
        let (left, queued) = {
            let mut state = self.state();
            state.closed = true;
            let left = state.queue.clear();
            state.stats.dropped += left.len() as u64;
            (left, state.queued)
        };
        for ack in left.into_iter().filter_map(|pending| pending.ack) {
            // Whoever awaited it may be gone; then nobody needs to know.
            let _ = ack.send(Err(KitError::Closed));
        }
        self.settle(queued);
    }
}

fn lost_with_the_spool(at: Time) -> Body {
    Body::Gap(Gap {
        from: at,
        to: at,
        records: 0,
        reason: "the collector's spool was damaged and set aside".to_owned(),
    })
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests;
