//! The repository as files, for the tests that look at it. Knows nothing of what they look for.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are made, not written.
const MADE: [&str; 5] = [".git", "target", "node_modules", "dist", "data"];

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ stands in the root")
        .to_owned()
}

/// Every file whose name ends so, by its path below the root with slashes, in order.
pub fn files(ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    let mut below: Vec<String> = found
        .iter()
        .map(|path| slashes(path))
        .filter(|path| path.ends_with(ending))
        .collect();
    below.sort();
    below
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// Whether a path, or a pattern with `*` for a part of one name, stands for something.
pub fn resolves(pattern: &str) -> bool {
    let Some(star) = pattern.find('*') else {
        return exists(pattern.trim_end_matches('/'));
    };
    let folder = pattern[..star].rfind('/').map_or("", |slash| &pattern[..slash]);
    let (name, rest) = match pattern[folder.len()..].trim_start_matches('/').split_once('/') {
        Some((name, rest)) => (name, rest),
        None => (pattern[folder.len()..].trim_start_matches('/'), ""),
    };
    let (before, after) = name.split_once('*').expect("the part with the star");
    let Ok(entries) = fs::read_dir(root().join(folder)) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let found = entry.file_name().to_string_lossy().into_owned();
        found.starts_with(before)
            && found.ends_with(after)
            && (rest.is_empty() || resolves(&format!("{folder}/{found}/{rest}")))
    })
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .flatten()
    {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if !MADE.iter().any(|made| name == *made) {
                walk(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

fn slashes(path: &Path) -> String {
    let below = path.strip_prefix(root()).expect("found below the root");
    below
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect::<Vec<_>>()
        .join("/")
}
