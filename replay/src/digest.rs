//! A digest of events: what two derivations must agree on, byte for byte.
//!
//! SHA-256 over [`Event::content`] of each event in its order, each preceded by its length (8 bytes, little endian). The content
//! holds site, chain, time, key and body, and none of what depends on where and how often records were carried: no ids, causes,
//! collectors, incarnations, sequences or `stored_at`. Each site has a digest of its own, so that sites may be interleaved in
//! any way.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use watchfold_schemas::{CodecError, Event};

/// Collects the digests of all sites of a replay.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    sites: BTreeMap<String, Site>,
}

#[derive(Clone, Debug, Default)]
struct Site {
    hash: Sha256,
    events: u64,
}

impl Digests {
    pub fn add(&mut self, event: &Event) -> Result<(), CodecError> {
        let content = event.content()?;
        let site = match self.sites.get_mut(&event.site) {
            Some(site) => site,
            None => self.sites.entry(event.site.clone()).or_default(),
        };
        site.hash.update((content.len() as u64).to_le_bytes());
        site.hash.update(&content);
        site.events += 1;
        Ok(())
    }

    /// Site, its digest as 64 hexadecimal digits, and how many events it covers, by site. A site without an event is not there.
    pub fn finish(&self) -> Vec<(String, String, u64)> {
        let finished = self.sites.iter().map(|(name, site)| {
            let hex = site
                .hash
                .clone()
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            (name.clone(), hex, site.events)
        });
        finished.collect()
    }
}
