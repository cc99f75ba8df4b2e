//! What is wrong with rules: where, why, and what to write instead.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// As it was named, or found below the directory that was named.
    pub file: String,
    /// Counts from 1; 0 where it is about the whole file.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
    /// What to write instead, where that is known.
    pub instead: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.reason)?,
            line => write!(f, "{}:{line}: {}", self.file, self.reason)?,
        }
        match &self.instead {
            Some(instead) => write!(f, "; {instead}"),
            None => Ok(()),
        }
    }
}

/// Why there is no set of rules.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("there are no rules at {path}{hint}", path = path.display())]
    NotThere { path: PathBuf, hint: String },
    #[error("failed to read {path}: {source}; make it readable, or name another place", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} holds more than {limit} files of rules; name a directory that holds rules alone", path = path.display())]
    TooManyFiles { path: PathBuf, limit: usize },
    /// Of all files together, in the order of their names and lines.
    #[error("{}", listed(.0))]
    Invalid(Vec<Problem>),
    /// The `[rules]` section names what the set does not have.
    #[error("{}", listed(.0))]
    Section(Vec<SectionProblem>),
}

/// A mistake of the `[rules]` section of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionProblem {
    /// The path of its key in the file.
    pub key: String,
    /// The configuration file and a line of it, where they are known.
    pub place: Option<(String, usize)>,
    pub reason: String,
}

impl fmt::Display for SectionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line)) = &self.place {
            write!(f, "{file}:{line}: ")?;
        }
        f.write_str(&self.reason)
    }
}

fn listed<P: fmt::Display>(problems: &[P]) -> String {
    let lines: Vec<String> = problems.iter().map(P::to_string).collect();
    lines.join("\n")
}
