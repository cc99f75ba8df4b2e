//! A log's directory as an input: what chains read, and where wanted the events beside it, in the order of `stored_at`.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use watchfold_log::{Record, Start, StreamFiles, StreamReport, stat};
use watchfold_schemas::subjects::site_filter;
use watchfold_schemas::{Chain, Stream, Time};

use super::{Raw, Selection, sites_of, snapshots};
use crate::ReplayError;
use crate::recording::{RecordStream, StoredRecord};

/// Records of a stream held at once.
const RECORDS_AT_ONCE: usize = 1_024;

/// The same of batches of packets, which are some ten thousand bytes each.
const BATCHES_AT_ONCE: usize = 64;

pub(super) struct LogSource {
    directory: PathBuf,
    site: Option<String>,
    /// What chains read, in the order in which records of one moment are given: what the packet chain found stands after its
    /// packets.
    inputs: [ChainInput; 2],
    events: Option<Queue>,
    with_events: bool,
    /// What stands before the first record.
    prologue: VecDeque<Raw>,
}

/// One of the streams that chains read.
struct ChainInput {
    chain: Chain,
    stream: RecordStream,
    /// `None` for a stream that has begun since, or that is not there.
    report: Option<StreamReport>,
    queue: Option<Queue>,
    position: u64,
    is_over: bool,
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
    /// `None` when the directory has no stream that a chain reads.
    pub(super) fn open(directory: &Path, selection: &Selection) -> Result<Option<LogSource>, ReplayError> {
        let report = stat(directory)?;
        let site = selection.site.as_deref();
        let of = |stream: RecordStream| {
            let name = stream.stream().name();
            report
                .streams
                .iter()
                .find(|report| report.stream == name)
                .cloned()
        };
        // Input first: then the events show at least what had been derived of it.
        let open = |chain, stream, is_over: bool| {
            let queue = match of(stream) {
                Some(_) if !is_over => Queue::open(directory, stream, filter_of(stream, site))?,
                _ => None,
            };
            Ok::<_, ReplayError>(ChainInput {
                chain,
                stream,
                report: queue.as_ref().and_then(|_| of(stream)),
                queue,
                position: 0,
                is_over,
            })
        };
        let observations = open(Chain::Site, RecordStream::Observations, false)?;
        let packets = open(Chain::Packets, RecordStream::Packets, selection.without_packets)?;
        if observations.queue.is_none() && packets.queue.is_none() {
            return Ok(None);
        }
        let mut events = None;
        if selection.with_events {
            events = Queue::open(
                directory,
                RecordStream::Events,
                filter_of(RecordStream::Events, site),
            )?;
            if let (Some(events), Some(from)) = (&mut events, selection.from) {
                events.files.seek(&Start::StoredAt(from))?;
            }
        }
        let mut source = LogSource {
            directory: directory.to_owned(),
            site: selection.site.clone(),
            inputs: [packets, observations],
            events,
            with_events: selection.with_events,
            prologue: VecDeque::new(),
        };
        source.begin(selection)?;
        Ok(Some(source))
    }

    pub(super) fn known_sites(&self) -> Result<Vec<String>, ReplayError> {
        // Every site has ticks; where no observation is kept, packets tell.
        let is_observed = self
            .inputs
            .iter()
            .any(|input| input.stream == RecordStream::Observations && input.queue.is_some());
        let stream = match is_observed {
            true => Stream::Observations,
            false => Stream::Packets,
        };
        let mut sites = BTreeSet::new();
        let Some(mut files) = StreamFiles::open(&self.directory, stream)? else {
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
        let (mut first, mut last) = (None, None);
        for input in self.inputs.iter().filter(|input| input.report.is_some()) {
            if let Some(mut files) = StreamFiles::open(&self.directory, input.stream.stream())?
                && let Some(record) = files.next(1)?.records.first()
            {
                first = Some(first.map_or(record.stored_at, |first: Time| first.min(record.stored_at)));
            }
            last = last.max(input.report.as_ref().and_then(|report| report.last_stored_at));
        }
        Ok((first, last))
    }

    pub(super) fn progress(&self) -> Option<f64> {
        let (mut done, mut total) = (0.0, 0.0);
        for (input, report) in self
            .inputs
            .iter()
            .filter_map(|input| Some((input, input.report.as_ref()?)))
        {
            let records = (report.last_sequence + 1).saturating_sub(report.first_sequence) as f64;
            let read = input.position.saturating_sub(report.first_sequence) as f64;
            // Of two streams the larger one takes longer.
            let weight = report.bytes as f64;
            total += weight;
            done += weight * if records > 0.0 { read / records } else { 1.0 };
        }
        (total > 0.0).then(|| done / total)
    }

    pub(super) fn bytes(&self) -> u64 {
        let reports = self.inputs.iter().filter_map(|input| input.report.as_ref());
        reports.map(|report| report.bytes).sum()
    }

    /// Looks into the files again. Events first: then whatever they were derived of is among the input; findings are derived, too.
    pub(super) fn refresh(&mut self) -> Result<(), ReplayError> {
        let site = self.site.as_deref();
        if let Some(events) = &mut self.events {
            events.refresh(&self.directory)?;
        } else if self.with_events {
            let filter = filter_of(RecordStream::Events, site);
            self.events = Queue::open(&self.directory, RecordStream::Events, filter)?;
        }
        for input in self.inputs.iter_mut().rev().filter(|input| !input.is_over) {
            match &mut input.queue {
                Some(queue) => queue.refresh(&self.directory)?,
                None => {
                    input.queue = Queue::open(&self.directory, input.stream, filter_of(input.stream, site))?;
                }
            }
        }
        Ok(())
    }

    /// Nothing that a chain reads is wanted any more.
    pub(super) fn end_observations(&mut self) {
        for input in &mut self.inputs {
            input.is_over = true;
            if let Some(queue) = &mut input.queue {
                queue.end();
            }
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Raw>, ReplayError> {
        if let Some(raw) = self.prologue.pop_front() {
            return Ok(Some(raw));
        }
        let mut due: Option<(usize, Time)> = None;
        for (index, input) in self.inputs.iter_mut().enumerate() {
            let Some(queue) = &mut input.queue else {
                continue;
            };
            queue.fill()?;
            if let Some((from, to)) = queue.lost.take() {
                let stream = queue.stream;
                return Ok(Some(Raw::Lost { stream, from, to }));
            }
            if let Some(head) = queue.head()
                && due.is_none_or(|(_, earliest)| head < earliest)
            {
                due = Some((index, head));
            }
        }
        if let Some(events) = &mut self.events {
            events.fill()?;
            // An event is stored after its input, so at equal times the input goes first.
            let is_due = match (events.head(), due) {
                (Some(event), Some((_, input))) => event < input,
                (Some(_), None) => true,
                (None, _) => false,
            };
            if is_due {
                return Ok(events.pop().map(Raw::Record));
            }
        }
        let Some((index, _)) = due else {
            return Ok(None);
        };
        let input = &mut self.inputs[index];
        let record = input.queue.as_mut().and_then(Queue::pop);
        if let Some(record) = &record {
            input.position = record.sequence;
        }
        Ok(record.map(Raw::Record))
    }

    /// Stands where reading must begin to know what is so at the start of the span.
    fn begin(&mut self, selection: &Selection) -> Result<(), ReplayError> {
        let sites = match (&selection.site, selection.from) {
            (Some(site), _) => vec![site.clone()],
            (None, Some(_)) => self.known_sites()?,
            (None, None) => Vec::new(),
        };
        for input in &mut self.inputs {
            let begun = input.begin(&self.directory, selection.from, &sites)?;
            self.prologue.extend(begun);
        }
        Ok(())
    }
}

impl ChainInput {
    /// What is known of the beginning, with the files standing there.
    fn begin(
        &mut self,
        directory: &Path,
        from: Option<Time>,
        sites: &[String],
    ) -> Result<Vec<Raw>, ReplayError> {
        let (Some(report), Some(queue)) = (&self.report, &mut self.queue) else {
            return Ok(Vec::new());
        };
        let stream = self.stream.stream();
        let cut = |sites| {
            (report.first_sequence > 1).then(|| Raw::Cut {
                stream,
                reason: format!("the log keeps nothing before sequence {}", report.first_sequence),
                sites,
            })
        };
        let Some(from) = from else {
            return Ok(cut(None).into_iter().collect());
        };
        let Some(first) = first_stored_at_or_after(directory, stream, from)? else {
            return Ok(Vec::new());
        };
        let mut begun = Vec::new();
        let mut begin = None;
        for site in sites {
            match snapshots::latest_before(directory, (site, self.chain), report, first)? {
                Some(snapshot) => {
                    begin = Some(begin.map_or(snapshot.sequence, |begin: u64| begin.min(snapshot.sequence)));
                    begun.push(Raw::Snapshot(Box::new(snapshot)));
                }
                // This one has to be folded from its first record on.
                None => {
                    begun.extend(cut(Some([site.clone()].into())));
                    begin = Some(0);
                }
            }
        }
        queue.files.seek(&Start::Sequence(begin.unwrap_or(0) + 1))?;
        Ok(begun)
    }
}

fn first_stored_at_or_after(
    directory: &Path,
    stream: Stream,
    from: Time,
) -> Result<Option<u64>, ReplayError> {
    let Some(mut files) = StreamFiles::open(directory, stream)? else {
        return Ok(None);
    };
    files.seek(&Start::StoredAt(from))?;
    Ok(files.next(1)?.records.first().map(|record| record.sequence))
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

    fn end(&mut self) {
        self.is_ended = true;
        self.is_over = true;
        self.records.clear();
    }

    fn fill(&mut self) -> Result<(), ReplayError> {
        if self.is_ended || !self.records.is_empty() {
            return Ok(());
        }
        let batch = self.files.next(match self.stream {
            RecordStream::Packets => BATCHES_AT_ONCE,
            RecordStream::Observations | RecordStream::Events => RECORDS_AT_ONCE,
        })?;
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
