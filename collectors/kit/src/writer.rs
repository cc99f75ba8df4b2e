//! Takes queued observations to the log: numbers them when they are first sent, and sends the very same messages
//! again until the log has them.
//!
//! It never reorders and never numbers twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchfold_log::{Append, LogError, MessageLog};
use watchfold_schemas::observation::{Gap, OBSERVATION_VERSION};
use watchfold_schemas::{Body, CodecError, Observation, Stream, Time, encode_observation, subjects};

use crate::KitError;
use crate::incarnation::IncarnationFile;
use crate::publisher::Shared;
use crate::queue::{AckSender, Pending};

/// The most records in one append: a minute's worth after a short outage, and well under a second's work.
const BATCH_RECORDS_MAX: usize = 256;

/// The most bytes in one append, unless a single record is larger.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// The first wait after a failed append, doubled up to [`RETRY_DELAY_MAX`].
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);

/// The longest wait between appends: short enough that a recovered disk is used at once, as people see it.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// One warning for this many failed appends in a row: about one a minute at the longest wait.
const RETRIES_PER_WARNING: u32 = 12;

pub(crate) struct Writer {
    log: Arc<dyn MessageLog>,
    shared: Arc<Shared>,
    file: IncarnationFile,
    /// The incarnation on disk.
    incarnation: u64,
    /// The last number given in it.
    number: u64,
    /// `through` of the last record sent in it.
    through: Option<Time>,
}

/// A record that has its number.
struct Outgoing {
    pending: Pending,
    number: u64,
    append: Append,
}

/// The writer cannot go on.
struct Ended;

impl Writer {
    pub(crate) fn new(
        log: Arc<dyn MessageLog>,
        shared: Arc<Shared>,
        file: IncarnationFile,
        incarnation: u64,
    ) -> Writer {
        Writer {
            log,
            shared,
            file,
            incarnation,
            number: 0,
            through: None,
        }
    }
}

/// Writes until the publisher is gone and its queue is empty, or the log is closed.
pub(crate) async fn run(mut writer: Writer, closing: CancellationToken) {
    loop {
        let batch = writer.shared.take(BATCH_RECORDS_MAX, BATCH_BYTES_MAX);
        if !batch.is_empty() {
            if writer.write(batch, &closing).await.is_err() {
                break;
            }
        } else if closing.is_cancelled() {
            break;
        } else {
            tokio::select! {
                () = writer.shared.bell.notified() => {}
                () = closing.cancelled() => {}
            }
        }
    }
    writer.shared.close();
}

impl Writer {
    async fn write(&mut self, batch: Vec<Pending>, closing: &CancellationToken) -> Result<(), Ended> {
        let mut outgoing = VecDeque::with_capacity(batch.len());
        for pending in batch {
            if pending.incarnation != self.incarnation {
                self.send(&mut outgoing, closing).await?;
                self.begin_incarnation(pending.incarnation, closing).await?;
            }
            self.number += 1;
            match self.prepare(pending, self.number) {
                Ok(ready) => outgoing.push_back(ready),
                Err(lost) => {
                    let (pending, error) = *lost;
                    self.number -= 1;
                    self.lose(pending.ack, KitError::Encode(error));
                    self.shared.settle(pending.ticket);
                }
            }
        }
        self.send(&mut outgoing, closing).await
    }

    /// Sends all of it in order. A record that the log will never take is replaced by a gap under its number.
    async fn send(
        &mut self,
        outgoing: &mut VecDeque<Outgoing>,
        closing: &CancellationToken,
    ) -> Result<(), Ended> {
        let mut together = outgoing.len();
        let mut retry = Retry::default();
        while !outgoing.is_empty() {
            let together_now = together.min(outgoing.len());
            let messages = outgoing
                .iter()
                .take(together_now)
                .map(|ready| ready.append.clone())
                .collect();
            match self.log.append(messages).await {
                Ok(acks) => {
                    if retry.failures > 0 {
                        self.shared.trouble(None);
                        retry = Retry::default();
                    }
                    self.shared.count(|stats| stats.published += acks.len() as u64);
                    for (ready, ack) in outgoing.drain(..together_now).zip(acks) {
                        self.through = Some(ready.pending.through);
                        self.shared.settle(ready.pending.ticket);
                        if let Some(sender) = ready.pending.ack {
                            // Whoever awaited it may be gone; the record is in the log all the same.
                            let _ = sender.send(Ok(ack));
                        }
                    }
                }
                Err(LogError::TooLarge { .. } | LogError::InvalidMessage { .. }) if together_now > 1 => {
                    together = 1
                }
                Err(error @ (LogError::TooLarge { .. } | LogError::InvalidMessage { .. })) => {
                    if let Some(refused) = outgoing.pop_front() {
                        self.replace(refused, error, outgoing);
                    }
                }
                Err(LogError::Closed) => return self.end(outgoing),
                Err(error) => {
                    self.shared.trouble(Some(error.to_string()));
                    self.shared.count(|stats| stats.retries += 1);
                    if closing.is_cancelled() {
                        tracing::warn!(collector = self.shared.collector, %error, "stopped with records unwritten");
                        return self.end(outgoing);
                    }
                    retry.wait(&self.shared.collector, &error, closing).await;
                }
            }
        }
        Ok(())
    }

    /// The number of a refused record must not become a hole, so a gap takes it.
    fn replace(&mut self, mut refused: Outgoing, error: LogError, outgoing: &mut VecDeque<Outgoing>) {
        let was_gap = matches!(refused.pending.body, Body::Gap(_));
        tracing::warn!(collector = self.shared.collector, %error, "the log refused a record");
        let to = refused.pending.through;
        let gap = Gap {
            from: self.through.unwrap_or(to).min(to),
            to,
            records: 1,
            reason: "the log refused a record".to_owned(),
        };
        self.lose(refused.pending.ack.take(), KitError::Refused(error));
        refused.pending.body = Body::Gap(gap);
        match self.prepare(refused.pending, refused.number) {
            Ok(ready) if !was_gap => outgoing.push_front(ready),
            // Not even a gap is taken: the hole in the numbers tells of the loss.
            Ok(Outgoing { pending, .. }) => self.shared.settle(pending.ticket),
            Err(lost) => self.shared.settle(lost.0.ticket),
        }
    }

    fn lose(&self, ack: Option<AckSender>, error: KitError) {
        self.shared.count(|stats| stats.dropped += 1);
        match ack {
            // Whoever awaited it may be gone; then nobody needs to know.
            Some(ack) => drop(ack.send(Err(error))),
            None => tracing::warn!(collector = self.shared.collector, %error, "an observation is lost"),
        }
    }

    fn end(&self, outgoing: &mut VecDeque<Outgoing>) -> Result<(), Ended> {
        self.shared.count(|stats| stats.dropped += outgoing.len() as u64);
        for ack in outgoing.drain(..).filter_map(|ready| ready.pending.ack) {
            // Whoever awaited it may be gone; then nobody needs to know.
            let _ = ack.send(Err(KitError::Closed));
        }
        Err(Ended)
    }

    /// Nothing is sent under an incarnation that is not on disk, so that no restart can use it again.
    async fn begin_incarnation(
        &mut self,
        incarnation: u64,
        closing: &CancellationToken,
    ) -> Result<(), Ended> {
        let mut retry = Retry::default();
        loop {
            let file = self.file.clone();
            let saved = tokio::task::spawn_blocking(move || file.save(incarnation)).await;
            match saved {
                Ok(Ok(())) => break,
                Ok(Err(error)) if !closing.is_cancelled() => {
                    retry.wait(&self.shared.collector, &error, closing).await;
                }
                Ok(Err(_)) | Err(_) => return Err(Ended),
            }
        }
        self.incarnation = incarnation;
        self.number = 0;
        self.through = None;
        Ok(())
    }

    fn prepare(&self, pending: Pending, number: u64) -> Result<Outgoing, Box<(Pending, CodecError)>> {
        let origin = self.shared.origin(pending.incarnation, number);
        let id = origin.message_id();
        let subject = subjects::observation(&self.shared.site, pending.body.kind(), &self.shared.collector);
        let observation = Observation {
            v: OBSERVATION_VERSION,
            origin,
            observed_at: pending.observed_at,
            through: pending.through,
            body: pending.body,
        };
        let encoded = encode_observation(&observation);
        let pending = Pending {
            body: observation.body,
            ..pending
        };
        match encoded {
            Ok(payload) => {
                let append = Append {
                    stream: Stream::Observations,
                    subject,
                    id,
                    payload: payload.into(),
                };
                Ok(Outgoing {
                    pending,
                    number,
                    append,
                })
            }
            Err(error) => Err(Box::new((pending, error))),
        }
    }
}

/// Waits longer each time, and warns now and then.
#[derive(Default)]
struct Retry {
    failures: u32,
}

impl Retry {
    async fn wait(
        &mut self,
        collector: &str,
        error: &(dyn std::error::Error + Sync),
        closing: &CancellationToken,
    ) {
        if self.failures.is_multiple_of(RETRIES_PER_WARNING) {
            tracing::warn!(collector, %error, failures = self.failures + 1, "records wait in memory for the log");
        }
        let delay = RETRY_DELAY_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(RETRY_DELAY_MAX);
        self.failures = self.failures.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = closing.cancelled() => {}
        }
    }
}
