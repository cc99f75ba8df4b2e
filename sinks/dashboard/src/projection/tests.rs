//! The projection against stories told by hand, and against itself under any interleaving of the two streams.

use std::collections::BTreeMap;

use proptest::prelude::*;
use watchfold_schemas::config::{OccupancyConfig, PcHost, ProbeSpec, Signal, SignalSpec, SiteConfig, Target};
use watchfold_schemas::event::{
    CloseReason, EVENT_VERSION, Incident, IncidentClass, Place, RttHistogram, Session, Severity, Silence,
    SubjectChanged, SubjectState, TargetRollup,
};
use watchfold_schemas::observation::{Activation, OBSERVATION_VERSION, PingRound, PingRow, Tick};
use watchfold_schemas::origin::{Cause, EventId, MessageId};
use watchfold_schemas::{Body, Chain, Event, EventBody, Observation, Origin};

use super::shapes::{Folded, Pc};
use super::*;

/// A Monday.
const START_S: i64 = 1_785_715_200;

fn at(second: i64) -> Time {
    Time::from_seconds(START_S + second)
}

fn event(second: i64, index: u32, body: EventBody) -> Event {
    Event {
        v: EVENT_VERSION,
        id: EventId(format!("{second:016x}{index:016x}")),
        site: "cafe".into(),
        chain: Chain::Site,
        at: at(second),
        key: "key".into(),
        cause: Cause::Message(MessageId("cafe/ping/1/1".into())),
        n: 0,
        place: Place {
            input: second as u64,
            index,
        },
        causes: Default::default(),
        body,
    }
}

fn observation(second: i64, body: Body) -> Observation {
    Observation {
        v: OBSERVATION_VERSION,
        origin: Origin {
            site: "cafe".into(),
            collector: "ping".into(),
            incarnation: 1,
            number: 1,
        },
        observed_at: at(second),
        through: at(second),
        body,
    }
}

fn config(targets: &[&str], pcs: usize) -> SiteConfig {
    let target = |name: &&str| Target {
        name: (*name).to_owned(),
        probes: vec![ProbeSpec {
            address: "192.0.2.1".into(),
            signals: vec![SignalSpec::Echo],
        }],
        quorum: 1,
        interval_ms: 2_000,
        timeout_ms: 1_000,
        depends_on: Vec::new(),
    };
    let mut config = SiteConfig {
        site: "cafe".into(),
        time_zone: "Europe/Berlin".into(),
        ..SiteConfig::default()
    };
    config.network.targets = targets.iter().map(target).collect();
    config.occupancy = OccupancyConfig {
        hosts: (1..=pcs)
            .map(|n| PcHost {
                address: format!("192.0.2.{}", 100 + n),
                mac: None,
                name: format!("PC-{n}"),
            })
            .collect(),
        depends_on: vec!["router".into()],
        ..OccupancyConfig::default()
    };
    config
}

fn activation(second: i64, config: SiteConfig) -> Observation {
    let hash = config.hash();
    let body = Activation {
        at: at(second),
        hash,
        config,
        software: "test".into(),
    };
    observation(second, Body::Activation(Box::new(body)))
}

fn tick(second: i64) -> Observation {
    observation(
        second,
        Body::Tick(Tick {
            now: at(second),
            interval_ms: 1_000,
        }),
    )
}

fn round(second: i64, rows: &[(&str, Outcome, Option<u32>)]) -> Observation {
    let row = |(subject, outcome, rtt_us): &(&str, Outcome, Option<u32>)| PingRow {
        subject: (*subject).to_owned(),
        address: "192.0.2.1".into(),
        signal: Signal::Echo,
        at: at(second),
        outcome: *outcome,
        rtt_us: *rtt_us,
        mac: None,
        detail: None,
    };
    let round = PingRound::from_rows(second as u64, 1, rows.iter().map(row).collect());
    observation(second, Body::PingRound(round))
}

fn changed(second: i64, subject: &str, to: SubjectState) -> Event {
    let body = SubjectChanged {
        subject: subject.into(),
        from: SubjectState::Unknown,
        to,
        since: at(second),
        root: None,
        detail: None,
    };
    event(second, 0, EventBody::SubjectChanged(body))
}

fn incident(subject: &str, started: i64, ended: Option<i64>) -> Incident {
    Incident {
        id: format!("{subject}-{started}"),
        class: IncidentClass::Outage,
        subject: subject.into(),
        severity: Severity::High,
        started_at: at(started),
        opened_at: at(started + 10),
        ended_at: ended.map(at),
        duration_ms: ended.map(|ended| (ended - started) as u64 * 1_000),
        unmeasured_ms: 0,
        late: false,
        acknowledged_by: None,
        acknowledged_at: None,
        reminders: 0,
        suppressed: Vec::new(),
        close_reason: ended.map(|_| CloseReason::Recovered),
        detail: None,
    }
}

fn session(pc: &str, started: i64, ended: Option<i64>) -> Session {
    Session {
        id: format!("{pc}-{started}"),
        pc: pc.into(),
        name: pc.into(),
        started_at: at(started),
        ended_at: ended.map(at),
        duration_ms: ended.map(|ended| (ended - started) as u64 * 1_000),
        unmeasured_ms: 0,
    }
}

fn session_event(second: i64, pc: &str, started: i64, ended: Option<i64>) -> Event {
    let session = session(pc, started, ended);
    let body = if ended.is_some() {
        EventBody::SessionEnded(session)
    } else {
        EventBody::SessionStarted(session)
    };
    event(second, 1, body)
}

fn incident_event(second: i64, subject: &str, started: i64, ended: Option<i64>) -> Event {
    let incident = incident(subject, started, ended);
    let body = if ended.is_some() {
        EventBody::IncidentClosed(incident)
    } else {
        EventBody::IncidentOpened(incident)
    };
    event(second, 2, body)
}

fn rollup(hour: i64, subject: &str, up_ms: u64, down_ms: u64) -> Event {
    let mut rtt = RttHistogram::default();
    rtt.record(900);
    let body = TargetRollup {
        subject: subject.into(),
        hour: at(hour * 3_600),
        probes: 10,
        answered: 9,
        faults: 0,
        rtt,
        jitter_us: 5,
        up_ms,
        down_ms,
        suppressed_ms: 0,
        unmeasured_ms: 0,
    };
    event(hour * 3_600 + 3_600, 3, EventBody::TargetRollup(body))
}

/// Folds the two lists one after the other.
fn fold(events: &[Event], observations: &[Observation]) -> Projection {
    let mut projection = Projection::default();
    for (index, event) in events.iter().enumerate() {
        projection.apply_event(index as u64 + 1, event);
    }
    for (index, observation) in observations.iter().enumerate() {
        projection.apply_observation(index as u64 + 1, observation);
    }
    projection
}

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

fn stored(projection: &Projection) -> Vec<u8> {
    rmp_serde::to_vec(projection).unwrap()
}

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
        (0_i64..5, subject, 0_u64..100).prop_map(|(hour, subject, up_ms)| rollup(hour, subject, up_ms, 7)),
    ]
}

fn arbitrary_observation() -> impl Strategy<Value = Observation> {
    let outcome = prop::sample::select(Outcome::ALL.to_vec());
    let second = 0_i64..20_000;
    prop_oneof![
        1 => (second.clone(), prop::bool::ANY, 0_usize..3).prop_map(|(second, both, pcs)| {
            activation(second, config(if both { &["router", "server"] } else { &["router"] }, pcs))
        }),
        3 => second.clone().prop_map(tick),
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
                    state.incidents.retain(|known| known.id != incident.id);
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
                Change::Heatmap(heatmap) => state.heatmap = heatmap,
                Change::Samples(samples) => state.samples.extend(samples),
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
            all.insert(format!("incident {}", incident.id), format!("{incident:?}"));
        }
        for session in state.sessions.iter() {
            all.insert(format!("session {}", session.id), format!("{session:?}"));
        }
        for pc in &state.occupancy.pcs {
            let shown = (pc.present, pc.frozen, pc.since, &pc.seen_by, &pc.session);
            all.insert(format!("pc {}", pc.key), format!("{shown:?}"));
        }
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
