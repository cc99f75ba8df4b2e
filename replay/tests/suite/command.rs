//! The built command over a data directory: record, replay, compare, and the statuses it ends with.

use std::process::{Command, Output};

use serde_json::Value;
pub use watchfold_tests::command::built_command;

use crate::world::World;

const OUTAGES: &str = "target server\nset interval 2\nset flapping_count 100\nrun 0..600\n\
    down server 99.5..111.5 199.5..219.5 299.5..339.5\n";

/// The story's configuration as a person writes it, with another threshold.
fn config(min_incident: &str) -> String {
    format!(
        "site = \"cafe-1\"\ntime_zone = \"UTC\"\n[network]\nmin_incident = \"{min_incident}\"\nescalate_after = \"0s\"\n\
         [network.flapping]\ncount = 100\n[[network.targets]]\nname = \"server\"\naddress = \"server.test\"\n"
    )
}

#[test]
fn record_replay_and_diff_end_as_they_say() {
    let world = World::new(OUTAGES);
    let path = |name: &str| world.file(name).display().to_string();
    let (data, recording) = (world.data().display().to_string(), path("r.wfrec"));

    let recorded = run(&["record", "--data", &data, "--out", &recording]);
    assert_eq!(recorded.status.code(), Some(0), "{recorded:?}");
    let told = String::from_utf8_lossy(&recorded.stdout).into_owned();
    assert!(
        told.contains(&format!("{} observations", world.observations.len())),
        "{told}"
    );

    for input in [&data, &recording] {
        let replayed = run(&["replay", input, "--format", "jsonl"]);
        assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
        let events: Vec<Value> = String::from_utf8_lossy(&replayed.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let live: Vec<Value> = world
            .events
            .iter()
            .map(|event| serde_json::to_value(event).unwrap())
            .collect();
        assert_eq!(events, live);
        let summary = String::from_utf8_lossy(&replayed.stderr).into_owned();
        assert!(summary.contains("digest cafe-1 "), "{summary}");

        let same = run(&["replay", input, "--diff"]);
        assert_eq!(same.status.code(), Some(0), "{same:?}");
        assert!(
            String::from_utf8_lossy(&same.stdout).contains("0 gained, 0 lost, 0 changed, 3 the same"),
            "{same:?}"
        );
    }

    std::fs::write(path("raised.toml"), config("30s")).unwrap();
    std::fs::write(path("same.toml"), config("10s")).unwrap();
    std::fs::write(path("broken.toml"), "site = \"cafe-1\"\nnetwrk = 1\n").unwrap();
    let different = run(&["replay", &recording, "--diff", "--config", &path("raised.toml")]);
    assert_eq!(different.status.code(), Some(1), "{different:?}");
    let text = String::from_utf8_lossy(&different.stdout).into_owned();
    assert!(text.contains("2 gained, 2 lost, 1 changed, 0 the same"), "{text}");
    let configs = [
        "--against",
        &path("raised.toml"),
        "--config",
        &path("raised.toml"),
        "--format",
        "jsonl",
    ];
    let two = run(&[&["replay", &recording, "--diff"][..], &configs[..]].concat());
    assert_eq!(two.status.code(), Some(0), "{two:?}");
    let found: Value = serde_json::from_slice(&two.stdout).unwrap();
    assert_eq!(
        (&found["is_same"], &found["same"]),
        (&Value::Bool(true), &Value::from(3))
    );

    // Two sides that are both given, and differ.
    let configs = ["--against", &path("same.toml"), "--config", &path("raised.toml")];
    let two = run(&[&["replay", &recording, "--diff"][..], &configs[..]].concat());
    assert_eq!(two.status.code(), Some(1), "{two:?}");
    let text = String::from_utf8_lossy(&two.stdout).into_owned();
    assert!(text.contains("2 gained, 2 lost, 1 changed, 0 the same"), "{text}");

    let broken = run(&["replay", &recording, "--config", &path("broken.toml")]);
    assert_eq!(
        (broken.status.code(), broken.stdout.len()),
        (Some(78), 0),
        "{broken:?}"
    );
    let broken = run(&["replay", &recording, "--diff", "--config", &path("broken.toml")]);
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
}

#[test]
fn trouble_ends_with_two_and_says_what_is_there() {
    let world = World::new("target server\nrun 0..60\n");
    let path = |name: &str| world.file(name).display().to_string();
    let data = world.data().display().to_string();
    run(&["record", "--data", &data, "--out", &path("r.wfrec")]);
    let bytes = std::fs::read(path("r.wfrec")).unwrap();
    std::fs::write(path("torn.wfrec"), &bytes[..bytes.len() - 20]).unwrap();
    let mut newer = bytes.clone();
    newer[8] = 9;
    std::fs::write(path("newer.wfrec"), newer).unwrap();
    let cases: [(&[&str], &str); 6] = [
        (&[&path("torn.wfrec")], "torn at byte"),
        (&[&path("newer.wfrec")], "a recording of format 9"),
        (&[&data, "--site", "bar"], "there are cafe-1"),
        (
            &[&data, "--from", "2030-01-01T00:00:00Z"],
            "there are records from 2026-01-05T08:0",
        ),
        (&[&path("nothing")], "nothing"),
        (&[&path("r.wfrec"), "--site", "bar", "--diff"], "there are cafe-1"),
    ];
    for (arguments, want) in cases {
        let output = run(&[&["replay"][..], arguments].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && told.contains(want),
            "{arguments:?}: {output:?}"
        );
    }
    std::fs::write(path("broken.toml"), "site = \"cafe-1\"\nnetwrk = 1\n").unwrap();
    let later = ["--from", "2030-01-01T00:00:00Z"];
    let (whole, new, broken) = (path("r.wfrec"), path("new.wfrec"), path("broken.toml"));
    // A shorter one of a recording.
    let piece = path("piece.wfrec");
    let of_it = ["--from", "2026-01-05T08:00:30Z", "--out", &piece];
    let shorter = run(&[&["record", &whole][..], &of_it[..]].concat());
    assert_eq!(shorter.status.code(), Some(0), "{shorter:?}");
    let new = ["record", "--data", data.as_str(), "--out", new.as_str()];
    let record = |more: [&'static str; 2]| [&new[..], &more[..]].concat();
    let cases: [(Vec<&str>, &str); 7] = [
        (
            vec!["record", &whole, "--follow", "--out", new[4]],
            "does not grow",
        ),
        (
            vec!["record", "--data", &data, "--out", &whole],
            "is there already",
        ),
        (record(["--site", "bar"]), "there are cafe-1"),
        (record(later), "there are records from 2026-01-05T08:0"),
        (vec!["replay", &data, &whole], "hold the same time of site cafe-1"),
        (vec!["replay", &data, "--diff", "--config", &broken], "netwrk"),
        (
            vec!["replay", &data, "--dashboard", "--site", "bar"],
            "there are cafe-1",
        ),
    ];
    for (arguments, want) in cases {
        let output = run(&arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && told.contains(want) && output.stdout.is_empty(),
            "{arguments:?}: {output:?}"
        );
    }
    assert!(!world.file("new.wfrec").exists());
    for wrong in [
        vec!["replay", &data, "--speed", "fast"],
        vec!["replay", &data, "--diff", "--speed", "2x"],
        vec!["replay", &data, "--listen", "127.0.0.1:0"],
        record(["--kind", "ping"]),
    ] {
        assert_eq!(run(&wrong).status.code(), Some(64), "{wrong:?}");
    }
}

pub fn run(arguments: &[&str]) -> Output {
    Command::new(built_command())
        .args(arguments)
        .env_remove("WATCHFOLD_DATA")
        .output()
        .unwrap()
}
