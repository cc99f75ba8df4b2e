//! What a rule found, as one line for a person.

use std::fmt;

use watchfold_replay::StillOpen;
use watchfold_schemas::alert::{Attack, Endpoint, Measured};
use watchfold_schemas::event::Severity;
use watchfold_schemas::rules::RuleState;
use watchfold_schemas::{Chain, Event, EventBody, Time};

/// One alert, a turn of an attack, or how an attack stands that has not ended.
pub struct Line<'e> {
    at: Time,
    severity: Severity,
    what: &'static str,
    state: RuleState,
    rule: &'e str,
    source: &'e Endpoint,
    destination: &'e Endpoint,
    measured: &'e Measured,
    community_id: Option<&'e str>,
    /// What `watchfold explain` takes.
    attack: &'e str,
    /// How long an attack lasted that is over, in seconds.
    lasted_s: Option<f64>,
    so_far: Option<SoFar>,
}

/// What came of an attack that goes on.
struct SoFar {
    since: Time,
    matches: u64,
    /// What matched.
    what: &'static str,
    alerts: u64,
}

impl<'e> Line<'e> {
    /// `None` for events that are told otherwise.
    pub fn of(event: &'e Event) -> Option<Line<'e>> {
        let (what, attack) = match &event.body {
            EventBody::AlertRaised(alert) => {
                return Some(Line {
                    at: event.at,
                    severity: alert.severity,
                    what: "alert",
                    state: alert.state,
                    rule: &alert.rule.name,
                    source: &alert.source,
                    destination: &alert.destination,
                    measured: &alert.measured,
                    community_id: alert.community_id.as_deref(),
                    attack: &alert.attack,
                    lasted_s: None,
                    so_far: None,
                });
            }
            EventBody::AttackBegan(attack) => ("begins", attack),
            EventBody::AttackGrew(attack) => ("grows", attack),
            EventBody::AttackEnded(attack) => ("ends", attack),
            _ => return None,
        };
        let lasted = || attack.last_at.since(attack.began_at).0 as f64 / 1e9;
        Some(Line {
            lasted_s: attack.ended_at.map(|_| lasted()),
            ..Line::of_attack(event.at, what, attack)
        })
    }

    /// An attack that had not ended when the input did.
    pub fn of_open(open: &'e StillOpen) -> Line<'e> {
        let attack = &open.attack;
        Line {
            so_far: Some(SoFar {
                since: attack.began_at,
                matches: attack.matches,
                what: match open.chain {
                    Chain::Packets => "packet",
                    Chain::Site => "result",
                },
                alerts: attack.alerts,
            }),
            ..Line::of_attack(open.through, "open", attack)
        }
    }

    fn of_attack(at: Time, what: &'static str, attack: &'e Attack) -> Line<'e> {
        Line {
            at,
            severity: attack.severity,
            what,
            state: attack.state,
            rule: &attack.rule.name,
            source: &attack.source,
            destination: &attack.destination,
            measured: &attack.peak,
            community_id: attack.community_id.as_deref(),
            attack: &attack.id,
            lasted_s: None,
            so_far: None,
        }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Info => "info",
            Severity::Low => "low",
            Severity::Medium => "MEDIUM",
            Severity::High => "HIGH",
            Severity::Critical => "CRITICAL",
        };
        write!(
            f,
            "{:<28}  {severity:<8}  {:<6}  {:<14}  {} → {}  {}/{}",
            self.at.to_string(),
            self.what,
            self.rule,
            end(self.source),
            end(self.destination),
            self.measured.observed,
            self.measured.threshold,
        )?;
        if self.measured.window_ms > 0 {
            write!(f, " in {} s", self.measured.window_ms as f64 / 1e3)?;
        }
        if let Some(lasted_s) = self.lasted_s {
            write!(f, "  lasted {lasted_s:.1} s")?;
        }
        if let Some(so_far) = &self.so_far {
            let SoFar {
                since,
                matches,
                what,
                alerts,
            } = so_far;
            let (matches, alerts) = (counted(*matches, what), counted(*alerts, "alert"));
            write!(f, "  since {since}, {matches}, {alerts}")?;
        }
        if let Some(id) = self.community_id {
            write!(f, "  {id}")?;
        }
        write!(f, "  {}", self.attack)?;
        if self.state == RuleState::Record {
            write!(f, "  (recorded only)")?;
        }
        Ok(())
    }
}

fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

fn end(end: &Endpoint) -> String {
    let who = end.ip.as_deref().or(end.mac.as_deref()).unwrap_or("-");
    match end.port {
        // The colons of an address of six are not those before a port.
        Some(port) if who.contains(':') => format!("[{who}]:{port}"),
        Some(port) => format!("{who}:{port}"),
        None => who.to_owned(),
    }
}
