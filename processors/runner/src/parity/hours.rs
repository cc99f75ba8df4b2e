//! Which hour is checked: by turns the newest, and one somewhere in what is kept.
//!
//! The newest, because a difference should be told soon; the others, because what was recorded long ago should still
//! follow. Both are found by the digests in the log of events, so nothing has to be remembered.

use watchfold_log::{LogError, MessageLog, Record, Start, agrees};
use watchfold_schemas::event::{HourDigest, Place};
use watchfold_schemas::{Chain, EventBody, Stream, Time, decode_event, subjects};

use super::stretch::{Picked, Stretch, evenly};
use crate::snapshot::{Candidate, newest_before};

/// Digests per read. There is one an hour.
const READ_DIGESTS: usize = 16;

/// How far back from a digest the one before is looked for first, in sequences; then four times as far.
const BACK_FIRST: u64 = 4_096;

/// A digest where it stands.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// In the log of events.
    pub(super) sequence: u64,
    pub(super) place: Place,
    pub(super) digest: HourDigest,
}

/// An hour between two digests.
#[derive(Clone, Debug)]
pub(super) struct Hour {
    pub(super) begin: Mark,
    pub(super) end: Mark,
}

/// Where the digests of a chain are.
pub(super) struct Digests<'a> {
    pub(super) log: &'a dyn MessageLog,
    pub(super) site: &'a str,
    pub(super) chain: Chain,
    pub(super) input: Stream,
    /// The version that folds here.
    pub(super) software: &'a str,
}

impl Digests<'_> {
    /// The hour of the check of this number, or why there is none yet.
    pub(super) async fn pick(&self, number: u64) -> Result<Result<Picked, &'static str>, LogError> {
        let Some(hour) = self.hour(number).await? else {
            return Ok(Err("no whole hour is recorded"));
        };
        Ok(Ok(Picked {
            stretch: Stretch::of_hour(&hour),
            begins: self.begins(&hour).await?,
        }))
    }

    /// A snapshot at the hour's beginning, or from within the hour before, which is then folded too.
    async fn begins(&self, hour: &Hour) -> Result<Result<Candidate, String>, LogError> {
        let refused = |reason: &str| Ok(Err(reason.to_owned()));
        let begin = &hour.begin;
        if begin.digest.until != hour.end.digest.from {
            return refused("the digest before it is gone");
        }
        if let Err(other) = self.is_ours(&hour.end.digest.software) {
            return Ok(Err(other));
        }
        let found = newest_before(self.log, self.site, self.chain, begin.place.input).await?;
        let Some(snapshot) = found else {
            return refused("no snapshot from before it is kept");
        };
        let position = snapshot.position();
        if position.sequence < begin.place.input {
            if snapshot.manifest.at < begin.digest.from {
                return refused("the snapshot before it is more than an hour older");
            }
            if let Err(other) = self.is_ours(&begin.digest.software) {
                return Ok(Err(other));
            }
        }
        if !agrees(self.log, self.input, &position).await? {
            return refused("the snapshot before it is of another log");
        }
        if self.log.info(self.input).await?.first_sequence > position.sequence + 1 {
            return refused("its records are no longer kept");
        }
        Ok(Ok(snapshot))
    }

    /// Other software may derive something else, and rightly.
    fn is_ours(&self, software: &[String]) -> Result<(), String> {
        let ours = self.software;
        if software == [ours] {
            return Ok(());
        }
        let theirs = software.join(" and ");
        Err(format!("derived by version {theirs}, and this is {ours}"))
    }

    /// `None` while there are not two digests.
    async fn hour(&self, number: u64) -> Result<Option<Hour>, LogError> {
        let last = self.log.last(Stream::Events, &self.subject()).await?;
        let Some(newest) = last.as_ref().and_then(mark) else {
            return Ok(None);
        };
        if number % 2 == 1
            && let Some(hour) = self.somewhere(number / 2, &newest).await?
        {
            return Ok(Some(hour));
        }
        self.ending_with(newest).await
    }

    async fn ending_with(&self, end: Mark) -> Result<Option<Hour>, LogError> {
        let begin = self.before(&end).await?;
        Ok(begin.map(|begin| Hour { begin, end }))
    }

    async fn somewhere(&self, turn: u64, newest: &Mark) -> Result<Option<Hour>, LogError> {
        let Some(first) = self.first_with_input().await? else {
            return Ok(None);
        };
        let from = first + evenly(turn, newest.sequence.saturating_sub(first));
        match self.read(from, newest.sequence, 1).await?.pop() {
            Some(end) => self.ending_with(end).await,
            None => Ok(None),
        }
    }

    /// The first event of those whose input and snapshots are still kept, or nearly.
    async fn first_with_input(&self) -> Result<Option<u64>, LogError> {
        let mut since = Time::EPOCH;
        for stream in [self.input, Stream::Snapshots] {
            let info = self.log.info(stream).await?;
            if let Some(first) = self.log.get(stream, info.first_sequence).await? {
                since = since.max(first.stored_at);
            }
        }
        let filter = subjects::chain_events_filter(self.site, self.chain);
        let mut reader = self
            .log
            .reader(Stream::Events, &filter, Start::StoredAt(since))
            .await?;
        let batch = reader.try_next(1).await?;
        Ok(batch.records.first().map(|record| record.sequence))
    }

    async fn before(&self, newest: &Mark) -> Result<Option<Mark>, LogError> {
        let first = self.log.info(Stream::Events).await?.first_sequence;
        let mut back = BACK_FIRST;
        loop {
            let from = newest.sequence.saturating_sub(back).max(first);
            let marks = self.read(from, newest.sequence, usize::MAX).await?;
            let before = marks.into_iter().rfind(|mark| mark.place < newest.place);
            if before.is_some() || from <= first {
                return Ok(before);
            }
            back = back.saturating_mul(4);
        }
    }

    /// The digests from one sequence to another, both included, at most `count`; each once.
    async fn read(&self, from: u64, to: u64, count: usize) -> Result<Vec<Mark>, LogError> {
        let mut reader = self
            .log
            .reader(Stream::Events, &self.subject(), Start::Sequence(from))
            .await?;
        let mut marks: Vec<Mark> = Vec::new();
        loop {
            let batch = reader.try_next(READ_DIGESTS).await?;
            if batch.records.is_empty() && batch.lost.is_none() {
                return Ok(marks);
            }
            for record in &batch.records {
                if record.sequence > to || marks.len() >= count {
                    return Ok(marks);
                }
                // A tail that was published again is told by its places.
                let is_new = |mark: &Mark| marks.last().is_none_or(|last| last.place < mark.place);
                marks.extend(mark(record).filter(is_new));
            }
        }
    }

    fn subject(&self) -> String {
        subjects::event(self.site, self.chain, "digest", self.chain.token())
    }
}

fn mark(record: &Record) -> Option<Mark> {
    let event = decode_event(&record.payload).ok()?;
    match event.body {
        EventBody::Digest(digest) => Some(Mark {
            sequence: record.sequence,
            place: event.place,
            digest,
        }),
        _ => None,
    }
}
