//! The delivery loop: reads requests and receipts, sends what is due, writes receipts, and survives a restart.
//!
//! The order is: the far side accepts, the receipt becomes durable. A crash between the two sends a message twice. The loop
//! never finds words and knows no protocol.

mod away;
mod faults;
mod resume;
mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_kit::KitError;
use watchfold_log::{LogReader, Position, Start};
use watchfold_schemas::observation::{Body, DeliveryOutcome, Fault};
use watchfold_schemas::{Event, EventId, Stream, decode_observation, subjects};

use away::{Away, on_its_own};
use faults::Word;
pub use faults::withdraw;

use crate::destination::{Attempt, Destination, Edit, EditOutcome, SinkContext};
use crate::error::SinkError;
use crate::ledger::{Ledger, PENDING_MAX, Taken};
use crate::plan::{Job, Turn, expired, plan};
use crate::rank::{KIND_BURST_MAX, Kind, Rates};
use crate::reach::Reach;
use crate::reader::{EventReader, ReaderCounts};
use crate::stats::Count;

/// Records asked of the log at a time.
const READ_BATCH: usize = 256;

/// The longest sleep of the loop, in milliseconds: expiry, progress and the state file are looked after this often.
const HEARTBEAT_MS: u64 = 1_000;

/// Requests in one receipt, so that a receipt stays far below the largest message.
const RECEIPT_REQUESTS_MAX: usize = 256;

/// Acts of delivery whose receipts are not durable. When it is reached nothing more is sent until the log takes them.
const DUE_MAX: usize = 64;

/// How long deliveries under way may still end after a stop, in milliseconds; cutting one off may repeat it later.
const DRAIN_MS: u64 = 700;

/// A stopped lane is told in the health page after this many failures in a row; fewer are a hiccup.
const FAILURES_TOLD: u32 = 3;

/// Runs a sink until it is cancelled. `reload` tells that the configuration behind `destination` changed; what was
/// blocked is then tried again.
pub async fn deliver<D: Destination, C: Send + Sync>(
    context: SinkContext,
    destination: Arc<D>,
    reload: watch::Receiver<C>,
    cancel: CancellationToken,
) -> Result<(), SinkError> {
    let Some(mut courier) = away::open(context, destination, &cancel).await? else {
        return Ok(());
    };
    let result = courier.run(reload, &cancel).await;
    courier.drain().await;
    courier.save().await;
    if cancel.is_cancelled() { Ok(()) } else { result }
}

enum Done {
    Attempted(Box<Job>, Attempt),
    Edited(Box<Edit>, EditOutcome),
    Receipted(u64, Result<(), KitError>),
    Reported(Word, Result<(), KitError>),
}

#[derive(Default)]
struct Lane {
    busy: bool,
    not_before: Option<Instant>,
    failures: u32,
    blocked: Option<String>,
    last_error: Option<String>,
    reach: Reach,
    rates: Rates,
}

struct Courier<D> {
    context: SinkContext,
    destination: Arc<D>,
    ledger: Ledger,
    events: EventReader,
    /// What of the reader's counts is in the statistics already.
    counted: ReaderCounts,
    receipts: Box<dyn LogReader>,
    /// Receipts were read up to here.
    receipts_at: Position,
    events_head: u64,
    lanes: BTreeMap<String, Lane>,
    /// The destinations of the configuration in force.
    configured: BTreeMap<String, u64>,
    /// Destinations whose fault, or its end, is on its way to the log.
    reporting: BTreeSet<String>,
    report_after: Option<Instant>,
    all_not_before: Option<Instant>,
    busy: BTreeSet<u64>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    dirty: bool,
    saved_at: Instant,
    save_failed: bool,
    full_told: bool,
    owing_told: bool,
}

impl<D: Destination> Courier<D> {
    async fn open(context: SinkContext, destination: Arc<D>) -> Result<Courier<D>, SinkError> {
        let state = resume::load_state(&context).await?;
        let log = &context.log;
        let requests = subjects::events_of_kind(&context.site, "notification_requested");
        let events = match &state.events {
            Some(position) => EventReader::open_after(log.clone(), &requests, position).await?,
            None => EventReader::open(log.clone(), &requests, Start::First).await?,
        };
        // Receipts, and faults of destinations: what a sink writes.
        let own_receipts = subjects::collector_filter(&context.site, &context.sink);
        let start = state
            .receipts
            .as_ref()
            .map_or(Start::First, |at| Start::Sequence(at.sequence + 1));
        let receipts = log.reader(Stream::Observations, &own_receipts, start).await?;
        let info = log.info(Stream::Observations).await?;
        let receipts_at = state.receipts.clone().unwrap_or_else(|| Position {
            log_id: info.log_id,
            sequence: 0,
            id: String::new(),
        });
        let mut ledger = Ledger::from_state(state);
        if info.first_sequence > 1
            && let Some(first) = log.get(Stream::Observations, info.first_sequence).await?
        {
            ledger.receipts_from = ledger.receipts_from.max(Some(first.stored_at));
        }
        let configured = destination.lanes();
        let mut courier = Courier {
            context,
            destination,
            configured,
            reporting: BTreeSet::new(),
            report_after: None,
            ledger,
            events,
            counted: ReaderCounts::default(),
            receipts,
            receipts_at,
            events_head: 0,
            lanes: BTreeMap::new(),
            all_not_before: None,
            busy: BTreeSet::new(),
            work: FuturesUnordered::new(),
            dirty: false,
            saved_at: Instant::now(),
            save_failed: false,
            full_told: false,
            owing_told: false,
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
        let mut away = Away::default();
        while !cancel.is_cancelled() {
            // A log that is away keeps a call for long; a stop does not wait for it. Nothing read is lost by that.
            let caught_up = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                caught_up = self.catch_up(Some(cancel)) => caught_up,
            };
            if let Err(error) = caught_up {
                away.wait(error, &self.context, cancel).await?;
                continue;
            }
            away = Away::default();
            self.expire();
            self.start_work();
            self.report_faults();
            self.show_progress();
            self.save_if_due().await;
            let wake = self.next_wake();
            let readable = !self.ledger.is_full();
            tokio::select! {
                () = cancel.cancelled() => {}
                Some(done) = self.work.next() => self.finish(done),
                batch = self.events.next(READ_BATCH), if readable => match batch {
                    Ok(batch) => self.take_events(batch.events, batch.last_sequence),
                    Err(error) => away.wait(error.into(), &self.context, cancel).await?,
                },
                changed = reload.changed(), if reloads => match changed {
                    Ok(()) => self.unblock(),
                    Err(_) => reloads = false,
                },
                () = tokio::time::sleep_until(wake) => {}
            }
        }
        Ok(())
    }

    /// Reads both streams to their ends, receipts first: no request is sent before it is known which are settled. With a
    /// full ledger the requests wait in the log.
    async fn catch_up(&mut self, cancel: Option<&CancellationToken>) -> Result<(), SinkError> {
        let stopped = || cancel.is_some_and(CancellationToken::is_cancelled);
        while !stopped() {
            let batch = self.receipts.try_next(READ_BATCH).await?;
            if let Some(lost) = batch.lost {
                self.context
                    .stats
                    .add(Count::Lost, lost.to.saturating_sub(lost.from) + 1);
            }
            if batch.records.is_empty() && batch.lost.is_none() {
                self.receipts_read_to(batch.last_sequence);
                break;
            }
            for record in batch.records {
                self.receipts_read_to(record.sequence);
                self.take_receipt(record.sequence, &record.payload);
            }
        }
        while !stopped() && !self.ledger.is_full() {
            let batch = self.events.try_next(READ_BATCH).await?;
            let drained = batch.drained;
            self.take_events(batch.events, batch.last_sequence);
            if drained {
                self.ledger.caught_up(self.context.publisher.now());
                break;
            }
        }
        self.count_dropped();
        self.tell_full();
        Ok(())
    }

    fn receipts_read_to(&mut self, sequence: u64) {
        if sequence > self.receipts_at.sequence {
            self.receipts_at.sequence = sequence;
            self.receipts_at.id.clear();
        }
    }

    fn take_receipt(&mut self, sequence: u64, payload: &[u8]) {
        match decode_observation(payload).map(|observation| observation.body) {
            Ok(Body::Receipt(receipt)) if receipt.sink == self.context.sink => {
                let overflowed = self.ledger.receipt(receipt);
                self.note_forgotten(overflowed);
                self.dirty = true;
            }
            Ok(Body::Fault(fault)) if Fault::is_of_destination(&fault.subject) => {
                self.ledger.note_fault(fault.subject, fault.reason, fault.active);
                self.dirty = true;
            }
            Ok(_) => {}
            Err(error) => {
                self.context.stats.add(Count::Quarantined, 1);
                tracing::warn!(sink = self.context.sink, sequence, %error, "a receipt is quarantined and passed over");
            }
        }
    }

    fn take_events(&mut self, events: Vec<(u64, Event)>, last_sequence: u64) {
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
            let Some(waiting) = self.settle_request(sequence) else {
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
        let owing = self.ledger.due.len() >= DUE_MAX;
        if owing && !self.owing_told {
            self.context.stats.add(Count::LimitsHit, 1);
            tracing::warn!(
                sink = self.context.sink,
                limit = DUE_MAX,
                "the log takes no receipts; nothing more is sent until it does"
            );
        }
        self.owing_told = owing;
        if owing {
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
        let by_age = self.lanes.iter().filter(|(_, lane)| lane.rates.is_by_age());
        let by_age = by_age.map(|(name, _)| name.clone()).collect();
        let (destination, ledger, lanes) = (&self.destination, &self.ledger, &self.lanes);
        let allowed = |lane: &str, kind: &Kind| {
            let lane = lanes.get(lane);
            lane.map_or(KIND_BURST_MAX, |lane| lane.rates.allowed(kind, now))
        };
        let turn = Turn {
            taken: &taken,
            by_age: &by_age,
            allowed: &allowed,
            is_full: ledger.is_full(),
        };
        let jobs = plan(
            &ledger.pending,
            |request| destination.lane(request),
            &turn,
            |id| ledger.message(id),
        );
        for job in jobs {
            taken.insert(job.lane.clone());
            self.busy.extend(job.sequences());
            self.lanes.entry(job.lane.clone()).or_default().busy = true;
            let attempt = self.destination.clone().deliver(job.clone());
            self.work.push(on_its_own(async move {
                Done::Attempted(Box::new(job), attempt.await)
            }));
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
            self.work.push(on_its_own(
                async move { Done::Edited(Box::new(edit), attempt.await) },
            ));
            false
        });
        self.ledger.edits = waiting;
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
        match self.trouble() {
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
