//! What became of a span: its incidents, sessions, jitters, attacks and alerts, each as it stood last.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use watchfold_schemas::alert::{Alert, Attack, Measured};
use watchfold_schemas::event::{Incident, IncidentClass};
use watchfold_schemas::{CodecError, Event, EventBody, Time};

use crate::{ReplayError, StillOpen};

/// The most outcomes of one side: about a GiB of memory, and years of a large site.
pub const OUTCOMES_MAX: usize = 1_000_000;

/// What an outcome is known by, whatever rules derived it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) started_at: Time,
    pub(crate) site: String,
    /// `incident`, `session`, `jitter`, `attack` or `alert`.
    pub(crate) kind: &'static str,
    /// An incident's class, an attack's or alert's category; empty otherwise.
    pub(crate) class: String,
    pub(crate) subject: String,
    /// Who captured it, for attacks and alerts; empty otherwise.
    pub(crate) collector: String,
}

/// How an outcome stood last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fate {
    pub(crate) fields: Map<String, Value>,
    /// The last moment that an attack is about.
    pub(crate) until: Time,
    /// Of an incident that is an attack: the attack, which is an outcome of its own where its packets are there.
    pub(crate) attack: Option<String>,
}

/// One side of a comparison. Events are added in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes {
    pub(crate) by_key: BTreeMap<Key, Fate>,
    /// The ids of the attacks among them.
    pub(crate) attacks: BTreeSet<String>,
}

impl Outcomes {
    pub fn add(&mut self, event: &Event) -> Result<(), ReplayError> {
        let Some((key, fate)) = outcome(event)? else {
            return Ok(());
        };
        if let EventBody::AttackBegan(attack) = &event.body {
            self.attacks.insert(attack.id.clone());
        }
        self.by_key.insert(key, fate);
        if self.by_key.len() > OUTCOMES_MAX {
            return Err(ReplayError::TooManyOutcomes { limit: OUTCOMES_MAX });
        }
        Ok(())
    }

    /// Brings attacks that had not ended to how they stood at the end. For sides that were derived alike; what was recorded says no more than
    /// its events. Those of which nothing was told stay untold.
    pub fn add_still_open(&mut self, open: &[StillOpen]) {
        for one in open {
            let (key, fate) = of_attack(&one.site, &one.attack);
            if let Some(known) = self.by_key.get_mut(&key) {
                *known = fate;
            }
        }
    }
}

fn outcome(event: &Event) -> Result<Option<(Key, Fate)>, ReplayError> {
    let of = |kind, subject: &str, started_at, fields| bare(&event.site, kind, subject, started_at, fields);
    Ok(Some(match &event.body {
        EventBody::IncidentOpened(incident)
        | EventBody::IncidentEscalated(incident)
        | EventBody::IncidentReminded(incident)
        | EventBody::IncidentAcknowledged(incident)
        | EventBody::IncidentClosed(incident) => {
            let (key, fate) = of(
                "incident",
                &incident.subject,
                incident.started_at,
                fields(incident)?,
            );
            of_incident(incident, key, fate)
        }
        EventBody::SessionStarted(session) | EventBody::SessionEnded(session) => {
            of("session", &session.pc, session.started_at, fields(session)?)
        }
        EventBody::JitterRecorded(jitter) => of("jitter", &jitter.subject, jitter.since, fields(jitter)?),
        EventBody::AttackBegan(attack) | EventBody::AttackGrew(attack) | EventBody::AttackEnded(attack) => {
            of_attack(&event.site, attack)
        }
        EventBody::AlertRaised(alert) => {
            let (mut key, fate) = of("alert", &alert.subject, event.at, alert_fields(alert));
            key.class.clone_from(&alert.category);
            key.collector.clone_from(&alert.seen_by.collector);
            (key, fate)
        }
        EventBody::SubjectChanged(_)
        | EventBody::SubjectDegraded(_)
        | EventBody::OccupancySnapshot(_)
        | EventBody::TargetRollup(_)
        | EventBody::NotificationRequested(_)
        | EventBody::SilenceChanged(_)
        | EventBody::Digest(_)
        | EventBody::LookupWanted(_) => return Ok(None),
    }))
}

fn bare(
    site: &str,
    kind: &'static str,
    subject: &str,
    started_at: Time,
    fields: Map<String, Value>,
) -> (Key, Fate) {
    let key = Key {
        started_at,
        site: site.to_owned(),
        kind,
        class: String::new(),
        subject: subject.to_owned(),
        collector: String::new(),
    };
    let fate = Fate {
        fields,
        until: started_at,
        attack: None,
    };
    (key, fate)
}

fn of_incident(incident: &Incident, mut key: Key, mut fate: Fate) -> (Key, Fate) {
    key.class = incident.class.name().to_owned();
    if incident.class == IncidentClass::Attack {
        fate.attack = incident.attack.as_ref().map(|attack| attack.id.clone());
    }
    (key, fate)
}

fn of_attack(site: &str, attack: &Attack) -> (Key, Fate) {
    let (mut key, mut fate) = bare(
        site,
        "attack",
        &attack.subject,
        attack.began_at,
        attack_fields(attack),
    );
    key.class.clone_from(&attack.category);
    key.collector.clone_from(&attack.seen_by.collector);
    fate.until = attack.last_at;
    (key, fate)
}

/// Of an attack, what people would call another one: not the name of the set that the rule came with, nor its words.
fn attack_fields(attack: &Attack) -> Map<String, Value> {
    let mut fields = rule_fields(&attack.rule, &attack.peak);
    fields.extend(object(json!({
        "severity": attack.severity,
        "state": attack.state,
        "last_at": attack.last_at,
        "ended_at": attack.ended_at,
        "alerts": attack.alerts,
        "matches": attack.matches,
        "victims": attack.victims_total,
        "reputation": attack.reputation.as_ref().filter(|reputation| reputation.known).map(|reputation| reputation.tier),
    })));
    fields
}

fn alert_fields(alert: &Alert) -> Map<String, Value> {
    let mut fields = rule_fields(&alert.rule, &alert.measured);
    fields.extend(object(json!({
        "severity": alert.severity,
        "state": alert.state,
        "source": alert.source.ip,
        "destination": alert.destination.ip,
        "community_id": alert.community_id,
        "reputation": alert.reputation.as_ref().filter(|reputation| reputation.known).map(|reputation| reputation.tier),
    })));
    fields
}

fn rule_fields(rule: &watchfold_schemas::alert::RuleRef, measured: &Measured) -> Map<String, Value> {
    object(json!({
        "rule": rule.name,
        "rule_version": rule.version,
        "observed": measured.observed,
        "threshold": measured.threshold,
        "window_ms": measured.window_ms,
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// What an outcome is known by does not differ, so it is left out.
fn fields<T: serde::Serialize>(outcome: &T) -> Result<Map<String, Value>, ReplayError> {
    let value = serde_json::to_value(outcome)
        .map_err(|error| CodecError::Encode(rmp_serde::encode::Error::Syntax(error.to_string())))?;
    let mut fields = object(value);
    for known in ["id", "class", "subject", "pc", "started_at", "since"] {
        fields.remove(known);
    }
    Ok(fields)
}
