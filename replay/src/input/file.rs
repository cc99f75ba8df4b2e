//! A recording as an input.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use watchfold_schemas::Time;

use super::{Raw, Selection};
use crate::ReplayError;
use crate::recording::{
    Beginning, BeginningState, Ending, FrameContent, FrameKind, Header, Item, Reader, RecordingError,
};

/// Bytes read ahead of a frame's header.
const READ_AHEAD_BYTES: usize = 64 * 1024;

pub(super) struct FileSource {
    path: PathBuf,
    reader: Reader<BufReader<File>>,
    bytes: u64,
    items: VecDeque<Item>,
    /// Why nothing is known of what was before, until it was told.
    cut: Option<String>,
    is_ended: bool,
    extent: (Option<Time>, Option<Time>),
}

impl FileSource {
    pub(super) fn open(path: &Path, selection: &Selection) -> Result<FileSource, ReplayError> {
        let file = File::open(path).map_err(|source| ReplayError::Io {
            action: "open",
            path: path.to_owned(),
            source,
        })?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        let wrong = |source| match source {
            RecordingError::NotARecording => ReplayError::NoInput {
                path: path.to_owned(),
            },
            source => ReplayError::Recording {
                path: path.to_owned(),
                source,
            },
        };
        let mut reader = Reader::open(BufReader::with_capacity(READ_AHEAD_BYTES, file)).map_err(wrong)?;
        let index = reader.index().map_err(wrong)?;
        let mut records = index.iter().filter(|entry| entry.kind == FrameKind::Records);
        let first = records.next();
        let extent = (
            first.map(|entry| entry.first_stored_at),
            records.next_back().or(first).map(|entry| entry.last_stored_at),
        );
        if let Some(from) = selection.from {
            reader.seek(from).map_err(wrong)?;
        }
        let is_cut = |beginning: &Beginning| {
            beginning.state == BeginningState::Cut
                && selection
                    .site
                    .as_ref()
                    .is_none_or(|wanted| *wanted == beginning.site)
        };
        let cut = reader.header().beginnings.iter().any(is_cut);
        let cut = cut.then(|| "the log held nothing earlier when it was recorded".to_owned());
        Ok(FileSource {
            path: path.to_owned(),
            reader,
            bytes,
            items: VecDeque::new(),
            cut,
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

    pub(super) fn progress(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.reader.offset() as f64 / self.bytes as f64)
    }

    pub(super) fn next(&mut self) -> Result<Option<Raw>, ReplayError> {
        if let Some(reason) = self.cut.take() {
            return Ok(Some(Raw::Cut(reason)));
        }
        if let Some(item) = self.items.pop_front() {
            return Ok(Some(match item {
                Item::Record(record) => Raw::Record(record),
                Item::Lost { from, to } => Raw::Lost { from, to },
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
