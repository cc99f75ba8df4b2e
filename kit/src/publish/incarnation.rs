//! The incarnation number on disk: it never falls, whatever becomes of the file.
//!
//! It does not hold the numbers of observations; those start at 1 in each incarnation.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use watchfold_log::MessageLog;
use watchfold_schemas::subjects::{self, is_token};
use watchfold_schemas::{Origin, Stream, Time};

use crate::KitError;

/// No incarnation file is longer: twenty digits and a line end.
const FILE_BYTES_MAX: u64 = 32;

/// How the names of these files end, after the collector's.
const SUFFIX: &str = ".incarnation";

/// The same once the collector is over.
const SUFFIX_OVER: &str = ".incarnation.over";

/// How long a start waits for the log to say which incarnation was the last.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// The same when a file says it too: a broker in reach answers in milliseconds, and one out of reach is not waited for.
const LAST_PATIENCE_WITH_FILE: Duration = Duration::from_secs(1);

/// Where one collector's incarnation is kept.
#[derive(Clone, Debug)]
pub(crate) struct IncarnationFile {
    path: PathBuf,
    /// Where it lies once the collector is over. Its numbers go on from there, should it come back.
    over: PathBuf,
}

/// The number of a new start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) incarnation: u64,
    /// It is on disk; else nothing may be sent under it yet.
    pub(crate) is_saved: bool,
}

/// The collectors that published from this state directory under names with this prefix and were not [retired], by name.
///
/// [retired]: crate::Publisher::retire
pub fn published_from(state_dir: &Path, prefix: &str) -> Result<Vec<String>, KitError> {
    let error = |source| KitError::State {
        action: "read",
        path: state_dir.display().to_string(),
        source,
    };
    let entries = match fs::read_dir(state_dir) {
        Ok(entries) => entries,
        Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(error(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(error)?.file_name();
        // Whatever else lies there is nobody's identity.
        let collector = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        let collector = collector.filter(|name| name.starts_with(prefix) && is_token(name));
        names.extend(collector.map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

impl IncarnationFile {
    pub(crate) fn new(state_dir: &Path, collector: &str) -> IncarnationFile {
        IncarnationFile {
            path: state_dir.join(format!("{collector}{SUFFIX}")),
            over: state_dir.join(format!("{collector}{SUFFIX_OVER}")),
        }
    }

    /// The number for a new start: one more than the last, and no less than the wall clock in milliseconds, so that a lost
    /// file does not reuse numbers. Without a file the log is asked as well, in case
    /// the wall clock is behind, but not for long. `spooled` is the last incarnation that still waits for the log, where
    /// there is a spool. Without one the log is asked in any case: a collector that takes turns with others under a
    /// lease has none, and a machine whose clock is ahead may have published under this name since the file was written.
    pub(crate) async fn start(
        &self,
        log: &dyn MessageLog,
        site: &str,
        collector: &str,
        wall: Time,
        spooled: Option<u64>,
        streams: &[Stream],
    ) -> Result<Started, KitError> {
        let in_log = async |patience| {
            let asked = last_in_log(log, site, collector, streams);
            tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| {
                tracing::warn!(
                    collector,
                    "the log does not say which incarnation was the last; going on from the file and the wall clock"
                );
                0
            })
        };
        let last = match (self.load()?, spooled) {
            (Some(last), Some(_)) => last,
            (Some(last), None) => last.max(in_log(LAST_PATIENCE_WITH_FILE).await),
            (None, _) => in_log(LAST_PATIENCE).await,
        };
        let next = last
            .max(spooled.unwrap_or(0))
            .saturating_add(1)
            .max(u64::try_from(wall.as_millis()).unwrap_or(0));
        let is_saved = match self.save(next) {
            Ok(()) => true,
            // A full disk keeps nobody from measuring: records wait for their incarnation until there is space.
            Err(error @ KitError::Full { .. }) => {
                tracing::warn!(collector, %error, "records wait in memory until there is space");
                false
            }
            Err(error) => return Err(error),
        };
        Ok(Started {
            incarnation: next,
            is_saved,
        })
    }

    /// The persisted number; a file that holds anything else is set aside.
    fn load(&self) -> Result<Option<u64>, KitError> {
        match self.load_from(&self.path)? {
            None => self.load_from(&self.over),
            last => Ok(last),
        }
    }

    fn load_from(&self, path: &Path) -> Result<Option<u64>, KitError> {
        let length = match fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.error("read", source)),
        };
        let bytes = if length > FILE_BYTES_MAX {
            Vec::new()
        } else {
            fs::read(path).map_err(|source| self.error("read", source))?
        };
        let text = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.strip_suffix('\n'));
        if let Some(number) = text.and_then(|text| text.parse().ok()) {
            return Ok(Some(number));
        }
        let aside = self.path.with_extension("incarnation.damaged");
        fs::rename(path, &aside).map_err(|source| self.error("set aside", source))?;
        tracing::warn!(
            path = %aside.display(),
            "the incarnation file was damaged and is set aside; going on from the log and the wall clock"
        );
        Ok(None)
    }

    /// Replaces the file as a whole, synced.
    pub(crate) fn save(&self, incarnation: u64) -> Result<(), KitError> {
        let new = self.path.with_extension("incarnation.new");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(format!("{incarnation}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            sync_directory(self.path.parent().unwrap_or(Path::new(".")))
        };
        write().map_err(|source| self.error("write", source))
    }

    /// Keeps the number under another name, so that nothing is open of this collector any more.
    pub(crate) fn retire(&self) -> Result<(), KitError> {
        let retire = || -> std::io::Result<()> {
            fs::rename(&self.path, &self.over)?;
            sync_directory(self.path.parent().unwrap_or(Path::new(".")))
        };
        match retire() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            retired => retired.map_err(|source| self.error("rename", source)),
        }
    }

    fn error(&self, action: &'static str, source: std::io::Error) -> KitError {
        let path = self.path.display().to_string();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => KitError::Full { path },
            _ => KitError::State { action, path, source },
        }
    }
}

/// The highest incarnation of this collector's last records in these streams, 0 when there is none or the log cannot say.
async fn last_in_log(log: &dyn MessageLog, site: &str, collector: &str, streams: &[Stream]) -> u64 {
    let mut highest = 0;
    for stream in streams {
        let filter = subjects::of_observation(*stream, site, "*", collector);
        match log.last(*stream, &filter).await {
            Ok(record) => {
                let origin = record.and_then(|record| record.id.0.parse::<Origin>().ok());
                highest = highest.max(origin.map_or(0, |origin| origin.incarnation));
            }
            Err(error) => {
                tracing::warn!(collector, %stream, %error, "the log cannot say which incarnation was the last; going on from the file and the wall clock");
            }
        }
    }
    highest
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Windows has no handle to sync a directory by; the rename is journaled by the file system.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::publisher::testing::{Mode, SwitchLog};

    const WALL_MS: i64 = 5_000;
    const BOTH: [Stream; 2] = [Stream::Observations, Stream::Packets];

    async fn check(content: Option<&[u8]>, want: u64, aside: bool) {
        let dir = tempfile::tempdir().unwrap();
        let file = IncarnationFile::new(dir.path(), "ping");
        if let Some(content) = content {
            fs::write(&file.path, content).unwrap();
        }
        let log = SwitchLog::default();
        let got = file
            .start(&log, "cafe", "ping", Time::from_millis(WALL_MS), Some(0), &BOTH)
            .await
            .unwrap()
            .incarnation;
        assert_eq!(got, want, "{content:?}");
        assert_eq!(
            dir.path().join("ping.incarnation.damaged").exists(),
            aside,
            "{content:?}"
        );
        let again = file
            .start(&log, "cafe", "ping", Time::from_millis(0), Some(0), &BOTH)
            .await
            .unwrap()
            .incarnation;
        assert_eq!(again, want + 1, "a wall clock set back");
    }

    #[tokio::test]
    async fn it_never_falls() {
        check(None, 5_000, false).await;
        check(Some(b"7\n"), 5_000, false).await;
        check(Some(b"9000\n"), 9_001, false).await;
        check(Some(b"9000"), 5_000, true).await;
        check(Some(b""), 5_000, true).await;
        check(Some(b"\xff\xfe\n"), 5_000, true).await;
        check(Some(&[b'1'; 4_096]), 5_000, true).await;
    }

    #[tokio::test]
    async fn a_lost_file_and_a_clock_behind_go_on_from_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = SwitchLog::default();
        log.put(Origin {
            site: "cafe".into(),
            collector: "ping".into(),
            incarnation: 9_000,
            number: 3,
        });
        let file = IncarnationFile::new(dir.path(), "ping");
        assert_eq!(
            file.start(&log, "cafe", "ping", Time::EPOCH, Some(0), &BOTH)
                .await
                .unwrap()
                .incarnation,
            9_001
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_others_may_use_goes_on_from_the_log_though_there_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let log = SwitchLog::default();
        let file = IncarnationFile::new(dir.path(), "clock");
        file.save(7).unwrap();
        // The machine that held the lease meanwhile has a clock ahead of this one's.
        log.put(Origin {
            site: "cafe".into(),
            collector: "clock".into(),
            incarnation: 9_000,
            number: 3,
        });
        let wall = Time::from_millis(WALL_MS);
        let with_spool = file.start(&log, "cafe", "clock", wall, Some(0), &BOTH).await;
        assert_eq!(
            with_spool.unwrap().incarnation,
            5_000,
            "its own spool, so its own name"
        );
        let without = file.start(&log, "cafe", "clock", wall, None, &BOTH).await;
        assert_eq!(without.unwrap().incarnation, 9_001);
        log.set(Mode::Hangs);
        let away = file.start(&log, "cafe", "clock", wall, None, &BOTH).await;
        assert_eq!(away.unwrap().incarnation, 9_002, "a log that does not answer");
    }

    #[tokio::test]
    async fn one_that_is_over_is_not_named_and_its_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let named = |prefix: &str| published_from(dir.path(), prefix).unwrap();
        for (name, number) in [("capture-lan", 9_000), ("capture-wan", 7), ("ping", 7)] {
            IncarnationFile::new(dir.path(), name).save(number).unwrap();
        }
        fs::write(dir.path().join("capture-a b.incarnation"), "1\n").unwrap();
        fs::write(dir.path().join("capture-x.incarnation.damaged"), "?").unwrap();
        assert_eq!(named("capture-"), ["capture-lan", "capture-wan"]);
        let lan = IncarnationFile::new(dir.path(), "capture-lan");
        lan.retire().unwrap();
        lan.retire().unwrap();
        assert_eq!(named("capture-"), ["capture-wan"]);
        // It comes back with the clock far behind, and a log that knows nothing.
        let log = SwitchLog::default();
        let again = lan.start(&log, "cafe", "capture-lan", Time::EPOCH, Some(0), &BOTH);
        assert_eq!(again.await.unwrap().incarnation, 9_001);
        assert_eq!(named("capture-"), ["capture-lan", "capture-wan"]);
        assert_eq!(published_from(&dir.path().join("none"), "").unwrap(), [""; 0]);
    }

    #[tokio::test]
    async fn a_directory_that_is_missing_is_an_error_with_its_path() {
        let file = IncarnationFile::new(Path::new("/nonexistent/watchfold"), "ping");
        let error = file
            .start(&SwitchLog::default(), "cafe", "ping", Time::EPOCH, None, &BOTH)
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("/nonexistent/watchfold/ping.incarnation"),
            "{error}"
        );
    }
}
