//! A chain's state between two commits: what a record does to it, what a commit writes, what a snapshot holds.
//!
//! No log is read or written here.

use std::sync::{Arc, PoisonError};

use tokio::time::Instant;
use watchfold_folds::StateMachine;
use watchfold_log::{Append, LostRange, Position, Record};
use watchfold_schemas::event::Place;
use watchfold_schemas::snapshot::{
    FoldVersion, SNAPSHOT_VERSION, SnapshotManifest, SnapshotPosition, SnapshotState, StateEntry, StoredEvent,
};
use watchfold_schemas::{Body, Chain, Event, Observation, Span, Time};

use crate::checkpoints::Checkpoints;
use crate::crash::{CrashHook, CrashPoint};
use crate::error::RunnerError;
use crate::intake::{Intake, Taken, placed};
use crate::layout::{self, Changes, Derived, Facts, SnapshotClock};
use crate::options::{RunnerOptions, SNAPSHOT_OVERDUE_DISTANCES, SNAPSHOTS_PER_STREAM};
use crate::outbox::{Outbox, append, stored, told};
use crate::published::Published;
use crate::recover::{Recovered, set_aside};
use crate::snapshot::{Draft, SnapshotError};
use crate::stats::Counters;
use crate::store::StateStore;

/// What was read from the log.
pub(crate) enum Input {
    Record(Record),
    Lost(LostRange),
}

/// The clock as it will stand once a snapshot that is due now was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotDue {
    period: Option<Time>,
    bytes_read: u64,
}

pub(crate) struct ChainState {
    site: String,
    chain: Chain,
    store: Box<dyn StateStore>,
    fold: Box<dyn StateMachine>,
    intake: Intake,
    outbox: Outbox,
    /// The last input in the folds.
    position: Position,
    /// What an earlier life folded: until then a refold says nothing.
    committed: Option<Position>,
    checkpoints: Checkpoints,
    /// By an earlier run.
    published_before: Published,
    published: Option<Place>,
    snapshot: SnapshotClock,
    derived: Derived,
    /// One is on its way; it counts only once its manifest stands.
    underway: Option<SnapshotDue>,
    /// When this run took the last one, or began.
    snapshot_at: Instant,
    /// What the store holds; `None` until it holds what was recovered.
    facts: Option<Facts>,
    uncommitted: Uncommitted,
    limits: Limits,
    crash: CrashHook,
    counters: Arc<Counters>,
}

/// What has happened since the last commit.
#[derive(Default)]
struct Uncommitted {
    records: u64,
    since: Option<Instant>,
    event_since: Option<Instant>,
}

struct Limits {
    records: u64,
    outbox_events: usize,
    outbox_bytes: usize,
    idle_commit: std::time::Duration,
    snapshot_every: Span,
    /// Where snapshots go by the clocks of collectors: one that was far ahead once must not put them off for good.
    snapshot_overdue: Option<std::time::Duration>,
    snapshot_bytes: u64,
    snapshot_bytes_max: usize,
    /// The outbox was full at the last look.
    full: bool,
}

impl ChainState {
    pub(crate) fn new(
        site: &str,
        chain: Chain,
        store: Box<dyn StateStore>,
        fold: Box<dyn StateMachine>,
        recovered: Recovered,
        options: &RunnerOptions,
        counters: Arc<Counters>,
    ) -> ChainState {
        if let Some(reason) = &recovered.set_aside {
            tracing::warn!(
                site,
                chain = chain.token(),
                reason,
                "set the state aside; it is rebuilt"
            );
            counters.stores_set_aside.add(1);
            counters.rebuilds.add(1);
        } else if recovered.facts.is_none() {
            counters.rebuilds.add(1);
        }
        counters.store_in_memory.set(u64::from(recovered.in_memory));
        let mut uncommitted = Uncommitted::default();
        if recovered.facts.is_none() {
            uncommitted.since = Some(Instant::now());
        }
        let state = ChainState {
            site: site.to_owned(),
            chain,
            store,
            fold,
            intake: Intake::new(site, recovered.collectors),
            outbox: Outbox::restored(recovered.outbox),
            position: recovered.position,
            committed: recovered.committed,
            checkpoints: Checkpoints::new(options.checkpoint),
            published: recovered.published.until,
            published_before: recovered.published,
            snapshot: recovered.snapshot,
            derived: recovered.derived,
            underway: None,
            snapshot_at: Instant::now(),
            facts: recovered.facts,
            uncommitted,
            limits: Limits {
                records: options.uncommitted_records_max,
                outbox_events: options.outbox_events_max,
                outbox_bytes: options.outbox_bytes_max,
                idle_commit: options.idle_commit,
                snapshot_every: options.snapshot_every,
                snapshot_overdue: (chain == Chain::Packets && !options.snapshot_distance.is_zero())
                    .then(|| options.snapshot_distance * SNAPSHOT_OVERDUE_DISTANCES),
                snapshot_bytes: (options.stream_bytes_max / SNAPSHOTS_PER_STREAM).max(1),
                snapshot_bytes_max: options.snapshot_bytes_max,
                full: false,
            },
            crash: options.crash.clone(),
            counters,
        };
        state.show();
        state
    }

    pub(crate) fn site(&self) -> &str {
        &self.site
    }

    pub(crate) fn chain(&self) -> Chain {
        self.chain
    }

    /// The last sequence dealt with.
    pub(crate) fn position(&self) -> u64 {
        self.position.sequence
    }

    /// The last record folded, in a way that shows whether a log is the one that it was read from.
    pub(crate) fn place(&self) -> &Position {
        &self.position
    }

    /// What the folds lack to evaluate anything.
    pub(crate) fn lacks(&self) -> Option<&'static str> {
        self.fold.lacks()
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// What other chains are told before the first `events_max` events of the outbox are published, and those.
    pub(crate) fn to_publish(&self, events_max: usize) -> (Vec<Append>, Vec<Append>) {
        let events: Vec<&StoredEvent> = self.outbox.front(events_max).collect();
        let mut told_first = Vec::new();
        for event in &events {
            let Some(observation) = self.fold.told_before(event) else {
                continue;
            };
            match told(&observation) {
                Ok(message) => told_first.push(message),
                Err(error) => {
                    tracing::error!(site = self.site, id = event.id, %error, "another chain is not told of an event");
                    self.counters.events_refused.add(1);
                }
            }
        }
        (told_first, events.into_iter().map(append).collect())
    }

    /// Whether the outbox takes what the next input may emit.
    pub(crate) fn has_room(&self) -> bool {
        self.outbox.len() < self.limits.outbox_events && self.outbox.bytes() < self.limits.outbox_bytes
    }

    /// Whether nothing has to be done before the next input: a commit, a snapshot at exactly this position, or
    /// publishing.
    pub(crate) fn may_fold(&mut self, snapshot_wanted: bool) -> bool {
        let room = self.has_room();
        if !room && !self.limits.full {
            self.counters.outbox_full.add(1);
            tracing::warn!(
                site = self.site,
                events = self.outbox.len(),
                bytes = self.outbox.bytes(),
                "the outbox is full: no more input is folded until the log takes events"
            );
        }
        self.limits.full = !room;
        room && self.uncommitted.records < self.limits.records
            && !(snapshot_wanted && self.snapshot_due().is_some())
    }

    pub(crate) fn fold(&mut self, input: Input) {
        match input {
            Input::Lost(lost) => self.fold_lost(lost),
            Input::Record(record) => self.fold_record(record),
        }
        let now = Instant::now();
        self.uncommitted.records += 1;
        self.uncommitted.since.get_or_insert(now);
        self.show();
    }

    fn fold_lost(&mut self, lost: LostRange) {
        self.checkpoints.folded(0);
        let LostRange { from, to } = lost;
        tracing::warn!(
            site = self.site,
            chain = self.chain.token(),
            from,
            to,
            "the log no longer has these records"
        );
        self.counters.lost_records.add(to.saturating_sub(from) + 1);
        let events = self.fold.apply_lost(from, to);
        self.emit(placed(to, events));
        self.position.sequence = to;
        // No record stands there to be compared with.
        self.position.id.clear();
    }

    fn fold_record(&mut self, record: Record) {
        let Record { sequence, id, .. } = &record;
        let size_bytes = record.payload.len();
        self.checkpoints.folded(size_bytes);
        self.snapshot.bytes_read += (size_bytes + record.subject.len() + id.0.len()) as u64;
        match self.intake.take(&record) {
            Taken::Observation(observation) => {
                self.counters.records.add(1);
                let events = self.fold.apply(*sequence, &observation);
                self.emit(placed(*sequence, events));
                self.see_time(&observation);
            }
            Taken::Duplicate => self.counters.duplicates.add(1),
            Taken::Quarantined(error) => {
                tracing::warn!(
                    site = self.site,
                    sequence,
                    error,
                    "passed over a record that cannot be folded"
                );
                self.counters.quarantined.add(1);
            }
        }
        self.counters.collectors_evicted.set(self.intake.evicted);
        self.position.sequence = record.sequence;
        self.position.id = record.id.0;
    }

    fn emit(&mut self, events: Vec<Event>) {
        for event in events {
            self.counters.events.add(1);
            let id = || event.id.message_id().0;
            if event.place.input <= self.folded_before() || self.published_before.holds(event.place, id) {
                self.counters.events_silenced.add(1);
                continue;
            }
            match stored(&event) {
                Ok(event) => {
                    self.outbox.push(event);
                    self.uncommitted.event_since.get_or_insert_with(Instant::now);
                }
                Err(error) => {
                    let (id, kind) = (&event.id, event.body.kind());
                    tracing::error!(site = self.site, %id, kind, %error, "dropped an event that cannot be encoded");
                    self.counters.events_refused.add(1);
                }
            }
        }
    }

    /// The last input of an earlier life, whose events are in the log or in the outbox.
    fn folded_before(&self) -> u64 {
        self.committed.as_ref().map_or(0, |committed| committed.sequence)
    }

    /// The time that snapshots go by: ticks, or where there are none, what the collectors' clocks say.
    fn see_time(&mut self, observation: &Observation) {
        let now = match (&observation.body, self.chain) {
            (Body::Tick(tick), _) => tick.now,
            (_, Chain::Packets) => observation.observed_at,
            (_, Chain::Site) => return,
        };
        self.snapshot.tick = self.snapshot.tick.max(now);
        if self.snapshot.period.is_none() {
            self.snapshot.period = Some(self.current_period());
        }
    }

    fn current_period(&self) -> Time {
        self.snapshot.tick.floor(self.limits.snapshot_every)
    }

    /// Never during a refold up to what was published: such a snapshot would only repeat older ones.
    pub(crate) fn snapshot_due(&self) -> Option<SnapshotDue> {
        let published = self.published_before.until.map_or(0, |mark| mark.input);
        if self.position.sequence < published.max(self.folded_before()) {
            return None;
        }
        let (taken_period, taken_bytes) = match self.underway {
            Some(underway) => (underway.period, underway.bytes_read),
            None => (self.snapshot.period, 0),
        };
        let bytes_read = self.snapshot.bytes_read;
        let by_time = taken_period.is_some_and(|period| period < self.current_period());
        let by_size = bytes_read - taken_bytes >= self.limits.snapshot_bytes;
        let is_overdue = |after| self.snapshot_at.elapsed() >= after;
        let by_age =
            self.underway.is_none() && bytes_read > 0 && self.limits.snapshot_overdue.is_some_and(is_overdue);
        let period = taken_period.map(|_| self.current_period());
        (by_time || by_size || by_age).then_some(SnapshotDue { period, bytes_read })
    }

    pub(crate) fn snapshot_begun(&mut self, due: SnapshotDue) {
        self.underway = Some(due);
    }

    /// `None` when it could not be written.
    pub(crate) fn snapshot_ended(&mut self, manifest: Option<u64>) {
        let (Some(taken), Some(manifest)) = (self.underway.take(), manifest) else {
            return;
        };
        self.snapshot_at = Instant::now();
        self.snapshot.period = taken.period;
        self.snapshot.bytes_read -= taken.bytes_read;
        self.snapshot.manifest = Some(manifest);
        self.uncommitted.since.get_or_insert_with(Instant::now);
    }

    pub(crate) fn event_waiting_since(&self) -> Option<Instant> {
        self.uncommitted.event_since
    }

    pub(crate) fn is_uncommitted(&self) -> bool {
        self.uncommitted.since.is_some()
    }

    /// When the next commit is due at the latest.
    pub(crate) fn commit_at(&self) -> Option<Instant> {
        self.uncommitted
            .since
            .map(|since| since + self.limits.idle_commit)
    }

    pub(crate) fn commit_due(&self, snapshot_wanted: bool) -> bool {
        let late = self.commit_at().is_some_and(|at| Instant::now() >= at);
        let wanted = self.uncommitted.event_since.is_some()
            || self.facts.is_none()
            || self.uncommitted.records >= self.limits.records
            || (snapshot_wanted && self.snapshot_due().is_some());
        late || (wanted && self.is_uncommitted())
    }

    /// The first `count` events of the outbox are in the log.
    pub(crate) fn acknowledged(&mut self, count: usize) {
        self.published = self.published.max(self.outbox.remove_front(count));
        self.uncommitted.since.get_or_insert_with(Instant::now);
        self.show();
    }

    /// Writes state, outbox and position in one batch and makes them durable. A store that fails is set aside and
    /// written anew; one that fails again is replaced by memory. So a commit always succeeds, or the process ends.
    pub(crate) fn commit(&mut self) -> Result<(), RunnerError> {
        if !self.is_uncommitted() {
            return Ok(());
        }
        self.crash_at(CrashPoint::BeforeCommit)?;
        let facts = match self.try_commit() {
            Ok(facts) => facts,
            Err(RunnerError::Store(error)) => {
                tracing::error!(site = self.site, %error, "the store failed; setting it aside and writing it anew");
                self.replace_store()?
            }
            Err(error) => return Err(error),
        };
        if facts.entries_at().sequence == self.position.sequence {
            self.counters.checkpoints.add(1);
            self.checkpoints.taken();
        }
        self.facts = Some(facts);
        self.outbox.mark_committed();
        self.uncommitted = Uncommitted::default();
        self.counters.commits.add(1);
        self.crash_at(CrashPoint::AfterCommit)
    }

    /// The state goes into the store with the next commit, and there is one.
    pub(crate) fn want_checkpoint(&mut self) {
        if self.checkpoints.want() {
            self.uncommitted.since.get_or_insert_with(Instant::now);
        }
    }

    fn try_commit(&mut self) -> Result<Facts, RunnerError> {
        match self.facts.as_ref().map(|facts| facts.entries_at().clone()) {
            None => {
                let changes = self.everything()?;
                self.write(changes, self.position.clone())
            }
            Some(entries_at) if !self.checkpoints.is_due() => {
                let changes = self.changes_of_outbox()?;
                self.write(changes, entries_at)
            }
            Some(_) => {
                let changes = self.changes()?;
                self.write(changes, self.position.clone())
            }
        }
    }

    fn replace_store(&mut self) -> Result<Facts, RunnerError> {
        self.counters.stores_set_aside.add(1);
        self.facts = None;
        if set_aside(&mut self.store) {
            self.counters.store_in_memory.set(1);
        }
        let changes = self.everything()?;
        match self.write(changes, self.position.clone()) {
            Err(RunnerError::Store(error)) => {
                tracing::error!(%error, "the state cannot be kept on disk; it is kept in memory until the next start");
                self.counters.store_in_memory.set(1);
                self.store = Box::new(crate::memory_store::MemoryStore::new());
                let changes = self.everything()?;
                self.write(changes, self.position.clone())
            }
            other => other,
        }
    }

    fn write(&mut self, changes: Changes, entries_at: Position) -> Result<Facts, RunnerError> {
        // While it folds again what an earlier life had folded, it has not fallen behind that.
        let position = match &self.committed {
            Some(committed) if committed.sequence > self.position.sequence => committed.clone(),
            _ => self.position.clone(),
        };
        let (chain, versions) = ((self.site.as_str(), self.chain), self.fold.versions());
        let mut facts = layout::facts(
            chain,
            position,
            entries_at,
            versions,
            self.published,
            self.snapshot,
        );
        facts.derived = Some(self.derived.clone());
        facts.continue_from(self.facts.as_ref());
        layout::apply(self.store.as_mut(), changes, &mut facts)?;
        self.crash_at(CrashPoint::BeforeSync)?;
        self.store.sync()?;
        Ok(facts)
    }

    /// What differs from the last checkpoint and the last commit.
    fn changes(&mut self) -> Result<Changes, RunnerError> {
        let mut changes = self.changes_of_outbox()?;
        for (key, value) in self.fold.drain_dirty() {
            changes.entry(&key, value);
        }
        for (name, entry) in self.intake.drain_changed() {
            changes.collector(&name, entry.as_ref())?;
        }
        Ok(changes)
    }

    /// What differs from the last commit in what is to be published.
    fn changes_of_outbox(&self) -> Result<Changes, RunnerError> {
        let mut changes = Changes::default();
        for place in self.outbox.removed() {
            changes.event_removed(*place);
        }
        for event in self.outbox.uncommitted() {
            changes.event(event)?;
        }
        Ok(changes)
    }

    /// All of it, for a store that holds something else or nothing.
    fn everything(&mut self) -> Result<Changes, RunnerError> {
        // These are part of what follows.
        drop(self.fold.drain_dirty());
        drop(self.intake.drain_changed());
        let mut changes = Changes::replacing_all();
        for (key, value) in self.fold.entries() {
            changes.entry(&key, Some(value));
        }
        for entry in self.intake.collectors() {
            changes.collector(&entry.collector, Some(entry))?;
        }
        for event in self.outbox.iter() {
            changes.event(event)?;
        }
        Ok(changes)
    }

    /// The state as it is, to be written as a snapshot. Only right after a commit.
    pub(crate) fn draft(&self) -> Result<Draft, SnapshotError> {
        let Position { log_id, sequence, id } = self.position.clone();
        let entries = self
            .fold
            .entries()
            .into_iter()
            .map(|(key, value)| StateEntry { key, value })
            .collect();
        let state = SnapshotState {
            v: SNAPSHOT_VERSION,
            entries,
            outbox: self.outbox.iter().cloned().collect(),
            collectors: self.intake.collectors().cloned().collect(),
        };
        let versions = self
            .fold
            .versions()
            .into_iter()
            .map(|(fold, version)| FoldVersion { fold, version });
        let manifest = SnapshotManifest {
            site: self.site.clone(),
            chain: self.chain,
            position: SnapshotPosition { log_id, sequence, id },
            published: self.published,
            versions: versions.collect(),
            at: self.snapshot.tick,
            chunk_sequences: Vec::new(),
            bytes: 0,
            crc32c: 0,
            previous: self.snapshot.manifest,
        };
        Draft::new(manifest, &state, self.limits.snapshot_bytes_max)
    }

    fn crash_at(&self, point: CrashPoint) -> Result<(), RunnerError> {
        if self.crash.reached(point) {
            Err(RunnerError::Crashed(point))
        } else {
            Ok(())
        }
    }

    fn show(&self) {
        self.counters.position.set(self.position.sequence);
        self.counters.outbox.set(self.outbox.len() as u64);
        let waiting = self
            .outbox
            .iter()
            .next()
            .map(|event| event.place.input.saturating_sub(1));
        let settled = waiting.map_or(self.position.sequence, |waiting| {
            waiting.min(self.position.sequence)
        });
        self.counters.settled.set(settled);
        self.counters.foreign.set(self.derived.foreign);
        let counters = self.fold.counts();
        *self.counters.fold.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
}
