//! Which packets are checked: what follows a snapshot and is still kept, up to where the chain is, or to the next snapshot.
//!
//! By turns the newest such stretch that ends with a snapshot, because a difference should be told soon, and because the
//! state is compared there, too; and one of the others. Packets are kept for minutes where a link is busy, so all of
//! them are young.

use watchfold_log::{LogError, MessageLog, Start, agrees};
use watchfold_schemas::{Chain, Stream, subjects};

use super::stretch::{Picked, Stretch, evenly};
use crate::snapshot::{Candidate, newest_before, newest_from};
use crate::stats::StatsHandle;

/// What there is to check after the snapshots of a packet chain.
pub(super) struct Snapshots<'a> {
    pub(super) log: &'a dyn MessageLog,
    pub(super) site: &'a str,
    pub(super) chain: Chain,
    pub(super) input: Stream,
    pub(super) stats: &'a StatsHandle,
}

impl Snapshots<'_> {
    /// The stretch of the check of this number, or why there is none yet.
    pub(super) async fn pick(&self, number: u64) -> Result<Result<Picked, &'static str>, LogError> {
        let stats = self.stats.snapshot();
        let first_kept = self.log.info(self.input).await?.first_sequence;
        let kept = newest_from(self.log, self.site, self.chain, first_kept.saturating_sub(1)).await?;
        let sequence_of = |snapshot: &Candidate| snapshot.manifest.position.sequence;
        let is_usable = |sequence: u64| stats.foreign <= sequence && sequence < stats.settled;
        let mut usable = kept.clone();
        usable.retain(|snapshot| is_usable(sequence_of(snapshot)));
        let chosen = match (usable.len() as u64, number % 2) {
            (0, _) => return self.none_usable(stats.foreign, stats.settled).await,
            // What follows the newest has no snapshot at its end.
            (count, 0) => u64::from(count > 1),
            (count, _) => evenly(number / 2, count),
        };
        let snapshot = usable.swap_remove(usize::try_from(chosen).unwrap_or_default());
        let beyond = |sequence: &u64| *sequence > sequence_of(&snapshot);
        let next = kept.iter().map(sequence_of).filter(beyond).min();
        let end = next.map_or(stats.settled, |next| next.min(stats.settled));
        self.after(snapshot, end).await.map(Ok)
    }

    async fn after(&self, snapshot: Candidate, end: u64) -> Result<Picked, LogError> {
        let position = snapshot.position();
        let (at, after) = (snapshot.manifest.at, position.sequence);
        let mut stretch = Stretch::of_records(at, after, end);
        if !agrees(self.log, self.input, &position).await? {
            return Ok(refused(stretch, "the snapshot before it is of another log"));
        }
        let Some(first) = self.log.get(self.input, after + 1).await? else {
            return Ok(refused(stretch, "its records are no longer kept"));
        };
        // No event is older than the record that it came from.
        let filter = subjects::chain_events_filter(self.site, self.chain);
        let start = Start::StoredAt(first.stored_at);
        let mut reader = self.log.reader(Stream::Events, &filter, start).await?;
        let events = reader.try_next(1).await?.records;
        let from = match events.first() {
            Some(event) => event.sequence,
            None => self.log.info(Stream::Events).await?.last_sequence + 1,
        };
        (stretch.events_from, stretch.read_from) = (from, from);
        Ok(Picked {
            stretch,
            begins: Ok(snapshot),
        })
    }

    async fn none_usable(
        &self,
        foreign: u64,
        settled: u64,
    ) -> Result<Result<Picked, &'static str>, LogError> {
        let Some(newest) = newest_before(self.log, self.site, self.chain, u64::MAX).await? else {
            return Ok(Err("no snapshot is recorded yet, or one is being written"));
        };
        let sequence = newest.manifest.position.sequence;
        if settled <= sequence {
            return Ok(Err("the chain is not beyond its newest snapshot"));
        }
        let reason = match sequence < foreign {
            true => "another version derived what follows its newest snapshot",
            false => "what follows its newest snapshot is no longer kept",
        };
        let stretch = Stretch::of_records(newest.manifest.at, sequence, settled);
        Ok(Ok(refused(stretch, reason)))
    }
}

fn refused(stretch: Stretch, reason: &str) -> Picked {
    Picked {
        stretch,
        begins: Err(reason.to_owned()),
    }
}
