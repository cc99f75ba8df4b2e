//! The loop: reads questions, asks about the most urgent one when the budget allows it, and tells the sites that asked.
//!
//! A question is forgotten only once the log has its verdict, so a crash costs a call at most and loses no answer that
//! was bought. It decides nothing about tiers or alerts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_log::{Position, Start, agrees};
use watchfold_schemas::event::EventBody;
use watchfold_schemas::hash::short_hash;
use watchfold_schemas::{Event, Span, Stream, Time, subjects};
use watchfold_sink_kit::{EventBatch, EventReader, ReaderCounts, Secret, TAKES_NOTHING_MS_MAX};

use crate::answer::Answer;
use crate::budget::{Budget, Spent};
use crate::cache::{ATTEMPTS_MAX, Advice, FAILED_FOR, Known, REFUSED_FOR};
use crate::config::VirusTotalConfig;
use crate::deliver::{Asking, LookupContext, lease_name, load_memory, save_memory};
use crate::memory::Memory;
use crate::queue::{Added, WAIT_MAX};
use crate::render::{path, verdict};
use crate::stats::LookupCount;
use crate::subject::Subject;
use crate::telling::{SITES_MAX, Slots, Told, Word, over, say};
use crate::{LookupError, ORACLE};

/// Events read at once.
const READ_BATCH: usize = 256;

/// Records on their way into the log at once; further ones wait for these.
const TELLING_MAX: usize = 64;

/// The pause after a call without an answer; it doubles up to the longest. Each is a call of the budget.
const AWAY_FIRST: Span = Span::from_seconds(15);
const AWAY_MAX: Span = Span::from_seconds(900);

/// Calls without an answer in a row before the health page shows it.
const AWAY_TOLD: u32 = 3;

/// The pause after a record that the log did not take.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How long the end waits for records that are on their way; those that it does not see arrive may be told twice.
const DRAIN: Duration = Duration::from_millis(700);

/// The state file is written at most this often while something changes: it only saves calls.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How far was read is written this often, so that a quiet log is not searched again.
const POSITION_EVERY: Duration = Duration::from_secs(60);

/// A name for the key that does not show it.
pub(crate) fn fingerprint(key: &Secret) -> String {
    short_hash(&[ORACLE, key.expose()])[..12].to_owned()
}

/// The look-ups under one key.
pub(crate) struct Oracle {
    context: LookupContext,
    config: Arc<VirusTotalConfig>,
    asking: Asking,
    budget_name: String,
    events: EventReader,
    counted: ReaderCounts,
    head: u64,
    memory: Memory,
    slots: Slots,
    call: Option<BoxFuture<'static, (Subject, Answer)>>,
    telling: FuturesUnordered<BoxFuture<'static, Told>>,
    /// (site, what about) of what is on its way; no subject is a fault.
    on_its_way: BTreeSet<(String, Option<Subject>)>,
    /// Nothing is told before this: the log took no record a moment ago.
    tell_after: Instant,
    key_refused: Option<String>,
    /// What an earlier key was refused for is over.
    faults_over: bool,
    away: u32,
    /// The first call without an answer since the last one with an answer.
    away_since: Option<Time>,
    away_until: Time,
    away_why: String,
    spent_told: Option<Time>,
    dirty: bool,
    saved_at: Instant,
    save_failed: bool,
}

impl Oracle {
    /// Takes up what the state file and the log know.
    pub async fn open(
        context: LookupContext,
        config: Arc<VirusTotalConfig>,
        key: &Secret,
        asking: Asking,
        slots: Slots,
    ) -> Result<Oracle, LookupError> {
        let mut memory = load_memory(&context).await;
        let budget_name = lease_name(key);
        let stored = context.log.load_position(&budget_name).await?;
        let stored = stored.and_then(|stored| Budget::from_stored(&stored.id));
        let key = fingerprint(key);
        let faults_over = memory.key != key;
        if memory.key != key {
            memory.key = key;
            memory.budget = Budget::default();
        }
        if let Some(stored) = stored {
            memory.budget = std::mem::take(&mut memory.budget).or_more(stored);
        }
        let events = open_reader(&context, &mut memory).await?;
        Ok(Oracle {
            context,
            config,
            asking,
            budget_name,
            events,
            counted: ReaderCounts::default(),
            head: 0,
            memory,
            slots,
            call: None,
            telling: FuturesUnordered::new(),
            on_its_way: BTreeSet::new(),
            tell_after: Instant::now(),
            key_refused: None,
            faults_over,
            away: 0,
            away_since: None,
            away_until: Time(i64::MIN),
            away_why: String::new(),
            spent_told: None,
            dirty: true,
            saved_at: Instant::now(),
            save_failed: false,
        })
    }

    /// Runs until cancelled, until the lease is lost, or until another key or address is configured.
    pub async fn run(
        &mut self,
        config: &mut watch::Receiver<Option<Arc<VirusTotalConfig>>>,
        cancel: &CancellationToken,
        lost: &CancellationToken,
    ) -> Result<(), LookupError> {
        let ended = self.run_until(config, cancel, lost).await;
        let deadline = Instant::now() + DRAIN;
        while let Ok(Some(told)) = tokio::time::timeout_at(deadline, self.telling.next()).await {
            self.take_told(told);
        }
        self.save().await;
        ended
    }

    async fn run_until(
        &mut self,
        config: &mut watch::Receiver<Option<Arc<VirusTotalConfig>>>,
        cancel: &CancellationToken,
        lost: &CancellationToken,
    ) -> Result<(), LookupError> {
        let mut reloads = true;
        loop {
            self.forget_stale();
            self.tell();
            self.begin_call().await?;
            self.show();
            self.save_if_due().await;
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = lost.cancelled() => {
                    tracing::warn!(lease = self.budget_name, "the lease ran out; somebody else may ask with this key");
                    return Ok(());
                }
                changed = config.changed(), if reloads => match changed {
                    Ok(()) => {
                        let new = config.borrow_and_update().clone();
                        match new.filter(|new| new.key == self.config.key && new.address == self.config.address) {
                            Some(new) => self.config = new,
                            None => return Ok(()),
                        }
                    }
                    Err(_) => reloads = false,
                },
                batch = self.events.next(READ_BATCH) => self.take_batch(batch?),
                (subject, answer) = answered(&mut self.call) => {
                    self.call = None;
                    self.take_answer(subject, answer).await?;
                }
                Some(told) = self.telling.next(), if !self.telling.is_empty() => self.take_told(told),
                () = tokio::time::sleep(self.asking.timing.look_every) => {}
            }
        }
    }

    fn now(&self) -> Time {
        self.context.clock.wall()
    }

    fn count(&self, count: LookupCount, amount: u64) {
        self.context.stats.add(count, amount);
    }

    fn take_batch(&mut self, batch: EventBatch) {
        self.head = self.head.max(batch.last_sequence);
        let counts = self.events.counts();
        let gone = counts.lost + counts.quarantined - self.counted.lost - self.counted.quarantined;
        self.count(LookupCount::Lost, gone);
        self.counted = counts;
        for (_, event) in batch.events {
            self.dirty = true;
            self.take_question(&event);
        }
    }

    fn take_question(&mut self, event: &Event) {
        let EventBody::LookupWanted(wanted) = &event.body else {
            return;
        };
        if !self.context.sites.is_empty() && !self.context.sites.contains(&event.site) {
            return;
        }
        self.count(LookupCount::Asked, 1);
        let now = self.now();
        if now.since(event.at) > WAIT_MAX {
            return self.count(LookupCount::Stale, 1);
        }
        let subject = match Subject::public(wanted.kind, &wanted.subject, &self.config.own) {
            Ok(subject) => subject,
            Err(refusal) => {
                tracing::debug!(?refusal, rule = wanted.rule, "a subject is not asked about");
                return self.count(LookupCount::Private, 1);
            }
        };
        let at = event.at.min(now);
        self.memory.cache.asked(&subject, &event.site, at);
        match self.memory.cache.advise(&subject, &event.site, now) {
            Advice::Told | Advice::Hopeless => return self.count(LookupCount::FromCache, 1),
            Advice::Tell(_) => self.count(LookupCount::FromCache, 1),
            Advice::Ask => {}
        }
        let added = self
            .memory
            .queue
            .add(subject, &event.site, wanted.nearness_permille, at);
        if matches!(added, Added::Dropped(_) | Added::SitesFull) {
            self.count(LookupCount::Dropped, 1);
            self.count(LookupCount::LimitsHit, 1);
            tracing::warn!(
                waiting = self.memory.queue.len(),
                "more is asked than VirusTotal may be asked; the least urgent is dropped"
            );
        }
    }

    fn forget_stale(&mut self) {
        let gone = self.memory.queue.expire(self.now());
        if gone > 0 {
            self.dirty = true;
            self.count(LookupCount::Stale, gone as u64);
        }
    }

    /// Begins to tell every waiting site what is known, and what is wrong with the key.
    fn tell(&mut self) {
        if self.tell_after > Instant::now() {
            return;
        }
        let now = self.now();
        let trouble = self.lasting_trouble(now);
        let mut words: Vec<(String, Word)> = Vec::new();
        let mut done: Vec<(Subject, Option<String>)> = Vec::new();
        for waiting in self.memory.queue.list() {
            for site in &waiting.sites {
                match self.memory.cache.advise(&waiting.subject, site, now) {
                    Advice::Tell(verdict) => {
                        words.push((site.clone(), Word::Verdict(waiting.subject.clone(), verdict)));
                    }
                    Advice::Told => done.push((waiting.subject.clone(), Some(site.clone()))),
                    Advice::Hopeless => done.push((waiting.subject.clone(), None)),
                    Advice::Ask => {
                        let fault = |reason: &String| Word::Fault {
                            active: true,
                            reason: reason.clone(),
                        };
                        let untold = !self.memory.faulted.contains(site);
                        words.extend(
                            trouble
                                .as_ref()
                                .filter(|_| untold)
                                .map(|reason| (site.clone(), fault(reason))),
                        );
                    }
                }
            }
        }
        if self.faults_over {
            words.extend(self.memory.faulted.iter().map(|site| (site.clone(), over())));
        }
        for (subject, site) in done {
            self.dirty = true;
            match site {
                Some(site) => self.memory.queue.answered(&subject, &site),
                None => self.memory.queue.remove(&subject),
            }
        }
        for (site, word) in words {
            if self.telling.len() >= TELLING_MAX {
                return;
            }
            self.send(site, word);
        }
    }

    fn send(&mut self, site: String, word: Word) {
        let Some(slot) = self.slots.of(&site) else {
            self.count(LookupCount::LimitsHit, 1);
            tracing::warn!(
                limit = SITES_MAX,
                site,
                "too many sites; this one gets no verdicts here"
            );
            if let Word::Verdict(subject, _) = &word {
                self.memory.queue.answered(subject, &site);
            }
            return;
        };
        if !self.on_its_way.insert((site.clone(), word.subject())) {
            return;
        }
        self.telling
            .push(Box::pin(say(self.context.clone(), slot, site, word)));
    }

    fn take_told(&mut self, told: Told) {
        self.on_its_way.remove(&(told.site.clone(), told.word.subject()));
        if let Err(error) = told.result {
            self.count(LookupCount::PublishFailures, 1);
            tracing::warn!(site = told.site, %error, "a verdict did not reach the log; it is sent again");
            self.tell_after = Instant::now() + TELL_AGAIN_AFTER;
            return;
        }
        self.dirty = true;
        match told.word {
            Word::Verdict(subject, verdict) => {
                self.count(LookupCount::Verdicts, 1);
                let now = self.now();
                self.memory
                    .cache
                    .told(&subject, &told.site, verdict.expires_at, now);
                self.memory.queue.answered(&subject, &told.site);
            }
            Word::Fault { active: true, .. } => drop(self.memory.faulted.insert(told.site)),
            Word::Fault { active: false, .. } => drop(self.memory.faulted.remove(&told.site)),
        }
    }

    /// Makes the most urgent call that the budget allows. It is spent, and that is durable, before it is made.
    async fn begin_call(&mut self) -> Result<(), LookupError> {
        let now = self.now();
        if self.call.is_some() || self.key_refused.is_some() || now < self.away_until {
            return Ok(());
        }
        let cache = &self.memory.cache;
        let unknown = self.memory.queue.first(|waiting| {
            // Whether a subject is known is the same for every site.
            waiting
                .sites
                .first()
                .is_some_and(|site| cache.advise(&waiting.subject, site, now) == Advice::Ask)
        });
        let Some(subject) = unknown.map(|waiting| waiting.subject.clone()) else {
            return Ok(());
        };
        // What is one's own may be configured after the question was taken.
        if Subject::public(subject.kind, &subject.text, &self.config.own).as_ref() != Ok(&subject) {
            self.count(LookupCount::Private, 1);
            self.memory.queue.remove(&subject);
            return Ok(());
        }
        let limits = self.config.limits;
        if let Some((until, why)) = self.memory.budget.spent(now, limits) {
            self.tell_spent(until, why);
            return Ok(());
        }
        self.memory.budget.spend(now, limits);
        self.dirty = true;
        self.store_budget().await?;
        self.count(LookupCount::Calls, 1);
        let url = format!("{}/{}", self.config.address, path(&subject));
        let asking = self.asking.clone().ask(subject.kind, url);
        self.call = Some(Box::pin(async move { (subject, asking.await) }));
        Ok(())
    }

    /// The counts go where the next holder of the lease finds them.
    async fn store_budget(&mut self) -> Result<(), LookupError> {
        let budget = &self.memory.budget;
        let position = Position {
            log_id: String::new(),
            sequence: u64::from(budget.used_day()),
            id: budget.to_stored(),
        };
        Ok(self
            .context
            .log
            .save_position(&self.budget_name, position)
            .await?)
    }

    /// That a minute is used up is how it always is; a day or a month is worth a line.
    fn tell_spent(&mut self, until: Time, why: Spent) {
        if why == Spent::Minute || self.spent_told == Some(until) {
            return;
        }
        self.spent_told = Some(until);
        let (day, month) = (self.memory.budget.used_day(), self.memory.budget.used_month());
        let note = format!("asks again at {until}: {day} calls today, {month} this month");
        tracing::warn!(%until, ?why, day, month, "VirusTotal is not asked for now");
        self.context.progress.note(note);
    }

    async fn take_answer(&mut self, subject: Subject, answer: Answer) -> Result<(), LookupError> {
        let now = self.now();
        self.memory.budget.arrived(now);
        self.dirty = true;
        if !matches!(answer, Answer::Away { .. }) {
            (self.away, self.away_since) = (0, None);
        }
        match answer {
            Answer::Said(report) => {
                self.count(LookupCount::Answered, 1);
                self.count(LookupCount::Unknown, u64::from(report.is_none()));
                self.memory.budget.accepted();
                self.faults_over = true;
                let verdict = verdict(&subject, report.map(|report| *report), now, self.config.lifetimes);
                self.learn(subject, Known::Verdict(Box::new(verdict)), now);
            }
            Answer::KeyRefused { detail } => {
                self.count(LookupCount::Refused, 1);
                let reason = format!(
                    "VirusTotal refuses the key ({detail}): nothing is asked until sinks.virustotal.key is another"
                );
                tracing::error!("{reason}");
                self.faults_over = false;
                self.key_refused = Some(reason);
            }
            Answer::Refused { detail } => {
                self.count(LookupCount::Refused, 1);
                tracing::warn!(
                    subject = subject.text,
                    detail,
                    "VirusTotal does not answer about this"
                );
                let until = now + REFUSED_FOR;
                self.learn(subject, Known::Failed { until }, now);
            }
            Answer::TooMuch { quota, wait, detail } => {
                self.count(LookupCount::TooMuch, 1);
                let until = self.memory.budget.refused(now, quota, wait);
                tracing::warn!(%until, detail, "VirusTotal was asked too much, perhaps elsewhere with the same key");
                self.store_budget().await?;
            }
            Answer::Away { wait, detail } => self.take_no_answer(subject, wait, detail, now),
        }
        Ok(())
    }

    fn take_no_answer(&mut self, subject: Subject, wait: Option<Span>, detail: String, now: Time) {
        self.count(LookupCount::Away, 1);
        self.away = self.away.saturating_add(1);
        self.away_since.get_or_insert(now);
        self.faults_over = false;
        let doublings = self.away.saturating_sub(1).min(16);
        let pause = Span(AWAY_FIRST.0 << doublings).min(AWAY_MAX);
        self.away_until = now + wait.unwrap_or(pause).max(pause);
        tracing::warn!(subject = subject.text, detail, again_at = %self.away_until, "VirusTotal did not answer");
        self.away_why = detail;
        if self.memory.queue.failed(&subject) >= ATTEMPTS_MAX {
            let until = now + FAILED_FOR;
            self.learn(subject, Known::Failed { until }, now);
        }
    }

    /// What keeps questions from being answered, once it is no hiccup.
    fn lasting_trouble(&self, now: Time) -> Option<String> {
        let lasts = |since: Time| now.since(since).as_millis() >= TAKES_NOTHING_MS_MAX;
        let away = self.away_since.is_some_and(lasts) && self.away >= AWAY_TOLD;
        let away = away.then(|| format!("VirusTotal does not answer: {}", self.away_why));
        self.key_refused.clone().or(away)
    }

    fn learn(&mut self, subject: Subject, known: Known, now: Time) {
        let forgotten = self.memory.cache.learn(subject, known, now);
        if forgotten > 0 {
            self.count(LookupCount::LimitsHit, 1);
            tracing::warn!(
                forgotten,
                "more verdicts hold than are remembered; the next to expire are forgotten"
            );
        }
    }

    /// A question that waits for its turn holds nothing back: it is dealt with when it is in the queue.
    fn show(&self) {
        let progress = &self.context.progress;
        progress.advance(self.head, self.head);
        match &self.key_refused {
            Some(reason) => progress.fail(reason.clone()),
            None if self.away >= AWAY_TOLD => {
                progress.fail(format!("VirusTotal does not answer: {}", self.away_why));
            }
            None => progress.ok(),
        }
    }

    async fn save_if_due(&mut self) {
        let age = self.saved_at.elapsed();
        if age >= POSITION_EVERY || (self.dirty && age >= SAVE_EVERY) {
            self.save().await;
        }
    }

    async fn save(&mut self) {
        self.saved_at = Instant::now();
        self.memory.position = self.events.checkpoint().await;
        let saved = save_memory(&self.context, &self.memory, !self.save_failed).await;
        (self.dirty, self.save_failed) = (!saved, !saved);
    }
}

/// The answer to the call that is under way; never, while there is none.
async fn answered(call: &mut Option<BoxFuture<'static, (Subject, Answer)>>) -> (Subject, Answer) {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

/// The questions after the position, as long as the log agrees with it; else those of the last hour, since older ones
/// are nobody's any more.
async fn open_reader(context: &LookupContext, memory: &mut Memory) -> Result<EventReader, LookupError> {
    let mut named = context.sites.iter();
    let site = match (named.next(), named.next()) {
        (Some(only), None) => only.as_str(),
        _ => "*",
    };
    let filter = subjects::events_of_kind(site, "lookup_wanted");
    if let Some(position) = memory.position.take()
        && agrees(context.log.as_ref(), Stream::Events, &position).await?
    {
        return Ok(EventReader::open_after(context.log.clone(), &filter, &position).await?);
    }
    let since = context.clock.wall() - WAIT_MAX;
    Ok(EventReader::open(context.log.clone(), &filter, Start::StoredAt(since)).await?)
}
