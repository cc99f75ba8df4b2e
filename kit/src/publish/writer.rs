//! Takes queued observations to the log: numbers them, sends them, and sends the very same messages again until the
//! log has them. While it has not, they go to the spool, if there is one, and what comes later goes behind them.
//!
//! It never reorders and never numbers twice.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_log::{Ack, Append, LogError, MessageLog};

use crate::KitError;
use crate::publish::forward::{Forward, Mark, earliest};
use crate::publish::incarnation::IncarnationFile;
use crate::publish::publisher::{DROPS_PER_WARNING, Shared};
use crate::publish::queue::{AckSender, QUEUE_RECORDS_MAX};
use crate::publish::retry::Retry;
use crate::publish::sending::{Numbering, Outgoing, SendError, Sending, Source};
use crate::publish::spool::{Spool, passes};

/// The most records in one append: a minute's worth after a short outage, and well under a second's work.
const BATCH_RECORDS_MAX: usize = 256;

/// The most bytes in one append, unless a single record is larger.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// How long a log may take before what was sent goes to the spool: a broker in reach answers in milliseconds.
const SEND_PATIENCE: Duration = Duration::from_secs(2);

/// The same for records that are safe in the spool, where waiting costs nothing.
const FORWARD_PATIENCE: Duration = Duration::from_secs(30);

/// The most that wait to be told when their spooled record is in the log.
const TOLD_MAX: usize = QUEUE_RECORDS_MAX;

/// After this many failures in a row to read the spool it is set aside, about half a minute after the first.
const READ_FAILURES_MAX: u32 = 12;

pub(crate) struct Writer {
    log: Arc<dyn MessageLog>,
    shared: Arc<Shared>,
    numbering: Numbering,
    /// Numbered, and neither in the log nor in the spool for certain. Younger than all in the spool.
    outgoing: VecDeque<Outgoing>,
    spool: Option<Spool>,
    /// Read from the spool, not known to be in the log.
    forwarding: VecDeque<Forward>,
    /// Who waits for a spooled record, by its place in the spool.
    told: VecDeque<(u64, AckSender)>,
    sending: Option<Sending>,
    /// How many records go into one append.
    together: usize,
    log_retry: Retry,
    spool_retry: Retry,
    read_retry: Retry,
    number_retry: Retry,
    /// Failures in a row to read the spool that do not pass by themselves.
    unreadable: u32,
    /// Why the log took nothing at the last try.
    log_trouble: Option<String>,
    /// Why the spool took nothing at the last try.
    spool_trouble: Option<String>,
    /// Why records are not numbered yet.
    number_trouble: Option<String>,
}

/// The writer cannot go on, or has nothing left to do.
struct Ended;

impl Writer {
    pub(crate) fn new(
        log: Arc<dyn MessageLog>,
        shared: Arc<Shared>,
        file: IncarnationFile,
        on_disk: Option<u64>,
        spool: Option<Spool>,
    ) -> Writer {
        Writer {
            log,
            shared,
            numbering: Numbering::new(file, on_disk),
            outgoing: VecDeque::new(),
            spool,
            forwarding: VecDeque::new(),
            told: VecDeque::new(),
            sending: None,
            together: BATCH_RECORDS_MAX,
            log_retry: Retry::new(),
            spool_retry: Retry::new(),
            read_retry: Retry::new(),
            number_retry: Retry::new(),
            unreadable: 0,
            log_trouble: None,
            spool_trouble: None,
            number_trouble: None,
        }
    }
}

/// Writes until the publisher is gone and what it left is in the log or in the spool, or the log is closed.
pub(crate) async fn run(mut writer: Writer, closing: CancellationToken) {
    writer.discard_spool().await;
    while writer.step(&closing).await.is_ok() {}
    writer.end().await;
    writer.shared.close();
}

impl Writer {
    async fn step(&mut self, closing: &CancellationToken) -> Result<(), Ended> {
        if closing.is_cancelled() {
            let retries = [
                &mut self.log_retry,
                &mut self.spool_retry,
                &mut self.read_retry,
                &mut self.number_retry,
            ];
            retries.into_iter().for_each(Retry::hurry);
        }
        self.number_next(closing).await?;
        self.spool_outgoing(closing).await?;
        self.send_next().await;
        let more = self.outgoing.is_empty()
            && self.number_retry.is_due()
            && self.shared.waiting_incarnation().is_some();
        if closing.is_cancelled() && self.outgoing.is_empty() && !more {
            // What is in the spool is for the next process.
            return Err(Ended);
        }
        let next_try = self.next_try();
        let answer = tokio::select! {
            biased;
            answer = Sending::answer(&mut self.sending) => Some(answer),
            () = ready(()), if more => None,
            () = self.shared.bell.notified(), if self.outgoing.is_empty() => None,
            () = tokio::time::sleep_until(next_try.unwrap_or_else(Instant::now)), if next_try.is_some() => None,
            () = closing.cancelled(), if !closing.is_cancelled() => None,
        };
        match (answer, self.sending.take()) {
            (Some(Ok(acks)), Some(sent)) => self.sent(sent.source, sent.count, acks).await,
            (Some(Err(error)), Some(sent)) => {
                self.not_sent(sent.source, sent.count, error, closing).await?;
            }
            (_, sending) => self.sending = sending,
        }
        Ok(())
    }

    /// When something that failed is to be tried again.
    fn next_try(&self) -> Option<Instant> {
        let mut times = Vec::new();
        if self.sending.is_none() && !self.is_drained() {
            let read_at = self.forwarding.is_empty().then_some(self.read_retry.at);
            times.push(read_at.map_or(self.log_retry.at, |at| at.max(self.log_retry.at)));
        } else if self.sending.is_none() && !self.outgoing.is_empty() {
            times.push(self.log_retry.at);
        }
        if self.wants_to_spool() {
            times.push(self.spool_retry.at);
        }
        if self.outgoing.is_empty() && self.shared.waiting_incarnation().is_some() {
            times.push(self.number_retry.at);
        }
        times.into_iter().min()
    }

    fn is_drained(&self) -> bool {
        self.spool.as_ref().is_none_or(Spool::is_drained)
    }

    /// Gives numbers to the next records of one incarnation.
    async fn number_next(&mut self, closing: &CancellationToken) -> Result<(), Ended> {
        if !self.outgoing.is_empty() || !self.number_retry.is_due() {
            return Ok(());
        }
        let Some(incarnation) = self.shared.waiting_incarnation() else {
            return Ok(());
        };
        if self.numbering.incarnation != Some(incarnation) {
            match self.numbering.begin(incarnation).await {
                Ok(()) => {
                    self.number_retry.succeeded();
                    if self.number_trouble.take().is_some() {
                        self.show_trouble();
                    }
                }
                Err(_) if closing.is_cancelled() => return Err(Ended),
                Err(error) => {
                    let collector = &self.shared.collector;
                    self.number_retry.failed(
                        collector,
                        &error,
                        "records wait in memory for their incarnation",
                    );
                    self.number_trouble = Some(format!("records wait in memory: {error}"));
                    self.show_trouble();
                    return Ok(());
                }
            }
        }
        for pending in self.shared.take(incarnation, BATCH_RECORDS_MAX, BATCH_BYTES_MAX) {
            match Outgoing::prepare(&self.shared, pending, self.numbering.number + 1) {
                Ok(ready) => {
                    self.numbering.number += 1;
                    self.outgoing.push_back(ready);
                }
                Err(lost) => {
                    let (pending, error) = *lost;
                    self.lose(pending.ack, KitError::Encode(error));
                    self.shared.settle(pending.ticket);
                }
            }
        }
        Ok(())
    }

    /// Whether the outgoing records are to go behind those in the spool, or wait there for the log.
    fn wants_to_spool(&self) -> bool {
        let on_their_way = self
            .sending
            .as_ref()
            .is_some_and(|sending| sending.source == Source::Memory);
        let log_fails = self.log_retry.has_failed();
        self.spool.is_some()
            && !self.outgoing.is_empty()
            && !on_their_way
            && (log_fails || !self.is_drained())
    }

    async fn spool_outgoing(&mut self, closing: &CancellationToken) -> Result<(), Ended> {
        if !self.wants_to_spool() || !self.spool_retry.is_due() {
            return Ok(());
        }
        let (Some(spool), Some(first)) = (&mut self.spool, self.outgoing.front()) else {
            return Ok(());
        };
        let incarnation = first.pending.incarnation;
        let mark = |number: u64, through| Mark {
            sequence: 0,
            origin: self.shared.origin(incarnation, number),
            through,
        };
        let placed = self.numbering.placed;
        let before = placed.unwrap_or_else(|| earliest(&first.pending.body, first.pending.through));
        let before = mark(first.number - 1, before);
        let last = self.outgoing.back().map_or(first, |last| last);
        let last = mark(last.number, last.pending.through);
        let messages = self.outgoing.iter().map(|ready| ready.append.clone()).collect();
        let lives = spool.lives();
        let appended = spool.append(before, last, messages).await;
        if spool.lives() != lives {
            self.leave_lost_spool();
        }
        match appended {
            Ok(sequences) => {
                self.spool_retry.succeeded();
                if self.spool_trouble.take().is_some() {
                    self.show_trouble();
                }
                for (ready, sequence) in self.outgoing.drain(..).zip(sequences) {
                    self.numbering.placed = Some(ready.pending.through);
                    self.shared.settle(ready.pending.ticket);
                    self.told.extend(ready.pending.ack.map(|ack| (sequence, ack)));
                }
                while self.told.len() > TOLD_MAX
                    && let Some((_, ack)) = self.told.pop_front()
                {
                    tell(ack, Err(KitError::Spooled));
                }
                self.show_spool().await;
                Ok(())
            }
            Err(error) if closing.is_cancelled() => {
                tracing::warn!(collector = self.shared.collector, %error, "stopped with records unwritten");
                Err(Ended)
            }
            Err(error) => {
                self.spool_trouble = Some(format!("the spool takes no records either: {error}"));
                self.show_trouble();
                let collector = &self.shared.collector;
                self.spool_retry
                    .failed(collector, &error, "records wait in memory for the spool");
                Ok(())
            }
        }
    }

    /// Begins the next append: of the spool's oldest records, or of the outgoing ones when none are older.
    async fn send_next(&mut self) {
        if self.sending.is_some() || !self.log_retry.is_due() {
            return;
        }
        if !self.is_drained() {
            self.read_spool().await;
        }
        let (source, patience, messages) = if !self.forwarding.is_empty() {
            let messages = batch(self.forwarding.iter().map(|ready| &ready.append), self.together);
            (Source::Spool, Some(FORWARD_PATIENCE), messages)
        } else if !self.outgoing.is_empty() && self.is_drained() {
            let messages = batch(self.outgoing.iter().map(|ready| &ready.append), self.together);
            let patience = self.spool.is_some().then_some(SEND_PATIENCE);
            (Source::Memory, patience, messages)
        } else {
            return;
        };
        self.sending = Some(Sending::start(&self.log, source, messages, patience));
    }

    async fn read_spool(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        if !self.forwarding.is_empty() || !self.read_retry.is_due() {
            return;
        }
        let lives = spool.lives();
        match spool.read(BATCH_RECORDS_MAX).await {
            Ok(records) => {
                self.read_retry.succeeded();
                self.unreadable = 0;
                self.forwarding.extend(records);
            }
            Err(error) => {
                let collector = &self.shared.collector;
                self.read_retry
                    .failed(collector, &error, "spooled records wait until they can be read");
                self.unreadable = if passes(&error) { 0 } else { self.unreadable + 1 };
                if self.unreadable > READ_FAILURES_MAX {
                    spool.give_up(&error).await;
                }
            }
        }
        if spool.lives() != lives {
            self.leave_lost_spool();
        }
        if self.forwarding.is_empty() {
            self.discard_spool().await;
        }
    }

    async fn sent(&mut self, source: Source, count: usize, acks: Vec<Ack>) {
        self.log_retry.succeeded();
        let mut over = self.log_trouble.take().is_some();
        if source == Source::Memory {
            // What the spool did not take is in the log.
            over |= self.spool_trouble.take().is_some();
        }
        if over {
            self.show_trouble();
        }
        self.together = (self.together * 2).min(BATCH_RECORDS_MAX);
        self.shared.count(|stats| stats.published += acks.len() as u64);
        match source {
            Source::Memory => {
                for (ready, ack) in self.outgoing.drain(..count).zip(acks) {
                    self.numbering.placed = Some(ready.pending.through);
                    self.shared.settle(ready.pending.ticket);
                    if let Some(sender) = ready.pending.ack {
                        tell(sender, Ok(ack));
                    }
                }
            }
            Source::Spool => {
                let mut last = None;
                for (ready, ack) in self.forwarding.drain(..count).zip(acks) {
                    self.shared.count(|stats| {
                        stats.forwarded += 1;
                        stats.dropped += ready.lost;
                        stats.spool_lost += ready.lost;
                    });
                    tell_spooled(&mut self.told, &ready, ack);
                    last = Some(ready.mark);
                }
                self.forwarded(last).await;
            }
        }
    }

    async fn forwarded(&mut self, mark: Option<Mark>) {
        if let (Some(spool), Some(mark)) = (&mut self.spool, mark) {
            spool.forwarded(mark).await;
        }
        self.discard_spool().await;
    }

    async fn not_sent(
        &mut self,
        source: Source,
        count: usize,
        error: SendError,
        closing: &CancellationToken,
    ) -> Result<(), Ended> {
        match error {
            SendError::Log(LogError::TooLarge { .. } | LogError::InvalidMessage { .. }) if count > 1 => {
                self.together = 1;
                return Ok(());
            }
            SendError::Log(error @ (LogError::TooLarge { .. } | LogError::InvalidMessage { .. })) => {
                match source {
                    Source::Memory => self.replace_outgoing(error),
                    Source::Spool => self.replace_forwarding(error).await,
                }
                return Ok(());
            }
            SendError::Log(LogError::Closed) => {
                self.log_retry
                    .failed(&self.shared.collector, &LogError::Closed, "the log is closed");
                self.spool_outgoing(closing).await?;
                return Err(Ended);
            }
            SendError::Silent(_) => self.together = (count / 2).max(1),
            SendError::Log(_) => {}
        }
        self.log_trouble = Some(error.to_string());
        self.show_trouble();
        self.shared.count(|stats| stats.retries += 1);
        if closing.is_cancelled() && self.spool.is_none() {
            tracing::warn!(collector = self.shared.collector, %error, "stopped with records unwritten");
            return Err(Ended);
        }
        let consequence = match self.spool {
            Some(_) => "records wait in the spool for the log",
            None => "records wait in memory for the log",
        };
        self.log_retry.failed(&self.shared.collector, &error, consequence);
        Ok(())
    }

    fn replace_outgoing(&mut self, error: LogError) {
        let Some(mut refused) = self.outgoing.pop_front() else {
            return;
        };
        self.lose(refused.pending.ack.take(), KitError::Refused(error));
        let ticket = refused.pending.ticket;
        match refused.into_gap(&self.shared, self.numbering.placed) {
            Some(gap) => self.outgoing.push_front(gap),
            // Not even a gap is taken: the hole in the numbers tells of the loss.
            None => self.shared.settle(ticket),
        }
    }

    async fn replace_forwarding(&mut self, error: LogError) {
        let Some(refused) = self.forwarding.front_mut() else {
            return;
        };
        let before = self.spool.as_ref().and_then(Spool::mark).map(|mark| mark.through);
        let waits = self
            .told
            .pop_front_if(|(sequence, _)| *sequence == refused.mark.sequence);
        let replaced = refused.replace_by_gap(before, "the log refused a record");
        let skipped = (!replaced).then(|| self.forwarding.pop_front()).flatten();
        self.lose(waits.map(|(_, ack)| ack), KitError::Refused(error));
        if let Some(skipped) = skipped {
            self.forwarded(Some(skipped.mark)).await;
        }
    }

    fn lose(&self, ack: Option<AckSender>, error: KitError) {
        let mut dropped = 0;
        self.shared.count(|stats| {
            stats.dropped += 1;
            dropped = stats.dropped;
        });
        match ack {
            Some(ack) => tell(ack, Err(error)),
            None if dropped % DROPS_PER_WARNING == 1 => {
                tracing::warn!(collector = self.shared.collector, dropped, %error, "observations are lost");
            }
            None => {}
        }
    }

    /// The spool was set aside: who waits for its records is told, and what was read from it is still forwarded.
    fn leave_lost_spool(&mut self) {
        for (_, ack) in self.told.drain(..) {
            tell(ack, Err(KitError::Overflow));
        }
        self.forwarding.iter_mut().for_each(Forward::outlive_spool);
        if self.spool.as_mut().is_some_and(Spool::take_untold)
            && let Err(error) = self.shared.tell_of_lost_spool()
        {
            tracing::error!(collector = self.shared.collector, %error, "no gap tells of the spool that was set aside");
        }
    }

    /// What keeps records in memory only comes first.
    fn show_trouble(&self) {
        let memory_only = self.number_trouble.as_ref().or(self.spool_trouble.as_ref());
        let trouble = memory_only.or(self.log_trouble.as_ref());
        self.shared.trouble(trouble.cloned());
    }

    /// Frees the disk once everything spooled is in the log.
    async fn discard_spool(&mut self) {
        if let Some(spool) = &mut self.spool {
            spool.discard().await;
        }
        self.show_spool().await;
    }

    async fn show_spool(&mut self) {
        if let Some(spool) = &mut self.spool {
            let (records, bytes) = (spool.records(), spool.bytes().await);
            let since = spool.mark().map(|mark| mark.through);
            self.shared.spooled(records, bytes, since);
        }
    }

    /// What is neither in the log nor in the spool is lost.
    async fn end(&mut self) {
        self.sending = None;
        self.shared
            .count(|stats| stats.dropped += self.outgoing.len() as u64);
        for ack in self.outgoing.drain(..).filter_map(|ready| ready.pending.ack) {
            tell(ack, Err(KitError::Closed));
        }
        for (_, ack) in self.told.drain(..) {
            tell(ack, Err(KitError::Spooled));
        }
        if let Some(spool) = &mut self.spool {
            spool.close().await;
        }
    }
}

/// The first messages, at most so many and about [`BATCH_BYTES_MAX`], at least one.
fn batch<'m>(messages: impl Iterator<Item = &'m Append>, together: usize) -> Vec<Append> {
    let mut bytes = 0;
    let fits = |message: &&Append| {
        let is_first = bytes == 0;
        bytes += message.payload.len().max(1);
        is_first || bytes <= BATCH_BYTES_MAX
    };
    messages.take(together).take_while(fits).cloned().collect()
}

/// Whoever awaited it may be gone; then nobody needs to know.
fn tell(sender: AckSender, answer: Result<Ack, KitError>) {
    drop(sender.send(answer));
}

/// Tells those who wait for this record, and those whose records are lost before it.
fn tell_spooled(told: &mut VecDeque<(u64, AckSender)>, forward: &Forward, ack: Ack) {
    while let Some((sequence, sender)) = told.pop_front_if(|(sequence, _)| *sequence <= forward.mark.sequence)
    {
        let is_it = sequence == forward.mark.sequence && forward.lost == 0;
        tell(sender, if is_it { Ok(ack) } else { Err(KitError::Overflow) });
    }
}

#[cfg(test)]
mod tests;
