//! A log that is away, or answers nothing for long: the sink waits, goes on by itself, and misses no answer meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use watchfold_log::memory::MemoryLog;
use watchfold_log::{
    Ack, Append, Batch, LogError, LogReader, MessageLog, Position, Record, Start, StreamInfo,
};
use watchfold_schemas::Stream;
use watchfold_schemas::event::NotificationRequest;

use super::delivery::World;
use super::{closed, opened, until};
use crate::{Attempt, Destination, Edit, EditOutcome, Job, Outcome, Pause};

/// A log over a network that a test cuts.
struct Distant {
    log: Arc<MemoryLog>,
    cut: Arc<Cut>,
}

#[derive(Default)]
struct Cut {
    /// Calls fail.
    away: AtomicBool,
    /// Calls are not answered; who waits for news may still get them.
    silent: AtomicBool,
}

impl Cut {
    async fn reach(&self) -> Result<(), LogError> {
        while self.silent.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if self.away.load(Ordering::SeqCst) {
            return Err(LogError::Unreachable {
                place: "a broker".into(),
                reason: "cut".into(),
                remedy: "mend it".into(),
            });
        }
        Ok(())
    }
}

impl MessageLog for Distant {
    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Ack>, LogError>> {
        self.log.append(messages)
    }

    fn reader(
        &self,
        stream: Stream,
        filter: &str,
        start: Start,
    ) -> BoxFuture<'_, Result<Box<dyn LogReader>, LogError>> {
        let filter = filter.to_owned();
        async move {
            self.cut.reach().await?;
            let (reader, cut) = (self.log.reader(stream, &filter, start).await?, self.cut.clone());
            Ok(Box::new(DistantReader { reader, cut }) as Box<dyn LogReader>)
        }
        .boxed()
    }

    fn info(&self, stream: Stream) -> BoxFuture<'_, Result<StreamInfo, LogError>> {
        async move {
            self.cut.reach().await?;
            self.log.info(stream).await
        }
        .boxed()
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

struct DistantReader {
    reader: Box<dyn LogReader>,
    cut: Arc<Cut>,
}

impl LogReader for DistantReader {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        self.reader.next(max)
    }

    fn try_next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        async move {
            self.cut.reach().await?;
            self.reader.try_next(max).await
        }
        .boxed()
    }
}

fn distant(world: &World) -> (Arc<Distant>, Arc<Cut>) {
    let cut = Arc::new(Cut::default());
    let log = Distant {
        log: world.log.clone(),
        cut: cut.clone(),
    };
    (Arc::new(log), cut)
}

#[tokio::test]
async fn a_log_that_goes_away_and_comes_back_is_waited_for() {
    let mut world = World::new();
    let (log, cut) = distant(&world);
    // Away from the start, as a broker that starts last.
    cut.away.store(true, Ordering::SeqCst);
    let running = world.start_on(log, world.far.clone()).await;
    let progress = running.progress.clone();
    let shows_it = || {
        progress
            .snapshot()
            .detail
            .is_some_and(|why| why.contains("a broker"))
    };
    until("it is shown", shows_it).await;
    world.ask(opened("a")).await;
    cut.away.store(false, Ordering::SeqCst);
    until("it is told", || world.far.told() == ["opened a"]).await;
    until("all is well", || progress.snapshot().detail.is_none()).await;

    cut.away.store(true, Ordering::SeqCst);
    until("it is shown again", shows_it).await;
    world.ask(closed("a")).await;
    cut.away.store(false, Ordering::SeqCst);
    until("the end is told", || world.far.told() == ["opened a", "closed a"]).await;
    // Stopped while it waits: at once.
    cut.away.store(true, Ordering::SeqCst);
    until("it is shown a third time", shows_it).await;
    running.stop().await;
}

/// A far side that takes a moment to answer.
#[derive(Default)]
struct Slow {
    called: AtomicBool,
    answer: AtomicBool,
    answered: AtomicBool,
}

impl Destination for Slow {
    fn lane(&self, _: &NotificationRequest) -> Option<String> {
        Some("all".into())
    }

    fn lanes(&self) -> BTreeMap<String, u64> {
        [("all".to_owned(), 0)].into()
    }

    fn deliver(self: Arc<Self>, _: Job) -> BoxFuture<'static, Attempt> {
        Box::pin(async move {
            self.called.store(true, Ordering::SeqCst);
            while !self.answer.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.answered.store(true, Ordering::SeqCst);
            Attempt {
                outcome: Outcome::Delivered { message: None },
                pause: Pause::None,
                thread_gone: false,
            }
        })
    }

    fn edit(self: Arc<Self>, _: Edit) -> BoxFuture<'static, EditOutcome> {
        Box::pin(async { EditOutcome::Done { pause: Pause::None } })
    }
}

#[tokio::test]
async fn an_answer_is_taken_while_the_log_is_silent() {
    let mut world = World::new();
    let (log, cut) = distant(&world);
    let far = Arc::new(Slow::default());
    let running = world.start_on(log, far.clone()).await;
    world.ask(opened("a")).await;
    until("the far side is called", || far.called.load(Ordering::SeqCst)).await;
    cut.silent.store(true, Ordering::SeqCst);
    // News: the sink begins to read on, and is not answered.
    world.ask(opened("b")).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    far.answer.store(true, Ordering::SeqCst);
    until("the answer is taken", || far.answered.load(Ordering::SeqCst)).await;
    cut.silent.store(false, Ordering::SeqCst);
    running.stop().await;
}
