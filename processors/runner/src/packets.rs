//! The packet chain behind the runner's boundary, and the findings that the site chain is told.
//!
//! It judges nothing: an attack that the chain says began, grew or ended becomes one observation for the site chain, unless
//! its rule only records.

use std::collections::BTreeMap;

use watchfold_folds::PacketChain;
use watchfold_schemas::alert::Finding;
use watchfold_schemas::packets::CaptureCounts;
use watchfold_schemas::snapshot::StoredEvent;
use watchfold_schemas::{Body, Event, Observation, decode_event};

use crate::chain::{ChainFold, ChainInput};

/// Captures whose counts are added up; a site configures at most 8.
const CAPTURES_COUNTED_MAX: usize = 64;

/// [`PacketChain`] as a [`ChainFold`].
#[derive(Debug)]
pub struct PacketFold {
    site: String,
    chain: PacketChain,
    /// What each capture said last of what it received and what was dropped; for metrics alone.
    counts: BTreeMap<String, CaptureCounts>,
}

impl PacketFold {
    pub fn new(site: &str) -> PacketFold {
        PacketFold {
            site: site.to_owned(),
            chain: PacketChain::new(site),
            counts: BTreeMap::new(),
        }
    }

    fn count(&mut self, observation: &Observation) {
        let Body::Batch(batch) = &observation.body else {
            return;
        };
        let collector = &observation.origin.collector;
        let is_counted = self.counts.contains_key(collector);
        if is_counted || self.counts.len() < CAPTURES_COUNTED_MAX {
            self.counts.insert(collector.clone(), batch.counts);
        }
    }

    fn sum(&self, of: fn(&CaptureCounts) -> u64) -> u64 {
        self.counts.values().map(of).sum()
    }
}

impl ChainFold for PacketFold {
    fn versions(&self) -> Vec<(String, u32)> {
        self.chain.versions()
    }

    fn apply(&mut self, input: ChainInput<'_>) -> Vec<Event> {
        match input {
            ChainInput::Observation {
                sequence,
                observation,
                ..
            } => {
                self.count(observation);
                self.chain.apply(sequence, observation)
            }
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
        self.chain = PacketChain::new(&self.site);
    }

    fn told_before(&self, event: &StoredEvent) -> Option<Observation> {
        // What most events are is seen without decoding them.
        let kind = event.subject.split('.').nth(4)?;
        if !matches!(kind, "attack_began" | "attack_grew" | "attack_ended") {
            return None;
        }
        Finding::observation(&decode_event(&event.payload).ok()?, self.chain.began_ms())
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = self.chain.counters();
        vec![
            ("packets", counters.packets),
            ("malformed_batches", counters.malformed_batches),
            ("late_packets", counters.late_packets),
            ("captures_forgotten", counters.captures_forgotten),
            ("windows_evicted", counters.windows_evicted),
            ("batches_without_heads", counters.batches_without_heads),
            ("rules_refused", counters.rules_refused),
            ("lookups_withheld", counters.lookups_withheld),
            ("facts_evicted", counters.facts_evicted),
            ("received", self.sum(|counts| counts.received)),
            ("dropped_by_kernel", self.sum(|counts| counts.dropped_by_kernel)),
            (
                "dropped_by_interface",
                self.sum(|counts| counts.dropped_by_interface),
            ),
            ("dropped_here", self.sum(|counts| counts.dropped_here)),
            ("undecoded", self.sum(|counts| counts.undecoded)),
        ]
    }
}
