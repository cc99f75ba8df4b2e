//! The versions of everything that keeps state in the site chain, and whose a stored entry is.

use super::SiteChain;
use crate::fold::{Fold, FoldId, FoldState};
use crate::history::History;
use crate::incidents::Incidents;
use crate::liveness::Liveness;
use crate::machine::{LoadError, version_of};
use crate::notify::Notify;
use crate::occupancy::Occupancy;
use crate::rules::Rules;

/// The version of what the chain itself keeps: clocks, timers, configuration.
const CHAIN_VERSION: u32 = 1;

/// The versions of everything that derives here.
pub(crate) const fn versions() -> [(&'static str, u32); 7] {
    [
        ("chain", CHAIN_VERSION),
        (Liveness::ID.name(), Liveness::VERSION),
        (Occupancy::ID.name(), Occupancy::VERSION),
        (History::ID.name(), History::VERSION),
        (Rules::ID.name(), Rules::VERSION),
        (Incidents::ID.name(), Incidents::VERSION),
        (Notify::ID.name(), Notify::VERSION),
    ]
}

impl SiteChain {
    /// Takes over the entry of whoever's it is.
    pub(super) fn load_entry(
        &mut self,
        versions: &[(String, u32)],
        key: &[u8],
        bytes: &[u8],
    ) -> Result<(), LoadError> {
        match self.take_entry(versions, key, bytes) {
            Ok(true) => Ok(()),
            Ok(false) => Err(LoadError::UnknownEntry {
                key: String::from_utf8_lossy(key).into_owned(),
            }),
            Err(damage) => Err(LoadError::Damaged(damage)),
        }
    }

    fn take_entry(&mut self, versions: &[(String, u32)], key: &[u8], bytes: &[u8]) -> Result<bool, String> {
        let version = |id: FoldId| version_of(versions, id.name());
        Ok(self.stored_config.load(key, bytes)?
            || self.clocks.load(key, bytes)?
            || self.timers.load(key, bytes)?
            || self.hours.load(key, bytes)?
            || self.liveness.load(version(FoldId::Liveness), key, bytes)?
            || self.occupancy.load(version(FoldId::Occupancy), key, bytes)?
            || self.history.load(version(FoldId::History), key, bytes)?
            || self.rules.load(version(FoldId::Rules), key, bytes)?
            || self.incidents.load(version(FoldId::Incidents), key, bytes)?
            || self.notify.load(version(FoldId::Notify), key, bytes)?)
    }
}
