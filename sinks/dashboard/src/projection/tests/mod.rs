//! What the tests of the projection share: events and observations in a few words. `stories` tells them by hand,
//! `interleavings` lets chance order them.

mod alarms;
mod interleavings;
mod stories;

use watchfold_schemas::config::{OccupancyConfig, PcHost, ProbeSpec, Signal, SignalSpec, SiteConfig, Target};
use watchfold_schemas::event::{
    CloseReason, EVENT_VERSION, Incident, IncidentClass, Place, RttHistogram, Session, Severity, Silence,
    SubjectChanged, SubjectState, TargetRollup,
};
use watchfold_schemas::observation::{
    Act, Activation, OBSERVATION_VERSION, OperatorAct, PingRound, PingRow, Tick,
};
use watchfold_schemas::origin::{Cause, EventId, MessageId};
use watchfold_schemas::{Body, Chain, Event, EventBody, Observation, Origin};

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
        why: None,
        resolved: None,
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
        attack: None,
        flood: None,
        reasons: Vec::new(),
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

/// Longer than anything here lasts.
fn until() -> Time {
    at(90_000)
}

fn silence(second: i64, id: &str, active: bool) -> Event {
    let body = Silence {
        id: id.into(),
        subjects: vec!["router".into()],
        from: at(50),
        until: until(),
        who: "owner".into(),
        active,
    };
    event(second, 4, EventBody::SilenceChanged(body))
}

fn planned(second: i64, id: &str, note: Option<String>) -> Observation {
    let act = Act::Maintenance {
        id: id.into(),
        subjects: vec!["router".into()],
        from: at(50),
        until: until(),
    };
    let (at, who) = (at(second), "owner".into());
    observation(second, Body::Operator(OperatorAct { at, who, act, note }))
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

fn stored(projection: &Projection) -> Vec<u8> {
    rmp_serde::to_vec_named(projection).unwrap()
}
