//! The half of the projection that folds observations: the configuration in force, the time, what every address
//! answered last, live samples and minutes, the rules in force, and why somebody planned maintenance.
//!
//! It never looks at an event, so the two streams may arrive in any interleaving.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use watchfold_schemas::config::{self, Signal, SiteConfig};
use watchfold_schemas::observation::{
    Act, OperatorAct, Outcome, PC_SUBJECT_PREFIX, Parity, ParityVerdict, PingRound, PingRowRef,
};
use watchfold_schemas::rules::{RuleState, RulesActivation};
use watchfold_schemas::{Body, Chain, Observation, Span, Time};

use super::dirty::Dirty;
use super::history::{MINUTES_MAX, MINUTES_TOTAL_MAX, Minutes, hour_of, start_of_hour};
use super::sessions::HEATMAP_HOURS;
use super::shapes::{ActiveRules, Sample};

/// Targets shown; a configuration with more has its first ones shown.
pub const TARGETS_MAX: usize = 2_000;
/// PCs shown: a /20.
pub const PCS_MAX: usize = 4_096;
/// Addresses kept of one target, by the latest answer.
pub const ADDRESSES_MAX: usize = 64;
/// Live samples of one target: 30 minutes …
pub const SAMPLES_SPAN: Span = Span::from_seconds(30 * 60);
/// … and no more than this many, however short the interval.
pub const SAMPLES_MAX: usize = 1_800;
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
pub struct TargetSeen {
    pub addresses: BTreeMap<(String, Signal), AddressSeen>,
    pub rtt_us: Option<u32>,
    pub latest: Option<Outcome>,
    pub last_measured_at: Option<Time>,
    pub samples: VecDeque<(Time, Outcome, Option<u32>)>,
    pub minutes: Minutes,
    jitter_from_us: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressSeen {
    pub at: Time,
    pub outcome: Outcome,
    pub rtt_us: Option<u32>,
    pub detail: Option<String>,
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
            Body::Quiet | Body::Fault(_) | Body::Gap(_) | Body::Receipt(_) | Body::Finding(_) => {}
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

    pub fn maintenance_note(&self, id: &str) -> Option<&str> {
        self.maintenance_notes.get(id).map(|(_, note)| note.as_str())
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

    /// Keeps what a window was planned for; what an act leads to arrives as events.
    fn operator(&mut self, act: &OperatorAct, dirty: &mut Dirty) {
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
                && let Some((at, outcome, rtt_us)) = target.measure(&rows, minutes_kept)
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

impl TargetSeen {
    /// Takes the rows of one round, in time order, and gives the sample that stands for them.
    fn measure(
        &mut self,
        rows: &[&PingRowRef<'_>],
        minutes_kept: usize,
    ) -> Option<(Time, Outcome, Option<u32>)> {
        for row in rows {
            self.addresses.insert(
                (row.address.to_owned(), row.signal),
                AddressSeen {
                    at: row.at,
                    outcome: row.outcome,
                    rtt_us: row.rtt_us,
                    detail: row.detail.map(str::to_owned),
                },
            );
            if row.outcome != Outcome::Fault {
                self.last_measured_at = self.last_measured_at.max(Some(row.at));
            }
            if let Some(minute) = self.minutes.entry(row.at, minutes_kept) {
                minute.probes += 1;
                minute.answered += u64::from(row.outcome == Outcome::Ok);
                minute.faults += u64::from(row.outcome == Outcome::Fault);
                if let Some(rtt_us) = row.rtt_us {
                    minute.rtt.record(rtt_us);
                }
            }
        }
        while self.addresses.len() > ADDRESSES_MAX {
            let oldest = self
                .addresses
                .iter()
                .min_by_key(|(key, seen)| (seen.at, *key))
                .map(|(key, _)| key.clone());
            self.addresses.remove(&oldest?);
        }
        let best = best_of(rows)?;
        let sample = (best.at, best.outcome, best.rtt_us);
        self.rtt_us = best.rtt_us;
        self.latest = Some(best.outcome);
        self.jitter(best, minutes_kept);
        self.samples.push_back(sample);
        let oldest = best.at - SAMPLES_SPAN;
        while self.samples.len() > SAMPLES_MAX || self.samples.front().is_some_and(|(at, ..)| *at < oldest) {
            self.samples.pop_front();
        }
        Some(sample)
    }

    fn jitter(&mut self, best: &PingRowRef<'_>, minutes_kept: usize) {
        let before = std::mem::replace(&mut self.jitter_from_us, best.rtt_us);
        if let (Some(before), Some(rtt_us)) = (before, best.rtt_us)
            && let Some(minute) = self.minutes.entry(best.at, minutes_kept)
        {
            minute.jitter_sum_us += u64::from(before.abs_diff(rtt_us));
            minute.jitter_count += 1;
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

/// The fastest answer, or else the first row that says something about the target.
fn best_of<'a, 'r>(rows: &[&'a PingRowRef<'r>]) -> Option<&'a PingRowRef<'r>> {
    let answered = rows.iter().filter(|row| row.outcome == Outcome::Ok);
    let fastest = answered.min_by_key(|row| (row.rtt_us.is_none(), row.rtt_us));
    let failed = || rows.iter().find(|row| row.outcome != Outcome::Fault);
    fastest.or_else(failed).or(rows.first()).copied()
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
