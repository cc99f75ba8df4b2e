//! What changed since the viewers were last told, by name. The view itself is made when they are told.

use std::collections::BTreeSet;

use watchfold_schemas::observation::PC_SUBJECT_PREFIX;

use super::shapes::Sample;

/// Samples waiting to be told; the oldest go first. Viewers are told many times a second, so this is a sweep of
/// thousands of targets.
pub const SAMPLES_PENDING_MAX: usize = 10_000;

#[derive(Clone, Debug, Default)]
pub struct Dirty {
    pub targets: BTreeSet<String>,
    pub all_targets: bool,
    pub targets_removed: BTreeSet<String>,
    pub incidents: BTreeSet<String>,
    pub pcs: BTreeSet<String>,
    pub all_pcs: bool,
    pub pcs_removed: BTreeSet<String>,
    pub sessions: BTreeSet<String>,
    pub maintenance: bool,
    pub occupancy: bool,
    pub heatmap: bool,
    pub samples: Vec<Sample>,
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

    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
            && !self.all_targets
            && self.targets_removed.is_empty()
            && self.incidents.is_empty()
            && self.pcs.is_empty()
            && !self.all_pcs
            && self.pcs_removed.is_empty()
            && self.sessions.is_empty()
            && !self.maintenance
            && !self.occupancy
            && !self.heatmap
            && self.samples.is_empty()
            && !self.restart
    }
}
