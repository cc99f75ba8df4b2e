//! Notices to tell.

use watchfold_schemas::Time;
use watchfold_schemas::alert::{Attack, Endpoint, Measured, Reputation, RuleRef, SeenBy, Tier};
use watchfold_schemas::event::{
    CloseReason, Incident, IncidentClass, Notice, OccupancySnapshot, Session, SessionList, Severity,
};
use watchfold_schemas::rules::RuleState;

/// 2026-11-20 13:05:09 UTC.
pub const START: Time = Time::from_seconds(1_795_179_909);

pub fn at(seconds: i64) -> Time {
    Time::from_seconds(START.as_seconds() + seconds)
}

pub fn incident(id: &str) -> Incident {
    Incident {
        id: id.to_owned(),
        class: IncidentClass::Outage,
        subject: "router".into(),
        severity: Severity::High,
        started_at: START,
        opened_at: at(10),
        ended_at: None,
        duration_ms: None,
        unmeasured_ms: 0,
        late: false,
        acknowledged_by: None,
        acknowledged_at: None,
        reminders: 0,
        suppressed: vec!["server".into(), "internet".into()],
        close_reason: None,
        detail: Some("192.168.1.1: timed out".into()),
        attack: None,
        flood: None,
        reasons: Vec::new(),
    }
}

pub fn attack() -> Attack {
    let endpoint = |ip: &str, port| Endpoint {
        ip: Some(ip.into()),
        port: Some(port),
        mac: None,
    };
    Attack {
        id: "0011223344556677".into(),
        rule: RuleRef {
            id: "6a0a8a3e-8f8f-4cf5-9a0c-0a8b5c9d1e2f".into(),
            name: "port_scan".into(),
            title: "Port scan".into(),
            version: 2,
            set: "default".into(),
        },
        category: "port_scan".into(),
        severity: Severity::Critical,
        state: RuleState::Enforce,
        subject: "203.0.113.9".into(),
        source: endpoint("203.0.113.9", 40_000),
        destination: endpoint("2001:db8::1", 22),
        transport: "tcp".into(),
        community_id: Some("1:LQU9qZlK+B5F3KDmev6m5PMibrg=".into()),
        began_at: START,
        last_at: at(20),
        ended_at: None,
        peak: Measured {
            observed: 312,
            threshold: 4,
            base_threshold: 15,
            window_ms: 10_000,
        },
        peak_at: at(15),
        alerts: 2,
        matches: 300,
        victims: vec!["192.168.1.1".into(), "2001:db8::1".into()],
        victims_total: 7,
        reputation: Some(Reputation {
            subject: "203.0.113.9".into(),
            tier: Tier::High,
            malicious: 6,
            score: -12,
            known: true,
        }),
        seen_by: SeenBy {
            collector: "capture-lan".into(),
            interface: "eth0".into(),
            ..SeenBy::default()
        },
        message: "203.0.113.9 tried 312 ports.".into(),
    }
}

pub fn attacked(id: &str, attack: Attack) -> Incident {
    Incident {
        class: IncidentClass::Attack,
        subject: format!("attack:{}:{}", attack.category, attack.subject),
        severity: attack.severity,
        suppressed: Vec::new(),
        detail: Some(attack.message.clone()),
        attack: Some(Box::new(attack)),
        ..incident(id)
    }
}

pub fn over(id: &str) -> Incident {
    Incident {
        ended_at: Some(at(8_100)),
        duration_ms: Some(8_100_000),
        close_reason: Some(CloseReason::Recovered),
        detail: None,
        ..incident(id)
    }
}

pub fn opened(id: &str) -> Notice {
    Notice::IncidentOpened {
        incident: incident(id),
        pcs_present: Some(17),
    }
}

pub fn updated(id: &str) -> Notice {
    let incident = Incident {
        acknowledged_by: Some("kim".into()),
        acknowledged_at: Some(at(300)),
        suppressed: Vec::new(),
        ..incident(id)
    };
    Notice::IncidentUpdated { incident }
}

pub fn reminder(id: &str) -> Notice {
    Notice::IncidentReminder {
        incident: incident(id),
        open_for_ms: 3_600_000,
    }
}

pub fn closed(id: &str) -> Notice {
    Notice::IncidentClosed {
        incident: over(id),
        pcs_present: Some(17),
    }
}

pub fn session(name: &str, ended_after_s: Option<i64>) -> Session {
    Session {
        id: format!("s-{name}"),
        pc: "192.168.1.110".into(),
        name: name.into(),
        started_at: START,
        ended_at: ended_after_s.map(at),
        duration_ms: ended_after_s.map(|seconds| seconds as u64 * 1_000),
        unmeasured_ms: 0,
    }
}

pub fn sessions(named: Vec<Session>, total: u32) -> SessionList {
    SessionList {
        named,
        total,
        from: START,
        to: at(30),
    }
}

pub fn started(total: u32) -> Notice {
    Notice::SessionsStarted {
        sessions: sessions(Vec::new(), total),
    }
}

pub fn snapshot() -> Notice {
    let snapshot = OccupancySnapshot {
        at: at(3_291),
        current: 17,
        total: 20,
        percent: 85,
        frozen: false,
    };
    Notice::OccupancySnapshot { snapshot }
}
