//! Attacks by when they began: the open ones and the newest that ended, and what the open ones amount to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::alert::{Alert, Attack};
use watchfold_schemas::event::Severity;
use watchfold_schemas::rules::RuleState;
use watchfold_schemas::{Chain, Event, Time};

use super::shapes::{SeverityCounts, Threat};
use super::told::Mark;

/// Open attacks kept; the oldest go first, counted.
pub const ATTACKS_OPEN_MAX: usize = 2_000;
/// Attacks that ended and are kept; the log has the rest.
pub const ATTACKS_ENDED_MAX: usize = 1_000;
/// More open attacks of severity high than this are a high threat.
const HIGH_MANY: u64 = 5;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attacks {
    by_beginning: BTreeMap<(Time, String), AttackEntry>,
    began_at: BTreeMap<String, Time>,
    ended: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttackEntry {
    pub attack: Attack,
    pub chain: Chain,
    pub told_by: String,
    pub told_at: Time,
    mark: Mark,
}

impl Attacks {
    pub fn get(&self, id: &str) -> Option<&AttackEntry> {
        self.by_beginning.get(&(*self.began_at.get(id)?, id.to_owned()))
    }

    /// Newest first, beginning after `cursor`.
    pub fn newest(&self, cursor: Option<(Time, String)>) -> impl Iterator<Item = &AttackEntry> {
        use std::ops::Bound::{Excluded, Unbounded};
        let end = cursor.map_or(Unbounded, Excluded);
        self.by_beginning
            .range((Unbounded, end))
            .rev()
            .map(|(_, entry)| entry)
    }

    pub fn open(&self) -> impl Iterator<Item = &AttackEntry> {
        self.newest(None).filter(|entry| entry.attack.ended_at.is_none())
    }

    /// Open ones of rules that are enforced.
    pub fn open_by_severity(&self) -> SeverityCounts {
        let mut counts = SeverityCounts::default();
        for entry in self
            .open()
            .filter(|entry| entry.attack.state == RuleState::Enforce)
        {
            counts.add(entry.attack.severity);
        }
        counts
    }

    /// Gives how many open ones a limit pushed out.
    pub fn apply(&mut self, event: &Event, attack: &Attack) -> u64 {
        if let Some(known) = self.get(&attack.id) {
            if known.mark.outdates(event) {
                return 0;
            }
            let key = (known.attack.began_at, attack.id.clone());
            self.remove(&key);
        }
        self.ended += usize::from(attack.ended_at.is_some());
        self.began_at.insert(attack.id.clone(), attack.began_at);
        self.by_beginning.insert(
            (attack.began_at, attack.id.clone()),
            AttackEntry {
                attack: attack.clone(),
                chain: event.chain,
                told_by: event.id.0.clone(),
                told_at: event.at,
                mark: Mark::of(event),
            },
        );
        self.evict()
    }

    /// Between the events of an attack, which are few, its alerts tell how it goes on. Gives whether it is known and open.
    pub fn went_on(&mut self, event: &Event, alert: &Alert) -> bool {
        let Some(began_at) = self.began_at.get(&alert.attack) else {
            return false;
        };
        let key = (*began_at, alert.attack.clone());
        let Some(entry) = self.by_beginning.get_mut(&key) else {
            return false;
        };
        let attack = &mut entry.attack;
        if attack.ended_at.is_some() || entry.mark.outdates(event) {
            return false;
        }
        attack.alerts += 1;
        attack.last_at = attack.last_at.max(event.at);
        if alert.measured.observed > attack.peak.observed {
            attack.peak = alert.measured;
            attack.peak_at = event.at;
        }
        true
    }

    fn evict(&mut self) -> u64 {
        let mut evicted = 0;
        while self.ended > ATTACKS_ENDED_MAX {
            let Some(key) = self.oldest(|entry| entry.attack.ended_at.is_some()) else {
                break;
            };
            self.remove(&key);
        }
        while self.by_beginning.len() - self.ended > ATTACKS_OPEN_MAX {
            let Some(key) = self.oldest(|entry| entry.attack.ended_at.is_none()) else {
                break;
            };
            self.remove(&key);
            evicted += 1;
        }
        evicted
    }

    fn oldest(&self, wanted: impl Fn(&AttackEntry) -> bool) -> Option<(Time, String)> {
        self.by_beginning
            .iter()
            .find(|(_, entry)| wanted(entry))
            .map(|(key, _)| key.clone())
    }

    fn remove(&mut self, key: &(Time, String)) {
        if let Some(entry) = self.by_beginning.remove(key) {
            self.ended -= usize::from(entry.attack.ended_at.is_some());
            self.began_at.remove(&key.1);
        }
    }
}

/// What the open attacks amount to. It falls as they end; that nothing is open is good only while somebody looks.
pub fn threat(open: &SeverityCounts, monitored: bool) -> Threat {
    let of = |severity| open.of(severity);
    match (of(Severity::Critical), of(Severity::High), of(Severity::Medium)) {
        (1.., _, _) => Threat::Critical,
        (0, high, _) if high > HIGH_MANY => Threat::High,
        (0, 1.., _) => Threat::Elevated,
        (0, 0, 1..) => Threat::Moderate,
        (0, 0, 0) if monitored => Threat::Normal,
        (0, 0, 0) => Threat::NotMonitored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threat_is_what_is_open() {
        for (critical, high, medium, want) in [
            (0, 0, 0, Threat::Normal),
            (0, 0, 1, Threat::Moderate),
            (0, 0, 900, Threat::Moderate),
            (0, 1, 900, Threat::Elevated),
            (0, 5, 0, Threat::Elevated),
            (0, 6, 0, Threat::High),
            (1, 0, 0, Threat::Critical),
            (1, 6, 1, Threat::Critical),
        ] {
            // Low and informational ones are no threat.
            let open = SeverityCounts([7, 7, medium, high, critical]);
            assert_eq!(threat(&open, true), want, "{open:?}");
            let unmonitored = match want {
                Threat::Normal => Threat::NotMonitored,
                found => found,
            };
            assert_eq!(threat(&open, false), unmonitored, "{open:?}, and nobody looks");
        }
    }
}
