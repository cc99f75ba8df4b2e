//! What became of a span: its incidents, sessions and jitters, each as it stood last.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use watchfold_schemas::{CodecError, Event, EventBody, Time};

use crate::ReplayError;

/// The most incidents, sessions and jitters of one side: about a GiB of memory, and years of a large site.
pub const OUTCOMES_MAX: usize = 1_000_000;

/// What an outcome is known by, whatever rules derived it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) started_at: Time,
    pub(crate) site: String,
    /// `incident`, `session` or `jitter`.
    pub(crate) kind: &'static str,
    /// An incident's class; empty otherwise.
    pub(crate) class: &'static str,
    pub(crate) subject: String,
}

/// One side of a comparison. Events are added in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes {
    pub(crate) by_key: BTreeMap<Key, Map<String, Value>>,
}

impl Outcomes {
    pub fn add(&mut self, event: &Event) -> Result<(), ReplayError> {
        let Some((kind, class, subject, started_at, fields)) = outcome(event)? else {
            return Ok(());
        };
        let key = Key {
            started_at,
            site: event.site.clone(),
            kind,
            class,
            subject: subject.to_owned(),
        };
        self.by_key.insert(key, fields);
        if self.by_key.len() > OUTCOMES_MAX {
            return Err(ReplayError::TooManyOutcomes { limit: OUTCOMES_MAX });
        }
        Ok(())
    }
}

type Outcome<'e> = (&'static str, &'static str, &'e str, Time, Map<String, Value>);

fn outcome(event: &Event) -> Result<Option<Outcome<'_>>, ReplayError> {
    Ok(match &event.body {
        EventBody::IncidentOpened(incident)
        | EventBody::IncidentEscalated(incident)
        | EventBody::IncidentReminded(incident)
        | EventBody::IncidentAcknowledged(incident)
        | EventBody::IncidentClosed(incident) => {
            let fields = fields(incident)?;
            Some((
                "incident",
                incident.class.name(),
                &incident.subject,
                incident.started_at,
                fields,
            ))
        }
        EventBody::SessionStarted(session) | EventBody::SessionEnded(session) => {
            Some(("session", "", &session.pc, session.started_at, fields(session)?))
        }
        EventBody::JitterRecorded(jitter) => {
            Some(("jitter", "", &jitter.subject, jitter.since, fields(jitter)?))
        }
        EventBody::SubjectChanged(_)
        | EventBody::SubjectDegraded(_)
        | EventBody::OccupancySnapshot(_)
        | EventBody::TargetRollup(_)
        | EventBody::NotificationRequested(_)
        | EventBody::SilenceChanged(_)
        | EventBody::Digest(_)
        | EventBody::AlertRaised(_)
        | EventBody::AttackBegan(_)
        | EventBody::AttackGrew(_)
        | EventBody::AttackEnded(_)
        | EventBody::LookupWanted(_) => None,
    })
}

/// What an outcome is known by does not differ, so it is left out.
fn fields<T: serde::Serialize>(outcome: &T) -> Result<Map<String, Value>, ReplayError> {
    let value = serde_json::to_value(outcome)
        .map_err(|error| CodecError::Encode(rmp_serde::encode::Error::Syntax(error.to_string())))?;
    let Value::Object(mut fields) = value else {
        return Ok(Map::new());
    };
    for known in ["id", "class", "subject", "pc", "started_at", "since"] {
        fields.remove(known);
    }
    Ok(fields)
}
