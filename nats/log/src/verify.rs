//! Looks into a log's directory without owning it: for the command line, and for logs of a process that still runs.
//! Repairs nothing. May show records that the owner wrote and has not synced yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use watchfold_schemas::{Stream, Time};

use crate::disk::{Disk, RealDisk};
use crate::layout::{Layout, find_tail};
use crate::meta::Meta;
use crate::read::StreamReader;
use crate::view::{Damage, View, log_id_text};
use crate::{Batch, LogError, Start};

/// Records held at once while everything is read.
const RECORDS_AT_ONCE: usize = 4096;

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    pub streams: Vec<StreamReport>,
}

/// What one stream's directory holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StreamReport {
    pub stream: &'static str,
    pub log_id: String,
    pub segments: u64,
    pub bytes: u64,
    /// One more than `last_sequence` when empty.
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub last_stored_at: Option<Time>,
    /// Read and checked by [`verify`]; counted from the sequences by [`stat`].
    pub records: u64,
    /// Records whose checksum does not hold or whose bytes are gone; [`stat`] knows those of the last segment only.
    pub damaged: u64,
    /// Bytes at the end that are no whole record: a crash tore them, or the owner is writing them now.
    pub torn_tail_bytes: u64,
}

impl Report {
    /// Whether every record that should be there is.
    pub fn is_whole(&self) -> bool {
        self.streams.iter().all(|stream| stream.damaged == 0)
    }
}

/// Reads and checks every record of every stream in `dir`.
pub fn verify(dir: &Path) -> Result<Report, LogError> {
    report(dir, true)
}

/// What the names, headers and last segments say; quick.
pub fn stat(dir: &Path) -> Result<Report, LogError> {
    report(dir, false)
}

fn report(dir: &Path, is_thorough: bool) -> Result<Report, LogError> {
    let mut streams = Vec::new();
    for stream in Stream::ALL {
        let Some(mut files) = StreamFiles::open(dir, stream)? else {
            continue;
        };
        let view = files.view.clone();
        let first_sequence = view.first_sequence();
        let records = if is_thorough {
            files.count_records()?
        } else {
            (view.next_sequence - first_sequence).saturating_sub(files.damage.records())
        };
        streams.push(StreamReport {
            stream: stream.name(),
            log_id: log_id_text(view.log_id),
            segments: view.segments.len() as u64,
            bytes: view.bytes(),
            first_sequence,
            last_sequence: view.next_sequence - 1,
            last_stored_at: view.last_stored_at,
            records,
            damaged: files.damage.records(),
            torn_tail_bytes: files.torn_tail_bytes,
        });
    }
    Ok(Report { streams })
}

/// One stream's files as they were when opened, read from wherever asked.
pub struct StreamFiles {
    view: View,
    reader: StreamReader,
    damage: Damage,
    torn_tail_bytes: u64,
}

impl StreamFiles {
    /// `None` when the directory has no such stream.
    pub fn open(dir: &Path, stream: Stream) -> Result<Option<StreamFiles>, LogError> {
        StreamFiles::open_on(Arc::new(RealDisk), &dir.join(stream.name()), ">")
    }

    /// Like [`StreamFiles::open`], with only the records whose subject matches `filter`.
    pub fn open_filtered(dir: &Path, stream: Stream, filter: &str) -> Result<Option<StreamFiles>, LogError> {
        StreamFiles::open_on(Arc::new(RealDisk), &dir.join(stream.name()), filter)
    }

    fn open_on(
        disk: Arc<dyn Disk>,
        stream_dir: &Path,
        filter: &str,
    ) -> Result<Option<StreamFiles>, LogError> {
        if !stream_dir.is_dir() {
            return Ok(None);
        }
        let layout = Layout::load(disk.as_ref(), stream_dir)?;
        let Some(log_id) = layout.log_id else {
            return Ok(None);
        };
        let meta = layout.meta.unwrap_or(Meta {
            log_id,
            next_segment: 1,
            first_segment: 0,
            next_sequence: 1,
        });
        let mut segments = layout.segments;
        let damage = Damage::default();
        let (mut next_sequence, mut last_stored_at, mut torn_tail_bytes) = (meta.next_sequence, None, 0);
        if let Some(last) = segments.last_mut() {
            let tail = find_tail(disk.as_ref(), last, &meta, |_| {})?;
            for &(from, to) in &tail.damaged {
                damage.note(stream_dir, from, to);
            }
            last.bytes = tail.end;
            next_sequence = next_sequence.max(tail.next_sequence);
            last_stored_at = tail.last_stored_at.or(last.created_at);
            torn_tail_bytes = tail.torn_bytes;
        }
        let segments = Arc::new(segments);
        let view = View {
            log_id,
            segments,
            synced_end: None,
            next_sequence,
            last_stored_at,
            stopped: None,
        };
        let dir: PathBuf = stream_dir.to_owned();
        let reader = StreamReader::new(disk, dir, damage.clone(), filter, view.first_sequence());
        Ok(Some(StreamFiles {
            view,
            reader,
            damage,
            torn_tail_bytes,
        }))
    }

    pub fn seek(&mut self, start: &Start) -> Result<(), LogError> {
        self.reader.seek(&self.view, start)
    }

    /// Where reading goes on, in files opened again later too.
    pub fn next_sequence(&self) -> u64 {
        self.reader.next_sequence()
    }

    /// The next records, at most `max`; an empty batch without a loss is the end.
    pub fn next(&mut self, max: usize) -> Result<Batch, LogError> {
        loop {
            let batch = self.reader.read(&self.view, max.max(1))?;
            let is_end = self.reader.next_sequence() >= self.view.next_sequence;
            if is_end || !batch.records.is_empty() || batch.lost.is_some() {
                return Ok(batch);
            }
        }
    }

    fn count_records(&mut self) -> Result<u64, LogError> {
        let mut records = 0;
        loop {
            let batch = self.next(RECORDS_AT_ONCE)?;
            if batch.records.is_empty() && batch.lost.is_none() {
                return Ok(records);
            }
            records += batch.records.len() as u64;
        }
    }
}
