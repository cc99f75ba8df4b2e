//! The projection's snapshot file, so that the page starts at once. It is never the truth: a file that does not fit
//! is set aside and the projection rebuilt from the log.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use watchfold_log::Position;

use crate::DashboardError;
use crate::projection::Projection;

/// Raise it whenever the stored form of the projection or what it is folded from changes.
const SNAPSHOT_VERSION: u16 = 5;
const MAGIC: &[u8; 8] = b"WFDASH\r\n";
/// Magic, version and checksum.
const HEADER_BYTES: usize = 8 + 2 + 4;
/// A file larger than this is not ours.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

/// A projection and the checkable places of what went into it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub site: String,
    pub events: Position,
    pub observations: Position,
    pub projection: Projection,
}

/// The bytes of a snapshot file.
pub fn encode(snapshot: &Snapshot) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let mut bytes = vec![0; HEADER_BYTES];
    // With names: fields that are left out when empty would move those behind them.
    rmp_serde::encode::write_named(&mut bytes, snapshot)?;
    let checksum = crc32c::crc32c(&bytes[HEADER_BYTES..]);
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
    bytes[10..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// The snapshot in `bytes`, or what is wrong with them.
pub fn decode(bytes: &[u8]) -> Result<Snapshot, String> {
    let (header, payload) = bytes.split_at_checked(HEADER_BYTES).ok_or("too short")?;
    if !header.starts_with(MAGIC) {
        return Err("not a snapshot".into());
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version != SNAPSHOT_VERSION {
        return Err(format!(
            "of format {version}, this version writes {SNAPSHOT_VERSION}"
        ));
    }
    let checksum = u32::from_le_bytes([header[10], header[11], header[12], header[13]]);
    if checksum != crc32c::crc32c(payload) {
        return Err("its checksum does not hold".into());
    }
    rmp_serde::from_slice(payload).map_err(|error| error.to_string())
}

/// Reads `path`. What cannot be used is set aside and told in the log.
pub fn load(path: &Path) -> Option<Snapshot> {
    let read = || -> Result<Vec<u8>, String> {
        let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
        if bytes > SNAPSHOT_BYTES_MAX {
            return Err(format!("{bytes} bytes are too large"));
        }
        std::fs::read(path).map_err(|error| error.to_string())
    };
    if matches!(std::fs::metadata(path), Err(error) if error.kind() == ErrorKind::NotFound) {
        return None;
    }
    match read().and_then(|bytes| decode(&bytes)) {
        Ok(snapshot) => Some(snapshot),
        Err(reason) => {
            set_aside(path, &reason);
            None
        }
    }
}

/// Renames the file so that it can be looked at; the one set aside before goes.
pub fn set_aside(path: &Path, reason: &str) {
    let aside = aside_of(path);
    tracing::warn!(path = %path.display(), aside = %aside.display(), reason, "the page's snapshot is rebuilt from the log");
    if let Err(error) = std::fs::rename(path, &aside) {
        tracing::warn!(path = %path.display(), %error, "the snapshot could not be set aside");
    }
}

/// Replaces `path` in one step.
pub fn save(path: &Path, bytes: &[u8]) -> Result<(), DashboardError> {
    let fail = |action| {
        move |source| DashboardError::Data {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fail("create a file beside"))?;
    file.write_all(bytes).map_err(fail("write"))?;
    file.as_file().sync_all().map_err(fail("sync"))?;
    file.persist(path).map_err(|error| fail("replace")(error.error))?;
    Ok(())
}

fn aside_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".aside");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let position = Position {
            log_id: "l".into(),
            sequence: 3,
            id: "s/c/1/3".into(),
        };
        Snapshot {
            site: "cafe".into(),
            events: position.clone(),
            observations: position,
            projection: Projection::default(),
        }
    }

    #[test]
    fn a_snapshot_survives_and_damage_of_any_byte_is_seen() {
        let bytes = encode(&snapshot()).unwrap();
        assert_eq!(decode(&bytes).unwrap().events, snapshot().events);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_file_that_does_not_fit_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dashboard.snapshot");
        assert!(load(&path).is_none());
        save(&path, &encode(&snapshot()).unwrap()).unwrap();
        assert!(load(&path).is_some());
        std::fs::write(&path, b"garbage").unwrap();
        assert!(load(&path).is_none());
        assert!(!path.exists());
        assert_eq!(std::fs::read(aside_of(&path)).unwrap(), b"garbage");
    }
}
