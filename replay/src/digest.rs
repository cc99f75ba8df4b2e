//! The digests of all sites of a replay, as `watchfold_schemas::digest` defines them: each site has one of its own, so that
//! sites may be interleaved in any way.

use std::collections::BTreeMap;

use watchfold_schemas::digest::EventDigest;
use watchfold_schemas::{CodecError, Event};

/// Collects the digests of all sites of a replay.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    sites: BTreeMap<String, EventDigest>,
}

impl Digests {
    pub fn add(&mut self, event: &Event) -> Result<(), CodecError> {
        if !EventDigest::covers(&event.body) {
            return Ok(());
        }
        match self.sites.get_mut(&event.site) {
            Some(site) => site.add(event),
            None => self.sites.entry(event.site.clone()).or_default().add(event),
        }
    }

    /// Site, its digest as 64 hexadecimal digits, and how many events it covers, by site. A site without an event is not there.
    pub fn finish(&self) -> Vec<(String, String, u64)> {
        let finished = self
            .sites
            .iter()
            .map(|(name, site)| (name.clone(), site.hex(), site.events()));
        finished.collect()
    }
}
