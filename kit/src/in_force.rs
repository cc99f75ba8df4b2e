//! Keeps what is in force at a site in its log: the configuration and the rules.
//!
//! The party that records them remembers the places of their records. A log that was wiped, replaced or cut back no longer
//! holds those records; then they are recorded again. It does not know where configuration or rules come from.

use std::sync::Arc;
use std::time::Duration;

use crate::{KitError, Publisher};
use tokio::time::{Instant, timeout};
use watchfold_log::{LogError, MessageLog, Position};
use watchfold_schemas::{SiteConfig, Stream};

use crate::activation::activate;
use crate::rules::{RecordedRules, RulesNotRecorded, SiteRules};

/// How often the recording party checks that the log still holds what is in force. A wiped log is without a configuration
/// for at most this long.
pub const KEEP_EVERY: Duration = Duration::from_secs(5);

/// How often the rules are compared with the whole log, whatever the places say: packets push the oldest records out, and
/// a site gets rules for packets once it has some.
const RULES_EVERY: Duration = Duration::from_secs(60);

/// How long the log may take to say what it is. A log that is away is asked again at the next check.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// What is in force is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum NotRecorded {
    #[error("it could not be recorded: {0}")]
    Config(#[from] KitError),
    #[error(transparent)]
    Rules(#[from] RulesNotRecorded),
    #[error("the log cannot be checked for the configuration in force: {0}")]
    Log(#[from] LogError),
    #[error("the log does not answer within {} s", ASK_TIMEOUT.as_secs())]
    Silent,
}

/// The places of the records of what is in force at one site.
#[derive(Debug, Default)]
pub struct Recorded {
    config: Option<Position>,
    rules: RecordedRules,
    rules_compared: Option<Instant>,
}

impl Recorded {
    /// Records the configuration, and the rules that differ from those in the log.
    pub async fn record(
        &mut self,
        log: &Arc<dyn MessageLog>,
        publisher: &Publisher,
        (site, rules): (&SiteConfig, &SiteRules),
    ) -> Result<(), NotRecorded> {
        self.config = None;
        let sequence = activate(publisher, site).await?.sequence;
        // Where its place is not known, the next check records it again.
        self.config = locate(log, Stream::Observations, sequence)
            .await
            .unwrap_or_default();
        self.record_rules(log, publisher, rules).await
    }

    /// Records again what the log no longer holds. Returns whether the configuration was recorded.
    pub async fn keep(
        &mut self,
        log: &Arc<dyn MessageLog>,
        publisher: &Publisher,
        (site, rules): (&SiteConfig, &SiteRules),
    ) -> Result<bool, NotRecorded> {
        let asked = timeout(ASK_TIMEOUT, self.are_kept(log)).await;
        let (config_is_kept, rules_are_kept) = asked.map_err(|_| NotRecorded::Silent)??;
        if !config_is_kept {
            if self.config.is_some() {
                tracing::warn!(
                    site = site.site,
                    "the log no longer holds the configuration in force, it was wiped or replaced: recording it again"
                );
            }
            self.record(log, publisher, (site, rules)).await?;
            return Ok(true);
        }
        let is_due = self
            .rules_compared
            .is_none_or(|compared| compared.elapsed() >= RULES_EVERY);
        if is_due || !rules_are_kept {
            self.record_rules(log, publisher, rules).await?;
        }
        Ok(false)
    }

    async fn are_kept(&self, log: &Arc<dyn MessageLog>) -> Result<(bool, bool), LogError> {
        let config = match &self.config {
            Some(position) => is_kept(log, Stream::Observations, position).await?,
            // Whether it answers at all; what is recorded next must not wait in a queue for ever.
            None => log.info(Stream::Observations).await.map(|_| false)?,
        };
        Ok((config, config && self.rules.are_kept(log).await?))
    }

    async fn record_rules(
        &mut self,
        log: &Arc<dyn MessageLog>,
        publisher: &Publisher,
        rules: &SiteRules,
    ) -> Result<(), NotRecorded> {
        self.rules.record(log, publisher, rules).await?;
        self.rules_compared = Some(Instant::now());
        Ok(())
    }
}

/// The place of the record at `sequence`, `None` when the log no longer holds it.
pub(crate) async fn locate(
    log: &Arc<dyn MessageLog>,
    stream: Stream,
    sequence: u64,
) -> Result<Option<Position>, LogError> {
    let log_id = log.info(stream).await?.log_id;
    let record = log.get(stream, sequence).await?;
    Ok(record.map(|record| Position {
        log_id,
        sequence,
        id: record.id.0,
    }))
}

/// Whether this log, and no other one in its place, still holds the record of `position`.
pub(crate) async fn is_kept(
    log: &Arc<dyn MessageLog>,
    stream: Stream,
    position: &Position,
) -> Result<bool, LogError> {
    let info = log.info(stream).await?;
    let kept = info.first_sequence..=info.last_sequence;
    if info.log_id != position.log_id || !kept.contains(&position.sequence) {
        return Ok(false);
    }
    let record = log.get(stream, position.sequence).await?;
    Ok(record.is_some_and(|record| record.id.0 == position.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfold_log::memory::MemoryLog;
    use watchfold_schemas::rules::{RuleSet, Surroundings};

    /// The kinds of the records of both streams, by their subjects.
    fn kinds(log: &MemoryLog) -> Vec<String> {
        let streams = [Stream::Observations, Stream::Packets];
        let records = streams.into_iter().flat_map(|stream| log.records(stream));
        let kind = |subject: String| subject.split('.').nth(3).unwrap_or_default().to_owned();
        records.map(|record| kind(record.subject)).collect()
    }

    struct Party {
        memory: Arc<MemoryLog>,
        log: Arc<dyn MessageLog>,
        publisher: Arc<Publisher>,
        site: SiteConfig,
        rules: SiteRules,
        recorded: Recorded,
        _state: tempfile::TempDir,
    }

    impl Party {
        async fn new() -> Party {
            let memory = MemoryLog::new();
            let log: Arc<dyn MessageLog> = memory.clone();
            let state = tempfile::tempdir().unwrap();
            let publisher = Publisher::open(log.clone(), "cafe-1", "config", state.path());
            Party {
                publisher: publisher.await.unwrap(),
                site: SiteConfig {
                    site: "cafe-1".to_owned(),
                    ..SiteConfig::default()
                },
                rules: SiteRules {
                    site: "cafe-1".to_owned(),
                    set: RuleSet {
                        name: "mine".to_owned(),
                        rules: Vec::new(),
                    },
                    surroundings: Surroundings::default(),
                    captures: true,
                },
                recorded: Recorded::default(),
                memory,
                log,
                _state: state,
            }
        }

        async fn keep(&mut self) -> Result<bool, NotRecorded> {
            let in_force = (&self.site, &self.rules);
            self.recorded.keep(&self.log, &self.publisher, in_force).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wiped_log_gets_configuration_and_rules_again_and_a_whole_one_gets_nothing() {
        let mut party = Party::new().await;
        let in_force = (&party.site, &party.rules);
        let recorded = party.recorded.record(&party.log, &party.publisher, in_force);
        recorded.await.unwrap();
        let both = ["activation", "rules"];
        assert_eq!(kinds(&party.memory), both);
        for _ in 0..3 {
            assert!(!party.keep().await.unwrap());
            assert_eq!(kinds(&party.memory), both, "the log holds them");
        }
        party.memory.replace();
        assert_eq!(kinds(&party.memory), [""; 0]);
        assert!(party.keep().await.unwrap());
        assert_eq!(kinds(&party.memory), both, "a wiped log gets them again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_lost_the_records_and_grew_past_them_gets_them_again() {
        for lost in [Stream::Observations, Stream::Packets] {
            let mut party = Party::new().await;
            let in_force = (&party.site, &party.rules);
            let recorded = party.recorded.record(&party.log, &party.publisher, in_force);
            recorded.await.unwrap();
            party.memory.truncate_tail(lost, 1);
            let other = match lost {
                Stream::Packets => "wf.pkt.cafe-1.batch.lan",
                _ => "wf.obs.cafe-1.tick.clock",
            };
            let message = watchfold_log::Append {
                stream: lost,
                subject: other.to_owned(),
                id: watchfold_schemas::MessageId("cafe-1/other/1/1".to_owned()),
                payload: bytes::Bytes::new(),
            };
            party.memory.append(vec![message]).await.unwrap();
            party.keep().await.unwrap();
            let kinds = kinds(&party.memory);
            let want = if lost == Stream::Packets {
                "rules"
            } else {
                "activation"
            };
            assert!(kinds.contains(&want.to_owned()), "{lost}: {kinds:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_does_not_answer_gets_nothing_into_its_queue() {
        let mut party = Party::new().await;
        party.memory.fail_info(true);
        assert!(matches!(party.keep().await, Err(NotRecorded::Log(_))));
        assert_eq!(kinds(&party.memory), [""; 0]);
        party.memory.fail_info(false);
        assert!(party.keep().await.unwrap());
    }
}
