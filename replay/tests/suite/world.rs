//! A log in a directory, as a site's collectors and its chain would have written it, and replays of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use watchfold_folds::{SiteChain, StateMachine};
use watchfold_log::{Append, Embedded, MessageLog, Options, StreamOptions, default_stream_options};
use watchfold_replay::digest::Digests;
use watchfold_replay::{
    Engine, Input, Inputs, Outcomes, RecordOptions, Recorded, RecordedEvents, Selection, Step, Under, record,
};
use watchfold_schemas::subjects;
use watchfold_schemas::{Event, Observation, Stream, Time, encode_event, encode_observation};
use watchfold_tests::story::{Story, instant, observations, parse};

/// Observations of one append: enough that a story is written in a few dozen syncs.
const RECORDS_AT_ONCE: usize = 40;

pub struct World {
    pub directory: tempfile::TempDir,
    pub story: Story,
    pub observations: Vec<Observation>,
    /// What live derived.
    pub events: Vec<Event>,
}

impl World {
    pub fn new(text: &str) -> World {
        World::of(parse(text).unwrap())
    }

    pub fn of(story: Story) -> World {
        World::with_options(story, default_stream_options(Stream::Observations))
    }

    /// With other limits of the stream of observations.
    pub fn with_options(story: Story, options: StreamOptions) -> World {
        let observations = observations(&story);
        let directory = tempfile::tempdir().unwrap();
        let events = write_with(&directory.path().join("log"), &observations, options);
        World {
            directory,
            story,
            observations,
            events,
        }
    }

    pub fn data(&self) -> &Path {
        self.directory.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn record(&self, name: &str, selection: Selection) -> Recorded {
        record_as(self.data(), &self.file(name), selection)
    }
}

pub fn record_as(input: &Path, out: &Path, selection: Selection) -> Recorded {
    let options = RecordOptions {
        selection,
        out: out.to_owned(),
        software: "0.1.0".to_owned(),
        ..RecordOptions::default()
    };
    record(input, &options).unwrap()
}

/// Writes observations and the events that live derives of them; returns these.
pub fn write(log: &Path, observations: &[Observation]) -> Vec<Event> {
    write_with(log, observations, default_stream_options(Stream::Observations))
}

fn write_with(log: &Path, observations: &[Observation], limits: StreamOptions) -> Vec<Event> {
    let mut log = GrowingLog::open(log, limits);
    let mut events = Vec::new();
    for batch in observations.chunks(RECORDS_AT_ONCE) {
        events.extend(log.append(batch));
    }
    log.log.close();
    events
}

/// A log that a site's collectors and its chain write to, piece by piece.
pub struct GrowingLog {
    log: std::sync::Arc<Embedded>,
    now: Arc<AtomicI64>,
    runtime: tokio::runtime::Runtime,
    chains: std::collections::BTreeMap<String, SiteChain>,
    sequence: u64,
}

impl GrowingLog {
    pub fn open(log: &Path, limits: StreamOptions) -> GrowingLog {
        let now = Arc::new(AtomicI64::new(0));
        let clock = now.clone();
        let options = Options {
            clock: Arc::new(move || Time(clock.load(Ordering::SeqCst))),
            streams: [(Stream::Observations, limits)].into(),
        };
        GrowingLog {
            log: Embedded::open(log, options).unwrap(),
            now,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            chains: Default::default(),
            sequence: 0,
        }
    }

    /// Observations, and what follows from them; returns that.
    pub fn append(&mut self, batch: &[Observation]) -> Vec<Event> {
        let events = self.observe(batch);
        self.tell(&events);
        events
    }

    /// Observations alone; what follows from them is for [`GrowingLog::tell`].
    pub fn observe(&mut self, batch: &[Observation]) -> Vec<Event> {
        // What was late is stored when it came; the clock of a log does not fall.
        let latest = batch.iter().map(|observation| observation.observed_at.0).max();
        self.now.fetch_max(latest.unwrap(), Ordering::SeqCst);
        let appends = batch.iter().map(|observation| {
            let (site, collector) = (&observation.origin.site, &observation.origin.collector);
            Append {
                stream: Stream::Observations,
                subject: subjects::observation(site, observation.body.kind(), collector),
                id: observation.origin.message_id(),
                payload: encode_observation(observation).unwrap().into(),
            }
        });
        self.runtime.block_on(self.log.append(appends.collect())).unwrap();
        let mut derived = Vec::new();
        for observation in batch {
            self.sequence += 1;
            let site = &observation.origin.site;
            let chain = self
                .chains
                .entry(site.clone())
                .or_insert_with(|| SiteChain::new(site));
            derived.extend(chain.apply(self.sequence, observation));
        }
        derived
    }

    pub fn tell(&mut self, events: &[Event]) {
        let appends = events.iter().map(|event| Append {
            stream: Stream::Events,
            subject: subjects::event(&event.site, event.chain, event.body.kind(), &event.key),
            id: event.id.message_id(),
            payload: encode_event(event).unwrap().into(),
        });
        let appends: Vec<Append> = appends.collect();
        if !appends.is_empty() {
            self.runtime.block_on(self.log.append(appends)).unwrap();
        }
    }
}

/// What a replay gave.
#[derive(Clone, Debug)]
pub struct Replayed {
    pub events: Vec<Event>,
    pub recorded: Vec<Event>,
    pub outcomes: Outcomes,
    pub digests: Vec<(String, String, u64)>,
    pub engine_counters: watchfold_replay::Counters,
    pub warm_ups: usize,
    pub still_open: Vec<watchfold_replay::StillOpen>,
    pub problems: Vec<String>,
}

pub fn replay(path: &Path, selection: Selection, under: Under) -> Replayed {
    let selection = Selection {
        with_events: true,
        ..selection
    };
    let mut input = Input::open(path, &selection).unwrap();
    let mut engine = Engine::new(under);
    if let Some(header) = input.header() {
        engine = engine.with_header(header);
    }
    let mut replayed = fold(engine, || input.next_step().unwrap());
    replayed.problems = input.problems().to_vec();
    replayed
}

/// Several inputs as one.
pub fn replay_all(paths: &[PathBuf], selection: Selection, under: Under) -> Replayed {
    let selection = Selection {
        with_events: true,
        ..selection
    };
    let mut inputs = Inputs::open(paths, &selection).unwrap();
    let mut replayed = fold(Engine::new(under), || inputs.next_step().unwrap());
    replayed.problems = inputs.problems();
    replayed
}

/// Folds steps as the command does.
pub fn fold(mut engine: Engine, mut next: impl FnMut() -> Option<Step>) -> Replayed {
    let mut recorded_events = RecordedEvents::default();
    let (mut events, mut recorded) = (Vec::new(), Vec::new());
    while let Some(step) = next() {
        recorded.extend(recorded_events.take(&step));
        events.extend(engine.take(&step));
    }
    events.extend(engine.finish());
    let (mut outcomes, mut digests) = (Outcomes::default(), Digests::default());
    for event in &events {
        outcomes.add(event).unwrap();
        digests.add(event).unwrap();
    }
    Replayed {
        events,
        recorded,
        outcomes,
        digests: digests.finish(),
        engine_counters: engine.counters(),
        warm_ups: engine.warm_ups().len(),
        still_open: engine.still_open(),
        problems: Vec::new(),
    }
}

pub fn everything() -> Selection {
    Selection::default()
}

/// Seconds into the story, both ends optional.
pub fn span(from: Option<f64>, to: Option<f64>) -> Selection {
    Selection {
        from: from.map(instant),
        to: to.map(instant),
        ..Selection::default()
    }
}
