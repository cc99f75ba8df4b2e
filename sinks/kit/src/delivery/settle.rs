//! What becomes of an attempt: receipts, waits, edits.

use std::time::Duration;

use tokio::time::Instant;
use watchfold_kit::{Ack, KitError, Publisher};
use watchfold_schemas::EventId;
use watchfold_schemas::event::Notice;
use watchfold_schemas::observation::{Body, DeliveryOutcome, Receipt};

use super::{Courier, Done, RECEIPT_REQUESTS_MAX};
use crate::backoff::backoff;
use crate::destination::{Attempt, Destination, Edit, EditOutcome, Outcome, Pause, SinkContext};
use crate::ledger::EDITS_MAX;
use crate::plan::{Job, PendingRequest};
use crate::reach::Failure;
use crate::stats::Count;

/// The longest wait that the far side can ask for, in milliseconds; more is taken for a mistake.
const SERVER_DELAY_MS_MAX: u64 = 3_600_000;

/// Attempts of one edit. An edit is a courtesy; the message that tells the same has been delivered.
const EDIT_ATTEMPTS_MAX: u32 = 5;

/// The first line of a log detail and receipt detail, in characters.
const DETAIL_CHARS_MAX: usize = 500;

impl<D: Destination> Courier<D> {
    pub(super) fn finish(&mut self, done: Done) {
        self.dirty = true;
        match done {
            Done::Attempted(job, attempt) => self.finish_attempt(&job, attempt),
            Done::Edited(edit, outcome) => self.finish_edit(*edit, outcome),
            Done::Receipted(ticket, result) => self.finish_receipts(ticket, result),
            Done::Reported(word, result) => self.finish_report(word, result),
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
        let now = self.context.publisher.now();
        let lane = self.lanes.entry(job.lane.clone()).or_default();
        lane.busy = false;
        match attempt.outcome {
            Outcome::Retry { after, detail } => {
                lane.failures = lane.failures.saturating_add(1);
                let wait =
                    after.map_or_else(|| backoff(lane.failures), |asked| bounded(&self.context, asked));
                lane.not_before = lane.not_before.max(Some(Instant::now() + wait));
                lane.last_error = Some(detail.clone());
                lane.reach.failed(now, Failure::Unavailable, clipped(&detail));
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
                lane.reach.failed(now, Failure::Unusable, clipped(&detail));
                self.note_failure(job, detail);
            }
            Outcome::Delivered { message } => {
                lane.failures = 0;
                lane.reach.took();
                lane.rates.sent(job.kind.as_ref(), Instant::now());
                self.settle_delivered(job, message, attempt.thread_gone);
            }
            Outcome::Pointless { detail } => {
                lane.failures = 0;
                self.context.stats.add(Count::Merged, 1 + job.merged.len() as u64);
                self.settle_whole(job, DeliveryOutcome::Merged, detail);
            }
            Outcome::Rejected { detail } => {
                lane.failures = 0;
                lane.reach.failed(now, Failure::Refused, clipped(&detail));
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
            self.settle_request(sequence);
        }
        let mut receipts = Vec::with_capacity(2);
        self.context.stats.add(Count::Merged, job.merged.len() as u64);
        for merged in job.merged.chunks(RECEIPT_REQUESTS_MAX) {
            let ids = merged.iter().map(|(_, id)| id.clone()).collect();
            receipts.push(self.receipt(DeliveryOutcome::Merged, ids, message.clone(), None, job.attempts));
        }
        // A digest shows many incidents, so it is the message of none: it is not edited when one of them is over.
        let (message, detail) = match job.digest.len() {
            0 => (message, None),
            count => (None, Some(format!("in one message about {count} incidents"))),
        };
        receipts.push(self.receipt(
            DeliveryOutcome::Delivered,
            vec![job.id.clone()],
            message.clone(),
            detail,
            job.attempts + 1,
        ));
        self.context.stats.add(Count::Delivered, 1);
        for notice in &job.digest {
            self.settle_in_digest(job, notice);
        }
        if !job.digest.is_empty() {
            self.settle(receipts);
            return;
        }
        if let (Notice::IncidentClosed { .. }, Some(thread), false) = (&job.notice, &job.thread, thread_gone)
        {
            self.queue_edit(job, &job.notice, thread.clone());
        }
        self.ledger.note_told(&job.notice, message);
        self.settle(receipts);
    }

    /// The first message of an incident that is over is edited, though its end was part of a digest.
    fn settle_in_digest(&mut self, job: &Job, notice: &Notice) {
        if let Notice::IncidentClosed { incident, .. } = notice
            && let Some(thread) = self.ledger.message(&incident.id)
        {
            self.queue_edit(job, notice, thread);
        }
        self.ledger.note_told(notice, None);
    }

    fn settle_whole(&mut self, job: &Job, outcome: DeliveryOutcome, detail: String) {
        for sequence in job.sequences() {
            self.settle_request(sequence);
        }
        let ids: Vec<EventId> = std::iter::once(&job.id)
            .chain(job.merged.iter().map(|(_, id)| id))
            .cloned()
            .collect();
        let receipt = |ids: &[EventId]| {
            self.receipt(
                outcome,
                ids.to_vec(),
                None,
                Some(detail.clone()),
                job.attempts + 1,
            )
        };
        let receipts = ids.chunks(RECEIPT_REQUESTS_MAX).map(receipt).collect();
        for notice in job.digest.iter().chain([&job.notice]) {
            if matches!(notice, Notice::IncidentClosed { .. }) {
                self.ledger.note_told(notice, None);
            }
        }
        self.settle(receipts);
    }

    fn queue_edit(&mut self, job: &Job, notice: &Notice, message: String) {
        self.ledger.edits.push_back(Edit {
            lane: job.lane.clone(),
            class: job.class,
            message,
            notice: notice.clone(),
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
        let lane = self.lanes.entry(edit.lane.clone()).or_default();
        lane.busy = false;
        match outcome {
            EditOutcome::Done { pause } => {
                lane.reach.took();
                self.pause(&edit.lane, pause);
            }
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

    pub(super) fn receipt(
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

    /// Takes a request out of what is undelivered; it is not sent again, should it also be published again.
    pub(super) fn settle_request(&mut self, sequence: u64) -> Option<PendingRequest> {
        let (waiting, overflowed) = self.ledger.settle(sequence);
        self.note_forgotten(overflowed);
        waiting
    }

    pub(super) fn note_forgotten(&self, overflowed: bool) {
        if overflowed {
            self.context.stats.add(Count::LimitsHit, 1);
            tracing::warn!(
                sink = self.context.sink,
                "too many requests are settled at once; those that expire first are forgotten"
            );
        }
    }

    pub(super) fn settle(&mut self, receipts: Vec<Receipt>) {
        let ticket = self.ledger.owe(receipts);
        self.write_receipts(ticket, Duration::ZERO);
    }

    /// Writes one act's receipts in their order; a later one is not written before the earlier is durable.
    pub(super) fn write_receipts(&mut self, ticket: u64, wait: Duration) {
        let Some(receipts) = self.ledger.due.get(&ticket).cloned() else {
            return;
        };
        let publisher = self.context.publisher.clone();
        self.work.push(Box::pin(async move {
            tokio::time::sleep(wait).await;
            for receipt in receipts {
                match publish(&publisher, receipt).await {
                    // Safe in the publisher's spool, and in its order.
                    Ok(_) | Err(KitError::Spooled) => {}
                    Err(error) => return Done::Receipted(ticket, Err(error)),
                }
            }
            Done::Receipted(ticket, Ok(()))
        }));
    }

    fn finish_receipts(&mut self, ticket: u64, result: Result<(), KitError>) {
        match result {
            Ok(()) | Err(KitError::Spooled) => drop(self.ledger.due.remove(&ticket)),
            Err(error @ (KitError::Encode(_) | KitError::Refused(_) | KitError::InvalidName { .. })) => {
                tracing::warn!(sink = self.context.sink, %error, "a receipt can never be written and is dropped");
                self.ledger.due.remove(&ticket);
            }
            Err(
                error @ (KitError::Overflow
                | KitError::Closed
                | KitError::Full { .. }
                | KitError::State { .. }
                | KitError::Spool(_)),
            ) => {
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
