//! The projection: what the page shows, as a pure fold of the events and the observations of one site.
//!
//! It has no clock and does no I/O; its `now` is the greatest tick. Each stream is folded by its own half and the
//! view joins the two, so how the streams interleave cannot matter.

mod alarms;
mod alerts;
mod attacks;
mod dirty;
mod heatmap;
mod history;
mod measured;
mod sessions;
pub mod shapes;
pub mod shared;
mod target;
mod told;
mod uptime;
mod view;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::event::Session;
use watchfold_schemas::observation::Outcome;
use watchfold_schemas::{Chain, Event, Observation, Time};

use alerts::{AlertEntry, RuleCounted};
use dirty::Dirty;
use measured::Measured;
use shapes::{Change, HistoryPoint, Position};
use told::{IncidentEntry, MAINTENANCE_PREFIX, Told};

pub use history::{HOURS_MAX, MINUTES_MAX};
pub use measured::ParityChecks;
#[cfg(test)]
pub use {
    alarms::STATE_ALERTS,
    view::{STATE_INCIDENTS_CLOSED, STATE_SESSIONS_ENDED},
};

/// Both halves and where they stand; see the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Projection {
    position: Position,
    told: Told,
    measured: Measured,
    #[serde(skip)]
    monitoring: Monitoring,
    #[serde(skip)]
    dirty: Dirty,
}

/// Whether packets are captured and judged, as far as the server sees. It is of the moment and not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Monitoring {
    pub monitored: bool,
    /// When the log got its newest packets.
    pub packets_at: Option<Time>,
}

/// What viewers have to be told.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Only a whole new state tells it.
    pub restart: bool,
    pub list: Vec<Change>,
}

/// The distance of the points of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    Minute,
    Hour,
    /// A day in UTC.
    Day,
}

impl Projection {
    pub fn apply_event(&mut self, sequence: u64, event: &Event) {
        self.position.events = sequence;
        let before = alerts::minute_of(self.now());
        self.told.apply(event, &mut self.dirty);
        self.note_minute(before);
    }

    pub fn apply_observation(&mut self, sequence: u64, observation: &Observation) {
        self.position.observations = sequence;
        let before = alerts::minute_of(self.now());
        let measured = self.measured.are_pcs_measured();
        self.measured.apply(observation, &mut self.dirty);
        self.note_minute(before);
        self.dirty.occupancy |= measured != self.measured.are_pcs_measured();
    }

    /// The timeline of alerts moves with the minutes, also when nothing is raised.
    fn note_minute(&mut self, before: Time) {
        self.dirty.alert_totals |= before != alerts::minute_of(self.now());
    }

    /// Takes what the server sees of the capturing. Newer packets alone are no news.
    pub fn set_monitoring(&mut self, monitoring: Monitoring) {
        self.dirty.alert_totals |= self.monitoring.monitored != monitoring.monitored;
        self.monitoring = monitoring;
    }

    /// Notes records that were read and say nothing, so that the position does not fall behind.
    pub fn skip_event(&mut self, sequence: u64) {
        self.position.events = sequence;
    }

    pub fn skip_observation(&mut self, sequence: u64) {
        self.position.observations = sequence;
    }

    pub fn position(&self) -> Position {
        self.position
    }

    /// The greatest tick, or the latest record where nothing ticks.
    pub fn now(&self) -> Time {
        self.measured.now().or(self.told.latest_at).unwrap_or(Time::EPOCH)
    }

    pub fn has_changes(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// What changed since the last call, as it is now.
    pub fn take_changes(&mut self) -> Changes {
        let dirty = std::mem::take(&mut self.dirty);
        let list = if dirty.restart {
            Vec::new()
        } else {
            self.changes_of(dirty.clone())
        };
        Changes {
            restart: dirty.restart,
            list,
        }
    }

    /// Forgets what changed: nobody is watching yet.
    pub fn forget_changes(&mut self) {
        self.dirty = Dirty::default();
    }

    /// Whether a target of this name is configured.
    pub fn has_target(&self, name: &str) -> bool {
        self.measured
            .target_configs()
            .iter()
            .any(|target| target.name == name)
    }

    /// Whether a maintenance window of this id is planned or runs.
    pub fn has_maintenance(&self, id: &str) -> bool {
        self.told
            .silences
            .get(&format!("{MAINTENANCE_PREFIX}{id}"))
            .is_some_and(|known| known.silence.active)
    }

    pub fn incident(&self, id: &str) -> Option<&IncidentEntry> {
        self.told.incidents.get(id)
    }

    /// Newest first, after `cursor` (when opened, id).
    pub fn incidents(&self, cursor: Option<(Time, String)>) -> impl Iterator<Item = &IncidentEntry> {
        self.told.incidents.newest(cursor)
    }

    pub fn alert(&self, id: &str) -> Option<&AlertEntry> {
        self.told.alerts.get(id)
    }

    /// Newest first, after `cursor` (when raised, id).
    pub fn alerts(&self, cursor: Option<(Time, String)>) -> impl Iterator<Item = &AlertEntry> {
        self.told.alerts.newest(cursor)
    }

    /// How many alerts there were of each rule, by severity and state.
    pub fn alerts_by_rule(&self) -> &BTreeMap<RuleCounted, u64> {
        self.told.alerts.rules()
    }

    /// More alerts or attacks than are told at once are waiting to be told.
    pub fn has_burst(&self) -> bool {
        self.dirty.alerts_cut || self.dirty.restart
    }

    pub fn session(&self, id: &str) -> Option<&Session> {
        self.told.sessions.get(id)
    }

    /// Newest first, after `cursor` (start, id).
    pub fn sessions(&self, cursor: Option<(Time, String)>) -> impl Iterator<Item = &Session> {
        self.told.sessions.newest(cursor)
    }

    /// Points whose period begins in `from..to`, oldest first; `None` for a target that is not configured.
    pub fn history(
        &self,
        target: &str,
        resolution: Resolution,
        from: Time,
        to: Time,
        limit: usize,
    ) -> Option<Vec<HistoryPoint>> {
        let seen = self.measured.targets.get(target)?;
        let rollups = self.told.rollups.get(target);
        let empty = history::Rollups::default();
        Some(match resolution {
            Resolution::Minute => seen.minutes.points(from, to, limit),
            Resolution::Hour => rollups
                .unwrap_or(&empty)
                .hour_points(Some(&seen.minutes), from, to, limit),
            Resolution::Day => rollups.unwrap_or(&empty).day_points(from, to, limit),
        })
    }

    /// What the latest probe of each target gave, all its addresses together.
    pub fn latest_outcomes(&self) -> BTreeMap<String, Outcome> {
        let latest = self
            .measured
            .targets
            .iter()
            .filter_map(|(name, seen)| Some((name.clone(), seen.latest?)));
        latest.collect()
    }

    /// Live things that a limit pushed out.
    pub fn evicted(&self) -> u64 {
        self.told.evicted
    }

    /// What became of the hours that were folded again.
    pub fn parity(&self, chain: Chain) -> &ParityChecks {
        match chain {
            Chain::Site => &self.measured.parity,
            Chain::Packets => &self.measured.packet_parity,
        }
    }

    /// Rounds whose columns disagreed.
    pub fn malformed(&self) -> u64 {
        self.measured.malformed
    }
}

#[cfg(test)]
mod tests;
