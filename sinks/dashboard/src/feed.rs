//! Reads the two streams into the projection, tells the viewers, and saves the snapshot.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use watchfold_kit::{Progress, ProgressSnapshot, Publisher};
use watchfold_log::{Batch, LogError, LogReader, MessageLog, Position, Record, Start, agrees};
use watchfold_schemas::subjects::{of_observation, site_filter};
use watchfold_schemas::{Span, Stream, decode_event, decode_observation};

use crate::freshness::Freshness;
use crate::live::Live;
use crate::projection::shapes::Position as ProjectionPosition;
use crate::projection::{Monitoring, Projection};
use crate::snapshot::{self, Snapshot};
use crate::stages::stage_of;

/// Records folded at once; the projection is locked meanwhile, for a few milliseconds at most.
const BATCH_MAX: usize = 1_024;
/// Viewers are told at once, and then not again for this long: it bounds the messages to 125 a second …
const COALESCE: Duration = Duration::from_millis(8);
/// … for this many viewers; each further as many wait as long again, so that a thousand do not take all cores.
const COALESCE_VIEWERS: u32 = 250;
/// Viewers are told of a burst of alerts this often: each telling holds as much as one delta may.
const BURST_COALESCE: Duration = Duration::from_millis(500);
/// How often viewers are told about stages. With it every viewer hears of us more often than every 5 s.
const STAGES_EVERY: Duration = Duration::from_secs(2);
/// How often is looked whether packets are captured.
const PACKETS_EVERY: Duration = Duration::from_secs(5);
/// A capture appends at least once a second, also on a quiet network. Without packets for this long nothing is captured.
const PACKETS_WITHIN: Span = Span::from_seconds(60);
/// The stage that judges packets, where it runs in this process or was seen.
const JUDGE: &str = "chain:packets";
/// How often it is asked whether all that is in the log is read.
const HEAD_EVERY: Duration = Duration::from_secs(2);
/// How often those who wait are told how far catching up is.
const CATCHING_UP_EVERY: Duration = Duration::from_secs(1);
/// How often viewers get a beat, which says how old what they see is.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// What is folded again after a crash: at most this much of the log, far less than a second of work.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(300);
/// A log that fails is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub struct Feed {
    pub log: Arc<dyn MessageLog>,
    pub site: String,
    pub live: Arc<Live>,
    pub freshness: Arc<Freshness>,
    /// Has the clock that the age of records is told by; `None` for a recording.
    pub operator: Option<Arc<Publisher>>,
    pub snapshot_path: PathBuf,
    pub stages: Arc<dyn Fn() -> Vec<ProgressSnapshot> + Send + Sync>,
    pub progress: Arc<Progress>,
    pub counters: Arc<FeedCounters>,
}

#[derive(Debug, Default)]
pub struct FeedCounters {
    /// Records that retention or damage took before they were read.
    pub lost: AtomicU64,
    /// Records that could not be decoded.
    pub undecodable: AtomicU64,
}

/// Where one stream is read.
struct Source {
    stream: Stream,
    reader: Box<dyn LogReader>,
    position: Position,
    head: u64,
}

impl Feed {
    /// Runs until cancelled. Viewers hear how it is whether or not the log answers.
    pub async fn run(self, cancel: CancellationToken) {
        tokio::select! {
            () = self.read(&cancel) => {}
            () = self.tell() => {}
            () = self.freshness.follow() => {}
        }
    }

    /// Tells viewers how the stages are and how old the data is, or how far catching up is. It waits for no log.
    async fn tell(&self) {
        let (mut stages, mut beat) = (every(STAGES_EVERY), every(BEAT_EVERY));
        loop {
            tokio::select! {
                _ = stages.tick() => self.live.tell_stages((self.stages)().into_iter().map(stage_of).collect()),
                _ = beat.tick() => match self.live.catching_up() {
                    Some(_) => self.live.tell_catching_up(),
                    None => self.live.beat(),
                },
            }
        }
    }

    /// A log that fails is told in the progress and tried again.
    async fn read(&self, cancel: &CancellationToken) {
        while !cancel.is_cancelled() {
            match self.follow(cancel).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%error, "the page does not follow the log; trying again");
                    self.progress.fail(error.to_string());
                }
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(RETRY_AFTER) => {}
            }
        }
    }

    async fn follow(&self, cancel: &CancellationToken) -> Result<(), LogError> {
        let (mut events, mut observations) = self.open().await?;
        let mut told = Instant::now();
        while !self.catch_up(&mut events, &mut observations).await? {
            if cancel.is_cancelled() {
                return Ok(());
            }
            if told.elapsed() >= CATCHING_UP_EVERY {
                self.live.tell_catching_up();
                told = Instant::now();
            }
        }
        self.look_at_packets().await?;
        self.live.begin();
        self.progress.ok();
        let outcome = self.follow_live(&mut events, &mut observations, cancel).await;
        if self.live.read(Projection::position).observations > 0 {
            self.save(self.snapshot(&events, &observations)).await;
        }
        outcome
    }

    async fn follow_live(
        &self,
        events: &mut Source,
        observations: &mut Source,
        cancel: &CancellationToken,
    ) -> Result<(), LogError> {
        let mut look = every(HEAD_EVERY);
        let mut packets = every(PACKETS_EVERY);
        let mut saving = tokio::time::interval_at(Instant::now() + SNAPSHOT_EVERY, SNAPSHOT_EVERY);
        saving.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due: Option<Instant> = None;
        let mut told = Instant::now();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.live.flush();
                    told = Instant::now();
                    due = None;
                }
                batch = events.reader.next(BATCH_MAX) => self.take(events, batch?),
                batch = observations.reader.next(BATCH_MAX) => self.take(observations, batch?),
                _ = look.tick() => self.at_head(events, observations).await?,
                _ = packets.tick() => self.look_at_packets().await?,
                _ = saving.tick() => self.save(self.snapshot(events, observations)).await,
            }
            if due.is_none() && self.live.read(Projection::has_changes) {
                let viewers = u32::try_from(self.live.viewers()).unwrap_or(u32::MAX);
                let pause = COALESCE * (1 + viewers / COALESCE_VIEWERS);
                let is_burst = self.live.read(Projection::has_burst);
                due = Some(
                    told + if is_burst {
                        pause.max(BURST_COALESCE)
                    } else {
                        pause
                    },
                );
            }
        }
    }

    /// Folds what is there; gives whether nothing more is.
    async fn catch_up(&self, events: &mut Source, observations: &mut Source) -> Result<bool, LogError> {
        let mut done = true;
        for source in [events, observations] {
            let batch = source.reader.try_next(BATCH_MAX).await?;
            done &= batch.records.is_empty() && batch.lost.is_none();
            self.take(source, batch);
        }
        self.live.fold(Projection::forget_changes);
        tokio::task::yield_now().await;
        Ok(done)
    }

    fn take(&self, source: &mut Source, batch: Batch) {
        if let Some(lost) = batch.lost {
            self.counters
                .lost
                .fetch_add(lost.to.saturating_sub(lost.from) + 1, Ordering::Relaxed);
            tracing::warn!(stream = %source.stream, from = lost.from, to = lost.to, "records were gone before the page read them");
        }
        source.head = batch.last_sequence;
        let undecodable = self.live.fold(|projection| {
            batch
                .records
                .iter()
                .filter(|record| !fold(projection, source.stream, record))
                .count()
        });
        if undecodable > 0 {
            self.counters
                .undecodable
                .fetch_add(undecodable as u64, Ordering::Relaxed);
            tracing::warn!(stream = %source.stream, undecodable, "records that this version cannot read are not shown");
        }
        if let Some(last) = batch.records.last() {
            self.note(last, self.live.catching_up().is_none());
            source.position.sequence = last.sequence;
            source.position.id = last.id.0.clone();
        }
        let position = self.live.read(Projection::position);
        self.progress.advance(
            position.events + position.observations,
            self.progress_head(position, source),
        );
    }

    fn note(&self, record: &Record, is_live: bool) {
        if let Some(operator) = &self.operator {
            self.freshness.note(record.stored_at, operator.now(), is_live);
        }
    }

    fn progress_head(&self, position: ProjectionPosition, source: &Source) -> u64 {
        let behind = source.head.saturating_sub(source.position.sequence);
        position.events + position.observations + behind
    }

    /// Sees whether packets are captured and judged. The log's own times are compared with each other, so that a
    /// recording that is shown says what it said then.
    async fn look_at_packets(&self) -> Result<(), LogError> {
        let batches = of_observation(Stream::Packets, &self.site, "batch", "*");
        let newest = self.log.last(Stream::Packets, &batches).await?;
        let packets_at = newest.map(|record| record.stored_at);
        let log_at = self.log.info(Stream::Observations).await?.last_stored_at;
        let captured = packets_at
            .is_some_and(|packets_at| log_at.is_none_or(|log_at| log_at.since(packets_at) <= PACKETS_WITHIN));
        let stages = (self.stages)();
        let mut judges = stages.iter().filter(|stage| stage.name == JUDGE);
        let monitored = captured && judges.all(|stage| stage_of(stage.clone()).ok);
        let monitoring = Monitoring {
            monitored,
            packets_at,
        };
        self.live.fold(|projection| projection.set_monitoring(monitoring));
        Ok(())
    }

    /// A stream that brings nothing for us is no lag: asks for what is there without waiting.
    async fn at_head(&self, events: &mut Source, observations: &mut Source) -> Result<(), LogError> {
        for source in [events, observations] {
            let batch = source.reader.try_next(BATCH_MAX).await?;
            let nothing = batch.records.is_empty();
            self.take(source, batch);
            if nothing {
                let position = self.live.read(Projection::position);
                let position = position.events + position.observations;
                self.progress.advance(position, position);
            }
        }
        Ok(())
    }

    /// Readers at the snapshot's places where those agree with the log, else at the first record kept.
    async fn open(&self) -> Result<(Source, Source), LogError> {
        let path = self.snapshot_path.clone();
        let stored = tokio::task::spawn_blocking(move || snapshot::load(&path))
            .await
            .unwrap_or_default();
        let kept = match stored {
            Some(stored) if stored.site != self.site => None,
            Some(stored) => {
                let agree = agrees(&*self.log, Stream::Events, &stored.events).await?
                    && agrees(&*self.log, Stream::Observations, &stored.observations).await?;
                if !agree {
                    snapshot::set_aside(
                        &self.snapshot_path,
                        "it belongs to another log, or the log lost its tail",
                    );
                }
                agree.then_some(stored)
            }
            None => None,
        };
        let (events, observations, projection) = match kept {
            Some(kept) => (Some(kept.events), Some(kept.observations), kept.projection),
            None => (None, None, Projection::default()),
        };
        let head = ProjectionPosition {
            events: self.log.info(Stream::Events).await?.last_sequence,
            observations: self.log.info(Stream::Observations).await?.last_sequence,
        };
        self.live.reset(projection, head);
        // A snapshot may hold all that there is, and its newest record may be of last week.
        let filter = site_filter(Stream::Observations, &self.site);
        if let Some(newest) = self.log.last(Stream::Observations, &filter).await? {
            self.note(&newest, false);
        }
        Ok((
            self.source(Stream::Events, events).await?,
            self.source(Stream::Observations, observations).await?,
        ))
    }

    async fn source(&self, stream: Stream, kept: Option<Position>) -> Result<Source, LogError> {
        let start = match &kept {
            Some(position) => Start::Sequence(position.sequence + 1),
            None => Start::First,
        };
        let reader = self
            .log
            .reader(stream, &site_filter(stream, &self.site), start)
            .await?;
        let position = match kept {
            Some(position) => position,
            None => Position {
                log_id: self.log.info(stream).await?.log_id,
                sequence: 0,
                id: String::new(),
            },
        };
        Ok(Source {
            stream,
            reader,
            position,
            head: 0,
        })
    }

    fn snapshot(&self, events: &Source, observations: &Source) -> Snapshot {
        Snapshot {
            site: self.site.clone(),
            events: events.position.clone(),
            observations: observations.position.clone(),
            projection: self.live.read(Projection::clone),
        }
    }

    async fn save(&self, snapshot: Snapshot) {
        let path = self.snapshot_path.clone();
        let saved = tokio::task::spawn_blocking(move || match snapshot::encode(&snapshot) {
            Ok(bytes) => snapshot::save(&path, &bytes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        });
        match saved.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(
                error,
                "the page's snapshot was not saved; the next start takes longer"
            ),
            Err(error) => {
                tracing::warn!(%error, "the page's snapshot was not saved; the next start takes longer")
            }
        }
    }
}

/// Gives whether the record could be decoded.
fn fold(projection: &mut Projection, stream: Stream, record: &Record) -> bool {
    match stream {
        Stream::Events => match decode_event(&record.payload) {
            Ok(event) => projection.apply_event(record.sequence, &event),
            Err(_) => {
                projection.skip_event(record.sequence);
                return false;
            }
        },
        _ => match decode_observation(&record.payload) {
            Ok(observation) => projection.apply_observation(record.sequence, &observation),
            Err(_) => {
                projection.skip_observation(record.sequence);
                return false;
            }
        },
    }
    true
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
