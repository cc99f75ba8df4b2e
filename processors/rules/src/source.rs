//! Where rules come from: a pack, a file, or a directory of files. Reads; what the text means is [`crate::sigma`]'s.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use watchfold_config::is_hidden;
use watchfold_schemas::plain_text::text_of;
use watchfold_schemas::rules::RuleSet;

use crate::error::{Problem, RulesError};
use crate::pack::PackName;
use crate::sigma::{FILE_BYTES_MAX, File, rules_of};
use crate::suggest::nearest;

/// The most files of one set; a set has at most 512 rules.
const FILES_MAX: usize = 512;

/// How deep directories may nest; deeper ones are a link in a circle, or no rules.
const DIRECTORIES_DEPTH_MAX: usize = 8;

/// A set of rules by where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleSource {
    Pack(PackName),
    /// A directory, with those below it, or one file.
    Directory(PathBuf),
}

impl FromStr for RuleSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<RuleSource, Infallible> {
        Ok(match PackName::from_name(text) {
            Some(pack) => RuleSource::Pack(pack),
            None => RuleSource::Directory(PathBuf::from(text)),
        })
    }
}

impl fmt::Display for RuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleSource::Pack(pack) => pack.fmt(f),
            RuleSource::Directory(path) => path.display().fmt(f),
        }
    }
}

/// Reads, checks and normalises a set of rules; all problems of all files at once.
pub fn load(source: &RuleSource) -> Result<RuleSet, RulesError> {
    let name = match source {
        RuleSource::Pack(pack) => pack.name().to_owned(),
        RuleSource::Directory(path) => name_of(path),
    };
    rules_of(&name, &files_of(source)?).map_err(RulesError::Invalid)
}

/// Several places as one set: rules of one may name those of another.
pub fn load_together(sources: &[RuleSource]) -> Result<RuleSet, RulesError> {
    if let [one] = sources {
        return load(one);
    }
    let mut files = Vec::new();
    for source in sources {
        files.extend(files_of(source)?);
    }
    rules_of("rules", &files).map_err(RulesError::Invalid)
}

fn files_of(source: &RuleSource) -> Result<Vec<File>, RulesError> {
    match source {
        RuleSource::Pack(pack) => Ok(pack.files()),
        RuleSource::Directory(path) => files_at(path),
    }
}

/// The last part of a path, which is what alerts call the set.
fn name_of(path: &Path) -> String {
    let last = path
        .file_name()
        .or_else(|| path.components().next_back().map(|part| part.as_os_str()));
    last.map_or_else(|| "rules".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The files of rules at a path, in the order of their names.
fn files_at(path: &Path) -> Result<Vec<File>, RulesError> {
    let told = |source: std::io::Error, path: &Path| match source.kind() {
        ErrorKind::NotFound => not_there(path),
        _ => RulesError::Read {
            path: path.to_owned(),
            source,
        },
    };
    let mut paths = Vec::new();
    if fs::metadata(path).map_err(|error| told(error, path))?.is_dir() {
        walk(path, 0, &mut paths)?;
        paths.sort();
        if paths.is_empty() {
            let hint = "; rules are files that end in .yml or .yaml".to_owned();
            return Err(RulesError::NotThere {
                path: path.to_owned(),
                hint,
            });
        }
    } else {
        paths.push(path.to_owned());
    }
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        let name = path.display().to_string();
        match read(&path).map_err(|error| told(error, &path))? {
            Ok(text) => files.push(File { name, text }),
            Err(reason) => problems.push(Problem {
                file: name,
                line: 0,
                reason,
                instead: None,
            }),
        }
    }
    match problems.is_empty() {
        true => Ok(files),
        false => Err(RulesError::Invalid(problems)),
    }
}

fn not_there(path: &Path) -> RulesError {
    let packs = PackName::ALL.map(PackName::name);
    let meant = path
        .file_name()
        .and_then(|name| nearest(name.to_str()?, packs.into_iter()));
    let hint = match meant {
        Some(pack) => format!("; did you mean the pack `{pack}`?"),
        None => format!(
            "; name a directory, a file, or one of the packs {}",
            packs.join(" and ")
        ),
    };
    RulesError::NotThere {
        path: path.to_owned(),
        hint,
    }
}

fn walk(directory: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), RulesError> {
    let failed = |source| RulesError::Read {
        path: directory.to_owned(),
        source,
    };
    if depth == DIRECTORIES_DEPTH_MAX {
        return Ok(());
    }
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if is_hidden(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            walk(&path, depth + 1, paths)?;
        } else if path.extension().is_some_and(|end| end == "yml" || end == "yaml") {
            if paths.len() == FILES_MAX {
                return Err(RulesError::TooManyFiles {
                    path: directory.to_owned(),
                    limit: FILES_MAX,
                });
            }
            paths.push(path);
        }
    }
    Ok(())
}

/// The text of a file, or what is wrong with it.
fn read(path: &Path) -> Result<Result<String, String>, std::io::Error> {
    let mut bytes = Vec::new();
    let most = FILE_BYTES_MAX as u64 + 1;
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Ok(Err(format!("the file is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text_of(bytes).map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn hidden_files_of_editors_and_mounted_volumes_are_passed_over() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("..2026_11_30")).unwrap();
        fs::write(at("..2026_11_30").join("a.yml"), "rule").unwrap();
        symlink("..2026_11_30", at("..data")).unwrap();
        symlink("..data/a.yml", at("a.yml")).unwrap();
        symlink("nowhere", at(".#a.yml")).unwrap();
        let files = files_at(directory.path()).unwrap();
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, [at("a.yml").to_str().unwrap()]);
    }
}
