//! Runs one chain of one site: reads, folds, commits, publishes, takes snapshots.
//!
//! It judges nothing and knows no kind of event. The loop is here; what a step does to the state is in `state`, where
//! a chain starts is in `recover`.

use std::collections::VecDeque;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use watchfold_folds::StateMachine;
use watchfold_kit::Progress;
use watchfold_log::{Ack, Batch, LogError, LogReader, MessageLog, Position, Start, agrees};
use watchfold_schemas::{Chain, Stream, subjects};

use crate::crash::CrashPoint;
use crate::error::RunnerError;
use crate::memory_store::MemoryStore;
use crate::options::{RunnerOptions, SNAPSHOT_RETRY, STOP_WAIT};
use crate::outbox::PUBLISH_EVENTS_MAX;
use crate::recover::{Subject, recover};
use crate::retry::Retry;
use crate::sled_store::SledStore;
use crate::snapshot::{self, SnapshotError};
use crate::state::{ChainState, Input};
use crate::stats::{Counters, StatsHandle};
use crate::store::{StateStore, StoreError};

/// A chain that was recovered and is ready to run.
pub struct ChainRunner {
    log: Arc<dyn MessageLog>,
    stream: Stream,
    state: ChainState,
    progress: Arc<Progress>,
    options: RunnerOptions,
    counters: Arc<Counters>,
    /// Read and not yet folded.
    queue: VecDeque<Input>,
    /// The last sequence read into the queue.
    read: u64,
    head: u64,
    publishing: Option<Publishing>,
    read_retry: Retry,
    publish_retry: Retry,
    /// Progress shows a failure.
    failing: bool,
    /// Progress shows that the chain evaluates nothing.
    lacking: bool,
    /// 1 while the log refuses a message for good, until that message is found.
    publish_events_max: usize,
    snapshotting: Option<Snapshotting>,
    snapshot_not_before: Option<Instant>,
}

/// Events on their way: how many, what came of it, and whether a simulator wants only half of them out.
struct Publishing {
    flight: BoxFuture<'static, Result<Flown, LogError>>,
    events: usize,
    crash: bool,
}

/// What came of a flight.
enum Flown {
    Acked(Vec<Ack>),
    /// A simulator stopped it once other chains had been told.
    Crashed,
}

type Snapshotting = BoxFuture<'static, Result<u64, SnapshotError>>;

impl ChainRunner {
    /// Opens the store in `store_dir`, and finds where the chain goes on: from the store, a snapshot or the first
    /// record. A broken store is set aside here; only one that another process holds is an error.
    pub async fn open(
        log: Arc<dyn MessageLog>,
        store_dir: &Path,
        site: &str,
        chain: Chain,
        fold: Box<dyn StateMachine>,
        progress: Arc<Progress>,
        options: RunnerOptions,
    ) -> Result<ChainRunner, RunnerError> {
        let directory = store_dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || SledStore::open_or_set_aside(&directory)).await;
        let (store, problem, in_memory): (Box<dyn StateStore>, _, _) = match opened {
            Ok(Ok((store, problem))) => (Box::new(store), problem, false),
            Ok(Err(error @ StoreError::Locked { .. })) => return Err(error.into()),
            Ok(Err(error)) => {
                tracing::error!(%error, "the state cannot be kept on disk; it is kept in memory until the next start");
                (Box::new(MemoryStore::new()), None, true)
            }
            Err(_) => return Err(RunnerError::Panicked),
        };
        let runner = ChainRunner::open_in(log, store, site, chain, fold, progress, options).await?;
        if let Some(problem) = problem {
            tracing::warn!(
                site,
                chain = chain.token(),
                problem,
                "set the state aside; it is rebuilt"
            );
            runner.counters.stores_set_aside.add(1);
        }
        if in_memory {
            runner.counters.store_in_memory.set(1);
        }
        Ok(runner)
    }

    /// [`ChainRunner::open`] with a store of the caller's.
    pub async fn open_in(
        log: Arc<dyn MessageLog>,
        mut store: Box<dyn StateStore>,
        site: &str,
        chain: Chain,
        mut fold: Box<dyn StateMachine>,
        progress: Arc<Progress>,
        options: RunnerOptions,
    ) -> Result<ChainRunner, RunnerError> {
        let stream = match chain {
            Chain::Site => Stream::Observations,
            Chain::Packets => Stream::Packets,
        };
        let counters = Arc::new(Counters::default());
        let subject = Subject {
            log: log.as_ref(),
            stream,
            site,
            chain,
        };
        let recovered = recover(&subject, &mut store, fold.as_mut()).await?;
        let head = log.info(stream).await?.last_sequence;
        let state = ChainState::new(site, chain, store, fold, recovered, &options, counters.clone());
        let read = state.position();
        tracing::info!(
            site,
            chain = chain.token(),
            position = read,
            head,
            "the chain goes on"
        );
        Ok(ChainRunner {
            log,
            stream,
            state,
            progress,
            options,
            counters,
            queue: VecDeque::new(),
            read,
            head,
            publishing: None,
            read_retry: Retry::default(),
            publish_retry: Retry::default(),
            failing: false,
            lacking: false,
            publish_events_max: PUBLISH_EVENTS_MAX,
            snapshotting: None,
            snapshot_not_before: None,
        })
    }

    /// Reads the counters while the runner runs.
    pub fn stats(&self) -> StatsHandle {
        StatsHandle(self.counters.clone())
    }

    /// Runs until cancelled, on a thread of its own: the store's calls block, and folding takes the processor.
    /// Dropping the future stops the thread as cancelling does.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), RunnerError> {
        let cancel = cancel.child_token();
        let _stop_with_the_caller = cancel.clone().drop_guard();
        let (done, outcome) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name(format!("chain-{}", self.state.chain().token()))
            .spawn(move || {
                let result = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime.block_on(self.drive(cancel)),
                    Err(error) => Err(RunnerError::Thread(error)),
                };
                // Nobody is left to tell when the caller dropped its future.
                drop(done.send(result));
            })
            .map_err(RunnerError::Thread)?;
        outcome.await.unwrap_or(Err(RunnerError::Panicked))
    }

    /// [`ChainRunner::run`] on the caller's own thread, which it blocks during commits. For simulators.
    pub async fn drive(mut self, cancel: CancellationToken) -> Result<(), RunnerError> {
        let mut reader: Option<Box<dyn LogReader>> = None;
        loop {
            self.fold_queue();
            if cancel.is_cancelled() {
                return self.finish().await;
            }
            if let Some(reader) = reader.as_mut()
                && self.waits_for_company()
            {
                // An error here is met again by the next read below.
                if let Ok(batch) = reader.try_next(self.options.batch_records_max).await
                    && self.enqueue(batch)
                {
                    continue;
                }
            }
            self.commit_if_due()?;
            self.start_publishing();
            self.start_snapshot()?;
            if !self.queue.is_empty() && self.state.may_fold(self.snapshot_wanted()) {
                continue;
            }
            let wake = self.next_deadline();
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                acks = landed(self.publishing.as_mut().map(|publishing| &mut publishing.flight)) => {
                    self.published(acks)?;
                }
                result = landed(self.snapshotting.as_mut()) => {
                    self.snapshot_written(result)?;
                }
                batch = next_batch(
                    &self.log, &mut reader, (self.stream, self.state.site(), self.state.place(), self.read),
                    self.options.batch_records_max,
                ), if self.queue.is_empty() && self.state.has_room() && !self.read_retry.waiting() => match batch {
                    Ok(batch) => {
                        self.read_retry.succeeded();
                        self.tell_recovery();
                        self.enqueue(batch);
                    }
                    Err(error) => {
                        reader = None;
                        self.read_retry.failed();
                        self.read_failed(error)?;
                    }
                },
                () = sleep_until_some(wake) => {}
            }
        }
    }

    /// Folds what was read, until something has to be done first.
    fn fold_queue(&mut self) {
        while self.state.may_fold(self.snapshot_wanted()) {
            let Some(input) = self.queue.pop_front() else {
                // Told now and not at the commit, which may be a second away: whoever waits for the chain need not.
                self.show_progress();
                return;
            };
            self.state.fold(input);
        }
    }

    /// A chain that evaluates nothing of what it reads does not advance, and says what it lacks.
    fn show_progress(&mut self) {
        if self.state.position() > 0
            && let Some(lack) = self.state.lacks()
        {
            if !std::mem::replace(&mut self.lacking, true) {
                tracing::warn!(
                    site = self.state.site(),
                    chain = self.state.chain().token(),
                    "{lack}"
                );
            }
            return self.progress.fail(lack.to_owned());
        }
        if std::mem::take(&mut self.lacking) && !self.failing {
            self.progress.ok();
        }
        self.progress.advance(self.state.position(), self.head);
    }

    /// Whether an event has just been emitted and may wait a moment for others that are already in the log: a backlog
    /// shares its commits.
    fn waits_for_company(&mut self) -> bool {
        self.queue.is_empty()
            && self.state.may_fold(self.snapshot_wanted())
            && self
                .state
                .event_waiting_since()
                .is_some_and(|since| since.elapsed() < self.options.event_commit)
    }

    fn enqueue(&mut self, batch: Batch) -> bool {
        self.head = self.head.max(batch.last_sequence);
        self.counters.head.set(self.head);
        if let Some(lost) = batch.lost {
            self.read = lost.to;
            self.queue.push_back(Input::Lost(lost));
        }
        if let Some(last) = batch.records.last() {
            self.read = last.sequence;
        }
        self.queue.extend(batch.records.into_iter().map(Input::Record));
        !self.queue.is_empty()
    }

    fn commit_if_due(&mut self) -> Result<(), RunnerError> {
        if !self.state.commit_due(self.snapshot_wanted()) {
            return Ok(());
        }
        self.commit()
    }

    fn commit(&mut self) -> Result<(), RunnerError> {
        self.state.commit()?;
        self.show_progress();
        Ok(())
    }

    fn start_publishing(&mut self) {
        if self.publishing.is_some() || self.publish_retry.waiting() {
            return;
        }
        let (told_first, mut messages) = self.state.to_publish(self.publish_events_max);
        if messages.is_empty() {
            return;
        }
        let crash = self.options.crash.reached(CrashPoint::MidPublish);
        if crash {
            messages.truncate(messages.len().div_ceil(2));
        }
        let events = messages.len();
        let (log, counters) = (self.log.clone(), self.counters.clone());
        let hook = self.options.crash.clone();
        let flight = Box::pin(async move {
            // An event in the log says that what it tells another chain is there too: so that comes first, acknowledged.
            if !told_first.is_empty() {
                counters.told.add(told_first.len() as u64);
                log.append(told_first).await?;
            }
            if hook.reached(CrashPoint::AfterTelling) {
                return Ok(Flown::Crashed);
            }
            log.append(messages).await.map(Flown::Acked)
        });
        self.publishing = Some(Publishing {
            flight,
            events,
            crash,
        });
    }

    fn published(&mut self, result: Result<Flown, LogError>) -> Result<(), RunnerError> {
        let Some(Publishing { events, crash, .. }) = self.publishing.take() else {
            return Ok(());
        };
        if crash {
            return Err(RunnerError::Crashed(CrashPoint::MidPublish));
        }
        match result {
            Ok(Flown::Crashed) => Err(RunnerError::Crashed(CrashPoint::AfterTelling)),
            Ok(Flown::Acked(acks)) => {
                if self.options.crash.reached(CrashPoint::AfterPublish) {
                    return Err(RunnerError::Crashed(CrashPoint::AfterPublish));
                }
                let duplicates = acks.iter().filter(|ack| ack.duplicate).count();
                self.counters.published_duplicates.add(duplicates as u64);
                self.counters.published.add(events as u64);
                self.state.acknowledged(events);
                self.publish_retry.succeeded();
                self.tell_recovery();
                self.publish_events_max = PUBLISH_EVENTS_MAX;
                Ok(())
            }
            Err(error @ (LogError::TooLarge { .. } | LogError::InvalidMessage { .. })) => {
                if events == 1 {
                    tracing::error!(%error, "dropped an event that the log will never take");
                    self.counters.events_refused.add(1);
                    self.state.acknowledged(1);
                }
                // One by one until the message is found that the log means.
                self.publish_events_max = 1;
                Ok(())
            }
            Err(error) if is_final(&error) => Err(error.into()),
            Err(error) => {
                self.counters.publish_failures.add(1);
                self.publish_retry.failed();
                tracing::warn!(%error, waiting = self.state.outbox().len(), "failed to publish events; trying again");
                self.failing = true;
                self.progress.fail(format!("failed to publish events: {error}"));
                Ok(())
            }
        }
    }

    fn read_failed(&mut self, error: LogError) -> Result<(), RunnerError> {
        if is_final(&error) {
            // What was folded is kept; the log's own error is the one to tell.
            self.commit()?;
            return Err(error.into());
        }
        tracing::warn!(%error, "failed to read the log; trying again");
        self.failing = true;
        self.progress.fail(format!("failed to read the log: {error}"));
        Ok(())
    }

    /// Clears the shown failure once both reading and publishing work.
    fn tell_recovery(&mut self) {
        if self.failing && self.read_retry.not_before.is_none() && self.publish_retry.not_before.is_none() {
            self.failing = false;
            self.progress.ok();
            self.show_progress();
        }
    }

    /// Whether a snapshot that is due is taken before more is folded. Not while writing them fails; but one that is due
    /// while another is on its way waits for it, so that each is taken exactly where it was due.
    fn snapshot_wanted(&self) -> bool {
        self.snapshot_not_before.is_none_or(|at| Instant::now() >= at)
    }

    fn start_snapshot(&mut self) -> Result<(), RunnerError> {
        if self.snapshotting.is_some() || !self.snapshot_wanted() || self.state.is_uncommitted() {
            return Ok(());
        }
        let Some(due) = self.state.snapshot_due() else {
            return Ok(());
        };
        match self.state.draft() {
            Ok(draft) => {
                let (log, crash) = (self.log.clone(), self.options.crash.clone());
                let flight = Box::pin(async move { snapshot::write(log.as_ref(), draft, &crash).await });
                self.state.snapshot_begun(due);
                self.snapshotting = Some(flight);
                Ok(())
            }
            Err(error) => self.snapshot_failed(&error),
        }
    }

    fn snapshot_written(&mut self, result: Result<u64, SnapshotError>) -> Result<(), RunnerError> {
        self.snapshotting = None;
        self.state.snapshot_ended(result.as_ref().ok().copied());
        match result {
            Ok(_) => {
                self.counters.snapshots.add(1);
                let distance = self.options.snapshot_distance;
                self.snapshot_not_before = (!distance.is_zero()).then(|| Instant::now() + distance);
                Ok(())
            }
            Err(SnapshotError::Crashed) => Err(RunnerError::Crashed(CrashPoint::DuringSnapshot)),
            Err(error) => self.snapshot_failed(&error),
        }
    }

    fn snapshot_failed(&mut self, error: &SnapshotError) -> Result<(), RunnerError> {
        tracing::warn!(%error, "failed to write a snapshot; trying again later");
        self.counters.snapshot_failures.add(1);
        self.snapshot_not_before = Some(Instant::now() + SNAPSHOT_RETRY);
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let publish_retry = self
            .publishing
            .is_none()
            .then_some(self.publish_retry.not_before)
            .flatten();
        [
            self.state.commit_at(),
            publish_retry,
            self.read_retry.not_before,
            self.snapshot_not_before,
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > Instant::now())
        .min()
    }

    /// Commits what is folded and publishes what the log still takes.
    async fn finish(mut self) -> Result<(), RunnerError> {
        self.state.want_checkpoint();
        self.commit()?;
        let publish = async {
            loop {
                self.publish_retry.not_before = None;
                self.start_publishing();
                let failures = self.counters.publish_failures.get();
                let Some(publishing) = self.publishing.as_mut() else {
                    return Ok::<(), RunnerError>(());
                };
                let acks = (&mut publishing.flight).await;
                self.published(acks)?;
                if self.counters.publish_failures.get() > failures {
                    return Ok(());
                }
            }
        };
        match timeout(STOP_WAIT, publish).await {
            Ok(result) => result?,
            Err(_) => tracing::warn!(
                "stopped before all events were published; they are published at the next start"
            ),
        }
        if let Some(snapshotting) = self.snapshotting.as_mut()
            && let Ok(result) = timeout(STOP_WAIT, snapshotting).await
        {
            self.snapshot_written(result)?;
        }
        self.commit()
    }
}

/// Opens the reader where there is none, and reads. Dropping the future loses nothing.
async fn next_batch(
    log: &Arc<dyn MessageLog>,
    reader: &mut Option<Box<dyn LogReader>>,
    (stream, site, place, read): (Stream, &str, &Position, u64),
    records_max: usize,
) -> Result<Batch, LogError> {
    if reader.is_none() {
        // While it did not answer, another log may have taken its place, whose records this state knows nothing of.
        if place.sequence == read && !agrees(log.as_ref(), stream, place).await? {
            return Err(LogError::Stopped(format!(
                "{stream} is another log than the one that was read up to {read}, or lost its end"
            )));
        }
        let filter = subjects::site_filter(stream, site);
        *reader = Some(log.reader(stream, &filter, Start::Sequence(read + 1)).await?);
    }
    match reader.as_mut() {
        Some(reader) => reader.next(records_max).await,
        None => Err(LogError::Closed),
    }
}

/// Nothing but a restart helps.
fn is_final(error: &LogError) -> bool {
    match error {
        LogError::Closed | LogError::Stopped(_) | LogError::Locked { .. } | LogError::Newer { .. } => true,
        LogError::Full { .. }
        | LogError::Io { .. }
        | LogError::TooLarge { .. }
        | LogError::InvalidMessage { .. }
        // A broker comes back, and whoever runs it can put right what it refuses, without a restart here.
        | LogError::Unreachable { .. }
        | LogError::Refused { .. }
        | LogError::Mismatch { .. } => false,
    }
}

/// The outcome of a flight; waits for ever where there is none.
async fn landed<T>(flight: Option<&mut BoxFuture<'static, T>>) -> T {
    match flight {
        Some(flight) => flight.await,
        None => pending().await,
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
