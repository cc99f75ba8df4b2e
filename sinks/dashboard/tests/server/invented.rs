//! Alerts and attacks for tests, and what a ring of packets would say of them.

use watchfold_dashboard::{PacketsFailure, PacketsRequest};
use watchfold_schemas::alert::{
    Alert, Attack, Endpoint, Measured, PacketRanges, Reputation, RuleRef, SeenBy, Tier,
};
use watchfold_schemas::event::{Incident, IncidentClass, Severity};
use watchfold_schemas::rules::RuleState;
use watchfold_schemas::{Chain, EventBody};

use super::harness::{Ground, at, incident};

impl Ground {
    /// A port scan that goes on, with its alert and its incident, and one that ended.
    pub async fn furnish_alarms(&self) {
        let open = attack("scan-open", 25, None);
        self.raise("a1e7", 30, alert("203.0.113.9")).await;
        let began = EventBody::AttackBegan(Box::new(open.clone()));
        self.emit_in(Chain::Packets, 30, "scan-open", began).await;
        let of_attack = Incident {
            class: IncidentClass::Attack,
            attack: Some(Box::new(open)),
            ..incident("scan-incident", 25, None)
        };
        self.emit(30, "scan", EventBody::IncidentOpened(of_attack)).await;
        let ended = attack("scan-ended", 3, Some(20));
        let ended = EventBody::AttackEnded(Box::new(ended));
        self.emit_in(Chain::Packets, 31, "scan-ended", ended).await;
    }

    /// An alert of the packet chain whose id ends with `id`.
    pub async fn raise(&self, id: &str, second: i64, alert: Alert) -> u64 {
        let (id, key) = (format!("{id:0>32}"), alert.attack.clone());
        let body = EventBody::AlertRaised(Box::new(alert));
        self.emit_as(&id, Chain::Packets, second, &key, body).await
    }
}

pub fn alert(source: &str) -> Alert {
    let of = attack("scan-open", 25, None);
    Alert {
        rule: of.rule,
        category: of.category,
        severity: of.severity,
        state: of.state,
        attack: of.id,
        subject: source.into(),
        source: Endpoint {
            ip: Some(source.into()),
            port: Some(40_111),
            mac: None,
        },
        destination: of.destination,
        transport: of.transport,
        community_id: of.community_id,
        measured: of.peak,
        reputation: of.reputation,
        seen_by: of.seen_by,
        message: of.message,
        facts: vec![("dns.question.name".into(), "<img src=x onerror=alert(1)>".into())],
    }
}

pub fn attack(id: &str, began: i64, ended: Option<i64>) -> Attack {
    let end = |ip: &str, port| Endpoint {
        ip: Some(ip.into()),
        port: Some(port),
        mac: None,
    };
    Attack {
        id: id.into(),
        rule: RuleRef {
            id: "5f0c7d1e-0000-4000-8000-000000000001".into(),
            name: "port_scan".into(),
            title: "Port scan".into(),
            version: 1,
            set: "default".into(),
        },
        category: "port_scan".into(),
        severity: Severity::High,
        state: RuleState::Enforce,
        subject: "203.0.113.9".into(),
        source: end("203.0.113.9", 40_111),
        destination: end("192.0.2.10", 22),
        transport: "tcp".into(),
        community_id: Some("1:LQU9qZlK+B5F3KDmev6m5PMibrg=".into()),
        began_at: at(began),
        last_at: at(ended.unwrap_or(began)),
        ended_at: ended.map(at),
        peak: Measured {
            observed: 15,
            threshold: 15,
            base_threshold: 15,
            window_ms: 10_000,
        },
        peak_at: at(began),
        alerts: 1,
        matches: 15,
        victims: vec!["192.0.2.10".into()],
        victims_total: 1,
        reputation: Some(Reputation {
            subject: "203.0.113.9".into(),
            tier: Tier::High,
            malicious: 4,
            score: -30,
            known: true,
        }),
        seen_by: SeenBy {
            collector: "capture-lan".into(),
            incarnation: 7,
            interface: "eth0".into(),
            vlans: Vec::new(),
            packets: PacketRanges {
                ranges: vec![(100, 114)],
                total: 15,
            },
        },
        message: "=203.0.113.9 tried 15 ports".into(),
    }
}

/// What a collector's ring would say.
pub fn packets_of(request: &PacketsRequest) -> Result<Vec<u8>, PacketsFailure> {
    match &*request.seen_by.collector {
        "capture-lan" => Ok(format!("{} {}", request.from, request.until).into_bytes()),
        "capture-old" => Err(PacketsFailure::Gone("newer packets took their place".into())),
        "capture-broken" => Err(PacketsFailure::Unreadable("the disk is broken".into())),
        _ => Err(PacketsFailure::NotKept("this collector keeps no packets".into())),
    }
}
