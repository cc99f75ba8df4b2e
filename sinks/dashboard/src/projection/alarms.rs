//! Joins alerts, attacks, incidents and rules into the shapes that viewers get.

use watchfold_schemas::{Chain, Time};

use super::Projection;
use super::attacks::{AttackEntry, threat};
use super::dirty::Dirty;
use super::shapes::{AlertShown, AlertTotals, AttackShown, Change, NewAlerts, RulesInForce};

/// Alerts in a whole state, the newest; the list has the rest. The page counts on this number and the next two.
pub const STATE_ALERTS: usize = 100;
/// Open attacks in a whole state, the newest.
const STATE_ATTACKS_OPEN: usize = 200;
/// Attacks that ended in a whole state.
const STATE_ATTACKS_ENDED: usize = 50;
/// Categories told with their counts.
const CATEGORIES_TOLD_MAX: usize = 50;

impl Projection {
    pub fn attack(&self, id: &str) -> Option<AttackShown> {
        self.told.attacks.get(id).map(|entry| self.attack_shown(entry))
    }

    /// Newest first, after `cursor` (when begun, id).
    pub fn attacks(&self, cursor: Option<(Time, String)>) -> impl Iterator<Item = AttackShown> {
        self.told
            .attacks
            .newest(cursor)
            .map(|entry| self.attack_shown(entry))
    }

    pub fn alert_totals(&self) -> AlertTotals {
        let alerts = &self.told.alerts;
        let attacks_open = self.told.attacks.open_by_severity();
        let mut categories = alerts.categories();
        categories.truncate(CATEGORIES_TOLD_MAX);
        AlertTotals {
            threat: threat(&attacks_open, self.monitoring.monitored),
            monitored: self.monitoring.monitored,
            packets_at: self.monitoring.packets_at,
            severities: alerts.severities(),
            recorded: alerts.recorded(),
            categories,
            attacks_open,
            timeline: alerts.timeline(self.now()),
        }
    }

    pub(super) fn state_alerts(&self) -> Vec<AlertShown> {
        let newest = self.told.alerts.newest(None).take(STATE_ALERTS);
        newest.map(AlertShown::from).collect()
    }

    pub(super) fn state_attacks(&self) -> Vec<AttackShown> {
        let (mut open, mut ended) = (0, 0);
        let attacks = self.told.attacks.newest(None).filter(|entry| {
            let (count, max) = match entry.attack.ended_at {
                None => (&mut open, STATE_ATTACKS_OPEN),
                Some(_) => (&mut ended, STATE_ATTACKS_ENDED),
            };
            *count += 1;
            *count <= max
        });
        attacks.map(|entry| self.attack_shown(entry)).collect()
    }

    /// The packets' rules stand in a stream that is not read here, so of them only what alerts say is known.
    pub(super) fn rules_in_force(&self) -> Vec<RulesInForce> {
        let chains = [Chain::Site, Chain::Packets];
        let known = chains.into_iter().filter_map(|chain| {
            let active = self.measured.rules.get(&chain);
            let set = active
                .map(|(set, _)| set.as_str())
                .or_else(|| self.told.alerts.set_of(chain))?;
            Some(RulesInForce {
                chain,
                set: set.to_owned(),
                active: active.map(|(_, active)| active.clone()),
            })
        });
        known.collect()
    }

    pub(super) fn alarm_changes(&self, dirty: &Dirty, changes: &mut Vec<Change>) {
        if !dirty.alerts.is_empty() {
            let news = dirty.alerts.iter();
            let items = news.filter_map(|key| self.told.alerts.at(key).map(AlertShown::from));
            changes.push(Change::Alerts(NewAlerts {
                items: items.collect(),
                cut: dirty.alerts_cut,
            }));
        }
        let attacks = dirty.attacks.iter().filter_map(|id| self.attack(id));
        changes.extend(attacks.map(|attack| Change::Attack(Box::new(attack))));
        if dirty.alert_totals {
            changes.push(Change::AlertTotals(self.alert_totals()));
        }
        if dirty.rules {
            changes.push(Change::Rules(self.rules_in_force()));
        }
    }

    fn attack_shown(&self, entry: &AttackEntry) -> AttackShown {
        let incident = self.told.incidents.of_attack(&entry.attack.id);
        AttackShown {
            attack: entry.attack.clone(),
            chain: entry.chain,
            event: entry.told_by.clone(),
            told_at: entry.told_at,
            incident: incident.map(str::to_owned),
        }
    }
}
