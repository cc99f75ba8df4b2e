//! Makes a recording of an input: what stands before the span is folded into a snapshot, what is in it is copied, once or for as long as the
//! log grows. It waits for nothing; whoever follows a log says when to look again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use watchfold_schemas::event::Place;
use watchfold_schemas::subjects::{self, kind_of_observation};
use watchfold_schemas::{Chain, Event, Stream, Time, encode_event, encode_observation};

use crate::ReplayError;
use crate::engine::Engine;
use crate::input::{Input, Selection, Step};
use crate::recorded::RecordedEvents;
use crate::recording::{
    Beginning, BeginningState, FORMAT_VERSION, Finished, Header, Item, RecordStream, RecordingError,
    StoredRecord, Writer,
};
use crate::under::Under;

/// What is to be recorded.
#[derive(Clone, Debug, Default)]
pub struct RecordOptions {
    /// Which part of the input; events always come along.
    pub selection: Selection,
    /// Only these kinds of observation, as `Body::kind` spells them; all where none is named.
    pub kinds: Vec<String>,
    /// The file to make; it must not exist.
    pub out: PathBuf,
    /// The version of the program, for the header.
    pub software: String,
    /// By what capture files are judged; a log tells it itself.
    pub under: Under,
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
    /// Packets of capture files that gave no row, by file.
    pub unread: Vec<String>,
}

/// Records a data directory, or a piece of another recording. On an error the file is removed.
pub fn record(path: &Path, options: &RecordOptions) -> Result<Recorded, ReplayError> {
    let mut recorder = Recorder::open(path, options)?;
    let recorded = recorder.run();
    if recorded.is_err()
        && recorder.is_created
        && let Err(error) = std::fs::remove_file(&options.out)
    {
        tracing::warn!(path = %options.out.display(), %error, "an unfinished recording stays behind");
    }
    recorded
}

/// How far a recording that follows its log has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// There is more to copy at once.
    Behind,
    /// Everything that the log had is in the file.
    CaughtUp,
    /// The span that was asked for is over.
    Over,
}

/// A recording that grows with the log of a data directory. Dropped, or killed, it leaves a file that is read up to its last frame.
pub struct Following<'a>(Recorder<'a>);

impl<'a> Following<'a> {
    pub fn open(path: &Path, options: &'a RecordOptions) -> Result<Following<'a>, ReplayError> {
        Ok(Following(Recorder::open(path, options)?))
    }

    /// Copies at most so many steps; where nothing more is there, looks into the log again. Others can read what was copied when a frame is
    /// full, or after [`Following::flush`].
    pub fn advance(&mut self, steps_max: usize) -> Result<Followed, ReplayError> {
        let recorder = &mut self.0;
        for _ in 0..steps_max {
            let Some(step) = recorder.input.step_so_far()? else {
                if recorder.input.is_past_span() && recorder.has_all_events() {
                    return Ok(Followed::Over);
                }
                recorder.input.refresh()?;
                return Ok(Followed::CaughtUp);
            };
            recorder.take(&step)?;
        }
        Ok(Followed::Behind)
    }

    /// Hands what was copied to the file, whole, so that others can read it. Each time makes a frame.
    pub fn flush(&mut self) -> Result<(), ReplayError> {
        self.0.flush()
    }

    /// Takes no further observation.
    pub fn end_observations(&mut self) {
        self.0.input.end_observations();
    }

    /// Whether everything that follows from what was recorded has been recorded, too: live derives a few milliseconds later than it
    /// observes.
    pub fn has_all_events(&self) -> bool {
        self.0.has_all_events()
    }

    /// The observations and events so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.0.observation_count, self.0.event_count)
    }

    /// Writes the index. An error when there was nothing to record.
    pub fn finish(mut self) -> Result<Recorded, ReplayError> {
        self.0.finish()
    }
}

struct Recorder<'a> {
    options: &'a RecordOptions,
    input: Input,
    /// Folds what is recorded, for the snapshots.
    engine: Engine,
    events: RecordedEvents,
    writer: Option<Writer<File>>,
    header: Header,
    is_created: bool,
    event_count: u64,
    observation_count: u64,
    /// The last event of each chain that follows from what was read, and the last that was read.
    derived: BTreeMap<(String, Chain), Place>,
    kept: BTreeMap<(String, Chain), Place>,
}

impl<'a> Recorder<'a> {
    fn open(path: &Path, options: &'a RecordOptions) -> Result<Recorder<'a>, ReplayError> {
        let selection = Selection {
            with_events: true,
            ..options.selection.clone()
        };
        let input = Input::open(path, &selection)?;
        if options.out.exists() {
            return Err(ReplayError::Exists {
                path: options.out.clone(),
            });
        }
        let engine = match input.is_of_captures() {
            true => Engine::new(options.under.clone()).keeping_made(),
            false => Engine::new(Under::recorded()),
        };
        let engine = match input.header() {
            Some(header) => engine.with_header(header),
            None => engine,
        };
        Ok(Recorder {
            options,
            input,
            engine,
            events: RecordedEvents::default(),
            writer: None,
            header: Header::default(),
            is_created: false,
            event_count: 0,
            observation_count: 0,
            derived: BTreeMap::new(),
            kept: BTreeMap::new(),
        })
    }

    fn run(&mut self) -> Result<Recorded, ReplayError> {
        while let Some(step) = self.input.next_step()? {
            self.take(&step)?;
        }
        self.finish()
    }

    fn take(&mut self, step: &Step) -> Result<(), ReplayError> {
        let begins = matches!(
            step,
            Step::Record {
                stream: Stream::Observations | Stream::Packets,
                lead_in: false,
                ..
            } | Step::Captured { lead_in: false, .. }
        );
        if begins && self.writer.is_none() {
            self.begin()?;
        }
        let kept = self.events.take(step);
        if let Some(event) = &kept {
            self.kept.insert((event.site.clone(), event.chain), event.place);
        }
        let derived = self.engine.take(step);
        if let Step::Captured {
            observation, lead_in, ..
        } = step
        {
            return self.take_captured(observation.through, &derived, *lead_in);
        }
        for event in derived {
            self.derived.insert((event.site, event.chain), event.place);
        }
        if !self.is_wanted(step) {
            return Ok(());
        }
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let write = copy(writer, step, kept.as_ref());
        let is_snapshot_due = writer.is_snapshot_due();
        let is_event = write.map_err(|source| self.failed(source))?;
        match is_event {
            Some(true) => self.event_count += 1,
            Some(false) => {
                self.observation_count += 1;
                if is_snapshot_due {
                    self.snapshot()?;
                }
            }
            None => {}
        }
        Ok(())
    }

    fn is_wanted(&self, step: &Step) -> bool {
        match step {
            Step::Record {
                stream: Stream::Observations | Stream::Packets,
                record,
                ..
            } => self.is_wanted_kind(&record.subject),
            _ => true,
        }
    }

    fn is_wanted_kind(&self, subject: &str) -> bool {
        let kinds = &self.options.kinds;
        kinds.is_empty()
            || kind_of_observation(subject).is_some_and(|kind| kinds.iter().any(|one| one == kind))
    }

    /// Packets of a capture file, with what was made beside them: as they would stand in a log.
    fn take_captured(
        &mut self,
        stored_at: Time,
        derived: &[Event],
        lead_in: bool,
    ) -> Result<(), ReplayError> {
        let made = self.engine.take_made();
        if lead_in {
            return Ok(());
        }
        let mut records = Vec::new();
        for one in &made {
            let origin = &one.observation.origin;
            let kind = one.observation.body.kind();
            let subject = subjects::of_observation(one.stream, &origin.site, kind, &origin.collector);
            let Some(stream) = RecordStream::of(one.stream) else {
                continue;
            };
            if self.is_wanted_kind(&subject) {
                records.push(StoredRecord {
                    stream,
                    sequence: one.sequence,
                    stored_at: one.stored_at,
                    id: one.message_id().0,
                    subject,
                    payload: encode_observation(&one.observation)?,
                });
            }
        }
        self.observation_count += records.len() as u64;
        for event in derived {
            self.event_count += 1;
            records.push(StoredRecord {
                stream: RecordStream::Events,
                sequence: self.event_count,
                stored_at,
                id: event.id.0.clone(),
                subject: subjects::event(&event.site, event.chain, event.body.kind(), &event.key),
                payload: encode_event(event)?,
            });
        }
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let pushed = records
            .into_iter()
            .try_for_each(|record| writer.push(&Item::Record(record)));
        let is_snapshot_due = writer.is_snapshot_due();
        pushed.map_err(|source| self.failed(source))?;
        if is_snapshot_due {
            self.snapshot()?;
        }
        Ok(())
    }

    fn has_all_events(&self) -> bool {
        let is_kept = |(chain, place)| self.kept.get(chain).is_some_and(|kept| kept >= place);
        self.derived.iter().all(is_kept)
    }

    fn begin(&mut self) -> Result<(), ReplayError> {
        let selection = &self.options.selection;
        let sites = match &selection.site {
            Some(site) => vec![site.clone()],
            None => self.input.known_sites()?,
        };
        let (beginnings, activations) = self.engine.beginnings(&sites);
        self.header = Header {
            v: FORMAT_VERSION,
            software: self.options.software.clone(),
            sites,
            from: selection.from,
            to: selection.to,
            streams: [
                RecordStream::Observations,
                RecordStream::Events,
                RecordStream::Packets,
            ]
            .map(|stream| stream.stream().name().to_owned())
            .to_vec(),
            activations,
            beginnings,
            kinds: self.options.kinds.clone(),
        };
        if !self.header.is_basis() {
            // A state without what led on from it would say more than was asked for, and help nobody.
            let cut = |site: &String| Beginning {
                site: site.clone(),
                state: BeginningState::Cut,
            };
            self.header.beginnings = self.header.sites.iter().map(cut).collect();
        }
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
        let Some(writer) = self.writer.as_mut().filter(|_| self.header.is_basis()) else {
            return Ok(());
        };
        let written = self
            .engine
            .snapshots()
            .iter()
            .try_for_each(|snapshot| writer.snapshot(snapshot));
        written.map_err(|source| self.failed(source))
    }

    fn flush(&mut self) -> Result<(), ReplayError> {
        match self.writer.as_mut().map(Writer::flush) {
            Some(Err(source)) => Err(self.failed(source)),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<Recorded, ReplayError> {
        let path = || self.options.out.clone();
        let Some(writer) = self.writer.take() else {
            return Err(self.input.nothing_there()?);
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
            problems: self.input.problems().to_vec(),
            unread: self.input.unread(),
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
            stream: Stream::Observations | Stream::Packets,
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
            stream,
            from,
            to,
            lead_in: false,
            ..
        } => {
            if let Some(stream) = RecordStream::of(*stream) {
                let (from, to) = (*from, *to);
                writer.push(&Item::Lost { from, to, stream })?;
            }
            Ok(None)
        }
        Step::Begins { .. }
        | Step::Record { .. }
        | Step::Lost { .. }
        | Step::Captured { .. }
        | Step::Snapshot(_)
        | Step::Cut { .. } => Ok(None),
    }
}
