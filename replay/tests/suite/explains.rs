//! Explanations name the records and the settings that a hand count gives.

use watchfold_replay::explain::{Condition, explain, explain_unless};
use watchfold_replay::{ReplayError, Under};
use watchfold_schemas::EventBody;
use watchfold_schemas::observation::Outcome;

use crate::world::{World, everything};

const OUTAGE: &str =
    "target server\ntarget other\nset interval 2\nrun 0..300\ndown server 100..140\nat 120 ack server\n";

#[test]
fn an_incident_is_explained_by_its_probes_and_its_threshold() {
    let world = World::new(OUTAGE);
    world.record("r.wfrec", everything());
    let id = world.events.iter().find_map(|event| match &event.body {
        EventBody::IncidentOpened(incident) => Some(incident.id.clone()),
        _ => None,
    });
    let id = id.unwrap();
    for path in [world.data().to_owned(), world.file("r.wfrec")] {
        let explained = explain(&path, &everything(), &Under::recorded(), &id).unwrap();
        let kinds: Vec<_> = explained.steps.iter().map(|step| step.kind).collect();
        assert_eq!(
            kinds,
            ["incident_opened", "incident_acknowledged", "incident_closed"]
        );
        let condition = Condition::Length {
            setting: "network.min_incident",
            limit_ms: 10_000,
            found_ms: 10_000,
        };
        assert_eq!(explained.steps[0].condition, Some(condition));
        assert_eq!(explained.subject.as_deref(), Some("server"));
        let rows: Vec<_> = explained.records.iter().flat_map(|record| &record.rows).collect();
        assert!(rows.iter().all(|row| row.subject == "server"), "{rows:?}");
        let outcomes: Vec<Outcome> = rows.iter().map(|row| row.outcome).collect();
        assert!(
            outcomes.starts_with(&[Outcome::TimedOut]) && outcomes.ends_with(&[Outcome::Ok]),
            "{outcomes:?}"
        );
        assert!(explained.records.iter().any(|record| record.kind == "operator"));
        for cause in &explained.steps[0].event.causes.messages {
            assert!(
                explained.records.iter().any(|record| record.id == cause.0),
                "{cause} is not shown"
            );
        }
        let text = explained.to_string();
        assert!(
            text.contains("incident opened  after 10000 ms; network.min_incident is 10000 ms"),
            "{text}"
        );
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0].ends_with("ping_round")) {
            assert!(
                pair[1].starts_with("          "),
                "a round without a result: {text}"
            );
        }
    }
}

#[test]
fn a_single_event_is_explained_and_an_unknown_id_refused() {
    let world = World::new(OUTAGE);
    let event = &world.events[world.events.len() / 2];
    let explained = explain(world.data(), &everything(), &Under::recorded(), &event.id.0).unwrap();
    assert_eq!(explained.steps.len(), 1);
    assert_eq!(&explained.steps[0].event, event);
    let error = explain(
        world.data(),
        &everything(),
        &Under::recorded(),
        "0123456789abcdef",
    )
    .unwrap_err();
    assert!(matches!(error, ReplayError::NotDerived { .. }), "{error}");
}

#[test]
fn a_session_is_explained_by_how_long_it_held() {
    let world = World::new(
        "target router\npcs 1\nset interval 1\nset timeout 0.5\nrun 0..700\ndown PC-1 0..100 280..700\n",
    );
    let id = world.events.iter().find_map(|event| match &event.body {
        EventBody::SessionEnded(session) => Some(session.id.clone()),
        _ => None,
    });
    let explained = explain(world.data(), &everything(), &Under::recorded(), &id.unwrap()).unwrap();
    let held = |found_ms| {
        Some(Condition::Length {
            setting: "occupancy.min_session",
            limit_ms: 180_000,
            found_ms,
        })
    };
    let conditions: Vec<_> = explained
        .steps
        .iter()
        .map(|step| step.condition.clone())
        .collect();
    assert_eq!(conditions, [held(180_000), held(180_000)], "{explained}");
}

#[test]
fn a_flapping_target_is_explained_by_a_count() {
    let drops: String = (0..5)
        .map(|n| format!("down server {}..{}\n", 100 + n * 60, 105 + n * 60))
        .collect();
    let world = World::new(&format!("target server\nset interval 2\nrun 0..600\n{drops}"));
    let id = world.events.iter().find_map(|event| match &event.body {
        EventBody::IncidentOpened(incident) => Some(incident.id.clone()),
        _ => None,
    });
    let explained = explain(world.data(), &everything(), &Under::recorded(), &id.unwrap()).unwrap();
    let condition = Condition::Count {
        setting: "network.flapping_count",
        limit: 3,
        found: 4,
        within_ms: 600_000,
    };
    assert_eq!(explained.steps[0].condition, Some(condition), "{explained}");
}

#[test]
fn an_explanation_that_nobody_waits_for_ends() {
    let world = World::new(OUTAGE);
    let error = explain_unless(
        world.data(),
        &everything(),
        &Under::recorded(),
        "0123456789abcdef",
        &|| true,
    )
    .unwrap_err();
    assert!(matches!(error, ReplayError::Cancelled), "{error}");
}
