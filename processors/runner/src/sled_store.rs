//! The store on disk: one sled 0.34 tree in one directory, one atomic batch and one flush for each commit.
//!
//! sled is known to leave databases that do not open again after an unclean stop, and to panic on some of them. So
//! every call is guarded, and a directory that does not work is renamed to `<name>.broken-<n>`.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::store::{Batch, Pairs, StateStore, StoreError};

/// sled's page cache, in bytes. A chain holds its state in memory anyway, so the cache only serves writes; the whole
/// product stays below 40 MB.
const CACHE_BYTES: u64 = 1024 * 1024;

/// How many broken directories are kept for a look; older ones are removed.
pub const BROKEN_KEPT_MAX: usize = 2;

/// sled lets go of its lock a moment after the database was dropped, once its own threads are done. This long a
/// lock is waited for before another process is blamed.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(10);

/// sled as a [`StateStore`].
pub struct SledStore {
    directory: PathBuf,
    /// `None` only after a failed [`StateStore::set_aside`].
    database: Option<sled::Db>,
}

impl SledStore {
    /// Opens the database in `directory`, or makes one.
    pub fn open(directory: &Path) -> Result<SledStore, StoreError> {
        let database = open_database(directory)?;
        Ok(SledStore {
            directory: directory.to_owned(),
            database: Some(database),
        })
    }

    /// Like [`SledStore::open`], but a database that does not open is set aside. The text says what was wrong with it.
    pub fn open_or_set_aside(directory: &Path) -> Result<(SledStore, Option<String>), StoreError> {
        match SledStore::open(directory) {
            Ok(store) => Ok((store, None)),
            Err(error @ StoreError::Locked { .. }) => Err(error),
            Err(error) => {
                let mut store = SledStore {
                    directory: directory.to_owned(),
                    database: None,
                };
                store.set_aside()?;
                Ok((store, Some(error.to_string())))
            }
        }
    }

    fn database(&self) -> Result<&sled::Db, StoreError> {
        self.database
            .as_ref()
            .ok_or_else(|| broken(&self.directory, "it was closed after a failure".into()))
    }

    /// Runs one call of sled's; its errors and its panics are alike to us.
    fn guarded<T>(&self, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, StoreError> {
        let database = self.database()?;
        guard(&self.directory, || call(database))
    }
}

impl StateStore for SledStore {
    fn scan(&self) -> Result<Pairs, StoreError> {
        self.guarded(|database| {
            database
                .iter()
                .map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())))
                .collect()
        })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.guarded(|database| Ok(database.get(key)?.map(|value| value.to_vec())))
    }

    fn apply_batch(&mut self, batch: Batch) -> Result<(), StoreError> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        self.guarded(|database| database.apply_batch(writes))
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.guarded(|database| database.flush().map(|_| ()))
    }

    fn set_aside(&mut self) -> Result<(), StoreError> {
        // Closing first, because a directory with open files cannot be renamed on every platform. A panic on closing
        // changes nothing: what is in there is not used again.
        let closed = self.database.take();
        if catch_unwind(AssertUnwindSafe(|| drop(closed))).is_err() {
            tracing::warn!(directory = %self.directory.display(), "the broken database did not close cleanly");
        }
        rename_broken(&self.directory)?;
        self.database = Some(open_database(&self.directory)?);
        Ok(())
    }
}

fn open_database(directory: &Path) -> Result<sled::Db, StoreError> {
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent).map_err(|source| io("create", parent, source))?;
    }
    let mut waited = Duration::ZERO;
    loop {
        let opened = guard(directory, || {
            sled::Config::new()
                .path(directory)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .open()
        });
        match opened {
            // sled has no error of its own for this, only the text.
            Err(StoreError::Broken { detail, .. }) if detail.contains("could not acquire lock") => {
                if waited >= LOCK_WAIT {
                    return Err(StoreError::Locked {
                        path: directory.display().to_string(),
                    });
                }
                std::thread::sleep(LOCK_POLL);
                waited += LOCK_POLL;
            }
            other => return other,
        }
    }
}

fn guard<T>(directory: &Path, call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(broken(directory, error.to_string())),
        Err(panic) => Err(broken(
            directory,
            format!("sled panicked: {}", panic_text(panic.as_ref())),
        )),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "without a message",
    }
}

/// Renames to the first free number, and removes the oldest beyond [`BROKEN_KEPT_MAX`].
fn rename_broken(directory: &Path) -> Result<(), StoreError> {
    if !directory.exists() {
        return Ok(());
    }
    let mut kept = broken_directories(directory)?;
    let next = kept.last().map_or(1, |(number, _)| number + 1);
    let target = with_suffix(directory, next);
    fs::rename(directory, &target).map_err(|source| io("rename", directory, source))?;
    kept.push((next, target));
    let surplus = kept.len().saturating_sub(BROKEN_KEPT_MAX);
    for (_, path) in kept.into_iter().take(surplus) {
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "failed to remove an old broken database; remove it by hand");
        }
    }
    Ok(())
}

/// The directories set aside earlier, by number.
fn broken_directories(directory: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.broken-", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(parent).map_err(|source| io("list", parent, source))? {
        let entry = entry.map_err(|source| io("list", parent, source))?;
        let number = entry
            .file_name()
            .to_string_lossy()
            .strip_prefix(&prefix)
            .and_then(|rest| rest.parse().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

fn with_suffix(directory: &Path, number: u64) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(format!(".broken-{number}"));
    PathBuf::from(name)
}

fn broken(directory: &Path, detail: String) -> StoreError {
    StoreError::Broken {
        path: directory.display().to_string(),
        detail,
    }
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        action,
        path: path.display().to_string(),
        source,
    }
}
