//! Attacks once more: out of a log, a recording and a capture file, as recorded and by other rules; differences against a hand count.

use watchfold_replay::diff::{Change, diff};
use watchfold_replay::explain::{Condition, explain};
use watchfold_replay::{
    Engine, Followed, Following, Input, Inputs, RecordOptions, ReplayError, Selection, Under, record,
    recorded_findings,
};
use watchfold_schemas::rules::RuleSet;
use watchfold_schemas::{Chain, Event, EventBody, Stream, Time};

use crate::scans::{ScanLog, at, capture_file, log_of, log_with_pause, outside, rules, scan, three_scans};
use crate::world::{Replayed, everything, fold, record_as, replay};

fn of(events: &[Event], chain: Chain) -> Vec<Event> {
    events
        .iter()
        .filter(|event| event.chain == chain)
        .cloned()
        .collect()
}

/// A log's events under other rules, as the command derives them.
fn under_rules(log: &ScanLog, set: RuleSet) -> Replayed {
    let paths = [log.data().to_owned()];
    let recorded = recorded_findings(&paths, &everything()).unwrap();
    let mut inputs = Inputs::open(&paths, &everything()).unwrap();
    let engine = Engine::new(Under::rules(set)).with_recorded_findings(recorded);
    fold(engine, || inputs.next_step().unwrap())
}

/// A capture file's events by these rules, with batches of at most so many packets.
fn of_capture(log: &ScanLog, set: RuleSet, rows_max: usize) -> Replayed {
    let selection = Selection {
        site: Some("cafe-1".to_owned()),
        outside: outside(&three_scans(), rows_max),
        ..Selection::default()
    };
    let mut input = Input::open(&capture_file(log.data()), &selection).unwrap();
    fold(Engine::new(Under::rules(set)), || input.next_step().unwrap())
}

fn digest_of(replayed: &Replayed, chain: &str) -> String {
    let found = replayed.digests.iter().find(|(name, _, _)| name == chain);
    found.map(|(_, hex, _)| hex.clone()).unwrap()
}

/// (begin, last) of every attack that ended, in milliseconds.
fn attacks(events: &[Event]) -> Vec<(i64, i64)> {
    let ms = |time: Time| time.since(at(0)).as_millis();
    let attack = |event: &Event| match &event.body {
        EventBody::AttackEnded(attack) => Some((ms(attack.began_at), ms(attack.last_at))),
        _ => None,
    };
    events.iter().filter_map(attack).collect()
}

#[test]
fn a_log_its_recording_and_a_capture_file_give_the_same() {
    let log = log_of(&three_scans(), &rules(15), 4_096);
    assert_eq!(
        attacks(&log.packet_events),
        [(101_400, 101_400), (201_400, 201_900)]
    );
    let of_log = replay(log.data(), everything(), Under::recorded());
    assert_eq!(of(&of_log.events, Chain::Packets), log.packet_events);
    assert_eq!(of(&of_log.events, Chain::Site), log.site_events);
    assert_eq!(of(&of_log.recorded, Chain::Packets), log.packet_events);
    assert_eq!(of(&of_log.recorded, Chain::Site), log.site_events);

    let recorded = record_as(log.data(), &log.file("r.wfrec"), everything());
    assert_eq!(recorded.events as usize, of_log.recorded.len());
    let of_file = replay(&log.file("r.wfrec"), everything(), Under::recorded());
    assert!(of_file.problems.is_empty(), "{:?}", of_file.problems);
    assert_eq!(of_file.digests, of_log.digests);
    assert_eq!(of_file.recorded.len(), of_log.recorded.len());

    // Whatever the batches, the log of a live capture and the file say the same of its packets.
    let wanted = digest_of(&of_log, "cafe-1/packets");
    let whole = of_capture(&log, rules(15), 4_096);
    for rows_max in [1, 3, 7, 4_096] {
        let batched = log_of(&three_scans(), &rules(15), rows_max);
        let of_log = replay(batched.data(), everything(), Under::recorded());
        assert_eq!(
            digest_of(&of_log, "cafe-1/packets"),
            wanted,
            "{rows_max} in the log"
        );
        let of_capture = of_capture(&log, rules(15), rows_max);
        assert_eq!(
            digest_of(&of_capture, "cafe-1/packets"),
            wanted,
            "{rows_max} in the file"
        );
        assert_eq!(of_capture.digests, whole.digests, "{rows_max}");
    }
    // The site of a capture file has incidents of its own.
    let is_incident = |event: &&Event| matches!(event.body, EventBody::IncidentOpened(_));
    assert_eq!(whole.events.iter().filter(is_incident).count(), 2);
}

#[test]
fn a_recording_follows_packets_and_what_is_found_in_them() {
    let directory = tempfile::tempdir().unwrap();
    let options = RecordOptions {
        out: directory.path().join("f.wfrec"),
        ..RecordOptions::default()
    };
    let mut following = None;
    let log = log_with_pause(&three_scans(), &rules(15), 3, |data| {
        let mut opened = Following::open(data, &options).unwrap();
        while opened.advance(7).unwrap() == Followed::Behind {}
        assert!(opened.has_all_events());
        following = Some(opened);
    });
    let mut following = following.unwrap();
    while following.advance(7).unwrap() == Followed::Behind {}
    while following.advance(7).unwrap() == Followed::Behind {}
    assert!(following.has_all_events());
    let recorded = following.finish().unwrap();
    let live = log.packet_events.len() + log.site_events.len();
    assert_eq!(recorded.events as usize, live);
    let of_file = replay(&options.out, everything(), Under::recorded());
    let of_log = replay(log.data(), everything(), Under::recorded());
    assert_eq!(of_file.digests, of_log.digests);
    assert_eq!(of(&of_file.events, Chain::Packets), log.packet_events);
}

#[test]
fn what_is_made_for_a_capture_file_is_in_the_order_of_time() {
    // The scan becomes one 0.4 s after a tick, in the batch that brings both.
    let mut packets = scan(99_000, 61, 15);
    packets.extend(scan(200_000, 64, 1));
    let directory = tempfile::tempdir().unwrap();
    let made = |rows_max| {
        let selection = Selection {
            outside: outside(&packets, rows_max),
            ..Selection::default()
        };
        let mut input = Input::open(&capture_file(directory.path()), &selection).unwrap();
        let mut engine = Engine::new(Under::rules(rules(15))).keeping_made();
        while let Some(step) = input.next_step().unwrap() {
            drop(engine.take(&step));
        }
        let made = engine.take_made().into_iter();
        let made = made.filter(|one| one.stream == Stream::Observations);
        made.map(|one| {
            let ms = one.observation.observed_at.since(at(0)).as_millis();
            (ms, one.observation.body.kind())
        })
        .collect::<Vec<_>>()
    };
    let whole = made(4_096);
    assert!(whole.is_sorted_by_key(|(ms, _)| *ms), "{whole:?}");
    let finding = whole.iter().position(|(_, kind)| *kind == "finding").unwrap();
    assert_eq!(
        whole[finding - 1..=finding],
        [(100_000, "tick"), (100_400, "finding")]
    );
    for rows_max in [1, 6] {
        assert_eq!(made(rows_max), whole);
    }
}

#[test]
fn a_recording_of_a_capture_file_gives_what_the_file_gave() {
    let log = log_of(&three_scans(), &rules(15), 4_096);
    let whole = of_capture(&log, rules(15), 5);
    let selection = Selection {
        outside: outside(&three_scans(), 5),
        ..everything()
    };
    let options = RecordOptions {
        selection: Selection {
            site: Some("cafe-1".to_owned()),
            ..selection
        },
        out: log.file("c.wfrec"),
        under: Under::rules(rules(15)),
        ..RecordOptions::default()
    };
    let recorded = record(&capture_file(log.data()), &options).unwrap();
    assert_eq!(recorded.events as usize, whole.events.len());
    let again = replay(&log.file("c.wfrec"), everything(), Under::recorded());
    assert!(again.problems.is_empty(), "{:?}", again.problems);
    assert_eq!(again.digests, whole.digests);
    assert_eq!(again.recorded.len(), whole.events.len());
}

#[test]
fn a_changed_threshold_differs_as_counted_by_hand() {
    let log = log_of(&three_scans(), &rules(15), 4_096);
    let before = replay(log.data(), everything(), Under::recorded());
    let after = under_rules(&log, rules(10));
    // By hand: the tenth port of each scan, to its last.
    assert_eq!(
        attacks(&after.events),
        [(10_900, 11_100), (100_900, 101_400), (200_900, 201_900)]
    );
    let diff = diff(&before.outcomes, &after.outcomes);
    let found: Vec<_> = diff
        .differences
        .iter()
        .map(|one| (one.change, one.kind, one.started_at.since(at(0)).as_millis()))
        .collect();
    let want = [
        (Change::Gained, "alert", 10_900),
        (Change::Gained, "attack", 10_900),
        (Change::Gained, "alert", 100_900),
        (Change::Lost, "alert", 101_400),
        (Change::Changed, "attack", 101_400),
        (Change::Gained, "alert", 200_900),
        (Change::Lost, "alert", 201_400),
        (Change::Changed, "attack", 201_400),
    ];
    assert_eq!(found, want, "{diff}");
    assert_eq!((diff.gained, diff.lost, diff.changed, diff.same), (4, 2, 2, 0));
    assert_eq!(diff.differences[4].fields[0].name, "began_at");
    // A capture file says the same.
    let of_capture = of_capture(&log, rules(10), 4_096);
    assert_eq!(attacks(&of_capture.events), attacks(&after.events));
}

#[test]
fn findings_are_made_again_in_their_places() {
    let log = log_of(&three_scans(), &rules(15), 4_096);
    // The same rules find the same, each where it stood.
    let same = under_rules(&log, rules(15));
    assert_eq!(of(&same.events, Chain::Site), log.site_events);
    assert_eq!(same.engine_counters.left_out_findings, 0);
    // Nothing is found, and what was found is left out.
    let none = under_rules(&log, rules(50));
    assert_eq!(none.engine_counters.left_out_findings, 4);
    let is_incident = |event: &&Event| matches!(event.body, EventBody::IncidentOpened(_));
    assert_eq!(none.events.iter().filter(is_incident).count(), 0);
    // More is found: three attacks begin and end, and none of them as recorded.
    let more = under_rules(&log, rules(10));
    assert_eq!(more.engine_counters.left_out_findings, 4);
    let opened = more.events.iter().filter_map(|event| match &event.body {
        EventBody::IncidentOpened(incident) => Some(incident.started_at.since(at(0)).as_millis()),
        _ => None,
    });
    assert_eq!(opened.collect::<Vec<_>>(), [10_900, 100_900, 200_900]);
}

#[test]
fn packets_alone_are_judged_by_given_rules() {
    let log = log_of(&three_scans(), &rules(15), 4_096);
    let options = RecordOptions {
        kinds: vec!["batch".to_owned()],
        out: log.file("batches.wfrec"),
        ..RecordOptions::default()
    };
    let recorded = record(log.data(), &options).unwrap();
    assert_eq!(recorded.records, 7, "{recorded:?}");
    let replayed = replay(&log.file("batches.wfrec"), everything(), Under::rules(rules(15)));
    assert_eq!(attacks(&replayed.events), attacks(&log.packet_events));
    assert_eq!(replayed.warm_ups, 0);
    // As recorded nothing is known of the rules, nor of what was before.
    let replayed = replay(&log.file("batches.wfrec"), everything(), Under::recorded());
    assert_eq!((replayed.events.len(), replayed.warm_ups), (0, 1));
}

#[test]
fn an_alert_is_explained_by_its_rule_and_its_packets() {
    let log = log_of(&three_scans(), &rules(15), 4_096);
    record_as(log.data(), &log.file("r.wfrec"), everything());
    let alert = log.packet_events.iter().find_map(|event| match &event.body {
        EventBody::AlertRaised(alert) => Some((event.id.0.clone(), alert.attack.clone())),
        _ => None,
    });
    let (alert, attack) = alert.unwrap();
    let of_capture = Selection {
        site: Some("cafe-1".to_owned()),
        outside: outside(&three_scans(), 4),
        ..Selection::default()
    };
    let capture = capture_file(log.data());
    for (path, selection) in [
        (log.data().to_owned(), everything()),
        (log.file("r.wfrec"), everything()),
        (capture, of_capture),
    ] {
        let under = Under::rules(rules(15));
        let explained = explain(&path, &selection, &under, &alert).unwrap();
        let rule = explained.rule.as_ref().unwrap();
        assert_eq!(
            (rule.rule.name.as_str(), rule.rule.set.as_str()),
            ("port_scan", "test")
        );
        assert_eq!(rule.definition.as_ref().unwrap(), &rules(15).rules[0]);
        let want = Condition::Rule {
            rule: "port_scan".to_owned(),
            observed: 15,
            threshold: 15,
            base_threshold: 15,
            window_ms: 10_000,
        };
        assert_eq!(explained.steps[0].condition.as_ref(), Some(&want));
        let packets = explained.packets.as_ref().unwrap();
        assert!(packets.is_found, "{packets:?}");
        // The packet that made it fire is the fifteenth of the second scan.
        let last = packets.packets.last().unwrap();
        assert_eq!((last.number, last.destination_port), (27, Some(1_014)));
        assert_eq!(last.tcp_flags, "SYN");
        let text = explained.to_string();
        assert!(
            text.contains("by the rule port_scan, version 1 of the set test: Port scan"),
            "{text}"
        );

        let explained = explain(&path, &selection, &under, &attack).unwrap();
        let kinds: Vec<_> = explained.steps.iter().map(|step| step.kind).collect();
        assert!(
            kinds.contains(&"attack_began") && kinds.ends_with(&["attack_ended"]),
            "{kinds:?}"
        );
    }
}

#[test]
fn capture_files_and_logs_are_not_mixed() {
    let log = log_of(&three_scans(), &rules(15), 4_096);
    let paths = [log.data().to_owned(), capture_file(log.data())];
    let selection = Selection {
        outside: outside(&three_scans(), 4_096),
        ..everything()
    };
    let error = Inputs::open(&paths, &selection).err().unwrap();
    assert!(matches!(error, ReplayError::MixedInputs), "{error}");
    let error = Input::of_captures(&paths[1..], &everything()).err().unwrap();
    assert!(matches!(error, ReplayError::NoOpener { .. }), "{error}");
}
