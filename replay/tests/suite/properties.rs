//! Any story, cut anywhere: the same digest.

use proptest::prelude::*;
use watchfold_log::default_stream_options;
use watchfold_replay::digest::Digests;
use watchfold_replay::{Engine, Input, Step, Under, record};
use watchfold_schemas::{Event, Stream};
use watchfold_tests::story::{observations, parse};

use crate::world::{GrowingLog, World, everything, record_as, replay, replay_all, span};

const SITE: &str = "target router\ntarget internet 8.8.8.8 1.1.1.1 after router\npcs 3\nset min_session 20\n\
    set flapping_window 120\nset batch_window 10\nset remind_every 60\nrun 0..300\n";

fn story() -> impl Strategy<Value = String> {
    let subject = prop::sample::select(vec!["router", "internet", "8.8.8.8", "PC-1", "PC-*", "*"]);
    let downs = prop::collection::vec((subject, 0u32..300, 1u32..120), 0..6);
    let steps = prop::collection::vec((0u32..300, -1_000i32..1_000), 0..2);
    let absent = prop::collection::vec((0u32..280, 1u32..60), 0..2);
    (downs, steps, absent).prop_map(|(downs, steps, absent)| {
        let mut text = SITE.to_owned();
        for (subject, from, length) in downs {
            text += &format!("down {subject} {from}.3..{}.3\n", from + length);
        }
        for (at, by) in steps {
            text += &format!("step {at}.5 {by}\n");
        }
        for (from, length) in absent {
            text += &format!("absent {from}.7..{}.7\n", from + length);
        }
        text
    })
}

fn digest<'e>(events: impl IntoIterator<Item = &'e Event>) -> Vec<(String, String, u64)> {
    let mut digests = Digests::default();
    events.into_iter().for_each(|event| digests.add(event).unwrap());
    digests.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replays_agree_and_pieces_are_the_whole(text in story(), cut in 1.0f64..299.0) {
        let world = World::new(&text);
        let live = digest(&world.events);
        let whole = replay(world.data(), everything(), Under::recorded());
        prop_assert_eq!(&whole.digests, &live);
        prop_assert_eq!(&replay(world.data(), everything(), Under::recorded()).digests, &live);
        // A wall clock that was set back leaves `stored_at` standing still, so a cut may leave one side empty.
        let halves = [span(None, Some(cut)), span(Some(cut), None)];
        let (mut pieces, mut made) = (Vec::new(), Vec::new());
        for (name, half) in ["first.wfrec", "second.wfrec"].into_iter().zip(halves) {
            let options = watchfold_replay::RecordOptions {
                selection: half,
                out: world.file(name),
                software: "0.1.0".to_owned(),
                ..watchfold_replay::RecordOptions::default()
            };
            if record(world.data(), &options).is_ok() {
                let piece = replay(&world.file(name), everything(), Under::recorded());
                prop_assert_eq!(&piece.recorded, &piece.events);
                pieces.extend(piece.events);
                made.push(world.file(name));
            }
        }
        prop_assert_eq!(digest(&pieces), live.clone());
        // Given together, in whatever order, they are the whole too.
        made.reverse();
        prop_assert_eq!(replay_all(&made, everything(), Under::recorded()).digests, live.clone());
        record_as(world.data(), &world.file("whole.wfrec"), everything());
        prop_assert_eq!(replay(&world.file("whole.wfrec"), everything(), Under::recorded()).digests, live);
    }

    #[test]
    fn several_sites_in_any_split_with_restarts_anywhere_have_the_same_digest(
        texts in prop::collection::vec(story(), 1..4),
        splits in prop::collection::vec(1usize..200, 1..12),
        restarts in prop::collection::vec(0.0f64..1.0, 0..4),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (mut sites, mut alone) = (Vec::new(), Vec::new());
        for (index, text) in texts.iter().enumerate() {
            let mut story = parse(text).unwrap();
            story.config.site = format!("cafe-{index}");
            let observed = observations(&story);
            alone.extend(watchfold_tests::story::fold(&story.config.site, &observed));
            sites.push(observed.into_iter());
        }
        let want = digest(&alone);
        // The sites take turns with a few records each, and the log gets them in batches of its own.
        let mut log = GrowingLog::open(&directory.path().join("log"), default_stream_options(Stream::Observations));
        let mut sizes = splits.iter().cycle();
        loop {
            let turn = sites.iter_mut().flat_map(|site| site.by_ref().take(*sizes.next().unwrap()));
            let batch: Vec<_> = turn.collect();
            if batch.is_empty() {
                break;
            }
            log.append(&batch);
        }
        let of_log = replay(directory.path(), everything(), Under::recorded());
        prop_assert_eq!(&of_log.digests, &want);
        prop_assert_eq!(digest(&of_log.recorded), want.clone());
        let file = directory.path().join("all.wfrec");
        record_as(directory.path(), &file, everything());
        for path in [directory.path(), &file] {
            prop_assert_eq!(&with_restarts(path, &restarts), &want);
        }
    }
}

/// The digest of a replay that is broken off at parts of the whole, and goes on each time from what a snapshot holds.
fn with_restarts(path: &std::path::Path, restarts: &[f64]) -> Vec<(String, String, u64)> {
    let mut input = Input::open(path, &everything()).unwrap();
    let mut steps = Vec::new();
    while let Some(step) = input.next_step().unwrap() {
        steps.push(step);
    }
    let stops: Vec<usize> = restarts
        .iter()
        .map(|part| (part * steps.len() as f64) as usize)
        .collect();
    let mut engine = Engine::new(Under::recorded());
    let mut events = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        if stops.contains(&index) {
            let snapshots = engine.snapshots();
            engine = Engine::new(Under::recorded());
            for snapshot in snapshots {
                engine.take(&Step::Snapshot(Box::new(snapshot)));
            }
        }
        events.extend(engine.take(step));
    }
    digest(&events)
}
