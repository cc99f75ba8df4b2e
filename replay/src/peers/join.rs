//! Joins what another detector said with our alerts: by the flow where both name the same one, else by the two addresses; and by time.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use watchfold_schemas::event::Severity;
use watchfold_schemas::{Event, EventBody, EventId, Span, Time};

use super::{Heard, Said};
use crate::ReplayError;
use crate::outcomes::OUTCOMES_MAX;

/// One of our alerts, with the time that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ours {
    pub event: EventId,
    pub attack: String,
    pub rule: String,
    pub severity: Severity,
    pub subject: String,
    pub at: Time,
    /// From the beginning of the rule's window to when its condition last held.
    pub from: Time,
    pub until: Time,
    pub community_id: Option<String>,
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinedBy {
    CommunityId,
    /// Of a scan or a flood, each names another one of its many flows, or none.
    Addresses,
}

/// Something that both saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    pub ours: Ours,
    pub theirs: Said,
    pub by: JoinedBy,
}

/// The comparison. What one of us says several times of what the other says once is one pair for each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Joined {
    pub both: Vec<Pair>,
    pub only_ours: Vec<Ours>,
    pub only_theirs: Vec<Said>,
    /// What of their lines is no alert, and what could not be read.
    pub other_lines: u64,
    pub unreadable_lines: u64,
}

/// Our alerts, as they come.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    alerts: Vec<Ours>,
    last_of_attack: BTreeMap<String, usize>,
}

impl Alerts {
    pub fn add(&mut self, event: &Event) -> Result<(), ReplayError> {
        match &event.body {
            EventBody::AlertRaised(alert) => {
                if self.alerts.len() >= OUTCOMES_MAX {
                    return Err(ReplayError::TooManyOutcomes { limit: OUTCOMES_MAX });
                }
                let address = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok());
                let window_ms = i64::try_from(alert.measured.window_ms).unwrap_or(i64::MAX / 1_000_000);
                self.last_of_attack
                    .insert(alert.attack.clone(), self.alerts.len());
                self.alerts.push(Ours {
                    event: event.id.clone(),
                    attack: alert.attack.clone(),
                    rule: alert.rule.name.clone(),
                    severity: alert.severity,
                    subject: alert.subject.clone(),
                    at: event.at,
                    from: event.at - Span::from_millis(window_ms),
                    until: event.at,
                    community_id: alert.community_id.clone(),
                    source: address(&alert.source.ip),
                    destination: address(&alert.destination.ip),
                });
            }
            EventBody::AttackEnded(attack) => {
                let last = self.last_of_attack.remove(&attack.id);
                if let Some(alert) = last.and_then(|last| self.alerts.get_mut(last)) {
                    alert.until = alert.until.max(attack.last_at);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Joins what is at most `window` apart.
    pub fn join(self, heard: Heard, window: Span) -> Joined {
        let mut by_flow: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut by_addresses: BTreeMap<Ends, Vec<usize>> = BTreeMap::new();
        for (index, alert) in self.alerts.iter().enumerate() {
            if let Some(flow) = &alert.community_id {
                by_flow.entry(flow).or_default().push(index);
            }
            for key in ours(alert.source, alert.destination) {
                by_addresses.entry(key).or_default().push(index);
            }
        }
        let mut is_theirs = vec![false; self.alerts.len()];
        let mut joined = Joined {
            other_lines: heard.others,
            unreadable_lines: heard.unreadable,
            ..Joined::default()
        };
        for said in heard.said {
            let flow = said.community_id.as_deref().and_then(|flow| by_flow.get(flow));
            let of_flow = flow.and_then(|known| nearest(&self.alerts, known, said.at, window));
            let of_addresses = || {
                let keys = theirs(said.source, said.destination).into_iter();
                let mut known = keys.filter_map(|key| by_addresses.get(&key));
                known.find_map(|known| nearest(&self.alerts, known, said.at, window))
            };
            let found = of_flow
                .map(|index| (index, JoinedBy::CommunityId))
                .or_else(|| Some((of_addresses()?, JoinedBy::Addresses)));
            match found {
                Some((index, by)) => {
                    is_theirs[index] = true;
                    joined.both.push(Pair {
                        ours: self.alerts[index].clone(),
                        theirs: said,
                        by,
                    });
                }
                None => joined.only_theirs.push(said),
            }
        }
        let others = self.alerts.into_iter().zip(is_theirs);
        joined.only_ours = others
            .filter(|(_, is_theirs)| !is_theirs)
            .map(|(alert, _)| alert)
            .collect();
        joined
    }
}

impl Joined {
    /// Whether each sees everything that the other does.
    pub fn is_same(&self) -> bool {
        self.only_ours.is_empty() && self.only_theirs.is_empty()
    }
}

/// What is looked up by addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ends {
    /// Both, whichever is the source.
    Two(IpAddr, IpAddr),
    /// One that is the source of something with a destination.
    SourceOfTwo(IpAddr),
    /// The only one that is named.
    One(IpAddr),
}

/// By what an alert of ours can be found.
fn ours(source: Option<IpAddr>, destination: Option<IpAddr>) -> Vec<Ends> {
    match (source, destination) {
        (Some(source), Some(destination)) => {
            let (low, high) = (source.min(destination), source.max(destination));
            vec![Ends::Two(low, high), Ends::SourceOfTwo(source)]
        }
        (Some(one), None) | (None, Some(one)) => vec![Ends::One(one)],
        (None, None) => Vec::new(),
    }
}

/// By what something of theirs is looked for: one that names a single address may be about anything from there.
fn theirs(source: Option<IpAddr>, destination: Option<IpAddr>) -> Vec<Ends> {
    match (source, destination) {
        (Some(source), Some(destination)) => {
            let (low, high) = (source.min(destination), source.max(destination));
            vec![Ends::Two(low, high), Ends::One(source)]
        }
        (Some(one), None) | (None, Some(one)) => vec![Ends::One(one), Ends::SourceOfTwo(one)],
        (None, None) => Vec::new(),
    }
}

/// The alert that is nearest in time, the earlier of two.
fn nearest(alerts: &[Ours], known: &[usize], at: Time, window: Span) -> Option<usize> {
    let distance = |index: usize| {
        let alert = alerts.get(index)?;
        let apart = alert.from.since(at).0.max(at.since(alert.until).0).max(0);
        (apart <= window.0).then_some((apart, index))
    };
    let near = known.iter().filter_map(|index| distance(*index)).min();
    near.map(|(_, index)| index)
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address =
            |address: &Option<IpAddr>| address.map_or_else(|| "?".to_owned(), |one| one.to_string());
        for Pair { ours, theirs, by } in &self.both {
            let by = match by {
                JoinedBy::CommunityId => "one flow",
                JoinedBy::Addresses => "the same addresses",
            };
            writeln!(
                f,
                "= {}  {}  {}  by {by}: {}",
                ours.at, ours.rule, ours.subject, theirs.name
            )?;
        }
        for ours in &self.only_ours {
            let flow = ours.community_id.as_deref().unwrap_or("no flow");
            writeln!(f, "+ {}  {}  {}  {flow}", ours.at, ours.rule, ours.subject)?;
        }
        for theirs in &self.only_theirs {
            let flow = theirs.community_id.as_deref().unwrap_or("no flow");
            let (source, destination) = (address(&theirs.source), address(&theirs.destination));
            writeln!(
                f,
                "- {}  {}  {source} -> {destination}  {flow}",
                theirs.at, theirs.name
            )?;
        }
        write!(
            f,
            "{} seen by both, {} by Watchfold alone, {} by the other alone",
            self.both.len(),
            self.only_ours.len(),
            self.only_theirs.len()
        )
    }
}
