//! What changed since the viewers were last told, by name. The view itself is made when they are told.

use std::collections::BTreeSet;

use watchfold_schemas::Time;
use watchfold_schemas::observation::PC_SUBJECT_PREFIX;

use super::shapes::Sample;

/// Samples waiting to be told; the oldest go first. Viewers are told many times a second, so this is a sweep of
/// thousands of targets.
pub const SAMPLES_PENDING_MAX: usize = 10_000;

/// Alerts told at once; of a burst, only the newest, and viewers learn that there were more.
pub const ALERTS_TOLD_MAX: usize = 100;

/// Attacks told as changes; where more changed, a whole state is less.
pub const ATTACKS_TOLD_MAX: usize = 200;

#[derive(Clone, Debug, Default)]
pub struct Dirty {
    pub targets: BTreeSet<String>,
    pub all_targets: bool,
    pub targets_removed: BTreeSet<String>,
    pub incidents: BTreeSet<String>,
    /// Requests for messages that were delivered.
    pub deliveries: BTreeSet<String>,
    pub pcs: BTreeSet<String>,
    pub all_pcs: bool,
    pub pcs_removed: BTreeSet<String>,
    pub sessions: BTreeSet<String>,
    pub maintenance: bool,
    pub occupancy: bool,
    pub heatmap: bool,
    pub samples: Vec<Sample>,
    /// Keys of the newest new alerts.
    pub alerts: BTreeSet<(Time, String)>,
    /// There were more than [`ALERTS_TOLD_MAX`].
    pub alerts_cut: bool,
    pub attacks: BTreeSet<String>,
    pub alert_totals: bool,
    pub rules: bool,
    /// Something changed that only a whole state can tell.
    pub restart: bool,
}

impl Dirty {
    /// Notes a subject by its name in events: a target, or `pc:<key>`.
    pub fn subject(&mut self, subject: &str) {
        match subject.strip_prefix(PC_SUBJECT_PREFIX) {
            Some(key) => self.pcs.insert(key.to_owned()),
            None => self.targets.insert(subject.to_owned()),
        };
    }

    pub fn sample(&mut self, sample: Sample) {
        if self.samples.len() >= SAMPLES_PENDING_MAX {
            self.samples.drain(..SAMPLES_PENDING_MAX / 10);
        }
        self.samples.push(sample);
    }

    pub fn alert(&mut self, key: (Time, String)) {
        self.alerts.insert(key);
        if self.alerts.len() > ALERTS_TOLD_MAX {
            self.alerts.pop_first();
            self.alerts_cut = true;
        }
    }

    pub fn attack(&mut self, id: &str) {
        self.attacks.insert(id.to_owned());
        if self.attacks.len() > ATTACKS_TOLD_MAX {
            self.attacks.clear();
            self.restart = true;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
            && !self.all_targets
            && self.targets_removed.is_empty()
            && self.incidents.is_empty()
            && self.deliveries.is_empty()
            && self.pcs.is_empty()
            && !self.all_pcs
            && self.pcs_removed.is_empty()
            && self.sessions.is_empty()
            && !self.maintenance
            && !self.occupancy
            && !self.heatmap
            && self.samples.is_empty()
            && self.alerts.is_empty()
            && self.attacks.is_empty()
            && !self.alert_totals
            && !self.rules
            && !self.restart
    }
}
