//! The packet chain: takes batches apart in time order and gives them to the rules, and rules' firings to the attacks.

use serde::{Deserialize, Serialize};
use watchfold_schemas::event::Event;
use watchfold_schemas::observation::{Body, Observation};
use watchfold_schemas::rules::RulesActivation;
use watchfold_schemas::{Chain, Time};

use super::clock::{CaptureClocks, PacketCounters};
use crate::chain::{LoadError, StateEntries, version_of};
use crate::table::{Change, Table};

/// The version of the state of the packet chain.
const PACKETS_VERSION: u32 = 1;

/// Everything of one site that judges packets.
#[derive(Debug)]
pub struct PacketChain {
    site: String,
    stored: Table<Begun>,
    rules: Option<RulesActivation>,
    clocks: CaptureClocks,
    counters: PacketCounters,
}

/// What the chain remembers of its beginning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Begun {
    began_ms: u64,
}

impl PacketChain {
    pub fn new(site: &str) -> PacketChain {
        PacketChain {
            site: site.to_owned(),
            stored: Table::new("packets/begun/"),
            rules: None,
            clocks: CaptureClocks::new(),
            counters: PacketCounters::default(),
        }
    }

    /// Folds one observation and tells what follows from it. Without rules nothing does.
    pub fn apply(&mut self, sequence: u64, observation: &Observation) -> Vec<Event> {
        let _ = (sequence, &self.site);
        if self.stored.get("").is_none() {
            let began_ms = u64::try_from(observation.observed_at.as_millis()).unwrap_or_default();
            self.stored.insert("", Begun { began_ms });
        }
        match &observation.body {
            Body::Rules(activation) if activation.chain == Chain::Packets => {
                self.rules = Some((**activation).clone());
            }
            Body::Batch(_) | Body::Gap(_) | Body::Fault(_) | Body::Quiet => self.advance(observation),
            _ => {}
        }
        Vec::new()
    }

    /// Records of the chain's own stream are gone. What they held is unknown and ends nothing.
    pub fn apply_lost(&mut self, from: u64, to: u64) -> Vec<Event> {
        let _ = (from, to);
        for collector in self.clocks.captures.keys() {
            if let Some(clock) = self.clocks.captures.get_mut(&collector) {
                clock.lost = true;
            }
        }
        Vec::new()
    }

    pub fn counters(&self) -> PacketCounters {
        self.counters
    }

    /// The rules in force.
    pub fn rules(&self) -> Option<&RulesActivation> {
        self.rules.as_ref()
    }

    /// `observed_at` of the first record that was ever folded, in milliseconds: the incarnation of this chain's findings.
    /// 0 before that.
    pub fn began_ms(&self) -> u64 {
        self.stored.get("").map_or(0, |begun| begun.began_ms)
    }

    /// The greatest time of any capture point.
    pub fn now(&self) -> Option<Time> {
        self.clocks.now()
    }

    pub fn versions(&self) -> Vec<(String, u32)> {
        vec![("packets".to_owned(), PACKETS_VERSION)]
    }

    /// Entries changed since the last call. It encodes windows, so it is for checkpoints and not for every record.
    pub fn drain_dirty(&mut self) -> Vec<Change> {
        let mut out = Vec::new();
        self.stored.drain_dirty(&mut out);
        self.clocks.drain_dirty(&mut out);
        out
    }

    /// Every entry, for a snapshot.
    pub fn entries(&self) -> StateEntries {
        let mut out = Vec::new();
        self.stored.store_all(&mut out);
        self.clocks.store_all(&mut out);
        out
    }

    /// Takes over what `versions` stored. On an error the chain is as new.
    pub fn load(&mut self, versions: &[(String, u32)], entries: StateEntries) -> Result<(), LoadError> {
        let site = self.site.clone();
        *self = PacketChain::new(&site);
        for (fold, known) in self.versions() {
            let found = version_of(versions, &fold);
            if found > known {
                return Err(LoadError::Newer { fold, found, known });
            }
        }
        for (key, bytes) in entries {
            let taken = self.take_entry(&key, &bytes);
            if !matches!(taken, Ok(true)) {
                *self = PacketChain::new(&site);
                return Err(match taken {
                    Err(damage) => LoadError::Damaged(damage),
                    Ok(_) => LoadError::UnknownEntry {
                        key: String::from_utf8_lossy(&key).into_owned(),
                    },
                });
            }
        }
        Ok(())
    }

    fn take_entry(&mut self, key: &[u8], bytes: &[u8]) -> Result<bool, String> {
        Ok(self.stored.load(key, bytes)? || self.clocks.load(key, bytes)?)
    }

    fn advance(&mut self, observation: &Observation) {
        let collector = &observation.origin.collector;
        if !self.clocks.admits(collector) {
            self.counters.collectors_refused += 1;
            return;
        }
        let clock = self.clocks.captures.entry_or_default(collector);
        clock.newest = clock.newest.max(observation.through);
        clock.incarnation = observation.origin.incarnation;
        if let Body::Batch(batch) = &observation.body {
            clock.interface.clone_from(&batch.source.name);
        }
    }
}
