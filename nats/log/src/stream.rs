//! One stream on disk: append, sync, retain, recover. Synchronous, without threads or clocks, so that a simulator can
//! drive it; the writer thread drives it in a process.
//!
//! What is durable when: a segment's header and name before the first record is written to it; its records at
//! [`StreamStore::sync`], which is the only thing that moves what readers see; the stream's file before a segment is
//! made or unlinked.

mod append;
mod recover;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use watchfold_schemas::Time;

use crate::LogError;
use crate::disk::{Disk, DiskFile, io_error, write_all_at};
use crate::duplicates::{IdHasher, SeenIds};
use crate::frame::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader, frame_seed};
use crate::index::Index;
use crate::layout::{Layout, Segment};
use crate::meta::Meta;
use crate::options::StreamOptions;
use crate::view::{Damage, View};

/// The writing side of a stream. Dropping it without [`StreamStore::close`] is a crash, which it survives.
pub struct StreamStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: StreamOptions,
    meta: Meta,
    segments: Arc<Vec<Segment>>,
    /// The last of `segments`, when it takes records.
    active: Option<Active>,
    /// One more than the last written sequence.
    next_sequence: u64,
    last_stored_at: Option<Time>,
    seen: SeenIds,
    damage: Damage,
    stopped: Option<Arc<str>>,
    views: watch::Sender<View>,
    /// Kept between appends for its capacity, until the stream rests.
    buffer: Vec<u8>,
}

struct Active {
    file: Arc<dyn DiskFile>,
    seed: u32,
    created_at: Time,
    written: u64,
    synced: u64,
    index: Index,
}

impl Active {
    fn is_dirty(&self) -> bool {
        self.written > self.synced
    }
}

impl StreamStore {
    /// Opens the stream in `dir`, or makes it with `fresh_log_id`. Cuts a torn tail, and syncs what it found before it
    /// shows it to readers.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: StreamOptions,
        fresh_log_id: LogId,
    ) -> Result<StreamStore, LogError> {
        disk.create_dir(dir)
            .map_err(|error| io_error("create", dir, error))?;
        let layout = Layout::load(disk.as_ref(), dir)?;
        if layout.log_id.is_none() && !layout.segments.is_empty() {
            let unknown =
                "its stream file and its segment headers are damaged: restore one of them from a copy";
            return Err(io_error(
                "open",
                dir,
                std::io::Error::new(std::io::ErrorKind::InvalidData, unknown),
            ));
        }
        let log_id = layout.log_id.unwrap_or(fresh_log_id);
        let known = layout.meta.unwrap_or(Meta {
            log_id,
            next_segment: 1,
            first_segment: 0,
            next_sequence: 1,
        });
        let meta = Meta {
            next_segment: known.next_segment.max(layout.next_segment),
            ..known
        };
        let view = View {
            log_id,
            segments: Arc::default(),
            synced_end: None,
            next_sequence: meta.next_sequence,
            last_stored_at: None,
            stopped: None,
        };
        let mut store = StreamStore {
            disk,
            dir: dir.to_owned(),
            options,
            meta,
            segments: Arc::new(layout.segments),
            active: None,
            next_sequence: meta.next_sequence,
            last_stored_at: None,
            seen: SeenIds::new(options.duplicates),
            damage: Damage::default(),
            stopped: None,
            views: watch::Sender::new(view),
            buffer: Vec::new(),
        };
        store.recover_tail()?;
        store.recover_seen_ids()?;
        if layout.meta != Some(store.meta) {
            match store.meta.write(store.disk.as_ref(), &store.dir) {
                // It says what the segments say, and is written before another segment is made: a full disk must not keep
                // the log from being read. A new stream is known by this file alone.
                Err(LogError::Full { path }) if layout.log_id.is_some() => {
                    tracing::warn!(
                        path,
                        "disk full: what was found at opening is noted once there is space"
                    );
                }
                written => written?,
            }
        }
        for path in layout.leftovers {
            store.unlink(&path);
        }
        store
            .disk
            .sync_dir(dir)
            .map_err(|error| io_error("sync", dir, error))?;
        store.publish();
        Ok(store)
    }

    /// What readers may see, and its changes.
    pub fn views(&self) -> watch::Receiver<View> {
        self.views.subscribe()
    }

    pub fn damage(&self) -> Damage {
        self.damage.clone()
    }

    /// For those who prepare what this stream appends.
    pub(crate) fn hasher(&self) -> IdHasher {
        self.seen.hasher()
    }

    pub fn log_id(&self) -> LogId {
        self.meta.log_id
    }

    /// Whether something is written that no sync has covered.
    pub fn is_dirty(&self) -> bool {
        self.active.as_ref().is_some_and(Active::is_dirty)
    }

    /// Makes everything written durable and visible. After a failure nobody knows what the disk holds, so the stream
    /// takes nothing more until it is opened again.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.refuse_if_stopped()?;
        let Some(active) = self.active.as_mut().filter(|active| active.is_dirty()) else {
            return Ok(());
        };
        if let Err(error) = active.file.sync() {
            return Err(self.stop("sync", error));
        }
        active.synced = active.written;
        // A file without its name is gone with this process, however well it is synced.
        self.check_active()?;
        self.publish();
        Ok(())
    }

    /// Stops the stream when one of its files is no longer where it was made: deleted, moved or replaced, alone or with its
    /// directory.
    pub fn check_files(&mut self) -> Result<(), LogError> {
        self.refuse_if_stopped()?;
        self.check_active()?;
        let paths: Vec<PathBuf> = self.segments.iter().map(|segment| segment.path.clone()).collect();
        for path in paths {
            // What the disk does not tell now it may tell at the next check.
            if matches!(self.disk.exists(&path), Ok(false)) {
                return Err(self.displaced(&path));
            }
        }
        Ok(())
    }

    fn check_active(&mut self) -> Result<(), LogError> {
        let path = self.active_path();
        match self.active.as_ref().map(|active| active.file.is_at(&path)) {
            Some(Ok(false)) => Err(self.displaced(&path)),
            _ => Ok(()),
        }
    }

    /// Stops the stream because `path` no longer leads to what it has open.
    pub(crate) fn displaced(&mut self, path: &Path) -> LogError {
        let why = format!(
            "{} was deleted, moved or replaced while it was in use, so nothing written since is kept; put it back, or \
             leave it and begin a new log",
            path.display()
        );
        self.stop_because(why)
    }

    /// Seals a segment that is old, and drops those that are past the stream's age. For streams that get no appends.
    pub fn retain(&mut self, now: Time) -> Result<(), LogError> {
        self.refuse_if_stopped()?;
        self.buffer = Vec::new();
        let Some(age_max) = self.options.age_max else {
            return Ok(());
        };
        let is_old = |at: Option<Time>| at.is_some_and(|at| now.since(at) > age_max);
        let active_is_old =
            self.active_is_full(now) || (self.active_has_records() && is_old(self.last_stored_at));
        if active_is_old {
            self.seal()?;
        }
        // A segment's records are no younger than the segment after it.
        let followers = self.segments.iter().skip(1).map(|follower| follower.created_at);
        let mut expired = followers.take_while(|created_at| is_old(*created_at)).count();
        let only_sealed = self.active.is_none() && expired + 1 == self.segments.len();
        if only_sealed && is_old(self.last_stored_at) {
            expired += 1;
        }
        self.drop_oldest(expired)
    }

    /// Syncs, and notes where the stream ended.
    pub fn close(mut self) -> Result<(), LogError> {
        self.sync()?;
        self.save_meta(self.meta.next_segment, self.meta.first_segment)
    }

    /// Drops the oldest segments until `bytes` more are within the limit.
    fn make_room(&mut self, bytes: u64) -> Result<(), LogError> {
        let active_bytes = self.active.as_ref().map_or(0, |active| active.written);
        let sealed = &self.segments[..self.segments.len() - usize::from(self.active.is_some())];
        let mut total = sealed.iter().map(|segment| segment.bytes).sum::<u64>() + active_bytes + bytes;
        let mut count = 0;
        for segment in sealed {
            if total <= self.options.bytes_max {
                break;
            }
            total -= segment.bytes;
            count += 1;
        }
        self.drop_oldest(count)
    }

    /// Notes the new beginning first, then unlinks.
    fn drop_oldest(&mut self, count: usize) -> Result<(), LogError> {
        if count == 0 {
            return Ok(());
        }
        let dropped: Vec<Segment> = self.segments[..count].to_vec();
        let first_segment = dropped
            .last()
            .map_or(self.meta.first_segment, |segment| segment.number + 1);
        match self.save_meta(self.meta.next_segment, first_segment) {
            // Unlinking is what a full disk needs; an old segment that comes back after a crash is only old.
            Err(LogError::Full { path }) => {
                tracing::warn!(path, "disk full: dropping segments without a note")
            }
            saved => saved?,
        }
        self.segments = Arc::new(self.segments[count..].to_vec());
        self.views
            .send_modify(|view| view.segments = self.segments.clone());
        for segment in &dropped {
            self.unlink(&segment.path);
            self.unlink(&segment.index_path());
        }
        tracing::info!(dir = %self.dir.display(), segments = count, first_segment, "dropped the oldest segments");
        Ok(())
    }

    /// A file that stays is found again at the next open.
    fn unlink(&self, path: &Path) {
        match self.disk.remove(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot remove a file that is no longer needed");
            }
            _ => {}
        }
    }

    fn active_has_records(&self) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| active.written > SEGMENT_HEADER_BYTES as u64)
    }

    fn active_is_full(&self, now: Time) -> bool {
        self.active_has_records()
            && self.active.as_ref().is_some_and(|active| {
                active.written >= self.options.segment_bytes_used()
                    || now.since(active.created_at) >= self.options.segment_age_used()
            })
    }

    fn active_path(&self) -> PathBuf {
        self.segments
            .last()
            .map_or_else(|| self.dir.clone(), |segment| segment.path.clone())
    }

    /// Ends the active segment; the next append starts another.
    fn seal(&mut self) -> Result<(), LogError> {
        self.sync()?;
        let Some(active) = self.active.take() else {
            return Ok(());
        };
        if let Some(segment) = Arc::make_mut(&mut self.segments).last_mut() {
            segment.bytes = active.written;
            active
                .index
                .save(self.disk.as_ref(), &segment.index_path(), active.seed);
        }
        self.publish();
        Ok(())
    }

    /// Notes that the number is taken, then makes the segment; both are durable before it takes a record.
    fn start_segment(&mut self, now: Time) -> Result<(), LogError> {
        let number = self.meta.next_segment;
        self.save_meta(number + 1, self.meta.first_segment)?;
        let first_sequence = self.next_sequence;
        let path = self.dir.join(Segment::name(number, first_sequence));
        let log_id = self.meta.log_id;
        let header = SegmentHeader {
            log_id,
            number,
            first_sequence,
            created_at: now,
        };
        let made = self.disk.create_new(&path).and_then(|file| {
            write_all_at(file.as_ref(), 0, &header.encode())?;
            file.sync()?;
            self.disk.sync_dir(&self.dir)?;
            Ok(file)
        });
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                // Its number is spent, so whatever stays of it is never taken for another.
                self.unlink(&path);
                return Err(io_error("create", &path, error));
            }
        };
        let bytes = SEGMENT_HEADER_BYTES as u64;
        let segment = Segment {
            number,
            first_sequence,
            created_at: Some(now),
            bytes,
            path,
        };
        Arc::make_mut(&mut self.segments).push(segment);
        let seed = frame_seed(log_id, number);
        let index = Index::default();
        self.active = Some(Active {
            file,
            seed,
            created_at: now,
            written: bytes,
            synced: bytes,
            index,
        });
        self.publish();
        Ok(())
    }

    fn save_meta(&mut self, next_segment: u64, first_segment: u64) -> Result<(), LogError> {
        // Taken even if saving fails: the file may say so already.
        self.meta.next_segment = next_segment;
        let next_sequence = self.views.borrow().next_sequence;
        let meta = Meta {
            next_segment,
            first_segment,
            next_sequence,
            ..self.meta
        };
        meta.write(self.disk.as_ref(), &self.dir)?;
        self.meta = meta;
        Ok(())
    }

    /// Shows readers what is synced. Only called while nothing is written beyond it.
    fn publish(&mut self) {
        self.views.send_modify(|view| {
            view.segments = self.segments.clone();
            view.synced_end = self.active.as_ref().map(|active| active.synced);
            view.next_sequence = self.next_sequence;
            view.last_stored_at = self.last_stored_at;
        });
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    fn refuse_if_stopped(&self) -> Result<(), LogError> {
        match &self.stopped {
            Some(why) => Err(LogError::Stopped(why.to_string())),
            None => Ok(()),
        }
    }

    fn stop(&mut self, action: &'static str, error: std::io::Error) -> LogError {
        let why = format!("failed to {action} {}: {error}", self.active_path().display());
        self.stop_because(why)
    }

    fn stop_because(&mut self, why: String) -> LogError {
        tracing::error!(why, "the stream stops: nobody knows what the disk holds");
        let why: Arc<str> = why.into();
        self.stopped = Some(why.clone());
        self.views.send_modify(|view| view.stopped = Some(why.clone()));
        LogError::Stopped(why.to_string())
    }
}
