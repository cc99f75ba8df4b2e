//! Snapshots: when they are taken, that a rebuild from one equals a full one, and that half a one counts for nothing.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use watchfold_kit::Progress;
use watchfold_log::memory::MemoryLog;
use watchfold_log::{Ack, Append, LogError, LogReader, MessageLog, Position, Record, Start, StreamInfo};
use watchfold_schemas::codec::{decode_versioned, encode};
use watchfold_schemas::observation::Tick;
use watchfold_schemas::snapshot::{SNAPSHOT_VERSION, SnapshotManifest, SnapshotPart, SnapshotRecord};
use watchfold_schemas::{Body, Chain, MessageId, Span, Stream, Time};

use super::world::{CountingFold, SITE, World, inputs, message, observation};
use crate::snapshot::{Draft, candidates, write};
use crate::{ChainRunner, CrashHook, CrashPoint, RunnerError};

fn snapshot_records(world: &World) -> Vec<SnapshotRecord> {
    let decode = |payload: &Bytes| decode_versioned(payload, "snapshot", SNAPSHOT_VERSION).unwrap();
    world
        .log
        .records(Stream::Snapshots)
        .iter()
        .map(|record| decode(&record.payload))
        .collect()
}

fn manifests(world: &World) -> Vec<SnapshotManifest> {
    let manifest = |record: SnapshotRecord| match record.part {
        SnapshotPart::Manifest(manifest) => Some(*manifest),
        SnapshotPart::Chunk(_) => None,
    };
    snapshot_records(world).into_iter().filter_map(manifest).collect()
}

#[tokio::test(start_paused = true)]
async fn one_is_taken_each_hour_of_ticks_at_the_tick_that_begins_it() {
    let world = World::new();
    let tick = |minute: i64| {
        let now = Time::from_seconds(1_700_000_000).floor(Span::from_seconds(3_600))
            + Span::from_seconds(60 * minute);
        message(&observation(
            "clock",
            1,
            minute as u64 + 1,
            Body::Tick(Tick {
                now,
                interval_ms: 60_000,
            }),
        ))
    };
    let ticks: Vec<Append> = (0..200).map(tick).collect();
    world.feed(&ticks).await;
    let stats = world.settle(CountingFold::version(1)).await;
    let at: Vec<u64> = manifests(&world)
        .iter()
        .map(|manifest| manifest.position.sequence)
        .collect();
    assert_eq!(at, [61, 121, 181]);
    assert_eq!(stats.snapshots, 3);
    let links: Vec<Option<u64>> = manifests(&world)
        .iter()
        .map(|manifest| manifest.previous)
        .collect();
    assert_eq!(links, [None, Some(2), Some(4)]);
    // A restart within the hour takes none.
    assert_eq!(world.settle(CountingFold::version(1)).await.snapshots, 0);
}

#[tokio::test(start_paused = true)]
async fn one_is_taken_every_eighth_of_the_streams_limit() {
    let mut world = World::new();
    world.options.snapshot_every = Span::from_seconds(1_000_000);
    let messages = inputs(400, 21);
    let size = |append: &Append| (append.payload.len() + append.subject.len() + append.id.0.len()) as u64;
    let bytes: u64 = messages.iter().map(size).sum();
    world.options.stream_bytes_max = bytes * 2;
    world.feed(&messages).await;
    world.settle(CountingFold::version(1)).await;
    let taken = manifests(&world).len();
    assert!(
        (3..=4).contains(&taken),
        "an eighth of the limit is a quarter of the input: {taken}"
    );
}

/// The store is gone and the front of the log too: what is left is a snapshot and the records after it.
#[tokio::test(start_paused = true)]
async fn a_rebuild_from_a_snapshot_equals_an_uninterrupted_run() {
    for kept_after in [0, 30] {
        let world = World::new();
        let messages = inputs(900, 22);
        world.feed(&messages[..700]).await;
        world.settle(CountingFold::version(1)).await;
        let newest = manifests(&world).last().unwrap().position.sequence;
        let want = world.store.copy();
        let full = World::new();
        full.feed(&messages).await;
        world
            .log
            .truncate_front(Stream::Observations, newest as usize - kept_after);
        world.store.restore(Vec::new());
        let stats = world.settle(CountingFold::version(1)).await;
        assert_eq!((stats.rebuilds, stats.published, stats.lost_records), (1, 0, 0));
        assert_eq!(stats.records, 700 - newest, "only what came after it");
        assert_eq!(entries(&world.store.copy()), entries(&want), "the same state");
        world.feed(&messages[700..]).await;
        world.settle(CountingFold::version(1)).await;
        let (got, want) = (world.published(), full.expected(CountingFold::version(1)).await);
        super::world::assert_same(&got, &want, "from a snapshot");
    }
}

/// A log that takes everything but events.
struct EventsRefused(std::sync::Arc<MemoryLog>);

impl MessageLog for EventsRefused {
    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Ack>, LogError>> {
        if messages.iter().any(|message| message.stream == Stream::Events) {
            return Box::pin(async {
                Err(LogError::Full {
                    path: "events".into(),
                })
            });
        }
        self.0.append(messages)
    }

    fn reader(
        &self,
        stream: Stream,
        filter: &str,
        start: Start,
    ) -> BoxFuture<'_, Result<Box<dyn LogReader>, LogError>> {
        self.0.reader(stream, filter, start)
    }

    fn info(&self, stream: Stream) -> BoxFuture<'_, Result<StreamInfo, LogError>> {
        self.0.info(stream)
    }

    fn get(&self, stream: Stream, sequence: u64) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        self.0.get(stream, sequence)
    }

    fn last(&self, stream: Stream, filter: &str) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        self.0.last(stream, filter)
    }

    fn load_position(&self, name: &str) -> BoxFuture<'_, Result<Option<Position>, LogError>> {
        self.0.load_position(name)
    }

    fn save_position(&self, name: &str, position: Position) -> BoxFuture<'_, Result<(), LogError>> {
        self.0.save_position(name, position)
    }
}

/// Nothing is left but the snapshot: the outbox and the collectors' numbers are in it as well.
#[tokio::test(start_paused = true)]
async fn a_snapshot_holds_the_outbox_and_the_collectors() {
    let world = World::new();
    let messages = inputs(400, 28);
    world.feed(&messages).await;
    let want = world.expected(CountingFold::version(1)).await;
    let runner = ChainRunner::open_in(
        std::sync::Arc::new(EventsRefused(world.log.clone())),
        Box::new(world.store.clone()),
        SITE,
        Chain::Site,
        Box::new(CountingFold::version(1)),
        Progress::new("chain"),
        world.options.clone(),
    )
    .await
    .unwrap();
    let cancel = CancellationToken::new();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        cancel.cancel();
    };
    tokio::join!(runner.drive(cancel.clone()), stop).0.unwrap();
    assert_eq!(world.published(), []);
    // What came after the snapshot is gone too, so nothing else can tell the number again.
    let position = manifests(&world).last().unwrap().position.sequence;
    world.store.restore(Vec::new());
    world
        .log
        .truncate_tail(Stream::Observations, 400 - position as usize);
    world
        .log
        .truncate_front(Stream::Observations, position as usize - 1);
    let again = Append {
        id: MessageId("WF_OBS:again".into()),
        ..messages[position as usize - 1].clone()
    };
    world.feed(&[again]).await;
    let stats = world.settle(CountingFold::version(1)).await;
    assert_eq!((stats.duplicates, stats.records), (1, 0));
    let want: Vec<_> = want
        .into_iter()
        .filter(|event| event.place.input <= position)
        .collect();
    super::world::assert_same(&world.published(), &want, "from the snapshot's outbox");
}

/// State, collectors and outbox; the facts also hold when snapshots were taken.
fn entries(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<&(Vec<u8>, Vec<u8>)> {
    pairs.iter().filter(|(key, _)| key != b"f").collect()
}

#[tokio::test(start_paused = true)]
async fn without_a_snapshot_a_cut_log_is_told_as_lost() {
    let mut world = World::new();
    world.options.snapshot_every = Span::from_seconds(1_000_000);
    world.feed(&inputs(200, 23)).await;
    world.settle(CountingFold::version(1)).await;
    let before = world.published();
    world.log.truncate_front(Stream::Observations, 50);
    world.store.restore(Vec::new());
    let stats = world.settle(CountingFold::version(1)).await;
    assert_eq!((stats.lost_records, stats.records), (50, 150));
    let after = world.published();
    assert_eq!(after[..before.len()], before);
    let mark = before.last().unwrap().place;
    assert!(
        after[before.len()..].iter().all(|event| event.place > mark),
        "nothing old is told again"
    );
}

/// A crash in the middle leaves chunks without a manifest; the one before is used.
#[tokio::test(start_paused = true)]
async fn half_a_snapshot_is_ignored_in_favour_of_the_older() {
    let mut world = World::new();
    let messages = inputs(900, 24);
    world.feed(&messages[..400]).await;
    world.settle(CountingFold::version(1)).await;
    let whole = manifests(&world).len();
    world.options.crash = CrashHook::new(|point| point == CrashPoint::DuringSnapshot);
    world.feed(&messages[400..]).await;
    let outcome = world
        .settle_runner(world.open(CountingFold::version(1)).await)
        .await;
    assert!(
        matches!(outcome, Err(RunnerError::Crashed(CrashPoint::DuringSnapshot))),
        "{outcome:?}"
    );
    assert!(matches!(
        snapshot_records(&world).last().unwrap().part,
        SnapshotPart::Chunk(_)
    ));
    assert_eq!(manifests(&world).len(), whole);
    world.options.crash = CrashHook::default();
    world.store.restore(Vec::new());
    let newest = manifests(&world).last().unwrap().position.sequence;
    let stats = world.settle(CountingFold::version(1)).await;
    assert_eq!(stats.records, 900 - newest);
    world.check(CountingFold::version(1), "half a snapshot").await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_another_log_is_passed_over() {
    let world = World::new();
    world.feed(&inputs(400, 25)).await;
    world.settle(CountingFold::version(1)).await;
    let other = World::new();
    for record in world.log.records(Stream::Snapshots) {
        let (id, subject, payload) = (record.id, record.subject, record.payload);
        other
            .feed(&[Append {
                stream: Stream::Snapshots,
                subject,
                id,
                payload,
            }])
            .await;
    }
    other.feed(&inputs(300, 26)).await;
    assert_eq!(other.settle(CountingFold::version(1)).await.records, 300);
    other.check(CountingFold::version(1), "another log").await;
}

/// A large state in several chunks, and one of its records damaged in turn.
#[tokio::test(start_paused = true)]
async fn each_damage_to_a_set_makes_it_not_count() {
    let world = World::new();
    world.feed(&inputs(10, 27)).await;
    world.settle(CountingFold::version(1)).await;
    let draft = || draft(&world, 1_400_000);
    write(world.log.as_ref(), draft(), &CrashHook::default())
        .await
        .unwrap();
    let records = world.log.records(Stream::Snapshots);
    assert_eq!(records.len(), 4, "three chunks and the manifest");
    assert!(records.iter().all(|record| record.payload.len() <= 512 * 1024));
    let found = candidates(world.log.as_ref(), "cafe", Chain::Site).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].read(world.log.as_ref()).await.unwrap().is_ok());
    for (index, damage) in [
        (0, "gone"),
        (0, "flipped"),
        (1, "flipped"),
        (2, "swapped"),
        (1, "foreign"),
    ] {
        let copy = World::new();
        for (at, record) in records.iter().enumerate() {
            let payload = match damage {
                _ if at != index => record.payload.clone(),
                "gone" => Bytes::from_static(b"nothing"),
                "swapped" => records[0].payload.clone(),
                "foreign" => foreign(&record.payload),
                _ => flipped(&record.payload),
            };
            let (id, subject) = (MessageId(format!("copy/{at}")), record.subject.clone());
            copy.feed(&[Append {
                stream: Stream::Snapshots,
                subject,
                id,
                payload,
            }])
            .await;
        }
        let found = candidates(copy.log.as_ref(), "cafe", Chain::Site).await.unwrap();
        let read = found[0].read(copy.log.as_ref()).await.unwrap();
        assert!(read.is_err(), "{damage} at {index}");
    }
    assert!(world.log.info(Stream::Snapshots).await.unwrap().last_sequence == 4);
}

fn draft(world: &World, bytes: usize) -> Draft {
    let position = watchfold_schemas::snapshot::SnapshotPosition {
        log_id: "log".into(),
        sequence: world.log.records(Stream::Observations).len() as u64,
        id: "cafe/ping/1/1".into(),
    };
    let manifest = SnapshotManifest {
        site: "cafe".into(),
        chain: Chain::Site,
        position,
        published: None,
        versions: Vec::new(),
        at: Time::EPOCH,
        chunk_sequences: Vec::new(),
        bytes: 0,
        crc32c: 0,
        previous: None,
    };
    let value = (0..bytes).map(|index| (index * 7 % 251) as u8).collect();
    let state = watchfold_schemas::snapshot::SnapshotState {
        v: SNAPSHOT_VERSION,
        entries: vec![watchfold_schemas::snapshot::StateEntry {
            key: b"k".to_vec(),
            value,
        }],
        outbox: Vec::new(),
        collectors: Vec::new(),
    };
    Draft::new(manifest, &state, usize::MAX).unwrap()
}

fn flipped(payload: &Bytes) -> Bytes {
    let mut bytes = payload.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes.into()
}

/// The same chunk in a set of another name.
fn foreign(payload: &Bytes) -> Bytes {
    let mut record: SnapshotRecord = decode_versioned(payload, "snapshot", SNAPSHOT_VERSION).unwrap();
    record.set.push('x');
    encode(&record).unwrap().into()
}
