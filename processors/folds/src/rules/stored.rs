//! The state of the rules as entries: the activation, each collector's attacks, and each rule's windows in shards.

use serde::{Deserialize, Serialize};
use watchfold_schemas::SiteConfig;
use watchfold_schemas::origin::MessageId;

use super::watch::{LIMITS, Watch};
use super::{Rules, RulesState};
use crate::detections::attacks::{Attacks, StoredAttacks};
use crate::detections::reputation::Verdicts;
use crate::engine::compile::{Compiled, When};
use crate::engine::window::{SHARDS, Windows};
use crate::fold::{Board, Fold, FoldState};
use crate::table::{Change, Table};

const ACTIVE: &str = "rules/active/";
const WATCH: &str = "rules/watch/";
const WINDOW: &str = "rules/window/";

/// A shard of a rule's windows.
#[derive(Debug)]
pub struct LoadedShard {
    collector: String,
    rule: String,
    shard: usize,
    bytes: Vec<u8>,
}

/// What is stored of a collector beside windows.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct StoredWatch {
    attacks: StoredAttacks,
    records: Vec<(u64, MessageId)>,
    next_record: u64,
}

impl Default for RulesState {
    fn default() -> RulesState {
        RulesState {
            active: Table::new(ACTIVE),
            compiled: Compiled::default(),
            watches: Default::default(),
            gone: Vec::new(),
            loaded: Vec::new(),
            verdicts: Verdicts::default(),
            refused: 0,
            forgotten: 0,
        }
    }
}

impl FoldState for RulesState {
    fn drain_dirty(&mut self, out: &mut Vec<Change>) {
        self.active.drain_dirty(out);
        out.extend(std::mem::take(&mut self.gone).into_iter().map(|key| (key, None)));
        for (collector, watch) in &mut self.watches {
            if std::mem::take(&mut watch.dirty) {
                out.push((watch_key(collector), Some(watch.encode())));
            }
            for (rule, windows) in &mut watch.windows {
                for (shard, bytes) in windows.store(false) {
                    let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
                    out.push((shard_key(collector, rule, shard), bytes));
                }
                windows.mark_clean();
            }
        }
    }

    fn store_all(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        self.active.store_all(out);
        for (collector, watch) in &self.watches {
            out.push((watch_key(collector), watch.encode()));
            for (rule, windows) in &watch.windows {
                let shards = windows.store(true).into_iter();
                let held = shards.filter(|(_, bytes)| !bytes.is_empty());
                out.extend(held.map(|(shard, bytes)| (shard_key(collector, rule, shard), bytes)));
            }
        }
    }

    fn load(&mut self, _version: u32, key: &[u8], bytes: &[u8]) -> Result<bool, String> {
        if self.active.load(key, bytes)? {
            return Ok(true);
        }
        let Ok(text) = std::str::from_utf8(key) else {
            return Ok(false);
        };
        if let Some(collector) = text.strip_prefix(WATCH) {
            let stored =
                rmp_serde::from_slice(bytes).map_err(|error| format!("{text} cannot be read: {error}"))?;
            self.watches.insert(collector.to_owned(), Watch::of(stored));
            return Ok(true);
        }
        let Some(rest) = text.strip_prefix(WINDOW) else {
            return Ok(false);
        };
        let mut parts = rest.split('/');
        let mut next = || parts.next().map(str::to_owned);
        let (Some(collector), Some(rule), Some(shard)) = (next(), next(), next()) else {
            return Err(format!("{text} is no key of a window"));
        };
        let shard = shard.parse().map_err(|_| format!("{text} names no shard"))?;
        self.loaded.push(LoadedShard {
            collector,
            rule,
            shard,
            bytes: bytes.to_owned(),
        });
        Ok(true)
    }
    /// Compiles what was activated and takes over the windows of its rules.
    fn rebuild(&mut self, _config: &SiteConfig, _board: &mut Board) -> Result<(), String> {
        self.compile();
        for shard in std::mem::take(&mut self.loaded) {
            let rule = self
                .compiled
                .rules
                .iter()
                .find(|rule| rule.rule.name == shard.rule);
            let (Some(When::Window(window)), Some(watch)) = (
                rule.map(|rule| &rule.when),
                self.watches.get_mut(&shard.collector),
            ) else {
                continue;
            };
            let windows = watch
                .windows
                .entry(shard.rule.clone())
                .or_insert_with(|| Windows::new(window, LIMITS));
            windows
                .load(shard.shard, &shard.bytes)
                .ok_or_else(|| format!("the windows of {} cannot be read by {}", shard.rule, Rules::NAME))?;
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("rules_refused", self.refused),
            ("rules_forgotten", self.forgotten),
        ]
    }
}

impl RulesState {}

impl Watch {
    fn encode(&self) -> Vec<u8> {
        let stored = StoredWatch {
            attacks: self.attacks.store(),
            records: self.records.iter().cloned().collect(),
            next_record: self.next_record,
        };
        // Strings, integers and lists always encode; an entry that did not would read as damaged.
        rmp_serde::to_vec_named(&stored).unwrap_or_default()
    }

    fn of(stored: StoredWatch) -> Watch {
        let attacks = Attacks::load(stored.attacks);
        Watch {
            timer: attacks.next_due(),
            attacks,
            records: stored.records.into(),
            next_record: stored.next_record,
            ..Watch::default()
        }
    }

    /// Every key under which something of it may be stored.
    pub fn stored_keys(&self, collector: &str) -> Vec<Vec<u8>> {
        let mut keys = vec![watch_key(collector)];
        for rule in self.windows.keys() {
            keys.extend(shard_keys(collector, rule));
        }
        keys
    }
}

/// The keys of all shards of a rule's windows.
pub fn shard_keys(collector: &str, rule: &str) -> impl Iterator<Item = Vec<u8>> {
    (0..=SHARDS).map(move |shard| shard_key(collector, rule, shard))
}

fn watch_key(collector: &str) -> Vec<u8> {
    format!("{WATCH}{collector}").into_bytes()
}

fn shard_key(collector: &str, rule: &str, shard: usize) -> Vec<u8> {
    format!("{WINDOW}{collector}/{rule}/{shard}").into_bytes()
}
