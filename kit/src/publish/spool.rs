//! A collector's own log on disk: what the log cannot take waits there, under the identity that it keeps for ever.
//!
//! It does not decide when to spool or to forward (the writer does), and it does not know what is measured. A mark says
//! up to where the records were forwarded; it is durable, so the next process goes on from there.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use watchfold_log::{
    Append, Embedded, LogError, LogReader, LostRange, MessageLog, Options, Record, Start, StreamInfo,
    StreamOptions,
};
use watchfold_schemas::{Observation, Origin, Stream, Time, decode_observation, subjects};

use crate::KitError;
use crate::publish::forward::{Forward, Mark, earliest};

/// The one stream of a spool that is used: its records have one order, whatever streams they go to. Which one that is
/// stands in a record's subject.
const STREAM: Stream = Stream::Observations;

/// The named position of a spool.
const MARK_NAME: &str = "forwarded";

/// A full spool loses whole segments, so each is at most this part of it.
const SEGMENTS_PER_SPOOL: u64 = 32;

/// The largest segment: little to lose at once, and few files in a large spool.
const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The smallest segment, below which files would cost more than they hold.
const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// How long a start waits for the process before it to let go of the spool.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How often it looks meanwhile.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Where a collector keeps what the log cannot take.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Each collector makes a directory of its name in it, only while something waits there.
    pub directory: PathBuf,
    /// Bytes on disk for one collector; when it is reached, the oldest records go and a gap takes their place.
    pub bytes_max: u64,
}

/// One collector's spool. It is on disk only while something waits in it.
pub(crate) struct Spool {
    path: PathBuf,
    options: StreamOptions,
    /// The streams that its records may go to; what it loses is a gap in each.
    streams: Vec<Stream>,
    open: Option<Open>,
    /// A directory with records was there at the start and has not been opened yet.
    unread: bool,
    /// Up to where it was forwarded; `None` when that is not known.
    mark: Option<Mark>,
    /// The last record in it.
    newest: Option<Mark>,
    /// The last sequence handed out to be forwarded.
    handed_out: u64,
    /// Lost records that no gap stands for yet.
    owed: Option<LostRange>,
    /// The gaps for a spool that was set aside.
    aside: Vec<Forward>,
    /// One was set aside of which nobody knows what it held, so there is no such gap.
    untold: bool,
    /// How often a spool was set aside: sequences begin anew each time.
    lives: u32,
}

struct Open {
    log: Arc<Embedded>,
    reader: Box<dyn LogReader>,
    log_id: String,
}

impl Spool {
    /// Looks for what an earlier process left, and sets it aside when it is unusable. Makes no spool yet.
    pub(crate) async fn start(
        options: &SpoolOptions,
        collector: &str,
        streams: &[Stream],
    ) -> Result<Spool, KitError> {
        let path = options.directory.join(collector);
        let failed = |action, path: &Path, source| KitError::State {
            action,
            path: path.display().to_string(),
            source,
        };
        fs::create_dir_all(&options.directory)
            .map_err(|error| failed("create", &options.directory, error))?;
        let mut spool = Spool {
            unread: holds_records(&path),
            path,
            options: stream_options(options.bytes_max),
            streams: streams.to_vec(),
            open: None,
            mark: None,
            newest: None,
            handed_out: 0,
            owed: None,
            aside: Vec::new(),
            untold: false,
            lives: 0,
        };
        remove_all(&spool.beside("drained"));
        if !spool.unread {
            return Ok(spool);
        }
        let mut waited = Duration::ZERO;
        loop {
            match spool.open_files().await {
                Ok(()) => return Ok(spool),
                Err(error @ LogError::Locked { .. }) if waited >= LOCK_PATIENCE => {
                    return Err(KitError::Spool(error));
                }
                Err(LogError::Locked { .. }) => {
                    waited += LOCK_RETRY;
                    tokio::time::sleep(LOCK_RETRY).await;
                }
                Err(error @ LogError::Full { .. }) => {
                    tracing::warn!(collector, %error, "the spool cannot be opened; records wait in memory until it can");
                    return Ok(spool);
                }
                Err(error) => {
                    let aside = spool.beside("damaged");
                    spool
                        .set_aside(&error)
                        .map_err(|error| failed("set aside to", &aside, error))?;
                    return Ok(spool);
                }
            }
        }
    }

    /// Nothing waits here for the log.
    pub(crate) fn is_drained(&self) -> bool {
        let forwarded = self.mark.as_ref().map_or(0, |mark| mark.sequence);
        let newest = self.newest.as_ref().map_or(0, |newest| newest.sequence);
        !self.unread && self.aside.is_empty() && forwarded >= newest
    }

    pub(crate) fn records(&self) -> u64 {
        let newest = self.newest.as_ref().map_or(0, |newest| newest.sequence);
        newest.saturating_sub(self.mark.as_ref().map_or(0, |mark| mark.sequence))
    }

    /// Bytes on disk, forwarded records of kept segments included.
    pub(crate) async fn bytes(&mut self) -> u64 {
        match &self.open {
            Some(open) => open.log.info(STREAM).await.map_or(0, |info| info.bytes),
            None => 0,
        }
    }

    pub(crate) fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// The last record in it; no later incarnation may begin below this one's.
    pub(crate) fn newest(&self) -> Option<&Mark> {
        self.newest.as_ref()
    }

    /// Appends records that have their identity, synced. `before` is the place of the one before them, from which the
    /// next loss would begin; `last` is that of the last one. The same records may be appended again after an error.
    pub(crate) async fn append(
        &mut self,
        before: Mark,
        last: Mark,
        mut messages: Vec<Append>,
    ) -> Result<Vec<u64>, LogError> {
        for message in &mut messages {
            message.stream = STREAM;
        }
        self.open().await?;
        if self.is_drained() {
            let sequence = self.newest.as_ref().map_or(0, |newest| newest.sequence);
            self.save_mark(Mark { sequence, ..before }).await?;
        }
        let Some(open) = &self.open else {
            return Err(LogError::Closed);
        };
        let acks = match open.log.append(messages).await {
            Ok(acks) => acks,
            Err(error) => {
                if matches!(error, LogError::Stopped(_) | LogError::Closed) {
                    self.close().await;
                }
                return Err(error);
            }
        };
        let sequences: Vec<u64> = acks.iter().map(|ack| ack.sequence).collect();
        if let Some(&sequence) = sequences.last() {
            self.newest = Some(Mark { sequence, ..last });
        }
        Ok(sequences)
    }

    /// The next records to forward, oldest first; what was lost before them is a gap in its place.
    pub(crate) async fn read(&mut self, records: usize) -> Result<Vec<Forward>, LogError> {
        if self.unread {
            self.open().await?;
        }
        if !self.aside.is_empty() {
            return Ok(std::mem::take(&mut self.aside));
        }
        self.open().await?;
        let Some(open) = &mut self.open else {
            return Err(LogError::Closed);
        };
        let batch = open.reader.try_next(records).await?;
        let info = open.log.info(STREAM).await?;
        if let Some(lost) = batch.lost {
            let from = self.owed.map_or(lost.from, |owed| owed.from);
            self.owed = Some(LostRange { from, to: lost.to });
        }
        let mut out = Vec::with_capacity(batch.records.len() + 1);
        let mut through = self.mark.as_ref().map_or(Time::EPOCH, |mark| mark.through);
        for record in batch.records {
            let observation = decode_observation(&record.payload).ok();
            out.extend(self.gap_before(&record, observation.as_ref(), &info));
            self.handed_out = record.sequence;
            let Ok(origin) = record.id.0.parse::<Origin>() else {
                tracing::warn!(path = %self.path.display(), id = %record.id, "a spooled record without an origin is left out");
                continue;
            };
            through = observation.map_or(through, |observation| observation.through);
            out.push(Forward {
                mark: Mark {
                    sequence: record.sequence,
                    origin,
                    through,
                },
                append: Append {
                    stream: subjects::stream_of(&record.subject).unwrap_or(STREAM),
                    subject: record.subject,
                    id: record.id,
                    payload: record.payload,
                },
                lost: 0,
            });
        }
        out.extend(self.gap_at_the_end(&info));
        if out.is_empty() && !self.is_drained() {
            tracing::warn!(path = %self.path.display(), "the spool holds less than was counted");
            self.newest = self.mark.clone();
        }
        Ok(out)
    }

    /// Everything up to here is in the log. Not being able to note it only means that a restart repeats some records.
    pub(crate) async fn forwarded(&mut self, mark: Mark) {
        let kept = mark.clone();
        if let Err(error) = self.save_mark(mark).await {
            tracing::warn!(path = %self.path.display(), %error, "cannot note how far the spool was forwarded");
            self.mark = Some(kept);
        }
    }

    /// Frees the disk of a spool in which nothing waits. One that cannot go stays, empty.
    pub(crate) async fn discard(&mut self) {
        if !self.is_drained() || self.open.is_none() {
            return;
        }
        self.close().await;
        let (path, drained) = (self.path.clone(), self.beside("drained"));
        let removed = tokio::task::spawn_blocking(move || {
            remove_all(&drained);
            // In one step, so that no crash leaves records without the mark that says they were forwarded.
            fs::rename(&path, &drained).map(|()| remove_all(&drained))
        });
        match removed.await.unwrap_or_else(|error| Err(error.into())) {
            Ok(()) => (self.mark, self.newest, self.handed_out) = (None, None, 0),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot remove a drained spool");
            }
        }
    }

    /// How often it was set aside and begun anew.
    pub(crate) fn lives(&self) -> u32 {
        self.lives
    }

    /// Whether a spool was set aside that no gap stands for; asked once, by whoever tells of it.
    pub(crate) fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.untold)
    }

    /// Sets a spool aside that cannot be read, so that what comes later is not held back for ever.
    pub(crate) async fn give_up(&mut self, error: &LogError) {
        self.close().await;
        if let Err(error) = self.set_aside(error) {
            tracing::error!(path = %self.path.display(), %error, "cannot set a spool aside that cannot be read");
        }
    }

    /// Lets go of the files; everything appended is synced.
    pub(crate) async fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        if tokio::task::spawn_blocking(move || drop(open)).await.is_err() {
            tracing::error!(path = %self.path.display(), "closing the spool failed; the next open recovers it");
        }
    }

    /// Opens or makes the spool. One that cannot be used is set aside, and a new one made.
    async fn open(&mut self) -> Result<(), LogError> {
        if self.open.is_some() {
            return Ok(());
        }
        let error = match self.open_files().await {
            Err(error) if self.unread || self.newest.is_some() => error,
            opened => return opened,
        };
        if passes(&error) {
            return Err(error);
        }
        let (action, path) = ("set aside", self.path.display().to_string());
        self.set_aside(&error)
            .map_err(|source| LogError::Io { action, path, source })?;
        self.open_files().await
    }

    async fn open_files(&mut self) -> Result<(), LogError> {
        let (path, options) = (self.path.clone(), Options::uniform(self.options));
        let log = tokio::task::spawn_blocking(move || Embedded::open(&path, options))
            .await
            .unwrap_or_else(|error| Err(LogError::Stopped(error.to_string())))?;
        let info = log.info(STREAM).await?;
        let position = log.load_position(MARK_NAME).await?;
        let stored = position
            .filter(|position| position.log_id == info.log_id)
            .and_then(|position| Mark::from_position(&position));
        let known = self.mark.take().into_iter().chain(stored);
        self.mark = known
            .filter(|mark| mark.sequence <= info.last_sequence)
            .max_by_key(|mark| mark.sequence);
        if self.mark.is_none() {
            self.handed_out = 0;
        }
        let newest = log.get(STREAM, info.last_sequence).await?;
        self.newest = newest
            .and_then(|record| Mark::of_record(&record))
            .or_else(|| {
                self.newest
                    .take()
                    .filter(|newest| newest.sequence <= info.last_sequence)
            })
            .or_else(|| self.mark.clone());
        let next = self
            .mark
            .as_ref()
            .map(|mark| mark.sequence.max(self.handed_out) + 1);
        let start = next.map_or(Start::First, Start::Sequence);
        let reader = log.reader(STREAM, ">", start).await?;
        self.unread = false;
        self.open = Some(Open {
            log,
            reader,
            log_id: info.log_id,
        });
        Ok(())
    }

    async fn save_mark(&mut self, mark: Mark) -> Result<(), LogError> {
        if let Some(open) = &self.open {
            let position = mark.to_position(&open.log_id);
            open.log.save_position(MARK_NAME, position).await?;
        }
        self.mark = Some(mark);
        Ok(())
    }

    /// Moves the directory away. What waited in it is lost, as far as it is known.
    fn set_aside(&mut self, error: &LogError) -> std::io::Result<()> {
        let aside = self.beside("damaged");
        remove_all(&aside);
        fs::rename(&self.path, &aside)?;
        tracing::warn!(path = %aside.display(), %error, "the spool cannot be read and is set aside; what waited in it is lost");
        let waiting = LostRange {
            from: self.handed_out + 1,
            to: self.newest.as_ref().map_or(0, |newest| newest.sequence),
        };
        let known = self.newest.take().filter(|_| waiting.from <= waiting.to);
        if self.unread {
            self.untold = true;
        } else if let Some(newest) = known {
            let gap = self.gap(
                waiting,
                newest.origin,
                newest.through,
                "the collector's spool was damaged",
            );
            self.aside = gap;
            self.aside.iter_mut().for_each(Forward::outlive_spool);
        }
        self.mark = self.mark.take().map(|mark| Mark { sequence: 0, ..mark });
        (self.unread, self.handed_out, self.owed) = (false, 0, None);
        self.lives += 1;
        Ok(())
    }

    /// The gaps for what was lost right before `record`.
    fn gap_before(
        &mut self,
        record: &Record,
        observation: Option<&Observation>,
        info: &StreamInfo,
    ) -> Vec<Forward> {
        let (Some(lost), Ok(first)) = (self.owed.take(), record.id.0.parse::<Origin>()) else {
            return Vec::new();
        };
        // Above all that was lost, some of which may have reached the log, and below the record. Where the record is the
        // first of its incarnation this is number 0, which no observation has.
        let origin = Origin {
            number: first.number.saturating_sub(1),
            ..first
        };
        // Later than all that was lost, and no later than anything that the record holds.
        let mut to = observation.map_or(record.stored_at, |first| earliest(&first.body, first.through));
        let mark = self.mark.as_ref();
        if let Some(mark) = mark.filter(|mark| mark.origin.incarnation == origin.incarnation) {
            to = to.max(mark.through);
        }
        self.gap(lost, origin, to, loss_reason(lost, info))
    }

    /// The gaps when the last records themselves are lost.
    fn gap_at_the_end(&mut self, info: &StreamInfo) -> Vec<Forward> {
        let Some(newest) = self.newest.clone() else {
            return Vec::new();
        };
        let Some(lost) = self.owed.take_if(|owed| owed.to >= newest.sequence) else {
            return Vec::new();
        };
        self.handed_out = lost.to;
        self.gap(lost, newest.origin, newest.through, loss_reason(lost, info))
    }

    /// One gap in each stream, under one identity: nobody knows which of them the lost records were for. Only the last
    /// one moves the mark and is counted, so that a restart between them repeats them all.
    fn gap(&self, lost: LostRange, origin: Origin, to: Time, reason: &str) -> Vec<Forward> {
        let mark = self.mark.as_ref();
        let first = mark.map_or(lost.from, |mark| lost.from.max(mark.sequence + 1));
        let records = (lost.to + 1).saturating_sub(first);
        let from = mark.map_or(Time::EPOCH, |mark| mark.through).min(to);
        let last = Mark {
            sequence: lost.to,
            origin,
            through: to,
        };
        let gap = |stream: &Stream| Forward::gap(*stream, last.clone(), from, records, reason);
        let mut gaps: Vec<Forward> = self.streams.iter().filter_map(gap).collect();
        if let Some((_, before)) = gaps.split_last_mut() {
            for earlier in before {
                earlier.lost = 0;
                earlier.mark = mark.cloned().unwrap_or_else(|| Mark {
                    sequence: lost.from.saturating_sub(1),
                    ..earlier.mark.clone()
                });
            }
        }
        gaps
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(suffix);
        self.path.with_file_name(name)
    }
}

/// Whether the files may be sound all the same: the disk is full, or another process has them.
pub(crate) fn passes(error: &LogError) -> bool {
    matches!(error, LogError::Full { .. } | LogError::Locked { .. })
}

fn loss_reason(lost: LostRange, info: &StreamInfo) -> &'static str {
    if lost.to < info.first_sequence {
        "the collector's spool was full"
    } else {
        "the collector's spool was damaged"
    }
}

fn stream_options(bytes_max: u64) -> StreamOptions {
    StreamOptions {
        segment_bytes: (bytes_max / SEGMENTS_PER_SPOOL).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
        sync_delay: Duration::ZERO,
        ..StreamOptions::new(bytes_max, None)
    }
}

/// Whether a segment is there; a spool that was only begun holds nothing to wait for.
fn holds_records(path: &Path) -> bool {
    let names = fs::read_dir(path.join(STREAM.name()))
        .into_iter()
        .flatten()
        .flatten();
    names
        .into_iter()
        .any(|entry| entry.path().extension().is_some_and(|suffix| suffix == "wfl"))
        || (path.exists() && !path.is_dir())
}

/// What stays is removed at the next chance.
fn remove_all(path: &Path) {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a spool that is no longer needed");
        }
        _ => {}
    }
}
