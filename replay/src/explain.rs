//! Why an incident, a session, an attack or a single event came about: derived once more, with the records and packets that caused it, and
//! the settings or the rule that it was measured by.

mod packets;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use watchfold_folds::RuleRows;
use watchfold_schemas::alert::{Measured, Verdict};
use watchfold_schemas::event::{CAUSES_MAX, IncidentClass};
use watchfold_schemas::observation::{PC_SUBJECT_PREFIX, PingRow};
use watchfold_schemas::origin::Cause;
use watchfold_schemas::{
    Body, Chain, CodecError, Event, EventBody, Observation, SiteConfig, Stream, Time, decode_observation,
};

use crate::ReplayError;
use crate::engine::Engine;
use crate::input::{Input, Selection, Step};
use crate::under::Under;

pub use packets::{ExplainedPacket, ExplainedPackets, ExplainedRule, PACKETS_MAX};

/// The most events of one incident or session that are explained; a reminder each hour for a year is more than most have.
const EVENTS_MAX: usize = 10_000;

/// The most records shown; an event names at most [`CAUSES_MAX`] of its causes.
const RECORDS_MAX: usize = 64 * CAUSES_MAX;

/// What there is to say about an id.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
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
    /// Of an alert, an attack, or the incident that one is: what decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<ExplainedRule>,
    /// The packets that counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<ExplainedPackets>,
    /// What oracles had said of what the rule asks about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<Verdict>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct ExplainedEvent {
    pub at: Time,
    pub kind: &'static str,
    /// The record or timer that made it.
    pub cause: Cause,
    /// What it was measured by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    #[cfg_attr(feature = "json-schema", schemars(with = "serde_json::Map<String, Value>"))]
    pub event: Event,
}

/// A setting that decided, as it was in force at that moment, and what was compared with it. Settings are named as they are written
/// in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Condition {
    Length {
        setting: &'static str,
        limit_ms: u64,
        found_ms: u64,
    },
    /// What a rule measured; 0 ms where it has no window.
    Rule {
        rule: String,
        observed: u64,
        threshold: u64,
        /// Before an oracle's word scaled it.
        base_threshold: u64,
        window_ms: u64,
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
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
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

/// Explains the incident, session, attack or event with this id. Reads the input twice: for what happened, and for its causes; each time
/// only up to the end of it. A log is judged as it was recorded, `under` is for capture files.
pub fn explain(
    path: &Path,
    selection: &Selection,
    under: &Under,
    id: &str,
) -> Result<Explanation, ReplayError> {
    explain_unless(path, selection, under, id, &|| false)
}

/// As [`explain`], but gives up soon after `is_cancelled` says so.
pub fn explain_unless(
    path: &Path,
    selection: &Selection,
    under: &Under,
    id: &str,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Explanation, ReplayError> {
    // Records are looked for once more, which a pipe does not allow.
    let is_stream = path.exists() && !path.is_file() && !path.is_dir();
    if is_stream || path == Path::new("-") {
        return Err(ReplayError::ReadOnce {
            path: path.to_owned(),
        });
    }
    let Derived { steps, rule, rows } = derive(path, selection, under, id, is_cancelled)?;
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
    // What came of a record stands after it.
    let until = |chain| {
        let of_chain = steps.iter().filter(|step| step.event.chain == chain);
        of_chain.map(|step| step.event.place.input).max()
    };
    let mut counted = packets::Counted::of(steps.iter().map(|step| &step.event), rows);
    let looked_for = LookedFor {
        site: &site,
        subject: subject.as_deref(),
        until: [until(Chain::Site), until(Chain::Packets)],
        ids: &wanted,
    };
    let records = find_records(path, selection, &looked_for, counted.as_mut(), is_cancelled)?;
    let records_left_out = causes + (wanted.len() - records.len()) as u64;
    let (packets, verdicts) = counted.map(packets::Counted::finish).unzip();
    Ok(Explanation {
        id: id.to_owned(),
        site,
        subject,
        steps,
        records,
        records_left_out,
        rule,
        packets,
        verdicts: verdicts.unwrap_or_default(),
    })
}

/// What happened, and the rule that decided where one did.
struct Derived {
    steps: Vec<ExplainedEvent>,
    rule: Option<ExplainedRule>,
    /// What that rule says about packets, where it looks at these alone.
    rows: Option<RuleRows>,
}

fn derive(
    path: &Path,
    selection: &Selection,
    under: &Under,
    id: &str,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Derived, ReplayError> {
    let mut input = Input::open(path, selection)?;
    let mut engine = match input.is_of_captures() {
        true => Engine::new(under.clone()),
        false => Engine::new(Under::recorded()),
    };
    if let Some(header) = input.header() {
        engine = engine.with_header(header);
    }
    let mut derived = Derived {
        steps: Vec::new(),
        rule: None,
        rows: None,
    };
    let mut is_over = false;
    while !is_over && let Some(step) = input.next_step()? {
        if is_cancelled() {
            return Err(ReplayError::Cancelled);
        }
        for event in engine.take(&step) {
            if derived.steps.len() < EVENTS_MAX && is_about(&event, id) {
                is_over |= is_last(&event, id);
                derived.note(event, &engine);
            }
        }
    }
    Ok(derived)
}

impl Derived {
    fn note(&mut self, event: Event, engine: &Engine) {
        let activation = engine.rules(&event.site, event.chain);
        // An incident's attack may have been found in packets.
        let activation = activation.or_else(|| engine.rules(&event.site, Chain::Packets));
        if let Some(rule) = packets::rule_of(&event, activation) {
            self.rows = activation.and_then(|activation| RuleRows::of(&rule.rule.name, activation));
            self.rule = Some(rule);
        }
        let config = engine.config(&event.site);
        let measured = packets::measured(&event.body);
        let by_rule = measured.map(|(rule, measured)| condition_of(rule, measured));
        self.steps.push(ExplainedEvent {
            at: event.at,
            kind: event.body.kind(),
            cause: event.cause.clone(),
            condition: by_rule.or_else(|| config.and_then(|config| condition(&event, config))),
            event,
        });
    }
}

fn condition_of(rule: &str, measured: &Measured) -> Condition {
    Condition::Rule {
        rule: rule.to_owned(),
        observed: measured.observed,
        threshold: measured.threshold,
        base_threshold: measured.base_threshold,
        window_ms: measured.window_ms,
    }
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
            EventBody::AlertRaised(alert) => alert.attack == id,
            EventBody::AttackBegan(attack)
            | EventBody::AttackGrew(attack)
            | EventBody::AttackEnded(attack) => attack.id == id,
            EventBody::SubjectChanged(_)
            | EventBody::SubjectDegraded(_)
            | EventBody::JitterRecorded(_)
            | EventBody::OccupancySnapshot(_)
            | EventBody::TargetRollup(_)
            | EventBody::NotificationRequested(_)
            | EventBody::SilenceChanged(_)
            | EventBody::Digest(_)
            | EventBody::LookupWanted(_) => false,
        }
}

/// Nothing follows about this id.
fn is_last(event: &Event, id: &str) -> bool {
    event.id.0 == id
        || matches!(
            event.body,
            EventBody::IncidentClosed(_) | EventBody::SessionEnded(_) | EventBody::AttackEnded(_)
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
        EventBody::AlertRaised(alert) => Some(alert.subject.clone()),
        EventBody::AttackBegan(attack) | EventBody::AttackGrew(attack) | EventBody::AttackEnded(attack) => {
            Some(attack.subject.clone())
        }
        EventBody::LookupWanted(wanted) => Some(wanted.subject.clone()),
        EventBody::OccupancySnapshot(_)
        | EventBody::NotificationRequested(_)
        | EventBody::SilenceChanged(_)
        | EventBody::Digest(_) => None,
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
                IncidentClass::MeasurementFault | IncidentClass::DeliveryFault => {
                    ("network.fault_incident", network.fault_incident_ms)
                }
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
    /// The last sequence that one may stand at, of observations and of packets.
    until: [Option<u64>; 2],
}

impl LookedFor<'_> {
    fn until(&self, stream: Stream) -> Option<u64> {
        let [of_observations, of_packets] = self.until;
        match stream {
            Stream::Observations => of_observations,
            Stream::Packets => of_packets,
            Stream::Events | Stream::Commands | Stream::Snapshots => None,
        }
    }
}

fn find_records(
    path: &Path,
    selection: &Selection,
    looked_for: &LookedFor<'_>,
    mut counted: Option<&mut packets::Counted>,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Vec<ExplainedRecord>, ReplayError> {
    // Causes may lie before the span: what was derived in it may have begun earlier.
    let selection = Selection {
        site: Some(looked_for.site.to_owned()),
        with_events: false,
        without_packets: counted.is_none() && looked_for.until(Stream::Packets).is_none(),
        ..selection.clone()
    };
    let mut input = Input::open(path, &selection)?;
    let mut found = BTreeMap::new();
    let is_enough = |found: &BTreeMap<_, _>, counted: &Option<&mut packets::Counted>| {
        found.len() >= looked_for.ids.len().min(RECORDS_MAX)
            && counted.as_ref().is_none_or(|counted| counted.is_complete())
    };
    // Of observations and of packets: nothing more of it is looked for.
    let mut is_past = looked_for.until.map(|until| until.is_none());
    while !is_enough(&found, &counted)
        && let Some(step) = input.next_step()?
    {
        if is_cancelled() {
            return Err(ReplayError::Cancelled);
        }
        let (stream, record) = match step {
            Step::Captured {
                observation,
                sequence,
                ..
            } => {
                if let Some(counted) = &mut counted {
                    counted.take(&observation);
                }
                let id = observation.message_id().0;
                if looked_for.ids.contains(&id) {
                    found.insert((Stream::Packets, sequence), of_batch(sequence, id, &observation));
                }
                continue;
            }
            Step::Record {
                stream: stream @ (Stream::Observations | Stream::Packets),
                record,
                ..
            } => (stream, record),
            _ => continue,
        };
        let is_later = looked_for
            .until(stream)
            .is_none_or(|until| record.sequence > until);
        let is_cause = !is_later && looked_for.ids.contains(&record.id);
        let may_count = stream == Stream::Packets && counted.is_some();
        if is_later {
            is_past[usize::from(stream == Stream::Packets)] = true;
        }
        if is_past == [true, true] && counted.as_ref().is_none_or(|counted| counted.is_complete()) {
            break;
        }
        if !is_cause && !may_count {
            continue;
        }
        let Ok(observation) = decode_observation(&record.payload) else {
            continue;
        };
        if let Some(counted) = counted.as_mut().filter(|_| may_count) {
            counted.take(&observation);
        }
        if is_cause {
            let kind = observation.body.kind();
            let (rows, body) = match &observation.body {
                Body::PingRound(round) => (rows_of(round, looked_for.subject), Value::Null),
                Body::Batch(batch) => (Vec::new(), packets::summary(batch)),
                body => (Vec::new(), json(body)?),
            };
            let one = ExplainedRecord {
                sequence: record.sequence,
                stored_at: record.stored_at,
                observed_at: observation.observed_at,
                id: record.id,
                kind,
                rows,
                body,
            };
            found.insert((stream, record.sequence), one);
        }
    }
    Ok(found.into_values().collect())
}

/// Packets of a capture file stand in no log; their time is their own.
fn of_batch(sequence: u64, id: String, observation: &Observation) -> ExplainedRecord {
    ExplainedRecord {
        sequence,
        stored_at: observation.through,
        observed_at: observation.observed_at,
        id,
        kind: observation.body.kind(),
        rows: Vec::new(),
        body: match &observation.body {
            Body::Batch(batch) => packets::summary(batch),
            _ => Value::Null,
        },
    }
}

fn rows_of(round: &watchfold_schemas::observation::PingRound, subject: Option<&str>) -> Vec<PingRow> {
    let rows = round.rows().unwrap_or_default();
    let rows = rows
        .into_iter()
        .filter(|row| subject.is_none_or(|subject| row.subject == subject));
    rows.map(|row| PingRow {
        detail: row.in_words(),
        ..row.to_row()
    })
    .collect()
}

fn json<T: Serialize>(value: &T) -> Result<Value, ReplayError> {
    serde_json::to_value(value)
        .map_err(|error| CodecError::Encode(rmp_serde::encode::Error::Syntax(error.to_string())).into())
}
