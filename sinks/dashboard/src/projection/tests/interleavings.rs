//! The projection against itself under any interleaving of the two streams, with restarts and a viewer.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::projection::shapes::Folded;

fn arbitrary_event() -> impl Strategy<Value = Event> {
    let subject = prop::sample::select(vec!["router", "server", "pc:192.0.2.101"]);
    let state = prop::sample::select(vec![
        SubjectState::Up,
        SubjectState::Suspect,
        SubjectState::Down,
        SubjectState::Suppressed,
        SubjectState::Frozen,
    ]);
    let pc = prop::sample::select(vec!["192.0.2.101", "192.0.2.102", "gone"]);
    let second = 0_i64..20_000;
    prop_oneof![
        (second.clone(), subject.clone(), state)
            .prop_map(|(second, subject, to)| changed(second, subject, to)),
        (second.clone(), pc, 0_i64..5, prop::bool::ANY).prop_map(|(second, pc, started, ended)| {
            session_event(second, pc, started * 100, ended.then_some(second + 1_000))
        }),
        (second.clone(), subject.clone(), 0_i64..5, prop::bool::ANY).prop_map(
            |(second, subject, started, ended)| {
                incident_event(second, subject, started * 100, ended.then_some(second + 1_000))
            }
        ),
        (second.clone(), 0_u8..3, prop::bool::ANY).prop_map(|(second, window, active)| silence(
            second,
            &format!("maintenance:{window}"),
            active
        )),
        (second.clone(), 0_u32..3, severity()).prop_map(|(second, index, severity)| alarms::raised(
            second,
            index,
            "port_scan",
            severity
        )),
        (second, 0_i64..4, severity(), prop::bool::ANY).prop_map(|(second, began, severity, ended)| {
            alarms::attacked(
                second,
                &format!("port_scan-{began}"),
                severity,
                began,
                ended.then_some(second),
            )
        }),
        (0_i64..5, subject, 0_u64..100).prop_map(|(hour, subject, up_ms)| rollup(hour, subject, up_ms, 7)),
    ]
}

fn severity() -> impl Strategy<Value = Severity> {
    prop::sample::select(vec![
        Severity::Info,
        Severity::Low,
        Severity::Medium,
        Severity::High,
        Severity::Critical,
    ])
}

fn arbitrary_observation() -> impl Strategy<Value = Observation> {
    let outcome = prop::sample::select(Outcome::ALL.to_vec());
    let second = 0_i64..20_000;
    prop_oneof![
        1 => (second.clone(), prop::bool::ANY, 0_usize..3).prop_map(|(second, both, pcs)| {
            activation(second, config(if both { &["router", "server"] } else { &["router"] }, pcs))
        }),
        3 => second.clone().prop_map(tick),
        1 => (second.clone(), 0_u8..3, prop::option::of("[a-z]{1,3}"))
            .prop_map(|(second, window, note)| planned(second, &window.to_string(), note)),
        8 => (second, outcome, 0_u32..5_000).prop_map(|(second, outcome, rtt_us)| {
            let rtt_us = (outcome == Outcome::Ok).then_some(rtt_us);
            round(second, &[("router", outcome, rtt_us), ("server", Outcome::Ok, Some(5)), ("pc:192.0.2.101", outcome, rtt_us)])
        }),
    ]
}

/// A viewer: a whole state, and deltas put into it.
struct Viewer {
    state: Folded,
}

impl Viewer {
    fn take(&mut self, changes: Changes, projection: &Projection) {
        if changes.restart {
            self.state = projection.folded();
        }
        for change in changes.list {
            let state = &mut self.state;
            match change {
                Change::Target(target) => {
                    let place = state.targets.iter().position(|known| known.name == target.name);
                    match place {
                        Some(place) => state.targets[place] = target,
                        None => state.targets.push(target),
                    }
                }
                Change::TargetRemoved(name) => state.targets.retain(|target| target.name != name),
                Change::Incident(incident) => {
                    state
                        .incidents
                        .retain(|known| known.incident.id != incident.incident.id);
                    state.incidents.push(incident);
                }
                Change::Occupancy(count) => state.occupancy.count = count,
                Change::Pc(pc) => {
                    state.occupancy.pcs.retain(|known| known.key != pc.key);
                    state.occupancy.pcs.push(pc);
                }
                Change::PcRemoved(key) => state.occupancy.pcs.retain(|pc| pc.key != key),
                Change::Session(session) => {
                    state.sessions.retain(|known| known.id != session.id);
                    state.sessions.push(session);
                }
                Change::Maintenance(windows) => state.maintenance = windows,
                Change::Heatmap(heatmap) => state.heatmap = heatmap,
                Change::Samples(samples) => state.samples.extend(samples),
                Change::Alerts(news) => state.alerts.extend(news.items),
                Change::Attack(attack) => {
                    state.attacks.retain(|known| known.attack.id != attack.attack.id);
                    state.attacks.push(*attack);
                }
                Change::AlertTotals(totals) => state.alert_totals = totals,
                Change::Rules(rules) => state.rules = rules,
                Change::Stages(_) => {}
            }
        }
    }

    /// What must be the same whichever way the viewer got here.
    fn summary(state: &Folded) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for target in &state.targets {
            let shown = (
                target.state,
                target.since,
                &target.incident,
                target.rtt_us,
                target.last_measured_at,
            );
            all.insert(format!("target {}", target.name), format!("{shown:?}"));
        }
        for incident in &state.incidents {
            all.insert(
                format!("incident {}", incident.incident.id),
                format!("{incident:?}"),
            );
        }
        for session in state.sessions.iter() {
            all.insert(format!("session {}", session.id), format!("{session:?}"));
        }
        for pc in &state.occupancy.pcs {
            let shown = (pc.present, pc.frozen, pc.since, &pc.seen_by, &pc.session);
            all.insert(format!("pc {}", pc.key), format!("{shown:?}"));
        }
        for alert in &state.alerts {
            all.insert(format!("alert {}", alert.id), format!("{alert:?}"));
        }
        for attack in &state.attacks {
            all.insert(format!("attack {}", attack.attack.id), format!("{attack:?}"));
        }
        all.insert("alert totals".into(), format!("{:?}", state.alert_totals));
        all.insert("rules".into(), format!("{:?}", state.rules));
        all.insert("maintenance".into(), format!("{:?}", state.maintenance));
        all.insert("count".into(), format!("{:?}", state.occupancy.count));
        all
    }
}

proptest! {
    #[test]
    fn any_interleaving_gives_the_same_state_and_viewers_can_follow(
        events in prop::collection::vec(arbitrary_event(), 0..40),
        observations in prop::collection::vec(arbitrary_observation(), 0..40),
        mut steps in prop::collection::vec(0_u8..4, 0..160),
    ) {
        let straight = fold(&events, &observations);
        let mut mixed = Projection::default();
        let mut viewer = Viewer { state: mixed.folded() };
        let mut left = (events.iter().enumerate(), observations.iter().enumerate());
        // What the random steps leave over comes at the end.
        steps.extend(std::iter::repeat_n(0, events.len()));
        steps.extend(std::iter::repeat_n(1, observations.len()));
        for step in steps {
            match step {
                0 => if let Some((index, event)) = left.0.next() {
                    mixed.apply_event(index as u64 + 1, event);
                },
                1 => if let Some((index, observation)) = left.1.next() {
                    mixed.apply_observation(index as u64 + 1, observation);
                },
                2 => {
                    let changes = mixed.take_changes();
                    viewer.take(changes, &mixed);
                }
                _ => mixed = rmp_serde::from_slice::<Projection>(&stored(&mixed)).map(|restored| Projection {
                    // Viewers of a restored projection start anew; here they go on.
                    dirty: mixed.dirty.clone(),
                    ..restored
                }).unwrap(),
            }
        }
        let changes = mixed.take_changes();
        viewer.take(changes, &mixed);
        prop_assert_eq!(stored(&mixed), stored(&straight));
        let folded = mixed.folded();
        prop_assert_eq!(&folded, &straight.folded());
        // A session that a newer one replaced is forgotten without a word; the viewer keeps it until its next state.
        let mut seen = Viewer::summary(&viewer.state);
        let want = Viewer::summary(&folded);
        seen.retain(|key, _| !key.starts_with("session") || want.contains_key(key));
        prop_assert_eq!(seen, want);
    }
}
