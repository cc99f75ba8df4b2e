//! The chain of packets: its state is stored less often than its events, and another chain is told of some of them.
//!
//! A restart folds again what came since the last checkpoint, in silence; whatever it dies of, no event is lost or
//! doubled, and the other chain takes each of what it is told once, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchfold_log::memory::MemoryLog;
use watchfold_log::{Append, DuplicateWindow, MessageLog};
use watchfold_schemas::{Body, Chain, Observation, Span, Stream, Time};

use super::crash::{crash_and_finish, crash_once};
use super::world::{CountingFold, Rng, SITE, World, inputs_in, message_in, observation, seeds, told};
use crate::intake::{Intake, Taken};
use crate::{CrashHook, CrashPoint, RunnerError, SledStore};

fn fold() -> CountingFold {
    CountingFold::of(Chain::Packets)
}

/// A log that forgets at once which ids it has, as a broker does after two minutes: what is told again stands there twice.
fn forgetful() -> Arc<MemoryLog> {
    let now_ms = AtomicI64::new(1_767_225_600_000);
    let clock = Arc::new(move || Time::from_millis(now_ms.fetch_add(1, Ordering::Relaxed)));
    let window = DuplicateWindow {
        count: 0,
        span: Span::ZERO,
        count_max: 0,
    };
    MemoryLog::with_window(clock, window)
}

fn world(log: Arc<MemoryLog>, checkpoint: (Duration, u64)) -> World {
    let mut world = World::of(Chain::Packets, log);
    world.options.checkpoint = Some(checkpoint);
    world.options.snapshot_distance = Duration::from_secs(2);
    world
}

/// What the other chain takes of what it was told.
fn taken(world: &World) -> Vec<Observation> {
    let mut intake = Intake::new(SITE, Vec::new());
    let records = world.log.records(Stream::Observations);
    let observations = records.iter().filter_map(|record| match intake.take(record) {
        Taken::Observation(observation) => Some(*observation),
        Taken::Duplicate => None,
        Taken::Quarantined(why) => panic!("{why}"),
    });
    observations.collect()
}

/// What it should have been told: once for each of these events, in their order.
async fn check_told(world: &World, context: &str) {
    let events = world.expected(fold()).await;
    let want: Vec<Observation> = events
        .iter()
        .filter(|event| event.body.kind() == "subject_degraded")
        .map(|event| told(event.place))
        .collect();
    let got = taken(world);
    assert!(!want.is_empty(), "{context}: nothing to tell");
    assert_eq!(got.len(), want.len(), "{context}: number of what was told");
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(got.origin, want.origin, "{context}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_loses_nothing_and_tells_nothing_twice() {
    let mut crashes = 0;
    for seed in seeds(120) {
        let mut rng = Rng::new(seed);
        let every = [
            Duration::from_millis(300),
            Duration::from_secs(2),
            Duration::from_secs(3_600),
        ];
        let bytes = [1, 2_000, u64::MAX];
        let apart = (every[rng.below(3) as usize], bytes[rng.below(3) as usize]);
        let mut world = world(MemoryLog::new(), apart);
        world.options.batch_records_max = 1 + rng.below(20) as usize;
        world.options.uncommitted_records_max = 1 + rng.below(64);
        world.options.stream_bytes_max = 8 * (1 + rng.below(40_000));
        let messages = inputs_in(Stream::Packets, 120 + rng.below(160), seed);
        crashes += crash_and_finish(&mut world, &fold(), &messages, seed).await;
        check_told(&world, &format!("seed {seed}")).await;
    }
    assert!(crashes > seeds(120).end, "the crashes did not happen: {crashes}");
}

/// Every step once, at its first and at a later time; with a log that takes again what it was told.
#[tokio::test(start_paused = true)]
async fn each_step_is_survived_between_two_checkpoints() {
    for point in CrashPoint::ALL {
        // Nothing but events is appended here, so that there are no duplicates of these.
        let log = match point {
            CrashPoint::AfterTelling => forgetful(),
            _ => MemoryLog::new(),
        };
        let mut world = world(log, (Duration::from_secs(3_600), 4_000));
        world.options.stream_bytes_max = 8 * 60_000;
        world.options.uncommitted_records_max = 16;
        world.feed(&inputs_in(Stream::Packets, 1_200, 7)).await;
        for count in [1, 2, 3] {
            world.options.crash = crash_once(point, count, || ());
            let outcome = world.settle_runner(world.open(fold()).await).await;
            let crashed = matches!(outcome, Err(RunnerError::Crashed(at)) if at == point);
            assert!(crashed || count > 1, "{point:?} {count}: {outcome:?}");
            world.store.crash();
        }
        world.options.crash = CrashHook::default();
        world.settle(fold()).await;
        let context = format!("{point:?}");
        world.check(fold(), &context).await;
        check_told(&world, &context).await;
        if point == CrashPoint::AfterTelling {
            let stored = world.log.records(Stream::Observations).len();
            assert!(stored > taken(&world).len(), "nothing was told again: {stored}");
        }
    }
}

/// Between checkpoints a commit writes events and where it stands, and nothing of the state.
#[tokio::test(start_paused = true)]
async fn state_is_stored_at_checkpoints_and_at_the_stop() {
    let world = world(MemoryLog::new(), (Duration::from_secs(3_600), u64::MAX));
    let messages = inputs_in(Stream::Packets, 400, 3);
    world.feed(&messages[..200]).await;
    let stats = world.settle(fold()).await;
    assert!(stats.commits > 2, "{stats:?}");
    // One for the new store, one at the stop.
    assert_eq!(stats.checkpoints, 2, "{stats:?}");
    world.feed(&messages[200..]).await;
    let again = world.settle(fold()).await;
    assert_eq!(
        (again.events_silenced, again.records, again.checkpoints),
        (0, 200, 1),
        "a stop leaves nothing to fold again: {again:?}"
    );
    world.check(fold(), "after an orderly stop").await;
}

/// A life that died between two checkpoints is folded again up to where it had come, and that in silence.
#[tokio::test(start_paused = true)]
async fn what_came_since_the_checkpoint_is_folded_again_in_silence() {
    let mut world = world(MemoryLog::new(), (Duration::from_secs(3_600), u64::MAX));
    world.options.uncommitted_records_max = 16;
    world.feed(&inputs_in(Stream::Packets, 600, 5)).await;
    world.options.crash = crash_once(CrashPoint::AfterPublish, 12, || ());
    let outcome = world.settle_runner(world.open(fold()).await).await;
    assert!(matches!(outcome, Err(RunnerError::Crashed(_))), "{outcome:?}");
    world.options.crash = CrashHook::default();
    let stats = world.settle(fold()).await;
    assert_eq!(stats.records, 600, "from the checkpoint on: {stats:?}");
    assert!(stats.events_silenced > 50, "{stats:?}");
    assert_eq!((stats.published_duplicates, stats.rebuilds), (0, 0), "{stats:?}");
    world.check(fold(), "after the crash").await;
    check_told(&world, "after the crash").await;
}

/// The store deleted or garbage, in the middle of a life between two checkpoints.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_gone_or_garbage_is_built_again_in_silence() {
    for seed in seeds(6) {
        let home = tempfile::tempdir().unwrap();
        let mut world = world(MemoryLog::new(), (Duration::from_secs(3_600), 3_000));
        world.options.stream_bytes_max = 8 * 20_000;
        world.options.uncommitted_records_max = 16;
        let messages = inputs_in(Stream::Packets, 600, seed);
        for (part, chunk) in messages.chunks(200).enumerate() {
            world.feed(chunk).await;
            world.options.crash = crash_once(CrashPoint::AfterCommit, 10, || ());
            let (store, _) = SledStore::open_or_set_aside(home.path()).unwrap();
            let runner = world.open_with(Box::new(store), fold()).await.unwrap();
            let outcome = world.settle_runner(runner).await;
            assert!(
                matches!(outcome, Err(RunnerError::Crashed(_))),
                "seed {seed} {part}: {outcome:?}"
            );
            match part {
                0 => std::fs::remove_dir_all(home.path()).unwrap(),
                1 => std::fs::write(home.path().join("db"), b"garbage").unwrap(),
                _ => {}
            }
        }
        world.options.crash = CrashHook::default();
        let (store, _) = SledStore::open_or_set_aside(home.path()).unwrap();
        let runner = world.open_with(Box::new(store), fold()).await.unwrap();
        world.settle_runner(runner).await.unwrap();
        world.check(fold(), &format!("seed {seed}")).await;
        check_told(&world, &format!("seed {seed}")).await;
    }
}

/// Software that takes the old state over begins where that was, and not where its events were.
#[tokio::test(start_paused = true)]
async fn new_software_folds_again_from_the_checkpoint() {
    let mut world = world(MemoryLog::new(), (Duration::from_secs(3_600), u64::MAX));
    world.options.uncommitted_records_max = 16;
    let messages: Vec<Append> = inputs_in(Stream::Packets, 500, 11);
    world.feed(&messages[..400]).await;
    world.options.crash = crash_once(CrashPoint::AfterPublish, 6, || ());
    let outcome = world.settle_runner(world.open(fold()).await).await;
    assert!(matches!(outcome, Err(RunnerError::Crashed(_))), "{outcome:?}");
    world.options.crash = CrashHook::default();
    world.feed(&messages[400..]).await;
    let mut newer = fold();
    newer.version = 2;
    let stats = world.settle(newer).await;
    assert!(stats.events_silenced > 0, "{stats:?}");
    world.check(fold(), "with new software").await;
    check_told(&world, "with new software").await;
    assert_eq!(world.log.info(Stream::Packets).await.unwrap().last_sequence, 500);
}

/// One distance is two seconds here, so that one is overdue after twelve.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_far_ahead_once_does_not_put_snapshots_off_for_good() {
    let world = world(MemoryLog::new(), (Duration::from_secs(3_600), u64::MAX));
    let mut ahead = observation("capture-old", 1, 1, Body::Quiet);
    ahead.observed_at = Time::from_seconds(4_000_000_000);
    ahead.through = ahead.observed_at;
    world.feed(&[message_in(Stream::Packets, &ahead)]).await;
    let runner = world.open(fold()).await;
    let (stats, cancel) = (runner.stats(), CancellationToken::new());
    let feeding = async {
        for number in 1..=40 {
            let quiet = observation("capture-lan", 1, number, Body::Quiet);
            world.feed(&[message_in(Stream::Packets, &quiet)]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let taken = stats.snapshot().snapshots;
        // Where nothing comes, there is nothing to take.
        tokio::time::sleep(Duration::from_secs(100)).await;
        cancel.cancel();
        taken
    };
    let (driven, taken) = tokio::join!(runner.drive(cancel.clone()), feeding);
    driven.unwrap();
    assert_eq!(taken, 3);
    assert!(stats.snapshot().snapshots <= 4, "{:?}", stats.snapshot());
}
