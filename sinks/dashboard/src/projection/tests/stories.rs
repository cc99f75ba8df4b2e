//! The projection against stories told by hand.

use super::*;
use crate::projection::shapes::Pc;

#[test]
fn a_target_shows_its_state_its_last_hour_and_its_uptime() {
    let mut observations = vec![activation(0, config(&["router", "server"], 0))];
    for second in 1..=10 {
        let outcome = if second == 10 {
            Outcome::TimedOut
        } else {
            Outcome::Ok
        };
        let rtt = (outcome == Outcome::Ok).then_some(1_000 + (second as u32 % 2) * 100);
        observations.push(round(
            7_200 + second * 10,
            &[("router", outcome, rtt), ("stranger", Outcome::Ok, Some(1))],
        ));
    }
    observations.push(round(7_305, &[("server", Outcome::Fault, None)]));
    observations.push(tick(7_310));
    let events = [
        changed(0, "router", SubjectState::Up),
        rollup(0, "router", 3_600_000, 0),
        rollup(1, "router", 1_800_000, 1_800_000),
        changed(7_300, "router", SubjectState::Down),
        incident_event(7_301, "router", 7_300, None),
    ];
    let projection = fold(&events, &observations);
    let folded = projection.folded();
    assert_eq!(
        folded
            .targets
            .iter()
            .map(|target| &*target.name)
            .collect::<Vec<_>>(),
        ["router", "server"]
    );
    let router = &folded.targets[0];
    assert_eq!(
        (router.state, router.since),
        (SubjectState::Down, Some(at(7_300)))
    );
    assert_eq!((router.loss_permille, router.jitter_us), (Some(100), Some(100)));
    assert_eq!((router.rtt_us, router.last_measured_at), (None, Some(at(7_300))));
    assert_eq!(router.incident.as_deref(), Some("router-7300"));
    // 90 min up in rollups and 100 s since, of 120 min and those.
    assert_eq!(
        router.uptime_day_ppm,
        Some((5_400 + 100) * 1_000_000 / (7_200 + 100))
    );
    let server = &folded.targets[1];
    assert_eq!(
        (server.state, server.loss_permille),
        (SubjectState::Unknown, None)
    );
    assert_eq!((server.last_measured_at, server.uptime_day_ppm), (None, None));
    assert_eq!(server.addresses[0].outcome, Outcome::Fault);
    assert_eq!(folded.samples.len(), 11);
    let minutes = projection
        .history("router", Resolution::Minute, at(0), at(9_000), 10)
        .unwrap();
    assert_eq!(
        minutes
            .iter()
            .map(|point| (point.at, point.probes))
            .collect::<Vec<_>>(),
        [(at(7_200), 5), (at(7_260), 5)]
    );
    assert!(
        projection
            .history("stranger", Resolution::Day, at(0), at(1), 1)
            .is_none()
    );
}

#[test]
fn occupancy_counts_running_sessions_and_is_held_while_its_parent_is_down() {
    let observations = [activation(0, config(&["router"], 3)), tick(100)];
    let mut events = vec![
        session_event(10, "192.0.2.101", 1, None),
        session_event(20, "192.0.2.102", 2, None),
        session_event(30, "192.0.2.102", 2, Some(25)),
        session_event(40, "stranger", 3, None),
    ];
    let count = fold(&events, &observations).occupancy().count;
    assert_eq!(
        (count.current, count.total, count.percent, count.frozen),
        (1, 3, 33, false)
    );
    events.push(changed(50, "router", SubjectState::Down));
    let occupancy = fold(&events, &observations).occupancy();
    assert_eq!(
        (occupancy.count.frozen, occupancy.count.root.as_deref()),
        (true, Some("router"))
    );
    let pc = |pc: &Pc| (pc.present, pc.frozen, pc.since, pc.session.clone());
    assert_eq!(
        pc(&occupancy.pcs[0]),
        (true, true, Some(at(1)), Some("192.0.2.101-1".into()))
    );
    assert_eq!(
        pc(&occupancy.pcs[1]),
        (false, true, Some(at(25)), Some("192.0.2.102-2".into()))
    );
    assert_eq!(pc(&occupancy.pcs[2]), (false, true, None, None));
}

#[test]
fn repetitions_from_before_undo_nothing() {
    let events = [
        changed(0, "router", SubjectState::Up),
        incident_event(10, "router", 5, None),
        session_event(11, "pc", 1, None),
        incident_event(20, "router", 5, Some(15)),
        session_event(21, "pc", 1, Some(16)),
        changed(22, "router", SubjectState::Down),
        rollup(0, "router", 1, 1),
    ];
    let once = fold(&events, &[]);
    let mut twice = fold(&events, &[]);
    for (index, event) in events.iter().enumerate() {
        twice.apply_event(index as u64 + 1, event);
    }
    twice.position = once.position;
    assert_eq!(stored(&twice), stored(&once));
}

#[test]
fn removed_targets_go_and_a_new_one_of_the_same_name_starts_unknown() {
    let mut observations = vec![activation(0, config(&["router", "server"], 2))];
    let events = [
        changed(5, "server", SubjectState::Down),
        changed(5, "router", SubjectState::Up),
    ];
    observations.push(activation(10, config(&["router"], 1)));
    let mut projection = fold(&events, &observations[..1]);
    projection.take_changes();
    projection.apply_observation(2, &observations[1]);
    assert!(
        projection.take_changes().restart,
        "the order of targets is told by a whole state only"
    );
    observations.push(activation(20, config(&["router", "server"], 2)));
    let folded = fold(&events, &observations).folded();
    let states: Vec<_> = folded.targets.iter().map(|target| target.state).collect();
    assert_eq!(states, [SubjectState::Up, SubjectState::Unknown]);
}

#[test]
fn silences_mute_their_subjects_for_their_time() {
    let silence = |subjects: &[&str], until: i64, active| {
        let silence = Silence {
            id: "mute:router".into(),
            subjects: subjects.iter().map(|name| (*name).to_owned()).collect(),
            from: at(0),
            until: at(until),
            who: "token".into(),
            active,
        };
        event(i64::from(!active), 0, EventBody::SilenceChanged(silence))
    };
    let observations = [activation(0, config(&["router", "server"], 0)), tick(100)];
    let muted = |events: &[Event]| -> Vec<Option<Time>> {
        fold(events, &observations)
            .targets()
            .map(|target| target.muted_until)
            .collect()
    };
    assert_eq!(muted(&[silence(&["router"], 200, true)]), [Some(at(200)), None]);
    assert_eq!(muted(&[silence(&[], 200, true)]), [Some(at(200)), Some(at(200))]);
    assert_eq!(muted(&[silence(&["router"], 100, true)]), [None, None]);
    assert_eq!(
        muted(&[silence(&["router"], 200, true), silence(&["router"], 200, false)]),
        [None, None]
    );
}

#[test]
fn closed_incidents_and_ended_sessions_are_bounded() {
    let mut projection = Projection::default();
    let total = told::INCIDENTS_CLOSED_MAX as i64 + 50;
    projection.apply_event(1, &incident_event(1, "old-and-open", 0, None));
    for n in 1..=total {
        projection.apply_event(
            n as u64,
            &incident_event(n * 100, "router", n * 100, Some(n * 100 + 50)),
        );
    }
    for n in 1..=sessions::SESSIONS_ENDED_MAX as i64 + 50 {
        projection.apply_event(
            n as u64,
            &session_event(n * 100, "pc", n * 100, Some(n * 100 + 50)),
        );
    }
    assert_eq!(projection.incidents(None).count(), told::INCIDENTS_CLOSED_MAX + 1);
    assert!(projection.incident("old-and-open-0").is_some() && projection.incident("router-100").is_none());
    assert_eq!(projection.sessions(None).count(), sessions::SESSIONS_ENDED_MAX);
    assert_eq!(projection.evicted(), 0);
}

#[test]
fn windows_that_run_or_are_to_come_are_shown_with_their_reason() {
    let mut projection = fold(
        &[
            silence(1, "maintenance:a", true),
            silence(2, "maintenance:b", true),
            silence(3, "mute:router", true),
            silence(4, "maintenance:b", false),
        ],
        &[
            planned(1, "a", Some("new switch".into())),
            planned(2, "b", None),
            tick(10),
        ],
    );
    let shown: Vec<_> = projection
        .maintenance()
        .into_iter()
        .map(|window| (window.id, window.note))
        .collect();
    assert_eq!(shown, [("a".to_owned(), Some("new switch".to_owned()))]);
    let changes = projection.take_changes();
    assert!(
        changes
            .list
            .iter()
            .any(|change| matches!(change, Change::Maintenance(windows) if windows.len() == 1)),
        "{changes:?}"
    );
    // Nobody took it back yet, but it is over.
    projection.apply_observation(4, &tick(90_000));
    assert!(projection.maintenance().is_empty());
}

#[test]
fn notes_of_windows_are_kept_up_to_a_limit() {
    let mut projection = Projection::default();
    let most = super::super::measured::MAINTENANCE_NOTES_MAX;
    for n in 0..=most {
        let plan = planned(1, &format!("{n:05}"), Some("why".into()));
        projection.apply_observation(n as u64 + 1, &plan);
    }
    assert_eq!(projection.measured.maintenance_note("00000"), None);
    assert_eq!(
        projection.measured.maintenance_note(&format!("{most:05}")),
        Some("why")
    );
}
