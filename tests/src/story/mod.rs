//! Stories: what happens at a site, in a few lines, and the observations that its collectors would make of it.
//!
//! ```text
//! target router                      # a target with one address
//! target internet 8.8.8.8 1.1.1.1 after router
//! pcs 20                             # 192.168.1.110 and following
//! set interval 2                     # seconds; also min_incident, min_session, remind_every …
//! run 0..60                          # the span to tell
//! down internet 0..60                # it does not answer; an address or `pc:PC-3` likewise
//! wrong internet 0..60               # it answers with something else than is expected
//! rules rules.yml                    # a file beside the story: rules for the site's own rows
//! attack port_scan 10.0.0.9 10..40 critical 20    # the packet chain finds an attack, which grows to that
//! attacks port_scan 60 10..60        # it finds 60 of different sources, a tenth of a second apart
//! ```
//!
//! What a story expects stands in it too: `expect incident internet 0..60`, `expect jitter router 1..10.9`,
//! `expect session PC-1 0..180`, `expect alert ping_loss internet at 44`, `expect notice incident_opened`; together they must name all of their kind.

mod attacks;
mod observe;
mod parse;

pub use observe::observations;
pub use parse::{Expectation, Story, parse};

use watchfold_folds::{SiteChain, StateMachine};
use watchfold_schemas::event::{Event, EventBody, Notice};
use watchfold_schemas::{Observation, Span, Time};

/// Where every story begins: a Monday at eight in the morning, UTC.
pub const BEGIN: Time = Time::from_seconds(1_767_600_000);

pub fn instant(seconds: f64) -> Time {
    BEGIN + Span((seconds * 1e9).round() as i64)
}

/// Folds observations as they stand in a log, from its first sequence.
pub fn fold(site: &str, observations: &[Observation]) -> Vec<Event> {
    let mut chain = SiteChain::new(site);
    let mut events = Vec::new();
    for (index, observation) in observations.iter().enumerate() {
        events.extend(chain.apply(index as u64 + 1, observation));
    }
    events
}

/// What happened, in the words of `expect`, in order.
pub fn happened(events: &[Event], names: &dyn Fn(&str) -> String) -> Vec<String> {
    let offset = |time: Time| {
        let seconds = time.since(BEGIN).0 as f64 / 1e9;
        format!("{}", (seconds * 1e3).round() / 1e3)
    };
    let span =
        |from: Time, to: Option<Time>| format!("{}..{}", offset(from), to.map(offset).unwrap_or_default());
    let mut out = Vec::new();
    for event in events {
        match &event.body {
            EventBody::IncidentOpened(incident) => {
                out.push(format!(
                    "opened {} {} at {}",
                    incident.class.name(),
                    incident.subject,
                    offset(event.at)
                ));
            }
            EventBody::IncidentClosed(incident) => {
                let word = match incident.class.name() {
                    "outage" => "incident",
                    other => other,
                };
                out.push(format!(
                    "{word} {} {}",
                    incident.subject,
                    span(incident.started_at, incident.ended_at)
                ));
            }
            EventBody::JitterRecorded(jitter) => {
                out.push(format!(
                    "jitter {} {}",
                    jitter.subject,
                    span(jitter.since, Some(jitter.until))
                ));
            }
            EventBody::SessionStarted(session) => {
                out.push(format!(
                    "arrival {} {}",
                    names(&session.pc),
                    offset(session.started_at)
                ));
            }
            EventBody::SessionEnded(session) => {
                out.push(format!(
                    "session {} {}",
                    names(&session.pc),
                    span(session.started_at, session.ended_at)
                ));
            }
            EventBody::OccupancySnapshot(snapshot) => {
                out.push(format!(
                    "snapshot {}/{} {}%",
                    snapshot.current, snapshot.total, snapshot.percent
                ));
            }
            EventBody::NotificationRequested(request) => {
                out.push(format!("notice {}", notice(&request.notice)))
            }
            EventBody::SubjectDegraded(degraded) => {
                out.push(format!(
                    "degraded {} [{}]",
                    degraded.subject,
                    degraded.addresses_down.join(" ")
                ));
            }
            EventBody::IncidentEscalated(incident) => {
                out.push(format!("escalated {} at {}", incident.subject, offset(event.at)));
            }
            EventBody::AlertRaised(alert) => {
                let (category, subject) = (&alert.category, &alert.subject);
                out.push(format!("alert {category} {subject} at {}", offset(event.at)));
            }
            EventBody::SubjectChanged(_)
            | EventBody::IncidentReminded(_)
            | EventBody::IncidentAcknowledged(_)
            | EventBody::TargetRollup(_)
            | EventBody::SilenceChanged(_)
            | EventBody::Digest(_)
            | EventBody::AttackBegan(_)
            | EventBody::AttackGrew(_)
            | EventBody::AttackEnded(_)
            | EventBody::LookupWanted(_) => {}
        }
    }
    out
}

fn notice(notice: &Notice) -> String {
    match notice {
        Notice::IncidentOpened { incident, .. } => format!("opened {}", incident.subject),
        Notice::IncidentUpdated { incident } => format!("updated {}", incident.subject),
        Notice::IncidentReminder { incident, .. } => format!("reminder {}", incident.subject),
        Notice::IncidentClosed { incident, .. } => format!("closed {}", incident.subject),
        Notice::SessionsStarted { sessions } => {
            format!("started {} named {}", sessions.total, sessions.named.len())
        }
        Notice::SessionsEnded { sessions } => {
            format!("ended {} named {}", sessions.total, sessions.named.len())
        }
        Notice::OccupancySnapshot { snapshot } => format!("snapshot {}/{}", snapshot.current, snapshot.total),
    }
}
