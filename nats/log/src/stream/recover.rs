//! What opening a stream finds and repairs: the end of its last segment, and the message ids it has seen lately.

use std::collections::VecDeque;
use std::sync::Arc;

use watchfold_schemas::Time;

use super::{Active, StreamStore};
use crate::LogError;
use crate::disk::{DiskFile, io_error, read_full_at, write_all_at};
use crate::frame::{Frame, frame_seed};
use crate::layout::{Segment, Tail, find_tail};

impl StreamStore {
    /// Cuts a torn tail, and makes what is left durable before anybody is shown it.
    pub(super) fn recover_tail(&mut self) -> Result<(), LogError> {
        let Some(last) = self.segments.last().cloned() else {
            return Ok(());
        };
        let seen = &mut self.seen;
        let hasher = seen.hasher();
        let tail = find_tail(self.disk.as_ref(), &last, &self.meta, |found| {
            let hash = hasher.hash(found.frame.id(&found.bytes));
            seen.insert(hash, found.frame.sequence, found.frame.stored_at);
        })?;
        for &(from, to) in &tail.damaged {
            self.damage.note(&self.dir, from, to);
        }
        let file = self
            .disk
            .open(&last.path)
            .map_err(|error| io_error("open", &last.path, error))?;
        if tail.torn_bytes > 0 {
            let path = last.path.display();
            tracing::warn!(%path, bytes = tail.torn_bytes, "cut a torn tail");
            file.set_len(tail.end)
                .map_err(|error| io_error("cut", &last.path, error))?;
        }
        // It may be in the cache only, and readers are about to see it. What an earlier process failed to sync can even be
        // in the cache and count as clean; written again it is synced for certain.
        self.rewrite(file.as_ref(), &last, &tail)?;
        file.sync().map_err(|error| io_error("sync", &last.path, error))?;
        self.next_sequence = self.meta.next_sequence.max(tail.next_sequence);
        if self.next_sequence > tail.next_sequence {
            self.damage
                .note(&self.dir, tail.next_sequence, self.next_sequence - 1);
        }
        self.last_stored_at = tail.last_stored_at.or(last.created_at);
        if let Some(kept) = Arc::make_mut(&mut self.segments).last_mut() {
            kept.bytes = tail.end;
        }
        self.reuse(file, &last, tail);
        Ok(())
    }

    fn rewrite(&self, file: &dyn DiskFile, last: &Segment, tail: &Tail) -> Result<(), LogError> {
        let mut commit = vec![0; tail.end.saturating_sub(tail.last_commit) as usize];
        let filled = read_full_at(file, tail.last_commit, &mut commit);
        let filled = filled.map_err(|error| io_error("read", &last.path, error))?;
        let rewritten = write_all_at(file, tail.last_commit, &commit[..filled]);
        match rewritten.map_err(|error| io_error("rewrite", &last.path, error)) {
            // Only a file system that never overwrites in place says so; the log must open all the same.
            Err(LogError::Full { path }) => {
                tracing::warn!(path, "disk full: the last commit is not written again")
            }
            rewritten => rewritten?,
        }
        Ok(())
    }

    /// Goes on writing to the last segment, unless its header is damaged or sequences were lost at its end.
    fn reuse(&mut self, file: Arc<dyn DiskFile>, last: &Segment, tail: Tail) {
        let Some(created_at) = last
            .created_at
            .filter(|_| self.next_sequence == tail.next_sequence)
        else {
            return;
        };
        let seed = frame_seed(self.meta.log_id, last.number);
        let (written, index) = (tail.end, tail.index);
        self.active = Some(Active {
            file,
            seed,
            created_at,
            written,
            synced: written,
            index,
        });
    }

    /// Walks back from the last segment until the duplicate window is full.
    pub(super) fn recover_seen_ids(&mut self) -> Result<(), LogError> {
        for position in (0..self.segments.len().saturating_sub(1)).rev() {
            let segment = &self.segments[position];
            let youngest = self.segments[position + 1].created_at.unwrap_or(Time(i64::MAX));
            if !self.seen.wants_older(youngest) {
                break;
            }
            let failed = |error| io_error("read", &segment.path, error);
            let file = self.disk.open_read(&segment.path).map_err(failed)?;
            let mut walk = segment.walk(file, self.meta.log_id);
            let (mut ids, room, hasher) = (VecDeque::new(), self.seen.room(), self.seen.hasher());
            while let Some(found) = walk.next().map_err(failed)? {
                let Frame {
                    sequence, stored_at, ..
                } = found.frame;
                ids.push_back((hasher.hash(found.frame.id(&found.bytes)), sequence, stored_at));
                if ids.len() > room {
                    ids.pop_front();
                }
            }
            for (hash, sequence, stored_at) in ids.into_iter().rev() {
                if !self.seen.wants_older(stored_at) {
                    break;
                }
                self.seen.prepend(hash, sequence, stored_at);
            }
        }
        Ok(())
    }
}
