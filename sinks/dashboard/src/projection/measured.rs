//! The half of the projection that folds observations: the configuration in force, the time, what every address
//! answered last, live samples and minutes, the rules in force, and why somebody planned maintenance.
//!
//! It never looks at an event, so the two streams may arrive in any interleaving.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use watchfold_schemas::config::{self, Signal, SiteConfig};
use watchfold_schemas::observation::{
    Act, DeliveryOutcome, OperatorAct, Outcome, PC_SUBJECT_PREFIX, Parity, ParityVerdict, PingRound,
    PingRowRef, Receipt,
};
use watchfold_schemas::rules::{RuleState, RulesActivation};
use watchfold_schemas::{Body, Chain, Observation, Span, Time};

use super::dirty::Dirty;
use super::history::{MINUTES_MAX, MINUTES_TOTAL_MAX, hour_of, start_of_hour};
use super::sessions::HEATMAP_HOURS;
use super::shapes::{ActiveRules, Sample};
use super::target::{TargetSeen, UNMEASURED_INTERVALS};

/// Targets shown; a configuration with more has its first ones shown.
pub const TARGETS_MAX: usize = 2_000;
/// PCs shown: a /20.
pub const PCS_MAX: usize = 4_096;
/// PCs that were not measured for this long are not known to be absent.
const PCS_MEASURED_FOR: Span = Span::from_seconds(300);
/// Requests whose delivery is known; the oldest deliveries go first.
pub const DELIVERIES_MAX: usize = 10_000;
/// Notes of acknowledgements kept, the newest.
pub const ACKNOWLEDGEMENT_NOTES_MAX: usize = 1_000;
/// Notes of maintenance windows kept, the ones of windows that end last.
pub const MAINTENANCE_NOTES_MAX: usize = 1_000;
/// A PC that is seen all the time is told to viewers again after this; a change of its signals at once.
const PC_TOLD_EVERY: Span = Span::from_seconds(30);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The greatest tick.
    tick: Option<Time>,
    /// The latest record, for logs without ticks.
    latest_at: Option<Time>,
    pub config: Option<SiteConfig>,
    /// Since when a target or PC is configured, where the log tells; its state from before is another's.
    pub configured_at: BTreeMap<String, Time>,
    pub targets: BTreeMap<String, TargetSeen>,
    pub pcs: BTreeMap<String, PcSeen>,
    /// By hour, the first and last moment at which PCs were measured, in milliseconds of the hour.
    pub pc_hours: BTreeMap<i64, (i64, i64)>,
    /// By the window's id, when it ends and what was said about it: its event does not hold that.
    maintenance_notes: BTreeMap<String, (Time, String)>,
    /// By the incident's id, when it was acknowledged and what was said about it: its event does not hold that.
    acknowledgement_notes: BTreeMap<String, (Time, String)>,
    /// By the request's id, when the first sink delivered it.
    deliveries: BTreeMap<String, Time>,
    deliveries_by_time: BTreeSet<(Time, String)>,
    /// Rounds whose columns disagreed.
    pub malformed: u64,
    #[serde(default)]
    pub parity: ParityChecks,
    #[serde(default)]
    pub packet_parity: ParityChecks,
    /// The rules of each chain, with the name of their set, as far as they stand in this stream.
    pub rules: BTreeMap<Chain, (String, ActiveRules)>,
}

/// What became of the stretches of a chain that were folded again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParityChecks {
    pub agreed: u64,
    pub differed: u64,
    pub not_compared: u64,
    /// The latest one that agreed, by its first instant.
    pub agreed_hour: Option<Time>,
    pub checked_at: Option<Time>,
}

impl ParityChecks {
    fn note(&mut self, at: Time, parity: &Parity) {
        self.checked_at = self.checked_at.max(Some(at));
        match &parity.verdict {
            ParityVerdict::Agreed => {
                self.agreed += 1;
                self.agreed_hour = self.agreed_hour.max(Some(parity.hour));
            }
            ParityVerdict::Differed(_) => self.differed += 1,
            ParityVerdict::NotCompared { .. } => self.not_compared += 1,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PcSeen {
    pub seen_by: BTreeSet<Signal>,
    pub last_seen_at: Option<Time>,
    pub mac: Option<String>,
    /// The (incarnation, round) that `seen_by` is of.
    round: (u64, u64),
    told_seen_at: Option<Time>,
}

impl Measured {
    pub fn apply(&mut self, observation: &Observation, dirty: &mut Dirty) {
        self.latest_at = self.latest_at.max(Some(observation.observed_at));
        match &observation.body {
            Body::PingRound(round) => self.round(observation.origin.incarnation, round, dirty),
            Body::Tick(tick) => {
                let before = self.now().map(hour_of);
                self.tick = self.tick.max(Some(tick.now));
                dirty.heatmap |= before != self.now().map(hour_of);
            }
            Body::Activation(activation) => self.activate(activation.at, &activation.config, dirty),
            Body::Operator(act) => self.operator(act, dirty),
            Body::Parity(parity) => {
                let checks = match parity.chain {
                    Chain::Site => &mut self.parity,
                    Chain::Packets => &mut self.packet_parity,
                };
                checks.note(observation.observed_at, parity);
            }
            // Their consequences arrive as events.
            Body::Quiet | Body::Fault(_) | Body::Gap(_) | Body::Finding(_) => {}
            Body::Receipt(receipt) => self.receipt(receipt, dirty),
            Body::Rules(activation) => self.rules_came_into_force(activation, dirty),
            // They stand in a stream that is not read here.
            Body::Batch(_) | Body::Verdict(_) => {}
        }
    }

    /// The greatest tick; where nothing ticks, the latest record.
    pub fn now(&self) -> Option<Time> {
        self.tick.or(self.latest_at)
    }

    pub fn target_configs(&self) -> &[config::Target] {
        let targets = self
            .config
            .as_ref()
            .map_or(&[][..], |config| &config.network.targets);
        &targets[..targets.len().min(TARGETS_MAX)]
    }

    pub fn pc_configs(&self) -> &[config::PcHost] {
        let hosts = self
            .config
            .as_ref()
            .map_or(&[][..], |config| &config.occupancy.hosts);
        &hosts[..hosts.len().min(PCS_MAX)]
    }

    pub fn acknowledgement_note(&self, incident: &str) -> Option<&str> {
        self.acknowledgement_notes
            .get(incident)
            .map(|(_, note)| note.as_str())
    }

    /// When a PC was last probed with a result, whatever it was.
    pub fn pcs_measured_at(&self) -> Option<Time> {
        let (hour, (_, last_ms)) = self.pc_hours.last_key_value()?;
        Some(start_of_hour(*hour) + Span::from_millis(*last_ms))
    }

    /// Whether it is known which PCs are present. Without PCs there is nothing to know.
    pub fn are_pcs_measured(&self) -> bool {
        let interval_ms = self
            .config
            .as_ref()
            .map_or(0, |config| config.occupancy.interval_ms);
        let interval_ms = i64::try_from(interval_ms).unwrap_or(i64::MAX);
        let recent = PCS_MEASURED_FOR.max(Span::from_millis(
            interval_ms.saturating_mul(UNMEASURED_INTERVALS),
        ));
        match (self.now(), self.pcs_measured_at()) {
            (Some(now), Some(at)) => now.since(at) <= recent,
            _ => false,
        }
    }

    pub fn maintenance_note(&self, id: &str) -> Option<&str> {
        self.maintenance_notes.get(id).map(|(_, note)| note.as_str())
    }

    /// When a request was first delivered, alone or within another message.
    pub fn delivered_at(&self, request: &str) -> Option<Time> {
        self.deliveries.get(request).copied()
    }

    fn receipt(&mut self, receipt: &Receipt, dirty: &mut Dirty) {
        if !matches!(
            receipt.outcome,
            DeliveryOutcome::Delivered | DeliveryOutcome::Merged
        ) {
            return;
        }
        for request in &receipt.requests {
            let request = &request.0;
            if let Some(known) = self.deliveries.get(request).copied() {
                if known <= receipt.at {
                    continue;
                }
                self.deliveries_by_time.remove(&(known, request.clone()));
            }
            self.deliveries.insert(request.clone(), receipt.at);
            self.deliveries_by_time.insert((receipt.at, request.clone()));
            dirty.deliveries.insert(request.clone());
            while self.deliveries.len() > DELIVERIES_MAX
                && let Some((_, oldest)) = self.deliveries_by_time.pop_first()
            {
                self.deliveries.remove(&oldest);
            }
        }
    }

    fn rules_came_into_force(&mut self, activation: &RulesActivation, dirty: &mut Dirty) {
        let of = |state| {
            let rules = activation.set.rules.iter();
            rules.filter(|rule| rule.state == state).count() as u64
        };
        let active = ActiveRules {
            since: activation.at,
            hash: activation.hash.clone(),
            enforced: of(RuleState::Enforce),
            recorded: of(RuleState::Record),
            off: of(RuleState::Off),
        };
        let named = (activation.set.name.clone(), active);
        self.rules.insert(activation.chain, named);
        dirty.rules = true;
    }

    /// Keeps what was said with an act; what an act leads to arrives as events.
    fn operator(&mut self, act: &OperatorAct, dirty: &mut Dirty) {
        if let Act::Acknowledge { incident } = &act.act
            && let Some(note) = &act.note
        {
            self.acknowledgement_notes
                .insert(incident.clone(), (act.at, note.clone()));
            dirty.incidents.insert(incident.clone());
            if self.acknowledgement_notes.len() > ACKNOWLEDGEMENT_NOTES_MAX {
                let notes = self.acknowledgement_notes.iter();
                let oldest = notes.min_by_key(|(id, (at, _))| (*at, *id));
                if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                    self.acknowledgement_notes.remove(&id);
                }
            }
        }
        if let Act::Maintenance { id, until, .. } = &act.act
            && let Some(note) = &act.note
        {
            self.maintenance_notes.insert(id.clone(), (*until, note.clone()));
            dirty.maintenance = true;
            if self.maintenance_notes.len() > MAINTENANCE_NOTES_MAX {
                let notes = self.maintenance_notes.iter();
                let first_over = notes.min_by_key(|(id, (until, _))| (*until, *id));
                if let Some(id) = first_over.map(|(id, _)| id.clone()) {
                    self.maintenance_notes.remove(&id);
                }
            }
        }
    }

    fn activate(&mut self, at: Time, config: &SiteConfig, dirty: &mut Dirty) {
        let before = self.config.replace(config.clone());
        let targets: BTreeSet<String> = self
            .target_configs()
            .iter()
            .map(|target| target.name.clone())
            .collect();
        let pcs: BTreeSet<String> = self.pc_configs().iter().map(|pc| pc.key().to_owned()).collect();
        for name in self.targets.keys().filter(|name| !targets.contains(*name)) {
            dirty.targets_removed.insert(name.clone());
        }
        for key in self.pcs.keys().filter(|key| !pcs.contains(*key)) {
            dirty.pcs_removed.insert(key.clone());
        }
        // What the first activation names may have been there long before the log begins.
        let first = before.is_none();
        let subjects: BTreeSet<String> = targets
            .iter()
            .cloned()
            .chain(pcs.iter().map(|key| format!("{PC_SUBJECT_PREFIX}{key}")))
            .collect();
        self.configured_at.retain(|name, _| subjects.contains(name));
        for name in &targets {
            if !self.targets.contains_key(name) && !first {
                self.configured_at.insert(name.clone(), at);
            }
            self.targets.entry(name.clone()).or_default();
        }
        for key in &pcs {
            self.pcs.entry(key.clone()).or_default();
        }
        for target in config.network.targets.iter().take(TARGETS_MAX) {
            if let Some(seen) = self.targets.get_mut(&target.name) {
                seen.interval_ms = target.interval_ms;
            }
        }
        self.targets.retain(|name, _| targets.contains(name));
        self.pcs.retain(|key, _| pcs.contains(key));
        dirty.targets_removed.retain(|name| !targets.contains(name));
        dirty.pcs_removed.retain(|key| !pcs.contains(key));
        dirty.all_targets = true;
        dirty.all_pcs = true;
        dirty.occupancy = true;
        dirty.heatmap = true;
        // The order of targets and the site's zone stand in the whole state only.
        dirty.restart |= before.is_none_or(|before| {
            let names = |config: &SiteConfig| -> Vec<String> {
                config
                    .network
                    .targets
                    .iter()
                    .map(|target| target.name.clone())
                    .collect()
            };
            before.time_zone != config.time_zone || names(&before) != names(config)
        });
    }

    fn round(&mut self, incarnation: u64, round: &PingRound, dirty: &mut Dirty) {
        let Ok(rows) = round.rows() else {
            self.malformed += 1;
            return;
        };
        let minutes_kept = (MINUTES_TOTAL_MAX / self.targets.len().max(1)).min(MINUTES_MAX);
        let mut by_target: BTreeMap<&str, Vec<&PingRowRef<'_>>> = BTreeMap::new();
        let mut by_pc: BTreeMap<&str, Vec<&PingRowRef<'_>>> = BTreeMap::new();
        for row in &rows {
            match row.subject.strip_prefix(PC_SUBJECT_PREFIX) {
                Some(key) => by_pc.entry(key).or_default().push(row),
                None => by_target.entry(row.subject).or_default().push(row),
            }
        }
        for (name, rows) in by_target {
            if let Some(target) = self.targets.get_mut(name)
                && let Some((at, outcome, rtt_us)) = target.measure(incarnation, &rows, minutes_kept)
            {
                dirty.sample(Sample {
                    target: name.to_owned(),
                    at,
                    outcome,
                    rtt_us,
                });
                dirty.targets.insert(name.to_owned());
            }
        }
        for (key, rows) in by_pc {
            let Some(pc) = self.pcs.get_mut(key) else { continue };
            if pc.see((incarnation, round.round), &rows) {
                dirty.pcs.insert(key.to_owned());
            }
            for row in rows.iter().filter(|row| row.outcome != Outcome::Fault) {
                note_hour(&mut self.pc_hours, row.at);
            }
        }
    }
}

impl PcSeen {
    /// Gives whether that is worth telling viewers.
    fn see(&mut self, round: (u64, u64), rows: &[&PingRowRef<'_>]) -> bool {
        let answered = rows.iter().filter(|row| row.outcome == Outcome::Ok);
        let mut seen_by: BTreeSet<Signal> = answered.clone().map(|row| row.signal).collect();
        if self.round == round {
            // A retry, or the rest of a sweep that took several records.
            seen_by.extend(self.seen_by.iter().copied());
        }
        self.round = round;
        self.last_seen_at = self.last_seen_at.max(answered.map(|row| row.at).max());
        let mac = rows.iter().rev().find_map(|row| row.mac);
        let moved = mac.is_some() && mac != self.mac.as_deref();
        if let Some(mac) = mac {
            self.mac = Some(mac.to_owned());
        }
        let changed = seen_by != self.seen_by;
        self.seen_by = seen_by;
        let due = match (self.told_seen_at, self.last_seen_at) {
            (Some(told), Some(seen)) => seen.since(told) >= PC_TOLD_EVERY,
            (told, seen) => told != seen,
        };
        if changed || moved || due {
            self.told_seen_at = self.last_seen_at;
        }
        changed || moved || due
    }
}

fn note_hour(hours: &mut BTreeMap<i64, (i64, i64)>, at: Time) {
    let hour = hour_of(at);
    let offset_ms = at.since(start_of_hour(hour)).as_millis();
    let span = hours.entry(hour).or_insert((offset_ms, offset_ms));
    *span = (span.0.min(offset_ms), span.1.max(offset_ms));
    if hours.len() as i64 > HEATMAP_HOURS {
        hours.pop_first();
    }
}
