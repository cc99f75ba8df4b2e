//! Alerts: the newest ones, and counts of all that were ever folded.
//!
//! Alerts of rules that only record are kept and counted apart: nobody was told of them, so they colour nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::alert::Alert;
use watchfold_schemas::event::Severity;
use watchfold_schemas::rules::RuleState;
use watchfold_schemas::{Chain, Event, Span, Time};

use super::shapes::{AlertShown, CategoryCount, SeverityCounts, Timeline};
use super::shared::Shared;
use super::told::Mark;

/// Alerts kept, the newest by time; the log has the rest. About 1.5 KB each.
pub const ALERTS_MAX: usize = 10_000;
/// Rules counted apart, by severity and state; further ones are counted under [`OTHER`].
pub const RULES_COUNTED_MAX: usize = 1_024;
/// Categories counted apart; further ones are counted under [`OTHER`].
pub const CATEGORIES_COUNTED_MAX: usize = 256;
/// What is counted together once a table of counts is full.
pub const OTHER: &str = "other";
/// The length of the timeline: an hour.
pub const TIMELINE_MINUTES: usize = 60;
/// Minutes with alerts kept: those of the timeline, and more where collectors' times differ. The oldest go.
const MINUTES_MAX: usize = 256;
const MINUTE: Span = Span::from_seconds(60);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alerts {
    by_time: BTreeMap<(Time, String), AlertEntry>,
    at_of: BTreeMap<String, Time>,
    /// Of each chain, the newest place that was folded: what is not beyond it was folded before.
    marks: BTreeMap<Chain, Mark>,
    severities: SeverityCounts,
    recorded: u64,
    categories: BTreeMap<String, u64>,
    rules: BTreeMap<RuleCounted, u64>,
    /// By the minute's first moment.
    minutes: BTreeMap<Time, SeverityCounts>,
    /// The name of the rule set that the newest alert of each chain came from.
    sets: BTreeMap<Chain, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertEntry {
    /// Of its event.
    pub id: String,
    pub at: Time,
    pub chain: Chain,
    pub alert: Shared<Alert>,
}

/// What the alerts of a rule are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleCounted {
    pub rule: String,
    pub severity: Severity,
    pub state: RuleState,
}

impl Alerts {
    /// Gives the entry's key, or nothing for an alert that was folded before.
    pub fn apply(&mut self, event: &Event, alert: &Alert) -> Option<(Time, String)> {
        let mark = self.marks.entry(event.chain).or_default();
        if self.at_of.contains_key(&event.id.0) || mark.outdates(event) {
            return None;
        }
        mark.advance(event);
        self.count(event.at, alert);
        self.sets.insert(event.chain, alert.rule.set.clone());
        let key = (event.at, event.id.0.clone());
        self.at_of.insert(event.id.0.clone(), event.at);
        self.by_time.insert(
            key.clone(),
            AlertEntry {
                id: event.id.0.clone(),
                at: event.at,
                chain: event.chain,
                alert: Shared::new(alert.clone()),
            },
        );
        while self.by_time.len() > ALERTS_MAX
            && let Some(((_, id), _)) = self.by_time.pop_first()
        {
            self.at_of.remove(&id);
        }
        Some(key)
    }

    pub fn get(&self, id: &str) -> Option<&AlertEntry> {
        self.at(&(*self.at_of.get(id)?, id.to_owned()))
    }

    pub fn at(&self, key: &(Time, String)) -> Option<&AlertEntry> {
        self.by_time.get(key)
    }

    /// Newest first, beginning after `cursor`.
    pub fn newest(&self, cursor: Option<(Time, String)>) -> impl Iterator<Item = &AlertEntry> {
        use std::ops::Bound::{Excluded, Unbounded};
        let end = cursor.map_or(Unbounded, Excluded);
        self.by_time.range((Unbounded, end)).rev().map(|(_, entry)| entry)
    }

    /// Of rules that are enforced.
    pub fn severities(&self) -> SeverityCounts {
        self.severities
    }

    /// Of rules that only record.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// Most alerts first.
    pub fn categories(&self) -> Vec<CategoryCount> {
        let counted = self.categories.iter();
        let mut categories: Vec<CategoryCount> = counted
            .map(|(category, count)| CategoryCount {
                category: category.clone(),
                count: *count,
            })
            .collect();
        categories.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.category.cmp(&b.category)));
        categories
    }

    pub fn rules(&self) -> &BTreeMap<RuleCounted, u64> {
        &self.rules
    }

    pub fn set_of(&self, chain: Chain) -> Option<&str> {
        self.sets.get(&chain).map(String::as_str)
    }

    /// The hour that ends with the minute of `now`.
    pub fn timeline(&self, now: Time) -> Timeline {
        let from = minute_of(now) - Span(MINUTE.0 * (TIMELINE_MINUTES as i64 - 1));
        let minutes = (0..TIMELINE_MINUTES as i64).map(|n| from + Span(MINUTE.0 * n));
        Timeline {
            from,
            minutes: minutes
                .map(|minute| self.minutes.get(&minute).copied().unwrap_or_default())
                .collect(),
        }
    }

    fn count(&mut self, at: Time, alert: &Alert) {
        let rule = RuleCounted {
            rule: alert.rule.name.clone(),
            severity: alert.severity,
            state: alert.state,
        };
        let other = RuleCounted {
            rule: OTHER.to_owned(),
            ..rule.clone()
        };
        bump(&mut self.rules, rule, other, RULES_COUNTED_MAX);
        if alert.state != RuleState::Enforce {
            self.recorded += 1;
            return;
        }
        self.severities.add(alert.severity);
        let (category, other) = (alert.category.clone(), OTHER.to_owned());
        bump(&mut self.categories, category, other, CATEGORIES_COUNTED_MAX);
        self.minutes.entry(minute_of(at)).or_default().add(alert.severity);
        while self.minutes.len() > MINUTES_MAX {
            self.minutes.pop_first();
        }
    }
}

/// Counts under `key`, or under `other` once the table is full.
fn bump<K: Ord>(table: &mut BTreeMap<K, u64>, key: K, other: K, max: usize) {
    let key = if table.contains_key(&key) || table.len() < max {
        key
    } else {
        other
    };
    *table.entry(key).or_default() += 1;
}

pub fn minute_of(at: Time) -> Time {
    at.floor(MINUTE)
}

impl From<&AlertEntry> for AlertShown {
    fn from(entry: &AlertEntry) -> AlertShown {
        AlertShown {
            id: entry.id.clone(),
            at: entry.at,
            chain: entry.chain,
            alert: entry.alert.clone(),
        }
    }
}
