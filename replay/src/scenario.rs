//! Scenarios: a short recording or capture in a directory, with the events that are to follow from it. Cut from a longer input around
//! something that happened, and compared with what today's code derives.
//!
//! A comparison is of lines of text, in order; it knows nothing of tolerances. Of a capture it is of what follows from its packets; the
//! incidents and messages that these make at a site are for recordings.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use watchfold_schemas::digest::EventDigest;
use watchfold_schemas::plain_text::text_of;
use watchfold_schemas::rules::RuleSet;
use watchfold_schemas::{Chain, CodecError, Event, EventBody, Span, Time};

use crate::ReplayError;
use crate::engine::Engine;
use crate::explain::{Explanation, explain};
use crate::findings::recorded_findings;
use crate::input::{Input, Selection};
use crate::outside::Outside;
use crate::record::{RecordOptions, Recorded, record};
use crate::under::Under;

pub const INPUT: &str = "input";
/// What the name of a capture file begins with: `input.pcap`, `input.pcapng`, either with `.gz` or `.zst`.
pub const CAPTURE_PREFIX: &str = "input.";
/// A directory of rules, or a file that names a pack; without either a capture is judged by the pack that is in force by default.
pub const RULES_DIRECTORY: &str = "rules";
pub const RULES_FILE: &str = "rules.txt";
const RULES_DEFAULT: &str = "default";
pub const EXPECTED: &str = "expected.jsonl";
const README: &str = "README.md";

/// The most events of one scenario: more than anybody reads, and still held in memory with ease.
const EVENTS_MAX: usize = 100_000;

/// The most scenarios in one directory.
const SCENARIOS_MAX: usize = 10_000;

/// What is to be cut.
#[derive(Clone, Debug)]
pub struct CutOptions {
    /// The id of an incident, a session, an attack or an event.
    pub around: String,
    /// By what a capture file is judged; a log tells it itself.
    pub under: Under,
    /// What comes along from before the first and after the last record that it is about.
    pub before: Span,
    pub after: Span,
    /// The directory to make; it must not exist.
    pub out: PathBuf,
    /// The version of the program, for the recording's header.
    pub software: String,
    /// The command line, for the directory's README.
    pub command: String,
}

/// What was cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    pub recorded: Recorded,
    /// Events expected.
    pub events: usize,
}

/// How a scenario compares with what is derived of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// So many events, all the same.
    Same(usize),
    Different(Difference),
}

/// What a comparison found, and what it could not look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub compared: Compared,
    /// Packets of a capture file that gave no row.
    pub unread: Vec<String>,
}

/// The first line that differs; `None` where a side has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Counts from 1.
    pub line: usize,
    pub wanted: Option<String>,
    pub got: Option<String>,
}

/// Makes a scenario of a recording, a data directory or a capture file. On an error the directory is removed.
pub fn cut(path: &Path, outside: &Outside, options: &CutOptions) -> Result<Cut, ReplayError> {
    let selection = Selection {
        outside: outside.clone(),
        ..Selection::default()
    };
    let explained = explain(path, &selection, &options.under, &options.around)?;
    let out = &options.out;
    fs::create_dir(out).map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => ReplayError::Exists { path: out.clone() },
        _ => failed("make", out, source),
    })?;
    let made = fill(path, outside, options, &explained);
    if made.is_err()
        && let Err(error) = fs::remove_dir_all(out)
    {
        tracing::warn!(path = %out.display(), %error, "an unfinished scenario stays behind");
    }
    made
}

/// The scenarios that a directory is or holds, by name.
pub fn find(directory: &Path) -> Result<Vec<PathBuf>, ReplayError> {
    if is_scenario(directory) {
        return Ok(vec![directory.to_owned()]);
    }
    let failed = |source| failed("read", directory, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_scenario(&path) {
            if found.len() == SCENARIOS_MAX {
                return Err(ReplayError::TooManyScenarios {
                    path: directory.to_owned(),
                    limit: SCENARIOS_MAX,
                });
            }
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(ReplayError::NoScenario {
            path: directory.to_owned(),
        });
    }
    found.sort();
    Ok(found)
}

/// Compares what a scenario expects with what is derived of it now, by the rules that it names.
pub fn compare(directory: &Path, outside: &Outside) -> Result<Comparison, ReplayError> {
    compare_under(directory, outside, None)
}

/// The same by other rules than those that it names, where some are given.
pub fn compare_under(
    directory: &Path,
    outside: &Outside,
    rules: Option<&RuleSet>,
) -> Result<Comparison, ReplayError> {
    let expected = directory.join(EXPECTED);
    let wanted = read_text(&expected).map_err(|source| failed("read", &expected, source))?;
    let is_second = |line: &str| {
        line.split(',')
            .nth(1)
            .is_some_and(|field| field.starts_with("\"id\":"))
    };
    let has_ids = wanted.lines().next().is_none_or(is_second);
    let got = derive(directory, outside, rules, has_ids)?;
    Ok(Comparison {
        compared: first_difference(&wanted, &got.text),
        unread: got.unread,
    })
}

fn first_difference(wanted: &str, derived: &str) -> Compared {
    let (mut wanted, mut derived) = (wanted.lines(), derived.lines());
    let mut same = 0;
    loop {
        match (wanted.next(), derived.next()) {
            (None, None) => return Compared::Same(same),
            (wanted, got) if wanted == got => same += 1,
            (wanted, got) => {
                return Compared::Different(Difference {
                    line: same + 1,
                    wanted: wanted.map(str::to_owned),
                    got: got.map(str::to_owned),
                });
            }
        }
    }
}

/// From now on a scenario expects what is derived of it now. Returns the number of events.
pub fn bless(directory: &Path, outside: &Outside) -> Result<usize, ReplayError> {
    let derived = derive(directory, outside, None, true)?.text;
    write(&directory.join(EXPECTED), &derived)?;
    Ok(derived.lines().count())
}

/// An expected event: nothing that depends on where its records stand in a log. Its id does not, and must never change.
#[derive(Serialize)]
struct Line<'a> {
    at: Time,
    /// Left out where the lines that it is compared with, of an earlier version, are without.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    key: &'a str,
    body: &'a EventBody,
}

fn is_scenario(path: &Path) -> bool {
    path.join(INPUT).exists() || path.join(EXPECTED).exists() || capture_of(path).is_some()
}

fn fill(
    path: &Path,
    outside: &Outside,
    options: &CutOptions,
    explained: &Explanation,
) -> Result<Cut, ReplayError> {
    let (from, to) = extent(explained);
    let recorded = record(
        path,
        &RecordOptions {
            selection: Selection {
                site: Some(explained.site.clone()),
                from: Some(from - options.before),
                // The end of a span is not in it.
                to: Some(to + options.after + Span::from_nanos(1)),
                with_events: true,
                without_packets: false,
                outside: outside.clone(),
            },
            kinds: Vec::new(),
            out: options.out.join(INPUT),
            software: options.software.clone(),
            under: options.under.clone(),
        },
    )?;
    let events = bless(&options.out, outside)?;
    write(
        &options.out.join(README),
        &readme(options, explained, &recorded, events),
    )?;
    Ok(Cut { recorded, events })
}

/// From the first to the last record or event, in the time of the log.
fn extent(explained: &Explanation) -> (Time, Time) {
    let of_steps = explained.steps.iter().map(|step| step.at);
    let of_records = explained.records.iter().map(|record| record.stored_at);
    let times = of_steps.chain(of_records);
    // An explanation has a step.
    let from = times.clone().min().unwrap_or_default();
    (from, times.max().unwrap_or_default())
}

/// What follows from a scenario's input.
struct Derived {
    /// A line for each event.
    text: String,
    /// Packets of a capture file that gave no row.
    unread: Vec<String>,
}

/// What today's code derives of a scenario's input.
fn derive(
    directory: &Path,
    outside: &Outside,
    rules: Option<&RuleSet>,
    with_ids: bool,
) -> Result<Derived, ReplayError> {
    let path = input_of(directory);
    let selection = Selection {
        outside: outside.clone(),
        ..Selection::default()
    };
    let mut input = Input::open(&path, &selection)?;
    let is_capture = input.is_of_captures();
    let rules = match rules {
        Some(rules) => Some(rules.clone()),
        None => rules_of(directory, is_capture, outside)?,
    };
    let recorded = match &rules {
        Some(_) if !is_capture => recorded_findings(std::slice::from_ref(&path), &selection)?,
        _ => BTreeSet::new(),
    };
    let under = rules.map_or_else(Under::recorded, Under::rules);
    let mut engine = Engine::new(under).with_recorded_findings(recorded);
    if let Some(header) = input.header() {
        engine = engine.with_header(header);
    }
    let mut lines = Lines {
        path,
        is_capture,
        with_ids,
        text: String::new(),
        count: 0,
    };
    while let Some(step) = input.next_step()? {
        lines.add(engine.take(&step))?;
    }
    lines.add(engine.finish())?;
    // An answer of a part of the input, or of a state that is a guess, is none.
    let warm_up = engine.warm_ups().into_iter().map(|warm_up| warm_up.reason);
    match input.problems().iter().cloned().chain(warm_up).next() {
        Some(problem) => Err(ReplayError::NotWhole {
            path: lines.path,
            problem,
        }),
        None => Ok(Derived {
            text: lines.text,
            unread: input.unread(),
        }),
    }
}

/// Events as they are compared, as they come.
struct Lines {
    path: PathBuf,
    is_capture: bool,
    with_ids: bool,
    text: String,
    count: usize,
}

impl Lines {
    fn add(&mut self, events: Vec<Event>) -> Result<(), ReplayError> {
        // A digest says nothing that the other events do not, and names the software.
        let compared = events.iter().filter(|event| {
            EventDigest::covers(&event.body) && (!self.is_capture || event.chain == Chain::Packets)
        });
        for event in compared {
            if self.count == EVENTS_MAX {
                return Err(ReplayError::TooManyEvents {
                    path: self.path.clone(),
                    limit: EVENTS_MAX,
                });
            }
            self.count += 1;
            self.text += &line(event, self.with_ids)?;
            self.text.push('\n');
        }
        Ok(())
    }
}

/// A recording, a data directory, or a capture file beside the events.
fn input_of(directory: &Path) -> PathBuf {
    capture_of(directory).unwrap_or_else(|| directory.join(INPUT))
}

fn capture_of(directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?.filter_map(Result::ok);
    let is_input = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(CAPTURE_PREFIX))
    };
    entries.map(|entry| entry.path()).filter(is_input).min()
}

fn read_text(path: &Path) -> std::io::Result<String> {
    text_of(fs::read(path)?).map_err(|not_text| std::io::Error::new(ErrorKind::InvalidData, not_text))
}

/// The rules that a scenario is judged by, where it names some.
fn rules_of(directory: &Path, is_capture: bool, outside: &Outside) -> Result<Option<RuleSet>, ReplayError> {
    let own = directory.join(RULES_DIRECTORY);
    if own.is_dir() {
        return outside.rules(&own.to_string_lossy()).map(Some);
    }
    let named = directory.join(RULES_FILE);
    match read_text(&named) {
        Ok(name) => outside.rules(name.trim()).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => match is_capture {
            true => outside.rules(RULES_DEFAULT).map(Some),
            false => Ok(None),
        },
        Err(source) => Err(failed("read", &named, source)),
    }
}

fn line(event: &Event, with_ids: bool) -> Result<String, ReplayError> {
    let line = Line {
        at: event.at,
        id: with_ids.then_some(event.id.0.as_str()),
        key: &event.key,
        body: &event.body,
    };
    serde_json::to_string(&line)
        .map_err(|error| CodecError::Encode(rmp_serde::encode::Error::Syntax(error.to_string())).into())
}

fn readme(options: &CutOptions, explained: &Explanation, recorded: &Recorded, events: usize) -> String {
    let steps: Vec<String> = explained
        .steps
        .iter()
        .map(|step| format!("- {} {}\n", step.at, step.kind.replace('_', " ")))
        .collect();
    format!(
        "# {id} at {site}\n\nA scenario of Watchfold: `{INPUT}` is a recording of {records} observations, `{EXPECTED}` are the {events} \
         events that are to follow from it.\n\nIt is about {subject}:\n\n{steps}\nMade by\n\n    {command}\n\n`watchfold scenario test` on \
         this directory compares; with `--bless`, what follows today is expected from then on. The recording holds addresses, names of \
         PCs, and who was when at which.\n",
        id = explained.id,
        site = explained.site,
        records = recorded.records,
        subject = explained.subject.as_deref().unwrap_or("this event"),
        steps = steps.concat(),
        command = options.command,
    )
}

fn write(path: &Path, text: &str) -> Result<(), ReplayError> {
    fs::write(path, text).map_err(|source| failed("write", path, source))
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> ReplayError {
    ReplayError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
