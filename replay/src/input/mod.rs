//! What can be replayed: the log in a data directory, whoever owns it, a recording, or capture files. Opens for reading only and takes no
//! lock.

mod captures;
mod file;
mod log;
mod several;
mod snapshots;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use watchfold_schemas::subjects::site_of;
use watchfold_schemas::{Observation, Stream, Time};

use crate::ReplayError;
use crate::outside::Outside;
use crate::recording::{ActivationInForce, Header, RecordStream, SiteSnapshot, StoredRecord};

pub use captures::CAPTURE_SITE;
pub use several::Inputs;

/// Problems that are told one by one; more are only counted.
const PROBLEMS_MAX: usize = 100;

/// What is looked at of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `None` is every site.
    pub site: Option<String>,
    /// By `stored_at`: from included, to not.
    pub from: Option<Time>,
    pub to: Option<Time>,
    /// Whether the events that were recorded are wanted, too.
    pub with_events: bool,
    /// What `WF_PKT` holds is left out.
    pub without_packets: bool,
    /// How capture files are opened; it is no part of what is looked at.
    pub outside: Outside,
}

/// The sites that a step is about; `None` is every site.
pub type Sites = Option<Arc<[String]>>;

/// The next thing of an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// One of several inputs begins: what is said of these sites from here on need not follow from what was said before.
    Begins {
        sites: Sites,
        /// The configurations in force at its start, as far as it tells.
        activations: Vec<ActivationInForce>,
    },
    /// The state of one of a site's chains at this point.
    Snapshot(Box<SiteSnapshot>),
    /// What was in this stream before cannot be known, for the given reason.
    Cut {
        stream: Stream,
        reason: String,
        sites: Sites,
    },
    Record {
        stream: Stream,
        record: StoredRecord,
        site: Arc<str>,
        lead_in: bool,
    },
    /// Packets of capture files, which stand in no log.
    Captured {
        observation: Box<Observation>,
        /// As if they stood in `WF_PKT`.
        sequence: u64,
        site: Arc<str>,
        lead_in: bool,
    },
    /// Records of a stream are gone.
    Lost {
        stream: Stream,
        from: u64,
        to: u64,
        lead_in: bool,
        sites: Sites,
    },
}

/// An input being read, in the order of its log.
pub struct Input {
    path: PathBuf,
    source: Source,
    selection: Selection,
    site: Arc<str>,
    /// Whether an observation lay in the span.
    is_in_span: bool,
    is_past_span: bool,
    is_ended: bool,
    first_stored_at: Option<Time>,
    /// Of capture files: how far their packets go.
    last_captured_at: Option<Time>,
    problems: Vec<String>,
}

enum Source {
    Log(Box<log::LogSource>),
    File(Box<file::FileSource>),
    Captures(captures::CaptureSource),
}

/// What a source gives: everything, unselected.
enum Raw {
    Snapshot(Box<SiteSnapshot>),
    Cut {
        stream: Stream,
        reason: String,
        sites: Sites,
    },
    Record(StoredRecord),
    Captured(Box<Observation>, u64),
    Lost {
        stream: RecordStream,
        from: u64,
        to: u64,
    },
    /// Something is wrong with the input, and reading goes on.
    Problem(String),
}

impl Input {
    /// Opens a recording, a data directory, a log's directory, or a capture file.
    pub fn open(path: &Path, selection: &Selection) -> Result<Input, ReplayError> {
        if selection.outside.is_capture(path) {
            return Input::of_captures(&[path.to_owned()], selection);
        }
        let source = if path.is_dir() {
            let inner = path.join("log");
            let directory = if inner.is_dir() { inner } else { path.to_owned() };
            let source = log::LogSource::open(&directory, selection)?;
            Source::Log(Box::new(source.ok_or_else(|| ReplayError::NoInput {
                path: path.to_owned(),
            })?))
        } else {
            Source::File(Box::new(file::FileSource::open(path, selection)?))
        };
        Ok(Input::new(path, source, selection))
    }

    /// Opens capture files as one: packets of one collector, in the order of the files.
    pub fn of_captures(paths: &[PathBuf], selection: &Selection) -> Result<Input, ReplayError> {
        let source = captures::CaptureSource::open(paths, selection)?;
        let path = paths.first().cloned().unwrap_or_default();
        Ok(Input::new(&path, Source::Captures(source), selection))
    }

    fn new(path: &Path, source: Source, selection: &Selection) -> Input {
        Input {
            path: path.to_owned(),
            source,
            selection: selection.clone(),
            site: Arc::from(""),
            is_in_span: false,
            is_past_span: false,
            is_ended: false,
            first_stored_at: None,
            last_captured_at: None,
            problems: Vec::new(),
        }
    }

    /// Whether these are capture files: there is no log, and nothing was derived before.
    pub fn is_of_captures(&self) -> bool {
        matches!(self.source, Source::Captures(_))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header, where the input is a recording.
    pub fn header(&self) -> Option<&Header> {
        match &self.source {
            Source::File(file) => Some(file.header()),
            Source::Log(_) | Source::Captures(_) => None,
        }
    }

    /// The sites that it holds.
    pub fn known_sites(&self) -> Result<Vec<String>, ReplayError> {
        match &self.source {
            Source::File(file) => Ok(file.header().sites.clone()),
            Source::Log(log) => log.known_sites(),
            Source::Captures(captures) => Ok(vec![captures.site().to_string()]),
        }
    }

    /// When its first and its last observation were stored, whatever was selected; unknown of capture files.
    pub fn observed(&self) -> Result<Option<(Time, Time)>, ReplayError> {
        let (first, last) = match &self.source {
            Source::File(file) => file.observed()?,
            Source::Log(log) => log.extent()?,
            Source::Captures(_) => (None, None),
        };
        Ok(first.zip(last))
    }

    /// Looks what a log that is being written has got since; the next steps are those.
    pub fn refresh(&mut self) -> Result<(), ReplayError> {
        if let Source::Log(log) = &mut self.source {
            log.refresh()?;
            self.is_ended = false;
        }
        Ok(())
    }

    /// Whether an observation that was stored after the span was seen: the span is over.
    pub fn is_past_span(&self) -> bool {
        self.is_past_span
    }

    /// Whether an observation of the span was given.
    pub fn has_begun(&self) -> bool {
        self.is_in_span
    }

    /// About how many bytes it has, to weigh its progress against that of others.
    fn bytes(&self) -> u64 {
        match &self.source {
            Source::File(file) => file.bytes(),
            Source::Log(log) => log.bytes(),
            Source::Captures(captures) => captures.bytes(),
        }
    }

    /// What was wrong with it so far: damage, and an end that is none.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Packets of capture files that were read and gave no row, as sentences by file.
    pub fn unread(&self) -> Vec<String> {
        match &self.source {
            Source::Captures(captures) => captures.unread(),
            Source::File(_) | Source::Log(_) => Vec::new(),
        }
    }

    /// How much of it was read, from 0 to 1, where that can be told.
    pub fn progress(&self) -> Option<f64> {
        match &self.source {
            Source::File(file) => file.progress(),
            Source::Log(log) => log.progress(),
            Source::Captures(_) => None,
        }
    }

    /// The next step, or `None` at the end. A selection that holds nothing is an error that tells what is there, and so are
    /// capture files of which no packet could be read.
    pub fn next_step(&mut self) -> Result<Option<Step>, ReplayError> {
        match self.step_so_far()? {
            None if let Some(error) = self.nothing_read() => Err(error),
            None if !self.is_in_span => Err(self.nothing_there()?),
            step => Ok(step),
        }
    }

    /// Like [`Input::next_step`], of a log that more may come to: that nothing is there is no error yet.
    pub fn step_so_far(&mut self) -> Result<Option<Step>, ReplayError> {
        while !self.is_ended {
            let raw = match &mut self.source {
                Source::Log(log) => log.next()?,
                Source::File(file) => file.next()?,
                Source::Captures(captures) => captures.next(),
            };
            let Some(raw) = raw else {
                self.is_ended = true;
                break;
            };
            if let Some(step) = self.select(raw) {
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    /// Takes no further observation; events of those that were given may still come.
    pub fn end_observations(&mut self) {
        if let Source::Log(log) = &mut self.source {
            log.end_observations();
        }
    }

    fn select(&mut self, raw: Raw) -> Option<Step> {
        match raw {
            Raw::Snapshot(snapshot) => self.is_wanted(&snapshot.site).then_some(Step::Snapshot(snapshot)),
            Raw::Cut {
                stream,
                reason,
                sites,
            } => Some(Step::Cut {
                stream,
                reason,
                sites,
            }),
            Raw::Lost { stream, .. } if stream == RecordStream::Packets && self.selection.without_packets => {
                None
            }
            Raw::Captured(observation, sequence) => self.select_captured(observation, sequence),
            Raw::Lost { stream, from, to } => Some(Step::Lost {
                stream: stream.stream(),
                from,
                to,
                lead_in: self.is_lead_in(),
                sites: None,
            }),
            Raw::Problem(problem) => {
                if self.problems.len() < PROBLEMS_MAX {
                    self.problems.push(problem);
                } else {
                    tracing::warn!(
                        limit = PROBLEMS_MAX,
                        problem,
                        "more problems than are told at the end"
                    );
                }
                None
            }
            Raw::Record(record) => self.select_record(record),
        }
    }

    fn select_record(&mut self, record: StoredRecord) -> Option<Step> {
        let site = site_of(&record.subject)?;
        if !self.is_wanted(site) {
            return None;
        }
        if *self.site != *site {
            self.site = Arc::from(site);
        }
        let is_past = self.selection.to.is_some_and(|to| record.stored_at >= to);
        if record.stream == RecordStream::Packets && (is_past || self.selection.without_packets) {
            return None;
        }
        if record.stream.is_input() {
            self.first_stored_at.get_or_insert(record.stored_at);
            if is_past {
                self.is_past_span = true;
                // Events of the span may still come; without them there is nothing more to wait for.
                self.is_ended = !self.selection.with_events;
                if let Source::Log(log) = &mut self.source {
                    log.end_observations();
                }
                return None;
            }
        } else if !self.selection.with_events {
            return None;
        }
        let lead_in = self.selection.from.is_some_and(|from| record.stored_at < from);
        self.is_in_span |= record.stream.is_input() && !lead_in;
        let site = self.site.clone();
        Some(Step::Record {
            stream: record.stream.stream(),
            record,
            site,
            lead_in,
        })
    }

    /// What a capture file holds has the time of its packets.
    fn select_captured(&mut self, observation: Box<Observation>, sequence: u64) -> Option<Step> {
        let at = observation.through;
        self.first_stored_at.get_or_insert(at);
        self.last_captured_at = Some(at);
        if self.selection.to.is_some_and(|to| at >= to) {
            self.is_past_span = true;
            self.is_ended = true;
            return None;
        }
        let lead_in = self.selection.from.is_some_and(|from| at < from);
        self.is_in_span |= !lead_in;
        if *self.site != *observation.origin.site {
            self.site = Arc::from(observation.origin.site.as_str());
        }
        Some(Step::Captured {
            observation,
            sequence,
            site: self.site.clone(),
            lead_in,
        })
    }

    fn is_wanted(&self, site: &str) -> bool {
        self.selection.site.as_deref().is_none_or(|wanted| wanted == site)
    }

    /// Before the first record of the span.
    fn is_lead_in(&self) -> bool {
        self.selection.from.is_some() && !self.is_in_span
    }

    fn nothing_read(&self) -> Option<ReplayError> {
        match &self.source {
            // Behind the end of the span there may have been more.
            Source::Captures(captures) if !self.is_past_span => captures.nothing_read(),
            _ => None,
        }
    }

    /// Why nothing of it was selected.
    pub(crate) fn nothing_there(&self) -> Result<ReplayError, ReplayError> {
        let known = self.known_sites()?;
        if let Some(site) = &self.selection.site
            && !known.contains(site)
        {
            return Ok(ReplayError::NoSuchSite {
                site: site.clone(),
                known,
            });
        }
        let (first, last) = match &self.source {
            Source::File(file) => file.extent(),
            Source::Log(log) => log.extent()?,
            Source::Captures(_) => (self.first_stored_at, self.last_captured_at),
        };
        let Selection { from, to, .. } = self.selection;
        Ok(ReplayError::EmptySpan {
            inputs: match &self.source {
                Source::Captures(captures) => captures.names(),
                Source::File(_) | Source::Log(_) => self.path.display().to_string(),
            },
            from,
            to,
            first: first.or(self.first_stored_at),
            last,
        })
    }
}

/// Inputs as a sentence names them.
fn names<'a>(mut paths: impl ExactSizeIterator<Item = &'a Path>) -> String {
    let first = paths.next().unwrap_or(Path::new(""));
    let first = match first == Path::new("-") {
        true => "standard input".to_owned(),
        false => first.display().to_string(),
    };
    match paths.len() {
        0 => first,
        1 => format!("{first} and another file"),
        further => format!("{first} and {further} further files"),
    }
}

/// The sites among some subjects.
fn sites_of<'a>(subjects: impl Iterator<Item = &'a str>, into: &mut BTreeSet<String>) {
    for site in subjects.filter_map(site_of) {
        if !into.contains(site) {
            into.insert(site.to_owned());
        }
    }
}
