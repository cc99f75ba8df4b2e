//! A file cut into its documents, each of bounded size, with every key known, and as Sigma's own parser reads it.

use rsigma_parser::{CorrelationRule, SigmaRule};
use watchfold_schemas::plain_text::BYTE_ORDER_MARK;
use watchfold_schemas::subjects::TOKEN_BYTES_MAX;
use yaml_serde::{Mapping, Value};

use super::keys::Draft;
use super::lines::Lines;
use super::parts::sigma;
use super::yaml::{in_our_words, open_brackets, parsed};
use crate::error::Problem;

/// The largest file: the longest public Sigma rules have a tenth of it.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// The most rules in one file.
pub const DOCUMENTS_MAX: usize = 256;

/// The most brackets that may be open at once, before anything parses them.
const BRACKETS_MAX: usize = 64;

/// A file of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// As problems name it.
    pub name: String,
    pub text: String,
}

/// One rule or correlation as Sigma has it.
#[derive(Debug)]
pub struct Document {
    pub file: String,
    pub lines: Lines,
    pub map: Mapping,
    pub sigma: Sigma,
}

#[derive(Debug)]
pub enum Sigma {
    Detection(Box<SigmaRule>),
    Correlation(Box<CorrelationRule>),
}

impl Document {
    /// A problem with the key at `path`.
    pub fn problem(&self, path: &[&str], reason: impl Into<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            line: self.lines.line(path),
            reason: reason.into(),
            instead: None,
        }
    }

    /// A problem with a value below the key at `path`.
    pub fn problem_with(&self, path: &[&str], value: &str, reason: impl Into<String>) -> Problem {
        Problem {
            line: self.lines.line_of_value(path, value),
            ..self.problem(path, reason)
        }
    }

    /// An attribute of our own and where it stands: at the top, or below `custom_attributes`.
    pub fn attribute(&self, key: &'static str) -> Option<(&Value, Vec<&'static str>)> {
        if let Some(value) = self.map.get(key) {
            return Some((value, vec![key]));
        }
        let custom = self.map.get("custom_attributes")?.as_mapping()?;
        Some((custom.get(key)?, vec!["custom_attributes", key]))
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.map.get(key)?.as_str()
    }
}

/// The documents of a file, and whether these are all of them: those that cannot be read are left out. Every problem is added.
pub fn documents(file: &File, problems: &mut Vec<Problem>) -> (Vec<Document>, bool) {
    let problem = |line, reason: String| Problem {
        file: file.name.clone(),
        line,
        reason,
        instead: None,
    };
    if file.text.len() > FILE_BYTES_MAX {
        problems.push(problem(
            0,
            format!("{} bytes, and the limit is {FILE_BYTES_MAX}", file.text.len()),
        ));
        return (Vec::new(), false);
    }
    let pieces = pieces(&file.text);
    if pieces.len() > DOCUMENTS_MAX {
        problems.push(problem(0, format!("more than {DOCUMENTS_MAX} rules in one file")));
        return (Vec::new(), false);
    }
    let (mut documents, mut whole) = (Vec::new(), true);
    for (first, text) in pieces {
        match document(file, &text, first, problems) {
            Ok(document) => documents.push(document),
            Err(found) => {
                problems.extend(found);
                whole = false;
            }
        }
    }
    (documents, whole)
}

/// The text of each document with the number of its first line; empty ones are left out.
fn pieces(text: &str) -> Vec<(usize, String)> {
    let mut pieces = vec![(1, String::new())];
    for (number, line) in text.lines().enumerate() {
        // Files that were joined bring the mark of each.
        let line = line.trim_start_matches(BYTE_ORDER_MARK);
        let is_marker = |marker: &str| {
            line == marker
                || line
                    .strip_prefix(marker)
                    .is_some_and(|rest| rest.starts_with([' ', '\t']))
        };
        if is_marker("---") || is_marker("...") {
            pieces.push((number + 1, format!("   {}\n", &line[3..])));
        } else if let Some((_, piece)) = pieces.last_mut() {
            piece.push_str(line);
            piece.push('\n');
        }
    }
    let says_something = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    pieces.retain(|(_, piece)| piece.lines().any(says_something));
    pieces
}

/// A document with every problem of its keys told, so that what is wrong with its values is found too; else why there is none.
fn document(
    file: &File,
    text: &str,
    first: usize,
    problems: &mut Vec<Problem>,
) -> Result<Document, Vec<Problem>> {
    let lines = Lines::of(text, first);
    let at = |line: usize, reason: String| {
        vec![Problem {
            file: file.name.clone(),
            line,
            reason,
            instead: None,
        }]
    };
    if let Some(line) = text.lines().position(|line| line.starts_with('%')) {
        return Err(at(first + line, "a directive of YAML; take it out".to_owned()));
    }
    if open_brackets(text) > BRACKETS_MAX {
        return Err(at(
            lines.start(),
            format!("more than {BRACKETS_MAX} brackets are open at once"),
        ));
    }
    let value = parsed(text).map_err(|error| {
        // The end of a text stands behind its last line, which is none.
        let last = text.lines().count();
        let line = error
            .location()
            .map_or(lines.start(), |at| first + at.line().clamp(1, last.max(1)) - 1);
        let is_tab = text
            .lines()
            .nth(line.saturating_sub(first))
            .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'));
        match is_tab {
            true => at(line, "a tab before the key; indent with spaces".to_owned()),
            false => {
                let (reason, instead) = in_our_words(&error.to_string());
                let mut problems = at(line, reason);
                problems
                    .iter_mut()
                    .for_each(|problem| problem.instead = instead.clone());
                problems
            }
        }
    })?;
    let Value::Mapping(map) = value else {
        return Err(at(
            lines.start(),
            "a rule is keys and values: begin with `title:`".to_owned(),
        ));
    };
    let draft = Draft {
        file: &file.name,
        lines: &lines,
        map: &map,
    };
    let mut found = Vec::new();
    draft.check(&mut found);
    let sigma = sigma(&draft, &mut found);
    let Some(sigma) = sigma else {
        return Err(found);
    };
    problems.extend(found);
    Ok(Document {
        file: file.name.clone(),
        lines,
        map,
        sigma,
    })
}

/// The rule's name, or one made of its title.
pub fn name_of(map: &Mapping) -> String {
    let text = |key: &str| map.get(key).and_then(Value::as_str);
    if let Some(name) = text("name") {
        return name.to_owned();
    }
    let mut name = String::new();
    for letter in text("title").unwrap_or_default().chars() {
        match letter {
            'a'..='z' | '0'..='9' => name.push(letter),
            'A'..='Z' => name.push(letter.to_ascii_lowercase()),
            _ if !name.ends_with('_') && !name.is_empty() => name.push('_'),
            _ => {}
        }
    }
    name.truncate(TOKEN_BYTES_MAX);
    let name = name.trim_end_matches('_');
    if name.is_empty() {
        "rule".to_owned()
    } else {
        name.to_owned()
    }
}
