//! Floods: many attacks of one category and severity within a short time become one incident that grows.
//!
//! Sources can be made up, so people must not be notified of each. The first few attacks are incidents of their own; what
//! they are in the log, alerts and attacks, does not change. Windows are held against the attacks' own times.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use watchfold_schemas::alert::Attack;
use watchfold_schemas::event::{
    Causes, CloseReason, EventBody, FLOOD_SUBJECTS_NAMED_MAX, Flood, FloodOf, Incident, IncidentClass,
    Severity,
};
use watchfold_schemas::{Span, Time};

use super::{IncidentsState, Timer, fresh, open_key, set_if};
use crate::fold::{Ctx, Moment};
use crate::incidents::attacks::UNHEARD_AFTER_MS;

/// Attacks of one category and severity that become incidents of their own within [`FLOOD_WINDOW_MS`].
pub const ALONE_MAX: usize = 5;

/// The window of that rule in milliseconds, and how long a flood without an attack remains open for the next.
pub const FLOOD_WINDOW_MS: u64 = 10 * 60_000;

/// Open attacks that belong to floods: as many as the packet chain has open. Further ones are counted as refused.
pub const JOINED_MAX: usize = 4_096;

/// Subjects of all floods that are told apart; beyond it a flood's number of subjects is a lower bound.
pub const SUBJECTS_TOLD_APART_MAX: usize = 4_096;

/// Categories of which it is known when their last attacks began; the one that was seen least recently goes first.
pub const CATEGORIES_MAX: usize = 256;

/// The latest attacks of a category and severity that are incidents of their own: when they began, and their subjects.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Recent {
    began: VecDeque<(Time, String)>,
}

/// What is known of a flood beside its incident.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Course {
    /// Attacks that go on.
    open: u64,
    /// When the last one ended so far.
    quiet_at: Time,
    /// Attacks when the incident was last emitted.
    told: u64,
}

/// An open attack that belongs to a flood.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Joined {
    flood: String,
    collector: String,
}

fn flood_key(attack: &Attack, severity: Severity) -> String {
    open_key(
        IncidentClass::Attack,
        &format!("flood {} {}", attack.category, severity as u8),
    )
}

impl IncidentsState {
    pub(super) fn joined_flood(&self, attack: &Attack) -> Option<String> {
        self.joined.get(&attack.id).map(|joined| joined.flood.clone())
    }

    /// Takes an attack that begins if it belongs to a flood; otherwise it becomes an incident of its own.
    pub(super) fn joins_flood(&mut self, attack: &Attack, causes: &Causes, ctx: &mut Ctx<'_>) -> bool {
        let key = flood_key(attack, attack.severity);
        self.end_if_quiet(&key, attack.began_at, ctx);
        if self.open.get(&key).is_none() && !self.is_crowded(&key, attack.began_at) {
            return false;
        }
        if self.joined.len() >= JOINED_MAX {
            self.attacks_refused += 1;
            return true;
        }
        let joined = Joined {
            flood: key.clone(),
            collector: attack.seen_by.collector.clone(),
        };
        self.joined.insert(&attack.id, joined);
        match self.open.get(&key).is_some() {
            true => self.flood_joined(&key, attack, ctx),
            false => self.flood_opened(&key, attack, causes.clone(), ctx),
        }
        ctx.cancel_timer(Timer::Quiet, &key);
        set_if(ctx, Timer::Unheard, &key, UNHEARD_AFTER_MS);
        true
    }

    /// Remembers an attack that became an incident of its own.
    pub(super) fn note_alone(&mut self, attack: &Attack) {
        let key = flood_key(attack, attack.severity);
        if self.recent.get(&key).is_none() && self.recent.len() >= CATEGORIES_MAX {
            let last = |recent: &Recent| recent.began.back().map(|(at, _)| *at);
            let oldest = self
                .recent
                .iter()
                .min_by_key(|(_, recent)| last(recent))
                .map(|(key, _)| key.clone());
            oldest.map(|key| self.recent.remove(&key));
        }
        let began = &mut self.recent.entry_or_default(&key).began;
        began.push_back((attack.began_at, attack.subject.clone()));
        while began.len() > ALONE_MAX {
            began.pop_front();
        }
    }

    fn is_crowded(&self, key: &str, at: Time) -> bool {
        let is_near = |began: Time| at.since(began).as_millis().unsigned_abs() < FLOOD_WINDOW_MS;
        self.recent.get(key).is_some_and(|recent| {
            recent.began.len() >= ALONE_MAX && recent.began.iter().all(|(began, _)| is_near(*began))
        })
    }

    /// Late attacks arrive without the silence between them, so it is held against their own times as well.
    fn end_if_quiet(&mut self, key: &str, at: Time, ctx: &mut Ctx<'_>) {
        let is_quiet = |course: &&Course| {
            course.open == 0 && at.since(course.quiet_at).as_millis() >= FLOOD_WINDOW_MS as i64
        };
        if self.courses.get(key).filter(is_quiet).is_some() {
            self.quiet(key, ctx);
        }
    }

    fn flood_opened(&mut self, key: &str, attack: &Attack, causes: Causes, ctx: &mut Ctx<'_>) {
        let first = self.recent.get(key).cloned().unwrap_or_default().began;
        let started_at = first
            .iter()
            .map(|(at, _)| *at)
            .fold(attack.began_at, std::cmp::Ord::min);
        let since = Moment {
            at: started_at,
            steady: ctx.moment.steady,
        };
        let mut flood = Flood {
            category: attack.category.clone(),
            title: attack.rule.title.clone(),
            of: of(attack),
            subjects: Vec::new(),
            subjects_total: 0,
            attacks_total: 0,
        };
        for (_, subject) in first {
            self.count(key, &mut flood, &subject);
        }
        self.count(key, &mut flood, &attack.subject);
        let course = Course {
            open: 1,
            quiet_at: attack.began_at,
            told: flood.attacks_total,
        };
        self.courses.insert(key, course);
        let class = IncidentClass::Attack;
        let id = Incident::derive_id(&ctx.config.site, class, key, attack.began_at);
        let subject = format!("{}:{}", class.name(), attack.category);
        let incident = Incident {
            severity: attack.severity,
            detail: Some(flood.in_words()),
            flood: Some(Box::new(flood)),
            ..fresh(class, id, &subject, since, ctx)
        };
        self.begin(key, incident, since, causes, ctx);
    }

    /// The incident is emitted again whenever the number of attacks has doubled.
    fn flood_joined(&mut self, key: &str, attack: &Attack, ctx: &mut Ctx<'_>) {
        let Some(mut flood) = self
            .open
            .get(key)
            .and_then(|open| open.incident.flood.as_deref().cloned())
        else {
            return;
        };
        self.count(key, &mut flood, &attack.subject);
        let total = flood.attacks_total;
        if let Some(open) = self.open.get_mut(key) {
            open.incident.detail = Some(flood.in_words());
            open.incident.flood = Some(Box::new(flood));
            if let Some(message) = ctx.message() {
                open.causes.push(message);
            }
        }
        let course = self.courses.entry_or_default(key);
        course.open += 1;
        if total >= course.told.saturating_mul(2) {
            course.told = total;
            self.flood_emitted(key, ctx);
        }
    }

    /// An attack of the flood rose: one that is worse than the flood was makes the flood worse.
    pub(super) fn flood_grew(&mut self, key: &str, attack: &Attack, ctx: &mut Ctx<'_>) {
        set_if(ctx, Timer::Unheard, key, UNHEARD_AFTER_MS);
        if self.flood_rises(key, attack.severity) {
            self.flood_emitted(key, ctx);
        }
    }

    pub(super) fn flood_left(&mut self, key: &str, attack: &Attack, ctx: &mut Ctx<'_>) {
        self.flood_rises(key, attack.severity);
        self.joined.remove(&attack.id);
        let course = self.courses.entry_or_default(key);
        course.open = course.open.saturating_sub(1);
        course.quiet_at = course.quiet_at.max(attack.ended_at.unwrap_or(ctx.moment.at));
        if course.open == 0 {
            set_if(ctx, Timer::Quiet, key, FLOOD_WINDOW_MS);
        }
    }

    /// No attack joined for a whole window after the last one had ended.
    pub(super) fn quiet(&mut self, key: &str, ctx: &mut Ctx<'_>) {
        let quiet_at = self.courses.get(key).map(|course| course.quiet_at);
        let until = Moment {
            at: quiet_at.unwrap_or(ctx.moment.at),
            steady: ctx.moment.steady,
        };
        self.flood_ended(key, CloseReason::Ended, until, ctx);
    }

    /// Attacks of a collector that is not expected back have ended.
    pub(super) fn floods_forgotten(&mut self, collector: &str, ctx: &mut Ctx<'_>) {
        let seen_by_it = self.joined.iter().filter(|(_, one)| one.collector == collector);
        let gone: Vec<(String, String)> = seen_by_it
            .map(|(id, one)| (id.clone(), one.flood.clone()))
            .collect();
        for (id, key) in gone {
            self.joined.remove(&id);
            let course = self.courses.entry_or_default(&key);
            course.open = course.open.saturating_sub(1);
            if course.open == 0 {
                self.flood_ended(&key, CloseReason::Removed, ctx.moment, ctx);
            }
        }
    }

    pub(super) fn is_flood(&self, key: &str) -> bool {
        self.courses.get(key).is_some()
    }

    pub(super) fn flood_ended(&mut self, key: &str, reason: CloseReason, until: Moment, ctx: &mut Ctx<'_>) {
        self.courses.remove(key);
        let joined = self.joined.iter().filter(|(_, one)| one.flood == key);
        let joined: Vec<String> = joined.map(|(id, _)| id.clone()).collect();
        for id in joined {
            self.joined.remove(&id);
        }
        let prefix = subject_key(key, "");
        for subject in self.subjects.keys() {
            if subject.starts_with(&prefix) {
                self.subjects.remove(&subject);
            }
        }
        self.end(key, reason, until, Span::ZERO, ctx);
    }

    fn flood_rises(&mut self, key: &str, severity: Severity) -> bool {
        match self.open.get(key) {
            Some(open) if open.incident.severity < severity => {}
            Some(_) | None => return false,
        }
        if let Some(open) = self.open.get_mut(key) {
            open.incident.severity = severity;
        }
        true
    }

    fn flood_emitted(&mut self, key: &str, ctx: &mut Ctx<'_>) {
        let Some(open) = self.open.get(key) else {
            return;
        };
        let (incident, causes) = (open.incident.clone(), open.causes.clone());
        ctx.emit_with(
            &incident.id.clone(),
            ctx.moment.at,
            causes,
            EventBody::IncidentEscalated(incident),
        );
    }

    fn count(&mut self, key: &str, flood: &mut Flood, subject: &str) {
        flood.attacks_total += 1;
        let known = subject_key(key, subject);
        if self.subjects.get(&known).is_some() || self.subjects.len() >= SUBJECTS_TOLD_APART_MAX {
            return;
        }
        self.subjects.insert(&known, true);
        flood.subjects_total += 1;
        if flood.subjects.len() < FLOOD_SUBJECTS_NAMED_MAX {
            flood.subjects.push(subject.to_owned());
        }
    }
}

fn subject_key(flood: &str, subject: &str) -> String {
    format!("{flood}\n{subject}")
}

fn of(attack: &Attack) -> FloodOf {
    let subject = Some(attack.subject.as_str());
    if subject == attack.source.ip.as_deref() {
        FloodOf::Sources
    } else if subject == attack.destination.ip.as_deref() {
        FloodOf::Targets
    } else {
        FloodOf::Subjects
    }
}
