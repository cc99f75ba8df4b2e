//! Hours that are folded again: what must agree does, and bugs of the three kinds that purity forbids are named.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use watchfold_folds::{LoadError, StateEntries, StateMachine};
use watchfold_kit::Progress;
use watchfold_log::{Append, MessageLog};
use watchfold_schemas::event::Place;
use watchfold_schemas::observation::{Outcome, Parity, ParityDifference, ParityVerdict, PingRound, PingRow};
use watchfold_schemas::{
    Body, Chain, Event, EventBody, MessageId, Observation, Span, Stream, encode_event, subjects,
};

use super::crash::crash_once;
use super::site::story;
use super::world::{Rng, SITE, World, message, observation};
use crate::{
    Checked, CrashHook, CrashPoint, NewChain, ParityCheck, ParityOptions, RunnerError, SiteChain, Spans,
};

/// It begins 800 s after a full hour, so two whole hours lie between its three digests.
const SECONDS: i64 = 10_100;

/// A chain with something done to it: a bug, or a clock that somebody looks at.
struct Planted<M, F> {
    fold: M,
    apply: F,
}

impl<M, F> StateMachine for Planted<M, F>
where
    M: StateMachine,
    F: FnMut(&mut M, u64, &Observation) -> Vec<Event> + Send + 'static,
{
    fn versions(&self) -> Vec<(String, u32)> {
        self.fold.versions()
    }

    fn apply(&mut self, sequence: u64, observation: &Observation) -> Vec<Event> {
        (self.apply)(&mut self.fold, sequence, observation)
    }

    fn apply_lost(&mut self, from: u64, to: u64) -> Vec<Event> {
        self.fold.apply_lost(from, to)
    }

    fn drain_dirty(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        self.fold.drain_dirty()
    }

    fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.fold.entries()
    }

    fn load(&mut self, versions: &[(String, u32)], entries: StateEntries) -> Result<(), LoadError> {
        self.fold.load(versions, entries)
    }

    fn reset(&mut self) {
        self.fold.reset();
    }
}

fn planted(
    apply: impl FnMut(&mut SiteChain, u64, &Observation) -> Vec<Event> + Send + 'static,
) -> impl StateMachine {
    planted_in(SiteChain::new(SITE), apply)
}

pub(super) fn planted_in<M: StateMachine>(
    fold: M,
    apply: impl FnMut(&mut M, u64, &Observation) -> Vec<Event> + Send + 'static,
) -> impl StateMachine {
    Planted { fold, apply }
}

fn sound(site: &str) -> Box<dyn StateMachine> {
    Box::new(SiteChain::new(site))
}

/// A world in which `fold` ran live over a story of three hours.
async fn lived(fold: impl StateMachine) -> World {
    let world = World::new();
    for chunk in story(7, SECONDS).chunks(1_000) {
        world.feed(chunk).await;
    }
    world.settle(fold).await;
    world
}

fn check_of(world: &World, fold: NewChain) -> ParityCheck {
    ParityCheck {
        log: world.log.clone(),
        site: SITE.to_owned(),
        spans: Spans::Hours,
        fold,
        options: ParityOptions {
            records_per_second: u32::MAX,
            ..ParityOptions::for_chain(Chain::Site)
        },
    }
}

pub(super) async fn checked(check: &ParityCheck, number: u64) -> Parity {
    match check.check(number).await.unwrap() {
        Checked::Found(parity) => parity,
        Checked::Nothing(reason) => panic!("nothing was checked: {reason}"),
    }
}

/// The difference that a check of any hour finds, with the record that it names held against the log.
async fn difference(world: &World, fold: NewChain) -> (Parity, ParityDifference) {
    let check = check_of(world, fold);
    for number in 0..8 {
        let parity = checked(&check, number).await;
        if let ParityVerdict::Differed(difference) = &parity.verdict {
            let record = world
                .log
                .get(Stream::Observations, difference.input)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(record.id.0, difference.message, "the record is named");
            assert!(
                (parity.from..=parity.to).contains(&difference.input),
                "{parity:?}"
            );
            return (parity.clone(), difference.clone());
        }
    }
    panic!("no check noticed it");
}

#[tokio::test(start_paused = true)]
async fn hours_that_lived_through_crashes_agree_with_what_is_folded_again() {
    let mut world = World::new();
    let mut rng = Rng::new(3);
    let messages = story(7, SECONDS);
    for chunk in messages.chunks(messages.len().div_ceil(9)) {
        world.feed(chunk).await;
        world.options.crash = crash_once(CrashPoint::ALL[rng.below(6) as usize], 1 + rng.below(6), || ());
        match world.settle_runner(world.open(SiteChain::new(SITE)).await).await {
            Ok(_) => {}
            Err(RunnerError::Crashed(_)) => world.store.crash(),
            Err(error) => panic!("{error}"),
        }
    }
    world.options.crash = CrashHook::default();
    world.settle(SiteChain::new(SITE)).await;
    // The digests too: the same through crashes and in one go.
    world.check(SiteChain::new(SITE), "three hours").await;
    let digests = world.published();
    let digests = digests
        .iter()
        .filter(|event| matches!(event.body, EventBody::Digest(_)));
    assert_eq!(digests.count(), 3);
    let check = check_of(&world, sound);
    let mut hours = std::collections::BTreeSet::new();
    for number in 0..8 {
        let parity = checked(&check, number).await;
        assert_eq!(parity.verdict, ParityVerdict::Agreed, "{parity:?}");
        assert!(parity.events > 100, "{parity:?}");
        hours.insert(parity.hour);
    }
    assert_eq!(hours.len(), 2, "both whole hours have their turn");
}

fn reads_hash_order() -> impl StateMachine {
    let order = RandomState::new();
    planted(move |fold, sequence, observation| {
        let mut events = fold.apply(sequence, observation);
        let place = |event: &Event| (event.body.kind() == "digest", order.hash_one(&event.key));
        events.sort_by_key(place);
        events
    })
}

#[tokio::test(start_paused = true)]
async fn a_fold_that_reads_hash_order_is_caught() {
    let world = lived(reads_hash_order()).await;
    let (_, difference) = difference(&world, |_| Box::new(reads_hash_order())).await;
    assert_ne!(difference.recorded, difference.derived);
}

#[expect(clippy::disallowed_methods, reason = "this is the bug that must be found")]
fn reads_a_clock() -> impl StateMachine {
    planted(|fold, sequence, observation| {
        let mut events = fold.apply(sequence, observation);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        for event in &mut events {
            if let EventBody::JitterRecorded(jitter) = &mut event.body {
                jitter.duration_ms = now.as_millis() as u64;
            }
        }
        events
    })
}

#[tokio::test(start_paused = true)]
async fn a_fold_that_reads_a_clock_is_caught() {
    let world = lived(reads_a_clock()).await;
    let (_, difference) = difference(&world, |_| Box::new(reads_a_clock())).await;
    for side in [&difference.recorded, &difference.derived] {
        assert!(
            side.as_ref().unwrap().starts_with("jitter_recorded"),
            "{difference:?}"
        );
    }
}

/// Every fiftieth round that has such results is folded again with those alone, as if its record were read again after
/// an error.
fn counts_a_retry_twice(subject: &'static str, outcome: Outcome) -> impl StateMachine {
    let mut seen = 0;
    planted(move |fold, sequence, observation| {
        let mut events = fold.apply(sequence, observation);
        let Body::PingRound(round) = &observation.body else {
            return events;
        };
        let rows = round.rows().unwrap().into_iter();
        let again = rows.filter(|row| row.subject == subject && row.outcome == outcome);
        let again: Vec<PingRow> = again.map(|row| row.to_row()).collect();
        seen += again.len();
        if !again.is_empty() && seen.is_multiple_of(50) {
            let mut observation = observation.clone();
            observation.body = Body::PingRound(PingRound::from_rows(round.round, round.attempt, again));
            events.extend(fold.apply(sequence, &observation));
        }
        events
    })
}

#[tokio::test(start_paused = true)]
async fn a_retry_counted_twice_is_caught_and_the_incident_names_the_record() {
    let world = lived(counts_a_retry_twice("server", Outcome::TimedOut)).await;
    let (parity, difference) = difference(&world, sound).await;
    let number = 1;
    let told = observation("parity", 1, number, Body::Parity(parity.clone()));
    world.feed(&[message(&told)]).await;
    world.settle(SiteChain::new(SITE)).await;
    let incidents = |world: &World| -> Vec<Event> {
        let events = world.published().into_iter();
        events
            .filter(|event| match &event.body {
                EventBody::IncidentOpened(incident) | EventBody::IncidentClosed(incident) => {
                    incident.subject == "chain:site"
                }
                _ => false,
            })
            .collect()
    };
    let opened = incidents(&world);
    let [
        Event {
            body: EventBody::IncidentOpened(incident),
            ..
        },
    ] = opened.as_slice()
    else {
        panic!("{opened:?}");
    };
    let detail = incident.detail.as_ref().unwrap();
    assert!(detail.contains(&difference.message), "{detail}");

    // An hour before it says nothing; a later one ends it.
    let agreed = |hours: i64| Parity {
        hour: parity.hour + Span::from_seconds(hours * 3_600),
        verdict: ParityVerdict::Agreed,
        ..parity.clone()
    };
    for (number, hours, events) in [(2, -1, 1), (3, 0, 1), (4, 1, 2)] {
        world
            .feed(&[message(&observation(
                "parity",
                1,
                number,
                Body::Parity(agreed(hours)),
            ))])
            .await;
        world.settle(SiteChain::new(SITE)).await;
        assert_eq!(incidents(&world).len(), events, "{hours} h");
    }
}

/// Counted twice, an answer shows in no event of its hour: the state at its end tells.
#[tokio::test(start_paused = true)]
async fn what_shows_only_in_the_state_is_caught() {
    let world = lived(counts_a_retry_twice("router", Outcome::Ok)).await;
    let (parity, difference) = difference(&world, sound).await;
    let recorded = difference.recorded.unwrap();
    assert_eq!(difference.input, parity.to);
    assert!(recorded.starts_with("the state history/hour/"), "{recorded}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_compared_says_why_and_accuses_nobody() {
    async fn refused(world: &World, software: &str, number: u64) -> String {
        let mut check = check_of(world, sound);
        check.options.software = software.to_owned();
        match checked(&check, number).await.verdict {
            ParityVerdict::NotCompared { reason } => reason,
            verdict => panic!("{verdict:?}"),
        }
    }
    let ours = SiteChain::software();
    let world = World::new();
    assert_eq!(
        check_of(&world, sound).check(0).await.unwrap(),
        Checked::Nothing("no whole hour is recorded")
    );
    let world = lived(SiteChain::new(SITE)).await;
    let other = refused(&world, "9.9.9", 0).await;
    assert_eq!(other, format!("derived by version {ours}, and this is 9.9.9"));
    let mut limited = check_of(&world, sound);
    limited.options.records_max = 100;
    let verdict = checked(&limited, 0).await.verdict;
    assert!(
        matches!(&verdict, ParityVerdict::NotCompared { reason } if reason.contains("100 records")),
        "{verdict:?}"
    );
    limited.options.events_bytes_max = 100;
    let verdict = checked(&limited, 0).await.verdict;
    assert!(
        matches!(&verdict, ParityVerdict::NotCompared { reason } if reason.contains("100 bytes")),
        "{verdict:?}"
    );

    let end = world.log.info(Stream::Observations).await.unwrap().last_sequence as usize;
    world.log.truncate_front(Stream::Observations, end - 1_000);
    assert_eq!(refused(&world, &ours, 0).await, "its records are no longer kept");
    let snapshots = world.log.records(Stream::Snapshots).len();
    world.log.truncate_front(Stream::Snapshots, snapshots);
    assert_eq!(
        refused(&world, &ours, 0).await,
        "no snapshot from before it is kept"
    );
}

/// One event of the newest hour was not published with the others: it is missing, or comes later, or may still come.
#[tokio::test(start_paused = true)]
async fn an_event_is_called_missing_only_where_that_is_certain() {
    async fn found(world: &World, is_it: impl Fn(&ParityVerdict) -> bool) -> bool {
        let check = check_of(world, sound);
        for number in 0..8 {
            if is_it(&checked(&check, number).await.verdict) {
                return true;
            }
        }
        false
    }
    let held_back = Arc::new(Mutex::new(None));
    let (holds, mut begun) = (held_back.clone(), None);
    let fold = planted(move |fold, sequence, observation| {
        let mut events = fold.apply(sequence, observation);
        if let [event] = events.as_slice() {
            // The newest whole hour begins 6,400 s after the story.
            let told = event.at.since(*begun.get_or_insert(event.at));
            if told > Span::from_seconds(7_000) && holds.lock().unwrap().is_none() {
                let place = Place {
                    input: sequence,
                    index: 0,
                };
                *holds.lock().unwrap() = Some(Event {
                    place,
                    ..event.clone()
                });
                events.clear();
            }
        }
        events
    });
    let world = lived(fold).await;
    let missing = held_back.lock().unwrap().take().unwrap();
    let is_missing = |verdict: &ParityVerdict| match verdict {
        ParityVerdict::Differed(difference) => {
            difference.recorded.is_none() && difference.input == missing.place.input
        }
        _ => false,
    };
    assert!(found(&world, is_missing).await);

    let others = (0..2_000).map(|number| Append {
        stream: Stream::Events,
        subject: subjects::event("elsewhere", Chain::Site, "target_rollup", "router"),
        id: MessageId(format!("elsewhere/{number}")),
        payload: vec![1].into(),
    });
    world.log.append(others.collect()).await.unwrap();
    let late = Append {
        stream: Stream::Events,
        subject: subjects::event(SITE, Chain::Site, missing.body.kind(), &missing.key),
        id: missing.id.message_id(),
        payload: encode_event(&missing).unwrap().into(),
    };
    world.log.append(vec![late]).await.unwrap();
    let because = |text: &'static str| {
        move |verdict: &ParityVerdict| match verdict {
            ParityVerdict::NotCompared { reason } => reason.contains(text),
            _ => false,
        }
    };
    assert!(found(&world, because("far from the others")).await);
    assert!(!found(&world, is_missing).await);

    while !found(&world, because("still be on its way")).await {
        assert!(
            !world.log.records(Stream::Snapshots).is_empty(),
            "nothing was uncertain"
        );
        world.log.truncate_tail(Stream::Snapshots, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_sites_of_a_process_are_checked_one_after_the_other() {
    let options = ParityOptions::for_chain(Chain::Site);
    let starts: std::collections::BTreeSet<Duration> = (0..100)
        .map(|number| options.apart(&format!("site-{number}")).first_after)
        .collect();
    let last = options.first_after + options.every;
    assert!(
        starts
            .iter()
            .all(|start| (options.first_after..last).contains(start))
    );
    assert!(starts.len() > 90, "{starts:?}");
    assert_eq!(
        options.apart("cafe").first_after,
        options.apart("cafe").first_after
    );

    let world = lived(SiteChain::new(SITE)).await;
    let check = check_of(&world, sound);
    let turn = check
        .options
        .apart("another")
        .turns
        .acquire_owned()
        .await
        .unwrap();
    let (sender, mut told) = mpsc::unbounded_channel();
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let running = tokio::spawn(check.run(Progress::new("parity"), stop, move |parity| {
        sender.send(parity).unwrap();
    }));
    tokio::time::sleep(Duration::from_secs(7_200)).await;
    assert!(told.try_recv().is_err(), "it is another one's turn");
    drop(turn);
    assert_eq!(told.recv().await.unwrap().verdict, ParityVerdict::Agreed);
    cancel.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_check_runs_by_itself_and_tells_what_it_found() {
    let world = lived(SiteChain::new(SITE)).await;
    let (sender, mut told) = mpsc::unbounded_channel();
    let progress = Progress::new("parity");
    let cancel = CancellationToken::new();
    let rounds = Arc::new(AtomicUsize::new(0));
    let (check, shown, stop) = (check_of(&world, sound), progress.clone(), cancel.clone());
    let counted = rounds.clone();
    let running = tokio::spawn(check.run(shown, stop, move |parity| {
        counted.fetch_add(1, Ordering::Relaxed);
        sender.send(parity).unwrap();
    }));
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(rounds.load(Ordering::Relaxed), 0, "not while everything starts");
    assert!(
        progress.snapshot().advanced_age.is_some(),
        "it waits, and is not stuck"
    );
    let first = told.recv().await.unwrap();
    let second = told.recv().await.unwrap();
    assert_eq!(
        (first.verdict, second.verdict),
        (ParityVerdict::Agreed, ParityVerdict::Agreed)
    );
    let note = progress.snapshot().note.unwrap();
    assert!(note.contains("agrees with its recording"), "{note}");
    assert_eq!(progress.snapshot().detail, None);
    cancel.cancel();
    running.await.unwrap().unwrap();
}
