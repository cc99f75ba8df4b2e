//! Why something cannot be recorded or replayed, and what to do about it.

use std::path::PathBuf;

use watchfold_log::LogError;
use watchfold_schemas::{CodecError, Time};

use crate::recording::RecordingError;

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{path}: {source}")]
    Recording { path: PathBuf, source: RecordingError },
    #[error("failed to {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{path} is neither a capture file (pcap or pcapng, plain, .gz or .zst) nor a recording nor a data directory with a log: name one of them"
    )]
    NoInput { path: PathBuf },
    #[error("{path} is there already: name another file, or remove it first")]
    Exists { path: PathBuf },
    #[error("there is no site {site:?} in it; {}", sites_there(known))]
    NoSuchSite { site: String, known: Vec<String> },
    #[error("{inputs}: nothing was stored {}; {}", span(*from, *to), extent(*first, *last))]
    EmptySpan {
        inputs: String,
        from: Option<Time>,
        to: Option<Time>,
        first: Option<Time>,
        last: Option<Time>,
    },
    #[error(
        "{first} (from {} to {}) and {second} (from {} to {}) hold the same time of site {site}: name one of them, or record a piece of one \
         with --from and --to",
        first_span.0, first_span.1, second_span.0, second_span.1
    )]
    Overlap {
        site: String,
        first: PathBuf,
        first_span: (Time, Time),
        second: PathBuf,
        second_span: (Time, Time),
    },
    /// Capture files held no packet that could be evaluated.
    #[error("{reason}")]
    NothingRead { reason: String },
    #[error("capture files together with logs or recordings: name the one or the other")]
    MixedInputs,
    #[error("{path}: {source}")]
    Outside {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "{path} is a capture or names rules, and nothing here can open it: this is a defect of the program"
    )]
    NoOpener { path: PathBuf },
    #[error("{path} can be read once only: name a file")]
    ReadOnce { path: PathBuf },
    #[error("more than {limit} inputs: name fewer at once")]
    TooManyInputs { limit: usize },
    #[error(
        "more than {limit} incidents, sessions and jitters to compare: take a shorter span with --from and --to"
    )]
    TooManyOutcomes { limit: usize },
    #[error("more than {limit} alerts in {path}: give the piece of it that belongs to this capture")]
    TooMuchSaid { path: PathBuf, limit: usize },
    #[error("more than {limit} findings were recorded: take a shorter span with --from and --to")]
    TooManyFindings { limit: usize },
    #[error(
        "no incident, session, attack or event {id:?} is derived of it: take an id from the page, from what `watchfold replay` prints or from `watchfold log cat`, and the rules and the span that give it"
    )]
    NotDerived { id: String },
    #[error("cancelled before it was done: ask again")]
    Cancelled,
    #[error(
        "no scenario in {path}: looked for `input` or `expected.jsonl` in it and in the directories it holds; make one with `watchfold scenario cut`"
    )]
    NoScenario { path: PathBuf },
    #[error("more than {limit} scenarios in {path}: name fewer at once")]
    TooManyScenarios { path: PathBuf, limit: usize },
    #[error("more than {limit} events follow from {path}: cut a shorter piece with --before and --after")]
    TooManyEvents { path: PathBuf, limit: usize },
    #[error("{path} cannot be judged whole: {problem}; cut it again from a whole recording")]
    NotWhole { path: PathBuf, problem: String },
    #[error(transparent)]
    Codec(#[from] CodecError),
}

fn sites_there(known: &[String]) -> String {
    match known {
        [] => "it holds no observation of any site".to_owned(),
        known => format!("there are {}", known.join(", ")),
    }
}

fn span(from: Option<Time>, to: Option<Time>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => format!("from {from} to {to}"),
        (Some(from), None) => format!("from {from} on"),
        (None, Some(to)) => format!("before {to}"),
        (None, None) => "at all".to_owned(),
    }
}

fn extent(first: Option<Time>, last: Option<Time>) -> String {
    match (first, last) {
        (Some(first), Some(last)) => format!("there are records from {first} to {last}"),
        _ => "it is empty".to_owned(),
    }
}
