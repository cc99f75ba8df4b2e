//! One value of everything that can be stored today, from which missing samples are written. Values are chosen so
//! that no field is empty; they describe no real site.

use watchfold_schemas::config::{
    NetworkConfig, OccupancyConfig, PcHost, ProbeSpec, Signal, SignalSpec, SiteConfig, Target,
};
use watchfold_schemas::event::{
    Causes, CloseReason, EVENT_VERSION, Event, EventBody, Incident, IncidentClass, JitterRecorded, Notice,
    NoticeClass, NotificationRequest, OccupancySnapshot, Place, RttHistogram, Session, SessionList, Severity,
    Silence, SubjectChanged, SubjectDegraded, SubjectState, TargetRollup,
};
use watchfold_schemas::observation::{
    Act, Activation, Body, DeliveryOutcome, Fault, Gap, OBSERVATION_VERSION, Observation, OperatorAct,
    Outcome, PingRound, PingRow, Receipt, Tick,
};
use watchfold_schemas::origin::Cause;
use watchfold_schemas::snapshot::{
    CollectorPosition, FoldVersion, SNAPSHOT_VERSION, SnapshotChunk, SnapshotManifest, SnapshotPart,
    SnapshotPosition, SnapshotRecord, SnapshotState, StateEntry, StoredEvent,
};
use watchfold_schemas::{Chain, EventId, MessageId, Origin, Span, Time, subjects};

/// 2026-01-31T08:00:00Z, a Saturday.
const START: Time = Time::from_seconds(1_769_846_400);
const SITE: &str = "cafe-1";

/// A stored value, with the name of its variant.
pub enum Sample {
    Observation(&'static str, Box<Observation>),
    Event(&'static str, Box<Event>),
    SnapshotRecord(&'static str, Box<SnapshotRecord>),
    SnapshotState(Box<SnapshotState>),
}

impl Sample {
    /// The stem of its files: the stored type, then the kind, then the variant where a kind has several.
    pub fn name(&self) -> String {
        let join = |kind: &str, variant: &str| {
            if variant.is_empty() {
                kind.into()
            } else {
                format!("{kind}.{variant}")
            }
        };
        match self {
            Sample::Observation(variant, value) => {
                format!("observation.{}", join(value.body.kind(), variant))
            }
            Sample::Event(variant, value) => format!("event.{}", join(value.body.kind(), variant)),
            Sample::SnapshotRecord(variant, _) => format!("snapshot_record.{variant}"),
            Sample::SnapshotState(_) => "snapshot_state".to_owned(),
        }
    }
}

pub fn all() -> Vec<Sample> {
    let mut samples = observations();
    samples.extend(events());
    samples.extend(snapshots());
    samples
}

fn observations() -> Vec<Sample> {
    let bodies = [
        ("", Body::PingRound(ping_round())),
        ("", Body::Quiet),
        (
            "",
            Body::Fault(Fault {
                subject: "router".into(),
                at: after(1),
                reason: "No socket for echo: allow unprivileged ones, or run as root.".into(),
                active: true,
            }),
        ),
        (
            "",
            Body::Gap(Gap {
                from: after(2),
                to: after(9),
                records: 7,
                reason: "the queue was full".into(),
            }),
        ),
        (
            "",
            Body::Tick(Tick {
                now: after(3),
                interval_ms: 1_000,
            }),
        ),
        (
            "acknowledge",
            act(Act::Acknowledge {
                incident: "a1b2c3d4e5f60718".into(),
            }),
        ),
        (
            "mute",
            act(Act::Mute {
                subject: "router".into(),
                until: after(3_600),
            }),
        ),
        (
            "unmute",
            act(Act::Unmute {
                subject: "router".into(),
            }),
        ),
        (
            "maintenance",
            act(Act::Maintenance {
                id: "m-1".into(),
                subjects: vec!["router".into(), "server".into()],
                from: after(60),
                until: after(7_200),
            }),
        ),
        (
            "cancel_maintenance",
            act(Act::CancelMaintenance { id: "m-1".into() }),
        ),
        ("delivered", receipt(DeliveryOutcome::Delivered)),
        ("merged", receipt(DeliveryOutcome::Merged)),
        ("expired", receipt(DeliveryOutcome::Expired)),
        ("rejected", receipt(DeliveryOutcome::Rejected)),
        ("", activation()),
    ];
    let number = 1..;
    let observation = |((variant, body), number): ((&'static str, Body), u64)| {
        let collector = match &body {
            Body::Tick(_) => "clock",
            Body::Operator(_) => "operator",
            Body::Receipt(_) => "discord",
            Body::Activation(_) => "config",
            Body::PingRound(_) | Body::Quiet | Body::Fault(_) | Body::Gap(_) => "ping",
        };
        let origin = Origin {
            site: SITE.into(),
            collector: collector.into(),
            incarnation: 1_769_846_400_000,
            number,
        };
        let v = OBSERVATION_VERSION;
        Sample::Observation(
            variant,
            Box::new(Observation {
                v,
                origin,
                observed_at: after(10),
                through: after(9),
                body,
            }),
        )
    };
    bodies.into_iter().zip(number).map(observation).collect()
}

/// Every signal and every outcome stands in it once at least.
fn ping_round() -> PingRound {
    let rows = (0..6).map(|i| PingRow {
        subject: if i < 4 {
            "internet".into()
        } else {
            "pc:192.0.2.11".into()
        },
        address: format!("192.0.2.{i}"),
        signal: Signal::ALL[i % Signal::ALL.len()],
        at: START + Span::from_millis(i as i64 * 3),
        outcome: Outcome::ALL[i],
        rtt_us: (Outcome::ALL[i] == Outcome::Ok).then_some(1_234),
        mac: (i == 1).then(|| "02:00:00:00:00:0b".into()),
        detail: (i == 4).then(|| "status 302 instead of 200".into()),
    });
    PingRound::from_rows(9, 2, rows.collect())
}

fn act(act: Act) -> Body {
    Body::Operator(OperatorAct {
        at: after(5),
        who: "token".into(),
        act,
        note: Some("new cable".into()),
    })
}

fn receipt(outcome: DeliveryOutcome) -> Body {
    Body::Receipt(Receipt {
        at: after(6),
        sink: "discord".into(),
        requests: vec![EventId("f0828599b2a65b9a83b16082a20dc170".into())],
        outcome,
        message: Some("1131425364758697".into()),
        detail: Some("404: the webhook was deleted".into()),
        attempts: 2,
    })
}

fn activation() -> Body {
    let config = site_config();
    let hash = config.hash();
    Body::Activation(Box::new(Activation {
        at: after(7),
        hash,
        config,
        software: "0.1.0".into(),
    }))
}

fn site_config() -> SiteConfig {
    let probe = |address: &str, signals| ProbeSpec {
        address: address.into(),
        signals,
    };
    let target = |name: &str, probes, depends_on: &[&str]| Target {
        name: name.into(),
        probes,
        quorum: 1,
        interval_ms: 2_000,
        timeout_ms: 1_000,
        depends_on: depends_on.iter().map(|name| (*name).to_owned()).collect(),
    };
    let page = SignalSpec::Https {
        url: "https://example.com/".into(),
        status: 200,
        contains: Some("Example".into()),
    };
    SiteConfig {
        site: SITE.into(),
        time_zone: "Europe/Berlin".into(),
        network: NetworkConfig {
            targets: vec![
                target("router", vec![probe("192.0.2.1", vec![SignalSpec::Echo])], &[]),
                target(
                    "internet",
                    vec![
                        probe(
                            "198.51.100.1",
                            vec![SignalSpec::Dns {
                                query: "example.com".into(),
                                port: 53,
                            }],
                        ),
                        probe("example.com", vec![SignalSpec::Tcp { port: 443 }, page]),
                    ],
                    &["router"],
                ),
            ],
            ..NetworkConfig::default()
        },
        occupancy: OccupancyConfig {
            hosts: vec![PcHost {
                address: "192.0.2.11".into(),
                mac: Some("02:00:00:00:00:0b".into()),
                name: "PC-1".into(),
            }],
            depends_on: vec!["router".into()],
            ..OccupancyConfig::default()
        },
    }
}

fn events() -> Vec<Sample> {
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
    bodies
        .into_iter()
        .enumerate()
        .map(|(i, (variant, body))| Sample::Event(variant, Box::new(event(i, body))))
        .collect()
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

fn incident(class: IncidentClass, severity: Severity) -> Incident {
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

fn snapshots() -> Vec<Sample> {
    let chunk = SnapshotPart::Chunk(SnapshotChunk {
        index: 0,
        crc32c: 0x1234_5678,
        data: vec![0, 1, 0xc1, 0xff],
    });
    let manifest = SnapshotPart::Manifest(Box::new(SnapshotManifest {
        site: SITE.into(),
        chain: Chain::Site,
        position: SnapshotPosition {
            log_id: "5f0c1c3e9a7b4d2e".into(),
            sequence: 1_000,
            id: format!("{SITE}/ping/1769846400000/9"),
        },
        published: Some(Place { input: 999, index: 1 }),
        versions: vec![FoldVersion {
            fold: "liveness".into(),
            version: 1,
        }],
        at: after(3_600),
        chunk_sequences: vec![41, 42],
        bytes: 600_000,
        crc32c: 0x9abc_def0,
        previous: Some(40),
    }));
    let record = |part| {
        Box::new(SnapshotRecord {
            v: SNAPSHOT_VERSION,
            set: "1000-0123456789abcdef".into(),
            part,
        })
    };
    let event = event(0, EventBody::OccupancySnapshot(occupancy()));
    let state = SnapshotState {
        v: SNAPSHOT_VERSION,
        entries: vec![StateEntry {
            key: b"liveness/router".to_vec(),
            value: vec![0x81, 0xff],
        }],
        outbox: vec![StoredEvent {
            place: event.place,
            subject: subjects::event(SITE, event.chain, event.body.kind(), &event.key),
            id: event.id.0.clone(),
            payload: vec![0x81, 0xa1, b'v', 1],
        }],
        collectors: vec![CollectorPosition {
            collector: "ping".into(),
            incarnation: 1_769_846_400_000,
            number: 9,
            sequence: 1_000,
        }],
    };
    vec![
        Sample::SnapshotRecord("chunk", record(chunk)),
        Sample::SnapshotRecord("manifest", record(manifest)),
        Sample::SnapshotState(Box::new(state)),
    ]
}

fn after(seconds: i64) -> Time {
    START + Span::from_seconds(seconds)
}
