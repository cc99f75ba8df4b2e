//! How urgent a message is, and with which others it shares a rate. Pure, but for the clock of its rates.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use watchfold_schemas::event::{Incident, IncidentClass, Notice, Severity};

/// Messages of one kind that a destination gets at once. The last of them, if more wait, is a digest of all that wait.
pub(crate) const KIND_BURST_MAX: u32 = 10;

/// After a burst a destination gets one message of the kind in this time, in milliseconds: ten a minute. Discord takes 30
/// a minute in a channel, from all kinds.
pub(crate) const KIND_EVERY_MS: u64 = 6_000;

/// One message of so many goes to the oldest request of its lane, so that what is less urgent is late and not lost.
pub(crate) const BY_AGE_EVERY: u32 = 4;

/// Kinds of a lane whose rate is known; the one that was full again longest ago is forgotten.
const KINDS_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Outage,
    /// Critical and no outage. After outages, because attackers can make up many of these.
    Critical,
    /// Another incident that is no attack.
    Fault,
    Attack,
    /// Sessions and snapshots.
    Report,
}

pub(crate) fn rank(notice: &Notice) -> Rank {
    match the_incident(notice) {
        None => Rank::Report,
        Some(incident) => match incident.class {
            IncidentClass::Outage => Rank::Outage,
            _ if incident.severity == Severity::Critical => Rank::Critical,
            IncidentClass::Flapping
            | IncidentClass::CollectorSilent
            | IncidentClass::MeasurementFault
            | IncidentClass::Parity
            | IncidentClass::DeliveryFault => Rank::Fault,
            IncidentClass::Attack => Rank::Attack,
        },
    }
}

/// Messages of one kind share a rate, and can be one message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    rank: Rank,
    class: &'static str,
    /// Of attacks.
    category: String,
}

/// The kind of a message about an incident; `None` for others, and for updates, which make no sound.
pub(crate) fn kind(notice: &Notice) -> Option<Kind> {
    if let Notice::IncidentUpdated { .. } = notice {
        return None;
    }
    let incident = the_incident(notice)?;
    let attack = incident.attack.as_ref().map(|attack| &attack.category);
    let flood = incident.flood.as_ref().map(|flood| &flood.category);
    Some(Kind {
        rank: rank(notice),
        class: incident.class.name(),
        category: attack.or(flood).cloned().unwrap_or_default(),
    })
}

pub(crate) fn the_incident(notice: &Notice) -> Option<&Incident> {
    match notice {
        Notice::IncidentOpened { incident, .. }
        | Notice::IncidentUpdated { incident }
        | Notice::IncidentReminder { incident, .. }
        | Notice::IncidentClosed { incident, .. } => Some(incident),
        Notice::SessionsStarted { .. } | Notice::SessionsEnded { .. } | Notice::OccupancySnapshot { .. } => {
            None
        }
    }
}

/// What a lane has sent of late: when each kind's whole burst is allowed again.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    full_again: BTreeMap<Kind, Instant>,
    sent: u32,
}

impl Rates {
    pub(crate) fn allowed(&self, kind: &Kind, now: Instant) -> u32 {
        let Some(at) = self.full_again.get(kind) else {
            return KIND_BURST_MAX;
        };
        let missing = at.saturating_duration_since(now).as_millis();
        let missing = missing.div_ceil(u128::from(KIND_EVERY_MS));
        KIND_BURST_MAX.saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }

    pub(crate) fn is_by_age(&self) -> bool {
        self.sent % BY_AGE_EVERY == BY_AGE_EVERY - 1
    }

    pub(crate) fn sent(&mut self, kind: Option<&Kind>, now: Instant) {
        self.sent = self.sent.wrapping_add(1);
        let Some(kind) = kind else {
            return;
        };
        let at = self.full_again.entry(kind.clone()).or_insert(now);
        *at = (*at).max(now) + Duration::from_millis(KIND_EVERY_MS);
        if self.full_again.len() > KINDS_MAX
            && let Some((first, _)) = self.full_again.iter().min_by_key(|(_, at)| **at)
        {
            let first = first.clone();
            self.full_again.remove(&first);
        }
    }
}
