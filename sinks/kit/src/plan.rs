//! What to send next: which undelivered requests are told as one, and in what order. Pure.
//!
//! Requests are merged only while all of them are undelivered and share class, coalesce key and incident; never two
//! incidents, and never two lists of sessions.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use watchfold_schemas::event::{Notice, NoticeClass, NotificationRequest};
use watchfold_schemas::{EventId, Time};

/// A request that nobody was told about yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PendingRequest {
    /// Where it stands in `WF_EVT`; requests are told in this order.
    pub sequence: u64,
    pub id: EventId,
    pub request: NotificationRequest,
    /// Attempts that failed.
    pub attempts: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
}

/// One act of delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The destination; one job at a time is under way in it.
    pub lane: String,
    pub sequence: u64,
    pub id: EventId,
    pub class: NoticeClass,
    pub time_zone: String,
    /// What to tell, with what the merged requests knew.
    pub notice: Notice,
    /// The requests that are told by it too.
    pub merged: Vec<(u64, EventId)>,
    /// Attempts that failed so far.
    pub attempts: u32,
    /// The far side's id of the message that shows the incident, where one was delivered.
    pub thread: Option<String>,
}

impl Job {
    /// The incident that it is about.
    pub fn incident(&self) -> Option<&str> {
        incident_of(&self.notice)
    }

    pub(crate) fn sequences(&self) -> impl Iterator<Item = u64> + '_ {
        std::iter::once(self.sequence).chain(self.merged.iter().map(|(sequence, _)| *sequence))
    }
}

pub(crate) fn incident_of(notice: &Notice) -> Option<&str> {
    match notice {
        Notice::IncidentOpened { incident, .. }
        | Notice::IncidentUpdated { incident }
        | Notice::IncidentReminder { incident, .. }
        | Notice::IncidentClosed { incident, .. } => Some(&incident.id),
        Notice::SessionsStarted { .. } | Notice::SessionsEnded { .. } | Notice::OccupancySnapshot { .. } => {
            None
        }
    }
}

/// The next job of every lane that is not `taken`, in the order of their requests.
pub(crate) fn plan(
    pending: &BTreeMap<u64, PendingRequest>,
    lane_of: impl Fn(&NotificationRequest) -> Option<String>,
    taken: &BTreeSet<String>,
    thread_of: impl Fn(&str) -> Option<String>,
) -> Vec<Job> {
    let mut groups: BTreeMap<GroupKey, Vec<&PendingRequest>> = BTreeMap::new();
    for waiting in pending.values() {
        let Some(lane) = lane_of(&waiting.request).filter(|lane| !taken.contains(lane)) else {
            continue;
        };
        groups
            .entry(GroupKey::of(lane, waiting))
            .or_default()
            .push(waiting);
    }
    let mut next: BTreeMap<String, Job> = BTreeMap::new();
    for (key, group) in groups {
        let Some(job) = merge(key.lane, &group) else {
            continue;
        };
        match next.get(&job.lane) {
            Some(earlier) if earlier.sequence < job.sequence => {}
            _ => drop(next.insert(job.lane.clone(), job)),
        }
    }
    let with_thread = |mut job: Job| {
        job.thread = job.incident().and_then(&thread_of);
        job
    };
    next.into_values().map(with_thread).collect()
}

/// The sequences of requests that are past their time.
pub(crate) fn expired(pending: &BTreeMap<u64, PendingRequest>, busy: &BTreeSet<u64>, now: Time) -> Vec<u64> {
    pending
        .values()
        .filter(|waiting| waiting.request.expires_at < now && !busy.contains(&waiting.sequence))
        .map(|waiting| waiting.sequence)
        .collect()
}

/// Requests with an equal key may be told as one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    lane: String,
    class: NoticeClass,
    coalesce_key: String,
    about: About,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Incident(String),
    Snapshot,
    /// Told on its own.
    Alone(u64),
}

impl GroupKey {
    fn of(lane: String, waiting: &PendingRequest) -> GroupKey {
        let request = &waiting.request;
        let about = match (&request.notice, incident_of(&request.notice)) {
            (_, Some(incident)) => About::Incident(incident.to_owned()),
            (Notice::OccupancySnapshot { .. }, None) => About::Snapshot,
            _ => About::Alone(waiting.sequence),
        };
        GroupKey {
            lane,
            class: request.class,
            coalesce_key: request.coalesce_key.clone(),
            about,
        }
    }
}

/// One job for a group that is in the order of its sequences.
fn merge(lane: String, group: &[&PendingRequest]) -> Option<Job> {
    let leader = *group
        .iter()
        .max_by_key(|waiting| weight(&waiting.request.notice))?;
    let latest = *group.last()?;
    let others = group.iter().filter(|waiting| waiting.sequence != leader.sequence);
    Some(Job {
        lane,
        sequence: leader.sequence,
        id: leader.id.clone(),
        class: leader.request.class,
        time_zone: leader.request.time_zone.clone(),
        notice: with_latest(&leader.request.notice, &latest.request.notice),
        merged: others
            .map(|waiting| (waiting.sequence, waiting.id.clone()))
            .collect(),
        attempts: leader.attempts,
        thread: None,
    })
}

/// Which notice of an incident speaks for the others: the end tells everything, a reminder tells the beginning, an
/// update alone makes no sound. Of equals the latest speaks.
fn weight(notice: &Notice) -> u8 {
    match notice {
        Notice::IncidentClosed { .. } => 4,
        Notice::IncidentReminder { .. } => 3,
        Notice::IncidentOpened { .. } => 2,
        Notice::IncidentUpdated { .. } => 1,
        Notice::SessionsStarted { .. } | Notice::SessionsEnded { .. } | Notice::OccupancySnapshot { .. } => 0,
    }
}

/// The leader's notice with the incident as the latest request knew it.
fn with_latest(leader: &Notice, latest: &Notice) -> Notice {
    let mut notice = leader.clone();
    let (Notice::IncidentUpdated { incident: newer } | Notice::IncidentReminder { incident: newer, .. }) =
        latest
    else {
        return notice;
    };
    match &mut notice {
        Notice::IncidentOpened { incident, .. }
        | Notice::IncidentReminder { incident, .. }
        | Notice::IncidentUpdated { incident } => *incident = newer.clone(),
        Notice::IncidentClosed { .. }
        | Notice::SessionsStarted { .. }
        | Notice::SessionsEnded { .. }
        | Notice::OccupancySnapshot { .. } => {}
    }
    notice
}
