//! Attacks that had not ended when the packets did: how they stand at the end, of logs and of capture files, compared, and in words.

use std::fs;

use serde_json::Value;
use watchfold_replay::diff::{Change, Diff, diff};
use watchfold_replay::{Engine, Input, Selection, Under};
use watchfold_schemas::rules::RuleSet;
use watchfold_schemas::{EventBody, Time};

use crate::captures::{broken_off_scan, told};
use crate::scans::{Syn, at, capture_file, log_of, outside, rules, scan};
use crate::world::{Replayed, everything, fold, replay};

/// A scan of 20 ports with which the packets end.
fn broken_off() -> Vec<Syn> {
    scan(10_000, 61, 20)
}

fn of_file(packets: &[Syn], set: RuleSet, rows_max: usize) -> Replayed {
    let directory = tempfile::tempdir().unwrap();
    let selection = Selection {
        outside: outside(packets, rows_max),
        ..Selection::default()
    };
    let mut input = Input::open(&capture_file(directory.path()), &selection).unwrap();
    fold(Engine::new(Under::rules(set)), || input.next_step().unwrap())
}

fn ms(time: Time) -> i64 {
    time.since(at(0)).as_millis()
}

/// (begin, last, through, matches, peak), times in milliseconds.
type Standing = (i64, i64, i64, u64, u64);

fn standing(replayed: &Replayed) -> Vec<Standing> {
    let one = |open: &watchfold_replay::StillOpen| {
        let attack = &open.attack;
        let times = (ms(attack.began_at), ms(attack.last_at), ms(open.through));
        (times.0, times.1, times.2, attack.matches, attack.peak.observed)
    };
    replayed.still_open.iter().map(one).collect()
}

#[test]
fn it_stands_as_counted_whatever_the_batches() {
    // The fifteenth port is at 11.4 s, the twentieth at 11.9 s; someone else's packet comes 5 s later.
    let mut packets = broken_off();
    packets.extend(scan(16_900, 62, 1));
    let want = [(11_400, 11_900, 16_900, 6, 20)];
    for rows_max in [1, 7, 4_096] {
        let replayed = of_file(&packets, rules(15), rows_max);
        assert_eq!(standing(&replayed), want, "{rows_max}");
        let is_end = |event: &_| matches!(event, EventBody::AttackEnded(_));
        assert!(!replayed.events.iter().any(|event| is_end(&event.body)));
    }
    let log = log_of(&packets, &rules(15), 7);
    let of_log = replay(log.data(), everything(), Under::recorded());
    assert_eq!(standing(&of_log), want);
    // One that is over stands no more.
    packets.extend(scan(400_000, 62, 1));
    assert_eq!(standing(&of_file(&packets, rules(15), 7)), []);
}

fn compared(before: &mut Replayed, after: &mut Replayed) -> Diff {
    for side in [&mut *before, &mut *after] {
        side.outcomes.add_still_open(&side.still_open);
    }
    diff(&before.outcomes, &after.outcomes)
}

#[test]
fn two_sides_that_date_it_otherwise_have_one_attack() {
    // The eleventh port is at 11.0 s, and no event of it says that it went on past 11.4 s.
    let mut early = of_file(&broken_off(), rules(11), 7);
    let mut late = of_file(&broken_off(), rules(15), 7);
    let found = compared(&mut early, &mut late);
    let attack = found.differences.iter().find(|one| one.kind == "attack");
    let attack = attack.unwrap();
    assert_eq!(attack.change, Change::Changed, "{found}");
    let names: Vec<&str> = attack.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["began_at", "matches", "threshold"], "{found}");
    assert!(compared(&mut early.clone(), &mut early).is_same());
}

#[test]
fn open_on_one_side_and_over_on_the_other_is_a_change() {
    let mut packets = broken_off();
    packets.extend(scan(100_000, 62, 1));
    let patient = || {
        let mut set = rules(15);
        set.rules[0].cooldown_ms = 600_000;
        set
    };
    let mut over = of_file(&packets, rules(15), 7);
    let mut open = of_file(&packets, patient(), 7);
    let found = compared(&mut over, &mut open);
    let text = found.to_string();
    assert!(text.contains(" -> still open"), "{text}");
    assert_eq!((found.gained, found.lost, found.changed), (0, 0, 1), "{text}");
    // Alone, too.
    let mut none = of_file(&packets, rules(50), 7);
    let text = compared(&mut none, &mut open).to_string();
    let line = text
        .lines()
        .find(|line| line.contains("attack (port_scan)"))
        .unwrap();
    assert!(line.starts_with('+') && line.ends_with("still open"), "{text}");
    let text = compared(&mut none, &mut over).to_string();
    assert!(!text.contains("still open"), "{text}");
}

#[test]
fn the_command_names_it_and_ends_as_ever() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("scan.pcap");
    fs::write(&path, broken_off_scan(20)).unwrap();
    let path = path.to_str().unwrap();

    let (status, text, summary) = told(&["replay", path, "--rules", "classic"]);
    assert_eq!(status, Some(0), "{summary}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for word in [
        "2026-01-05T08:00:01.9",
        "  open    port_scan",
        "20/15 in 10 s",
        "since 2026-01-05T08:00:01.4",
        "6 packets, 1 alert",
    ] {
        assert!(lines[2].contains(word), "{word} in {}", lines[2]);
    }
    let has_said = summary.contains("1 attack had not ended when the input did");
    assert!(has_said, "{summary}");

    let (status, jsonl, again) = told(&["replay", path, "--rules", "classic", "--format", "jsonl"]);
    assert_eq!(status, Some(0), "{again}");
    let lines: Vec<Value> = jsonl
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, events) = lines.split_last().unwrap();
    let open = &last["still_open"];
    assert_eq!(
        (&open["chain"], &open["site"]),
        (&"packets".into(), &"capture".into())
    );
    assert_eq!(
        (
            &open["attack"]["matches"],
            &open["attack"]["peak"]["observed"],
            &open["attack"]["ended_at"]
        ),
        (&6.into(), &20.into(), &Value::Null)
    );
    assert!(
        events.iter().all(|event| event["body"].is_object()),
        "{events:#?}"
    );
    let digest = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("digest"))
            .map(str::to_owned)
    };
    assert_eq!(digest(&again), digest(&summary));

    let compare = [
        "replay",
        path,
        "--diff",
        "--rules",
        "classic",
        "--against",
        "classic",
    ];
    let (status, text, _) = told(&[&compare[..], &["--format", "jsonl"]].concat());
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &found["is_same"]), (Some(0), &Value::Bool(true)));
    for side in ["before", "after"] {
        assert_eq!(found["still_open"][side][0], *open, "{side}");
    }
}
