//! A log that sends ahead, and of an append that was cut short stored the end and not the beginning.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use watchfold_kit::Progress;
use watchfold_log::memory::MemoryLog;
use watchfold_log::{Ack, Append, LogError, LogReader, MessageLog, Position, Record, Start, StreamInfo};
use watchfold_schemas::{Chain, Stream};

use super::world::{CountingFold, World, assert_same, inputs};
use crate::{ChainRunner, RunnerError};

/// Stores two runs from the middle of the next append of events, and fails for good.
struct CutShort {
    log: Arc<MemoryLog>,
    cut: AtomicBool,
}

impl MessageLog for CutShort {
    fn append(&self, mut messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Ack>, LogError>> {
        async move {
            let events = messages
                .first()
                .is_some_and(|message| message.stream == Stream::Events);
            if !events || messages.len() < 8 {
                return self.log.append(messages).await;
            }
            let quarter = messages.len() / 4;
            let end = messages.split_off(3 * quarter);
            let middle = messages.drain(quarter..2 * quarter);
            // What was sent later is there first.
            self.log.append(end.into_iter().chain(middle).collect()).await?;
            self.cut.store(true, Ordering::Relaxed);
            Err(LogError::Stopped("cut short".to_owned()))
        }
        .boxed()
    }

    fn reader(
        &self,
        stream: Stream,
        filter: &str,
        start: Start,
    ) -> BoxFuture<'_, Result<Box<dyn LogReader>, LogError>> {
        self.log.reader(stream, filter, start)
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

/// A life that ends with a cut append.
async fn cut_short(world: &World, version: u32) {
    let log = Arc::new(CutShort {
        log: world.log.clone(),
        cut: AtomicBool::new(false),
    });
    let runner = ChainRunner::open_in(
        log.clone(),
        Box::new(world.store.clone()),
        super::world::SITE,
        Chain::Site,
        Box::new(CountingFold::version(version)),
        Progress::new("chain"),
        world.options.clone(),
    )
    .await
    .unwrap();
    let outcome = runner.drive(CancellationToken::new()).await;
    assert!(
        matches!(outcome, Err(RunnerError::Log(LogError::Stopped(_)))),
        "{outcome:?}"
    );
    assert!(log.cut.load(Ordering::Relaxed));
}

/// Lives that end with a cut append, what befalls the store after each, and how many the records are.
async fn check(name: &str, lives: usize, version: u32, befall: impl Fn(&World)) {
    for before in [0, 150] {
        let mut world = World::new();
        world.options.uncommitted_records_max = 200;
        let messages = inputs(900, 21);
        world.feed(&messages[..before]).await;
        world.settle(CountingFold::version(1)).await;
        for life in 0..lives {
            world
                .feed(&messages[before + life * 200..before + (life + 1) * 200])
                .await;
            cut_short(&world, 1).await;
            befall(&world);
        }
        let context = format!("{name}, {lives} lives, {before} before");
        let stats = world.settle(CountingFold::version(version)).await;
        assert_eq!(stats.published_duplicates, 0, "{context}: published twice");
        let mut got = world.published();
        let ids: BTreeSet<_> = got.iter().map(|event| event.id.clone()).collect();
        assert_eq!(ids.len(), got.len(), "{context}");
        got.sort_by_key(|event| event.place);
        assert_same(&got, &world.expected(CountingFold::version(1)).await, &context);
        let again = world.settle(CountingFold::version(version)).await;
        assert_eq!(
            (again.published, again.stores_set_aside),
            (0, 0),
            "{context}: all is told"
        );
        world.store.restore(Vec::new());
        let anew = world.settle(CountingFold::version(version)).await;
        assert_eq!(anew.published, 0, "{context}: a refold is silent");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_append_left_out_is_published_by_the_next_life() {
    for lives in [1, 3] {
        check("the store is there", lives, 1, |_| ()).await;
        check("the store is gone", lives, 1, |world| {
            world.store.restore(Vec::new())
        })
        .await;
    }
    check("the next life is of newer software", 1, 2, |_| ()).await;
}
