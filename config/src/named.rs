//! The configuration file and every file that it names, as they were when somebody looked: to tell a change by.
//!
//! Contents are compared, not times: an editor's atomic save, a rename, a rotated secret and a symbolic link that
//! points elsewhere all count, and a file that is written again as it was does not.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The most files that are followed beside the configuration itself; a set of rules has at most 512.
pub const NAMED_FILES_MAX: usize = 1_024;

/// What is read of a named file, in bytes; more is in no secret and in no file of rules.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How deep directories may nest; deeper ones are a link in a circle, or no rules.
const DIRECTORIES_DEPTH_MAX: usize = 8;

/// What a look found. Two that are equal saw the same contents.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    digest: u64,
    named: BTreeSet<PathBuf>,
    is_cut: bool,
}

impl PartialEq for Seen {
    fn eq(&self, other: &Seen) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Seen {}

impl Seen {
    /// Reads the file and those that it names. While it has a mistake in its syntax, the files of `before` count on.
    pub fn look(path: &Path, before: &Seen) -> io::Result<Seen> {
        let text = crate::read_text(path)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let named = named_in(&text, directory).unwrap_or_else(|| before.named.clone());
        let (files, is_cut) = files_of(&named);
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        for file in &files {
            file.hash(&mut hasher);
            content(file).ok().hash(&mut hasher);
        }
        Ok(Seen {
            digest: hasher.finish(),
            named,
            is_cut,
        })
    }

    /// Whether there are more files than [`NAMED_FILES_MAX`], so that changes of some are not seen.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }
}

/// Whether a file in a directory of rules is passed over: hidden ones are of editors and of mounted volumes.
pub fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// The paths that a text names, or `None` when it is no TOML: `{ file = … }` anywhere, and the set of rules, which may be
/// the name of a pack.
fn named_in(text: &str, directory: &Path) -> Option<BTreeSet<PathBuf>> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let mut named = BTreeSet::new();
    let set = table.get("rules").and_then(|rules| rules.get("set"));
    named.extend(set.and_then(toml::Value::as_str).map(|set| directory.join(set)));
    let mut values: Vec<&toml::Value> = table.values().collect();
    while let Some(value) = values.pop() {
        match value {
            toml::Value::Array(inner) => values.extend(inner),
            toml::Value::Table(inner) => {
                let file = inner.get("file").filter(|_| inner.len() == 1);
                named.extend(
                    file.and_then(toml::Value::as_str)
                        .map(|file| directory.join(file)),
                );
                values.extend(inner.values());
            }
            _ => {}
        }
    }
    Some(named)
}

/// The files at the paths, and whether there are too many. One that is missing is among them: it may come.
fn files_of(named: &BTreeSet<PathBuf>) -> (BTreeSet<PathBuf>, bool) {
    let mut files = BTreeSet::new();
    let mut waiting: Vec<(PathBuf, usize)> = named.iter().map(|path| (path.clone(), 0)).collect();
    while let Some((path, depth)) = waiting.pop() {
        if !path.is_dir() {
            if files.len() == NAMED_FILES_MAX {
                return (files, true);
            }
            files.insert(path);
            continue;
        }
        if depth == DIRECTORIES_DEPTH_MAX {
            continue;
        }
        // One that cannot be listed is told by whoever loads it.
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        let listed = entries.filter(|entry| !is_hidden(&entry.file_name()));
        let inner = listed.map(|entry| entry.path()).filter(|path| {
            let is_rules = path.extension().is_some_and(|end| end == "yml" || end == "yaml");
            is_rules || path.is_dir()
        });
        let mut inner: Vec<PathBuf> = inner.collect();
        inner.sort();
        waiting.extend(inner.into_iter().map(|path| (path, depth + 1)));
    }
    (files, false)
}

/// The length of a file and the hash of its beginning.
fn content(path: &Path) -> io::Result<(u64, u64)> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Ok((length, hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "site = \"a\"\n[rules]\nset = \"rules\"\n[sinks.discord]\nalerts = { file = \"hook\" }\n";

    fn seen(path: &Path, before: &Seen) -> Seen {
        Seen::look(path, before).unwrap()
    }

    #[test]
    fn every_way_to_change_a_named_file_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("rules/more")).unwrap();
        for (name, text) in [("watchfold.toml", TEXT), ("hook", "one"), ("rules/a.yml", "a")] {
            fs::write(at(name), text).unwrap();
        }
        type Change = fn(&dyn Fn(&str) -> PathBuf) -> io::Result<()>;
        let changes: [(&str, bool, Change); 13] = [
            ("nothing", false, |_| Ok(())),
            ("the same again", false, |at| fs::write(at("rules/a.yml"), "a")),
            ("a rule changed", true, |at| fs::write(at("rules/a.yml"), "b")),
            ("a rule added below", true, |at| {
                fs::write(at("rules/more/c.yaml"), "c")
            }),
            ("a rule renamed", true, |at| {
                fs::rename(at("rules/more/c.yaml"), at("rules/more/d.yaml"))
            }),
            ("a rule removed", true, |at| {
                fs::remove_file(at("rules/more/d.yaml"))
            }),
            ("an editor's file", false, |at| {
                fs::write(at("rules/.#a.yml"), "x")
            }),
            ("no rule", false, |at| fs::write(at("rules/a.yml~"), "x")),
            ("an atomic save", true, |at| {
                fs::write(at("rules/.new"), "e")?;
                fs::rename(at("rules/.new"), at("rules/a.yml"))
            }),
            ("a secret rotated", true, |at| fs::write(at("hook"), "two")),
            ("a secret emptied", true, |at| fs::write(at("hook"), "")),
            ("a secret gone", true, |at| fs::remove_file(at("hook"))),
            ("a secret back", true, |at| fs::write(at("hook"), "two")),
        ];
        let path = at("watchfold.toml");
        let mut before = seen(&path, &Seen::default());
        for (what, is_change, change) in changes {
            change(&at).unwrap();
            let after = seen(&path, &before);
            assert_eq!(after != before, is_change, "{what}");
            before = after;
        }
        // While the file is no TOML, what it named is followed on.
        fs::write(&path, "site = ").unwrap();
        before = seen(&path, &before);
        fs::write(at("hook"), "three").unwrap();
        assert_ne!(seen(&path, &before), before);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_of_a_mounted_volume_that_points_elsewhere_is_seen() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("watchfold.toml"), TEXT).unwrap();
        for (version, text) in [("rules/..1", "a"), ("rules/..2", "b")] {
            fs::create_dir_all(at(version)).unwrap();
            fs::write(at(version).join("a.yml"), text).unwrap();
        }
        symlink("..1", at("rules/..data")).unwrap();
        symlink("..data/a.yml", at("rules/a.yml")).unwrap();
        let path = at("watchfold.toml");
        let before = seen(&path, &Seen::default());
        symlink("..2", at("rules/..next")).unwrap();
        fs::rename(at("rules/..next"), at("rules/..data")).unwrap();
        assert_ne!(seen(&path, &before), before);
    }

    #[test]
    fn more_files_than_the_limit_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("watchfold.toml");
        fs::create_dir(directory.path().join("rules")).unwrap();
        fs::write(&path, TEXT).unwrap();
        for number in 0..NAMED_FILES_MAX {
            fs::write(directory.path().join(format!("rules/{number}.yml")), "").unwrap();
        }
        // The secret's file is one more.
        assert!(seen(&path, &Seen::default()).is_cut());
        fs::remove_file(directory.path().join("rules/0.yml")).unwrap();
        assert!(!seen(&path, &Seen::default()).is_cut());
    }
}
