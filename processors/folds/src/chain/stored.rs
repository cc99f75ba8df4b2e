//! The site chain's state as a store or a snapshot holds it: entries by key, and the versions of the folds that wrote them.

use super::SiteChain;
use crate::fold::{Fold, FoldId, FoldState};
use crate::history::History;
use crate::incidents::Incidents;
use crate::liveness::Liveness;
use crate::notify::Notify;
use crate::occupancy::Occupancy;
use crate::rules::Rules;
use crate::table::Change;

/// A chain's state as a store or a snapshot holds it.
pub type StateEntries = Vec<(Vec<u8>, Vec<u8>)>;

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

/// Why stored state cannot be taken over; it is then derived again from the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("{fold} was stored by version {found}, and this is version {known}: the state is derived again")]
    Newer { fold: String, found: u32, known: u32 },
    #[error("a stored entry that no fold knows: {key}")]
    UnknownEntry { key: String },
    #[error("{0}")]
    Damaged(String),
}

impl SiteChain {
    pub fn versions(&self) -> Vec<(String, u32)> {
        let owned = |(name, version): (&str, u32)| (name.to_owned(), version);
        versions().map(owned).to_vec()
    }

    /// Entries changed since the last call.
    pub fn drain_dirty(&mut self) -> Vec<Change> {
        let mut out = Vec::new();
        self.stored_config.drain_dirty(&mut out);
        self.clocks.drain_dirty(&mut out);
        self.timers.drain_dirty(&mut out);
        self.hours.drain_dirty(&mut out);
        self.liveness.drain_dirty(&mut out);
        self.occupancy.drain_dirty(&mut out);
        self.history.drain_dirty(&mut out);
        self.rules.drain_dirty(&mut out);
        self.incidents.drain_dirty(&mut out);
        self.notify.drain_dirty(&mut out);
        out
    }

    /// Every entry, for a snapshot.
    pub fn entries(&self) -> StateEntries {
        let mut out = Vec::new();
        self.stored_config.store_all(&mut out);
        self.clocks.store_all(&mut out);
        self.timers.store_all(&mut out);
        self.hours.store_all(&mut out);
        self.liveness.store_all(&mut out);
        self.occupancy.store_all(&mut out);
        self.history.store_all(&mut out);
        self.rules.store_all(&mut out);
        self.incidents.store_all(&mut out);
        self.notify.store_all(&mut out);
        out
    }

    /// Takes over what `versions` of the folds stored. On an error the chain is as new.
    pub fn load(&mut self, versions: &[(String, u32)], entries: StateEntries) -> Result<(), LoadError> {
        let site = self.site.clone();
        *self = SiteChain::new(&site);
        self.check_versions(versions)?;
        let loaded = entries
            .into_iter()
            .try_for_each(|(key, bytes)| self.load_entry(versions, &key, &bytes));
        if let Err(error) = loaded {
            *self = SiteChain::new(&site);
            return Err(error);
        }
        if let Some(config) = self.stored_config.get("") {
            self.config = config.clone();
        }
        if let Err(damage) = self.rules.rebuild() {
            *self = SiteChain::new(&site);
            return Err(LoadError::Damaged(damage));
        }
        self.hours.resume();
        self.liveness.rebuild(&self.config, &mut self.board);
        self.occupancy.rebuild(&self.config, &mut self.board);
        Ok(())
    }

    fn check_versions(&self, versions: &[(String, u32)]) -> Result<(), LoadError> {
        for (fold, known) in self.versions() {
            let found = version_of(versions, &fold);
            if found > known {
                return Err(LoadError::Newer { fold, found, known });
            }
        }
        Ok(())
    }

    fn load_entry(&mut self, versions: &[(String, u32)], key: &[u8], bytes: &[u8]) -> Result<(), LoadError> {
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

pub(crate) fn version_of(versions: &[(String, u32)], name: &str) -> u32 {
    versions
        .iter()
        .find(|(fold, _)| fold == name)
        .map_or(0, |(_, version)| *version)
}
