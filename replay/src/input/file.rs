//! A recording as an input.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use watchfold_schemas::{Stream, Time};

use super::{Raw, Selection};
use crate::ReplayError;
use crate::recording::{
    Beginning, BeginningState, Ending, Frame, FrameContent, FrameKind, Header, IndexEntry, Item, Reader,
    RecordingError,
};

/// Bytes read ahead of a frame's header.
const READ_AHEAD_BYTES: usize = 64 * 1024;

pub(super) struct FileSource {
    path: PathBuf,
    reader: Reader<BufReader<File>>,
    bytes: u64,
    items: VecDeque<Item>,
    /// Of which sites nothing is known of what was before, until it was told.
    cuts: Vec<Raw>,
    is_ended: bool,
    extent: (Option<Time>, Option<Time>),
}

impl FileSource {
    pub(super) fn open(path: &Path, selection: &Selection) -> Result<FileSource, ReplayError> {
        let mut reader = open(path)?;
        let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let wrong = |source| wrong(path, source);
        let index = reader.index().map_err(wrong)?;
        let mut records = index.iter().filter(|entry| entry.kind == FrameKind::Records);
        let first = records.next();
        let extent = (
            first.map(|entry| entry.first_stored_at),
            records.next_back().or(first).map(|entry| entry.last_stored_at),
        );
        if let Some(from) = selection.from {
            reader.seek_in(&index, from);
        }
        let cuts = cuts_of(reader.header(), selection);
        Ok(FileSource {
            path: path.to_owned(),
            reader,
            bytes,
            items: VecDeque::new(),
            cuts,
            is_ended: false,
            extent,
        })
    }

    pub(super) fn header(&self) -> &Header {
        self.reader.header()
    }

    pub(super) fn extent(&self) -> (Option<Time>, Option<Time>) {
        self.extent
    }

    /// When its first and its last observation were stored; other than in the index, events do not count.
    pub(super) fn observed(&self) -> Result<(Option<Time>, Option<Time>), ReplayError> {
        let mut reader = open(&self.path)?;
        let index = reader.index().map_err(|source| wrong(&self.path, source))?;
        let holds = |entry: &&IndexEntry| entry.kind == FrameKind::Records && entry.last_sequence > 0;
        // One of packets alone has no sequence in its index.
        let has_sequences = index.iter().any(|entry| holds(&entry));
        let holds_observations = |entry: &&IndexEntry| match has_sequences {
            true => holds(entry),
            false => entry.kind == FrameKind::Records,
        };
        let mut observed_in = |entry: Option<&IndexEntry>| {
            let Some(entry) = entry else { return Vec::new() };
            reader.go_to(entry.offset);
            match reader.next_frame() {
                Ok(Some(Frame {
                    content: FrameContent::Items(items),
                    ..
                })) => items.iter().filter_map(observed_at).collect(),
                // What is damaged is told when it is read.
                _ => vec![entry.first_stored_at, entry.last_stored_at],
            }
        };
        let first = observed_in(index.iter().find(holds_observations));
        let last = observed_in(index.iter().rev().find(holds_observations));
        Ok((first.first().copied(), last.last().copied()))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn progress(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.reader.offset() as f64 / self.bytes as f64)
    }

    pub(super) fn next(&mut self) -> Result<Option<Raw>, ReplayError> {
        if let Some(cut) = self.cuts.pop() {
            return Ok(Some(cut));
        }
        if let Some(item) = self.items.pop_front() {
            return Ok(Some(match item {
                Item::Record(record) => Raw::Record(record),
                Item::Lost { from, to, stream } => Raw::Lost { stream, from, to },
            }));
        }
        if self.is_ended {
            return Ok(None);
        }
        match self.reader.next_frame() {
            Ok(Some(frame)) => match frame.content {
                FrameContent::Snapshot(snapshot) => Ok(Some(Raw::Snapshot(snapshot))),
                FrameContent::Items(items) => {
                    self.items = items.into();
                    self.next()
                }
            },
            Ok(None) => {
                self.is_ended = true;
                Ok(self.ending().map(Raw::Problem))
            }
            Err(error @ (RecordingError::Damaged { .. } | RecordingError::Unchained { .. })) => {
                Ok(Some(Raw::Problem(error.to_string())))
            }
            Err(source) => Err(ReplayError::Recording {
                path: self.path.clone(),
                source,
            }),
        }
    }

    fn ending(&self) -> Option<String> {
        match self.reader.ending()? {
            Ending::Finished => None,
            Ending::Open { offset } => Some(format!(
                "the recording has no end: it is still being written, or was cut off; replayed up to byte {offset}"
            )),
            Ending::Torn { offset } => Some(format!(
                "the recording is torn at byte {offset} of {}: replayed up to there",
                self.bytes
            )),
        }
    }
}

fn open(path: &Path) -> Result<Reader<BufReader<File>>, ReplayError> {
    let file = File::open(path).map_err(|source| ReplayError::Io {
        action: "open",
        path: path.to_owned(),
        source,
    })?;
    Reader::open(BufReader::with_capacity(READ_AHEAD_BYTES, file)).map_err(|source| wrong(path, source))
}

fn wrong(path: &Path, source: RecordingError) -> ReplayError {
    let path = path.to_owned();
    match source {
        RecordingError::NotARecording => ReplayError::NoInput { path },
        source => ReplayError::Recording { path, source },
    }
}

/// The sites of which the recording does not say what was before it, for each stream that a chain reads.
fn cuts_of(header: &Header, selection: &Selection) -> Vec<Raw> {
    let is_cut = |beginning: &&Beginning| beginning.state == BeginningState::Cut;
    let is_wanted = |site: &String| selection.site.as_ref().is_none_or(|wanted| wanted == site);
    let sites = header
        .beginnings
        .iter()
        .filter(is_cut)
        .map(|one| one.site.clone());
    let sites: Vec<String> = sites.filter(is_wanted).collect();
    let reason = if header.is_basis() {
        "the log held nothing earlier when it was recorded".to_owned()
    } else {
        format!(
            "only {} was recorded, which is no basis for deriving what followed; record without --kind for that",
            header.kinds.join(", ")
        )
    };
    if sites.is_empty() {
        return Vec::new();
    }
    let sites: Arc<[String]> = sites.into();
    let cut = |stream| Raw::Cut {
        stream,
        reason: reason.clone(),
        sites: Some(Arc::clone(&sites)),
    };
    [Stream::Packets, Stream::Observations].map(cut).into()
}

fn observed_at(item: &Item) -> Option<Time> {
    match item {
        Item::Record(record) if record.stream.is_input() => Some(record.stored_at),
        Item::Record(_) | Item::Lost { .. } => None,
    }
}
