//! What to send next: which undelivered requests are one message, and in what order. Pure.
//!
//! Requests are merged only while all of them are undelivered and share class, coalesce key and incident; never two lists
//! of sessions. Messages about incidents of one kind become one message, a digest, once there are too many of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use watchfold_schemas::event::{Notice, NoticeClass, NotificationRequest};
use watchfold_schemas::{EventId, Time};

use crate::rank::{Kind, Rank, kind, rank, the_incident};

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
    /// The notices of a digest, oldest first, with `notice` among them; empty for a message of its own.
    pub digest: Vec<Notice>,
    /// By which rate the message counts; `None` where no rate holds.
    pub(crate) kind: Option<Kind>,
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
    the_incident(notice).map(|incident| incident.id.as_str())
}

/// What holds for this turn of planning.
pub(crate) struct Turn<'a> {
    /// Lanes that have no room for a job.
    pub taken: &'a BTreeSet<String>,
    /// Lanes whose oldest request is next, whatever its rank.
    pub by_age: &'a BTreeSet<String>,
    /// How many messages of a kind a lane may send now.
    pub allowed: &'a dyn Fn(&str, &Kind) -> u32,
    /// No more requests fit, so that digests are due at once.
    pub is_full: bool,
}

/// The next job of every lane that is not taken: by rank, then by age.
pub(crate) fn plan(
    pending: &BTreeMap<u64, PendingRequest>,
    lane_of: impl Fn(&NotificationRequest) -> Option<String>,
    turn: &Turn<'_>,
    thread_of: impl Fn(&str) -> Option<String>,
) -> Vec<Job> {
    let taken = turn.taken;
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
    let mut kinds: BTreeMap<(String, Option<Kind>), Vec<Job>> = BTreeMap::new();
    for (key, group) in groups {
        if let Some(job) = merge(key.lane, &group) {
            kinds
                .entry((job.lane.clone(), job.kind.clone()))
                .or_default()
                .push(job);
        }
    }
    let mut next: BTreeMap<String, Job> = BTreeMap::new();
    for ((lane, kind), jobs) in kinds {
        let Some(job) = paced(&lane, kind.as_ref(), jobs, turn) else {
            continue;
        };
        let order = |job: &Job| match turn.by_age.contains(&lane) {
            true => (Rank::Outage, job.sequence),
            false => (rank(&job.notice), job.sequence),
        };
        match next.get(&lane) {
            Some(earlier) if order(earlier) < order(&job) => {}
            _ => drop(next.insert(lane.clone(), job)),
        }
    }
    let with_thread = |mut job: Job| {
        job.thread = job.incident().and_then(&thread_of);
        job
    };
    next.into_values().map(with_thread).collect()
}

/// The next message of a kind: the oldest alone, or all of them as one when only one more is allowed.
fn paced(lane: &str, kind: Option<&Kind>, mut jobs: Vec<Job>, turn: &Turn<'_>) -> Option<Job> {
    jobs.sort_by_key(|job| job.sequence);
    let allowed = kind.map_or(u32::MAX, |kind| (turn.allowed)(lane, kind));
    let is_digest = kind.is_some() && jobs.len() > 1 && (turn.is_full || allowed == 1);
    if is_digest {
        return digest(jobs);
    }
    (allowed > 0).then(|| jobs.into_iter().next()).flatten()
}

fn digest(jobs: Vec<Job>) -> Option<Job> {
    let notices = jobs.iter().map(|job| job.notice.clone()).collect();
    let mut jobs = jobs.into_iter();
    let mut first = jobs.next()?;
    for job in jobs {
        first.merged.push((job.sequence, job.id));
        first.merged.extend(job.merged);
    }
    first.digest = notices;
    Some(first)
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
    let notice = with_latest(&leader.request.notice, &latest.request.notice);
    Some(Job {
        kind: kind(&notice),
        digest: Vec::new(),
        lane,
        sequence: leader.sequence,
        id: leader.id.clone(),
        class: leader.request.class,
        time_zone: leader.request.time_zone.clone(),
        notice,
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
