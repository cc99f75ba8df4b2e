//! A recording of each format version, checked in: today's code reads it, for ever.
//!
//! `WATCHFOLD_BLESS=1` adds a sample that is missing, and touches none that is there.

use std::path::PathBuf;

use watchfold_replay::Under;
use watchfold_replay::digest::Digests;
use watchfold_replay::recording::FORMAT_VERSION;

use crate::scans::{log_of, rules, three_scans};
use crate::world::{World, everything, record_as, replay, span};

/// The digest of the events that stand in `samples/v1.wfrec`: whatever the folds become, it is read as it was written.
const RECORDED_V1: &str = "bd2a7e5900ce14dcddc00d73ae6197dbc252dabee670b6c50a4dee4123687d21";

/// The digest of the events that the folds derive of it. It changes only with a fold that means to judge differently.
const DERIVED_V1: &str = "bd2a7e5900ce14dcddc00d73ae6197dbc252dabee670b6c50a4dee4123687d21";

/// Nothing that could be judged one way or the other, so that few changes of a fold can mean it.
const STORY: &str = "target server\npcs 2\nset min_session 20\nset batch_window 10\nset remind_every 60\nrun 0..300\n\
    down server 60.5..66.5 100.5..200.5\ndown PC-2 0..90\nat 120 ack server\nat 220 set min_incident 15\n";

fn sample(version: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("samples/v{version}.wfrec"))
}

#[test]
fn the_recording_of_the_first_format_gives_what_it_gave() {
    let path = sample(1);
    if !path.exists() && std::env::var_os("WATCHFOLD_BLESS").is_some() {
        let world = World::new(STORY);
        world.record("sample.wfrec", span(Some(40.0), Some(280.0)));
        std::fs::copy(world.file("sample.wfrec"), &path).unwrap();
    }
    let replayed = replay(&path, everything(), Under::recorded());
    assert!(replayed.problems.is_empty(), "{:?}", replayed.problems);
    assert_eq!(replayed.warm_ups, 0, "its snapshot is not taken over");
    let mut recorded = Digests::default();
    replayed
        .recorded
        .iter()
        .for_each(|event| recorded.add(event).unwrap());
    let digest_of =
        |digests: &[(String, String, u64)]| digests.iter().map(|(_, hex, _)| hex.clone()).collect::<String>();
    assert_eq!(
        digest_of(&recorded.finish()),
        RECORDED_V1,
        "{} recorded events",
        replayed.recorded.len()
    );
    assert_eq!(
        digest_of(&replayed.digests),
        DERIVED_V1,
        "{} derived events",
        replayed.events.len()
    );
}

#[test]
fn every_format_has_a_sample() {
    for version in 1..=FORMAT_VERSION {
        assert!(
            sample(version).is_file(),
            "make samples/v{version}.wfrec with WATCHFOLD_BLESS=1"
        );
    }
}

/// The digests of the events that stand in `samples/v1_packets.wfrec`: of the site chain and of the packet chain.
const RECORDED_PACKETS_V1: [&str; 2] = [
    "d89421f23fd21f0336b7943a1cbdbdcde11e645e392be4a0fb022a7a6a4c21f2",
    "0f6c4d7cb98d01bd0b8f4caeb27ddf57fd4f08590b1bfa168db472d079461809",
];

#[test]
fn the_first_recording_of_packets_gives_what_it_gave() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("samples/v1_packets.wfrec");
    if !path.exists() && std::env::var_os("WATCHFOLD_BLESS").is_some() {
        let log = log_of(&three_scans(), &rules(15), 4_096);
        record_as(log.data(), &log.file("sample.wfrec"), everything());
        std::fs::copy(log.file("sample.wfrec"), &path).unwrap();
    }
    let replayed = replay(&path, everything(), Under::recorded());
    assert!(replayed.problems.is_empty(), "{:?}", replayed.problems);
    assert_eq!((replayed.engine_counters.packets, replayed.warm_ups), (48, 0));
    let mut recorded = Digests::default();
    replayed
        .recorded
        .iter()
        .for_each(|event| recorded.add(event).unwrap());
    let recorded = recorded.finish();
    let digests: Vec<&str> = recorded.iter().map(|(_, hex, _)| hex.as_str()).collect();
    assert_eq!(digests, RECORDED_PACKETS_V1);
}
