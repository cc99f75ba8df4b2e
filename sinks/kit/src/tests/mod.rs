//! Samples and waiting for this package's tests.

mod away;
mod delivery;
mod faults;
mod losses;
mod pace;
mod plan;
mod reader;

use std::time::Duration;

use watchfold_log::{Append, MessageLog};
use watchfold_schemas::event::{
    Causes, EVENT_VERSION, Event, EventBody, Flood, FloodOf, Incident, IncidentClass, Notice, NoticeClass,
    NotificationRequest, OccupancySnapshot, Place, SessionList, Severity,
};
use watchfold_schemas::origin::Cause;
use watchfold_schemas::{Chain, EventId, MessageId, Stream, Time, encode_event, subjects};

pub(crate) const SITE: &str = "cafe-1";

/// Longer than any test takes.
pub(crate) const FAR: Time = Time(i64::MAX);

pub(crate) fn incident(id: &str) -> Incident {
    Incident {
        id: id.to_owned(),
        class: IncidentClass::Outage,
        subject: "router".into(),
        severity: Severity::High,
        started_at: Time::from_seconds(1_000),
        opened_at: Time::from_seconds(1_010),
        ended_at: None,
        duration_ms: None,
        unmeasured_ms: 0,
        late: false,
        acknowledged_by: None,
        acknowledged_at: None,
        reminders: 0,
        suppressed: Vec::new(),
        close_reason: None,
        detail: None,
        attack: None,
        flood: None,
        reasons: Vec::new(),
    }
}

pub(crate) fn opened(id: &str) -> Notice {
    Notice::IncidentOpened {
        incident: incident(id),
        pcs_present: Some(17),
    }
}

/// A flood of port scans begins.
pub(crate) fn attack(id: &str) -> Notice {
    with(opened(id), |incident| {
        incident.class = IncidentClass::Attack;
        incident.subject = "attack:port_scan".into();
        incident.flood = Some(Box::new(Flood {
            category: "port_scan".into(),
            title: "Port scan".into(),
            of: FloodOf::Sources,
            subjects: vec!["10.0.0.9".into()],
            subjects_total: 1,
            attacks_total: 1,
        }));
    })
}

/// The same flood is over.
pub(crate) fn attack_over(id: &str) -> Notice {
    let Notice::IncidentOpened {
        mut incident,
        pcs_present,
    } = attack(id)
    else {
        unreachable!("an attack opens")
    };
    incident.ended_at = Some(Time::from_seconds(1_060));
    Notice::IncidentClosed {
        incident,
        pcs_present,
    }
}

/// The notice with another incident.
pub(crate) fn with(mut notice: Notice, change: impl FnOnce(&mut Incident)) -> Notice {
    match &mut notice {
        Notice::IncidentOpened { incident, .. }
        | Notice::IncidentUpdated { incident }
        | Notice::IncidentReminder { incident, .. }
        | Notice::IncidentClosed { incident, .. } => change(incident),
        other => panic!("{other:?} is about no incident"),
    }
    notice
}

pub(crate) fn updated(id: &str, by: &str) -> Notice {
    Notice::IncidentUpdated {
        incident: Incident {
            acknowledged_by: Some(by.into()),
            ..incident(id)
        },
    }
}

pub(crate) fn reminder(id: &str, open_for_ms: u64) -> Notice {
    Notice::IncidentReminder {
        incident: incident(id),
        open_for_ms,
    }
}

pub(crate) fn closed(id: &str) -> Notice {
    let over = Incident {
        ended_at: Some(Time::from_seconds(1_060)),
        duration_ms: Some(60_000),
        ..incident(id)
    };
    Notice::IncidentClosed {
        incident: over,
        pcs_present: Some(17),
    }
}

pub(crate) fn sessions(total: u32) -> Notice {
    Notice::SessionsStarted {
        sessions: SessionList {
            total,
            ..SessionList::default()
        },
    }
}

pub(crate) fn snapshot(current: u32) -> Notice {
    Notice::OccupancySnapshot {
        snapshot: OccupancySnapshot {
            at: Time::from_seconds(3_600),
            current,
            total: 20,
            percent: 5,
            frozen: false,
        },
    }
}

/// A request as the notify fold makes it: incidents coalesce by their id, the rest by what they are.
pub(crate) fn request(notice: Notice, expires_at: Time) -> NotificationRequest {
    let (class, coalesce_key) = match (&notice, crate::plan::incident_of(&notice)) {
        (_, Some(incident)) => (NoticeClass::Alerts, incident.to_owned()),
        (Notice::OccupancySnapshot { .. }, None) => (NoticeClass::Occupancy, "snapshot".to_owned()),
        _ => (NoticeClass::Occupancy, "sessions".to_owned()),
    };
    NotificationRequest {
        class,
        coalesce_key,
        expires_at,
        time_zone: "UTC".into(),
        notice,
    }
}

/// The event of the `number`th input.
pub(crate) fn event(number: u64, body: EventBody) -> Event {
    let cause = Cause::Message(MessageId(format!("{SITE}/ping/1/{number}")));
    let id = EventId::derive(SITE, Chain::Site, body.kind(), "router", &cause, 0);
    Event {
        v: EVENT_VERSION,
        id,
        site: SITE.into(),
        chain: Chain::Site,
        at: Time::from_seconds(1_000),
        key: "router".into(),
        cause,
        n: 0,
        place: Place {
            input: number,
            index: 0,
        },
        causes: Causes::default(),
        body,
    }
}

pub(crate) fn append_of(event: &Event, message_id: &str) -> Append {
    Append {
        stream: Stream::Events,
        subject: subjects::event(SITE, event.chain, event.body.kind(), &event.key),
        id: MessageId(message_id.to_owned()),
        payload: encode_event(event).unwrap().into(),
    }
}

/// Appends a request as the event of the `number`th input.
pub(crate) async fn ask(log: &dyn MessageLog, number: u64, request: NotificationRequest) -> EventId {
    let event = event(number, EventBody::NotificationRequested(Box::new(request)));
    log.append(vec![append_of(&event, &event.id.0)]).await.unwrap();
    event.id
}

/// Waits until `condition` holds, for at most ten seconds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}
