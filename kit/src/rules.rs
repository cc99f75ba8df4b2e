//! The rules of a site in the log: recording those in force, for each chain in the stream that it reads.
//!
//! The party that records the configuration records these too, and remembers where they stand: what the log still holds is
//! not recorded again. No long stream is searched for what an earlier process recorded; it is recorded anew. A site
//! without packets gets no rules for them: its packet chain would only stand idle.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{KitError, Publisher};
use watchfold_log::{LogError, MessageLog, Position};
use watchfold_schemas::rules::{RuleSet, RulesActivation, Surroundings};
use watchfold_schemas::{Body, Chain, Stream, decode_observation, subjects};

use crate::activation::SOFTWARE;
use crate::in_force::{is_kept, locate};

/// The collector under whose name rules are recorded.
const COLLECTOR: &str = "config";

/// The kind of these records.
const KIND: &str = "rules";

/// Only a stream of at most this is searched for rules of an earlier process, which reads it whole where there are none:
/// less than a second, also on a slow disk. A record costs less than more would.
const SEARCH_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// That of packets.
const BATCH: &str = "batch";

/// The rules of one site.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteRules {
    pub site: String,
    /// For all chains.
    pub set: RuleSet,
    pub surroundings: Surroundings,
    /// The site captures packets, or will.
    pub captures: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RulesNotRecorded {
    #[error("the log does not say which rules are in force: {0}")]
    Log(#[from] LogError),
    #[error("the rules could not be recorded: {0}")]
    Publish(#[from] KitError),
}

/// Which rules of a site the log holds, as far as this process knows.
#[derive(Debug, Default)]
pub struct RecordedRules {
    known: BTreeMap<Chain, Known>,
}

/// The last record of rules for one chain.
#[derive(Debug)]
struct Known {
    log_id: String,
    /// `None` when there is none.
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    hash: String,
    position: Position,
}

impl Known {
    /// Whether the log is still the one that was asked, and holds that record.
    async fn is_kept(&self, log: &Arc<dyn MessageLog>, chain: Chain) -> Result<bool, LogError> {
        let stream = stream_of(chain);
        match &self.last {
            Some(last) => is_kept(log, stream, &last.position).await,
            None => Ok(log.info(stream).await?.log_id == self.log_id),
        }
    }
}

impl RecordedRules {
    /// Whether the log still holds every record of rules that this process knows of.
    pub(crate) async fn are_kept(&self, log: &Arc<dyn MessageLog>) -> Result<bool, LogError> {
        for (chain, known) in &self.known {
            if !known.is_kept(log, *chain).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Records what differs from the last record of each chain, or is no longer in the log. Returns the chains that it
    /// recorded rules for.
    pub async fn record(
        &mut self,
        log: &Arc<dyn MessageLog>,
        publisher: &Publisher,
        rules: &SiteRules,
    ) -> Result<Vec<Chain>, RulesNotRecorded> {
        let mut recorded = Vec::new();
        for chain in [Chain::Site, Chain::Packets] {
            let set = rules.set.of_chain(chain);
            let hash = RulesActivation::hash_of(chain, &set, &rules.surroundings);
            let is_known = match self.known.get(&chain) {
                Some(known) => known.is_kept(log, chain).await?,
                None => false,
            };
            if !is_known {
                self.known.remove(&chain);
                let info = log.info(stream_of(chain)).await?;
                if info.bytes <= SEARCH_BYTES_MAX {
                    let last = last(log, chain, &rules.site, &info.log_id).await?;
                    let log_id = info.log_id;
                    self.known.insert(chain, Known { log_id, last });
                }
            }
            let needed = match (self.known.get(&chain).map(|known| &known.last), chain) {
                (Some(Some(last)), _) => last.hash != hash,
                (Some(None), Chain::Site) => !set.rules.is_empty(),
                // There may be some: also that there are none now is recorded.
                (None, Chain::Site) => true,
                (_, Chain::Packets) => rules.captures || has_packets(log, &rules.site).await?,
            };
            if !needed {
                continue;
            }
            let published = publisher.publish_with(|stamp| {
                Body::Rules(Box::new(RulesActivation {
                    at: stamp.now(),
                    chain,
                    hash: hash.clone(),
                    set,
                    surroundings: rules.surroundings.clone(),
                    software: SOFTWARE.to_owned(),
                }))
            });
            let sequence = published.await?.sequence;
            self.known.remove(&chain);
            // A log that is wiped at this moment is searched the next time.
            if let Some(position) = locate(log, stream_of(chain), sequence).await? {
                let log_id = position.log_id.clone();
                let last = Some(Last { hash, position });
                self.known.insert(chain, Known { log_id, last });
            }
            recorded.push(chain);
        }
        Ok(recorded)
    }
}

/// Whether packets of this site are in the log.
pub async fn has_packets(log: &Arc<dyn MessageLog>, site: &str) -> Result<bool, LogError> {
    let filter = subjects::of_observation(Stream::Packets, site, BATCH, "*");
    Ok(log.last(Stream::Packets, &filter).await?.is_some())
}

fn stream_of(chain: Chain) -> Stream {
    match chain {
        Chain::Site => Stream::Observations,
        Chain::Packets => Stream::Packets,
    }
}

/// A record that cannot be read equals nothing.
async fn last(
    log: &Arc<dyn MessageLog>,
    chain: Chain,
    site: &str,
    log_id: &str,
) -> Result<Option<Last>, LogError> {
    let stream = stream_of(chain);
    let filter = subjects::of_observation(stream, site, KIND, COLLECTOR);
    let record = log.last(stream, &filter).await?;
    Ok(record.map(|record| Last {
        hash: match decode_observation(&record.payload).map(|observation| observation.body) {
            Ok(Body::Rules(activation)) => activation.hash,
            _ => String::new(),
        },
        position: Position {
            log_id: log_id.to_owned(),
            sequence: record.sequence,
            id: record.id.0,
        },
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use futures::future::BoxFuture;
    use watchfold_log::memory::MemoryLog;
    use watchfold_log::{Ack, Append, LogReader, Record, Start, StreamInfo};
    use watchfold_schemas::event::Severity;
    use watchfold_schemas::fields::Source;
    use watchfold_schemas::rules::{Rule, RuleState, Test, Trigger};

    fn rule(name: &str, source: Source) -> Rule {
        Rule {
            id: name.to_owned(),
            name: name.to_owned(),
            title: name.to_owned(),
            version: 1,
            category: name.to_owned(),
            severity: Severity::High,
            state: RuleState::Enforce,
            source,
            test: Test::All(Vec::new()),
            exclusions: Vec::new(),
            trigger: Trigger::Each,
            subject: Vec::new(),
            cooldown_ms: 15_000,
            reputation: None,
            counts_duplicates: false,
            withdrawn_by: None,
            message: String::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rules_are_recorded_once_for_the_chains_that_have_use_for_them() {
        let log: Arc<dyn MessageLog> = MemoryLog::new();
        let state = tempfile::tempdir().unwrap();
        let publisher = Publisher::open(log.clone(), "cafe-1", COLLECTOR, state.path());
        let publisher = publisher.await.unwrap();
        let rules = |names: &[(&str, Source)], captures| SiteRules {
            site: "cafe-1".to_owned(),
            set: RuleSet {
                name: "mine".to_owned(),
                rules: names.iter().map(|(name, source)| rule(name, *source)).collect(),
            },
            surroundings: Surroundings::default(),
            captures,
        };
        let scan = ("port_scan", Source::Packet);
        let slow = ("slow", Source::Ping);
        let steps = [
            // Nothing for the site chain, and no packets.
            (rules(&[scan], false), vec![]),
            (rules(&[scan], true), vec![Chain::Packets]),
            (rules(&[scan], true), vec![]),
            (rules(&[scan, slow], true), vec![Chain::Site]),
            // What was in force once is taken back.
            (rules(&[], false), vec![Chain::Site, Chain::Packets]),
            (rules(&[], false), vec![]),
        ];
        let mut recorder = RecordedRules::default();
        for (step, (rules, want)) in steps.iter().enumerate() {
            let recorded = recorder.record(&log, &publisher, rules).await.unwrap();
            assert_eq!(recorded, *want, "step {step}");
            // Another process finds in the log what this one remembers.
            let again = RecordedRules::default().record(&log, &publisher, rules).await;
            assert_eq!(again.unwrap(), [], "step {step}");
        }
        assert!(
            !has_packets(&log, "cafe-1").await.unwrap(),
            "rules are no packets"
        );
    }
    /// A log that counts how often it is searched, and says how much it holds.
    struct Large {
        log: Arc<MemoryLog>,
        bytes: u64,
        searched: AtomicU64,
    }

    impl MessageLog for Large {
        fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Ack>, LogError>> {
            self.log.append(messages)
        }

        fn reader(
            &self,
            stream: Stream,
            filter: &str,
            start: Start,
        ) -> BoxFuture<'_, Result<Box<dyn LogReader>, LogError>> {
            self.log.reader(stream, filter, start)
        }

        fn info(&self, stream: Stream) -> BoxFuture<'_, Result<StreamInfo, LogError>> {
            let bytes = self.bytes;
            let info = self.log.info(stream);
            Box::pin(async move { info.await.map(|info| StreamInfo { bytes, ..info }) })
        }

        fn get(&self, stream: Stream, sequence: u64) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
            self.log.get(stream, sequence)
        }

        fn last(&self, stream: Stream, filter: &str) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
            if filter.contains(KIND) {
                self.searched.fetch_add(1, Ordering::Relaxed);
            }
            self.log.last(stream, filter)
        }

        fn load_position(&self, name: &str) -> BoxFuture<'_, Result<Option<Position>, LogError>> {
            self.log.load_position(name)
        }

        fn save_position(&self, name: &str, position: Position) -> BoxFuture<'_, Result<(), LogError>> {
            self.log.save_position(name, position)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_log_is_not_searched_and_a_short_one_only_once() {
        // Each: what the log holds, what the first look records, and how often all looks searched.
        for (bytes, first, searched) in [
            (SEARCH_BYTES_MAX, vec![Chain::Packets], 2),
            (SEARCH_BYTES_MAX + 1, vec![Chain::Site, Chain::Packets], 0),
        ] {
            let memory = MemoryLog::new();
            let large = Arc::new(Large {
                log: memory.clone(),
                bytes,
                searched: AtomicU64::new(0),
            });
            let log: Arc<dyn MessageLog> = large.clone();
            let state = tempfile::tempdir().unwrap();
            let publisher = Publisher::open(memory.clone(), "cafe-1", COLLECTOR, state.path());
            let publisher = publisher.await.unwrap();
            let rules = SiteRules {
                site: "cafe-1".to_owned(),
                set: RuleSet {
                    name: "mine".to_owned(),
                    rules: vec![rule("port_scan", Source::Packet)],
                },
                surroundings: Surroundings::default(),
                captures: true,
            };
            let mut recorder = RecordedRules::default();
            for want in [first, vec![], vec![]] {
                assert_eq!(recorder.record(&log, &publisher, &rules).await.unwrap(), want);
            }
            assert_eq!(large.searched.load(Ordering::Relaxed), searched, "{bytes}");
            // Packets pushed the rules out.
            memory.truncate_front(Stream::Packets, 1);
            let recorded = recorder.record(&log, &publisher, &rules).await.unwrap();
            assert_eq!(recorded, [Chain::Packets], "{bytes}");
        }
    }
}
