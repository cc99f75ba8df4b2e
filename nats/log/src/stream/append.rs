//! What an append does to a stream: gives the messages their places, drops duplicates, completes the frames and writes
//! them in one go, or takes all of it back.

use watchfold_schemas::Time;

use super::StreamStore;
use crate::disk::{io_error, write_all_at};
use crate::frame::complete_frame;
use crate::index::Index;
use crate::prepared::{Placed, Prepared, PreparedMessage};
use crate::{Ack, Append, LogError};

/// Bytes of the buffer that stay allocated between the appends of a busy stream: what one write takes at once.
const BUFFER_BYTES_KEPT: usize = 4 * 1024 * 1024;

/// Frames that are being given their places.
struct Places {
    seed: u32,
    /// Where the buffer's first byte will stand in the segment.
    offset: u64,
    next_sequence: u64,
    stored_at: Time,
    first_of_commit: bool,
    index: Index,
}

impl StreamStore {
    /// Writes the messages in order. They are durable, and their acks true, only after the next [`StreamStore::sync`].
    /// On an error none of them is in the log; what was written before them still is.
    pub fn append(&mut self, messages: &[Append], now: Time) -> Result<Vec<Ack>, LogError> {
        let part = Prepared::new(&self.seen.hasher(), messages)?;
        let placed = self.append_parts(vec![part], now)?;
        Ok(placed.iter().flat_map(Placed::acks).collect())
    }

    /// The same for what several appenders prepared, all of it or none.
    pub(crate) fn append_parts(&mut self, parts: Vec<Prepared>, now: Time) -> Result<Vec<Placed>, LogError> {
        self.refuse_if_stopped()?;
        if self.active_is_full(now) {
            self.seal()?;
        }
        if self.active.is_none() && parts.iter().any(|part| !part.messages.is_empty()) {
            self.start_segment(now)?;
        }
        let Some(active) = &self.active else {
            return Ok(vec![Placed::default(); parts.len()]);
        };
        let mut places = Places {
            seed: active.seed,
            offset: active.written,
            next_sequence: self.next_sequence,
            stored_at: now,
            first_of_commit: !active.is_dirty(),
            index: Index::default(),
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut placed = Vec::with_capacity(parts.len());
        for part in parts {
            placed.push(self.place(&mut buffer, part, &mut places));
        }
        let written = self.write(&buffer);
        buffer.clear();
        buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.buffer = buffer;
        if let Err(error) = written {
            self.seen.forget_from(self.next_sequence);
            return Err(error);
        }
        if places.next_sequence > self.next_sequence {
            self.next_sequence = places.next_sequence;
            self.last_stored_at = Some(now);
        }
        if let Some(active) = &mut self.active {
            for entry in places.index.entries {
                active.index.note(entry.sequence, entry.offset, entry.stored_at);
            }
        }
        Ok(placed)
    }

    /// Moves one appender's frames to the end of the buffer, completed, without those that the log has already.
    fn place(&mut self, buffer: &mut Vec<u8>, part: Prepared, places: &mut Places) -> Placed {
        let mut placed = Placed {
            first_sequence: places.next_sequence,
            count: part.messages.len(),
            duplicates: Vec::new(),
        };
        let mut to = buffer.len();
        let mut from = to;
        buffer.extend_from_slice(&part.frames);
        for (position, message) in part.messages.iter().enumerate() {
            let PreparedMessage { id_hash, bytes } = *message;
            let frame = from..from + bytes as usize;
            from = frame.end;
            if let Some(sequence) = self.seen.place(id_hash) {
                placed.duplicates.push((position, sequence));
                continue;
            }
            if frame.start != to {
                buffer.copy_within(frame.clone(), to);
            }
            let frame = &mut buffer[to..to + frame.len()];
            let Places { seed, stored_at, .. } = *places;
            places
                .index
                .note(places.next_sequence, places.offset + to as u64, stored_at);
            complete_frame(
                frame,
                seed,
                places.next_sequence,
                stored_at,
                places.first_of_commit,
            );
            self.seen.insert(id_hash, places.next_sequence, stored_at);
            to += frame.len();
            places.next_sequence += 1;
            places.first_of_commit = false;
        }
        buffer.truncate(to);
        placed
    }

    fn write(&mut self, buffer: &[u8]) -> Result<(), LogError> {
        if buffer.is_empty() {
            return Ok(());
        }
        self.make_room(buffer.len() as u64)?;
        let path = self.active_path();
        let Some(active) = &mut self.active else {
            return Err(LogError::Closed);
        };
        let Err(error) = write_all_at(active.file.as_ref(), active.written, buffer) else {
            active.written += buffer.len() as u64;
            return Ok(());
        };
        // Whole frames of a refused append may have been written. They must be gone for certain before others take
        // their place, else a crash could bring back a mixture; this also syncs what was written before them.
        let cut = active
            .file
            .set_len(active.written)
            .and_then(|()| active.file.sync());
        match cut {
            Ok(()) => {
                active.synced = active.written;
                self.publish();
                Err(io_error("write", &path, error))
            }
            Err(cut) => Err(self.stop("cut back", cut)),
        }
    }
}
