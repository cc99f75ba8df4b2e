//! Why an incident, a session or a single event came about: derived once more, with the records that caused it and the settings that
//! it was measured by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use watchfold_schemas::event::{CAUSES_MAX, IncidentClass};
use watchfold_schemas::observation::{PC_SUBJECT_PREFIX, PingRow};
use watchfold_schemas::origin::Cause;
use watchfold_schemas::{Body, CodecError, Event, EventBody, SiteConfig, Stream, Time, decode_observation};

use crate::ReplayError;
use crate::engine::{Engine, Under};
use crate::input::{Input, Selection, Step};

/// The most events of one incident or session that are explained; a reminder each hour for a year is more than most have.
const EVENTS_MAX: usize = 10_000;

/// The most records shown; an event names at most [`CAUSES_MAX`] of its causes.
const RECORDS_MAX: usize = 64 * CAUSES_MAX;

/// What there is to say about an id.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    pub id: String,
    pub site: String,
    /// A target's name, `pc:<key>` or `collector:<name>`, where it is about one.
    pub subject: Option<String>,
    /// What happened, in order.
    pub steps: Vec<ExplainedEvent>,
    /// The records that caused it, in the order of the log.
    pub records: Vec<ExplainedRecord>,
    /// Causes that are not shown: beyond a limit, or before the span.
    pub records_left_out: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExplainedEvent {
    pub at: Time,
    pub kind: &'static str,
    /// The record or timer that made it.
    pub cause: Cause,
    /// What it was measured by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    pub event: Event,
}

/// A setting that decided, as it was in force at that moment, and what was compared with it. Settings are named as they are written
/// in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Condition {
    Length {
        setting: &'static str,
        limit_ms: u64,
        found_ms: u64,
    },
    /// More than so many within a time.
    Count {
        setting: &'static str,
        limit: u32,
        found: u32,
        within_ms: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExplainedRecord {
    pub sequence: u64,
    pub stored_at: Time,
    pub observed_at: Time,
    /// The message id: site, collector, incarnation, number.
    pub id: String,
    pub kind: &'static str,
    /// The results of a ping round for this subject.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<PingRow>,
    /// What other records say.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub body: Value,
}

/// Explains the incident, session or event with this id. Reads the input twice: for what happened, and for its causes; each time only
/// up to the end of it.
pub fn explain(path: &Path, selection: &Selection, id: &str) -> Result<Explanation, ReplayError> {
    explain_unless(path, selection, id, &|| false)
}

/// As [`explain`], but gives up soon after `is_cancelled` says so.
pub fn explain_unless(
    path: &Path,
    selection: &Selection,
    id: &str,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Explanation, ReplayError> {
    let steps = derive(path, selection, id, is_cancelled)?;
    let Some(first) = steps.first() else {
        return Err(ReplayError::NotDerived { id: id.to_owned() });
    };
    let mut wanted = BTreeSet::new();
    let mut causes = 0;
    for step in &steps {
        wanted.extend(step.event.causes.messages.iter().map(|message| message.0.clone()));
        causes += step
            .event
            .causes
            .total
            .saturating_sub(step.event.causes.messages.len() as u64);
        if let Cause::Message(message) = &step.cause {
            wanted.insert(message.0.clone());
        }
    }
    let site = first.event.site.clone();
    let subject = steps.iter().find_map(|step| subject(&step.event.body));
    let looked_for = LookedFor {
        site: &site,
        subject: subject.as_deref(),
        // What came of a record stands after it.
        until: steps.iter().map(|step| step.event.place.input).max().unwrap_or(0),
        ids: &wanted,
    };
    let records = find_records(path, selection, &looked_for, is_cancelled)?;
    let records_left_out = causes + (wanted.len() - records.len()) as u64;
    Ok(Explanation {
        id: id.to_owned(),
        site,
        subject,
        steps,
        records,
        records_left_out,
    })
}

fn derive(
    path: &Path,
    selection: &Selection,
    id: &str,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Vec<ExplainedEvent>, ReplayError> {
    let mut input = Input::open(path, selection)?;
    let mut engine = Engine::new(Under::Recorded);
    if let Some(header) = input.header() {
        engine = engine.with_header(header);
    }
    let mut steps = Vec::new();
    let mut is_over = false;
    while !is_over && let Some(step) = input.next_step()? {
        if is_cancelled() {
            return Err(ReplayError::Cancelled);
        }
        for event in engine.take(&step) {
            if steps.len() < EVENTS_MAX && is_about(&event, id) {
                is_over |= is_last(&event, id);
                let config = engine.config(&event.site);
                steps.push(ExplainedEvent {
                    at: event.at,
                    kind: event.body.kind(),
                    cause: event.cause.clone(),
                    condition: config.and_then(|config| condition(&event, config)),
                    event,
                });
            }
        }
    }
    Ok(steps)
}

fn is_about(event: &Event, id: &str) -> bool {
    event.id.0 == id
        || match &event.body {
            EventBody::IncidentOpened(incident)
            | EventBody::IncidentEscalated(incident)
            | EventBody::IncidentReminded(incident)
            | EventBody::IncidentAcknowledged(incident)
            | EventBody::IncidentClosed(incident) => incident.id == id,
            EventBody::SessionStarted(session) | EventBody::SessionEnded(session) => session.id == id,
            EventBody::SubjectChanged(_)
            | EventBody::SubjectDegraded(_)
            | EventBody::JitterRecorded(_)
            | EventBody::OccupancySnapshot(_)
            | EventBody::TargetRollup(_)
            | EventBody::NotificationRequested(_)
            | EventBody::SilenceChanged(_)
            | EventBody::Digest(_)
            | EventBody::AlertRaised(_)
            | EventBody::AttackBegan(_)
            | EventBody::AttackGrew(_)
            | EventBody::AttackEnded(_)
            | EventBody::LookupWanted(_) => false,
        }
}

/// Nothing follows about this id.
fn is_last(event: &Event, id: &str) -> bool {
    event.id.0 == id
        || matches!(
            event.body,
            EventBody::IncidentClosed(_) | EventBody::SessionEnded(_)
        )
}

fn subject(body: &EventBody) -> Option<String> {
    match body {
        EventBody::IncidentOpened(incident)
        | EventBody::IncidentEscalated(incident)
        | EventBody::IncidentReminded(incident)
        | EventBody::IncidentAcknowledged(incident)
        | EventBody::IncidentClosed(incident) => Some(incident.subject.clone()),
        EventBody::SessionStarted(session) | EventBody::SessionEnded(session) => {
            Some(format!("{PC_SUBJECT_PREFIX}{}", session.pc))
        }
        EventBody::SubjectChanged(changed) => Some(changed.subject.clone()),
        EventBody::SubjectDegraded(degraded) => Some(degraded.subject.clone()),
        EventBody::JitterRecorded(jitter) => Some(jitter.subject.clone()),
        EventBody::TargetRollup(rollup) => Some(rollup.subject.clone()),
        EventBody::OccupancySnapshot(_)
        | EventBody::NotificationRequested(_)
        | EventBody::SilenceChanged(_)
        | EventBody::Digest(_)
        | EventBody::AlertRaised(_)
        | EventBody::AttackBegan(_)
        | EventBody::AttackGrew(_)
        | EventBody::AttackEnded(_)
        | EventBody::LookupWanted(_) => None,
    }
}

/// The setting that decided, where it is one.
fn condition(event: &Event, config: &SiteConfig) -> Option<Condition> {
    let passed = |setting, limit_ms, from: Time, to: Time| Condition::Length {
        setting,
        limit_ms,
        found_ms: u64::try_from(to.since(from).as_millis()).unwrap_or(0),
    };
    let network = &config.network;
    match &event.body {
        EventBody::IncidentOpened(incident) => {
            let (setting, limit_ms) = match incident.class {
                IncidentClass::Outage => ("network.min_incident", network.min_incident_ms),
                IncidentClass::CollectorSilent => ("network.silence", network.silence_ms),
                // Records of the log itself were gone; no time had to pass.
                IncidentClass::MeasurementFault if incident.subject.starts_with("chain:") => return None,
                IncidentClass::MeasurementFault => ("network.fault_incident", network.fault_incident_ms),
                IncidentClass::Flapping => {
                    return Some(Condition::Count {
                        setting: "network.flapping_count",
                        limit: network.flapping_count,
                        // It opens with the first one beyond the limit.
                        found: network.flapping_count.saturating_add(1),
                        within_ms: network.flapping_window_ms,
                    });
                }
                // A comparison decided.
                IncidentClass::Parity => return None,
                // A rule decided; its alert says by which figures.
                IncidentClass::Attack => return None,
            };
            Some(passed(setting, limit_ms, incident.started_at, incident.opened_at))
        }
        EventBody::JitterRecorded(jitter) => Some(Condition::Length {
            setting: "network.min_incident",
            limit_ms: network.min_incident_ms,
            found_ms: jitter.duration_ms,
        }),
        EventBody::IncidentEscalated(incident) => Some(passed(
            "network.escalate_after",
            network.escalate_after_ms,
            incident.opened_at,
            event.at,
        )),
        EventBody::SessionStarted(session) => Some(passed(
            "occupancy.min_session",
            config.occupancy.min_session_ms,
            session.started_at,
            event.at,
        )),
        EventBody::SessionEnded(session) => {
            let limit_ms = config.occupancy.min_session_ms;
            let condition = passed("occupancy.min_session", limit_ms, session.ended_at?, event.at);
            // One of a PC that is no longer configured ends at once.
            let held =
                matches!(condition, Condition::Length { found_ms, limit_ms, .. } if found_ms >= limit_ms);
            held.then_some(condition)
        }
        _ => None,
    }
}

/// The causes whose records are shown.
struct LookedFor<'a> {
    site: &'a str,
    subject: Option<&'a str>,
    ids: &'a BTreeSet<String>,
    /// The last sequence that one may stand at.
    until: u64,
}

fn find_records(
    path: &Path,
    selection: &Selection,
    looked_for: &LookedFor<'_>,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Vec<ExplainedRecord>, ReplayError> {
    // Causes may lie before the span: what was derived in it may have begun earlier.
    let selection = Selection {
        site: Some(looked_for.site.to_owned()),
        with_events: false,
        ..selection.clone()
    };
    let mut input = Input::open(path, &selection)?;
    let mut found = BTreeMap::new();
    while found.len() < looked_for.ids.len().min(RECORDS_MAX)
        && let Some(step) = input.next_step()?
    {
        if is_cancelled() {
            return Err(ReplayError::Cancelled);
        }
        let Step::Record {
            stream: Stream::Observations,
            record,
            ..
        } = step
        else {
            continue;
        };
        if record.sequence > looked_for.until {
            break;
        }
        if looked_for.ids.contains(&record.id) {
            let Ok(observation) = decode_observation(&record.payload) else {
                continue;
            };
            let kind = observation.body.kind();
            let (rows, body) = match &observation.body {
                Body::PingRound(round) => (rows_of(round, looked_for.subject), Value::Null),
                body => (Vec::new(), json(body)?),
            };
            let (stored_at, observed_at, id) = (record.stored_at, observation.observed_at, record.id);
            let sequence = record.sequence;
            found.insert(
                sequence,
                ExplainedRecord {
                    sequence,
                    stored_at,
                    observed_at,
                    id,
                    kind,
                    rows,
                    body,
                },
            );
        }
    }
    Ok(found.into_values().collect())
}

fn rows_of(round: &watchfold_schemas::observation::PingRound, subject: Option<&str>) -> Vec<PingRow> {
    let rows = round.rows().unwrap_or_default();
    let rows = rows
        .into_iter()
        .filter(|row| subject.is_none_or(|subject| row.subject == subject));
    rows.map(|row| row.to_row()).collect()
}

fn json<T: Serialize>(value: &T) -> Result<Value, ReplayError> {
    serde_json::to_value(value)
        .map_err(|error| CodecError::Encode(rmp_serde::encode::Error::Syntax(error.to_string())).into())
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}  {}  {}",
            self.id,
            self.site,
            self.subject.as_deref().unwrap_or("")
        )?;
        for step in &self.steps {
            write!(f, "\n{}  {}", step.at, step.kind.replace('_', " "))?;
            match &step.condition {
                None => {}
                Some(Condition::Length {
                    setting,
                    limit_ms,
                    found_ms,
                }) => write!(f, "  after {found_ms} ms; {setting} is {limit_ms} ms")?,
                Some(Condition::Count {
                    setting,
                    limit,
                    found,
                    within_ms,
                }) => write!(f, "  {found} within {within_ms} ms; {setting} is {limit}")?,
            }
            match &step.cause {
                Cause::Message(message) => write!(f, "\n    by the record {message}")?,
                Cause::Timer { timer, .. } => write!(f, "\n    by the timer {timer}")?,
                Cause::Packet {
                    collector, packet, ..
                } => write!(f, "\n    by the packet {packet} of {collector}")?,
            }
        }
        writeln!(f, "\n\ncaused by")?;
        for record in &self.records {
            writeln!(
                f,
                "{:>8}  {}  {}  {}",
                record.sequence, record.observed_at, record.id, record.kind
            )?;
            for row in &record.rows {
                write!(
                    f,
                    "          {}  {}  {}  {:?}",
                    row.at,
                    row.address,
                    row.signal.name(),
                    row.outcome
                )?;
                if let Some(rtt_us) = row.rtt_us {
                    write!(f, "  {rtt_us} us")?;
                }
                writeln!(f, "  {}", row.detail.as_deref().unwrap_or(""))?;
            }
            if !record.body.is_null() {
                writeln!(f, "          {}", record.body)?;
            }
        }
        if self.records_left_out > 0 {
            writeln!(f, "{} further records are not shown", self.records_left_out)?;
        }
        Ok(())
    }
}
