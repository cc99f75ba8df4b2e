//! One check: from a snapshot through a stretch of records, event by event against what was recorded.

use std::time::Duration;

use tokio::time::Instant;
use watchfold_folds::StateMachine;
use watchfold_log::{LogError, Record, Start};
use watchfold_schemas::event::Place;
use watchfold_schemas::observation::{Parity, ParityDifference, ParityVerdict};
use watchfold_schemas::{Chain, Stream, decode_event, subjects};

use super::compare::{Comparison, Parting, compare_entries};
use super::hours::Digests;
use super::snapshots::Snapshots;
use super::stretch::{MARGIN, Stretch};
use super::{Checked, ParityCheck, Spans};
use crate::intake::{Intake, Taken, placed};
use crate::snapshot::{Candidate, newest_before};

/// Events per read, and records of the site chain: between two reads, others have their turn.
const READ_RECORDS: usize = 256;

/// The same for packets: a record holds up to 4,096 of them in about 90 KB, and may hold 1 MiB.
const READ_PACKET_RECORDS: usize = 16;

/// How far around a stretch an event that seems to be missing is looked for, in sequences of the stream that all sites
/// share: as far as readers of events tell one that was published again.
const LOOKED_FOR_WITHIN: u64 = 65_536;

/// How a check ended before it came to an agreement.
enum Ended {
    Differed(Parting),
    NotCompared(String),
    Failed(LogError),
}

impl From<LogError> for Ended {
    fn from(error: LogError) -> Ended {
        Ended::Failed(error)
    }
}

fn not_compared(reason: impl Into<String>) -> Ended {
    Ended::NotCompared(reason.into())
}

/// How much was read.
#[derive(Clone, Copy, Default)]
struct Read {
    records: u64,
    bytes: u64,
}

impl ParityCheck {
    /// One check. Checks of even numbers take the newest stretch, the others spread over what is kept.
    pub async fn check(&self, number: u64) -> Result<Checked, LogError> {
        let (log, site, chain, input) = (self.log.as_ref(), self.site.as_str(), self.chain(), self.input());
        let picked = match &self.spans {
            Spans::Hours => {
                let software = &self.options.software;
                let digests = Digests {
                    log,
                    site,
                    chain,
                    input,
                    software,
                };
                digests.pick(number).await?
            }
            Spans::Snapshots(stats) => {
                let snapshots = Snapshots {
                    log,
                    site,
                    chain,
                    input,
                    stats,
                };
                snapshots.pick(number).await?
            }
        };
        let picked = match picked {
            Ok(picked) => picked,
            Err(reason) => return Ok(Checked::Nothing(reason)),
        };
        let (mut stretch, mut comparison) = (picked.stretch, Comparison::default());
        let compared = match &picked.begins {
            Ok(snapshot) => self.compare(&mut stretch, snapshot, &mut comparison).await,
            Err(reason) => Err(not_compared(reason)),
        };
        let verdict = match compared {
            Ok(()) => ParityVerdict::Agreed,
            Err(Ended::Differed(parting)) => ParityVerdict::Differed(self.difference(parting).await?),
            Err(Ended::NotCompared(reason)) => ParityVerdict::NotCompared { reason },
            Err(Ended::Failed(error)) => return Err(error),
        };
        Ok(Checked::Found(Parity {
            chain,
            hour: stretch.at,
            from: stretch.after.input + 1,
            to: stretch.to.input,
            events: comparison.equal,
            verdict,
        }))
    }

    async fn compare(
        &self,
        stretch: &mut Stretch,
        snapshot: &Candidate,
        comparison: &mut Comparison,
    ) -> Result<(), Ended> {
        self.read_recorded(stretch, comparison).await?;
        let fold = match self.fold_again(stretch, snapshot, comparison).await {
            Err(Ended::Differed(parting)) if parting.recorded.is_none() => {
                self.is_missing(stretch, parting.place).await?;
                return Err(Ended::Differed(parting));
            }
            folded => folded?,
        };
        comparison.finish().map_err(Ended::Differed)?;
        self.compare_state(stretch, fold.as_ref()).await
    }

    /// What the stretch left behind: a difference that shows in no event yet would never show, because the next one is
    /// folded from this state.
    async fn compare_state(&self, stretch: &Stretch, fold: &dyn StateMachine) -> Result<(), Ended> {
        let (log, end) = (self.log.as_ref(), stretch.last());
        let Some(snapshot) = newest_before(log, &self.site, self.chain(), end.input).await? else {
            return Ok(());
        };
        if snapshot.position().sequence != end.input || snapshot.versions() != fold.versions() {
            return Ok(());
        }
        // A set that cannot be read is passed over, as it is by a rebuild.
        let Ok(state) = snapshot.read(log).await? else {
            return Ok(());
        };
        let recorded = state.entries.into_iter().map(|entry| (entry.key, entry.value));
        compare_entries(end, recorded.collect(), fold.entries().into_iter().collect())
            .map_err(Ended::Differed)
    }

    async fn read_recorded(&self, stretch: &mut Stretch, comparison: &mut Comparison) -> Result<(), Ended> {
        let filter = subjects::chain_events_filter(&self.site, self.chain());
        let start = Start::Sequence(stretch.read_from);
        let mut reader = self.log.reader(Stream::Events, &filter, start).await?;
        let mut until = stretch.events_to.map(|last| last + MARGIN);
        loop {
            let batch = reader.try_next(READ_RECORDS).await?;
            if batch.records.is_empty() && batch.lost.is_none() {
                return Ok(());
            }
            let last = stretch.events_to.unwrap_or(u64::MAX);
            if batch
                .lost
                .is_some_and(|lost| lost.to > stretch.events_from && lost.from < last)
            {
                return Err(not_compared("some of its events are gone from the log"));
            }
            for record in batch.records {
                if until.is_some_and(|until| record.sequence > until) {
                    return Ok(());
                }
                let place = self.take_recorded(stretch, &record, comparison)?;
                if until.is_none() && place > stretch.to {
                    until = Some(record.sequence + MARGIN);
                    stretch.events_to = Some(record.sequence);
                }
            }
        }
    }

    /// Where the events are too many to be held, the stretch ends before the one that is too much.
    fn take_recorded(
        &self,
        stretch: &mut Stretch,
        record: &Record,
        comparison: &mut Comparison,
    ) -> Result<Place, Ended> {
        let Ok(event) = decode_event(&record.payload) else {
            return Err(not_compared(format!(
                "event {} of the log cannot be read",
                record.sequence
            )));
        };
        if stretch.holds(event.place) {
            comparison.record(event.place, &record.payload);
        }
        let limit = self.options.events_bytes_max;
        if comparison.bytes() > limit {
            let why = || format!("it has more than {limit} bytes of events");
            end_early(stretch, comparison, event.place.input.saturating_sub(1), why)?;
        }
        Ok(event.place)
    }

    /// That an event was never recorded is said when it was acknowledged, by a snapshot or the runner, and is nowhere near
    /// its stretch: one append is published message by message, and a message that is tried again may come long after
    /// the others.
    async fn is_missing(&self, stretch: &Stretch, place: Place) -> Result<(), Ended> {
        let log = self.log.as_ref();
        let is_acknowledged = match &self.spans {
            Spans::Hours => {
                let newest = newest_before(log, &self.site, self.chain(), u64::MAX).await?;
                newest.and_then(|snapshot| snapshot.manifest.published) >= Some(place)
            }
            // What is not is in no stretch.
            Spans::Snapshots(_) => true,
        };
        if !is_acknowledged {
            return Err(not_compared(
                "one of its events may still be on its way into the log",
            ));
        }
        let from = stretch.events_from.saturating_sub(LOOKED_FOR_WITHIN).max(1);
        let last = stretch.events_to.unwrap_or(u64::MAX);
        let to = last.saturating_add(LOOKED_FOR_WITHIN);
        let filter = subjects::chain_events_filter(&self.site, self.chain());
        let mut reader = log.reader(Stream::Events, &filter, Start::Sequence(from)).await?;
        loop {
            let batch = reader.try_next(READ_RECORDS).await?;
            if batch.records.is_empty() && batch.lost.is_none() {
                return Ok(());
            }
            let pause = self.pause(batch.records.len(), Duration::ZERO);
            for record in batch.records {
                if record.sequence > to {
                    return Ok(());
                }
                if decode_event(&record.payload).is_ok_and(|event| event.place == place) {
                    return Err(not_compared(
                        "one of its events stands far from the others in the log",
                    ));
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn fold_again(
        &self,
        stretch: &mut Stretch,
        snapshot: &Candidate,
        comparison: &mut Comparison,
    ) -> Result<Box<dyn StateMachine>, Ended> {
        let (mut fold, mut intake) = self.begin_again(snapshot).await?;
        let filter = subjects::site_filter(self.input(), &self.site);
        let mut sequence = snapshot.position().sequence;
        let start = Start::Sequence(sequence + 1);
        let mut reader = self.log.reader(self.input(), &filter, start).await?;
        let mut read = Read::default();
        loop {
            let began = Instant::now();
            let batch = reader.try_next(self.read_records()).await?;
            if batch.records.is_empty() || batch.lost.is_some() {
                let why = || "some of its records are gone from the log".to_owned();
                end_early(stretch, comparison, sequence, why)?;
                return Ok(fold);
            }
            let records = batch.records.len();
            read.records += records as u64;
            read.bytes += batch
                .records
                .iter()
                .map(|record| record.payload.len() as u64)
                .sum::<u64>();
            if let Some(limit) = self.limit_of(read) {
                end_early(stretch, comparison, sequence, || {
                    format!("it has more than {limit}")
                })?;
                return Ok(fold);
            }
            for record in batch.records {
                sequence = record.sequence;
                if sequence > stretch.to.input {
                    return Ok(fold);
                }
                if let Taken::Observation(observation) = intake.take(&record) {
                    let events = placed(sequence, fold.apply(sequence, &observation));
                    for event in events.iter().filter(|event| event.place > stretch.after) {
                        comparison.derive(event).map_err(Ended::Differed)?;
                    }
                }
                if sequence == stretch.to.input {
                    return Ok(fold);
                }
            }
            tokio::time::sleep(self.pause(records, began.elapsed())).await;
        }
    }

    async fn begin_again(&self, snapshot: &Candidate) -> Result<(Box<dyn StateMachine>, Intake), Ended> {
        let unusable = |reason: String| not_compared(format!("the snapshot before it: {reason}"));
        let state = snapshot.read(self.log.as_ref()).await?.map_err(unusable)?;
        let mut fold = (self.fold)(&self.site);
        let entries = state.entries.into_iter().map(|entry| (entry.key, entry.value));
        fold.load(&snapshot.versions(), entries.collect())
            .map_err(|error| unusable(error.to_string()))?;
        Ok((fold, Intake::new(&self.site, state.collectors)))
    }

    async fn difference(&self, parting: Parting) -> Result<ParityDifference, LogError> {
        let Place { input, index } = parting.place;
        let record = self.log.get(self.input(), input).await?;
        Ok(ParityDifference {
            input,
            index,
            message: record.map(|record| record.id.0).unwrap_or_default(),
            recorded: parting.recorded,
            derived: parting.derived,
        })
    }

    fn limit_of(&self, read: Read) -> Option<String> {
        let (records, bytes) = (self.options.records_max, self.options.bytes_max);
        (read.records > records)
            .then(|| format!("{records} records"))
            .or_else(|| (read.bytes > bytes).then(|| format!("{bytes} bytes of records")))
    }

    /// After so many records, and so much work.
    fn pause(&self, records: usize, worked: Duration) -> Duration {
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        let by_records = Duration::from_secs(1) * records / self.options.records_per_second.max(1);
        by_records.max(worked * self.options.work_parts.saturating_sub(1))
    }

    const fn read_records(&self) -> usize {
        match self.chain() {
            Chain::Site => READ_RECORDS,
            Chain::Packets => READ_PACKET_RECORDS,
        }
    }

    const fn input(&self) -> Stream {
        match self.chain() {
            Chain::Site => Stream::Observations,
            Chain::Packets => Stream::Packets,
        }
    }
}

/// Ends a stretch with the record at `sequence`, which was the last one folded. One that must not be cut, or of which
/// nothing is left, is not compared, and `why` says why.
fn end_early(
    stretch: &mut Stretch,
    comparison: &mut Comparison,
    sequence: u64,
    why: impl Fn() -> String,
) -> Result<(), Ended> {
    stretch.end_with(sequence);
    if !stretch.may_end_early || stretch.is_empty() {
        return Err(not_compared(why()));
    }
    comparison.cut(stretch.to);
    Ok(())
}
