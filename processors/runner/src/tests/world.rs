//! What the tests share: a fold, observations to feed it, a log and a store that outlive a runner, and the check.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_folds::{LoadError, StateEntries, StateMachine};
use watchfold_kit::Progress;
use watchfold_log::memory::MemoryLog;
use watchfold_log::{Append, MessageLog, Start};
use watchfold_schemas::event::{Causes, EVENT_VERSION, EventBody, OccupancySnapshot, Place, SubjectDegraded};
use watchfold_schemas::observation::{OBSERVATION_VERSION, Tick};
use watchfold_schemas::origin::Cause;
use watchfold_schemas::snapshot::StoredEvent;
use watchfold_schemas::{
    Body, Chain, Event, EventId, Observation, Origin, Span, Stream, Time, decode_event, encode_observation,
    subjects,
};

use crate::{ChainRunner, MemoryStore, RunnerError, RunnerOptions, RunnerStats, StateStore, fold_all};

pub(super) const SITE: &str = "cafe";

/// Longest virtual time that a chain may take to catch up.
const PATIENCE: Duration = Duration::from_secs(900);

/// Counts observations. Every third one and every fifth tick (twice) make events that hold the count.
#[derive(Clone, Default)]
pub(super) struct CountingFold {
    /// 1 and 2 know the same; 2 keeps the total under another name. 3 emits other events and takes nothing over.
    pub(super) version: u32,
    chain: Option<Chain>,
    total: u64,
    ticks: u64,
    lost: u64,
    by_collector: BTreeMap<String, u64>,
    dirty: BTreeSet<String>,
}

impl CountingFold {
    pub(super) fn version(version: u32) -> CountingFold {
        CountingFold {
            version,
            ..CountingFold::default()
        }
    }

    /// The same as another chain, which tells the site chain of some of its events.
    pub(super) fn of(chain: Chain) -> CountingFold {
        CountingFold {
            chain: Some(chain),
            ..CountingFold::version(1)
        }
    }

    fn chain(&self) -> Chain {
        self.chain.unwrap_or(Chain::Site)
    }

    fn total_key(version: u32) -> &'static str {
        if version == 1 { "total" } else { "count" }
    }

    fn entry(&self, key: &str) -> Option<u64> {
        match key {
            "ticks" => Some(self.ticks),
            "lost" => Some(self.lost),
            key if key == CountingFold::total_key(self.version) => Some(self.total),
            key => self.by_collector.get(key.strip_prefix("collector/")?).copied(),
        }
    }

    fn keys(&self) -> Vec<String> {
        let fixed = ["ticks", "lost", CountingFold::total_key(self.version)].map(str::to_owned);
        fixed
            .into_iter()
            .chain(self.by_collector.keys().map(|name| format!("collector/{name}")))
            .collect()
    }

    fn event(&self, observation: &Observation, cause: Cause, n: u32, body: EventBody) -> Event {
        let key = match self.version {
            3 => format!("{}-v3", observation.origin.collector),
            _ => observation.origin.collector.clone(),
        };
        Event {
            v: EVENT_VERSION,
            id: EventId::derive(SITE, self.chain(), body.kind(), &key, &cause, n),
            site: SITE.into(),
            chain: self.chain(),
            at: observation.observed_at,
            key,
            cause,
            n,
            place: Place::default(),
            causes: Causes::default(),
            body,
        }
    }
}

impl StateMachine for CountingFold {
    fn versions(&self) -> Vec<(String, u32)> {
        vec![("counting".into(), self.version)]
    }

    fn apply_lost(&mut self, from: u64, to: u64) -> Vec<Event> {
        self.lost += to - from + 1;
        self.dirty.insert("lost".into());
        Vec::new()
    }

    fn apply(&mut self, _sequence: u64, observation: &Observation) -> Vec<Event> {
        let collector = &observation.origin.collector;
        self.total += 1;
        *self.by_collector.entry(collector.clone()).or_default() += 1;
        self.dirty.insert(CountingFold::total_key(self.version).into());
        self.dirty.insert(format!("collector/{collector}"));
        let mut events = Vec::new();
        if self.total.is_multiple_of(3) {
            let down = vec![
                self.total.to_string(),
                self.by_collector[collector].to_string(),
                self.lost.to_string(),
            ];
            let body = SubjectDegraded {
                subject: collector.clone(),
                addresses_down: down,
                since: observation.observed_at,
            };
            let cause = Cause::Message(observation.origin.message_id());
            events.push(self.event(observation, cause, 0, EventBody::SubjectDegraded(body)));
        }
        if let Body::Tick(tick) = &observation.body {
            self.ticks += 1;
            self.dirty.insert("ticks".into());
            for n in 0..if self.ticks.is_multiple_of(5) { 2 } else { 0 } {
                let cause = Cause::Timer {
                    timer: "five".into(),
                    deadline: tick.now,
                };
                let (current, total) = (self.total as u32, self.ticks as u32);
                let body = OccupancySnapshot {
                    at: tick.now,
                    current,
                    total,
                    percent: n,
                    frozen: false,
                };
                events.push(self.event(observation, cause, n, EventBody::OccupancySnapshot(body)));
            }
        }
        events
    }

    fn drain_dirty(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let value = |key: &str| self.entry(key).map(|value| value.to_le_bytes().to_vec());
        dirty
            .into_iter()
            .map(|key| (key.clone().into_bytes(), value(&key)))
            .collect()
    }

    fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let value = |key: &str| self.entry(key).unwrap_or_default().to_le_bytes().to_vec();
        self.keys()
            .into_iter()
            .map(|key| (key.clone().into_bytes(), value(&key)))
            .collect()
    }

    fn load(&mut self, versions: &[(String, u32)], entries: StateEntries) -> Result<(), LoadError> {
        self.reset();
        let damaged = |reason: &str| LoadError::Damaged(reason.to_owned());
        let [(_, before)] = versions else {
            return Err(damaged("another chain"));
        };
        if *before != self.version && (self.version == 3 || *before > self.version) {
            let reason = format!("counts of version {before} mean something else");
            return Err(damaged(&reason));
        }
        for (key, value) in entries {
            let key = String::from_utf8(key).map_err(|error| damaged(&error.to_string()))?;
            let value = u64::from_le_bytes(value.try_into().map_err(|_| damaged("not a count"))?);
            match key.as_str() {
                "ticks" => self.ticks = value,
                "lost" => self.lost = value,
                key if key == CountingFold::total_key(*before) => self.total = value,
                key => {
                    let name = key
                        .strip_prefix("collector/")
                        .ok_or_else(|| LoadError::UnknownEntry { key: key.to_owned() })?;
                    self.by_collector.insert(name.into(), value);
                }
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        *self = CountingFold {
            chain: self.chain,
            ..CountingFold::version(self.version)
        };
    }

    fn told_before(&self, event: &StoredEvent) -> Option<Observation> {
        let tells = self.chain == Some(Chain::Packets) && event.subject.contains(".subject_degraded.");
        tells.then(|| told(event.place))
    }
}

/// What the site chain is told because of an event at this place.
pub(super) fn told(place: Place) -> Observation {
    observation(
        "packets",
        1,
        place.input << 20 | u64::from(place.index),
        Body::Quiet,
    )
}

/// Small, seeded, and the same everywhere.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// How many seeds a seeded test runs: a sample, or as many as `WATCHFOLD_SEEDS` says.
pub(super) fn seeds(sample: u64) -> std::ops::Range<u64> {
    let wanted = std::env::var("WATCHFOLD_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok());
    0..wanted.unwrap_or(sample)
}

pub(super) fn observation(collector: &str, incarnation: u64, number: u64, body: Body) -> Observation {
    let at = Time::from_seconds(1_700_000_000) + Span::from_seconds(number as i64);
    Observation {
        v: OBSERVATION_VERSION,
        origin: Origin {
            site: SITE.into(),
            collector: collector.into(),
            incarnation,
            number,
        },
        observed_at: at,
        through: at,
        body,
    }
}

pub(super) fn message(observation: &Observation) -> Append {
    message_in(Stream::Observations, observation)
}

pub(super) fn message_in(stream: Stream, observation: &Observation) -> Append {
    Append {
        stream,
        subject: subjects::of_observation(
            stream,
            SITE,
            observation.body.kind(),
            &observation.origin.collector,
        ),
        id: observation.origin.message_id(),
        payload: encode_observation(observation).unwrap().into(),
    }
}

/// A tick a minute from the clock, and records of three collectors between them.
pub(super) fn inputs(count: u64, seed: u64) -> Vec<Append> {
    inputs_in(Stream::Observations, count, seed)
}

/// The same in another stream.
pub(super) fn inputs_in(stream: Stream, count: u64, seed: u64) -> Vec<Append> {
    let mut rng = Rng::new(seed);
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    let mut now = Time::from_seconds(1_700_000_000);
    (0..count)
        .map(|_| {
            let collector = ["clock", "ping", "screen", "ping2"][rng.below(4) as usize];
            let number = numbers.entry(collector).or_default();
            *number += 1;
            let body = if collector == "clock" {
                now = now + Span::from_seconds(60);
                Body::Tick(Tick {
                    now,
                    interval_ms: 60_000,
                })
            } else {
                Body::Quiet
            };
            message_in(stream, &observation(collector, 1, *number, body))
        })
        .collect()
}

/// A log and a store that outlive runners.
pub(super) struct World {
    pub(super) log: Arc<MemoryLog>,
    pub(super) store: MemoryStore,
    pub(super) options: RunnerOptions,
    pub(super) chain: Chain,
}

impl World {
    pub(super) fn new() -> World {
        World::of(Chain::Site, MemoryLog::new())
    }

    pub(super) fn of(chain: Chain, log: Arc<MemoryLog>) -> World {
        World {
            log,
            store: MemoryStore::new(),
            options: RunnerOptions::for_chain(chain),
            chain,
        }
    }

    /// What the chain reads.
    pub(super) fn stream(&self) -> Stream {
        match self.chain {
            Chain::Site => Stream::Observations,
            Chain::Packets => Stream::Packets,
        }
    }

    pub(super) async fn feed(&self, messages: &[Append]) {
        if !messages.is_empty() {
            self.log.append(messages.to_vec()).await.unwrap();
        }
    }

    pub(super) async fn open(&self, fold: impl StateMachine) -> ChainRunner {
        self.open_with(Box::new(self.store.clone()), fold).await.unwrap()
    }

    pub(super) async fn open_with(
        &self,
        store: Box<dyn StateStore>,
        fold: impl StateMachine,
    ) -> Result<ChainRunner, RunnerError> {
        let progress = Progress::new("chain");
        let (log, options) = (self.log.clone(), self.options.clone());
        ChainRunner::open_in(log, store, SITE, self.chain, Box::new(fold), progress, options).await
    }

    /// Runs the chain until it has dealt with everything and stands still, then stops it.
    pub(super) async fn settle(&self, fold: impl StateMachine) -> RunnerStats {
        self.settle_runner(self.open(fold).await).await.unwrap()
    }

    pub(super) async fn settle_runner(&self, runner: ChainRunner) -> Result<RunnerStats, RunnerError> {
        let stats = runner.stats();
        let cancel = CancellationToken::new();
        let driving = runner.drive(cancel.clone());
        let watching = async {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let last = self.log.info(self.stream()).await.unwrap().last_sequence;
                let seen = stats.snapshot();
                if seen.position == last && seen.outbox == 0 {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "the chain does not catch up with {last}: {seen:?}"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Virtual time: room for the last commit and a snapshot.
            tokio::time::sleep(Duration::from_secs(3)).await;
            cancel.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = driving => result.map(|()| stats.snapshot()),
            () = watching => unreachable!("it only ends with the runner"),
        }
    }

    pub(super) fn published(&self) -> Vec<Event> {
        self.log
            .records(Stream::Events)
            .iter()
            .map(|record| decode_event(&record.payload).unwrap())
            .collect()
    }

    /// What an uninterrupted run makes of the log as it is.
    pub(super) async fn expected(&self, mut fold: impl StateMachine) -> Vec<Event> {
        let filter = subjects::site_filter(self.stream(), SITE);
        let mut reader = self
            .log
            .reader(self.stream(), &filter, Start::First)
            .await
            .unwrap();
        fold_all(reader.as_mut(), SITE, &mut fold).await.unwrap().events
    }

    /// No event lost, none twice, the same order and content.
    pub(super) async fn check(&self, fold: impl StateMachine, context: &str) {
        assert_same(&self.published(), &self.expected(fold).await, context);
    }
}

pub(super) fn assert_same(got: &[Event], want: &[Event], context: &str) {
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got, want, "{context}: event {index}");
    }
    assert_eq!(got.len(), want.len(), "{context}: number of events");
}
