//! Whole packets on disk, bounded: the packets of an alert, and those around it, can be had while the ring reaches back.
//!
//! The ring judges nothing and holds nobody up: what the disk does not take in time is left out, and capture goes on.
//! Its files are pcapng; a file that a kill tore gives what stands before.

mod extract;
mod files;

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use watchfold_schemas::packets::CaptureSource;
use watchfold_schemas::{Span, Time};

use crate::pcapng::{self, PacketRecord};
use crate::tap::Raw;

pub use extract::{Kept, Wanted, extract};
use files::RingFile;

/// A full ring loses its oldest file, so each is at most this part of it.
const FILES_PER_RING: u64 = 16;
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Pieces on their way to the disk; what comes while all of them wait is left out.
const PIECES_MAX: usize = 64;

/// The most bytes of packets in one piece; a batch with more loses the rest.
const PIECE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a disk that took nothing is left alone.
const DISK_PAUSE: Duration = Duration::from_secs(10);

/// Packets of one batch, as they stand in the file.
struct Piece {
    incarnation: u64,
    first: u64,
    at: Time,
    source: CaptureSource,
    packets: u64,
    bytes: Vec<u8>,
}

/// Keeps packets; dropping it lets what was committed reach the disk.
pub struct RingWriter {
    sender: Option<SyncSender<Piece>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Mutex<Shared>>,
    source: CaptureSource,
    /// Packets of the batch under way.
    bytes: Vec<u8>,
    first: Option<(u64, Time)>,
    left_out: u64,
    packets: u64,
    /// Pieces sent to the thread.
    sent: u64,
}

#[derive(Default)]
struct Shared {
    /// Why the disk takes nothing.
    disk: Option<String>,
    /// Packets that were left out because of it.
    left_out: u64,
    /// Pieces that were written or given up.
    dealt_with: u64,
}

impl RingWriter {
    /// A ring in this directory, which goes on with what an earlier process left there.
    pub fn start(directory: PathBuf, bytes_max: u64) -> RingWriter {
        let (sender, receiver) = sync_channel(PIECES_MAX);
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let keeper = Keeper {
            directory,
            bytes_max,
            file: None,
            shared: Arc::clone(&shared),
        };
        let thread = thread::Builder::new()
            .name("ring".to_owned())
            .spawn(move || keeper.run(&receiver));
        if let Err(error) = &thread {
            lock(&shared).disk = Some(format!("no packets are kept: no thread for the ring: {error}"));
        }
        RingWriter {
            sender: Some(sender),
            thread: thread.ok(),
            shared,
            source: CaptureSource::default(),
            bytes: Vec::new(),
            first: None,
            left_out: 0,
            packets: 0,
            sent: 0,
        }
    }

    /// What the packets to come are from.
    pub(crate) fn set_source(&mut self, source: &CaptureSource) {
        self.source = source.clone();
    }

    /// Adds a packet of the batch under way.
    pub(crate) fn push(&mut self, number: u64, at: Time, raw: &Raw<'_>) {
        self.first.get_or_insert((number, at));
        self.packets += 1;
        if self.bytes.len() + raw.bytes.len() > PIECE_BYTES_MAX {
            self.left_out += 1;
            return;
        }
        let record = PacketRecord {
            interface: 0,
            number,
            at,
            wire_length: raw.wire_length,
            bytes: raw.bytes,
        };
        pcapng::packet(&mut self.bytes, &record);
    }

    /// The batch is published under this incarnation; without one its packets have no numbers to be found by.
    pub(crate) fn commit(&mut self, incarnation: Option<u64>) {
        let bytes = std::mem::take(&mut self.bytes);
        let (packets, mut left_out) = (
            std::mem::take(&mut self.packets),
            std::mem::take(&mut self.left_out),
        );
        let Some((first, at)) = self.first.take() else {
            return;
        };
        let sent = match (incarnation, &self.sender) {
            (Some(incarnation), Some(sender)) => {
                self.bytes.reserve(bytes.len());
                let source = self.source.clone();
                sender
                    .try_send(Piece {
                        incarnation,
                        first,
                        at,
                        source,
                        packets,
                        bytes,
                    })
                    .is_ok()
            }
            _ => false,
        };
        if sent {
            self.sent += 1;
        } else {
            left_out = packets;
        }
        if left_out > 0 {
            lock(&self.shared).left_out += left_out;
        }
    }

    /// What is wrong, while something is.
    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.shared).disk.clone()
    }

    /// Packets that the disk did not take in time.
    pub fn left_out(&self) -> u64 {
        lock(&self.shared).left_out
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that keeps packets panicked; what it had not written is gone");
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes pieces to files and takes the oldest away.
struct Keeper {
    directory: PathBuf,
    bytes_max: u64,
    file: Option<Writing>,
    shared: Arc<Mutex<Shared>>,
}

/// The file that grows.
struct Writing {
    path: PathBuf,
    file: File,
    incarnation: u64,
    source: CaptureSource,
    /// Up to where it is whole.
    bytes: u64,
}

impl Keeper {
    fn run(mut self, receiver: &Receiver<Piece>) {
        let mut paused: Option<Time> = None;
        while let Ok(piece) = receiver.recv() {
            let is_paused = paused.is_some_and(|since| piece.at.since(since) < PAUSE);
            let written = if is_paused { None } else { Some(self.write(&piece)) };
            let mut shared = lock(&self.shared);
            shared.dealt_with += 1;
            match written {
                Some(Ok(())) => {
                    paused = None;
                    if shared.disk.take().is_some() {
                        tracing::info!(directory = %self.directory.display(), "packets are kept again");
                    }
                    continue;
                }
                Some(Err(error)) => {
                    paused = Some(piece.at);
                    self.file = None;
                    let directory = self.directory.display();
                    let trouble = format!(
                        "no packets are kept: {directory}: {error}; make room or lower ring_mib; capture goes on"
                    );
                    if shared.disk.is_none() {
                        tracing::warn!("{trouble}");
                    }
                    shared.disk = Some(trouble);
                }
                None => {}
            }
            shared.left_out += piece.packets;
        }
    }

    fn write(&mut self, piece: &Piece) -> io::Result<()> {
        let file_bytes_max = (self.bytes_max / FILES_PER_RING).min(FILE_BYTES_MAX);
        let goes_on = self.file.as_ref().is_some_and(|file| {
            file.incarnation == piece.incarnation
                && file.source == piece.source
                && file.bytes < file_bytes_max
        });
        if !goes_on {
            self.file = None;
        }
        self.make_room(piece.bytes.len() as u64)?;
        let writing = match self.file.take() {
            Some(writing) => writing,
            None => self.begin(piece)?,
        };
        let writing = self.file.insert(writing);
        match writing.file.write_all(&piece.bytes) {
            Ok(()) => {
                writing.bytes += piece.bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What was written of it is cut off, so that the file can be read to its end.
                if let Err(error) = writing.file.set_len(writing.bytes) {
                    tracing::warn!(path = %writing.path.display(), %error, "a file of packets ends within one");
                }
                Err(error)
            }
        }
    }

    fn begin(&self, piece: &Piece) -> io::Result<Writing> {
        files::create_private(&self.directory)?;
        let path = self
            .directory
            .join(RingFile::name(piece.incarnation, piece.first, piece.at));
        let mut header = Vec::new();
        pcapng::section(&mut header, "");
        pcapng::interface(&mut header, &piece.source);
        let mut file = File::create(&path)?;
        if let Err(error) = file.write_all(&header) {
            // Else every try on a full disk would leave an empty file.
            drop(file);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a file without packets stays");
            }
            return Err(error);
        }
        Ok(Writing {
            path,
            file,
            incarnation: piece.incarnation,
            source: piece.source.clone(),
            bytes: header.len() as u64,
        })
    }

    /// The oldest files go until so much more fits.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut files = files::list(&self.directory)?;
        let mut kept: u64 = files.iter().map(|file| file.bytes).sum();
        let current = self.file.as_ref().map(|writing| &writing.path);
        while kept + bytes > self.bytes_max && !files.is_empty() {
            let oldest = files.remove(0);
            if Some(&oldest.path) == current {
                continue;
            }
            std::fs::remove_file(&oldest.path)?;
            kept -= oldest.bytes;
        }
        Ok(())
    }
}

/// [`DISK_PAUSE`] in the time of packets.
const PAUSE: Span = Span(DISK_PAUSE.as_nanos() as i64);

#[cfg(test)]
mod tests;
