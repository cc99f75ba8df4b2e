//! Makes a recording of an input: what stands before the span is folded into a snapshot, what is in it is copied.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use watchfold_schemas::{Event, Stream};

use crate::ReplayError;
use crate::engine::{Engine, Under};
use crate::input::{Input, Selection, Step};
use crate::recorded::RecordedEvents;
use crate::recording::{FORMAT_VERSION, Finished, Header, Item, RecordStream, RecordingError, Writer};

/// Records between two sets of snapshots: folding as many to reach a moment takes about a second.
pub const SNAPSHOT_EVERY_RECORDS: u64 = 100_000;

/// What is to be recorded.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// Which part of the input; events always come along.
    pub selection: Selection,
    /// The file to make; it must not exist.
    pub out: PathBuf,
    /// The version of the program, for the header.
    pub software: String,
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    pub header: Header,
    pub records: u64,
    pub events: u64,
    pub lead_in_records: u64,
    pub frames: u64,
    pub bytes: u64,
    /// Stands for the whole file.
    pub hash: String,
    /// What was wrong with the input.
    pub problems: Vec<String>,
}

/// Records a data directory, or a piece of another recording. On an error the file is removed.
pub fn record(path: &Path, options: &RecordOptions) -> Result<Recorded, ReplayError> {
    let selection = Selection {
        with_events: true,
        ..options.selection.clone()
    };
    let mut input = Input::open(path, &selection)?;
    let mut recorder = Recorder::new(&input, options);
    let recorded = recorder.run(&mut input);
    if recorded.is_err()
        && recorder.is_created
        && let Err(error) = std::fs::remove_file(&options.out)
    {
        tracing::warn!(path = %options.out.display(), %error, "an unfinished recording stays behind");
    }
    recorded
}

struct Recorder<'a> {
    options: &'a RecordOptions,
    /// Folds what is recorded, for the snapshots.
    engine: Engine,
    events: RecordedEvents,
    writer: Option<Writer<File>>,
    header: Header,
    is_created: bool,
    event_count: u64,
    observation_count: u64,
}

impl<'a> Recorder<'a> {
    fn new(input: &Input, options: &'a RecordOptions) -> Recorder<'a> {
        let engine = Engine::new(Under::Recorded);
        let engine = match input.header() {
            Some(header) => engine.with_header(header),
            None => engine,
        };
        Recorder {
            options,
            engine,
            events: RecordedEvents::default(),
            writer: None,
            header: Header::default(),
            is_created: false,
            event_count: 0,
            observation_count: 0,
        }
    }

    fn run(&mut self, input: &mut Input) -> Result<Recorded, ReplayError> {
        while let Some(step) = input.next_step()? {
            let begins = matches!(
                &step,
                Step::Record {
                    stream: Stream::Observations,
                    lead_in: false,
                    ..
                }
            );
            if begins && self.writer.is_none() {
                self.begin(input)?;
            }
            let kept = self.events.take(&step);
            drop(self.engine.take(&step));
            let Some(writer) = &mut self.writer else { continue };
            let write = copy(writer, &step, kept.as_ref());
            let is_event = write.map_err(|source| self.failed(source))?;
            match is_event {
                Some(true) => self.event_count += 1,
                Some(false) => {
                    self.observation_count += 1;
                    if self.observation_count.is_multiple_of(SNAPSHOT_EVERY_RECORDS) {
                        self.snapshot()?;
                    }
                }
                None => {}
            }
        }
        self.finish(input)
    }

    fn begin(&mut self, input: &Input) -> Result<(), ReplayError> {
        let selection = &self.options.selection;
        let sites = match &selection.site {
            Some(site) => vec![site.clone()],
            None => input.known_sites()?,
        };
        let (beginnings, activations) = self.engine.beginnings(&sites);
        self.header = Header {
            v: FORMAT_VERSION,
            software: self.options.software.clone(),
            sites,
            from: selection.from,
            to: selection.to,
            streams: [RecordStream::Observations, RecordStream::Events]
                .map(|stream| stream.stream().name().to_owned())
                .to_vec(),
            activations,
            beginnings,
        };
        let file = self.create()?;
        self.is_created = true;
        let writer = Writer::new(file, &self.header).map_err(|source| self.failed(source))?;
        self.writer = Some(writer);
        self.snapshot()
    }

    fn create(&self) -> Result<File, ReplayError> {
        let path = self.options.out.clone();
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|source| match source.kind() {
                ErrorKind::AlreadyExists => ReplayError::Exists { path },
                _ => ReplayError::Io {
                    action: "create",
                    path,
                    source,
                },
            })
    }

    fn snapshot(&mut self) -> Result<(), ReplayError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let written = self
            .engine
            .snapshots()
            .iter()
            .try_for_each(|snapshot| writer.snapshot(snapshot));
        written.map_err(|source| self.failed(source))
    }

    fn finish(&mut self, input: &Input) -> Result<Recorded, ReplayError> {
        let path = || self.options.out.clone();
        let Some(writer) = self.writer.take() else {
            // An input without a record in the span has failed before.
            return Err(ReplayError::NoInput {
                path: input.path().to_owned(),
            });
        };
        let finished = writer.finish().map_err(|source| self.failed(source))?;
        let Finished {
            out,
            bytes,
            frames,
            hash,
            ..
        } = finished;
        out.sync_all().map_err(|source| ReplayError::Io {
            action: "sync",
            path: path(),
            source,
        })?;
        Ok(Recorded {
            header: self.header.clone(),
            records: self.observation_count,
            events: self.event_count,
            lead_in_records: self.engine.counters().lead_in_records,
            frames,
            bytes,
            hash,
            problems: input.problems().to_vec(),
        })
    }

    fn failed(&self, source: RecordingError) -> ReplayError {
        ReplayError::Recording {
            path: self.options.out.clone(),
            source,
        }
    }
}

/// Copies a step of the span; tells whether it was an event.
fn copy(
    writer: &mut Writer<File>,
    step: &Step,
    event: Option<&Event>,
) -> Result<Option<bool>, RecordingError> {
    match step {
        Step::Record {
            stream: Stream::Observations,
            record,
            lead_in: false,
            ..
        } => {
            writer.push(&Item::Record(record.clone()))?;
            Ok(Some(false))
        }
        Step::Record {
            stream: Stream::Events,
            record,
            ..
        } if event.is_some() => {
            writer.push(&Item::Record(record.clone()))?;
            Ok(Some(true))
        }
        Step::Lost {
            from,
            to,
            lead_in: false,
        } => {
            writer.push(&Item::Lost { from: *from, to: *to })?;
            Ok(None)
        }
        Step::Record { .. } | Step::Lost { .. } | Step::Snapshot(_) | Step::Cut(_) => Ok(None),
    }
}
