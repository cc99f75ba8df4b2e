//! Capture files as observations: what a live capture of the same packets would have published.
//!
//! It appends to no log and stamps nothing by a clock: times are those of the packets. Several files are one capture, in the
//! order of [`in_time_order`], and their packets are numbered on.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use watchfold_config::HEAD_PORTS;
use watchfold_schemas::observation::OBSERVATION_VERSION;
use watchfold_schemas::packets::{CaptureCounts, CaptureSource, PACKET_ROWS_MAX};
use watchfold_schemas::{Body, Observation, Origin, Span, Time};

use crate::batch::{BatchBuilder, Pushed};
use crate::error::CaptureError;
use crate::file::{CaptureFile, End, Frame};
use crate::file_time::FileTime;
use crate::order::in_time_order;
use crate::parse::decode;
use crate::unread::{FileSummary, Unread};

/// Time goes on by no more than this within a batch, so that what folds it hears of time passing. Packets behind it may lie as
/// far apart as they like.
pub const BATCH_SPAN_MAX: Span = Span::from_seconds(1);

/// A file that begins this much before the end of the one before it is told: its packets count at the later time.
const OVERLAP_MAX: Span = Span::from_seconds(1);

/// Whose observations they are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    pub site: String,
    pub collector: String,
    pub incarnation: u64,
    /// Packets from or to these ports keep the first bytes of their payload.
    pub head_ports: Vec<u16>,
    /// The most packets in one batch; what follows from them does not depend on it.
    pub batch_rows: usize,
}

impl Default for FileOptions {
    fn default() -> FileOptions {
        FileOptions {
            site: "local".to_owned(),
            collector: "capture-file".to_owned(),
            incarnation: 1,
            head_ports: HEAD_PORTS.to_vec(),
            batch_rows: PACKET_ROWS_MAX,
        }
    }
}

/// A file that ended within a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    pub path: PathBuf,
    /// Packets that stand before.
    pub packets: u64,
    pub reason: String,
}

/// The packets of capture files, batch by batch. A file that is torn gives what stands before ([`FileObservations::torn`]);
/// one that cannot be read ends everything with an error that names it.
pub struct FileObservations {
    files: VecDeque<PathBuf>,
    open: Option<Open>,
    batching: Batching,
    torn: Vec<Torn>,
    summaries: Vec<FileSummary>,
    options: FileOptions,
    /// The last observation made.
    number: u64,
}

struct Open {
    path: PathBuf,
    file: CaptureFile,
    name: String,
    /// Where the files before it had come to, until its first packet was compared with that.
    unchecked: Option<Time>,
}

/// The batch under way, and what is known of the packets so far.
struct Batching {
    builder: BatchBuilder,
    rows_max: usize,
    counts: CaptureCounts,
    /// Packets of the files before this one.
    before: u64,
    /// The last packet, with or without a row.
    last_number: u64,
    time: FileTime,
    /// Packets taken in, and those of them that are decided.
    taken: u64,
    decided: u64,
    /// Batches that wait until their last packet, whose place is beside them, is decided.
    waiting: VecDeque<(u64, Body)>,
    ready: VecDeque<(Time, Body)>,
    /// Where time stood with the first packet since the last observation, with or without a row.
    begun: Option<Time>,
    /// What of this file gave no row.
    unread: Unread,
}

impl FileObservations {
    /// Opens the first file at once, so that a wrong name is told before anything is folded; `-` is standard input.
    pub fn open(paths: &[PathBuf], options: FileOptions) -> Result<FileObservations, CaptureError> {
        let builder = BatchBuilder::new(CaptureSource::default(), &options.head_ports);
        let mut observations = FileObservations {
            files: in_time_order(paths)?.into(),
            open: None,
            batching: Batching {
                builder,
                rows_max: options.batch_rows.clamp(1, PACKET_ROWS_MAX),
                counts: CaptureCounts::default(),
                before: 0,
                last_number: 0,
                time: FileTime::default(),
                taken: 0,
                decided: 0,
                waiting: VecDeque::new(),
                ready: VecDeque::new(),
                begun: None,
                unread: Unread::default(),
            },
            torn: Vec::new(),
            summaries: Vec::new(),
            options,
            number: 0,
        };
        observations.open_next()?;
        Ok(observations)
    }

    /// What was read so far, undecoded packets included.
    pub fn counts(&self) -> CaptureCounts {
        self.batching.counts
    }

    /// Files that ended within a packet, of those read so far.
    pub fn torn(&self) -> &[Torn] {
        &self.torn
    }

    /// What each file held, of those read so far.
    pub fn summaries(&self) -> &[FileSummary] {
        &self.summaries
    }

    fn open_next(&mut self) -> Result<(), CaptureError> {
        let Some(path) = self.files.pop_front() else {
            return Ok(());
        };
        let file = CaptureFile::open(&path)?;
        let name = source_name(&path);
        let unchecked = self.batching.time.last();
        self.open = Some(Open {
            path,
            file,
            name,
            unchecked,
        });
        Ok(())
    }

    /// Reads until an observation is complete or the files are over.
    fn advance(&mut self) -> Result<Option<Observation>, CaptureError> {
        while self.batching.ready.is_empty()
            && let Some(open) = &mut self.open
        {
            let (batching, name, path) = (&mut self.batching, &open.name, &open.path);
            let unchecked = &mut open.unchecked;
            let end = open.file.for_each(|frame| {
                if let Some(until) = unchecked.take() {
                    warn_of_overlap(path, frame.at, until);
                }
                batching.take_in(&frame, name);
                if batching.ready.is_empty() {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            if end == End::Stopped {
                continue;
            }
            let packets = open.file.packets() + open.file.skipped();
            batching.before += packets;
            batching.last_number = batching.before;
            batching.note_skipped(batching.before);
            let mut unread = std::mem::take(&mut batching.unread);
            unread.set_skipped(open.file.skipped_by_reason());
            self.summaries.push(FileSummary {
                path: open.path.clone(),
                packets,
                unread,
            });
            if let End::Torn { packets, reason } = end {
                let path = open.path.clone();
                self.torn.push(Torn {
                    path,
                    packets,
                    reason,
                });
            }
            self.open = None;
            self.open_next()?;
        }
        if self.batching.ready.is_empty() {
            self.batching.finish();
        }
        let ready = self.batching.ready.pop_front();
        Ok(self.observation(ready))
    }

    fn observation(&mut self, ready: Option<(Time, Body)>) -> Option<Observation> {
        let (through, body) = ready?;
        self.number += 1;
        Some(Observation {
            v: OBSERVATION_VERSION,
            origin: Origin {
                site: self.options.site.clone(),
                collector: self.options.collector.clone(),
                incarnation: self.options.incarnation,
                number: self.number,
            },
            observed_at: through,
            through,
            body,
        })
    }
}

impl Iterator for FileObservations {
    type Item = Result<Observation, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.files.clear();
            self.open = None;
        }
        next.transpose()
    }
}

impl Batching {
    /// Adds a packet, and closes the batch before it where it has to.
    fn take_in(&mut self, frame: &Frame<'_>, name: &str) {
        let number = self.before + frame.number;
        let is_long = self
            .begun
            .is_some_and(|begun| frame.at.since(begun) >= BATCH_SPAN_MAX);
        let is_full = self.builder.len() >= self.rows_max || !self.builder.has_room(number);
        let is_other = !self.is_from(frame, name);
        if is_long || is_full || is_other {
            self.flush();
        }
        if is_other {
            self.builder.set_source(CaptureSource {
                name: name.to_owned(),
                link_type: frame.link_type,
                snap_length: frame.snap_length,
            });
        }
        self.note_skipped(number - 1);
        match decode(frame.link, frame.bytes, frame.wire_length) {
            Ok(packet) => {
                let pushed = self.builder.push(number, frame.at, frame.wire_length, packet);
                debug_assert_eq!(pushed, Pushed::Taken, "whether it fits was asked above");
            }
            Err(why) => {
                self.counts.undecoded += 1;
                self.unread.add(why);
            }
        }
        self.counts.received += 1;
        self.last_number = number;
        self.begun = Some(self.begins_at(frame.at));
        self.taken += 1;
        if self.time.push(frame.at) {
            self.one_is_decided();
        }
    }

    /// Where time stood when the batch began, now that a packet with this time is in it. A single packet far ahead may have
    /// begun it, which time does not follow: it goes on from those after it.
    fn begins_at(&self, at: Time) -> Time {
        let at = self.time.reached().map_or(at, |reached| reached.max(at));
        self.begun.map_or(at, |begun| begun.min(at))
    }

    /// Batches are complete up to where time has come with their last packet.
    fn one_is_decided(&mut self) {
        self.decided += 1;
        while let Some(through) = self.time.reached()
            && let Some((last, _)) = self.waiting.front()
            && *last <= self.decided
            && let Some((_, body)) = self.waiting.pop_front()
        {
            self.ready.push_back((through, body));
        }
    }

    /// Nothing more comes.
    fn finish(&mut self) {
        self.flush();
        while self.time.decide() {
            self.one_is_decided();
        }
    }

    fn is_from(&self, frame: &Frame<'_>, name: &str) -> bool {
        let source = self.builder.source();
        source.link_type == frame.link_type && source.snap_length == frame.snap_length && source.name == name
    }

    /// Packets that the file tells no time of have a number and no row.
    fn note_skipped(&mut self, number: u64) {
        let skipped = number.saturating_sub(self.counts.received);
        self.counts.received += skipped;
        self.counts.undecoded += skipped;
    }

    /// Closes the batch of what came since the last one, where anything did.
    fn flush(&mut self) {
        if self.begun.take().is_none() {
            return;
        }
        let at = self.time.last().unwrap_or_default();
        let batch = self.builder.take_at(at, self.last_number + 1, self.counts);
        self.waiting.push_back((self.taken, Body::Batch(Box::new(batch))));
    }
}

fn warn_of_overlap(path: &Path, begin: Time, until: Time) {
    let overlap = until.since(begin);
    if overlap > OVERLAP_MAX {
        tracing::warn!(
            path = %path.display(),
            overlap_s = overlap.0 / 1_000_000_000,
            "this capture file begins before the one before it ends; its packets count at the later time: merge the two by time first"
        );
    }
}

pub(crate) fn source_name(path: &Path) -> String {
    if path == Path::new("-") {
        return "standard input".to_owned();
    }
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{pcap, tcp_frame};

    fn observe(files: &[Vec<u8>], options: FileOptions) -> (Vec<Observation>, Vec<Torn>) {
        let directory = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (index, bytes) in files.iter().enumerate() {
            paths.push(directory.path().join(format!("{index}.pcap")));
            std::fs::write(&paths[index], bytes).unwrap();
        }
        let mut opened = FileObservations::open(&paths, options).unwrap();
        let observations = opened.by_ref().collect::<Result<Vec<_>, _>>().unwrap();
        (observations, opened.torn)
    }

    fn rows(observations: &[Observation]) -> Vec<(u64, Time)> {
        let mut rows = Vec::new();
        for observation in observations {
            let Body::Batch(batch) = &observation.body else {
                panic!("{observation:?}");
            };
            let view = batch.view().unwrap();
            rows.extend((0..view.len()).map(|row| (view.number(row), view.at(row))));
        }
        rows
    }

    fn times(count: i64, step_ms: i64) -> Vec<(Time, Vec<u8>)> {
        let at = |index: i64| Time::from_seconds(1_000) + Span::from_millis(index * step_ms);
        (0..count)
            .map(|index| (at(index), tcp_frame(index as u16)))
            .collect()
    }

    #[test]
    fn several_files_are_one_capture() {
        let files = [pcap(&times(3, 10)), pcap(&times(2, 10))];
        let (observations, torn) = observe(&files, FileOptions::default());
        assert_eq!(torn, []);
        let numbers: Vec<u64> = rows(&observations).iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        let origins: Vec<u64> = observations.iter().map(|made| made.origin.number).collect();
        assert_eq!(origins, [1, 2], "another file begins another batch");
        assert_eq!(
            observations[1].through, observations[0].through,
            "the greatest time so far"
        );
    }

    #[test]
    fn batches_end_with_rows_and_with_time_and_hold_the_same_packets() {
        let file = [pcap(&times(50, 100))];
        let (whole, _) = observe(&file, FileOptions::default());
        assert_eq!(whole.len(), 5, "a second each");
        for batch_rows in [1, 3, 7] {
            let options = FileOptions {
                batch_rows,
                ..FileOptions::default()
            };
            let (split, _) = observe(&file, options);
            assert!(split.len() > whole.len());
            assert_eq!(rows(&split), rows(&whole));
        }
        assert!(
            whole
                .iter()
                .all(|made| made.through == rows(std::slice::from_ref(made)).last().unwrap().1)
        );
    }

    /// Packets at these seconds; how many batches they make.
    fn check_jumps(seconds: &[i64], want: usize) {
        let packets: Vec<(Time, Vec<u8>)> = seconds
            .iter()
            .map(|second| (Time::from_seconds(*second), tcp_frame(80)))
            .collect();
        let (observations, _) = observe(&[pcap(&packets)], FileOptions::default());
        assert_eq!(observations.len(), want, "{seconds:?}");
        let read: Vec<i64> = rows(&observations)
            .iter()
            .map(|(_, at)| at.as_seconds())
            .collect();
        assert_eq!(read, seconds);
        let through: Vec<Time> = observations.iter().map(|made| made.through).collect();
        assert!(through.is_sorted(), "{seconds:?}");
    }

    #[test]
    fn a_jump_of_time_costs_a_batch_at_most() {
        const YEAR: i64 = 365 * 86_400;
        // Captures behind one another, each older than all before: time stands still after the first.
        let falling: Vec<i64> = (0..300)
            .flat_map(|file| (0..10).map(move |packet| (40 - file % 40) * YEAR + packet * (file % 40)))
            .collect();
        check_jumps(&falling, 1);
        // Each newer than all before.
        let rising: Vec<i64> = (1..40).flat_map(|file| [file * YEAR; 12]).collect();
        check_jumps(&rising, 39);
        // To and fro: only what goes beyond everything before ends a batch.
        let to_and_fro: Vec<i64> = (1..40)
            .flat_map(|file| [[file * YEAR; 12], [file * 7; 12]].concat())
            .collect();
        check_jumps(&to_and_fro, 39);
        // A single packet far ahead, which time does not follow, and seconds that go by after it.
        let mut ahead: Vec<i64> = vec![100; 20];
        ahead.push(YEAR);
        ahead.extend((101..105).flat_map(|second| [second; 10]));
        check_jumps(&ahead, 5);
    }

    #[test]
    fn what_gives_no_row_is_counted_and_time_goes_on() {
        let mut packets = times(3, 2_000);
        packets[1].1 = vec![0; 20];
        let (observations, _) = observe(&[pcap(&packets)], FileOptions::default());
        assert_eq!(observations.len(), 3);
        assert_eq!(rows(&observations).len(), 2);
        let Body::Batch(empty) = &observations[1].body else {
            panic!()
        };
        assert_eq!((empty.first, empty.base), (3, packets[1].0));
        assert_eq!((empty.counts.received, empty.counts.undecoded), (2, 1));
    }

    #[test]
    fn a_torn_file_gives_what_stands_before_and_the_next_goes_on() {
        let mut first = pcap(&times(3, 10));
        first.truncate(first.len() - 1);
        let (observations, torn) = observe(&[first, pcap(&times(2, 10))], FileOptions::default());
        assert_eq!(rows(&observations).len(), 4);
        assert_eq!((torn.len(), torn[0].packets), (1, 2));
        assert!(torn[0].path.ends_with("0.pcap"), "{torn:?}");
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let options = FileOptions::default();
        let missing = FileObservations::open(&[PathBuf::from("/nonexistent/x.pcap")], options).err();
        assert!(missing.unwrap().to_string().contains("/nonexistent/x.pcap"));
    }
}
