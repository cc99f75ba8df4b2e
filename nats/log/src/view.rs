//! What of a stream its readers may see: synced records only. Immutable; the writer publishes a new one after each sync.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use watchfold_schemas::Time;

use crate::frame::LogId;
use crate::layout::Segment;
use crate::{LogError, StreamInfo};

/// A consistent picture of a stream. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    pub log_id: LogId,
    /// Oldest first. The last one's `bytes` are those of a sealed segment, or [`View::synced_end`] says more.
    pub segments: Arc<Vec<Segment>>,
    /// Synced bytes of the last segment, when it is being written.
    pub synced_end: Option<u64>,
    /// One more than the last synced sequence.
    pub next_sequence: u64,
    pub last_stored_at: Option<Time>,
    /// Why the stream stopped, if it did.
    pub stopped: Option<Arc<str>>,
}

impl View {
    /// The first sequence kept; `next_sequence` when there is none.
    pub fn first_sequence(&self) -> u64 {
        self.segments.first().map_or(self.next_sequence, |segment| {
            segment.first_sequence.min(self.next_sequence)
        })
    }

    /// The segment that would hold `sequence`, with its readable end and the sequence after its last.
    pub(crate) fn segment_of(&self, sequence: u64) -> Option<(&Segment, u64, u64)> {
        let after = self
            .segments
            .partition_point(|segment| segment.first_sequence <= sequence);
        self.segment_at(after.checked_sub(1)?)
    }

    pub(crate) fn segment_at(&self, position: usize) -> Option<(&Segment, u64, u64)> {
        let segment = self.segments.get(position)?;
        match self.segments.get(position + 1) {
            Some(follower) => Some((segment, segment.bytes, follower.first_sequence)),
            None => Some((
                segment,
                self.synced_end.unwrap_or(segment.bytes),
                self.next_sequence,
            )),
        }
    }

    pub fn bytes(&self) -> u64 {
        (0..self.segments.len())
            .filter_map(|position| self.segment_at(position))
            .map(|(_, end, _)| end)
            .sum()
    }

    pub(crate) fn info(&self, damage: &Damage) -> StreamInfo {
        StreamInfo {
            log_id: log_id_text(self.log_id),
            first_sequence: self.first_sequence(),
            last_sequence: self.next_sequence - 1,
            last_stored_at: self.last_stored_at,
            bytes: self.bytes(),
            segments: self.segments.len() as u64,
            damaged: damage.records(),
        }
    }

    pub(crate) fn refuse_if_stopped(&self) -> Result<(), LogError> {
        match &self.stopped {
            Some(why) => Err(LogError::Stopped(why.to_string())),
            None => Ok(()),
        }
    }
}

/// 32 hexadecimal digits.
pub(crate) fn log_id_text(log_id: LogId) -> String {
    log_id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Separate spans of damage that are told apart; beyond it they are no longer counted, only warned of.
const DAMAGED_SPANS_MAX: usize = 1024;

/// The damage met since a stream was opened, each record counted once however many readers meet it.
#[derive(Clone, Default)]
pub struct Damage {
    /// First sequence to last.
    spans: Arc<Mutex<BTreeMap<u64, u64>>>,
}

impl Damage {
    pub(crate) fn note(&self, stream_dir: &std::path::Path, from: u64, to: u64) {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let known = spans
            .range(..=from)
            .next_back()
            .is_some_and(|(_, known_to)| *known_to >= to);
        if known {
            return;
        }
        if spans.len() >= DAMAGED_SPANS_MAX {
            tracing::warn!(limit = DAMAGED_SPANS_MAX, from, to, "more damage than is counted");
            return;
        }
        tracing::warn!(dir = %stream_dir.display(), from, to, "records are damaged and skipped");
        spans.insert(from, to);
    }

    pub fn records(&self) -> u64 {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.iter().map(|(from, to)| to - from + 1).sum()
    }
}
