//! The stages of other processes, as far as the log shows them.
//!
//! A collector gets on while new records of its come; a chain or sink while its process puts a new beat beside the log
//! and what it says it has dealt with moves or stands at the head. Of a process that the log cannot show, a crashed sink
//! that never told anything, nothing is known, and nothing is said.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::ProgressSnapshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_log::{LogError, MessageLog};
use watchfold_schemas::{Stream, subjects};

use crate::share::{PROGRESS_EVERY, beat_and_trouble, lease_name, progress_name};

/// Collectors that every site has.
const COLLECTORS: [&str; 2] = ["clock", "ping"];

/// The chain that every site has.
pub const CHAIN: &str = "chain:site";

/// The chain of sites that capture packets.
pub const PACKET_CHAIN: &str = "chain:packets";

/// Sinks that tell their progress, for sites where they run.
const SINKS: [&str; 1] = ["sink:discord"];

/// What the log shows of one site's stages.
pub struct Observed {
    log: Arc<dyn MessageLog>,
    site: String,
    seen: Mutex<Vec<Seen>>,
}

struct Seen {
    name: String,
    kind: Kind,
    position: u64,
    head: u64,
    beat: String,
    advanced_at: Option<Instant>,
    detail: Option<String>,
    failing_since: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Collector(&'static str),
    Part(&'static str, Stream),
}

impl Observed {
    pub fn new(log: Arc<dyn MessageLog>, site: &str) -> Arc<Observed> {
        let collectors = COLLECTORS.map(|name| (format!("collector:{name}"), Kind::Collector(name)));
        let chain = (CHAIN.to_owned(), Kind::Part(CHAIN, Stream::Observations));
        let packets = (PACKET_CHAIN.to_owned(), Kind::Part(PACKET_CHAIN, Stream::Packets));
        let sinks = SINKS.map(|name| (name.to_owned(), Kind::Part(name, Stream::Events)));
        let stages = collectors.into_iter().chain([chain, packets]).chain(sinks);
        let seen = stages.map(|(name, kind)| Seen {
            name,
            kind,
            position: 0,
            head: 0,
            beat: String::new(),
            advanced_at: None,
            detail: None,
            failing_since: None,
        });
        Arc::new(Observed {
            log,
            site: site.to_owned(),
            seen: Mutex::new(seen.collect()),
        })
    }

    /// Looks until cancelled.
    pub async fn run(&self, cancel: CancellationToken) {
        loop {
            let kinds: Vec<Kind> = self.seen().iter().map(|seen| seen.kind).collect();
            for (index, kind) in kinds.into_iter().enumerate() {
                let found = tokio::select! {
                    () = cancel.cancelled() => return,
                    found = self.look(kind) => found,
                };
                self.seen()[index].take(found);
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(PROGRESS_EVERY) => {}
            }
        }
    }

    /// The stages that must get on: sinks and the chain of packets only once one was seen.
    pub fn snapshots(&self) -> Vec<ProgressSnapshot> {
        let seen = self.seen();
        let expected = seen
            .iter()
            .filter(|seen| !seen.is_optional() || seen.advanced_at.is_some());
        expected.map(Seen::snapshot).collect()
    }

    /// Position, head and beat, or nothing where the log shows nothing.
    async fn look(&self, kind: Kind) -> Result<Option<(u64, u64, String)>, LogError> {
        match kind {
            Kind::Collector(name) => {
                let filter = subjects::collector_filter(&self.site, name);
                let last = self.log.last(Stream::Observations, &filter).await?;
                Ok(last.map(|record| (record.sequence, record.sequence, record.id.0)))
            }
            Kind::Part(name, stream) => {
                let name = progress_name(&lease_name(name, &self.site));
                let Some(position) = self.log.load_position(&name).await? else {
                    return Ok(None);
                };
                let filter = subjects::site_filter(stream, &self.site);
                let head = self.log.last(stream, &filter).await?;
                let head = head.map_or(0, |record| record.sequence);
                Ok(Some((
                    position.sequence,
                    head.max(position.sequence),
                    position.id,
                )))
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn is_optional(&self) -> bool {
        self.name.starts_with("sink:") || self.name == PACKET_CHAIN
    }

    fn take(&mut self, found: Result<Option<(u64, u64, String)>, LogError>) {
        match found {
            Ok(Some((position, head, id))) => {
                let (beat, trouble) = match self.kind {
                    Kind::Collector(_) => (id.as_str(), None),
                    Kind::Part(..) => beat_and_trouble(&id),
                };
                // What stands in the log from before says nothing about now.
                let first = self.beat.is_empty();
                let lives = beat != self.beat;
                if lives && !first && (position != self.position || position >= head) {
                    self.advanced_at = Some(Instant::now());
                }
                (self.position, self.head, self.beat) = (position, head, beat.to_owned());
                self.detail = trouble.map(str::to_owned);
            }
            Ok(None) => self.detail = None,
            Err(error) => self.detail = Some(format!("the log does not show it: {error}")),
        }
        match self.detail {
            None => self.failing_since = None,
            Some(_) => drop(self.failing_since.get_or_insert_with(Instant::now)),
        }
    }

    fn snapshot(&self) -> ProgressSnapshot {
        ProgressSnapshot {
            name: self.name.clone(),
            position: self.position,
            head: self.head,
            advanced_age: self.advanced_at.map(|at| at.elapsed()),
            detail: self.detail.clone(),
            failing_age: self.failing_since.map(|since| since.elapsed()),
            note: None,
            configured: true,
        }
    }
}

/// The longest that a stage which gets on may seem to stand still because of how it is looked at.
pub const SEEN_LATE_MAX: Duration = Duration::from_secs(2 * PROGRESS_EVERY.as_secs());

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use watchfold_log::memory::MemoryLog;
    use watchfold_log::{Append, Position};
    use watchfold_schemas::MessageId;

    async fn record(log: &Arc<MemoryLog>, collector: &str, number: u64) {
        let message = Append {
            stream: Stream::Observations,
            subject: subjects::observation("cafe", "quiet", collector),
            id: MessageId(format!("cafe/{collector}/1/{number}")),
            payload: Bytes::new(),
        };
        log.append(vec![message]).await.unwrap();
    }

    async fn beat(log: &Arc<MemoryLog>, sequence: u64, beat: u64) {
        let position = Position {
            log_id: String::new(),
            sequence,
            id: beat.to_string(),
        };
        log.save_position("progress.chain.site.cafe", position)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_part_stands_behind_its_beat() {
        let log = MemoryLog::new();
        let observed = Observed::new(log.clone(), "cafe");
        let chain = |observed: &Observed| observed.seen()[2].snapshot();
        for (beat, want) in [
            ("1", None),
            ("2 alerts: 404: gone", Some("alerts: 404: gone")),
            ("3", None),
        ] {
            let position = Position {
                log_id: String::new(),
                sequence: 1,
                id: beat.to_owned(),
            };
            log.save_position("progress.chain.site.cafe", position)
                .await
                .unwrap();
            advancing(&observed).await;
            let snapshot = chain(&observed);
            assert_eq!(snapshot.detail.as_deref(), want);
            assert_eq!(snapshot.failing_age.is_some(), want.is_some());
        }
    }

    /// Which stages have been seen to get on, in order.
    async fn advancing(observed: &Observed) -> Vec<String> {
        let kinds: Vec<Kind> = observed.seen().iter().map(|seen| seen.kind).collect();
        for (index, kind) in kinds.into_iter().enumerate() {
            let found = observed.look(kind).await;
            observed.seen()[index].take(found);
        }
        let mut seen = observed.seen();
        let got = seen.iter().filter(|seen| seen.advanced_at.is_some());
        let names = got.map(|seen| seen.name.clone()).collect();
        for seen in seen.iter_mut() {
            seen.advanced_at = None;
        }
        names
    }

    #[tokio::test]
    async fn what_moves_in_the_log_gets_on_and_what_stood_there_before_does_not() {
        let log = MemoryLog::new();
        let observed = Observed::new(log.clone(), "cafe");
        let nothing: [&str; 0] = [];
        record(&log, "clock", 1).await;
        beat(&log, 1, 1).await;
        assert_eq!(advancing(&observed).await, nothing, "it may be of yesterday");
        record(&log, "clock", 2).await;
        beat(&log, 2, 2).await;
        assert_eq!(advancing(&observed).await, ["collector:clock", "chain:site"]);
        assert_eq!(advancing(&observed).await, nothing);
        // It lives, is behind and does not move.
        record(&log, "ping", 1).await;
        beat(&log, 2, 3).await;
        assert_eq!(advancing(&observed).await, nothing);
        beat(&log, 3, 4).await;
        assert_eq!(advancing(&observed).await, ["chain:site"]);
        let names: Vec<String> = observed.snapshots().into_iter().map(|one| one.name).collect();
        assert_eq!(
            names,
            ["collector:clock", "collector:ping", "chain:site"],
            "no sink was ever seen"
        );
    }
}
