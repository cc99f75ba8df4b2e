//! A replay gives what live gave: of a log, of a recording, of a piece of either.

use watchfold_replay::recording::BeginningState;
use watchfold_replay::{Input, ReplayError, Selection, Under};
use watchfold_schemas::Event;
use watchfold_tests::story::{BEGIN, instant, observations, parse};

use crate::world::{World, everything, record_as, replay, span, write};

const DAY: &str = "target router\ntarget internet 8.8.8.8 1.1.1.1 after router\npcs 4\nset min_session 20\n\
    set batch_window 10\nset remind_every 60\nrun 0..400\ndown internet 50..62 100.3..180.7\ndown router 200..290\n\
    down PC-2 0..120\ndown PC-3 300..400\nstep 330 -20\nfault internet 350..360\n";

#[test]
fn a_log_and_its_recording_give_what_live_gave() {
    let world = World::new(DAY);
    assert!(
        world.events.len() > 40,
        "a day with only {} events",
        world.events.len()
    );
    let of_log = replay(world.data(), everything(), Under::recorded());
    assert_eq!(of_log.events, world.events);
    assert_eq!(of_log.recorded, world.events);
    let recorded = world.record("day.wfrec", everything());
    assert_eq!(
        (recorded.records, recorded.events),
        (world.observations.len() as u64, world.events.len() as u64)
    );
    assert_eq!(recorded.header.beginnings[0].state, BeginningState::Empty);
    assert_eq!(
        recorded.bytes,
        std::fs::metadata(world.file("day.wfrec")).unwrap().len()
    );
    let of_file = replay(&world.file("day.wfrec"), everything(), Under::recorded());
    assert_eq!(of_file.events, world.events);
    assert_eq!(of_file.recorded, world.events);
    assert_eq!(of_file.digests, of_log.digests);
    assert!(of_file.problems.is_empty(), "{:?}", of_file.problems);
}

#[test]
fn two_recordings_of_one_span_are_the_same_bytes() {
    let world = World::new(DAY);
    let span = span(Some(120.0), Some(300.0));
    let first = world.record("a.wfrec", span.clone());
    let second = world.record("b.wfrec", span);
    assert_eq!(first.hash, second.hash);
    let read = |name| std::fs::read(world.file(name)).unwrap();
    assert_eq!(read("a.wfrec"), read("b.wfrec"));
}

#[test]
fn a_span_begins_with_what_was_so_before() {
    let world = World::new(DAY);
    for (from, to) in [(150.0, 400.0), (60.0, 250.0), (230.5, 331.0)] {
        let span = span(Some(from), Some(to));
        let recorded = world.record(&format!("{from}.wfrec"), span.clone());
        assert_eq!(recorded.header.beginnings[0].state, BeginningState::Snapshot);
        assert_eq!(recorded.header.activations.len(), 1);
        let of_file = replay(
            &world.file(&format!("{from}.wfrec")),
            everything(),
            Under::recorded(),
        );
        let of_log = replay(world.data(), span, Under::recorded());
        let first = of_file.events.first().unwrap().place;
        let last = of_file.events.last().unwrap().place;
        let live: Vec<&Event> = world
            .events
            .iter()
            .filter(|event| (first..=last).contains(&event.place))
            .collect();
        assert!(live.len() > 10, "{}", live.len());
        assert_eq!(of_file.events.iter().collect::<Vec<_>>(), live);
        assert_eq!(of_log.events, of_file.events);
        assert_eq!(of_file.recorded, of_file.events);
        assert_eq!(of_log.recorded, of_file.events);
    }
}

#[test]
fn a_recording_of_a_recording_is_a_piece_of_it() {
    let world = World::new(DAY);
    world.record("whole.wfrec", everything());
    let span = span(Some(170.0), Some(300.0));
    let of_log = world.record("direct.wfrec", span.clone());
    let of_file = record_as(&world.file("whole.wfrec"), &world.file("indirect.wfrec"), span);
    assert_eq!((of_file.records, of_file.events), (of_log.records, of_log.events));
    let direct = replay(&world.file("direct.wfrec"), everything(), Under::recorded());
    let indirect = replay(&world.file("indirect.wfrec"), everything(), Under::recorded());
    assert_eq!(direct.events, indirect.events);
}

#[test]
fn sites_do_not_touch_each_other() {
    let mut second = parse(&DAY.replace("down router 200..290", "down router 20..90")).unwrap();
    second.config.site = "cafe-2".to_owned();
    let first = World::new(DAY);
    let mut both: Vec<_> = first
        .observations
        .iter()
        .cloned()
        .zip(observations(&second))
        .collect();
    both.truncate(1_000);
    let both: Vec<_> = both.drain(..).flat_map(|(one, other)| [one, other]).collect();
    let directory = tempfile::tempdir().unwrap();
    let live = write(&directory.path().join("log"), &both);
    let of = |site: &str| {
        live.iter()
            .filter(|event| event.site == site)
            .cloned()
            .collect::<Vec<_>>()
    };
    let file = directory.path().join("both.wfrec");
    let recorded = record_as(directory.path(), &file, everything());
    assert_eq!(recorded.header.sites, ["cafe-1", "cafe-2"]);
    for path in [directory.path(), &file] {
        assert_eq!(replay(path, everything(), Under::recorded()).events, live);
        for site in ["cafe-1", "cafe-2"] {
            let selection = Selection {
                site: Some(site.to_owned()),
                ..Selection::default()
            };
            assert_eq!(replay(path, selection, Under::recorded()).events, of(site));
        }
    }
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let world = World::new("target router\nrun 0..30\n");
    world.record("r.wfrec", everything());
    for path in [world.data().to_owned(), world.file("r.wfrec")] {
        let fails = |selection: Selection| {
            let mut input = Input::open(&path, &selection).unwrap();
            loop {
                match input.next_step() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{selection:?} is there"),
                    Err(error) => return error.to_string(),
                }
            }
        };
        let elsewhere = fails(Selection {
            site: Some("bar".to_owned()),
            ..Selection::default()
        });
        assert_eq!(elsewhere, "there is no site \"bar\" in it; there are cafe-1");
        let later = fails(span(Some(5_000.0), None));
        assert!(
            later.contains(&format!(
                ": nothing was stored from {} on; there are records from",
                instant(5_000.0)
            )),
            "{later}"
        );
        let earlier = fails(Selection {
            to: Some(BEGIN),
            ..Selection::default()
        });
        assert!(earlier.contains("there are records from"), "{earlier}");
    }
    let nothing = Input::open(&world.file("log/lock"), &everything()).err().unwrap();
    assert!(
        matches!(nothing, ReplayError::NoInput { .. } | ReplayError::Io { .. }),
        "{nothing}"
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        Input::open(empty.path(), &everything()).err(),
        Some(ReplayError::NoInput { .. })
    ));
}

#[test]
fn a_torn_recording_is_replayed_up_to_the_tear() {
    // Long enough for several frames.
    let world = World::new(&DAY.replace("run 0..400", "run 0..2400"));
    world.record("whole.wfrec", everything());
    let bytes = std::fs::read(world.file("whole.wfrec")).unwrap();
    std::fs::write(world.file("torn.wfrec"), &bytes[..bytes.len() * 2 / 3]).unwrap();
    let torn = replay(&world.file("torn.wfrec"), everything(), Under::recorded());
    assert_eq!(torn.problems.len(), 1, "{:?}", torn.problems);
    assert!(torn.problems[0].contains("torn at byte"), "{:?}", torn.problems);
    assert!(torn.events.len() > 20, "{}", torn.events.len());
    assert_eq!(torn.events, world.events[..torn.events.len()]);
}

#[test]
fn a_snapshot_of_newer_folds_gives_a_warm_up_and_no_false_events() {
    use watchfold_replay::recording::{FrameContent, Reader, Writer};
    let world = World::new(DAY);
    world.record("piece.wfrec", span(Some(150.0), None));
    let mut reader = Reader::open(std::fs::File::open(world.file("piece.wfrec")).unwrap()).unwrap();
    let out = std::fs::File::create(world.file("newer.wfrec")).unwrap();
    let mut writer = Writer::new(out, reader.header()).unwrap();
    while let Some(frame) = reader.next_frame().unwrap() {
        match frame.content {
            FrameContent::Snapshot(mut snapshot) => {
                snapshot
                    .versions
                    .iter_mut()
                    .for_each(|entry| entry.version += 1_000);
                writer.snapshot(&snapshot).unwrap();
            }
            FrameContent::Items(items) => items.iter().for_each(|item| writer.push(item).unwrap()),
        }
    }
    writer.finish().unwrap();
    let replayed = replay(&world.file("newer.wfrec"), everything(), Under::recorded());
    assert_eq!(replayed.warm_ups, 1);
    assert_eq!(replayed.events, []);
    assert!(
        replayed.engine_counters.warm_up_events > 10,
        "{:?}",
        replayed.engine_counters
    );
}

#[test]
fn a_refused_or_failed_recording_leaves_no_file_and_harms_none() {
    let world = World::new("target router\nrun 0..30\n");
    let out = world.file("r.wfrec");
    let options = watchfold_replay::RecordOptions {
        selection: span(Some(900.0), None),
        out: out.clone(),
        software: "0.1.0".to_owned(),
        ..watchfold_replay::RecordOptions::default()
    };
    assert!(watchfold_replay::record(world.data(), &options).is_err());
    assert!(!out.exists());
    std::fs::write(&out, "somebody's").unwrap();
    let options = watchfold_replay::RecordOptions {
        selection: everything(),
        ..options
    };
    let error = watchfold_replay::record(world.data(), &options).unwrap_err();
    assert!(matches!(error, ReplayError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read(&out).unwrap(), b"somebody's");
}

#[test]
fn what_was_sent_or_published_twice_counts_once() {
    use watchfold_replay::recording::{FrameContent, Item, Reader, RecordStream, Writer};
    let world = World::new(DAY);
    world.record("once.wfrec", everything());
    let mut reader = Reader::open(std::fs::File::open(world.file("once.wfrec")).unwrap()).unwrap();
    let out = std::fs::File::create(world.file("twice.wfrec")).unwrap();
    let mut writer = Writer::new(out, reader.header()).unwrap();
    let (mut again, mut events, mut last) = (Vec::new(), Vec::new(), 0);
    while let Some(frame) = reader.next_frame().unwrap() {
        let FrameContent::Items(items) = frame.content else {
            continue;
        };
        for item in items {
            writer.push(&item).unwrap();
            match item {
                Item::Record(record) if record.stream == RecordStream::Observations => {
                    last = record.sequence;
                    again.push(record);
                }
                item => events.push(item),
            }
        }
    }
    for (record, sequence) in again.iter_mut().zip(last + 1..) {
        record.sequence = sequence;
        writer.push(&Item::Record(record.clone())).unwrap();
    }
    events
        .iter()
        .skip(events.len() - 5)
        .for_each(|event| writer.push(event).unwrap());
    writer.finish().unwrap();
    let replayed = replay(&world.file("twice.wfrec"), everything(), Under::recorded());
    assert_eq!(replayed.events, world.events);
    assert_eq!(replayed.recorded, world.events);
    assert_eq!(replayed.engine_counters.duplicates, again.len() as u64);
}
