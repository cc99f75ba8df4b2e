//! Alerts and attacks in the projection: told once, counted, bounded, and the threat that falls again.

use watchfold_log::Position;
use watchfold_schemas::alert::{Alert, Attack, Endpoint, Measured, RuleRef, SeenBy};
use watchfold_schemas::event::{Flood, FloodOf};
use watchfold_schemas::rules::{RuleSet, RuleState, RulesActivation, Surroundings};

use super::*;
use crate::projection::alerts::{ALERTS_MAX, CATEGORIES_COUNTED_MAX, OTHER};
use crate::projection::attacks::ATTACKS_ENDED_MAX;
use crate::projection::dirty::{ALERTS_TOLD_MAX, ATTACKS_TOLD_MAX};
use crate::projection::shapes::{AlertTotals, NewAlerts, SeverityCounts, Threat};
use crate::snapshot::{Snapshot, decode, encode};

fn rule(name: &str) -> RuleRef {
    RuleRef {
        id: name.into(),
        name: name.into(),
        title: name.into(),
        version: 1,
        set: "default".into(),
    }
}

fn alert(category: &str, severity: Severity) -> Alert {
    Alert {
        rule: rule(category),
        category: category.into(),
        severity,
        state: RuleState::Enforce,
        attack: format!("{category}-1"),
        subject: "203.0.113.9".into(),
        source: Endpoint::default(),
        destination: Endpoint::default(),
        transport: "tcp".into(),
        community_id: None,
        measured: Measured::default(),
        reputation: None,
        seen_by: SeenBy::default(),
        message: "something".into(),
        facts: Vec::new(),
    }
}

fn of_packets(second: i64, index: u32, body: EventBody) -> Event {
    Event {
        chain: Chain::Packets,
        ..event(second, index, body)
    }
}

pub fn raised(second: i64, index: u32, category: &str, severity: Severity) -> Event {
    let body = Box::new(alert(category, severity));
    of_packets(second, index, EventBody::AlertRaised(body))
}

pub fn attacked(second: i64, id: &str, severity: Severity, began: i64, ended: Option<i64>) -> Event {
    let attack = Box::new(Attack {
        id: id.into(),
        rule: rule("port_scan"),
        category: "port_scan".into(),
        severity,
        state: RuleState::Enforce,
        subject: "203.0.113.9".into(),
        source: Endpoint::default(),
        destination: Endpoint::default(),
        transport: "tcp".into(),
        community_id: None,
        began_at: at(began),
        last_at: at(second),
        ended_at: ended.map(at),
        peak: Measured::default(),
        peak_at: at(began),
        alerts: 1,
        matches: 1,
        victims: Vec::new(),
        victims_total: 0,
        reputation: None,
        seen_by: SeenBy::default(),
        message: "something".into(),
    });
    let body = match ended {
        Some(_) => EventBody::AttackEnded(attack),
        None => EventBody::AttackBegan(attack),
    };
    of_packets(second, 9, body)
}

/// What a viewer is told of alerts.
fn told(projection: &mut Projection) -> (Option<NewAlerts>, Option<AlertTotals>, Changes) {
    let changes = projection.take_changes();
    let news = changes.list.iter().find_map(|change| match change {
        Change::Alerts(news) => Some(news.clone()),
        _ => None,
    });
    let totals = changes.list.iter().find_map(|change| match change {
        Change::AlertTotals(totals) => Some(totals.clone()),
        _ => None,
    });
    (news, totals, changes)
}

#[test]
fn a_repeated_alert_counts_once() {
    let events = [
        raised(10, 0, "port_scan", Severity::High),
        raised(10, 1, "port_scan", Severity::Critical),
        raised(40, 0, "dns_tunnel", Severity::Medium),
    ];
    let mut projection = fold(&events, &[tick(60)]);
    let once = projection.alert_totals();
    assert_eq!(once.severities, SeverityCounts([0, 0, 1, 1, 1]));
    assert_eq!(once.categories[0].category, "port_scan");
    assert_eq!(once.categories[0].count, 2);
    // A chain publishes its tail again after a crash.
    for event in &events {
        projection.apply_event(9, event);
    }
    assert_eq!(projection.alert_totals(), once);
    // Both chains number their places alike.
    let other_chain = event(
        10,
        0,
        EventBody::AlertRaised(Box::new(alert("ping_loss", Severity::Low))),
    );
    let other_chain = Event {
        id: EventId("other".into()),
        ..other_chain
    };
    projection.apply_event(10, &other_chain);
    assert_eq!(
        projection.alert_totals().severities,
        SeverityCounts([0, 1, 1, 1, 1])
    );
}

#[test]
fn what_only_records_is_kept_and_colours_nothing() {
    let mut recorded = alert("noise", Severity::Critical);
    recorded.state = RuleState::Record;
    let mut attack = attacked(11, "noise-1", Severity::Critical, 10, None);
    if let EventBody::AttackBegan(attack) = &mut attack.body {
        attack.state = RuleState::Record;
    }
    let events = [
        of_packets(10, 0, EventBody::AlertRaised(Box::new(recorded))),
        attack,
    ];
    let projection = fold(&events, &[tick(20)]);
    let totals = projection.alert_totals();
    assert_eq!(
        (totals.recorded, totals.severities),
        (1, SeverityCounts::default())
    );
    assert_eq!(
        (totals.threat, totals.attacks_open),
        (Threat::NotMonitored, SeverityCounts::default())
    );
    assert!(
        totals
            .timeline
            .minutes
            .iter()
            .all(|minute| *minute == SeverityCounts::default())
    );
    let folded = projection.folded();
    assert_eq!((folded.alerts.len(), folded.attacks.len()), (1, 1));
}

#[test]
fn the_threat_and_the_timeline_fall_again() {
    let began = attacked(100, "a", Severity::High, 95, None);
    let mut projection = fold(
        &[began, raised(100, 0, "port_scan", Severity::High)],
        &[tick(119)],
    );
    projection.set_monitoring(Monitoring {
        monitored: true,
        packets_at: Some(at(119)),
    });
    let totals = projection.alert_totals();
    assert_eq!(totals.threat, Threat::Elevated);
    assert_eq!(totals.timeline.minutes.len(), 60);
    assert_eq!(totals.timeline.from, at(60 - 59 * 60));
    assert_eq!(totals.timeline.minutes[59], SeverityCounts([0, 0, 0, 1, 0]));
    let _ = projection.take_changes();
    // Nothing happens but time: the bar moves on, and viewers are told.
    projection.apply_observation(2, &tick(119));
    assert!(!projection.has_changes());
    projection.apply_observation(3, &tick(120));
    let (_, moved, _) = told(&mut projection);
    let moved = moved.expect("the minute passed");
    assert_eq!(moved.timeline.minutes[58], SeverityCounts([0, 0, 0, 1, 0]));
    assert_eq!(moved.timeline.minutes[59], SeverityCounts::default());
    projection.apply_event(5, &attacked(130, "a", Severity::High, 95, Some(130)));
    projection.apply_observation(4, &tick(60 + 3_600));
    let (_, fallen, _) = told(&mut projection);
    let fallen = fallen.expect("the attack ended");
    assert_eq!(
        (fallen.threat, fallen.attacks_open),
        (Threat::Normal, SeverityCounts::default())
    );
    let quiet = |minute: &SeverityCounts| *minute == SeverityCounts::default();
    assert!(fallen.timeline.minutes.iter().all(quiet), "an hour passed");
    // Newer packets are no news; that there are none any more is.
    let seen = |monitored, second| Monitoring {
        monitored,
        packets_at: Some(at(second)),
    };
    projection.set_monitoring(seen(true, 3_700));
    assert!(!projection.has_changes());
    projection.set_monitoring(seen(false, 3_700));
    let (_, blind, _) = told(&mut projection);
    let blind = blind.expect("nobody looks any more");
    assert_eq!(
        (blind.threat, blind.monitored, blind.packets_at),
        (Threat::NotMonitored, false, Some(at(3_700)))
    );
}

#[test]
fn an_attack_goes_on_with_its_alerts() {
    let mut alert = alert("port_scan", Severity::High);
    alert.attack = "a".into();
    alert.measured.observed = 40;
    let raised = |second, index| of_packets(second, index, EventBody::AlertRaised(Box::new(alert.clone())));
    // Its first alert comes before it in the same input, and is counted by it already.
    let (first, began) = (raised(100, 0), attacked(100, "a", Severity::High, 95, None));
    let mut projection = fold(
        &[first.clone(), began, raised(115, 0), first, raised(115, 0)],
        &[],
    );
    let attack = projection.attack("a").unwrap().attack;
    assert_eq!((attack.alerts, attack.last_at), (2, at(115)));
    assert_eq!((attack.peak.observed, attack.peak_at), (40, at(115)));
    projection.apply_event(6, &attacked(130, "a", Severity::High, 95, Some(130)));
    projection.apply_event(7, &raised(131, 0));
    assert_eq!(
        projection.attack("a").unwrap().attack.alerts,
        1,
        "as its end says"
    );
}

#[test]
fn an_attack_names_its_incident() {
    let mut projection = fold(&[attacked(100, "a", Severity::High, 95, None)], &[]);
    assert_eq!(projection.attack("a").unwrap().incident, None);
    let _ = projection.take_changes();
    let EventBody::AttackBegan(attack) = attacked(100, "a", Severity::High, 95, None).body else {
        unreachable!("made above")
    };
    let mut of_attack = incident("attack:port_scan:203.0.113.9", 95, None);
    of_attack.class = IncidentClass::Attack;
    of_attack.attack = Some(attack);
    projection.apply_event(2, &event(101, 0, EventBody::IncidentOpened(of_attack.clone())));
    let (_, _, changes) = told(&mut projection);
    let incident_told = changes.list.iter().find_map(|change| match change {
        Change::Attack(shown) => shown.incident.clone(),
        _ => None,
    });
    assert_eq!(incident_told, Some(of_attack.id));
}

#[test]
fn incidents_of_attacks_and_floods_survive_a_snapshot() {
    let EventBody::AttackBegan(attack) = attacked(100, "a", Severity::High, 95, None).body else {
        unreachable!("made above")
    };
    let mut of_attack = incident("attack:port_scan:203.0.113.9", 95, None);
    of_attack.class = IncidentClass::Attack;
    of_attack.attack = Some(attack);
    let mut of_flood = incident("attack:port_scan", 96, None);
    of_flood.class = IncidentClass::Attack;
    of_flood.flood = Some(Box::new(Flood {
        category: "port_scan".into(),
        title: "Port scan".into(),
        of: FloodOf::Sources,
        subjects: vec!["203.0.113.9".into()],
        subjects_total: 1,
        attacks_total: 1,
    }));
    let opened = |index, incident| event(101, index, EventBody::IncidentOpened(incident));
    let position = Position {
        log_id: "l".into(),
        sequence: 2,
        id: "s/c/1/2".into(),
    };
    let snapshot = Snapshot {
        site: "cafe".into(),
        events: position.clone(),
        observations: position,
        projection: fold(&[opened(0, of_attack), opened(1, of_flood)], &[]),
    };
    let again = decode(&encode(&snapshot).unwrap()).unwrap();
    let open = |projection: &Projection| -> Vec<_> {
        let open = projection.told.incidents.open();
        open.map(|entry| entry.incident.clone()).collect()
    };
    assert_eq!(open(&again.projection), open(&snapshot.projection));
    assert_eq!(open(&again.projection).len(), 2);
}

#[test]
fn memory_is_bounded_and_the_newest_stay() {
    let mut projection = Projection::default();
    let total = ALERTS_MAX as i64 + 5;
    for second in 0..total {
        let category = format!("category-{}", second % (CATEGORIES_COUNTED_MAX as i64 + 50));
        projection.apply_event(second as u64 + 1, &raised(second, 0, &category, Severity::Low));
    }
    assert_eq!(projection.alerts(None).count(), ALERTS_MAX);
    assert_eq!(
        projection.alerts(None).next().map(|entry| entry.at),
        Some(at(total - 1))
    );
    assert_eq!(
        projection.alert_totals().severities.of(Severity::Low),
        total as u64
    );
    let categories = projection.told.alerts.categories();
    assert_eq!(categories.len(), CATEGORIES_COUNTED_MAX + 1);
    assert_eq!(categories[0].category, OTHER);
    let counted: u64 = categories.iter().map(|category| category.count).sum();
    assert_eq!(counted, total as u64);
    let (news, _, _) = told(&mut projection);
    let news = news.unwrap();
    assert!(news.cut, "there were more than are told at once");
    assert_eq!(news.items.len(), ALERTS_TOLD_MAX);
    assert_eq!(news.items.last().map(|shown| shown.at), Some(at(total - 1)));
    for second in 0..ATTACKS_ENDED_MAX as i64 + 5 {
        let ended = attacked(
            second + 5,
            &format!("a{second}"),
            Severity::Low,
            second,
            Some(second + 5),
        );
        projection.apply_event(second as u64 + 1, &ended);
    }
    assert_eq!(projection.attacks(None).count(), ATTACKS_ENDED_MAX);
    assert!(projection.attack("a0").is_none() && projection.attack("a5").is_some());
    const { assert!(ATTACKS_ENDED_MAX > ATTACKS_TOLD_MAX) };
    assert!(
        projection.take_changes().restart,
        "a whole state is less than so many changes"
    );
}

#[test]
fn rules_in_force_are_known_from_their_activation_or_from_alerts() {
    let activation = RulesActivation {
        at: at(1),
        chain: Chain::Site,
        hash: "abc".into(),
        set: RuleSet {
            name: "default".into(),
            rules: Vec::new(),
        },
        surroundings: Surroundings::default(),
        software: "test".into(),
    };
    let came = observation(1, Body::Rules(Box::new(activation)));
    let projection = fold(&[raised(10, 0, "port_scan", Severity::High)], &[came]);
    let rules = projection.folded().rules;
    let known: Vec<_> = rules
        .iter()
        .map(|rules| {
            (
                rules.chain,
                &*rules.set,
                rules.active.as_ref().map(|active| &*active.hash),
            )
        })
        .collect();
    assert_eq!(
        known,
        [
            (Chain::Site, "default", Some("abc")),
            (Chain::Packets, "default", None)
        ]
    );
}
