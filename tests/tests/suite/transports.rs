//! One recording published to each transport gives identical events: the same chains, run by the same runner, over the
//! embedded log, over a real broker, and over a log whose readers return one record at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchfold_capture::{FileObservations, FileOptions};
use watchfold_folds::{PacketChain, SiteChain, StateMachine};
use watchfold_jetstream::JetStream;
use watchfold_jetstream::testing::NatsServer;
use watchfold_kit::Progress;
use watchfold_log::{Append, Embedded, LogReader, MessageLog, Options, Record, Start};
use watchfold_rules::{PackName, RuleSource, load};
use watchfold_runner::{ChainRunner, MemoryStore, RunnerOptions};
use watchfold_schemas::rules::{RulesActivation, Surroundings};
use watchfold_schemas::{Body, Chain, Observation, Origin, Stream, encode_observation, subjects};
use watchfold_tests::story::{fold, observations, parse};

use crate::short_reads::ShortReads;

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

/// A scan in a capture file, judged by the classic pack: the packets' chain tells the site's by findings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captured_packets_give_identical_events_on_each_transport() {
    let options = FileOptions {
        site: SITE.to_owned(),
        batch_rows: 4,
        ..FileOptions::default()
    };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/scan_14_15/input.pcap");
    let captured = FileObservations::open(&[file.into()], options).unwrap();
    let mut input: Vec<Observation> = captured.map(Result::unwrap).collect();
    input.insert(0, rules(&input[0]));
    assert!(input.len() > 5, "{} records", input.len());

    let dir = tempfile::tempdir().unwrap();
    let on_disk = Embedded::open(&dir.path().join("log"), Options::default()).unwrap();
    let on_disk = attacks(on_disk, &input).await;
    let server = NatsServer::start().await.unwrap();
    let broker = JetStream::start(server.options());
    broker.ready(WAIT_MAX).await.unwrap();
    let on_broker = attacks(broker, &input).await;
    let behind = Embedded::open(&dir.path().join("short"), Options::default()).unwrap();
    let in_short_reads = attacks(Arc::new(ShortReads(behind)), &input).await;

    for kind in [
        "alert_raised",
        "attack_began",
        "attack_ended",
        "incident_opened",
        "incident_closed",
    ] {
        let told = on_disk.iter().filter(|record| record.subject.contains(kind));
        assert_eq!(told.count(), 1, "{kind}");
    }
    let of = |records: &[Record]| -> Vec<_> {
        let record = |record: &Record| (record.id.clone(), record.subject.clone(), record.payload.clone());
        records.iter().map(record).collect()
    };
    assert_eq!(of(&on_disk), of(&on_broker));
    assert_eq!(of(&on_disk), of(&in_short_reads));
}

/// The rules in force before the first packet.
fn rules(first: &Observation) -> Observation {
    let set = load(&RuleSource::Pack(PackName::Classic))
        .unwrap()
        .of_chain(Chain::Packets);
    let surroundings = Surroundings::default();
    Observation {
        origin: Origin {
            collector: "config".to_owned(),
            ..first.origin.clone()
        },
        body: Body::Rules(Box::new(RulesActivation {
            at: first.observed_at,
            chain: Chain::Packets,
            hash: RulesActivation::hash_of(Chain::Packets, &set, &surroundings),
            set,
            surroundings,
            software: "test".to_owned(),
        })),
        ..first.clone()
    }
}

/// What both chains derive from these packets: the events of one, then those of the other.
async fn attacks(log: Arc<dyn MessageLog>, input: &[Observation]) -> Vec<Record> {
    for part in input.chunks(100) {
        log.append(part.iter().map(append_of).collect()).await.unwrap();
    }
    let mut events = Vec::new();
    let folds: [(Chain, Box<dyn StateMachine>); 2] = [
        (Chain::Packets, Box::new(PacketChain::new(SITE))),
        (Chain::Site, Box::new(SiteChain::new(SITE))),
    ];
    for (chain, fold) in folds {
        let progress = Progress::new(chain.token());
        let (store, options) = (Box::new(MemoryStore::new()), RunnerOptions::for_chain(chain));
        let runner = ChainRunner::open_in(log.clone(), store, SITE, chain, fold, progress, options);
        let runner = runner.await.unwrap();
        let (stats, stop) = (runner.stats(), CancellationToken::new());
        let running = tokio::spawn(runner.run(stop.clone()));
        let read = match chain {
            Chain::Packets => Stream::Packets,
            Chain::Site => Stream::Observations,
        };
        let head = log.info(read).await.unwrap().last_sequence;
        let folded = async {
            while stats.snapshot().position < head || stats.snapshot().outbox > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(WAIT_MAX, folded).await.unwrap();
        stop.cancel();
        running.await.unwrap().unwrap();
        let filter = subjects::chain_events_filter(SITE, chain);
        let mut reader = log.reader(Stream::Events, &filter, Start::First).await.unwrap();
        events.extend(rest(&mut *reader).await);
    }
    events
}

/// Every record that the log has for this reader: a read may return some of them, and only an empty one is the end.
async fn rest(reader: &mut dyn LogReader) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let batch = reader.try_next(1_000).await.unwrap();
        assert_eq!(batch.lost, None);
        if batch.records.is_empty() {
            return records;
        }
        records.extend(batch.records);
    }
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
    events.extend(rest(&mut *reader).await);
    events
}

fn append_of(observation: &Observation) -> Append {
    let origin = &observation.origin;
    let stream = observation.body.stream();
    Append {
        stream,
        subject: subjects::of_observation(stream, &origin.site, observation.body.kind(), &origin.collector),
        id: origin.message_id(),
        payload: encode_observation(observation).unwrap().into(),
    }
}
