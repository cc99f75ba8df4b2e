//! One event of every kind, of every class of incident and of every notice.

use watchfold_schemas::config::Signal;
use watchfold_schemas::event::{
    Causes, CloseReason, EVENT_VERSION, Event, EventBody, Flood, FloodOf, HourDigest, Incident,
    IncidentClass, JitterRecorded, Notice, NoticeClass, NotificationRequest, OccupancySnapshot, Place,
    RttHistogram, Session, SessionList, Severity, Silence, SubjectChanged, SubjectDegraded, SubjectState,
    TargetRollup,
};
use watchfold_schemas::origin::Cause;
use watchfold_schemas::why::ProbeReason;
use watchfold_schemas::{Chain, EventId, MessageId};

use super::{SITE, START, Sample, after};

pub fn all() -> Vec<Sample> {
    let mut bodies: Vec<(&'static str, EventBody)> = vec![
        ("", subject_changed(SubjectState::Unknown, SubjectState::Up)),
        ("down", subject_changed(SubjectState::Suspect, SubjectState::Down)),
        (
            "frozen",
            subject_changed(SubjectState::Suppressed, SubjectState::Frozen),
        ),
        (
            "",
            EventBody::SubjectDegraded(SubjectDegraded {
                subject: "internet".into(),
                addresses_down: vec!["198.51.100.1".into()],
                since: after(20),
            }),
        ),
        (
            "",
            EventBody::JitterRecorded(JitterRecorded {
                subject: "router".into(),
                since: after(20),
                until: after(29),
                duration_ms: 9_000,
            }),
        ),
        (
            "",
            EventBody::IncidentOpened(incident(IncidentClass::Outage, Severity::High)),
        ),
        (
            "reasons",
            EventBody::IncidentOpened(Incident {
                reasons: vec![ProbeReason {
                    address: "www.example".into(),
                    signal: Signal::Https,
                    why: super::whys().remove(0),
                }],
                ..incident(IncidentClass::Outage, Severity::High)
            }),
        ),
        (
            "flapping",
            EventBody::IncidentOpened(incident(IncidentClass::Flapping, Severity::Medium)),
        ),
        (
            "collector_silent",
            EventBody::IncidentOpened(incident(IncidentClass::CollectorSilent, Severity::Low)),
        ),
        (
            "measurement_fault",
            EventBody::IncidentOpened(incident(IncidentClass::MeasurementFault, Severity::Info)),
        ),
        (
            "delivery_fault",
            EventBody::IncidentOpened(incident(IncidentClass::DeliveryFault, Severity::High)),
        ),
        (
            "",
            EventBody::IncidentEscalated(incident(IncidentClass::Outage, Severity::Critical)),
        ),
        (
            "",
            EventBody::IncidentReminded(incident(IncidentClass::Outage, Severity::High)),
        ),
        (
            "",
            EventBody::IncidentAcknowledged(incident(IncidentClass::Outage, Severity::High)),
        ),
        ("", EventBody::IncidentClosed(closed(CloseReason::Recovered))),
        ("removed", EventBody::IncidentClosed(closed(CloseReason::Removed))),
        (
            "",
            EventBody::SessionStarted(Session {
                ended_at: None,
                duration_ms: None,
                ..session()
            }),
        ),
        ("", EventBody::SessionEnded(session())),
        ("", EventBody::OccupancySnapshot(occupancy())),
        ("", EventBody::TargetRollup(rollup())),
        ("", EventBody::SilenceChanged(silence())),
    ];
    bodies.extend(notices().into_iter().map(|(variant, class, notice)| {
        let request = NotificationRequest {
            class,
            coalesce_key: "a1b2c3d4e5f60718".into(),
            expires_at: after(86_400),
            time_zone: "Europe/Berlin".into(),
            notice,
        };
        (variant, EventBody::NotificationRequested(Box::new(request)))
    }));
    // Added later: at the end, because the samples before it take their causes in turn.
    bodies.push((
        "parity",
        EventBody::IncidentOpened(incident(IncidentClass::Parity, Severity::Medium)),
    ));
    bodies.push((
        "",
        EventBody::Digest(HourDigest {
            hour: START,
            from: after(1),
            until: after(3_601),
            events: 12,
            sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into(),
            software: vec!["0.1.0".into(), "0.2.0".into()],
        }),
    ));
    bodies.extend(super::alerts::events());
    for of in [FloodOf::Sources, FloodOf::Targets, FloodOf::Subjects] {
        let incident = Incident {
            flood: Some(Box::new(flood(of))),
            ..incident(IncidentClass::Attack, Severity::High)
        };
        let variant = match of {
            FloodOf::Sources => "flood_of_sources",
            FloodOf::Targets => "flood_of_targets",
            FloodOf::Subjects => "flood_of_subjects",
        };
        bodies.push((variant, EventBody::IncidentOpened(incident)));
    }
    bodies
        .into_iter()
        .enumerate()
        .map(|(i, (variant, body))| Sample::Event(variant, Box::new(event(i, body))))
        .collect()
}

/// One event, for the outbox of a snapshot.
pub fn sample() -> Event {
    event(0, EventBody::OccupancySnapshot(occupancy()))
}

/// The causes and the chains take turns, so that each stands in some sample.
fn event(i: usize, body: EventBody) -> Event {
    let message = MessageId(format!("{SITE}/ping/1769846400000/{i}"));
    let cause = match i % 3 {
        0 => Cause::Message(message.clone()),
        1 => Cause::Timer {
            timer: "incident/router".into(),
            deadline: after(30),
        },
        _ => Cause::Packet {
            collector: "capture".into(),
            incarnation: 1,
            packet: 77,
        },
    };
    let chain = if i % 3 == 2 { Chain::Packets } else { Chain::Site };
    let mut causes = Causes::default();
    causes.push(&message);
    Event {
        v: EVENT_VERSION,
        id: EventId::derive(SITE, chain, body.kind(), "router", &cause, 0),
        site: SITE.into(),
        chain,
        at: after(30),
        key: "router".into(),
        cause,
        n: 0,
        place: Place {
            input: 1_000 + i as u64,
            index: 2,
        },
        causes,
        body,
    }
}

fn subject_changed(from: SubjectState, to: SubjectState) -> EventBody {
    EventBody::SubjectChanged(SubjectChanged {
        subject: "server".into(),
        from,
        to,
        since: after(20),
        root: Some("router".into()),
        detail: Some("timed out".into()),
    })
}

pub fn incident(class: IncidentClass, severity: Severity) -> Incident {
    Incident {
        id: Incident::derive_id(SITE, class, "router", after(20)),
        class,
        subject: "router".into(),
        severity,
        started_at: after(20),
        opened_at: after(30),
        ended_at: None,
        duration_ms: None,
        unmeasured_ms: 1_500,
        late: true,
        acknowledged_by: Some("token".into()),
        acknowledged_at: Some(after(40)),
        reminders: 2,
        suppressed: vec!["internet".into()],
        close_reason: None,
        detail: Some("timed out".into()),
        attack: None,
        flood: None,
        reasons: Vec::new(),
    }
}

fn flood(of: FloodOf) -> Flood {
    Flood {
        category: "port_scan".into(),
        title: "Port scan".into(),
        of,
        subjects: vec!["203.0.113.9".into(), "203.0.113.10".into()],
        subjects_total: 214,
        attacks_total: 231,
    }
}

fn closed(reason: CloseReason) -> Incident {
    Incident {
        ended_at: Some(after(80)),
        duration_ms: Some(60_000),
        close_reason: Some(reason),
        ..incident(IncidentClass::Outage, Severity::High)
    }
}

fn session() -> Session {
    Session {
        id: Session::derive_id(SITE, "02:00:00:00:00:0b", after(20)),
        pc: "02:00:00:00:00:0b".into(),
        name: "PC-1".into(),
        started_at: after(20),
        ended_at: Some(after(3_620)),
        duration_ms: Some(3_600_000),
        unmeasured_ms: 2_000,
    }
}

fn sessions() -> SessionList {
    SessionList {
        named: vec![session()],
        total: 1,
        from: after(20),
        to: after(50),
    }
}

fn occupancy() -> OccupancySnapshot {
    OccupancySnapshot {
        at: START,
        current: 7,
        total: 20,
        percent: 35,
        frozen: true,
    }
}

fn rollup() -> TargetRollup {
    let mut rtt = RttHistogram::default();
    [17, 900, 1_234, 250_000]
        .into_iter()
        .for_each(|rtt_us| rtt.record(rtt_us));
    TargetRollup {
        subject: "router".into(),
        hour: START,
        probes: 1_800,
        answered: 1_790,
        faults: 3,
        rtt,
        jitter_us: 410,
        up_ms: 3_540_000,
        down_ms: 30_000,
        suppressed_ms: 20_000,
        unmeasured_ms: 10_000,
    }
}

fn silence() -> Silence {
    Silence {
        id: "mute:router".into(),
        subjects: vec!["router".into()],
        from: after(5),
        until: after(3_600),
        who: "token".into(),
        active: true,
    }
}

fn notices() -> Vec<(&'static str, NoticeClass, Notice)> {
    let open = || incident(IncidentClass::Outage, Severity::High);
    vec![
        (
            "incident_opened",
            NoticeClass::Alerts,
            Notice::IncidentOpened {
                incident: open(),
                pcs_present: Some(7),
            },
        ),
        (
            "incident_updated",
            NoticeClass::Alerts,
            Notice::IncidentUpdated { incident: open() },
        ),
        (
            "incident_reminder",
            NoticeClass::Alerts,
            Notice::IncidentReminder {
                incident: open(),
                open_for_ms: 3_600_000,
            },
        ),
        (
            "incident_closed",
            NoticeClass::Alerts,
            Notice::IncidentClosed {
                incident: closed(CloseReason::Recovered),
                pcs_present: None,
            },
        ),
        (
            "sessions_started",
            NoticeClass::Occupancy,
            Notice::SessionsStarted { sessions: sessions() },
        ),
        (
            "sessions_ended",
            NoticeClass::Occupancy,
            Notice::SessionsEnded { sessions: sessions() },
        ),
        (
            "occupancy_snapshot",
            NoticeClass::Screenshots,
            Notice::OccupancySnapshot {
                snapshot: occupancy(),
            },
        ),
    ]
}
