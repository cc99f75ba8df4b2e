//! What a replay is given from outside: capture files as observations, and files of rules as rule sets.
//!
//! Here it is only said what is needed. Who opens captures and parses rules is wired by the command, so that replaying knows no
//! collector and no parser.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use watchfold_schemas::Observation;
use watchfold_schemas::rules::RuleSet;

use crate::ReplayError;

/// Why something outside could not be opened, or read on.
pub type OutsideError = Box<dyn std::error::Error + Send + Sync>;

/// What capture files give. An error ends them; what came before it counts.
pub type CapturedBatches = Box<dyn Iterator<Item = Result<Captured, OutsideError>> + Send>;

/// One item of capture files.
#[derive(Clone, Debug, PartialEq)]
pub enum Captured {
    /// Packets, in the order of their numbers.
    Batch(Box<Observation>),
    /// What a file held, once it was read to its end.
    Read(CaptureSummary),
}

/// What a capture file held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureSummary {
    pub path: PathBuf,
    /// With those that gave no row.
    pub packets: u64,
    /// Packets that hold nothing that is evaluated, by reason.
    pub undecoded: Vec<(String, u64)>,
    /// Packets that cannot be placed in time or among interfaces, by reason: what they hold is not known.
    pub skipped: Vec<(String, u64)>,
}

/// The packets of several reasons.
pub(crate) fn total(reasons: &[(String, u64)]) -> u64 {
    reasons.iter().map(|(_, count)| count).sum()
}

/// Opens what is no log and no recording.
pub trait Opens: Send + Sync {
    /// Whether a path names a capture file, packed or not, or packets on a pipe. Nothing is read from a pipe.
    fn is_capture(&self, path: &Path) -> bool;

    /// Capture files as one collector's packets, in this order.
    fn captures(&self, paths: &[PathBuf], site: &str) -> Result<CapturedBatches, OutsideError>;

    /// The rules that a text names: a pack, a file or a directory.
    fn rules(&self, source: &str) -> Result<RuleSet, OutsideError>;
}

/// [`Opens`], where there is one.
#[derive(Clone, Default)]
pub struct Outside(Option<Arc<dyn Opens>>);

impl Outside {
    pub fn new(opens: Arc<dyn Opens>) -> Outside {
        Outside(Some(opens))
    }

    /// Where nothing opens captures, nothing is one.
    pub(crate) fn is_capture(&self, path: &Path) -> bool {
        self.0.as_ref().is_some_and(|opens| opens.is_capture(path))
    }

    pub(crate) fn captures(&self, paths: &[PathBuf], site: &str) -> Result<CapturedBatches, ReplayError> {
        let path = paths.first().cloned().unwrap_or_default();
        self.opener(&path)?
            .captures(paths, site)
            .map_err(|source| ReplayError::Outside { path, source })
    }

    pub(crate) fn rules(&self, source: &str) -> Result<RuleSet, ReplayError> {
        let path = PathBuf::from(source);
        self.opener(&path)?
            .rules(source)
            .map_err(|source| ReplayError::Outside { path, source })
    }

    fn opener(&self, path: &Path) -> Result<&Arc<dyn Opens>, ReplayError> {
        self.0.as_ref().ok_or_else(|| ReplayError::NoOpener {
            path: path.to_owned(),
        })
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Outside" } else { "nothing" })
    }
}

/// It says how something is opened, not what.
impl PartialEq for Outside {
    fn eq(&self, _: &Outside) -> bool {
        true
    }
}

impl Eq for Outside {}
