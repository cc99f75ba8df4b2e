//! A log's directory as an input: observations, and where wanted the events beside them, in the order of `stored_at`.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use watchfold_log::{Record, Start, StreamFiles, StreamReport, stat};
use watchfold_schemas::subjects::site_filter;
use watchfold_schemas::{Stream, Time};

use super::{Raw, Selection, sites_of, snapshots};
use crate::ReplayError;
use crate::recording::{RecordStream, StoredRecord};

/// Records of a stream held at once.
const RECORDS_AT_ONCE: usize = 1_024;

pub(super) struct LogSource {
    directory: PathBuf,
    report: StreamReport,
    observations: Queue,
    events: Option<Queue>,
    /// Whose events are wanted, where they are: the stream is made with the first of them.
    events_of: Option<Option<String>>,
    /// What stands before the first record.
    prologue: VecDeque<Raw>,
    position: u64,
}

/// The files of one stream, a batch ahead.
struct Queue {
    stream: RecordStream,
    filter: String,
    files: StreamFiles,
    records: VecDeque<Record>,
    lost: Option<(u64, u64)>,
    is_ended: bool,
    /// Nothing more is wanted, whatever is added.
    is_over: bool,
}

impl LogSource {
    /// `None` when the directory has no stream of observations.
    pub(super) fn open(directory: &Path, selection: &Selection) -> Result<Option<LogSource>, ReplayError> {
        let report = stat(directory)?;
        let of_observations = |report: &StreamReport| report.stream == Stream::Observations.name();
        let Some(report) = report.streams.into_iter().find(of_observations) else {
            return Ok(None);
        };
        // Observations first: then the events show at least what had been derived from these observations.
        let filter = |stream| filter_of(stream, selection.site.as_deref());
        let stream = RecordStream::Observations;
        let Some(observations) = Queue::open(directory, stream, filter(stream))? else {
            return Ok(None);
        };
        let mut events = None;
        if selection.with_events {
            events = Queue::open(directory, RecordStream::Events, filter(RecordStream::Events))?;
            if let (Some(events), Some(from)) = (&mut events, selection.from) {
                events.files.seek(&Start::StoredAt(from))?;
            }
        }
        let mut source = LogSource {
            directory: directory.to_owned(),
            report,
            prologue: VecDeque::new(),
            position: 0,
            events,
            events_of: selection.with_events.then(|| selection.site.clone()),
            observations,
        };
        source.begin(selection)?;
        Ok(Some(source))
    }

    pub(super) fn known_sites(&self) -> Result<Vec<String>, ReplayError> {
        let mut sites = BTreeSet::new();
        let Some(mut files) = StreamFiles::open(&self.directory, Stream::Observations)? else {
            return Ok(Vec::new());
        };
        loop {
            let batch = files.next(RECORDS_AT_ONCE)?;
            if batch.records.is_empty() && batch.lost.is_none() {
                return Ok(sites.into_iter().collect());
            }
            sites_of(
                batch.records.iter().map(|record| record.subject.as_str()),
                &mut sites,
            );
        }
    }

    pub(super) fn extent(&self) -> Result<(Option<Time>, Option<Time>), ReplayError> {
        let mut files = StreamFiles::open(&self.directory, Stream::Observations)?;
        let first = match &mut files {
            Some(files) => files.next(1)?.records.first().map(|record| record.stored_at),
            None => None,
        };
        Ok((first, self.report.last_stored_at))
    }

    pub(super) fn progress(&self) -> Option<f64> {
        let total = (self.report.last_sequence + 1)
            .checked_sub(self.report.first_sequence)
            .filter(|total| *total > 0)?;
        Some(self.position.saturating_sub(self.report.first_sequence) as f64 / total as f64)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.report.bytes
    }

    /// Looks into the files again. Events first: then whatever they were derived of is among the observations.
    pub(super) fn refresh(&mut self) -> Result<(), ReplayError> {
        if let Some(events) = &mut self.events {
            events.refresh(&self.directory)?;
        } else if let Some(site) = &self.events_of {
            let filter = filter_of(RecordStream::Events, site.as_deref());
            self.events = Queue::open(&self.directory, RecordStream::Events, filter)?;
        }
        self.observations.refresh(&self.directory)
    }

    /// No observation is wanted any more.
    pub(super) fn end_observations(&mut self) {
        self.observations.is_ended = true;
        self.observations.is_over = true;
        self.observations.records.clear();
    }

    pub(super) fn next(&mut self) -> Result<Option<Raw>, ReplayError> {
        if let Some(raw) = self.prologue.pop_front() {
            return Ok(Some(raw));
        }
        self.observations.fill()?;
        if let Some((from, to)) = self.observations.lost.take() {
            return Ok(Some(Raw::Lost { from, to }));
        }
        if let Some(events) = &mut self.events {
            events.fill()?;
            // An event is stored after its input, so at equal times the observation goes first.
            let is_due = match (events.head(), self.observations.head()) {
                (Some(event), Some(observation)) => event < observation,
                (Some(_), None) => true,
                (None, _) => false,
            };
            if is_due {
                return Ok(events.pop().map(Raw::Record));
            }
        }
        let record = self.observations.pop();
        if let Some(record) = &record {
            self.position = record.sequence;
        }
        Ok(record.map(Raw::Record))
    }

    /// Stands where reading must begin to know what is so at the start of the span.
    fn begin(&mut self, selection: &Selection) -> Result<(), ReplayError> {
        let cut = (self.report.first_sequence > 1).then(|| {
            format!(
                "the log keeps nothing before sequence {}",
                self.report.first_sequence
            )
        });
        let Some(from) = selection.from else {
            self.prologue
                .extend(cut.map(|reason| Raw::Cut { reason, sites: None }));
            return Ok(());
        };
        let sites = match &selection.site {
            Some(site) => vec![site.clone()],
            None => self.known_sites()?,
        };
        let Some(first) = self.first_stored_at_or_after(from)? else {
            return Ok(());
        };
        let mut begin = None;
        for site in &sites {
            match snapshots::latest_before(&self.directory, site, &self.report, first)? {
                Some(snapshot) => {
                    begin = Some(begin.map_or(snapshot.sequence, |begin: u64| begin.min(snapshot.sequence)));
                    self.prologue.push_back(Raw::Snapshot(Box::new(snapshot)));
                }
                // This one has to be folded from its first record on.
                None => {
                    self.prologue.extend(cut.clone().map(|reason| Raw::Cut {
                        reason,
                        sites: Some([site.clone()].into()),
                    }));
                    begin = Some(0);
                }
            }
        }
        Ok(self
            .observations
            .files
            .seek(&Start::Sequence(begin.unwrap_or(0) + 1))?)
    }

    fn first_stored_at_or_after(&self, from: Time) -> Result<Option<u64>, ReplayError> {
        let Some(mut files) = StreamFiles::open(&self.directory, Stream::Observations)? else {
            return Ok(None);
        };
        files.seek(&Start::StoredAt(from))?;
        Ok(files.next(1)?.records.first().map(|record| record.sequence))
    }
}

impl Queue {
    fn open(directory: &Path, stream: RecordStream, filter: String) -> Result<Option<Queue>, ReplayError> {
        let files = StreamFiles::open_filtered(directory, stream.stream(), &filter)?;
        Ok(files.map(|files| Queue {
            stream,
            filter,
            files,
            records: VecDeque::new(),
            lost: None,
            is_ended: false,
            is_over: false,
        }))
    }

    fn refresh(&mut self, directory: &Path) -> Result<(), ReplayError> {
        if self.is_over {
            return Ok(());
        }
        let next = self.files.next_sequence();
        if let Some(mut files) = StreamFiles::open_filtered(directory, self.stream.stream(), &self.filter)? {
            files.seek(&Start::Sequence(next))?;
            self.files = files;
            self.is_ended = false;
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<(), ReplayError> {
        if self.is_ended || !self.records.is_empty() {
            return Ok(());
        }
        let batch = self.files.next(RECORDS_AT_ONCE)?;
        self.is_ended = batch.records.is_empty() && batch.lost.is_none();
        self.lost = batch.lost.map(|lost| (lost.from, lost.to));
        self.records = batch.records.into();
        Ok(())
    }

    fn head(&self) -> Option<Time> {
        self.records.front().map(|record| record.stored_at)
    }

    fn pop(&mut self) -> Option<StoredRecord> {
        let record = self.records.pop_front()?;
        Some(StoredRecord {
            stream: self.stream,
            sequence: record.sequence,
            stored_at: record.stored_at,
            id: record.id.0,
            subject: record.subject,
            payload: record.payload.to_vec(),
        })
    }
}

fn filter_of(stream: RecordStream, site: Option<&str>) -> String {
    match site {
        Some(site) => site_filter(stream.stream(), site),
        None => ">".to_owned(),
    }
}
