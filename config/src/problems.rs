//! The mistakes of a file, each with its place: collected first, located and sorted when the whole file has been checked.

use core::fmt;
use std::path::Path;

use serde::Serialize;
use toml::de::DeTable;

use super::suggest::{column_of, line_of};

/// One mistake of a file, as it is shown to people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    pub file: String,
    /// From 1; `None` where the mistake is about the whole file.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
    /// The path of the key, `network.targets[2].quorum` for example.
    pub key: Option<String>,
    pub message: String,
    /// What to write instead, where the message does not say it.
    pub help: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        for place in [self.line, self.column].into_iter().flatten() {
            write!(f, "{place}:")?;
        }
        write!(f, " {}", self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a file so far.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    found: Vec<Problem>,
}

#[derive(Clone, Debug)]
struct Problem {
    key: String,
    /// The byte of the text, where it is known; else it is looked up by the key.
    at: Option<usize>,
    message: String,
    help: Option<String>,
}

impl Problems {
    /// Adds a mistake about the key with this path. A key that is not in the file stands for the table that lacks it.
    pub fn push(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.add(key, None, message, None);
    }

    /// Adds a mistake about a byte of the text.
    pub(crate) fn push_at(&mut self, at: usize, key: impl Into<String>, message: impl Into<String>) {
        self.add(key, Some(at), message, None);
    }

    pub(crate) fn add(
        &mut self,
        key: impl Into<String>,
        at: Option<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.found.push(Problem {
            key: key.into(),
            at,
            message: message.into(),
            help,
        });
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The messages alone, in the order in which they were found.
    pub fn messages(&self) -> Vec<&str> {
        self.found
            .iter()
            .map(|problem| problem.message.as_str())
            .collect()
    }

    /// Drops mistakes by their key and place.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&str, Option<usize>) -> bool) {
        self.found.retain(|problem| is_kept(&problem.key, problem.at));
    }

    pub(crate) fn extend(&mut self, other: Problems) {
        self.found.extend(other.found);
    }

    /// Looks up the places of the keys.
    pub(crate) fn locate(&mut self, table: &DeTable<'_>) {
        for problem in &mut self.found {
            problem.at = problem.at.or_else(|| place_of(table, &problem.key));
        }
    }

    /// Writes the paths of keys in another way.
    pub(crate) fn rename(&mut self, name: impl Fn(&str) -> String) {
        for problem in &mut self.found {
            problem.key = name(&problem.key);
        }
    }

    /// Every mistake with its place as far as it is known, in the order of the file.
    pub(crate) fn mistakes(mut self, path: &Path, text: &str) -> Vec<Mistake> {
        self.found.sort_by_key(|problem| problem.at);
        let mut mistakes: Vec<Mistake> = self
            .found
            .into_iter()
            .map(|problem| Mistake {
                file: path.display().to_string(),
                line: problem.at.map(|at| line_of(text, at)),
                column: problem.at.map(|at| column_of(text, at)),
                key: Some(problem.key).filter(|key| !key.is_empty()),
                message: problem.message,
                help: problem.help,
            })
            .collect();
        mistakes.dedup();
        mistakes
    }
}

/// The first byte of the key, or of the nearest table around it that is in the file.
fn place_of(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let mut place = None;
    let (mut inside, mut rest) = (table, key);
    loop {
        // A name with dots in quotes is one key.
        if let Some((whole, _)) = inside.get_key_value(rest) {
            return Some(whole.span().start);
        }
        let (part, after) = rest.split_once('.').unwrap_or((rest, ""));
        let (name, indexes) = part.split_once('[').unwrap_or((part, ""));
        let Some((key, value)) = inside.get_key_value(name) else {
            return place;
        };
        place = Some(key.span().start);
        let mut value = value.get_ref();
        for index in indexes.split('[') {
            let Ok(index) = index.trim_end_matches(']').parse::<usize>() else {
                break;
            };
            let Some(item) = value.as_array().and_then(|items| items.get(index)) else {
                return place;
            };
            place = Some(item.span().start);
            value = item.get_ref();
        }
        match value.as_table() {
            Some(inner) if !after.is_empty() => (inside, rest) = (inner, after),
            _ => return place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_its_key_or_to_the_nearest_table() {
        let text = "site = \"a\"\n[network]\n[[network.targets]]\nname = \"r\"\n[[network.targets]]\nname = \"s\"\nquorum = 2\n\
                    [dashboard]\nhosts = [\"a\",\n  \"b\"]\n[rules.states]\n\"a.b\" = \"off\"\n";
        let table = DeTable::parse(text).unwrap();
        for (key, line) in [
            ("site", Some(1)),
            ("network.targets[1].quorum", Some(7)),
            ("network.targets[0].quorum", Some(3)),
            ("network.targets[1]", Some(5)),
            ("dashboard.hosts[1]", Some(10)),
            ("dashboard.public_url", Some(8)),
            ("rules.states.a.b", Some(12)),
            ("rules.states.c", Some(11)),
            ("capture[0].name", None),
        ] {
            let found = place_of(table.get_ref(), key).map(|at| line_of(text, at));
            assert_eq!(found, line, "{key}");
        }
    }
}
