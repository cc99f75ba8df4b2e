//! The files of a ring: what their names say, in the order in which they were written.

use std::io;
use std::path::{Path, PathBuf};

use watchfold_schemas::Time;

const SUFFIX: &str = ".pcapng";

/// A file of a ring: it holds packets from this one on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RingFile {
    pub incarnation: u64,
    pub first: u64,
    /// When the first was captured.
    pub at: Time,
    pub path: PathBuf,
    pub bytes: u64,
}

impl RingFile {
    /// With leading zeros, so that a shell lists the files in the order in which they were written.
    pub(crate) fn name(incarnation: u64, first: u64, at: Time) -> String {
        format!("{incarnation:020}-{first:020}-{}{SUFFIX}", at.0)
    }

    fn parse(name: &str) -> Option<(u64, u64, Time)> {
        let mut parts = name.strip_suffix(SUFFIX)?.splitn(3, '-');
        let incarnation = parts.next()?.parse().ok()?;
        let first = parts.next()?.parse().ok()?;
        Some((incarnation, first, Time(parts.next()?.parse().ok()?)))
    }
}

/// The files, oldest first; what else lies there is not looked at. A ring that does not exist has none.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<RingFile>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some((incarnation, first, at)) = entry.file_name().to_str().and_then(RingFile::parse) else {
            continue;
        };
        files.push(RingFile {
            incarnation,
            first,
            at,
            path: entry.path(),
            bytes: entry.metadata()?.len(),
        });
    }
    files.sort();
    Ok(files)
}

/// Packets are nobody else's business.
#[cfg(unix)]
pub(crate) fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

#[cfg(not(unix))]
pub(crate) fn create_private(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)
}
