//! The real site chain under crashes, lost stores and rebuilds: its events are those of an uninterrupted run, so
//! what it stores is all that it knows.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchfold_kit::Progress;
use watchfold_log::Append;
use watchfold_schemas::config::{OccupancyConfig, PcHost, ProbeSpec, Signal, SignalSpec, Target};
use watchfold_schemas::event::{Incident, IncidentClass, Notice};
use watchfold_schemas::observation::{
    Act, Activation, OBSERVATION_VERSION, Observation, OperatorAct, Outcome, PingRound, PingRow, Tick,
};
use watchfold_schemas::{Body, Chain, EventBody, Origin, SiteConfig, Span, Stream, Time};

use super::crash::crash_once;
use super::world::{Rng, SITE, World, message, seeds};
use crate::{ChainRunner, CrashHook, CrashPoint, MemoryStore, RunnerError, RunnerOptions, SiteChain};

/// Seconds of the story, with a tick each second and a round every other.
const SECONDS: i64 = 1_500;

fn config() -> SiteConfig {
    let target = |name: &str, parents: &[&str]| Target {
        name: name.into(),
        probes: vec![ProbeSpec {
            address: format!("addr-{name}"),
            signals: vec![SignalSpec::Echo],
        }],
        quorum: 1,
        interval_ms: 2_000,
        timeout_ms: 1_000,
        depends_on: parents.iter().map(|parent| (*parent).to_owned()).collect(),
    };
    let host = |number: u32| PcHost {
        address: format!("10.0.0.{number}"),
        mac: None,
        name: format!("PC-{number}"),
    };
    let mut config = SiteConfig {
        site: SITE.into(),
        time_zone: "Europe/Berlin".into(),
        ..SiteConfig::default()
    };
    config.network.targets = vec![
        target("router", &[]),
        target("server", &["router"]),
        target("net", &["router"]),
    ];
    config.network.remind_every_ms = 120_000;
    config.network.escalate_after_ms = 60_000;
    config.occupancy = OccupancyConfig {
        hosts: (1..=4).map(host).collect(),
        depends_on: vec!["router".into()],
        min_session_ms: 60_000,
        ..OccupancyConfig::default()
    };
    config
}

struct Story {
    rng: Rng,
    numbers: std::collections::BTreeMap<&'static str, u64>,
    out: Vec<Append>,
}

impl Story {
    fn tell(&mut self, collector: &'static str, at: Time, body: Body) {
        let number = self.numbers.entry(collector).or_default();
        *number += 1;
        let origin = Origin {
            site: SITE.into(),
            collector: collector.into(),
            incarnation: 1,
            number: *number,
        };
        let record = Observation {
            v: OBSERVATION_VERSION,
            origin,
            observed_at: at,
            through: at,
            body,
        };
        self.out.push(message(&record));
    }

    /// Which of the subjects answer changes now and then.
    fn toggle(&mut self, up: &mut [bool]) {
        for subject in up.iter_mut() {
            if self.rng.below(25) == 0 {
                *subject = !*subject;
            }
        }
    }
}

pub(super) fn story(seed: u64, seconds: i64) -> Vec<Append> {
    let start = Time::from_seconds(1_700_000_000);
    let mut story = Story {
        rng: Rng::new(seed),
        numbers: Default::default(),
        out: Vec::new(),
    };
    let config = config();
    let activation = Activation {
        at: start,
        hash: config.hash(),
        config: config.clone(),
        software: "test".into(),
    };
    story.tell("config", start, Body::Activation(Box::new(activation)));
    let targets = config.network.targets.iter().map(|target| target.name.clone());
    let subjects: Vec<String> = targets
        .chain(config.occupancy.hosts.iter().map(|pc| format!("pc:{}", pc.key())))
        .collect();
    let mut up = vec![true; subjects.len()];
    for second in 1..seconds {
        let at = start + Span::from_seconds(second);
        story.tell(
            "clock",
            at,
            Body::Tick(Tick {
                now: at,
                interval_ms: 1_000,
            }),
        );
        if second % 2 == 0 {
            story.toggle(&mut up);
            let row = |(index, subject): (usize, &String)| PingRow {
                subject: subject.clone(),
                address: subject
                    .strip_prefix("pc:")
                    .map_or(format!("addr-{subject}"), str::to_owned),
                signal: Signal::Echo,
                at: at - Span::from_millis(900 - 10 * index as i64),
                // Nothing behind the router answers without it.
                outcome: if up[index] && up[0] {
                    Outcome::Ok
                } else {
                    Outcome::TimedOut
                },
                rtt_us: (up[index] && up[0]).then_some(1_000 + second as u32),
                mac: None,
                detail: None,
                why: None,
                resolved: None,
            };
            let rows = subjects.iter().enumerate().map(row).collect();
            story.tell(
                "ping",
                at,
                Body::PingRound(PingRound::from_rows(second as u64 / 2, 1, rows)),
            );
        }
        if story.rng.below(300) == 0 {
            let act = Act::Mute {
                subject: "server".into(),
                until: at + Span::from_seconds(40),
            };
            story.tell(
                "operator",
                at,
                Body::Operator(OperatorAct {
                    at,
                    who: "anna".into(),
                    act,
                    note: None,
                }),
            );
        }
    }
    story.out
}

#[tokio::test(start_paused = true)]
async fn the_site_chain_survives_crashes_and_rebuilds_without_a_trace() {
    for seed in seeds(6) {
        let mut rng = Rng::new(seed + 100);
        let mut world = World::new();
        world.options.snapshot_every = Span::from_seconds(300);
        world.options.uncommitted_records_max = 1 + rng.below(200);
        let messages = story(seed, SECONDS);
        for chunk in messages.chunks(messages.len().div_ceil(9)) {
            world.feed(chunk).await;
            let point = CrashPoint::ALL[rng.below(6) as usize];
            world.options.crash = crash_once(point, 1 + rng.below(6), || ());
            match world.settle_runner(world.open(SiteChain::new(SITE)).await).await {
                Ok(stats) => assert_eq!(stats.published_duplicates, 0),
                Err(RunnerError::Crashed(_)) => world.store.crash(),
                Err(error) => panic!("seed {seed}: {error}"),
            }
            if rng.below(3) == 0 {
                // The store is lost; a snapshot and the log bring it back.
                world.store.restore(Vec::new());
            }
        }
        world.options.crash = CrashHook::default();
        world.settle(SiteChain::new(SITE)).await;
        world.check(SiteChain::new(SITE), &format!("seed {seed}")).await;
        let (events, snapshots) = (
            world.published().len(),
            world.log.records(Stream::Snapshots).len(),
        );
        assert!(
            events > 20 && snapshots > 0,
            "seed {seed} tells nothing: {events} events, {snapshots} snapshots"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn records_that_were_gone_before_they_were_judged_are_a_fault_told_once() {
    let messages = story(1, 600);
    let (read, missed) = messages.split_at(messages.len() / 2);
    let world = World::new();
    world.feed(read).await;
    world.settle(SiteChain::new(SITE)).await;
    world.feed(missed).await;
    world.log.truncate_front(Stream::Observations, read.len() + 100);
    let stats = world.settle(SiteChain::new(SITE)).await;
    assert_eq!((stats.lost_records, stats.rebuilds), (100, 0));
    let events = world.published();
    let told = |incident: &Incident| incident.subject == "chain:site";
    let (mut opened, mut closed, mut notices) = (0, 0, 0);
    for event in &events {
        match &event.body {
            EventBody::IncidentOpened(incident) if told(incident) => {
                opened += 1;
                assert_eq!(incident.class, IncidentClass::MeasurementFault);
                let detail = incident.detail.as_ref().unwrap();
                assert!(detail.starts_with("100 records"), "{detail}");
            }
            EventBody::IncidentClosed(incident) if told(incident) => closed += 1,
            EventBody::NotificationRequested(request) => match &request.notice {
                Notice::IncidentOpened { incident, .. } if told(incident) => notices += 1,
                _ => {}
            },
            _ => {}
        }
    }
    assert_eq!((opened, closed, notices), (1, 1, 1), "over with the next tick");
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_begins_behind_what_is_kept_misses_nothing() {
    let world = World::new();
    world.feed(&story(1, 100)).await;
    world.log.truncate_front(Stream::Observations, 50);
    world.settle(SiteChain::new(SITE)).await;
    let faults = world
        .published()
        .into_iter()
        .filter(|event| event.body.kind() == "incident_opened");
    assert_eq!(faults.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_chain_with_records_and_no_configuration_is_not_well_until_there_is_one() {
    let world = World::new();
    let messages = story(1, 20);
    let (configuration, rest) = messages.split_first().unwrap();
    world.feed(rest).await;
    let progress = Progress::new("chain:site");
    let (log, store) = (world.log.clone(), Box::new(MemoryStore::new()));
    let fold = Box::new(SiteChain::new(SITE));
    let options = RunnerOptions::for_chain(Chain::Site);
    let runner = ChainRunner::open_in(log, store, SITE, Chain::Site, fold, progress.clone(), options);
    let runner = runner.await.unwrap();
    let stats = runner.stats();
    let cancel = CancellationToken::new();
    let running = tokio::spawn(runner.drive(cancel.clone()));
    let folded = |records| {
        let stats = &stats;
        async move {
            while stats.snapshot().records < records {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    folded(rest.len() as u64).await;
    let blind = progress.snapshot();
    let detail = blind.detail.unwrap_or_default();
    assert!(detail.contains("no configuration"), "{detail:?}");
    assert_eq!(blind.advanced_age, None, "evaluating nothing is no advance");
    world.feed(std::slice::from_ref(configuration)).await;
    folded(messages.len() as u64).await;
    let well = progress.snapshot();
    assert_eq!((well.detail, well.position), (None, messages.len() as u64));
    cancel.cancel();
    running.await.unwrap().unwrap();
}
