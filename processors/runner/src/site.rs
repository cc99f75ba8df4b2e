//! The site chain behind the runner's boundary. It adds nothing and judges nothing.

use watchfold_folds::SiteChain;
use watchfold_schemas::Event;

use crate::chain::{ChainFold, ChainInput};

/// [`SiteChain`] as a [`ChainFold`].
#[derive(Debug)]
pub struct SiteFold {
    site: String,
    chain: SiteChain,
}

impl SiteFold {
    pub fn new(site: &str) -> SiteFold {
        SiteFold {
            site: site.to_owned(),
            chain: SiteChain::new(site),
        }
    }
}

impl ChainFold for SiteFold {
    fn versions(&self) -> Vec<(String, u32)> {
        self.chain.versions()
    }

    fn apply(&mut self, input: ChainInput<'_>) -> Vec<Event> {
        match input {
            ChainInput::Observation {
                sequence,
                observation,
                ..
            } => self.chain.apply(sequence, observation),
            ChainInput::Lost { from, to } => self.chain.apply_lost(from, to),
        }
    }

    fn drain_dirty(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        self.chain.drain_dirty()
    }

    fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.chain.entries()
    }

    fn load(&mut self, versions: &[(String, u32)], entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), String> {
        self.chain
            .load(versions, entries)
            .map_err(|error| error.to_string())
    }

    fn reset(&mut self) {
        self.chain = SiteChain::new(&self.site);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = self.chain.counters();
        vec![
            ("malformed_rounds", counters.malformed_rounds),
            ("waiting_overflows", counters.waiting_overflows),
            ("collectors_refused", counters.collectors_refused),
            ("attacks_refused", counters.attacks_refused),
            ("rules_refused", counters.rules_refused),
            ("rules_forgotten", counters.rules_forgotten),
        ]
    }
}
