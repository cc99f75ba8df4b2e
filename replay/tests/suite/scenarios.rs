//! The built command cuts scenarios, compares them and blesses them, and ends with the statuses that it says.

use std::fs;
use std::process::Output;

use serde_json::Value;
use watchfold_replay::recording::BeginningState;
use watchfold_replay::{Input, Selection};
use watchfold_schemas::EventBody;

use crate::command::run;
use crate::world::{World, everything};

/// An outage late in the story, so that there is something before it and after it.
const OUTAGE: &str = "target server\ntarget other\nset interval 2\nrun 0..1200\ndown other 60..90\ndown server 600..640\ndown other 1000..1030\n";

struct Cut {
    world: World,
    id: String,
    out: String,
}

/// A scenario of the outage, cut from a recording.
fn cut() -> Cut {
    let world = World::new(OUTAGE);
    world.record("r.wfrec", everything());
    let id = world.events.iter().find_map(|event| match &event.body {
        EventBody::IncidentOpened(incident) if incident.subject == "server" => Some(incident.id.clone()),
        _ => None,
    });
    let id = id.unwrap();
    let path = |name: &str| world.file(name).display().to_string();
    fs::create_dir(path("scenarios")).unwrap();
    let (recording, out) = (path("r.wfrec"), path("scenarios/outage"));
    let arguments = ["--around", &id, "--before", "2m", "--after", "90s", "--out", &out];
    let output = run(&[&["scenario", "cut", &recording][..], &arguments[..]].concat());
    check(&output, 0, "events expected");
    Cut { world, id, out }
}

#[test]
fn a_scenario_is_cut_tested_and_blessed() {
    let Cut { world, id, out } = cut();
    let expected = format!("{out}/expected.jsonl");
    let readme = fs::read_to_string(format!("{out}/README.md")).unwrap();
    let command = format!("--around {id} --before 2m --after 1m30s --out {out}\n");
    assert!(
        readme.contains("watchfold scenario cut ")
            && readme
                .replace("1m 30s", "1m30s")
                .replace('\'', "")
                .contains(&command),
        "{readme}"
    );

    // It begins with a snapshot, and holds what live derived of these minutes.
    let input = Input::open(format!("{out}/input").as_ref(), &Selection::default()).unwrap();
    assert_eq!(
        input.header().unwrap().beginnings[0].state,
        BeginningState::Snapshot
    );
    let text = fs::read_to_string(&expected).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let live: Vec<Value> = world
        .events
        .iter()
        .map(|event| serde_json::json!({ "at": event.at, "id": event.id, "key": event.key, "body": event.body }))
        .collect();
    let first = live.iter().position(|event| *event == lines[0]).unwrap();
    assert_eq!(lines, live[first..first + lines.len()]);
    let of_incident = lines.iter().filter(|line| line["key"] == *id).count();
    assert!(of_incident >= 2, "{text}");
    assert!(
        first > 0 && first + lines.len() < live.len(),
        "all of {}",
        live.len()
    );

    // Alone, and among others in a directory.
    check(&run(&["scenario", "test", &out]), 0, "outage: ok, ");
    let above = world.file("scenarios").display().to_string();
    check(
        &run(&["scenario", "test", &above]),
        0,
        "1 ok, 0 different, 0 in trouble",
    );

    let changed = text.replacen("server", "servex", 1);
    fs::write(&expected, &changed).unwrap();
    let line = text
        .lines()
        .zip(changed.lines())
        .position(|(left, right)| left != right)
        .unwrap()
        + 1;
    let differs = run(&["scenario", "test", &above]);
    check(
        &differs,
        1,
        &format!("outage: differs at line {line} of expected.jsonl\n  wanted {{"),
    );
    check(&differs, 1, "servex");
    fs::write(&expected, &text[..text.trim_end().rfind('\n').unwrap()]).unwrap();
    check(
        &run(&["scenario", "test", &out]),
        1,
        "wanted nothing more\n  got    {",
    );

    check(
        &run(&["scenario", "test", &out, "--bless"]),
        0,
        "outage: blessed, ",
    );
    assert_eq!(fs::read_to_string(&expected).unwrap(), text);
    check(&run(&["scenario", "test", &out]), 0, "1 ok");
    fs::remove_file(&expected).unwrap();
    check(&run(&["scenario", "test", &out]), 2, "expected.jsonl");
    check(&run(&["scenario", "test", &out, "--bless"]), 0, "1 blessed");
}

#[test]
fn trouble_with_a_scenario_ends_with_two() {
    let Cut { world, id, out } = cut();
    let path = |name: &str| world.file(name).display().to_string();
    let (recording, new) = (path("r.wfrec"), path("new"));
    let unknown = run(&[
        "scenario",
        "cut",
        &recording,
        "--around",
        "0123456789abcdef",
        "--out",
        &new,
    ]);
    check(
        &unknown,
        2,
        "no incident, session, attack or event \"0123456789abcdef\"",
    );
    let absent = run(&[
        "scenario",
        "cut",
        &path("nothing"),
        "--around",
        &id,
        "--out",
        &new,
    ]);
    check(&absent, 2, "nothing");
    assert!(!world.file("new").exists());
    let taken = run(&["scenario", "cut", &recording, "--around", &id, "--out", &out]);
    check(&taken, 2, "is there already");
    check(&run(&["scenario", "test", &out]), 0, "1 ok");
    fs::create_dir(&new).unwrap();
    check(
        &run(&["scenario", "test", &new]),
        2,
        "looked for `input` or `expected.jsonl`",
    );

    // Blessing does not make good what cannot be read.
    let (input, expected) = (
        format!("{out}/input"),
        fs::read(format!("{out}/expected.jsonl")).unwrap(),
    );
    let bytes = fs::read(&input).unwrap();
    for damaged in [&b"garbage"[..], &bytes[..bytes.len() - 20], &[]] {
        fs::write(&input, damaged).unwrap();
        check(&run(&["scenario", "test", &out]), 2, "in trouble");
        check(&run(&["scenario", "test", &out, "--bless"]), 2, "in trouble");
        assert_eq!(fs::read(format!("{out}/expected.jsonl")).unwrap(), expected);
    }
    fs::remove_file(&input).unwrap();
    check(&run(&["scenario", "test", &out]), 2, "input");
}

#[test]
fn the_projects_own_scenarios_pass() {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/scenarios");
    let count = fs::read_dir(own).unwrap().count();
    check(
        &run(&["scenario", "test", own]),
        0,
        &format!("{count} ok, 0 different, 0 in trouble"),
    );
}

#[test]
fn events_without_ids_as_earlier_versions_wrote_them_are_compared_without() {
    let Cut {
        world: _world, out, ..
    } = cut();
    let expected = format!("{out}/expected.jsonl");
    let text = fs::read_to_string(&expected).unwrap();
    let without = text.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("id").unwrap();
        let part = |name: &str| line[name].to_string();
        format!("{{\"at\":{},\"key\":{},\"body\":", part("at"), part("key"))
    });
    // The body as it stands: its fields have an order.
    let bodies = text.lines().map(|line| line.split_once("\"body\":").unwrap().1);
    let lines = without.zip(bodies).map(|(head, body)| format!("{head}{body}\n"));
    fs::write(&expected, lines.collect::<String>()).unwrap();
    check(&run(&["scenario", "test", &out]), 0, "1 ok");
}

fn check(output: &Output, status: i32, told: &str) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        output.status.code() == Some(status) && text.contains(told),
        "wanted {status} and {told:?}: {:?}\n{text}",
        output.status
    );
}
