//! One recording published to each transport gives identical events: the same chain, run by the same runner, over the
//! embedded log and over a real broker.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchfold_folds::SiteChain;
use watchfold_jetstream::JetStream;
use watchfold_jetstream::testing::NatsServer;
use watchfold_kit::Progress;
use watchfold_log::{Append, Embedded, MessageLog, Options, Record, Start};
use watchfold_runner::{ChainRunner, MemoryStore, RunnerOptions};
use watchfold_schemas::{Chain, Observation, Stream, encode_observation, subjects};
use watchfold_tests::story::{fold, observations, parse};

const SITE: &str = "cafe-1";

/// An outage with a cascade, arrivals and departures, and reminders.
const STORY: &str = "target router\ntarget internet after router\npcs 2\nset remind_every 60\nrun 0..500\n\
                     down router 100..300\ndown PC-1 350..500\n";

/// How long a chain may take, on a loaded machine.
const WAIT_MAX: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_recording_gives_identical_events_on_each_transport() {
    let input = observations(&parse(STORY).unwrap());
    let expected = fold(SITE, &input).len();
    assert!(expected > 10, "the story is told: {expected} events");

    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(&dir.path().join("log"), Options::default()).unwrap();
    let on_disk = derive(embedded, &input, expected).await;

    let server = NatsServer::start().await.unwrap();
    let broker = JetStream::start(server.options());
    broker.ready(WAIT_MAX).await.unwrap();
    let on_broker = derive(broker, &input, expected).await;

    for (one, other) in on_disk.iter().zip(&on_broker) {
        assert_eq!(
            (&one.id, &one.subject, &one.payload),
            (&other.id, &other.subject, &other.payload)
        );
    }
    assert_eq!((on_disk.len(), on_broker.len()), (expected, expected));
}

/// Publishes the observations, runs the chain over them, and gives the events in the order of their places.
async fn derive(log: Arc<dyn MessageLog>, input: &[Observation], expected: usize) -> Vec<Record> {
    for part in input.chunks(100) {
        log.append(part.iter().map(append_of).collect()).await.unwrap();
    }
    let runner = ChainRunner::open_in(
        log.clone(),
        Box::new(MemoryStore::new()),
        SITE,
        Chain::Site,
        Box::new(SiteChain::new(SITE)),
        Progress::new("site"),
        RunnerOptions::for_chain(Chain::Site),
    );
    let runner = runner.await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(runner.run(stop.clone()));
    let filter = subjects::chain_events_filter(SITE, Chain::Site);
    let mut reader = log.reader(Stream::Events, &filter, Start::First).await.unwrap();
    let mut events = Vec::new();
    while events.len() < expected {
        let batch = tokio::time::timeout(WAIT_MAX, reader.next(100))
            .await
            .unwrap()
            .unwrap();
        events.extend(batch.records);
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    events.extend(reader.try_next(100).await.unwrap().records);
    events
}

fn append_of(observation: &Observation) -> Append {
    let origin = &observation.origin;
    Append {
        stream: Stream::Observations,
        subject: subjects::observation(&origin.site, observation.body.kind(), &origin.collector),
        id: origin.message_id(),
        payload: encode_observation(observation).unwrap().into(),
    }
}
