//! The digests of all chains of a replay, as `watchfold_schemas::digest` defines them: each chain has one of its own, so that
//! sites, and packets and observations of one, may be interleaved in any way.

use std::collections::BTreeMap;

use watchfold_schemas::digest::EventDigest;
use watchfold_schemas::{Chain, CodecError, Event};

/// Collects the digests of all chains of a replay.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    site_chains: BTreeMap<String, EventDigest>,
    packet_chains: BTreeMap<String, EventDigest>,
}

impl Digests {
    pub fn add(&mut self, event: &Event) -> Result<(), CodecError> {
        if !EventDigest::covers(&event.body) {
            return Ok(());
        }
        let chains = match event.chain {
            Chain::Site => &mut self.site_chains,
            Chain::Packets => &mut self.packet_chains,
        };
        match chains.get_mut(&event.site) {
            Some(chain) => chain.add(event),
            None => chains.entry(event.site.clone()).or_default().add(event),
        }
    }

    /// The chain's name, its digest as 64 hexadecimal digits, and how many events it covers: site chains first, by site; those of packets
    /// are called `<site>/packets`. A chain without an event is not there.
    pub fn finish(&self) -> Vec<(String, String, u64)> {
        let finished = |(name, chain): (String, &EventDigest)| (name, chain.hex(), chain.events());
        let of_sites = self.site_chains.iter().map(|(site, chain)| (site.clone(), chain));
        let of_packets = self
            .packet_chains
            .iter()
            .map(|(site, chain)| (format!("{site}/packets"), chain));
        of_sites.chain(of_packets).map(finished).collect()
    }
}
