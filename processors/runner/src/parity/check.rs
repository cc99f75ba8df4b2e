//! One check: from the snapshot before an hour through its last record, event by event against what was recorded.

use std::time::Duration;

use watchfold_folds::StateMachine;
use watchfold_log::{LogError, Start, agrees};
use watchfold_schemas::event::Place;
use watchfold_schemas::observation::{Parity, ParityDifference, ParityVerdict};
use watchfold_schemas::{Chain, Stream, decode_event, subjects};

use super::compare::{Comparison, Parting, compare_entries};
use super::hours::{Digests, Hour};
use super::{Checked, ParityCheck};
use crate::intake::{Intake, Taken, placed};
use crate::outbox::PUBLISH_EVENTS_MAX;
use crate::snapshot::{Candidate, newest_before};

/// Records and events per read: between two reads, others have their turn.
const READ_RECORDS: usize = 256;

/// How far around an hour an event that seems to be missing is looked for, in sequences of the stream that all sites
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

impl ParityCheck {
    /// One check. Checks of even numbers take the newest hour, the others spread over what is kept.
    pub async fn check(&self, number: u64) -> Result<Checked, LogError> {
        let digests = Digests {
            log: self.log.as_ref(),
            site: &self.site,
            chain: self.chain,
            input: self.input(),
        };
        let Some(hour) = digests.pick(number).await? else {
            return Ok(Checked::Nothing("no whole hour is recorded"));
        };
        let mut comparison = Comparison::default();
        let verdict = match self.compare(&hour, &mut comparison).await {
            Ok(()) => ParityVerdict::Agreed,
            Err(Ended::Differed(parting)) => ParityVerdict::Differed(self.difference(parting).await?),
            Err(Ended::NotCompared(reason)) => ParityVerdict::NotCompared { reason },
            Err(Ended::Failed(error)) => return Err(error),
        };
        Ok(Checked::Hour(Parity {
            chain: self.chain,
            hour: hour.end.digest.hour,
            from: hour.begin.place.input + 1,
            to: hour.end.place.input,
            events: comparison.equal,
            verdict,
        }))
    }

    async fn compare(&self, hour: &Hour, comparison: &mut Comparison) -> Result<(), Ended> {
        if hour.begin.digest.until != hour.end.digest.from {
            return Err(not_compared("the digest before it is gone"));
        }
        self.is_ours(&hour.end.digest.software)?;
        let snapshot = self.snapshot(hour).await?;
        self.read_recorded(hour, comparison).await?;
        let fold = match self.fold_again(hour, &snapshot, comparison).await {
            Err(Ended::Differed(parting)) if parting.recorded.is_none() => {
                self.is_missing(hour, parting.place).await?;
                return Err(Ended::Differed(parting));
            }
            folded => folded?,
        };
        comparison.finish().map_err(Ended::Differed)?;
        self.compare_state(hour, fold.as_ref()).await
    }

    /// What the hour left behind: a difference that shows in no event yet would never show, because the next hour is
    /// folded from this state.
    async fn compare_state(&self, hour: &Hour, fold: &dyn StateMachine) -> Result<(), Ended> {
        let (log, end) = (self.log.as_ref(), hour.end.place);
        let Some(snapshot) = newest_before(log, &self.site, self.chain, end.input).await? else {
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

    /// Other software may derive something else, and rightly.
    fn is_ours(&self, software: &[String]) -> Result<(), Ended> {
        if software == [self.options.software.as_str()] {
            return Ok(());
        }
        let ours = &self.options.software;
        Err(not_compared(format!(
            "derived by version {}, and this is {ours}",
            software.join(" and ")
        )))
    }

    /// One at the hour's beginning, or within the hour before, which is then folded too.
    async fn snapshot(&self, hour: &Hour) -> Result<Candidate, Ended> {
        let log = self.log.as_ref();
        let begin = &hour.begin;
        let found = newest_before(log, &self.site, self.chain, begin.place.input).await?;
        let snapshot = found.ok_or_else(|| not_compared("no snapshot from before it is kept"))?;
        let position = snapshot.position();
        if position.sequence < begin.place.input {
            if snapshot.manifest.at < begin.digest.from {
                return Err(not_compared("the snapshot before it is more than an hour older"));
            }
            self.is_ours(&begin.digest.software)?;
        }
        if !agrees(log, self.input(), &position).await? {
            return Err(not_compared("the snapshot before it is of another log"));
        }
        if log.info(self.input()).await?.first_sequence > position.sequence + 1 {
            return Err(not_compared("its records are no longer kept"));
        }
        Ok(snapshot)
    }

    /// Events were published in their order, but a transport may have turned those of one append around.
    async fn read_recorded(&self, hour: &Hour, comparison: &mut Comparison) -> Result<(), Ended> {
        let margin = PUBLISH_EVENTS_MAX as u64;
        let (first, last) = (hour.begin.place, hour.end.place);
        let from = hour.begin.sequence.saturating_sub(margin).max(1);
        let to = hour.end.sequence + margin;
        let filter = subjects::chain_events_filter(&self.site, self.chain);
        let start = Start::Sequence(from);
        let mut reader = self.log.reader(Stream::Events, &filter, start).await?;
        loop {
            let batch = reader.try_next(READ_RECORDS).await?;
            if batch.records.is_empty() && batch.lost.is_none() {
                return Ok(());
            }
            if batch
                .lost
                .is_some_and(|lost| lost.to > hour.begin.sequence && lost.from < hour.end.sequence)
            {
                return Err(not_compared("some of its events are gone from the log"));
            }
            for record in batch.records {
                if record.sequence > to {
                    return Ok(());
                }
                let Ok(event) = decode_event(&record.payload) else {
                    return Err(not_compared(format!(
                        "event {} of the log cannot be read",
                        record.sequence
                    )));
                };
                if first < event.place && event.place <= last {
                    comparison.record(event.place, &record.payload);
                }
            }
            if comparison.bytes() > self.options.events_bytes_max {
                let limit = self.options.events_bytes_max;
                return Err(not_compared(format!("it has more than {limit} bytes of events")));
            }
        }
    }

    /// That an event was never recorded is said when it was acknowledged, by a snapshot, and is nowhere near its hour:
    /// one append is published message by message, and a message that is tried again may come long after the others.
    async fn is_missing(&self, hour: &Hour, place: Place) -> Result<(), Ended> {
        let log = self.log.as_ref();
        let newest = newest_before(log, &self.site, self.chain, u64::MAX).await?;
        let published = newest.and_then(|snapshot| snapshot.manifest.published);
        if published.is_none_or(|published| published < place) {
            return Err(not_compared(
                "one of its events may still be on its way into the log",
            ));
        }
        let from = hour.begin.sequence.saturating_sub(LOOKED_FOR_WITHIN).max(1);
        let to = hour.end.sequence.saturating_add(LOOKED_FOR_WITHIN);
        let filter = subjects::chain_events_filter(&self.site, self.chain);
        let mut reader = log.reader(Stream::Events, &filter, Start::Sequence(from)).await?;
        loop {
            let batch = reader.try_next(READ_RECORDS).await?;
            if batch.records.is_empty() && batch.lost.is_none() {
                return Ok(());
            }
            let pause = pause(batch.records.len(), self.options.records_per_second);
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
        hour: &Hour,
        snapshot: &Candidate,
        comparison: &mut Comparison,
    ) -> Result<Box<dyn StateMachine>, Ended> {
        let state = snapshot.read(self.log.as_ref()).await?;
        let state = state.map_err(|reason| not_compared(format!("the snapshot before it: {reason}")))?;
        let mut fold = (self.fold)(&self.site);
        let entries = state.entries.into_iter().map(|entry| (entry.key, entry.value));
        fold.load(&snapshot.versions(), entries.collect())
            .map_err(|reason| not_compared(format!("the snapshot before it: {reason}")))?;
        let mut intake = Intake::new(&self.site, state.collectors);

        let filter = subjects::site_filter(self.input(), &self.site);
        let start = Start::Sequence(snapshot.position().sequence + 1);
        let mut reader = self.log.reader(self.input(), &filter, start).await?;
        let mut folded = 0;
        loop {
            let batch = reader.try_next(READ_RECORDS).await?;
            if batch.records.is_empty() || batch.lost.is_some() {
                return Err(not_compared("some of its records are gone from the log"));
            }
            folded += batch.records.len() as u64;
            if folded > self.options.records_max {
                let limit = self.options.records_max;
                return Err(not_compared(format!("it has more than {limit} records")));
            }
            let pause = pause(batch.records.len(), self.options.records_per_second);
            for record in batch.records {
                let sequence = record.sequence;
                if sequence > hour.end.place.input {
                    return Ok(fold);
                }
                if let Taken::Observation(observation) = intake.take(&record) {
                    let events = placed(sequence, fold.apply(sequence, &observation));
                    // What it gives after the beginning belongs to the hour.
                    let of_hour = events.iter().filter(|event| event.place > hour.begin.place);
                    for event in of_hour {
                        comparison.derive(event).map_err(Ended::Differed)?;
                    }
                }
                if sequence == hour.end.place.input {
                    return Ok(fold);
                }
            }
            tokio::time::sleep(pause).await;
        }
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

    const fn input(&self) -> Stream {
        match self.chain {
            Chain::Site => Stream::Observations,
            Chain::Packets => Stream::Packets,
        }
    }
}

fn pause(records: usize, per_second: u32) -> Duration {
    Duration::from_secs(1) * u32::try_from(records).unwrap_or(u32::MAX) / per_second.max(1)
}
