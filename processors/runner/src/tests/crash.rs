//! Crashes at every step, over many seeds: the published events are those of an uninterrupted run.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use watchfold_log::Append;
use watchfold_schemas::{Stream, decode_event};

use super::world::{CountingFold, Rng, World, inputs, seeds};
use crate::{CrashHook, CrashPoint, RunnerError, SledStore};

/// Crashes of one seed before it is left to finish.
const CRASHES: u64 = 6;

/// Crashes once, at the `count`-th time that `point` is reached, and does something at that moment.
pub(super) fn crash_once(
    point: CrashPoint,
    count: u64,
    then: impl Fn() + Send + Sync + 'static,
) -> CrashHook {
    let left = AtomicU64::new(count);
    CrashHook::new(move |reached| {
        let now = reached == point && left.fetch_sub(1, Ordering::Relaxed) == 1;
        if now {
            then();
        }
        now
    })
}

/// Appends the rest of the input bit by bit while a runner runs; goes on in the next life.
async fn feed_slowly(world: &World, messages: &[Append], fed: &AtomicUsize, rng: &Mutex<Rng>) {
    loop {
        let from = fed.load(Ordering::Relaxed);
        if from == messages.len() {
            return;
        }
        let (count, pause_ms) = {
            let mut rng = rng.lock().unwrap();
            (
                1 + rng.below(12) as usize,
                [0, 1, 7, 400, 1_500][rng.below(5) as usize],
            )
        };
        let to = (from + count).min(messages.len());
        world.feed(&messages[from..to]).await;
        fed.store(to, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

async fn crash_in_memory(seed: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let mut world = World::new();
    world.options.batch_records_max = 1 + rng.below(20) as usize;
    world.options.uncommitted_records_max = 1 + rng.below(64);
    let messages = inputs(120 + rng.below(160), seed);
    crash_and_finish(&mut world, &CountingFold::version(1), &messages, seed).await
}

/// Lives that end in a crash, until one is left to finish; then no event is lost and none is there twice.
pub(super) async fn crash_and_finish(
    world: &mut World,
    fold: &CountingFold,
    messages: &[Append],
    seed: u64,
) -> u64 {
    let mut rng = Rng::new(seed + 7);
    let fed = AtomicUsize::new(rng.below(80) as usize);
    world.feed(&messages[..fed.load(Ordering::Relaxed)]).await;
    let feeding = Mutex::new(Rng::new(seed + 1));
    let mut crashes = 0;
    for life in 0..=CRASHES {
        let point = CrashPoint::ALL[rng.below(CrashPoint::ALL.len() as u64) as usize];
        let count = 1 + rng.below(if point == CrashPoint::DuringSnapshot {
            2
        } else {
            15
        });
        world.options.crash = if life == CRASHES {
            CrashHook::default()
        } else {
            crash_once(point, count, || ())
        };
        let runner = world.open(fold.clone()).await;
        let stats = runner.stats();
        let feeder = feed_slowly(world, messages, &fed, &feeding);
        let both = async { tokio::join!(feeder, std::future::pending::<()>()) };
        // The feeder dies with the runner, as it does in one process; what it appended stays.
        let outcome = tokio::select! {
            outcome = run_to_the_end(world, runner, messages, &fed) => outcome,
            _ = both => unreachable!("pending"),
        };
        assert_eq!(
            stats.snapshot().published_duplicates,
            0,
            "seed {seed}: published twice"
        );
        match outcome {
            Ok(()) => break,
            Err(RunnerError::Crashed(_)) => {
                crashes += 1;
                // A power cut takes what was not synced; a kill leaves it.
                if rng.below(2) == 0 {
                    world.store.crash();
                }
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert_eq!(
        fed.load(Ordering::Relaxed),
        messages.len(),
        "seed {seed}: not all was fed"
    );
    assert_eq!(
        world.store.set_aside_count(),
        0,
        "seed {seed}: the store was good"
    );
    world.check(fold.clone(), &format!("seed {seed}")).await;
    crashes
}

async fn run_to_the_end(
    world: &World,
    runner: crate::ChainRunner,
    messages: &[Append],
    fed: &AtomicUsize,
) -> Result<(), RunnerError> {
    let cancel = tokio_util::sync::CancellationToken::new();
    let stats = runner.stats();
    let driving = runner.drive(cancel.clone());
    let watching = async {
        loop {
            let done = fed.load(Ordering::Relaxed) == messages.len();
            let seen = stats.snapshot();
            if done && seen.position == world.log.records(world.stream()).len() as u64 && seen.outbox == 0 {
                tokio::time::sleep(Duration::from_secs(3)).await;
                cancel.cancel();
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        outcome = driving => outcome,
        () = watching => unreachable!("it only ends with the runner"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_loses_no_event_and_tells_none_twice() {
    let mut crashes = 0;
    for seed in seeds(250) {
        crashes += crash_in_memory(seed).await;
    }
    assert!(crashes > seeds(250).end, "the crashes did not happen: {crashes}");
}

/// Every step once, for certain, at its first and at a later time.
#[tokio::test(start_paused = true)]
async fn each_step_is_reached_and_survived() {
    for point in CrashPoint::ALL {
        for count in [1, 2] {
            let mut world = World::new();
            world.options.uncommitted_records_max = 16;
            world.feed(&inputs(1_200, 7)).await;
            world.options.crash = crash_once(point, count, || ());
            let outcome = world
                .settle_runner(world.open(CountingFold::version(1)).await)
                .await;
            assert!(
                matches!(outcome, Err(RunnerError::Crashed(at)) if at == point),
                "{point:?} {count}: {outcome:?}"
            );
            world.store.crash();
            world.options.crash = CrashHook::default();
            world.settle(CountingFold::version(1)).await;
            world
                .check(CountingFold::version(1), &format!("{point:?} {count}"))
                .await;
        }
    }
}

/// Looks into the store at the moment when the log has acknowledged: what is published is durable in the outbox.
#[tokio::test(start_paused = true)]
async fn what_is_published_was_committed_before() {
    let mut world = World::new();
    let (log, store) = (world.log.clone(), world.store.clone());
    let looked = Arc::new(AtomicU64::new(0));
    let count = looked.clone();
    world.options.crash = CrashHook::new(move |point| {
        if point == CrashPoint::AfterPublish {
            let stored: Vec<Vec<u8>> = store.copy().into_iter().map(|(key, _)| key).collect();
            let last = log.records(Stream::Events).pop().unwrap();
            let place = decode_event(&last.payload).unwrap().place;
            let key = [&b"o"[..], &place.input.to_be_bytes(), &place.index.to_be_bytes()].concat();
            assert!(
                stored.contains(&key),
                "{place:?} was published and is not in the store"
            );
            count.fetch_add(1, Ordering::Relaxed);
        }
        false
    });
    let messages = inputs(300, 8);
    let fed = AtomicUsize::new(0);
    let runner = world.open(CountingFold::version(1)).await;
    let feeding = Mutex::new(Rng::new(8));
    let feeder = feed_slowly(&world, &messages, &fed, &feeding);
    let (outcome, ()) = tokio::join!(run_to_the_end(&world, runner, &messages, &fed), feeder);
    outcome.unwrap();
    assert!(looked.load(Ordering::Relaxed) > 10);
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The same with sled on disk: the directory as it was at the moment of the crash is what the next life finds.
#[tokio::test(start_paused = true)]
async fn a_crash_with_the_store_on_disk_loses_no_event_either() {
    for seed in seeds(10) {
        let mut rng = Rng::new(seed);
        let home = Arc::new(tempfile::tempdir().unwrap());
        let mut world = World::new();
        world.options.uncommitted_records_max = 1 + rng.below(40);
        let messages = inputs(240, seed);
        let mut life = 0;
        for (part, chunk) in messages.chunks(80).enumerate() {
            world.feed(chunk).await;
            let point = CrashPoint::ALL[rng.below(6) as usize];
            let (from, to) = (
                home.path().join(life.to_string()),
                home.path().join((life + 1).to_string()),
            );
            world.options.crash = {
                let (from, to) = (from.clone(), to.clone());
                crash_once(point, 1 + rng.below(6), move || copy_directory(&from, &to))
            };
            let (store, broken) = SledStore::open_or_set_aside(&from).unwrap();
            assert_eq!(broken, None, "seed {seed} part {part}");
            let runner = world
                .open_with(Box::new(store), CountingFold::version(1))
                .await
                .unwrap();
            match world.settle_runner(runner).await {
                Err(RunnerError::Crashed(_)) => life += 1,
                outcome => assert!(outcome.is_ok(), "seed {seed}: {outcome:?}"),
            }
        }
        world.options.crash = CrashHook::default();
        let (store, _) = SledStore::open_or_set_aside(&home.path().join(life.to_string())).unwrap();
        let runner = world
            .open_with(Box::new(store), CountingFold::version(1))
            .await
            .unwrap();
        let stats = world.settle_runner(runner).await.unwrap();
        assert_eq!(stats.published_duplicates, 0, "seed {seed}");
        world
            .check(CountingFold::version(1), &format!("seed {seed}"))
            .await;
    }
}
