//! Reads all of a file in spite of its mistakes: what cannot be read is reported, left out, and the rest is read again.

use core::ops::Range;
use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::file::File;
use super::problems::Problems;
use super::suggest::{self, line_of};

/// The most entries that are left out of one file; what is wrong beyond them shows when these are mended.
const LEFT_OUT_MAX: usize = 100;

/// A file as far as it can be read.
pub struct Read<'t, S> {
    text: &'t str,
    /// `None` where too much is wrong.
    pub file: Option<File<S>>,
    /// What was read, to find places by.
    pub table: DeTable<'t>,
    /// The names of all targets, of those too that are left out.
    pub names: BTreeSet<String>,
    /// Paths of what was left out, each as the paths are without those before it.
    pub left_out: Vec<String>,
    /// Lines whose syntax is wrong, so that no key is read from them as it is meant.
    pub broken_lines: Vec<usize>,
    pub problems: Problems,
}

/// An entry that was left out: the place of the table that held it, its key, and the key that was probably meant.
struct LeftOut {
    of: Range<usize>,
    key: String,
    meant: Option<String>,
}

pub fn read<'t, S>(text: &'t str) -> Read<'t, S>
where
    S: DeserializeOwned + Default,
{
    let (table, syntax) = DeTable::parse_recoverable(text);
    let mut problems = Problems::default();
    let mut broken_lines: Vec<usize> = Vec::new();
    for error in &syntax {
        let at = error.span().map_or(text.len(), |span| span.start);
        let line = line_of(text, at);
        // Further errors of a line follow from its first.
        if !broken_lines.contains(&line) {
            broken_lines.push(line);
            problems.push_at(at, "", suggest::without_values(error.message()));
        }
    }
    let mut read = Read {
        text,
        file: None,
        table: DeTable::new(),
        names: names_of_targets(table.get_ref()),
        left_out: Vec::new(),
        broken_lines,
        problems,
    };
    let mut table = table;
    let mut gone: Vec<LeftOut> = Vec::new();
    for _ in 0..LEFT_OUT_MAX {
        let error = match serde::Deserialize::deserialize(Deserializer::from(table.clone())) {
            Ok(file) => {
                read.file = Some(file);
                break;
            }
            Err(error) => error,
        };
        if !read.leave_out(&error, &mut table, &mut gone) {
            break;
        }
    }
    // Without what was left out: what is checked has these indexes.
    read.table = table.into_inner();
    read
}

impl<S> Read<'_, S> {
    /// Whether a mistake about this key, found in what could be read, is one of the file: what was left out is not missing.
    pub fn is_checked(&self, key: &str, at: Option<usize>) -> bool {
        // Indexes of an array count anew without an element, so a path with one names another place now.
        let is_around = |out: &String| {
            let rest = key.strip_prefix(out.as_str());
            !out.contains('[') && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let is_broken = match at {
            Some(at) => self.broken_lines.contains(&line_of(self.text, at)),
            None => !self.broken_lines.is_empty(),
        };
        !is_broken && !self.left_out.iter().any(is_around)
    }

    /// A path in what was read as it is in the file, where arrays have all their elements.
    pub fn as_written(&self, key: &str) -> String {
        let mut key = key.to_owned();
        for out in self.left_out.iter().rev() {
            let Some((array, gone)) = out.strip_suffix(']').and_then(|out| out.rsplit_once('[')) else {
                continue;
            };
            let after = key.strip_prefix(array).and_then(|rest| rest.strip_prefix('['));
            let Some((index, rest)) = after.and_then(|after| after.split_once(']')) else {
                continue;
            };
            if let (Ok(index), Ok(gone)) = (index.parse::<usize>(), gone.parse::<usize>())
                && index >= gone
            {
                key = format!("{array}[{}]{rest}", index + 1);
            }
        }
        key
    }

    /// Reports an error unless it follows from others, and leaves out what it is about. `false` where that is not found.
    fn leave_out(
        &mut self,
        error: &toml::de::Error,
        table: &mut Spanned<DeTable<'_>>,
        gone: &mut Vec<LeftOut>,
    ) -> bool {
        let span = error.span().unwrap_or_default();
        let explained = suggest::explain(error);
        let missing = missing_field(error.message());
        let follows = match missing {
            Some(field) => {
                let lacks = |out: &LeftOut| out.key == field || out.meant.as_deref() == Some(field);
                !self.broken_lines.is_empty() || gone.iter().any(|out| out.of == span && lacks(out))
            }
            None => self.broken_lines.contains(&line_of(self.text, span.start)),
        };
        let of = table.span();
        let Some(mut removed) = remove(table.get_mut(), &of, "", &span) else {
            if !follows {
                self.problems
                    .add("", Some(span.start), explained.message, explained.help);
            }
            return false;
        };
        if !follows {
            let key = match missing {
                Some(field) => format!("{}.{field}", removed.path),
                None => removed.path.clone(),
            };
            let key = self.as_written(&key);
            self.problems
                .add(key, Some(span.start), explained.message, explained.help);
        }
        removed.entry.meant = explained.meant;
        self.left_out.push(removed.path);
        gone.push(removed.entry);
        true
    }
}

struct Removed {
    path: String,
    entry: LeftOut,
}

/// Removes the innermost entry that begins where the span does, or whose value holds it.
fn remove(table: &mut DeTable<'_>, of: &Range<usize>, path: &str, span: &Range<usize>) -> Option<Removed> {
    let mut found = None;
    for (key, value) in table.iter_mut() {
        let name = key.get_ref().clone().into_owned();
        let inner = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        if key.span() == *span {
            found = Some((name, inner));
            break;
        }
        if let Some(removed) = remove_inside(value, &inner, span) {
            return Some(removed);
        }
        if holds(&value.span(), span) {
            found = Some((name, inner));
            break;
        }
    }
    let (name, path) = found?;
    table.remove(name.as_str());
    Some(Removed {
        path,
        entry: LeftOut {
            of: of.clone(),
            key: name,
            meant: None,
        },
    })
}

fn remove_inside(value: &mut Spanned<DeValue<'_>>, path: &str, span: &Range<usize>) -> Option<Removed> {
    let of = value.span();
    match value.get_mut() {
        DeValue::Table(inner) => remove(inner, &of, path, span),
        DeValue::Array(items) => {
            for index in 0..items.len() {
                let path = format!("{path}[{index}]");
                let item = items.get_mut(index)?;
                if let Some(removed) = remove_inside(item, &path, span) {
                    return Some(removed);
                }
                if holds(&item.span(), span) {
                    let mut kept = DeArray::new();
                    let others = items.iter().enumerate().filter(|(place, _)| *place != index);
                    others.for_each(|(_, item)| kept.push(item.clone()));
                    *items = kept;
                    let entry = LeftOut {
                        of,
                        key: String::new(),
                        meant: None,
                    };
                    return Some(Removed { path, entry });
                }
            }
            None
        }
        _ => None,
    }
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn names_of_targets(table: &DeTable<'_>) -> BTreeSet<String> {
    let network = table
        .get("network")
        .and_then(|network| network.get_ref().as_table());
    let targets = network
        .and_then(|network| network.get("targets"))
        .and_then(|targets| targets.get_ref().as_array());
    let name = |target: &Spanned<DeValue<'_>>| {
        let name = target.get_ref().as_table()?.get("name")?;
        name.get_ref().as_str().map(str::to_owned)
    };
    targets
        .into_iter()
        .flat_map(|targets| targets.iter())
        .filter_map(name)
        .collect()
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}
