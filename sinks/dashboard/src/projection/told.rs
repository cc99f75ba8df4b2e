//! The half of the projection that folds events: states, incidents, silences, rollups, sessions, alerts and attacks.
//!
//! It never looks at an observation, so the two streams may arrive in any interleaving.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use watchfold_schemas::event::{
    self, Notice, NotificationRequest, Place, Silence, SubjectChanged, SubjectState,
};
use watchfold_schemas::observation::PC_SUBJECT_PREFIX;
use watchfold_schemas::{Event, EventBody, Time};

use super::alerts::Alerts;
use super::attacks::Attacks;
use super::dirty::Dirty;
use super::history::Rollups;
use super::sessions::Sessions;

/// Subjects whose state is kept; the ones that changed longest ago go first.
pub const SUBJECTS_MAX: usize = 20_000;
/// Open incidents kept; the oldest go first.
pub const INCIDENTS_OPEN_MAX: usize = 2_000;
/// Closed incidents kept; the log has the rest.
pub const INCIDENTS_CLOSED_MAX: usize = 500;
/// Mutes and maintenance windows kept, those that are over included.
pub const SILENCES_MAX: usize = 1_000;
/// What the id of a silence begins with that is a maintenance window; a mute's does not.
pub const MAINTENANCE_PREFIX: &str = "maintenance:";
/// Incidents whose first request for a message is known; the oldest go first.
pub const REQUESTS_MAX: usize = INCIDENTS_OPEN_MAX + INCIDENTS_CLOSED_MAX;
/// Changes of state kept of one subject, for the uptime of the running hour.
pub const TRANSITIONS_MAX: usize = 256;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub latest_at: Option<Time>,
    pub subjects: BTreeMap<String, Subject>,
    pub incidents: Incidents,
    pub sessions: Sessions,
    pub alerts: Alerts,
    pub attacks: Attacks,
    pub silences: BTreeMap<String, Silenced>,
    pub rollups: BTreeMap<String, Rollups>,
    /// By incident, when the first message about it was requested, and the request's id.
    pub requests: BTreeMap<String, (Time, String)>,
    /// Live things that a limit pushed out.
    pub evicted: u64,
}

/// When and where a thing was last told of, so that a repetition from before does not undo what came after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    at: Time,
    place: Place,
}

impl Mark {
    pub fn of(event: &Event) -> Mark {
        Mark {
            at: event.at,
            place: event.place,
        }
    }

    /// Moves on to an event that it does not outdate.
    pub fn advance(&mut self, event: &Event) {
        self.at = self.at.max(event.at);
        self.place = event.place;
    }

    /// A rebuilt chain numbers its places anew, so an earlier place alone does not make an event old.
    pub fn outdates(&self, event: &Event) -> bool {
        event.place < self.place && event.at <= self.at
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    pub state: SubjectState,
    pub since: Option<Time>,
    pub root: Option<String>,
    pub addresses_down: Vec<String>,
    /// (first moment, state), oldest first.
    pub transitions: VecDeque<(Time, SubjectState)>,
    changed: Mark,
    degraded: Mark,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silenced {
    pub silence: Silence,
    mark: Mark,
}

impl Told {
    pub fn apply(&mut self, event: &Event, dirty: &mut Dirty) {
        self.latest_at = self.latest_at.max(Some(event.at));
        match &event.body {
            EventBody::SubjectChanged(changed) => self.subject_changed(event, changed, dirty),
            EventBody::SubjectDegraded(degraded) => {
                let subject = self.subjects.entry(degraded.subject.clone()).or_default();
                if !subject.degraded.outdates(event) {
                    subject.degraded = Mark::of(event);
                    subject.addresses_down = degraded.addresses_down.clone();
                    dirty.subject(&degraded.subject);
                }
                self.evict_subjects();
            }
            EventBody::IncidentOpened(incident)
            | EventBody::IncidentEscalated(incident)
            | EventBody::IncidentReminded(incident)
            | EventBody::IncidentAcknowledged(incident)
            | EventBody::IncidentClosed(incident) => {
                self.evicted += self.incidents.apply(event, incident);
                dirty.incidents.insert(incident.id.clone());
                dirty.subject(&incident.subject);
                if let Some(attack) = &incident.attack {
                    dirty.attack(&attack.id);
                }
            }
            EventBody::SessionStarted(session) | EventBody::SessionEnded(session) => {
                self.evicted += self.sessions.apply(event, session);
                dirty.sessions.insert(session.id.clone());
                dirty.pcs.insert(session.pc.clone());
                dirty.occupancy = true;
                dirty.heatmap = true;
            }
            EventBody::TargetRollup(rollup) => {
                self.rollups
                    .entry(rollup.subject.clone())
                    .or_default()
                    .add(rollup);
                dirty.subject(&rollup.subject);
                self.evict_rollups();
            }
            EventBody::SilenceChanged(silence) => {
                self.silenced(event, silence);
                dirty.all_targets = true;
                dirty.maintenance |= silence.id.starts_with(MAINTENANCE_PREFIX);
            }
            EventBody::AlertRaised(alert) => {
                let is_known_set = self.alerts.set_of(event.chain) == Some(&alert.rule.set);
                if let Some(key) = self.alerts.apply(event, alert) {
                    dirty.alert(key);
                    dirty.alert_totals = true;
                    dirty.rules |= !is_known_set;
                    if self.attacks.went_on(event, alert) {
                        dirty.attack(&alert.attack);
                    }
                }
            }
            EventBody::AttackBegan(attack)
            | EventBody::AttackGrew(attack)
            | EventBody::AttackEnded(attack) => {
                self.evicted += self.attacks.apply(event, attack);
                dirty.attack(&attack.id);
                dirty.alert_totals = true;
            }
            EventBody::NotificationRequested(request) => self.requested(event, request, dirty),
            // Read from the log itself, by `/api/v1/events`.
            EventBody::JitterRecorded(_)
            | EventBody::OccupancySnapshot(_)
            | EventBody::Digest(_)
            | EventBody::LookupWanted(_) => {}
        }
    }

    /// When the mute of `subject` at `now` ends, if it has one.
    pub fn muted_until(&self, subject: &str, now: Time) -> Option<Time> {
        self.silenced_until(subject, now, false)
    }

    /// When the last maintenance window that covers `subject` at `now` ends, if one does.
    pub fn maintenance_until(&self, subject: &str, now: Time) -> Option<Time> {
        self.silenced_until(subject, now, true)
    }

    fn silenced_until(&self, subject: &str, now: Time, by_maintenance: bool) -> Option<Time> {
        self.silences
            .values()
            .map(|silenced| &silenced.silence)
            .filter(|silence| silence.id.starts_with(MAINTENANCE_PREFIX) == by_maintenance)
            .filter(|silence| silence.active && silence.from <= now && now < silence.until)
            .filter(|silence| {
                silence.subjects.is_empty() || silence.subjects.iter().any(|name| name == subject)
            })
            .map(|silence| silence.until)
            .max()
    }

    fn subject_changed(&mut self, event: &Event, changed: &SubjectChanged, dirty: &mut Dirty) {
        let subject = self.subjects.entry(changed.subject.clone()).or_default();
        if subject.changed.outdates(event) {
            return;
        }
        subject.changed = Mark::of(event);
        subject.state = changed.to;
        subject.since = Some(changed.since);
        subject.root = changed.root.clone();
        if !changed.subject.starts_with(PC_SUBJECT_PREFIX) {
            // An outage begins at the failure that was first only suspected.
            while subject
                .transitions
                .back()
                .is_some_and(|(since, _)| *since >= changed.since)
            {
                subject.transitions.pop_back();
            }
            subject.transitions.push_back((changed.since, changed.to));
            if subject.transitions.len() > TRANSITIONS_MAX {
                subject.transitions.pop_front();
            }
            dirty.all_pcs = true;
        }
        dirty.occupancy = true;
        dirty.subject(&changed.subject);
        self.evict_subjects();
    }

    /// The first message about an incident is the one that people learn of it by.
    fn requested(&mut self, event: &Event, request: &NotificationRequest, dirty: &mut Dirty) {
        let (Notice::IncidentOpened { incident, .. } | Notice::IncidentClosed { incident, .. }) =
            &request.notice
        else {
            return;
        };
        if self.requests.contains_key(&incident.id) {
            return;
        }
        let first = (event.at, event.id.0.clone());
        self.requests.insert(incident.id.clone(), first);
        dirty.incidents.insert(incident.id.clone());
        if self.requests.len() > REQUESTS_MAX {
            let requests = self.requests.iter();
            let oldest = requests.min_by_key(|(id, (at, _))| (*at, *id));
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.requests.remove(&id);
            }
        }
    }

    fn silenced(&mut self, event: &Event, silence: &Silence) {
        if self
            .silences
            .get(&silence.id)
            .is_some_and(|known| known.mark.outdates(event))
        {
            return;
        }
        self.silences.insert(
            silence.id.clone(),
            Silenced {
                silence: silence.clone(),
                mark: Mark::of(event),
            },
        );
        if self.silences.len() > SILENCES_MAX {
            let oldest = self
                .silences
                .iter()
                .min_by_key(|(id, known)| (known.silence.active, known.mark.at, *id));
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.evicted += u64::from(self.silences[&id].silence.active);
                self.silences.remove(&id);
            }
        }
    }

    fn evict_subjects(&mut self) {
        if self.subjects.len() <= SUBJECTS_MAX {
            return;
        }
        // A tenth at once, so that a flood of names does not pay for a search each.
        let mut by_age: Vec<(Time, String)> = self
            .subjects
            .iter()
            .map(|(name, subject)| (subject.changed.at, name.clone()))
            .collect();
        by_age.sort();
        for (_, name) in by_age.into_iter().take(SUBJECTS_MAX / 10) {
            self.subjects.remove(&name);
            self.evicted += 1;
        }
    }

    fn evict_rollups(&mut self) {
        while self.rollups.len() > super::measured::TARGETS_MAX {
            let oldest = self
                .rollups
                .iter()
                .min_by_key(|(name, rollups)| (rollups.hours.keys().next_back(), *name));
            let Some(name) = oldest.map(|(name, _)| name.clone()) else {
                return;
            };
            self.rollups.remove(&name);
            self.evicted += 1;
        }
    }
}

/// Incidents by when they were opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Incidents {
    by_opening: BTreeMap<(Time, String), IncidentEntry>,
    opened_at: BTreeMap<String, Time>,
    /// The incident of an attack, by their ids.
    of_attack: BTreeMap<String, String>,
    closed: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentEntry {
    pub incident: event::Incident,
    pub told_by: String,
    mark: Mark,
}

impl Incidents {
    pub fn get(&self, id: &str) -> Option<&IncidentEntry> {
        let opened_at = self.opened_at.get(id)?;
        self.by_opening.get(&(*opened_at, id.to_owned()))
    }

    /// The id of the incident that an attack is.
    pub fn of_attack(&self, attack: &str) -> Option<&str> {
        self.of_attack.get(attack).map(String::as_str)
    }

    /// Newest first, beginning after `cursor`.
    pub fn newest(&self, cursor: Option<(Time, String)>) -> impl Iterator<Item = &IncidentEntry> {
        use std::ops::Bound::{Excluded, Unbounded};
        let end = cursor.map_or(Unbounded, Excluded);
        self.by_opening
            .range((Unbounded, end))
            .rev()
            .map(|(_, entry)| entry)
    }

    pub fn open(&self) -> impl Iterator<Item = &IncidentEntry> {
        self.newest(None)
            .filter(|entry| entry.incident.ended_at.is_none())
    }

    /// Gives how many open ones a limit pushed out.
    fn apply(&mut self, event: &Event, incident: &event::Incident) -> u64 {
        if let Some(known) = self.get(&incident.id) {
            if known.mark.outdates(event) {
                return 0;
            }
            let key = (known.incident.opened_at, incident.id.clone());
            self.remove(&key);
        }
        self.closed += usize::from(incident.ended_at.is_some());
        if let Some(attack) = &incident.attack {
            self.of_attack.insert(attack.id.clone(), incident.id.clone());
        }
        self.opened_at.insert(incident.id.clone(), incident.opened_at);
        self.by_opening.insert(
            (incident.opened_at, incident.id.clone()),
            IncidentEntry {
                incident: incident.clone(),
                told_by: event.id.0.clone(),
                mark: Mark::of(event),
            },
        );
        self.evict()
    }

    fn evict(&mut self) -> u64 {
        let mut evicted = 0;
        while self.closed > INCIDENTS_CLOSED_MAX {
            let Some(key) = self.oldest(|entry| entry.incident.ended_at.is_some()) else {
                break;
            };
            self.remove(&key);
        }
        while self.by_opening.len() - self.closed > INCIDENTS_OPEN_MAX {
            let Some(key) = self.oldest(|entry| entry.incident.ended_at.is_none()) else {
                break;
            };
            self.remove(&key);
            evicted += 1;
        }
        evicted
    }

    fn oldest(&self, wanted: impl Fn(&IncidentEntry) -> bool) -> Option<(Time, String)> {
        self.by_opening
            .iter()
            .find(|(_, entry)| wanted(entry))
            .map(|(key, _)| key.clone())
    }

    fn remove(&mut self, key: &(Time, String)) {
        if let Some(entry) = self.by_opening.remove(key) {
            self.closed -= usize::from(entry.incident.ended_at.is_some());
            self.opened_at.remove(&key.1);
            if let Some(attack) = &entry.incident.attack {
                self.of_attack.remove(&attack.id);
            }
        }
    }
}
