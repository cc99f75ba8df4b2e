//! `watchfold replay --dashboard`: what is replayed, alive on the page. Observations and the events that follow from them go into a log that
//! nobody else has, and the page reads it as it reads any other; nothing can be done there, and nothing is left behind.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use watchfold_dashboard::{Dashboard, DashboardOptions};
use watchfold_kit::Progress;
use watchfold_log::{Append, Embedded, MessageLog};
use watchfold_replay::recording::{RecordStream, StoredRecord};
use watchfold_replay::{Engine, Made, ReplayError, Step, Under};
use watchfold_schemas::observation::{Activation, OBSERVATION_VERSION};
use watchfold_schemas::subjects::{self, kind_of_observation};
use watchfold_schemas::{
    Body, Event, EventBody, MessageId, Observation, Origin, Span, Stream, Time, encode_event,
    encode_observation,
};

use super::TROUBLE;
use super::pace::Pace;
use super::source::{Side, Source};
use crate::cli::ReplayArgs;
use crate::explain::explainer;
use crate::open_page::{self, LogLimits};
use crate::paths::Data;
use watchfold_kit::errln;
use watchfold_kit::signals::listen_for_signals;

/// What the copy may take of the disk; of more the page keeps what came last.
const LOG_LIMITS: LogLimits = LogLimits {
    observations_bytes_max: 2 * 1024 * 1024 * 1024,
    packets_bytes_max: 1024 * 1024 * 1024,
    other_bytes_max: 256 * 1024 * 1024,
};

/// The page has something to look back on: this much before the span comes along, as fast as it goes.
const LOOK_BACK: Span = Span::from_seconds(24 * 3_600);

/// Records in one append: some hundred KB.
const APPEND_RECORDS: usize = 1_024;

/// How far the copy may be ahead of the page.
const AHEAD_RECORDS: u64 = 8_192;

/// How often it looks whether the page has caught up, and how long it waits for that at most.
const PAGE_POLL: Duration = Duration::from_millis(5);
const PAGE_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long the states that stand at the beginning are learnt from what is measured: the slowest probes come every few minutes.
const ACQUAINTANCE: Span = Span::from_seconds(10 * 60);

/// Everything has ended by then, or is left behind.
const DRAIN: Duration = Duration::from_secs(5);

/// Replays onto the page, and keeps it open until Ctrl-C.
pub fn show(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let from = args.span.from.map(|from| from - LOOK_BACK);
    let source = Source::open(args, from, false)?;
    let site = the_site(args, &source)?;
    let mut side = source.side(args.config.as_deref(), args.rules.as_deref())?;
    side.engine = side.engine.keeping_made();
    open_page::in_passing("replay", async |data| {
        serve(args, &data, site, source, side).await
    })
}

/// A page is of one site.
fn the_site(args: &ReplayArgs, source: &Source) -> anyhow::Result<String> {
    let known = source.known_sites()?;
    if let Some(site) = &args.span.site {
        let site = site.clone();
        if !known.contains(&site) {
            return Err(ReplayError::NoSuchSite { site, known }.into());
        }
        return Ok(site);
    }
    match &known[..] {
        [site] => Ok(site.clone()),
        [] => bail!("there is no observation of any site in it"),
        known => bail!(
            "the page shows one site: choose it with --site, of {}",
            known.join(", ")
        ),
    }
}

async fn serve(
    args: &ReplayArgs,
    data: &Data,
    site: String,
    source: Source,
    side: Side,
) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    listen_for_signals(stop.clone()).context("failed to listen for signals")?;
    let now = Arc::new(AtomicI64::new(0));
    // The log stamps what it stores with the time of what is replayed.
    let clock = now.clone();
    let clock = Arc::new(move || Time(clock.load(Ordering::Relaxed)));
    let log = open_page::open_log(data, &LOG_LIMITS, clock).await?;
    let (page, copy) = (Progress::new("dashboard"), Progress::new("replay"));
    let options = |listen: SocketAddr| DashboardOptions {
        log: log.clone(),
        site: site.clone(),
        listen,
        access: Default::default(),
        data_dir: data.path().to_owned(),
        operator: None,
        explain: Some(explainer(data, &site)),
        packets: None,
        figures: Arc::new(|_| ()),
        stages: {
            let stages = [copy.clone(), page.clone()];
            Arc::new(move || stages.iter().map(|progress| progress.snapshot()).collect())
        },
        progress: page.clone(),
        software: format!("watchfold {} replay", env!("CARGO_PKG_VERSION")),
    };
    let dashboard = open_page::bind(args.listen, options).await?;
    let (link, address) = (dashboard.link(), dashboard.address());
    let cancel = CancellationToken::new();
    let mut running = tokio::spawn(run(dashboard, cancel.clone()));
    let stage = Stage {
        log: log.clone(),
        site,
        now,
        page,
        copy,
        stop: stop.clone(),
        is_given: args.config.is_some(),
        are_rules_given: args.rules.is_some(),
        batch: Vec::new(),
        appended: 0,
        newcomer: None,
        has_begun: false,
    };
    open_page::announce(data, "replaying", &link, &address)?;
    let replaying = stage.replay(source, side, Pace::new(args.speed), args.span.from);
    let outcome = tokio::select! {
        outcome = replaying => outcome,
        ended = &mut running => Err(page_failed(ended)),
    };
    if outcome.is_ok() && !stop.is_cancelled() {
        errln!("that was all; the page stays until Ctrl-C");
        tokio::select! {
            () = stop.cancelled() => {}
            ended = &mut running => return Err(page_failed(ended)),
        }
    }
    cancel.cancel();
    if !running.is_finished() && tokio::time::timeout(DRAIN, &mut running).await.is_err() {
        tracing::warn!(seconds = DRAIN.as_secs(), "the page did not end in time");
    }
    log.close();
    outcome
}

async fn run(dashboard: Dashboard, cancel: CancellationToken) -> anyhow::Result<()> {
    Ok(dashboard.run(cancel).await?)
}

fn page_failed(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Err(error)) => error.context("the page stopped"),
        Ok(Ok(())) => anyhow::anyhow!("the page stopped"),
        Err(error) => anyhow::anyhow!("the page stopped: {error}"),
    }
}

/// Where it is replayed for the page to see.
struct Stage {
    log: Arc<Embedded>,
    site: String,
    now: Arc<AtomicI64>,
    page: Arc<Progress>,
    copy: Arc<Progress>,
    stop: CancellationToken,
    /// Whether another configuration is in force than those recorded.
    is_given: bool,
    /// Whether other rules are, and find again.
    are_rules_given: bool,
    batch: Vec<Append>,
    appended: u64,
    newcomer: Option<Newcomer>,
    has_begun: bool,
}

impl Stage {
    /// Until the end, or until it is stopped.
    async fn replay(
        mut self,
        mut source: Source,
        mut side: Side,
        mut pace: Pace,
        from: Option<Time>,
    ) -> anyhow::Result<ExitCode> {
        while let Some(step) = source.next(&side)? {
            let is_history = matches!(&step, Step::Record { record, .. } if from.is_some_and(|from| record.stored_at < from));
            while !is_history && let Some(wait) = pace.wait(&step) {
                self.hand_over().await?;
                source.show_progress_when_due(&side);
                tokio::select! {
                    () = self.stop.cancelled() => return Ok(ExitCode::SUCCESS),
                    () = sleep(wait) => {}
                }
            }
            if self.stop.is_cancelled() {
                return Ok(ExitCode::SUCCESS);
            }
            let events = side.engine.take(&step);
            events.iter().try_for_each(|event| side.note(event))?;
            self.add(&step, &events, &mut side.engine)?;
            if self.batch.len() >= APPEND_RECORDS {
                self.hand_over().await?;
            }
        }
        self.hand_over().await?;
        source.summarize(&side);
        side.tell_digests("digest");
        Ok(source.exit(ExitCode::SUCCESS, TROUBLE))
    }

    fn add(&mut self, step: &Step, events: &[Event], engine: &mut Engine) -> anyhow::Result<()> {
        let made = engine.take_made();
        let record = match step {
            Step::Record {
                stream: Stream::Observations | Stream::Packets,
                record,
                lead_in: false,
                ..
            } => record,
            Step::Captured {
                observation,
                lead_in: false,
                ..
            } => {
                self.now.fetch_max(observation.through.0, Ordering::Relaxed);
                if !std::mem::replace(&mut self.has_begun, true) {
                    self.begin(observation.through, engine)?;
                }
                self.push_made(&made)?;
                return self.push_events(events);
            }
            _ => return Ok(()),
        };
        self.now.fetch_max(record.stored_at.0, Ordering::Relaxed);
        if record.stream == RecordStream::Packets {
            self.push_made(&made)?;
            if !(self.are_rules_given && is_kind(record, "rules")) {
                self.push(Stream::Packets, record);
            }
            return self.push_events(events);
        }
        let is_activation = is_kind(record, "activation");
        if !std::mem::replace(&mut self.has_begun, true) && (self.is_given || !is_activation) {
            self.begin(record.stored_at, engine)?;
        }
        // In place of the recorded configurations stands the given one.
        self.push_made(&made)?;
        let is_replaced = self.is_given && is_activation
            || self.are_rules_given && (is_kind(record, "finding") || is_kind(record, "rules"));
        if !is_replaced {
            self.push(Stream::Observations, record);
        }
        let mut told = events.to_vec();
        if let Some(newcomer) = &mut self.newcomer {
            told.extend(newcomer.learn(step, record.stored_at, events));
        }
        self.push_events(&told)
    }

    fn push(&mut self, stream: Stream, record: &StoredRecord) {
        self.batch.push(Append {
            stream,
            subject: record.subject.clone(),
            id: MessageId(record.id.clone()),
            payload: record.payload.clone().into(),
        });
    }

    fn push_made(&mut self, made: &[Made]) -> anyhow::Result<()> {
        for one in made {
            let origin = &one.observation.origin;
            let kind = one.observation.body.kind();
            self.batch.push(Append {
                stream: one.stream,
                subject: subjects::of_observation(one.stream, &origin.site, kind, &origin.collector),
                id: one.message_id(),
                payload: encode_observation(&one.observation)?.into(),
            });
        }
        Ok(())
    }

    fn push_events(&mut self, events: &[Event]) -> anyhow::Result<()> {
        for event in events {
            self.batch.push(Append {
                stream: Stream::Events,
                subject: subjects::event(&event.site, event.chain, event.body.kind(), &event.key),
                id: event.id.message_id(),
                payload: encode_event(event)?.into(),
            });
        }
        Ok(())
    }

    /// What is in force when it begins, and somebody who finds out what is so: the page cannot read a chain's state.
    fn begin(&mut self, at: Time, engine: &Engine) -> anyhow::Result<()> {
        let Some(config) = engine.config(&self.site) else {
            return Ok(());
        };
        let origin = Origin {
            site: self.site.clone(),
            collector: "replay".to_owned(),
            incarnation: 0,
            number: 1,
        };
        let activation = Activation {
            at,
            hash: config.hash(),
            config: config.clone(),
            software: String::new(),
        };
        let observation = Observation {
            v: OBSERVATION_VERSION,
            origin,
            observed_at: at,
            through: at,
            body: Body::Activation(Box::new(activation)),
        };
        self.batch.push(Append {
            stream: Stream::Observations,
            subject: subjects::observation(&self.site, observation.body.kind(), "replay"),
            id: observation.origin.message_id(),
            payload: encode_observation(&observation)?.into(),
        });
        self.newcomer = Some(Newcomer {
            engine: Engine::new(Under::config(config.clone())),
            known: BTreeSet::new(),
            until: at + ACQUAINTANCE,
        });
        Ok(())
    }

    /// Appends what has come together, and waits for the page where it is far behind.
    async fn hand_over(&mut self) -> anyhow::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.appended += batch.len() as u64;
        self.log.append(batch).await?;
        self.copy.advance(self.appended, self.appended);
        let began = Instant::now();
        while self.page.snapshot().position + AHEAD_RECORDS < self.appended
            && !self.stop.is_cancelled()
            && began.elapsed() < PAGE_WAIT_MAX
        {
            sleep(PAGE_POLL).await;
        }
        Ok(())
    }
}

fn is_kind(record: &StoredRecord, kind: &str) -> bool {
    kind_of_observation(&record.subject) == Some(kind)
}

/// Sees what is so at the beginning as one would who came then: the state of each target, with its first results.
struct Newcomer {
    engine: Engine,
    /// What somebody has said something of.
    known: BTreeSet<String>,
    until: Time,
}

impl Newcomer {
    /// States that a step shows and that nobody has told yet.
    fn learn(&mut self, step: &Step, at: Time, told: &[Event]) -> Vec<Event> {
        if at >= self.until {
            return Vec::new();
        }
        for event in told {
            if let EventBody::SubjectChanged(change) = &event.body {
                self.known.insert(change.subject.clone());
            }
        }
        let mut seen = self.engine.take(step);
        seen.retain(|event| match &event.body {
            EventBody::SubjectChanged(change) => self.known.insert(change.subject.clone()),
            _ => false,
        });
        seen
    }
}
