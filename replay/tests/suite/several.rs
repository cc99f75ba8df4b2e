//! Several inputs as one: pieces that follow each other, sites side by side, and what cannot be joined.

use std::path::PathBuf;

use watchfold_replay::{Inputs, ReplayError, Selection, Under};
use watchfold_schemas::{Event, EventBody};
use watchfold_tests::story::{Story, instant, parse};

use crate::world::{World, everything, record_as, replay, replay_all, span};

const DAY: &str = "target router\ntarget internet 8.8.8.8 1.1.1.1 after router\npcs 4\nset min_session 20\n\
    set batch_window 10\nset remind_every 60\nrun 0..400\ndown internet 50..62 100.3..180.7\ndown router 200..290\n\
    down PC-2 0..120\ndown PC-3 300..400\n";

/// Recordings of the world from each of these seconds to the next.
fn pieces(world: &World, cuts: &[Option<f64>]) -> Vec<PathBuf> {
    let piece = |ends: &[Option<f64>]| {
        let name = format!("{:?}.wfrec", ends);
        world.record(&name, span(ends[0], ends[1]));
        world.file(&name)
    };
    cuts.windows(2).map(piece).collect()
}

fn of_site(site: &str) -> Story {
    let mut story = parse(DAY).unwrap();
    story.config.site = site.to_owned();
    story
}

#[test]
fn pieces_in_any_order_are_the_whole() {
    let world = World::new(DAY);
    let mut paths = pieces(&world, &[None, Some(110.0), Some(250.0), None]);
    for _ in 0..3 {
        paths.rotate_left(1);
        let replayed = replay_all(&paths, everything(), Under::recorded());
        assert_eq!(replayed.events, world.events);
        assert_eq!(replayed.recorded, world.events);
        assert_eq!(
            replayed.engine_counters.joints, 0,
            "they go on where the one before ended"
        );
        assert!(replayed.problems.is_empty(), "{:?}", replayed.problems);
    }
    // A span of them is the same span of the whole.
    let late = span(Some(150.0), Some(280.0));
    let whole = replay(world.data(), late.clone(), Under::recorded());
    assert!(whole.events.len() > 5, "{}", whole.events.len());
    assert_eq!(replay_all(&paths, late, Under::recorded()).events, whole.events);
}

#[test]
fn another_configuration_goes_on_over_a_seam() {
    let world = World::new(DAY);
    let mut config = world.story.config.clone();
    config.network.min_incident_ms = 30_000;
    let under = Under::config(config);
    let paths = pieces(&world, &[None, Some(110.0), None]);
    let whole = replay(world.data(), everything(), under.clone());
    assert_ne!(whole.events, world.events);
    assert_eq!(replay_all(&paths, everything(), under).digests, whole.digests);
}

#[test]
fn after_a_hole_a_site_begins_anew_with_its_snapshot() {
    let world = World::new(DAY);
    let all = pieces(&world, &[None, Some(90.0), Some(110.0), None]);
    let paths = [all[0].clone(), all[2].clone()];
    let replayed = replay_all(&paths, everything(), Under::recorded());
    assert_eq!(replayed.engine_counters.joints, 1);
    let each = paths
        .iter()
        .flat_map(|path| replay(path, everything(), Under::recorded()).events);
    assert_eq!(replayed.events, each.collect::<Vec<_>>());
    // The outage that began in the hole is over in the second piece, and is told as it was.
    let ended = |events: &[Event]| {
        events
            .iter()
            .filter(|event| matches!(event.body, EventBody::IncidentClosed(_)))
            .count()
    };
    assert_eq!(ended(&replayed.events), ended(&world.events));
}

#[test]
fn another_log_of_the_same_site_begins_at_nothing() {
    let first = World::new(DAY);
    // A day later the data directory was made anew: sequences begin at 1 again.
    let mut story = parse(&DAY.replace("run 0..400", "run 1000..1300")).unwrap();
    story.config.site.clone_from(&first.story.config.site);
    let second = World::of(story);
    let paths = [second.data().to_owned(), first.data().to_owned()];
    let replayed = replay_all(&paths, everything(), Under::recorded());
    let both: Vec<Event> = first.events.iter().chain(&second.events).cloned().collect();
    assert_eq!(replayed.events, both);
    assert_eq!(replayed.recorded, both);
    assert_eq!((replayed.engine_counters.joints, replayed.warm_ups), (1, 0));
}

#[test]
fn sites_run_side_by_side() {
    let worlds = ["cafe-1", "cafe-2", "bar"].map(|site| World::of(of_site(site)));
    worlds[1].record("r.wfrec", everything());
    let paths = [
        worlds[0].data().to_owned(),
        worlds[1].file("r.wfrec"),
        worlds[2].data().to_owned(),
    ];
    let replayed = replay_all(&paths, everything(), Under::recorded());
    for world in &worlds {
        let site = &world.story.config.site;
        let of_site = |events: &[Event]| {
            events
                .iter()
                .filter(|event| event.site == *site)
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(of_site(&replayed.events), world.events);
        assert_eq!(of_site(&replayed.recorded), world.events);
        let selection = Selection {
            site: Some(site.clone()),
            ..Selection::default()
        };
        assert_eq!(
            replay_all(&paths, selection, Under::recorded()).events,
            world.events
        );
    }
    // One after the other in time, whatever the site.
    let times: Vec<_> = replayed.events.iter().map(|event| event.at).collect();
    let leaps_back = times.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(leaps_back < times.len() / 4, "{leaps_back} of {}", times.len());
}

#[test]
fn the_same_time_twice_is_refused() {
    let world = World::new(DAY);
    world.record("whole.wfrec", everything());
    world.record("late.wfrec", span(Some(200.0), None));
    let paths = [world.file("late.wfrec"), world.file("whole.wfrec")];
    let error = Inputs::open(&paths, &everything()).err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, ReplayError::Overlap { .. }), "{text}");
    for part in [
        "late.wfrec",
        "whole.wfrec",
        "site cafe-1",
        "--from",
        &instant(200.0).to_string()[..16],
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    // What is outside the span that is asked for is passed over, and disturbs nobody.
    let early = span(None, Some(150.0));
    let inputs = Inputs::open(&paths, &early).unwrap();
    assert_eq!(inputs.passed_over().len(), 1, "{:?}", inputs.passed_over());
    let replayed = replay_all(&paths, early.clone(), Under::recorded());
    assert_eq!(
        replayed.events,
        replay(world.data(), early, Under::recorded()).events
    );
}

#[test]
fn what_none_of_them_holds_is_told_with_what_they_hold() {
    let worlds = ["cafe-1", "cafe-2"].map(|site| World::of(of_site(site)));
    let paths = worlds.each_ref().map(|world| world.data().to_owned());
    let why = |selection: Selection| Inputs::open(&paths, &selection).err().unwrap().to_string();
    let elsewhere = Selection {
        site: Some("bar".to_owned()),
        ..Selection::default()
    };
    assert_eq!(
        why(elsewhere),
        "there is no site \"bar\" in it; there are cafe-1, cafe-2"
    );
    let later = why(span(Some(5_000.0), None));
    assert!(
        later.contains("there are records from 2026-01-05T08:0"),
        "{later}"
    );
}

#[test]
fn a_recording_of_some_kinds_is_no_basis() {
    let world = World::new(DAY);
    let record = |name: &str, kinds: &[&str]| {
        let out = world.file(name);
        let options = watchfold_replay::RecordOptions {
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            out: out.clone(),
            ..Default::default()
        };
        let recorded = watchfold_replay::record(world.data(), &options).unwrap();
        let mut found = std::collections::BTreeSet::new();
        let mut input = watchfold_replay::Input::open(&out, &everything()).unwrap();
        while let Some(step) = input.next_step().unwrap() {
            if let watchfold_replay::Step::Record { record, .. } = step {
                found.insert(record.subject.split('.').nth(3).unwrap().to_owned());
            }
        }
        (recorded, found)
    };
    let (recorded, found) = record("some.wfrec", &["ping_round", "tick"]);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["ping_round", "tick"]);
    assert!(recorded.records > 0 && recorded.records < world.observations.len() as u64);
    let replayed = replay(&world.file("some.wfrec"), everything(), Under::recorded());
    assert_eq!((replayed.warm_ups, replayed.events.len()), (1, 0));
    // Receipts mean nothing to a chain: without them it is as good as whole.
    let kinds: Vec<&str> = watchfold_schemas::Body::KINDS
        .into_iter()
        .filter(|kind| *kind != "receipt")
        .collect();
    let (recorded, _) = record("all.wfrec", &kinds);
    assert!(recorded.header.is_basis());
    let replayed = replay(&world.file("all.wfrec"), everything(), Under::recorded());
    assert_eq!(replayed.events, world.events);
    // Pieces made of it are pieces of it.
    record_as(
        &world.file("all.wfrec"),
        &world.file("piece.wfrec"),
        span(Some(100.0), None),
    );
}
