//! Differences against a hand count.

use serde_json::json;
use watchfold_replay::diff::{Change, diff};
use watchfold_replay::{Outcomes, Under};
use watchfold_schemas::{EventBody, SiteConfig};
use watchfold_tests::story::instant;

use crate::world::{World, everything, replay, span};

/// Outages of 12, 20 and 40 seconds, by the probes on their grid.
const OUTAGES: &str = "target server\nset interval 2\nset flapping_count 100\nrun 0..600\n\
    down server 99.5..111.5 199.5..219.5 299.5..339.5\n";

fn raised(world: &World, min_incident_ms: u64) -> Under {
    let mut config: SiteConfig = world.story.config.clone();
    config.network.min_incident_ms = min_incident_ms;
    Under::config(config)
}

#[test]
fn a_raised_threshold_loses_two_and_changes_one() {
    let world = World::new(OUTAGES);
    world.record("r.wfrec", everything());
    for path in [world.data().to_owned(), world.file("r.wfrec")] {
        let before = replay(&path, everything(), Under::recorded());
        let after = replay(&path, everything(), raised(&world, 30_000));
        let diff = diff(&before.outcomes, &after.outcomes);
        let found: Vec<_> = diff
            .differences
            .iter()
            .map(|one| {
                (
                    one.change,
                    one.kind,
                    one.started_at.since(instant(0.0)).as_millis() / 1_000,
                )
            })
            .collect();
        // By hand: 12 s and 20 s are no incidents any more but jitters, 40 s is one later.
        let want = [
            (Change::Lost, "incident", 100),
            (Change::Gained, "jitter", 100),
            (Change::Lost, "incident", 200),
            (Change::Gained, "jitter", 200),
            (Change::Changed, "incident", 300),
        ];
        assert_eq!(found, want, "{diff}");
        assert_eq!((diff.gained, diff.lost, diff.changed, diff.same), (2, 2, 1, 0));
        let [field] = &diff.differences[4].fields[..] else {
            panic!("{diff}")
        };
        assert_eq!(field.name, "opened_at");
        let second = |value: &serde_json::Value| value.as_str().unwrap()[17..19].to_owned();
        assert_eq!(
            (second(&field.before), second(&field.after)),
            ("10".to_owned(), "30".to_owned())
        );
        let text = diff.to_string();
        assert!(
            text.ends_with("2 gained, 2 lost, 1 changed, 0 the same"),
            "{text}"
        );
        let value = serde_json::to_value(&diff).unwrap();
        assert_eq!(value["differences"][0]["change"], json!("lost"));
    }
}

#[test]
fn the_same_configuration_is_no_difference() {
    let world = World::new(OUTAGES);
    let before = replay(world.data(), everything(), Under::recorded());
    let after = replay(world.data(), everything(), raised(&world, 10_000));
    assert!(diff(&before.outcomes, &after.outcomes).is_same());
    assert_eq!(before.digests, after.digests);
}

#[test]
fn a_configuration_given_in_the_middle_changes_only_what_follows() {
    let world = World::new(OUTAGES);
    let late = span(Some(150.0), None);
    world.record("late.wfrec", late.clone());
    for (path, selection) in [
        (world.data().to_owned(), late),
        (world.file("late.wfrec"), everything()),
    ] {
        let before = replay(&path, selection.clone(), Under::recorded());
        let after = replay(&path, selection, raised(&world, 30_000));
        let diff = diff(&before.outcomes, &after.outcomes);
        assert_eq!(
            (diff.gained, diff.lost, diff.changed, diff.same),
            (1, 1, 1, 0),
            "{diff}"
        );
        assert_eq!(before.recorded, before.events);
    }
}

#[test]
fn later_recorded_activations_are_ignored_under_another_configuration() {
    let world = World::new(&format!("{OUTAGES}at 250 set min_incident 60\n"));
    let as_recorded = replay(world.data(), everything(), Under::recorded());
    let given = replay(world.data(), everything(), raised(&world, 10_000));
    assert_eq!(given.engine_counters.ignored_activations, 1);
    let opened = |events: &[watchfold_schemas::Event]| {
        events
            .iter()
            .filter(|event| matches!(event.body, EventBody::IncidentOpened(_)))
            .count()
    };
    assert_eq!((opened(&as_recorded.events), opened(&given.events)), (2, 3));
}

#[test]
fn recorded_events_that_code_no_longer_derives_are_told() {
    let world = World::new(OUTAGES);
    let replayed = replay(world.data(), everything(), Under::recorded());
    let mut then = Outcomes::default();
    let mut changed = false;
    for event in &replayed.recorded {
        let mut event = event.clone();
        if let EventBody::IncidentClosed(incident) = &mut event.body
            && !std::mem::replace(&mut changed, true)
        {
            incident.duration_ms = Some(1);
        }
        then.add(&event).unwrap();
    }
    let diff = diff(&then, &replayed.outcomes);
    assert_eq!((diff.changed, diff.same), (1, 2), "{diff}");
    assert_eq!(diff.differences[0].fields[0].name, "duration_ms");
}
