//! Reads one stream in order through [`View`]s: seeks, filters, and names what is lost. Blocking; waits for nothing.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use watchfold_schemas::Time;

use crate::disk::{Disk, io_error};
use crate::filter::Filter;
use crate::frame::{Frame, frame_seed};
use crate::index::Index;
use crate::layout::Segment;
use crate::view::{Damage, View};
use crate::walk::Walk;
use crate::{Batch, LogError, LostRange, Record, Start};

/// Bytes that one call reads before it returns, found or not, so that a filter that matches little can be stopped.
const CALL_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A place in a stream. Cloning it is cheap, so a caller can keep the old one until the new one is certain.
#[derive(Clone)]
pub struct StreamReader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    damage: Damage,
    filter: Filter,
    next_sequence: u64,
    open: Option<OpenSegment>,
}

#[derive(Clone)]
struct OpenSegment {
    number: u64,
    walk: Walk,
}

impl StreamReader {
    pub fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        damage: Damage,
        filter: &str,
        next_sequence: u64,
    ) -> StreamReader {
        StreamReader {
            disk,
            dir,
            damage,
            filter: Filter::new(filter),
            next_sequence: next_sequence.max(1),
            open: None,
        }
    }

    /// Stands where `start` says.
    pub fn seek(&mut self, view: &View, start: &Start) -> Result<(), LogError> {
        self.open = None;
        self.next_sequence = match start {
            Start::First => view.first_sequence(),
            Start::New => view.next_sequence,
            Start::Sequence(sequence) => (*sequence).max(1),
            Start::StoredAt(time) => self.sequence_stored_at(view, *time)?,
        };
        Ok(())
    }

    /// The sequence that it reads next.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The next records that `view` shows, at most `max`, perhaps none although there are more: see
    /// [`StreamReader::next_sequence`].
    pub fn read(&mut self, view: &View, max: usize) -> Result<Batch, LogError> {
        let mut batch = Batch {
            lost: None,
            records: Vec::new(),
            last_sequence: view.next_sequence - 1,
        };
        let mut bytes_left = CALL_BYTES_MAX;
        while self.next_sequence < view.next_sequence && batch.records.len() < max && bytes_left > 0 {
            let Some((segment, end, limit)) = view.segment_of(self.next_sequence) else {
                // Older than the first segment.
                if !self.lose(&mut batch, view.first_sequence(), false) {
                    break;
                }
                continue;
            };
            let Some(mut open) = self.open_segment(segment, end, view)? else {
                // Its file is gone: retention was faster than this view.
                if !self.lose(&mut batch, limit, false) {
                    break;
                }
                continue;
            };
            let failed = |error| io_error("read", &segment.path, error);
            let is_due_here = self
                .read_due(&mut open.walk, limit, &mut batch, max, &mut bytes_left)
                .map_err(failed)?;
            if is_due_here {
                self.open = Some(open);
                continue;
            }
            let before = open.clone();
            let found = open.walk.next().map_err(failed)?;
            let gap_end = found
                .as_ref()
                .map_or(limit, |found| found.frame.sequence.min(limit));
            if gap_end > self.next_sequence && !self.lose(&mut batch, gap_end, true) {
                self.open = Some(before);
                break;
            }
            self.open = found.is_some().then_some(open);
            if let Some(found) = found.filter(|found| found.frame.sequence == self.next_sequence) {
                self.next_sequence += 1;
                self.take(&mut batch, &found.frame, &found.bytes, 0);
                bytes_left = bytes_left.saturating_sub(found.frame.bytes as u64 + found.skipped);
            }
        }
        Ok(batch)
    }

    /// Reads on while what is due stands where it should: up to `limit`, or what one call may read. False if something
    /// else stands there.
    fn read_due(
        &mut self,
        walk: &mut Walk,
        limit: u64,
        batch: &mut Batch,
        max: usize,
        bytes_left: &mut u64,
    ) -> io::Result<bool> {
        while self.next_sequence < limit && batch.records.len() < max && *bytes_left > 0 {
            if walk.expected() != self.next_sequence {
                return Ok(false);
            }
            let Some((frame, block, start)) = walk.next_due()? else {
                return Ok(false);
            };
            self.next_sequence += 1;
            *bytes_left = bytes_left.saturating_sub(frame.bytes as u64);
            self.take(batch, &frame, block, start);
        }
        Ok(true)
    }

    fn take(&self, batch: &mut Batch, frame: &Frame, block: &Bytes, start: usize) {
        let lets_through = match &self.filter {
            Filter::Everything => true,
            filter => filter.lets_through(frame.subject(&block[start..])),
        };
        if lets_through {
            batch.records.push(frame.record(block, start));
        }
    }

    /// Steps over what is lost before `to`; false if the batch must be handed out first, because it cannot tell of it.
    fn lose(&mut self, batch: &mut Batch, to: u64, is_damage: bool) -> bool {
        let from = self.next_sequence;
        let joined = match batch.lost {
            _ if !batch.records.is_empty() => return false,
            Some(lost) if lost.to + 1 != from => return false,
            Some(lost) => LostRange {
                from: lost.from,
                to: to - 1,
            },
            None => LostRange { from, to: to - 1 },
        };
        if is_damage {
            self.damage.note(&self.dir, from, to - 1);
        }
        batch.lost = Some(joined);
        self.next_sequence = to;
        self.open = None;
        true
    }

    /// The segment open at the frame of `next_sequence`; `None` if its file is gone.
    fn open_segment(
        &mut self,
        segment: &Segment,
        end: u64,
        view: &View,
    ) -> Result<Option<OpenSegment>, LogError> {
        if let Some(mut open) = self.open.take().filter(|open| open.number == segment.number) {
            open.walk.set_end(end);
            return Ok(Some(open));
        }
        let failed = |error| io_error("read", &segment.path, error);
        let file = match self.disk.open_read(&segment.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut walk = segment.walk(file.clone(), view.log_id);
        walk.set_end(end);
        if self.next_sequence > segment.first_sequence {
            let seed = frame_seed(view.log_id, segment.number);
            let index = Index::load(self.disk.as_ref(), &segment.index_path(), seed);
            if let Some(entry) = index.and_then(|index| index.before(self.next_sequence)) {
                let mut indexed = Walk::new(file, seed, entry.offset, end, entry.sequence);
                let found = indexed.clone().next().map_err(failed)?;
                if found.is_some_and(|found| found.frame.sequence == entry.sequence && found.skipped == 0) {
                    indexed.set_end(end);
                    walk = indexed;
                }
            }
            // Up to the frame, or to the first one after it if it is damaged.
            let mut ahead = walk.clone();
            while let Some(found) = ahead.next().map_err(failed)? {
                if found.frame.sequence >= self.next_sequence {
                    break;
                }
                walk = ahead.clone();
            }
        }
        Ok(Some(OpenSegment {
            number: segment.number,
            walk,
        }))
    }

    /// The first sequence stored at or after `time`. Takes `stored_at` to rise, as it does unless the clock was set back.
    fn sequence_stored_at(&mut self, view: &View, time: Time) -> Result<u64, LogError> {
        let is_older = |segment: &&Segment| segment.created_at.is_none_or(|created| created < time);
        let older = view.segments.iter().skip(1).take_while(is_older).count();
        let Some((segment, _, _)) = view.segment_at(older) else {
            return Ok(view.next_sequence);
        };
        let mut probe = StreamReader {
            filter: Filter::Everything,
            open: None,
            ..self.clone()
        };
        probe.next_sequence = segment.first_sequence;
        let seed = frame_seed(view.log_id, segment.number);
        if let Some(index) = Index::load(self.disk.as_ref(), &segment.index_path(), seed) {
            let after = index.entries.partition_point(|entry| entry.stored_at < time);
            let entry = index.entries[..after]
                .last()
                .map_or(segment.first_sequence, |entry| entry.sequence);
            probe.next_sequence = entry.clamp(segment.first_sequence, view.next_sequence);
        }
        while probe.next_sequence < view.next_sequence {
            let batch = probe.read(view, RECORDS_AT_ONCE)?;
            if let Some(record) = batch.records.iter().find(|record| record.stored_at >= time) {
                return Ok(record.sequence);
            }
        }
        Ok(view.next_sequence)
    }

    /// The record at `sequence`, if it is kept.
    pub fn get(&mut self, view: &View, sequence: u64) -> Result<Option<Record>, LogError> {
        if sequence < view.first_sequence() || sequence >= view.next_sequence {
            return Ok(None);
        }
        self.seek(view, &Start::Sequence(sequence))?;
        let batch = self.read(view, 1)?;
        Ok(batch
            .records
            .into_iter()
            .next()
            .filter(|record| record.sequence == sequence))
    }

    /// The last record that the filter lets through. Walks whole segments, from the newest back.
    pub fn last(&mut self, view: &View) -> Result<Option<Record>, LogError> {
        for position in (0..view.segments.len()).rev() {
            let Some((segment, _, limit)) = view.segment_at(position) else {
                continue;
            };
            let mut last = None;
            self.seek(view, &Start::Sequence(segment.first_sequence))?;
            while self.next_sequence < limit {
                let batch = self.read(view, RECORDS_AT_ONCE)?;
                last = batch
                    .records
                    .into_iter()
                    .rfind(|record| record.sequence < limit)
                    .or(last);
            }
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }
}

/// Records held at once while looking for one.
const RECORDS_AT_ONCE: usize = 4096;
