//! Sessions of PCs, and how long PCs were present in each hour of the last weeks, from session events alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::event::Session;
use watchfold_schemas::{Event, Time};

use super::history::{hour_of, start_of_hour};
use super::told::Mark;

/// Ended sessions kept; the log has the rest.
pub const SESSIONS_ENDED_MAX: usize = 2_000;
/// PCs whose last session is known, and so sessions that can run at once.
pub const SESSION_PCS_MAX: usize = 10_000;
/// The heat map covers this many hours: 28 days.
pub const HEATMAP_HOURS: i64 = 28 * 24;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    by_start: BTreeMap<(Time, String), SessionEntry>,
    started_at: BTreeMap<String, Time>,
    ended: usize,
    /// The newest session of each PC.
    last: BTreeMap<String, LastSession>,
    /// Milliseconds of presence of all PCs by hour, from sessions that have ended.
    presence_ms: BTreeMap<i64, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionEntry {
    pub session: Session,
    mark: Mark,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastSession {
    pub id: String,
    pub started_at: Time,
    pub ended_at: Option<Time>,
}

impl Sessions {
    pub fn get(&self, id: &str) -> Option<&Session> {
        let started_at = self.started_at.get(id)?;
        self.by_start
            .get(&(*started_at, id.to_owned()))
            .map(|entry| &entry.session)
    }

    pub fn last_of(&self, pc: &str) -> Option<&LastSession> {
        self.last.get(pc)
    }

    /// Newest first, beginning after `cursor`.
    pub fn newest(&self, cursor: Option<(Time, String)>) -> impl Iterator<Item = &Session> {
        use std::ops::Bound::{Excluded, Unbounded};
        let end = cursor.map_or(Unbounded, Excluded);
        self.by_start
            .range((Unbounded, end))
            .rev()
            .map(|(_, entry)| &entry.session)
    }

    /// Milliseconds of presence by hour in the hours before `now` that the heat map covers; of sessions that run, up to
    /// `known_until`.
    pub fn presence(&self, now: Time, known_until: Time) -> BTreeMap<i64, u64> {
        let first = hour_of(now) - HEATMAP_HOURS + 1;
        let mut presence: BTreeMap<i64, u64> = self
            .presence_ms
            .range(first..)
            .map(|(hour, present_ms)| (*hour, *present_ms))
            .collect();
        for last in self.last.values().filter(|last| last.ended_at.is_none()) {
            add_presence(
                &mut presence,
                last.started_at.max(start_of_hour(first)),
                known_until,
            );
        }
        presence
    }

    /// Gives how many running sessions were pushed out, by a limit or because their end was lost.
    pub fn apply(&mut self, event: &Event, session: &Session) -> u64 {
        let mut ended_before = false;
        if let Some(started_at) = self.started_at.get(&session.id).copied() {
            let key = (started_at, session.id.clone());
            if self
                .by_start
                .get(&key)
                .is_some_and(|entry| entry.mark.outdates(event))
            {
                return 0;
            }
            ended_before = self.remove(&key);
        }
        let mut evicted = 0;
        if let Some(ended_at) = session.ended_at
            && !ended_before
        {
            let first = start_of_hour(hour_of(ended_at) - HEATMAP_HOURS + 1);
            add_presence(&mut self.presence_ms, session.started_at.max(first), ended_at);
            let newest = self.presence_ms.keys().next_back().copied().unwrap_or(0);
            self.presence_ms = self.presence_ms.split_off(&(newest - HEATMAP_HOURS));
        }
        self.ended += usize::from(session.ended_at.is_some());
        self.started_at.insert(session.id.clone(), session.started_at);
        let key = (session.started_at, session.id.clone());
        self.by_start.insert(
            key,
            SessionEntry {
                session: session.clone(),
                mark: Mark::of(event),
            },
        );
        evicted += self.follow(session);
        evicted + self.evict()
    }

    /// Keeps the newest session of the PC. One that still ran when a newer began has lost its end.
    fn follow(&mut self, session: &Session) -> u64 {
        let newest = LastSession {
            id: session.id.clone(),
            started_at: session.started_at,
            ended_at: session.ended_at,
        };
        match self.last.get(&session.pc) {
            Some(known) if known.started_at > session.started_at => return 0,
            Some(known) if known.id != session.id && known.ended_at.is_none() => {
                let key = (known.started_at, known.id.clone());
                self.remove(&key);
                self.last.insert(session.pc.clone(), newest);
                return 1;
            }
            _ => self.last.insert(session.pc.clone(), newest),
        };
        0
    }

    fn evict(&mut self) -> u64 {
        let mut evicted = 0;
        while self.ended > SESSIONS_ENDED_MAX {
            let oldest = self
                .by_start
                .iter()
                .find(|(_, entry)| entry.session.ended_at.is_some());
            let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.remove(&key);
        }
        while self.last.len() > SESSION_PCS_MAX {
            let oldest = self
                .last
                .iter()
                .min_by_key(|(pc, last)| (last.ended_at.is_none(), last.started_at, *pc));
            let Some((pc, last)) = oldest.map(|(pc, last)| (pc.clone(), last.clone())) else {
                break;
            };
            self.last.remove(&pc);
            if last.ended_at.is_none() {
                self.remove(&(last.started_at, last.id));
                evicted += 1;
            }
        }
        evicted
    }

    /// Gives whether it had ended.
    fn remove(&mut self, key: &(Time, String)) -> bool {
        let Some(entry) = self.by_start.remove(key) else {
            return false;
        };
        self.started_at.remove(&key.1);
        let ended = entry.session.ended_at.is_some();
        self.ended -= usize::from(ended);
        ended
    }
}

fn add_presence(presence_ms: &mut BTreeMap<i64, u64>, from: Time, to: Time) {
    let mut at = from;
    while at < to {
        let hour = hour_of(at);
        let end = start_of_hour(hour + 1).min(to);
        *presence_ms.entry(hour).or_default() += end.since(at).as_millis().unsigned_abs();
        at = end;
    }
}
