//! The delivery loop: reads requests and receipts, sends what is due, writes receipts, and survives a restart.
//!
//! The order is: the far side accepts, the receipt becomes durable, the request is forgotten. A crash between the first
//! two is the only window in which something can be told twice. The loop never finds words and knows no protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_kit::{Ack, KitError, Progress, Publisher};
use watchfold_log::{LogReader, MessageLog, Position, Start, agrees};
use watchfold_schemas::event::{Notice, NoticeClass, NotificationRequest};
use watchfold_schemas::observation::{Body, DeliveryOutcome, Receipt};
use watchfold_schemas::{EventId, Stream, decode_observation, subjects};

use crate::backoff::backoff;
use crate::error::SinkError;
use crate::ledger::{EDITS_MAX, Ledger, PENDING_MAX, Taken};
use crate::plan::{Job, expired, plan};
use crate::reader::{EventReader, ReaderCounts};
use crate::state::{self, Found, STATE_VERSION, StateFile};
use crate::stats::{Count, SinkStats};

/// Records asked of the log at a time.
const READ_BATCH: usize = 256;

/// The longest sleep of the loop, in milliseconds: expiry, progress and the state file are looked after this often.
const HEARTBEAT_MS: u64 = 1_000;

/// The state file is written at most this often, in milliseconds: it only saves reading the log again.
const SAVE_EVERY_MS: u64 = 1_000;

/// Positions alone are written this often, in milliseconds, so that a quiet sink starts near the end of the log.
const POSITION_EVERY_MS: u64 = 300_000;

/// The longest wait that the far side can ask for, in milliseconds; more is taken for a mistake.
const SERVER_DELAY_MS_MAX: u64 = 3_600_000;

/// Attempts of one edit. An edit is a courtesy; the message that tells the same has been delivered.
const EDIT_ATTEMPTS_MAX: u32 = 5;

/// Requests in one receipt of expiry, so that a receipt stays far below the largest message.
const RECEIPT_REQUESTS_MAX: usize = 256;

/// Acts of delivery whose receipts are not durable. When it is reached nothing more is sent until the log takes them.
const DUE_MAX: usize = 64;

/// How long deliveries under way may still end after a stop, in milliseconds; cutting one off may repeat it later.
const DRAIN_MS: u64 = 700;

/// The first line of a log detail and receipt detail, in characters.
const DETAIL_CHARS_MAX: usize = 500;

/// A stopped lane is told in the health page after this many failures in a row; fewer are a hiccup.
const FAILURES_TOLD: u32 = 3;

/// What a sink is given to run.
#[derive(Clone)]
pub struct SinkContext {
    pub site: String,
    /// The sink's name in receipts and subjects; the collector name of `publisher`.
    pub sink: String,
    pub log: Arc<dyn MessageLog>,
    /// Writes the receipts, and is the clock by which requests expire.
    pub publisher: Arc<Publisher>,
    /// `<data>/sinks/<sink>.state`
    pub state_path: PathBuf,
    pub progress: Arc<Progress>,
    pub stats: Arc<SinkStats>,
}

/// The far side, as a sink implements it.
pub trait Destination: Send + Sync + 'static {
    /// Where a request goes, or `None` while nothing is configured for it. One job at a time runs in each lane, and a
    /// stuck lane blocks no other.
    fn lane(&self, request: &NotificationRequest) -> Option<String>;

    /// One attempt. It must end by itself within a time limit of its own.
    fn deliver(self: Arc<Self>, job: Job) -> BoxFuture<'static, Attempt>;

    /// One attempt to change a message that was delivered earlier.
    fn edit(self: Arc<Self>, edit: Edit) -> BoxFuture<'static, EditOutcome>;
}

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub outcome: Outcome,
    /// How long not to call again, whatever the outcome.
    pub pause: Pause,
    /// The message that showed the incident is gone.
    pub thread_gone: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Accepted, under this id where the far side gives one.
    Delivered { message: Option<String> },
    /// There is nothing to show for it any more.
    Pointless { detail: String },
    /// Try again, after the far side's own delay if it gave one.
    Retry { after: Option<Duration>, detail: String },
    /// The far side will never take it.
    Rejected { detail: String },
    /// The destination is unusable until the configuration changes.
    Blocked { detail: String },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pause {
    #[default]
    None,
    Lane(Duration),
    All(Duration),
}

/// A change to a delivered message: an incident is over and its first message should show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    pub lane: String,
    pub class: NoticeClass,
    pub message: String,
    pub notice: Notice,
    pub time_zone: String,
    pub attempts: u32,
    #[serde(skip)]
    not_before: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum EditOutcome {
    Done {
        pause: Pause,
    },
    /// The message is gone or the change refused; not tried again.
    Given {
        detail: String,
    },
    Retry {
        after: Option<Duration>,
        detail: String,
        pause: Pause,
    },
}

/// Runs a sink until it is cancelled. `reload` tells that the configuration behind `destination` changed; what was
/// blocked is then tried again.
pub async fn deliver<D: Destination, C: Send + Sync>(
    context: SinkContext,
    destination: Arc<D>,
    reload: watch::Receiver<C>,
    cancel: CancellationToken,
) -> Result<(), SinkError> {
    let mut courier = Courier::open(context, destination).await?;
    let result = courier.run(reload, &cancel).await;
    courier.drain().await;
    courier.save().await;
    if cancel.is_cancelled() { Ok(()) } else { result }
}

enum Done {
    Attempted(Box<Job>, Attempt),
    Edited(Box<Edit>, EditOutcome),
    Receipted(u64, Result<(), KitError>),
}

#[derive(Default)]
struct Lane {
    busy: bool,
    not_before: Option<Instant>,
    failures: u32,
    blocked: Option<String>,
    last_error: Option<String>,
}

struct Courier<D> {
    context: SinkContext,
    destination: Arc<D>,
    ledger: Ledger,
    events: EventReader,
    /// What of the reader's counts is in the statistics already.
    counted: ReaderCounts,
    receipts: Box<dyn LogReader>,
    /// Receipts up to here have been applied to every request that they could be about.
    receipts_at: Option<Position>,
    receipts_scanned: u64,
    observations_id: String,
    events_head: u64,
    lanes: BTreeMap<String, Lane>,
    all_not_before: Option<Instant>,
    busy: BTreeSet<u64>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    dirty: bool,
    saved_at: Instant,
    save_failed: bool,
    full_told: bool,
}

impl<D: Destination> Courier<D> {
    async fn open(context: SinkContext, destination: Arc<D>) -> Result<Courier<D>, SinkError> {
        let state = load_state(&context).await?;
        let log = &context.log;
        let requests = subjects::events_of_kind(&context.site, "notification_requested");
        let events = match &state.events {
            Some(position) => EventReader::open_after(log.clone(), &requests, position).await?,
            None => EventReader::open(log.clone(), &requests, Start::First).await?,
        };
        let own_receipts = subjects::observation(&context.site, "receipt", &context.sink);
        let start = state
            .receipts
            .as_ref()
            .map_or(Start::First, |at| Start::Sequence(at.sequence + 1));
        let receipts = log.reader(Stream::Observations, &own_receipts, start).await?;
        let info = log.info(Stream::Observations).await?;
        let receipts_at = state.receipts.clone();
        let mut ledger = Ledger::from_state(state);
        if info.first_sequence > 1
            && let Some(first) = log.get(Stream::Observations, info.first_sequence).await?
        {
            ledger.receipts_from = Some(first.stored_at);
        }
        let mut courier = Courier {
            context,
            destination,
            ledger,
            events,
            counted: ReaderCounts::default(),
            receipts,
            receipts_scanned: receipts_at.as_ref().map_or(0, |at| at.sequence),
            receipts_at,
            observations_id: info.log_id,
            events_head: 0,
            lanes: BTreeMap::new(),
            all_not_before: None,
            busy: BTreeSet::new(),
            work: FuturesUnordered::new(),
            dirty: false,
            saved_at: Instant::now(),
            save_failed: false,
            full_told: false,
        };
        courier.catch_up(None).await?;
        let owed: Vec<u64> = courier.ledger.due.keys().copied().collect();
        for ticket in owed {
            courier.write_receipts(ticket, Duration::ZERO);
        }
        Ok(courier)
    }

    async fn run<C>(
        &mut self,
        mut reload: watch::Receiver<C>,
        cancel: &CancellationToken,
    ) -> Result<(), SinkError> {
        let mut reloads = true;
        while !cancel.is_cancelled() {
            self.catch_up(Some(cancel)).await?;
            self.expire();
            self.start_work();
            self.show_progress();
            self.save_if_due().await;
            let wake = self.next_wake();
            let readable = !self.ledger.is_full();
            tokio::select! {
                () = cancel.cancelled() => {}
                Some(done) = self.work.next() => self.finish(done),
                batch = self.events.next(READ_BATCH), if readable => {
                    let batch = batch?;
                    self.take_events(batch.events, batch.last_sequence);
                }
                changed = reload.changed(), if reloads => match changed {
                    Ok(()) => self.unblock(),
                    Err(_) => reloads = false,
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        Ok(())
    }

    /// Reads both streams to their ends: receipts first, then the requests, so that every receipt read finds its
    /// request. With a full ledger the requests wait in the log, and the receipts that were read are kept for them.
    async fn catch_up(&mut self, cancel: Option<&CancellationToken>) -> Result<(), SinkError> {
        let stopped = || cancel.is_some_and(CancellationToken::is_cancelled);
        while !stopped() {
            let batch = self.receipts.try_next(READ_BATCH).await?;
            if let Some(lost) = batch.lost {
                self.context
                    .stats
                    .add(Count::Lost, lost.to.saturating_sub(lost.from) + 1);
            }
            if batch.records.is_empty() {
                self.receipts_scanned = self.receipts_scanned.max(batch.last_sequence);
                break;
            }
            for record in batch.records {
                self.receipts_scanned = record.sequence;
                self.take_receipt(record.sequence, &record.payload);
            }
        }
        while !stopped() && !self.ledger.is_full() {
            let batch = self.events.try_next(READ_BATCH).await?;
            let drained = batch.drained;
            self.take_events(batch.events, batch.last_sequence);
            if drained {
                self.ledger.caught_up();
                let sequence = self.receipts_scanned;
                self.receipts_at = Some(Position {
                    log_id: self.observations_id.clone(),
                    sequence,
                    id: String::new(),
                });
                break;
            }
        }
        self.count_dropped();
        self.tell_full();
        Ok(())
    }

    fn take_receipt(&mut self, sequence: u64, payload: &[u8]) {
        match decode_observation(payload).map(|observation| observation.body) {
            Ok(Body::Receipt(receipt)) if receipt.sink == self.context.sink => {
                if self.ledger.receipt(receipt) {
                    self.context.stats.add(Count::LimitsHit, 1);
                    tracing::warn!(
                        sink = self.context.sink,
                        "too many receipts at once; the oldest are forgotten"
                    );
                }
                self.dirty = true;
            }
            Ok(_) => {}
            Err(error) => {
                self.context.stats.add(Count::Quarantined, 1);
                tracing::warn!(sink = self.context.sink, sequence, %error, "a receipt is quarantined and passed over");
            }
        }
    }

    fn take_events(&mut self, events: Vec<(u64, watchfold_schemas::Event)>, last_sequence: u64) {
        self.events_head = self.events_head.max(last_sequence);
        for (sequence, event) in events {
            self.dirty = true;
            if self.ledger.request(sequence, event) == Taken::TooOld {
                self.context.stats.add(Count::TooOld, 1);
            }
        }
    }

    fn count_dropped(&mut self) {
        let (now, before) = (self.events.counts(), self.counted);
        let stats = &self.context.stats;
        stats.add(
            Count::Repeated,
            now.repeated + now.old_places - before.repeated - before.old_places,
        );
        stats.add(Count::Quarantined, now.quarantined - before.quarantined);
        stats.add(Count::Lost, now.lost - before.lost);
        self.counted = now;
    }

    fn tell_full(&mut self) {
        let full = self.ledger.is_full();
        if full && !self.full_told {
            self.context.stats.add(Count::LimitsHit, 1);
            tracing::warn!(
                sink = self.context.sink,
                limit = PENDING_MAX,
                "too many undelivered requests at once; the rest waits in the log"
            );
        }
        self.full_told = full;
    }

    /// Settles what is past its time. A request without a destination is dropped without a receipt: this sink was
    /// never asked to tell it.
    fn expire(&mut self) {
        let now = self.context.publisher.now();
        let mut told: BTreeMap<String, Vec<EventId>> = BTreeMap::new();
        for sequence in expired(&self.ledger.pending, &self.busy, now) {
            let Some(waiting) = self.ledger.remove(sequence) else {
                continue;
            };
            self.dirty = true;
            if self.destination.lane(&waiting.request).is_none() {
                self.context.stats.add(Count::Unroutable, 1);
                continue;
            }
            self.context.stats.add(Count::Expired, 1);
            let reason = waiting
                .last_error
                .unwrap_or_else(|| "not delivered before it expired".to_owned());
            told.entry(reason).or_default().push(waiting.id);
        }
        for (reason, ids) in told {
            tracing::warn!(
                sink = self.context.sink,
                requests = ids.len(),
                reason,
                "requests expired undelivered"
            );
            for chunk in ids.chunks(RECEIPT_REQUESTS_MAX) {
                let receipt = self.receipt(
                    DeliveryOutcome::Expired,
                    chunk.to_vec(),
                    None,
                    Some(reason.clone()),
                    0,
                );
                self.settle(vec![receipt]);
            }
        }
    }

    fn start_work(&mut self) {
        if self.ledger.due.len() >= DUE_MAX {
            return;
        }
        let now = Instant::now();
        if self.all_not_before.is_some_and(|at| at > now) {
            return;
        }
        let unavailable =
            |lane: &Lane| lane.busy || lane.blocked.is_some() || lane.not_before.is_some_and(|at| at > now);
        let mut taken: BTreeSet<String> = self
            .lanes
            .iter()
            .filter(|(_, lane)| unavailable(lane))
            .map(|(name, _)| name.clone())
            .collect();
        let (destination, ledger) = (&self.destination, &self.ledger);
        let jobs = plan(
            &ledger.pending,
            |request| destination.lane(request),
            &taken,
            |id| ledger.message(id),
        );
        for job in jobs {
            taken.insert(job.lane.clone());
            self.busy.extend(job.sequences());
            self.lanes.entry(job.lane.clone()).or_default().busy = true;
            let attempt = self.destination.clone().deliver(job.clone());
            self.work.push(Box::pin(
                async move { Done::Attempted(Box::new(job), attempt.await) },
            ));
        }
        self.start_edits(&mut taken, now);
    }

    /// Edits run in lanes that have nothing else to do.
    fn start_edits(&mut self, taken: &mut BTreeSet<String>, now: Instant) {
        let mut waiting = std::mem::take(&mut self.ledger.edits);
        waiting.retain(|edit| {
            let due = edit.not_before.is_none_or(|at| at <= now);
            if !due || !taken.insert(edit.lane.clone()) {
                return true;
            }
            self.lanes.entry(edit.lane.clone()).or_default().busy = true;
            let (edit, attempt) = (edit.clone(), self.destination.clone().edit(edit.clone()));
            self.work.push(Box::pin(
                async move { Done::Edited(Box::new(edit), attempt.await) },
            ));
            false
        });
        self.ledger.edits = waiting;
    }

    fn finish(&mut self, done: Done) {
        self.dirty = true;
        match done {
            Done::Attempted(job, attempt) => self.finish_attempt(&job, attempt),
            Done::Edited(edit, outcome) => self.finish_edit(*edit, outcome),
            Done::Receipted(ticket, result) => self.finish_receipts(ticket, result),
        }
    }

    fn finish_attempt(&mut self, job: &Job, attempt: Attempt) {
        for sequence in job.sequences() {
            self.busy.remove(&sequence);
        }
        self.pause(&job.lane, attempt.pause);
        if attempt.thread_gone
            && let Some(incident) = job.incident()
        {
            self.ledger.forget_message(incident);
        }
        let lane = self.lanes.entry(job.lane.clone()).or_default();
        lane.busy = false;
        match attempt.outcome {
            Outcome::Retry { after, detail } => {
                lane.failures = lane.failures.saturating_add(1);
                let wait =
                    after.map_or_else(|| backoff(lane.failures), |asked| bounded(&self.context, asked));
                lane.not_before = lane.not_before.max(Some(Instant::now() + wait));
                lane.last_error = Some(detail.clone());
                self.context.stats.add(Count::Retried, 1);
                tracing::info!(
                    sink = self.context.sink,
                    lane = job.lane,
                    wait_ms = wait.as_millis() as u64,
                    detail,
                    "a delivery failed and is tried again"
                );
                self.note_failure(job, detail);
            }
            Outcome::Blocked { detail } => {
                tracing::warn!(
                    sink = self.context.sink,
                    lane = job.lane,
                    detail,
                    "a destination is not used any more until its configuration changes"
                );
                lane.blocked = Some(detail.clone());
                self.note_failure(job, detail);
            }
            Outcome::Delivered { message } => {
                lane.failures = 0;
                self.settle_delivered(job, message, attempt.thread_gone);
            }
            Outcome::Pointless { detail } => {
                lane.failures = 0;
                self.context.stats.add(Count::Merged, 1 + job.merged.len() as u64);
                self.settle_whole(job, DeliveryOutcome::Merged, detail);
            }
            Outcome::Rejected { detail } => {
                lane.failures = 0;
                tracing::warn!(sink = self.context.sink, lane = job.lane, request = %job.id, detail,
                    "the far side refuses a message for good");
                self.context
                    .stats
                    .add(Count::Rejected, 1 + job.merged.len() as u64);
                self.settle_whole(job, DeliveryOutcome::Rejected, detail);
            }
        }
    }

    fn note_failure(&mut self, job: &Job, detail: String) {
        for sequence in job.sequences() {
            if let Some(waiting) = self.ledger.pending.get_mut(&sequence) {
                waiting.attempts = waiting.attempts.saturating_add(1);
                waiting.last_error = Some(clipped(&detail));
            }
        }
    }

    /// The receipt of what was merged goes first: if only it becomes durable, the message that tells it all is sent
    /// again, and never the older one alone.
    fn settle_delivered(&mut self, job: &Job, message: Option<String>, thread_gone: bool) {
        for sequence in job.sequences() {
            self.ledger.remove(sequence);
        }
        let mut receipts = Vec::with_capacity(2);
        if !job.merged.is_empty() {
            let ids = job.merged.iter().map(|(_, id)| id.clone()).collect();
            self.context.stats.add(Count::Merged, job.merged.len() as u64);
            receipts.push(self.receipt(DeliveryOutcome::Merged, ids, message.clone(), None, job.attempts));
        }
        let ids = vec![job.id.clone()];
        receipts.push(self.receipt(
            DeliveryOutcome::Delivered,
            ids,
            message.clone(),
            None,
            job.attempts + 1,
        ));
        self.context.stats.add(Count::Delivered, 1);
        if let (Notice::IncidentClosed { .. }, Some(thread), false) = (&job.notice, &job.thread, thread_gone)
        {
            self.queue_edit(job, thread.clone());
        }
        self.ledger.note_told(&job.notice, message);
        self.settle(receipts);
    }

    fn settle_whole(&mut self, job: &Job, outcome: DeliveryOutcome, detail: String) {
        for sequence in job.sequences() {
            self.ledger.remove(sequence);
        }
        let ids = std::iter::once(&job.id)
            .chain(job.merged.iter().map(|(_, id)| id))
            .cloned()
            .collect();
        let receipt = self.receipt(outcome, ids, None, Some(detail), job.attempts + 1);
        if matches!(job.notice, Notice::IncidentClosed { .. }) {
            self.ledger.note_told(&job.notice, None);
        }
        self.settle(vec![receipt]);
    }

    fn queue_edit(&mut self, job: &Job, message: String) {
        self.ledger.edits.push_back(Edit {
            lane: job.lane.clone(),
            class: job.class,
            message,
            notice: job.notice.clone(),
            time_zone: job.time_zone.clone(),
            attempts: 0,
            not_before: None,
        });
        if self.ledger.edits.len() > EDITS_MAX {
            self.ledger.edits.pop_front();
            self.context.stats.add(Count::LimitsHit, 1);
            self.context.stats.add(Count::EditsDropped, 1);
            tracing::warn!(
                sink = self.context.sink,
                limit = EDITS_MAX,
                "too many edits wait; the oldest is dropped"
            );
        }
    }

    fn finish_edit(&mut self, mut edit: Edit, outcome: EditOutcome) {
        self.lanes.entry(edit.lane.clone()).or_default().busy = false;
        match outcome {
            EditOutcome::Done { pause } => self.pause(&edit.lane, pause),
            EditOutcome::Retry { after, detail, pause } if edit.attempts + 1 < EDIT_ATTEMPTS_MAX => {
                self.pause(&edit.lane, pause);
                edit.attempts += 1;
                let wait =
                    after.map_or_else(|| backoff(edit.attempts), |asked| bounded(&self.context, asked));
                edit.not_before = Some(Instant::now() + wait);
                tracing::debug!(
                    sink = self.context.sink,
                    detail,
                    "an edit failed and is tried again"
                );
                self.ledger.edits.push_back(edit);
            }
            EditOutcome::Retry { detail, .. } | EditOutcome::Given { detail } => {
                self.context.stats.add(Count::EditsDropped, 1);
                tracing::info!(
                    sink = self.context.sink,
                    detail,
                    "an edit is given up; the news itself was delivered"
                );
            }
        }
    }

    fn receipt(
        &self,
        outcome: DeliveryOutcome,
        requests: Vec<EventId>,
        message: Option<String>,
        detail: Option<String>,
        attempts: u32,
    ) -> Receipt {
        let at = self.context.publisher.now();
        let detail = detail.map(|detail| clipped(&detail));
        Receipt {
            at,
            sink: self.context.sink.clone(),
            requests,
            outcome,
            message,
            detail,
            attempts,
        }
    }

    fn settle(&mut self, receipts: Vec<Receipt>) {
        let ticket = self.ledger.owe(receipts);
        self.write_receipts(ticket, Duration::ZERO);
    }

    /// Writes one act's receipts in their order; a later one is not written before the earlier is durable.
    fn write_receipts(&mut self, ticket: u64, wait: Duration) {
        let Some(receipts) = self.ledger.due.get(&ticket).cloned() else {
            return;
        };
        let publisher = self.context.publisher.clone();
        self.work.push(Box::pin(async move {
            tokio::time::sleep(wait).await;
            for receipt in receipts {
                if let Err(error) = publish(&publisher, receipt).await {
                    return Done::Receipted(ticket, Err(error));
                }
            }
            Done::Receipted(ticket, Ok(()))
        }));
    }

    fn finish_receipts(&mut self, ticket: u64, result: Result<(), KitError>) {
        match result {
            Ok(()) => drop(self.ledger.due.remove(&ticket)),
            Err(error @ (KitError::Encode(_) | KitError::Refused(_) | KitError::InvalidName { .. })) => {
                tracing::warn!(sink = self.context.sink, %error, "a receipt can never be written and is dropped");
                self.ledger.due.remove(&ticket);
            }
            Err(error @ (KitError::Overflow | KitError::Closed | KitError::State { .. })) => {
                self.context.stats.add(Count::ReceiptsRetried, 1);
                tracing::warn!(sink = self.context.sink, %error, "a receipt could not be written and is tried again");
                self.write_receipts(ticket, backoff(1));
            }
        }
    }

    fn pause(&mut self, lane: &str, pause: Pause) {
        match pause {
            Pause::None => {}
            Pause::Lane(wait) => {
                let until = Instant::now() + bounded(&self.context, wait);
                let lane = self.lanes.entry(lane.to_owned()).or_default();
                lane.not_before = lane.not_before.max(Some(until));
            }
            Pause::All(wait) => {
                let until = Instant::now() + bounded(&self.context, wait);
                self.all_not_before = self.all_not_before.max(Some(until));
            }
        }
    }

    /// The configuration changed: what was blocked or failing gets a new chance at once. A wait that the far side asked
    /// for stands.
    fn unblock(&mut self) {
        for lane in self.lanes.values_mut() {
            if lane.blocked.take().is_some() {
                lane.failures = 0;
            }
        }
        self.dirty = true;
    }

    /// What has no destination does not hold the position back: nobody waits for it.
    fn show_progress(&self) {
        let first = self
            .ledger
            .pending
            .values()
            .find(|waiting| self.destination.lane(&waiting.request).is_some())
            .map(|waiting| waiting.sequence.saturating_sub(1));
        let head = self.events_head;
        let reached = if self.ledger.is_full() {
            self.ledger.settled_to(head)
        } else {
            head
        };
        self.context
            .progress
            .advance(first.map_or(reached, |settled| settled.min(reached)), head);
        let trouble = self
            .lanes
            .iter()
            .find_map(|(name, lane)| match (&lane.blocked, &lane.last_error) {
                (Some(blocked), _) => Some(format!("{name}: {blocked}")),
                (None, Some(error)) if lane.failures >= FAILURES_TOLD => Some(format!("{name}: {error}")),
                _ => None,
            });
        match trouble {
            Some(detail) => self.context.progress.fail(detail),
            None => self.context.progress.ok(),
        }
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let heartbeat = now + Duration::from_millis(HEARTBEAT_MS);
        let lanes = self
            .lanes
            .values()
            .filter(|lane| !lane.busy)
            .filter_map(|lane| lane.not_before);
        let edits = self.ledger.edits.iter().filter_map(|edit| edit.not_before);
        lanes
            .chain(edits)
            .chain(self.all_not_before)
            .filter(|at| *at > now)
            .fold(heartbeat, Instant::min)
    }

    async fn save_if_due(&mut self) {
        let age = self.saved_at.elapsed();
        let positions_old = age >= Duration::from_millis(POSITION_EVERY_MS);
        if positions_old || (self.dirty && age >= Duration::from_millis(SAVE_EVERY_MS)) {
            self.save().await;
        }
    }

    async fn save(&mut self) {
        self.saved_at = Instant::now();
        self.dirty = false;
        let state = self.state().await;
        let path = self.context.state_path.clone();
        let saved = tokio::task::spawn_blocking(move || state::save(&path, &state)).await;
        match saved.map_err(std::io::Error::other).and_then(|result| result) {
            Ok(()) => self.save_failed = false,
            Err(error) => {
                self.context.stats.add(Count::StateFailures, 1);
                if !self.save_failed {
                    let path = self.context.state_path.display();
                    tracing::warn!(sink = self.context.sink, %path, %error,
                        "failed to write a sink's state; after a restart it is built again from the log");
                }
                self.save_failed = true;
            }
        }
    }

    async fn state(&mut self) -> StateFile {
        let log = self.context.log.clone();
        let receipts = match &self.receipts_at {
            Some(at) => named(log.as_ref(), Stream::Observations, at).await,
            None => None,
        };
        StateFile {
            v: STATE_VERSION,
            site: self.context.site.clone(),
            sink: self.context.sink.clone(),
            events: self.events.checkpoint().await,
            receipts,
            pending: self.ledger.pending.values().cloned().collect(),
            due: self.ledger.due.values().cloned().collect(),
            messages: self.ledger.messages().cloned().collect(),
            edits: self.ledger.edits.iter().cloned().collect(),
        }
    }

    /// Lets what is under way end, and receipts become durable.
    async fn drain(&mut self) {
        let limit = tokio::time::sleep(Duration::from_millis(DRAIN_MS));
        tokio::pin!(limit);
        while !self.work.is_empty() {
            tokio::select! {
                () = &mut limit => return,
                Some(done) = self.work.next() => self.finish(done),
            }
        }
    }
}

async fn publish(publisher: &Publisher, receipt: Receipt) -> Result<Ack, KitError> {
    publisher
        .publish_with(|stamp| {
            Body::Receipt(Receipt {
                at: stamp.now(),
                ..receipt
            })
        })
        .await
}

/// A position with the message id of its record, so that another log can be told; `None` when it cannot be named.
pub(crate) async fn named(log: &dyn MessageLog, stream: Stream, at: &Position) -> Option<Position> {
    if at.sequence == 0 || !at.id.is_empty() {
        return Some(at.clone());
    }
    let record = log.get(stream, at.sequence).await.ok()??;
    Some(Position {
        id: record.id.0,
        ..at.clone()
    })
}

/// The state to go on with: what the file holds while the log agrees with it.
async fn load_state(context: &SinkContext) -> Result<StateFile, SinkError> {
    let (path, site, sink) = (
        context.state_path.clone(),
        context.site.clone(),
        context.sink.clone(),
    );
    let found = tokio::task::spawn_blocking(move || state::load(&path, &site, &sink)).await;
    let found = found.unwrap_or_else(|error| Found::SetAside {
        reason: error.to_string(),
    });
    let (state, reason) = match found {
        Found::Nothing => return Ok(StateFile::default()),
        Found::State(state) => (*state, None),
        Found::SetAside { reason } => (StateFile::default(), Some(reason)),
    };
    let reason = match reason {
        Some(reason) => Some(reason),
        None if !positions_agree(context, &state).await? => {
            state::set_aside(&context.state_path);
            Some("the log is not the one that it was read from, or lost its end".to_owned())
        }
        None => None,
    };
    let Some(reason) = reason else { return Ok(state) };
    context.stats.add(Count::StateFailures, 1);
    tracing::warn!(sink = context.sink, path = %context.state_path.display(), reason,
        "a sink's state is set aside and built again from the log");
    Ok(state.without_positions())
}

async fn positions_agree(context: &SinkContext, state: &StateFile) -> Result<bool, SinkError> {
    let log = context.log.as_ref();
    for (stream, position) in [
        (Stream::Events, &state.events),
        (Stream::Observations, &state.receipts),
    ] {
        if let Some(position) = position
            && !agrees(log, stream, position).await?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn bounded(context: &SinkContext, asked: Duration) -> Duration {
    let limit = Duration::from_millis(SERVER_DELAY_MS_MAX);
    if asked > limit {
        context.stats.add(Count::LimitsHit, 1);
        tracing::warn!(
            sink = context.sink,
            asked_s = asked.as_secs(),
            "the far side asks for a longer wait than allowed"
        );
    }
    asked.min(limit)
}

fn clipped(detail: &str) -> String {
    detail.chars().take(DETAIL_CHARS_MAX).collect()
}
