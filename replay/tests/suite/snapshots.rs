//! Where a span begins: at the chain's own snapshots in the log, at its first record, or with a warm-up where that is gone.

use std::path::Path;

use watchfold_folds::{SiteChain, StateMachine};
use watchfold_log::{Append, Embedded, MessageLog, Options, StreamOptions, StreamReport, stat};
use watchfold_replay::{Selection, Under};
use watchfold_schemas::codec::encode;
use watchfold_schemas::snapshot::{
    FoldVersion, SNAPSHOT_VERSION, SnapshotChunk, SnapshotManifest, SnapshotPart, SnapshotPosition,
    SnapshotRecord, SnapshotState, StateEntry,
};
use watchfold_schemas::{Chain, MessageId, Stream, Time, subjects};

use crate::world::{World, replay, span};

const DAY: &str = "target router\ntarget internet 8.8.8.8 1.1.1.1 after router\npcs 4\nset min_session 20\n\
    set batch_window 10\nrun 0..300\ndown internet 50..62 100.3..250.7\ndown PC-2 0..120\n";

/// Chunks small enough that a snapshot has several.
const CHUNK_BYTES: usize = 500;

fn observations_of(log: &Path) -> StreamReport {
    let mut streams = stat(log).unwrap().streams;
    streams.retain(|report| report.stream == Stream::Observations.name());
    streams.remove(0)
}

/// Appends a snapshot of the chain after `count` records, as the runner does. `spoil` may damage its first chunk.
fn append_snapshot(world: &World, count: usize, spoil: bool) {
    let log = world.data().join("log");
    let report = observations_of(&log);
    let mut chain = SiteChain::new("cafe-1");
    for (sequence, observation) in (1..).zip(&world.observations[..count]) {
        chain.apply(sequence, observation);
    }
    let entries = chain
        .entries()
        .into_iter()
        .map(|(key, value)| StateEntry { key, value });
    let state = SnapshotState {
        v: SNAPSHOT_VERSION,
        entries: entries.collect(),
        outbox: Vec::new(),
        collectors: Vec::new(),
    };
    let state = encode(&state).unwrap();
    let set = format!("{count}-set");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let log = Embedded::open(&log, Options::default()).unwrap();
    let append = |name: String, part: SnapshotPart| {
        let record = SnapshotRecord {
            v: SNAPSHOT_VERSION,
            set: set.clone(),
            part,
        };
        let message = Append {
            stream: Stream::Snapshots,
            subject: subjects::snapshot("cafe-1", Chain::Site),
            id: MessageId(format!("{set}/{name}")),
            payload: encode(&record).unwrap().into(),
        };
        runtime.block_on(log.append(vec![message])).unwrap()[0].sequence
    };
    let mut chunk_sequences = Vec::new();
    for (index, data) in (0..).zip(state.chunks(CHUNK_BYTES)) {
        let crc32c = crc32c::crc32c(data) ^ u32::from(spoil && index == 0);
        let data = data.to_vec();
        chunk_sequences.push(append(
            index.to_string(),
            SnapshotPart::Chunk(SnapshotChunk { index, crc32c, data }),
        ));
    }
    let manifest = SnapshotManifest {
        site: "cafe-1".to_owned(),
        chain: Chain::Site,
        position: SnapshotPosition {
            log_id: report.log_id,
            sequence: count as u64,
            id: world.observations[count - 1].origin.to_string(),
        },
        published: None,
        versions: chain
            .versions()
            .into_iter()
            .map(|(fold, version)| FoldVersion { fold, version })
            .collect(),
        at: Time(0),
        chunk_sequences,
        bytes: state.len() as u64,
        crc32c: crc32c::crc32c(&state),
        previous: None,
    };
    append("manifest".to_owned(), SnapshotPart::Manifest(Box::new(manifest)));
    log.close();
}

#[test]
fn a_late_span_begins_at_the_newest_whole_snapshot_before_it() {
    let world = World::new(DAY);
    let late = span(Some(200.0), None);
    let folded = replay(world.data(), late.clone(), Under::recorded());
    assert!(folded.events.len() >= 3, "{}", folded.events.len());
    let total = world.observations.len();
    let before_span = folded.engine_counters.lead_in_records;
    assert!(before_span > total as u64 / 2, "{before_span} of {total}");
    // The second is damaged, the third lies behind the start of the span: the first is taken.
    append_snapshot(&world, total / 4, false);
    append_snapshot(&world, total / 3, true);
    append_snapshot(&world, total - 2, false);
    for site in [None, Some("cafe-1".to_owned())] {
        let begun = replay(
            world.data(),
            Selection { site, ..late.clone() },
            Under::recorded(),
        );
        assert_eq!(
            begun.engine_counters.lead_in_records,
            before_span - total as u64 / 4
        );
        assert_eq!(begun.events, folded.events);
        assert_eq!(begun.recorded, folded.events);
    }
    // The recording of the span has the state in front, whichever way it came about.
    world.record("late.wfrec", late);
    let of_file = replay(&world.file("late.wfrec"), Selection::default(), Under::recorded());
    assert_eq!(of_file.events, folded.events);
    assert_eq!(of_file.engine_counters.lead_in_records, 0);
}

#[test]
fn a_log_that_lost_its_beginning_warms_up() {
    let options = StreamOptions {
        segment_bytes: 32 * 1024,
        ..StreamOptions::new(128 * 1024, None)
    };
    // The configuration is recorded once more in what is kept, as it is each day.
    let text = DAY.replace("run 0..300", "at 1350 set min_incident 12\nrun 0..1400");
    let story = watchfold_tests::story::parse(&text).unwrap();
    let world = World::with_options(story, options);
    let first = observations_of(&world.data().join("log")).first_sequence;
    assert!(first > 1, "nothing was retired");
    world.record("cut.wfrec", Selection::default());
    for path in [world.data().to_owned(), world.file("cut.wfrec")] {
        let replayed = replay(&path, Selection::default(), Under::recorded());
        assert_eq!(replayed.warm_ups, 1);
        assert!(
            replayed.engine_counters.warm_up_events > 0,
            "{:?}",
            replayed.engine_counters
        );
        assert_eq!(replayed.engine_counters.events, replayed.events.len() as u64);
    }
}
