//! The projection against stories told by hand.

use super::*;
use crate::projection::shapes::Pc;
use watchfold_schemas::observation::{DeliveryOutcome, PC_SUBJECT_PREFIX, Receipt};

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
    // 90 min up in rollups and 90 s that were measured since, of 120 min and those.
    assert_eq!(
        router.uptime_day_ppm,
        Some((5_400 + 90) * 1_000_000 / (7_200 + 90))
    );
    // Of 24 hours and what the present hour has run.
    assert_eq!(
        router.uptime_day_measured_ppm,
        (7_200 + 90) * 1_000_000 / (86_400 + 110)
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
fn a_window_is_no_mute_and_both_are_shown() {
    let events = [silence(1, "maintenance:a", true), silence(2, "mute:router", true)];
    let observations = [activation(0, config(&["router"], 0)), tick(100)];
    let of = |events: &[Event]| {
        let target = fold(events, &observations).targets().next().unwrap();
        (target.muted_until, target.maintenance_until)
    };
    assert_eq!(of(&events), (Some(until()), Some(until())));
    let unmuted = [events[0].clone(), silence(3, "mute:router", false)];
    assert_eq!(
        of(&unmuted),
        (None, Some(until())),
        "the window still keeps it silent"
    );
}

#[test]
fn our_own_absence_counts_for_neither_up_nor_down() {
    let mut observations = vec![activation(0, config(&["router"], 0))];
    let ok = |second| round(second, &[("router", Outcome::Ok, Some(900))]);
    observations.extend((0..=60).map(|n| ok(n * 10)));
    // Off for 800 s; the next incarnation goes on.
    observations.extend((140..=150).map(|n| {
        let mut observation = ok(n * 10);
        observation.origin.incarnation = 2;
        observation
    }));
    // Faults measure nothing.
    observations.extend((151..=160).map(|n| round(n * 10, &[("router", Outcome::Fault, None)])));
    observations.push(tick(1_600));
    let events = [
        changed(0, "router", SubjectState::Up),
        changed(1_450, "router", SubjectState::Down),
    ];
    let target = fold(&events, &observations).targets().next().unwrap();
    assert_eq!(target.uptime_day_ppm, Some(650 * 1_000_000 / 700));
    assert_eq!(target.uptime_day_measured_ppm, 700 * 1_000_000 / (86_400 + 1_600));
}

#[test]
fn loss_is_what_the_strip_shows() {
    let mut observations = vec![activation(0, config(&["router"], 0))];
    // An hour ago everything was lost; since then one of the two addresses never answers, and the target does.
    observations.extend((0..10).map(|n| round(n * 2, &[("router", Outcome::TimedOut, None)])));
    observations.extend((0..100).map(|n| {
        let rows = [
            ("router", Outcome::TimedOut, None),
            ("router", Outcome::Ok, Some(900)),
        ];
        round(3_000 + n * 2, &rows)
    }));
    observations.push(round(3_300, &[("router", Outcome::TimedOut, None)]));
    observations.push(tick(3_300));
    let target = fold(&[], &observations).targets().next().unwrap();
    assert_eq!(target.loss_permille, Some(1_000 / 101));
}

#[test]
fn an_incident_shows_the_note_of_its_acknowledgement_and_when_people_were_notified() {
    let opened = incident_event(10, "router", 5, None);
    let request = watchfold_schemas::event::NotificationRequest {
        class: watchfold_schemas::event::NoticeClass::Alerts,
        coalesce_key: "router-5".into(),
        expires_at: until(),
        time_zone: "UTC".into(),
        notice: watchfold_schemas::event::Notice::IncidentOpened {
            incident: incident("router", 5, None),
            pcs_present: None,
        },
    };
    let requested = event(10, 7, EventBody::NotificationRequested(Box::new(request)));
    let acknowledged = observation(
        40,
        Body::Operator(OperatorAct {
            at: at(40),
            who: "owner".into(),
            act: Act::Acknowledge {
                incident: "router-5".into(),
            },
            note: Some("the cleaner pulled the plug".into()),
        }),
    );
    let receipt = |second, outcome| {
        let receipt = Receipt {
            at: at(second),
            sink: "discord".into(),
            requests: vec![requested.id.clone()],
            outcome,
            message: None,
            detail: None,
            attempts: 1,
        };
        observation(second, Body::Receipt(receipt))
    };
    let observations = [
        receipt(20, DeliveryOutcome::Expired),
        receipt(31, DeliveryOutcome::Delivered),
        receipt(35, DeliveryOutcome::Merged),
        acknowledged,
    ];
    let mut projection = fold(&[opened, requested.clone()], &[]);
    projection.take_changes();
    for (index, observation) in observations.iter().enumerate() {
        projection.apply_observation(index as u64 + 1, observation);
    }
    let changes = projection.take_changes();
    let [Change::Incident(shown)] = &changes.list[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(shown.notified_at, Some(at(31)));
    assert_eq!(
        shown.acknowledged_note.as_deref(),
        Some("the cleaner pulled the plug")
    );
}

#[test]
fn pcs_that_nobody_probes_are_not_known_to_be_absent() {
    let probed = |second| {
        let subject = format!("{PC_SUBJECT_PREFIX}192.0.2.101");
        round(second, &[(subject.as_str(), Outcome::TimedOut, None)])
    };
    let measured = |observations: &[Observation]| fold(&[], observations).occupancy().count.measured;
    let configured = activation(0, config(&[], 3));
    assert!(!measured(&[configured.clone(), tick(10)]));
    assert!(measured(&[configured.clone(), probed(5), tick(10)]));
    assert!(!measured(&[configured, probed(5), tick(400)]));
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
