//! Named positions: one small file each, replaced as a whole. Does not know whether a position agrees with its stream.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{Disk, io_error, read_small, replace_small};
use crate::{LogError, Position};

/// Bytes of a position's name.
pub const POSITION_NAME_BYTES_MAX: usize = 80;
/// Names in one log. More than that is a caller that makes up names.
pub const POSITIONS_MAX: usize = 4096;
/// Bytes of a position file; ids are at most 255 bytes and may need escapes.
const POSITION_BYTES_MAX: usize = 4096;

/// The directory of positions. Blocking.
pub struct Positions {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// One writer at a time: a name's temporary file is shared.
    writing: Mutex<()>,
}

impl Positions {
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Positions, LogError> {
        disk.create_dir(dir)
            .map_err(|error| io_error("create", dir, error))?;
        // A position that an earlier process could not sync is about to be shown, so it must stay.
        disk.sync_dir(dir).map_err(|error| io_error("sync", dir, error))?;
        Ok(Positions {
            disk,
            dir: dir.to_owned(),
            writing: Mutex::new(()),
        })
    }

    /// `None` when it was never saved, or its file is damaged: then its owner starts from what else it knows.
    pub fn load(&self, name: &str) -> Result<Option<Position>, LogError> {
        let path = self.dir.join(file_name(name)?);
        let content = read_small(self.disk.as_ref(), &path, POSITION_BYTES_MAX)
            .map_err(|error| io_error("read", &path, error))?;
        let Some(content) = content else { return Ok(None) };
        let position = decode(&content);
        if position.is_none() {
            tracing::warn!(path = %path.display(), "position is damaged and ignored");
        }
        Ok(position)
    }

    /// Durable when this returns. After an error it is the old one or the new one.
    pub fn save(&self, name: &str, position: &Position) -> Result<(), LogError> {
        let file_name = file_name(name)?;
        let path = self.dir.join(&file_name);
        let failed = |error| io_error("save", &path, error);
        let content = encode(position).map_err(|error| failed(error.into()))?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.disk.list(&self.dir).map_err(failed)?;
        if names.len() >= POSITIONS_MAX && !names.contains(&file_name) {
            tracing::warn!(limit = POSITIONS_MAX, name, "too many named positions");
            let error = std::io::Error::other(format!(
                "there are {POSITIONS_MAX} positions already: remove old ones"
            ));
            return Err(failed(error));
        }
        replace_small(self.disk.as_ref(), &self.dir, &file_name, &content).map_err(failed)
    }
}

/// `crc32c` in hexadecimal, a space, the position as JSON, a newline: readable, and checked.
fn encode(position: &Position) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_string(position)?;
    Ok(format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes())
}

fn decode(content: &[u8]) -> Option<Position> {
    let (checksum, json) = str::from_utf8(content)
        .ok()?
        .strip_suffix('\n')?
        .split_once(' ')?;
    let holds = u32::from_str_radix(checksum, 16).ok()? == crc32c::crc32c(json.as_bytes());
    if holds {
        serde_json::from_str(json).ok()
    } else {
        None
    }
}

/// Lower-case letters, digits, `-` and `_` stand for themselves and the rest is escaped, so that names which differ only
/// in case stay apart on every file system and none leaves the directory.
fn file_name(name: &str) -> Result<String, LogError> {
    if !(1..=POSITION_NAME_BYTES_MAX).contains(&name.len()) {
        return Err(LogError::InvalidMessage {
            bytes: name.len(),
            subject: name.chars().take(80).collect(),
        });
    }
    let mut file_name = String::with_capacity(name.len() + 4);
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => file_name.push(char::from(byte)),
            _ => file_name.push_str(&format!("%{byte:02x}")),
        }
    }
    // A suffix, because names such as `con` or `nul` are devices somewhere.
    Ok(file_name + ".pos")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_distinct_and_inside() {
        for (name, want) in [
            ("runner-1", Some("runner-1.pos")),
            ("Runner", Some("%52unner.pos")),
            ("../x", Some("%2e%2e%2fx.pos")),
            ("con", Some("con.pos")),
            ("", None),
        ] {
            assert_eq!(file_name(name).ok().as_deref(), want, "{name:?}");
        }
        assert!(file_name(&"x".repeat(POSITION_NAME_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let position = Position {
            log_id: "ab".into(),
            sequence: 7,
            id: "cafe-1/ping/1/7".into(),
        };
        let content = encode(&position).unwrap();
        assert_eq!(decode(&content), Some(position));
        for at in 0..content.len() {
            let mut changed = content.clone();
            changed[at] ^= 4;
            assert_eq!(decode(&changed), None, "byte {at}");
        }
    }
}
