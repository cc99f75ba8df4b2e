//! What a message says of an attack besides what it says of every incident. Pure.
//!
//! All of it may be of an attacker's making, names looked up and host names above all: everything is escaped here and cut
//! in `render.rs`.

use watchfold_schemas::alert::{Attack, Endpoint, Measured, Reputation, Tier};
use watchfold_schemas::event::{Flood, FloodOf};

use crate::text::{clock, duration, escaped};

/// Victims named in one message; more are counted.
const VICTIMS_NAMED_MAX: usize = 8;

/// A fact, and whether it stands in a row with others.
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) inline: bool,
}

/// "Port scan: 10.0.0.9", and of what is told of its victim "SYN flood on 10.0.0.9".
pub(crate) fn title(attack: &Attack) -> String {
    let rule = if attack.rule.title.trim().is_empty() {
        &attack.category
    } else {
        &attack.rule.title
    };
    let subject = Some(attack.subject.as_str());
    let is_victim = subject == attack.destination.ip.as_deref() && subject != attack.source.ip.as_deref();
    let joined = if is_victim { " on " } else { ": " };
    format!("{}{joined}{}", escaped(rule), escaped(&attack.subject))
}

/// "Port scan from 214 sources", "SYN flood on 30 targets".
pub(crate) fn flood_title(flood: &Flood) -> String {
    let rule = if flood.title.trim().is_empty() {
        &flood.category
    } else {
        &flood.title
    };
    let joined = match flood.of {
        FloodOf::Sources => " from ",
        FloodOf::Targets => " on ",
        FloodOf::Subjects => ": ",
    };
    let (total, of) = (flood.subjects_total, flood.of.name());
    format!("{}{joined}{total} {of}", escaped(rule))
}

pub(crate) fn facts(attack: &Attack, time_zone: &str) -> Vec<Fact> {
    let row = |name, value| {
        Some(Fact {
            name,
            value,
            inline: true,
        })
    };
    let block = |name, value| {
        Some(Fact {
            name,
            value,
            inline: false,
        })
    };
    let transport = match attack.transport.as_str() {
        "" => String::new(),
        transport => format!(" ({})", escaped(transport)),
    };
    let way = format!(
        "{} → {}{transport}",
        endpoint(&attack.source),
        endpoint(&attack.destination)
    );
    let reputation = attack.reputation.as_ref().and_then(reputation);
    let community_id = attack.community_id.as_ref().map(|id| escaped(id));
    [
        block("From → to", way),
        row("Peak", peak(&attack.peak)),
        row("Alerts", attack.alerts.to_string()),
        row("Last seen", clock(attack.last_at, time_zone)),
        victims(attack).and_then(|value| block("Victims", value)),
        reputation.and_then(|value| block("Reputation", value)),
        row("Rule", rule(attack)),
        row("Seen by", seen_by(attack)),
        community_id.and_then(|value| row("Community ID", value)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn endpoint(endpoint: &Endpoint) -> String {
    let host = match (&endpoint.ip, &endpoint.mac) {
        (Some(ip), _) if endpoint.port.is_some() && ip.contains(':') => format!("[{ip}]"),
        (Some(ip), _) => ip.clone(),
        (None, Some(mac)) => mac.clone(),
        (None, None) => "?".to_owned(),
    };
    match endpoint.port {
        Some(port) => escaped(&format!("{host}:{port}")),
        None => escaped(&host),
    }
}

/// What was reached, and what would have been enough.
fn peak(peak: &Measured) -> String {
    let Measured {
        observed,
        threshold,
        base_threshold,
        window_ms,
    } = *peak;
    let mut text = format!("{observed}, threshold {threshold}");
    if threshold != base_threshold {
        text.push_str(&format!(" (else {base_threshold})"));
    }
    match window_ms {
        0 => {}
        1..1_000 => text.push_str(&format!(", within {window_ms} ms")),
        _ => text.push_str(&format!(", within {}", duration(window_ms))),
    }
    text
}

/// None where the only one is the destination, which is named already.
fn victims(attack: &Attack) -> Option<String> {
    if attack.victims_total <= 1 {
        return None;
    }
    let mut names: Vec<String> = attack
        .victims
        .iter()
        .take(VICTIMS_NAMED_MAX)
        .map(|victim| escaped(victim))
        .collect();
    let unnamed = attack.victims_total.saturating_sub(names.len() as u64);
    if unnamed > 0 {
        names.push(format!("{unnamed} more"));
    }
    Some(names.join(", "))
}

fn reputation(reputation: &Reputation) -> Option<String> {
    let tier = match reputation.tier {
        Tier::Clean => return None,
        Tier::Low => "Low",
        Tier::Medium => "Medium",
        Tier::High => "High",
        Tier::Critical => "Critical",
    };
    Some(format!(
        "{tier}: {}, called malicious by {}, score {}",
        escaped(&reputation.subject),
        reputation.malicious,
        reputation.score
    ))
}

fn rule(attack: &Attack) -> String {
    let rule = &attack.rule;
    escaped(&format!("{} v{} of {}", rule.name, rule.version, rule.set))
}

fn seen_by(attack: &Attack) -> String {
    let seen_by = &attack.seen_by;
    match seen_by.interface.as_str() {
        "" => escaped(&seen_by.collector),
        interface => escaped(&format!("{} at {interface}", seen_by.collector)),
    }
}
