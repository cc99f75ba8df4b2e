//! What comes in: records that cannot be read, duplicates, losses; and a log that takes nothing.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_kit::Progress;
use watchfold_log::memory::MemoryLog;
use watchfold_log::{
    Ack, Append, Batch, LogError, LogReader, MessageLog, Position, Record, Start, StreamInfo,
};
use watchfold_schemas::{Body, Chain, MessageId, Stream};

use super::world::{CountingFold, SITE, World, inputs, message, observation};
use crate::{COLLECTORS_MAX, ChainRunner, RunnerError, RunnerOptions, RunnerStats};

#[tokio::test(start_paused = true)]
async fn an_unreadable_record_is_counted_and_passed_over() {
    let world = World::new();
    let good = inputs(40, 1);
    world.feed(&good[..20]).await;
    let bad = Append {
        id: MessageId("bad/1".into()),
        payload: b"\xc1garbage".as_slice().into(),
        ..good[0].clone()
    };
    let mut foreign = observation("ping", 1, 1, Body::Quiet);
    foreign.origin.site = "elsewhere".into();
    let foreign = Append {
        subject: good[0].subject.clone(),
        ..message(&foreign)
    };
    world.feed(&[bad, foreign]).await;
    world.feed(&good[20..]).await;
    let stats = world.settle(CountingFold::version(1)).await;
    assert_eq!((stats.records, stats.quarantined, stats.position), (40, 2, 42));
    world.check(CountingFold::version(1), "quarantine").await;

    let clean = World::new();
    clean.feed(&good).await;
    let (got, want) = (world.published(), clean.expected(CountingFold::version(1)).await);
    assert!(
        got.iter()
            .map(|event| &event.id)
            .eq(want.iter().map(|event| &event.id)),
        "they leave no trace"
    );
}

/// Runs records of one collector, as (incarnation, number), and returns which were dropped.
async fn check_duplicates(records: &[(u64, u64)], dropped: u64) {
    let world = World::new();
    let append = |(index, (incarnation, number)): (usize, &(u64, u64))| {
        let record = message(&observation("ping", *incarnation, *number, Body::Quiet));
        // Past the log's window, which is shown by the id of a publisher that gives none.
        Append {
            id: MessageId(format!("WF_OBS:{index}")),
            ..record
        }
    };
    let messages: Vec<Append> = records.iter().enumerate().map(append).collect();
    let (first, second) = messages.split_at(messages.len() / 2);
    world.feed(first).await;
    let before = world.settle(CountingFold::version(1)).await;
    world.feed(second).await;
    let after = world.settle(CountingFold::version(1)).await;
    assert_eq!(before.duplicates + after.duplicates, dropped, "{records:?}");
    assert_eq!(
        before.records + after.records,
        records.len() as u64 - dropped,
        "{records:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_number_that_was_seen_is_dropped_across_restarts_too() {
    check_duplicates(&[(1, 1), (1, 2), (1, 2), (1, 1)], 2).await;
    check_duplicates(&[(1, 1), (2, 1), (1, 2), (2, 2)], 1).await;
    check_duplicates(&[(1, 5), (1, 7), (2, 1), (2, 1)], 1).await;
    check_duplicates(&[(1, 1), (1, 2), (1, 3), (1, 4)], 0).await;
}

#[tokio::test(start_paused = true)]
async fn the_table_of_collectors_is_bounded() {
    let world = World::new();
    let name = |index: usize| format!("collector{index}");
    let record = |index: usize| message(&observation(&name(index), 1, 1, Body::Quiet));
    let messages: Vec<Append> = (0..COLLECTORS_MAX + 3).map(record).collect();
    world.feed(&messages).await;
    let stats = world.settle(CountingFold::version(1)).await;
    assert_eq!(stats.collectors_evicted, 3);
    let again = Append {
        id: MessageId("WF_OBS:again".into()),
        ..record(3)
    };
    world.feed(&[again]).await;
    assert_eq!(
        world.settle(CountingFold::version(1)).await.duplicates,
        1,
        "the others are still known"
    );
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_retention_overtook_keeps_its_state_and_is_told() {
    let world = World::new();
    let messages = inputs(300, 3);
    world.feed(&messages[..100]).await;
    world.settle(CountingFold::version(1)).await;
    let before = world.published();
    world.feed(&messages[100..]).await;
    world.log.truncate_front(Stream::Observations, 150);
    let stats = world.settle(CountingFold::version(1)).await;
    assert_eq!((stats.lost_records, stats.records, stats.rebuilds), (50, 150, 0));
    let after = world.published();
    assert_eq!(after[..before.len()], before);
    assert!(after[before.len()..].iter().all(|event| event.place.input > 150));
    // It counts on from the state that it kept: 100 before, 150 after the loss.
    let third = after
        .iter()
        .filter(|event| event.body.kind() == "subject_degraded")
        .count();
    assert_eq!(third, 250 / 3);
}

/// Runs a chain in the background while the test does something to the log.
async fn with_running<F: Future<Output = ()>>(world: &World, during: impl FnOnce(crate::StatsHandle) -> F) {
    let runner = world.open(CountingFold::version(1)).await;
    let (stats, cancel) = (runner.stats(), CancellationToken::new());
    let (outcome, ()) = tokio::join!(runner.drive(cancel.clone()), async {
        during(stats).await;
        cancel.cancel();
    });
    outcome.unwrap();
}

async fn wait_for(stats: &crate::StatsHandle, wanted: impl Fn(&RunnerStats) -> bool) -> RunnerStats {
    for _ in 0..100_000 {
        let seen = stats.snapshot();
        if wanted(&seen) {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come: {:?}", stats.snapshot());
}

#[tokio::test(start_paused = true)]
async fn a_log_that_takes_nothing_stops_the_folding_and_loses_nothing() {
    let mut world = World::new();
    world.options.outbox_events_max = 8;
    world.feed(&inputs(500, 4)).await;
    world.log.fail_appends(true);
    with_running(&world, async |stats| {
        let stuck = wait_for(&stats, |seen| seen.publish_failures >= 5).await;
        assert!((8..11).contains(&stuck.outbox), "{stuck:?}");
        assert_eq!((stuck.published, stuck.outbox_full), (0, 1));
        assert!(stuck.position < 60, "no more input is folded: {stuck:?}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(stats.snapshot().position, stuck.position);
    })
    .await;
    // The process ends with the outbox full, and goes on with it.
    with_running(&world, async |stats| {
        let stuck = wait_for(&stats, |seen| seen.publish_failures >= 2).await;
        assert!(stuck.outbox >= 8 && stuck.published == 0, "{stuck:?}");
        world.log.fail_appends(false);
        wait_for(&stats, |seen| seen.position == 500 && seen.outbox == 0).await;
    })
    .await;
    world.check(CountingFold::version(1), "back-pressure").await;
}

#[tokio::test(start_paused = true)]
async fn progress_tells_the_position_and_what_is_wrong() {
    let log = MemoryLog::new();
    let world = World {
        log: log.clone(),
        ..World::new()
    };
    world.feed(&inputs(50, 5)).await;
    let progress = Progress::new("chain");
    let runner = ChainRunner::open_in(
        log.clone(),
        Box::new(world.store.clone()),
        SITE,
        Chain::Site,
        Box::new(CountingFold::version(1)),
        progress.clone(),
        RunnerOptions::for_chain(Chain::Site),
    )
    .await
    .unwrap();
    log.fail_appends(true);
    let (stats, cancel) = (runner.stats(), CancellationToken::new());
    let (outcome, ()) = tokio::join!(runner.drive(cancel.clone()), async {
        wait_for(&stats, |seen| seen.publish_failures > 0).await;
        assert!(
            progress
                .snapshot()
                .detail
                .is_some_and(|detail| detail.contains("publish events"))
        );
        log.fail_appends(false);
        wait_for(&stats, |seen| seen.outbox == 0).await;
        let got = progress.snapshot();
        assert_eq!((got.position, got.head, got.detail), (50, 50, None));
        cancel.cancel();
    });
    outcome.unwrap();
}

/// On a thread of its own with the real clock, as in production.
#[tokio::test]
async fn a_runner_on_its_own_thread_follows_the_log_and_stops() {
    let world = World::new();
    let home = tempfile::tempdir().unwrap();
    let messages = inputs(60, 6);
    world.feed(&messages[..30]).await;
    let open = async || {
        ChainRunner::open(
            world.log.clone(),
            &home.path().join("state").join("site"),
            SITE,
            Chain::Site,
            Box::new(CountingFold::version(1)),
            Progress::new("chain"),
            world.options.clone(),
        )
        .await
        .unwrap()
    };
    for (part, fed) in [(&messages[..0], 30), (&messages[30..], 60)] {
        world.feed(part).await;
        let runner = open().await;
        let (stats, cancel) = (runner.stats(), CancellationToken::new());
        let (outcome, ()) = tokio::join!(runner.run(cancel.clone()), async {
            wait_for(&stats, |seen| seen.position == fed && seen.outbox == 0).await;
            cancel.cancel();
        });
        outcome.unwrap();
    }
    world.check(CountingFold::version(1), "own thread").await;
    assert_eq!(
        open().await.stats().snapshot().position,
        60,
        "everything was committed on stopping"
    );
}

/// A log that can be out of reach.
struct Away {
    log: Arc<MemoryLog>,
    away: watch::Sender<bool>,
}

struct AwayReader {
    reader: Box<dyn LogReader>,
    away: watch::Receiver<bool>,
}

fn unreachable() -> LogError {
    LogError::Unreachable {
        place: "nats://hub".to_owned(),
        reason: "asked to".to_owned(),
        remedy: "wait".to_owned(),
    }
}

impl LogReader for AwayReader {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        Box::pin(async move {
            tokio::select! {
                batch = self.reader.next(max) => batch,
                _ = self.away.wait_for(|away| *away) => Err(unreachable()),
            }
        })
    }

    fn try_next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        self.reader.try_next(max)
    }
}

impl MessageLog for Away {
    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Ack>, LogError>> {
        self.log.append(messages)
    }

    fn reader(
        &self,
        stream: Stream,
        filter: &str,
        start: Start,
    ) -> BoxFuture<'_, Result<Box<dyn LogReader>, LogError>> {
        let (filter, away) = (filter.to_owned(), self.away.subscribe());
        Box::pin(async move {
            if *away.borrow() {
                return Err(unreachable());
            }
            let reader = self.log.reader(stream, &filter, start).await?;
            Ok(Box::new(AwayReader { reader, away }) as Box<dyn LogReader>)
        })
    }

    fn info(&self, stream: Stream) -> BoxFuture<'_, Result<StreamInfo, LogError>> {
        self.log.info(stream)
    }

    fn get(&self, stream: Stream, sequence: u64) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        self.log.get(stream, sequence)
    }

    fn last(&self, stream: Stream, filter: &str) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        self.log.last(stream, filter)
    }

    fn load_position(&self, name: &str) -> BoxFuture<'_, Result<Option<Position>, LogError>> {
        self.log.load_position(name)
    }

    fn save_position(&self, name: &str, position: Position) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.save_position(name, position)
    }
}

/// Without the check it would wait at the old log's sequence until the new log grows past it.
#[tokio::test(start_paused = true)]
async fn a_log_that_was_replaced_while_out_of_reach_ends_the_runner() {
    let world = World::new();
    world.feed(&inputs(50, 5)).await;
    let away = Arc::new(Away {
        log: world.log.clone(),
        away: watch::Sender::new(false),
    });
    let runner = ChainRunner::open_in(
        away.clone(),
        Box::new(world.store.clone()),
        SITE,
        Chain::Site,
        Box::new(CountingFold::version(1)),
        Progress::new("chain"),
        RunnerOptions::for_chain(Chain::Site),
    );
    let runner = runner.await.unwrap();
    let stats = runner.stats();
    let running = tokio::spawn(runner.drive(CancellationToken::new()));
    wait_for(&stats, |seen| seen.position == 50 && seen.outbox == 0).await;
    away.away.send_replace(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!running.is_finished(), "a log that is away is waited for");
    world.log.replace();
    world.feed(&inputs(10, 6)).await;
    away.away.send_replace(false);
    let ended = tokio::time::timeout(Duration::from_secs(60), running).await;
    let ended = ended
        .expect("it does not wait for record 51 of another log")
        .unwrap();
    assert!(
        matches!(ended, Err(RunnerError::Log(LogError::Stopped(_)))),
        "{ended:?}"
    );
}
