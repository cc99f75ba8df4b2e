//! The rules of a site in the log: recording those in force, for each chain in the stream that it reads.
//!
//! The party that records the configuration records these too. What equals the last record is not recorded again, and a
//! site without packets gets no rules for them: its packet chain would only stand idle.

use std::sync::Arc;

use watchfold_kit::{KitError, Publisher};
use watchfold_log::{LogError, MessageLog};
use watchfold_schemas::rules::{RuleSet, RulesActivation, Surroundings};
use watchfold_schemas::{Body, Chain, Stream, decode_observation, subjects};

use crate::activation::SOFTWARE;

/// The collector under whose name rules are recorded.
const COLLECTOR: &str = "config";

/// The kind of these records.
const KIND: &str = "rules";

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

/// Records what differs from the last record of each chain. Returns the chains that it recorded rules for.
pub async fn activate_rules(
    log: &Arc<dyn MessageLog>,
    publisher: &Publisher,
    rules: &SiteRules,
) -> Result<Vec<Chain>, RulesNotRecorded> {
    let mut recorded = Vec::new();
    for chain in [Chain::Site, Chain::Packets] {
        let set = rules.set.of_chain(chain);
        let hash = RulesActivation::hash_of(chain, &set, &rules.surroundings);
        let last = last_hash(log, chain, &rules.site).await?;
        let needed = match (&last, chain) {
            (Some(last), _) => *last != hash,
            (None, Chain::Site) => !set.rules.is_empty(),
            (None, Chain::Packets) => rules.captures || has_packets(log, &rules.site).await?,
        };
        if !needed {
            continue;
        }
        let published = publisher.publish_with(|stamp| {
            Body::Rules(Box::new(RulesActivation {
                at: stamp.now(),
                chain,
                hash,
                set,
                surroundings: rules.surroundings.clone(),
                software: SOFTWARE.to_owned(),
            }))
        });
        published.await?;
        recorded.push(chain);
    }
    Ok(recorded)
}

/// Whether packets of this site are in the log.
pub async fn has_packets(log: &Arc<dyn MessageLog>, site: &str) -> Result<bool, LogError> {
    let filter = subjects::of_observation(Stream::Packets, site, BATCH, "*");
    Ok(log.last(Stream::Packets, &filter).await?.is_some())
}

/// A record that cannot be read equals nothing.
async fn last_hash(log: &Arc<dyn MessageLog>, chain: Chain, site: &str) -> Result<Option<String>, LogError> {
    let stream = match chain {
        Chain::Site => Stream::Observations,
        Chain::Packets => Stream::Packets,
    };
    let filter = subjects::of_observation(stream, site, KIND, COLLECTOR);
    let Some(record) = log.last(stream, &filter).await? else {
        return Ok(None);
    };
    let hash = match decode_observation(&record.payload).map(|observation| observation.body) {
        Ok(Body::Rules(activation)) => activation.hash,
        _ => String::new(),
    };
    Ok(Some(hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfold_log::memory::MemoryLog;
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
        for (step, (rules, want)) in steps.iter().enumerate() {
            let recorded = activate_rules(&log, &publisher, rules).await.unwrap();
            assert_eq!(recorded, *want, "step {step}");
        }
        assert!(
            !has_packets(&log, "cafe-1").await.unwrap(),
            "rules are no packets"
        );
    }
}
