//! Reads a recording: frame by frame, past damage, up to a tear, from a time on, and while it is being written.

use std::io::{Read, Seek, SeekFrom};

use serde::Deserialize;
use watchfold_schemas::Time;

use super::frame::{FrameHeader, HEADER_BYTES, Hash, MARKER, first_hash};
use super::{
    END_MAGIC, FORMAT_VERSION, FrameKind, HEADER_BYTES_MAX, Header, IndexEntry, Item, MAGIC, RecordingError,
    SiteSnapshot,
};

/// Offset of the index, and the magic of the end.
pub(super) const TRAILER_BYTES: u64 = 16;

/// Magic, version, reserved, header length and header checksum.
const PREAMBLE_BYTES: usize = 20;

/// Bytes read at once where the next frame has to be searched for.
const SEARCH_BYTES: usize = 1024 * 1024;

/// How a recording ends, as far as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its index: it was finished.
    Finished,
    /// After a whole frame: it is still being written, or was cut off just there.
    Open { offset: u64 },
    /// Within a frame that begins at `offset`: it is being written now, or was cut off.
    Torn { offset: u64 },
}

/// What one frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub offset: u64,
    pub content: FrameContent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameContent {
    Snapshot(Box<SiteSnapshot>),
    Items(Vec<Item>),
}

/// A recording being read. After an error of damage, reading goes on behind it.
pub struct Reader<R: Read + Seek> {
    file: R,
    header: Header,
    offset: u64,
    /// The hash that the next frame must follow; `None` after damage or a seek.
    before: Option<Hash>,
    ending: Option<Ending>,
    /// The index was read, and only the trailer can follow.
    is_past_index: bool,
}

impl<R: Read + Seek> Reader<R> {
    pub fn open(mut file: R) -> Result<Reader<R>, RecordingError> {
        file.seek(SeekFrom::Start(0))?;
        let (preamble, header) = read_preamble(&mut file)?;
        Ok(Reader {
            file,
            header,
            offset: preamble.len() as u64,
            before: Some(first_hash(&preamble)),
            ending: None,
            is_past_index: false,
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How it ended, once [`Reader::next_frame`] gave `None`.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Where the next frame begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame, or `None` at the end: called again when the file has grown, it goes on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, RecordingError> {
        if self.is_past_index {
            self.ending = Some(self.after_index()?);
            return Ok(None);
        }
        let offset = self.offset;
        let Some((header, header_bytes)) = self.header_at(offset)? else {
            return Ok(None);
        };
        let mut stored = Vec::new();
        let limit = u64::from(header.stored_bytes);
        (&mut self.file).take(limit).read_to_end(&mut stored)?;
        if (stored.len() as u64) < limit {
            self.ending = Some(Ending::Torn { offset });
            return Ok(None);
        }
        let follows = self
            .before
            .is_none_or(|before| header.follows(&before, &header_bytes, &stored));
        let content = header.open(stored).and_then(|content| decode(&header, &content));
        match content {
            // Its checksums hold and its place does not: it is told once, then read.
            Ok(_) if !follows => {
                self.before = None;
                Err(RecordingError::Unchained { offset })
            }
            Ok(content) => {
                self.offset = offset + header.frame_bytes();
                self.before = Some(header.hash);
                self.ending = None;
                match content {
                    Some(content) => Ok(Some(Frame { offset, content })),
                    None => {
                        self.is_past_index = true;
                        self.ending = Some(self.after_index()?);
                        Ok(None)
                    }
                }
            }
            Err(reason) => {
                self.offset = offset + header.frame_bytes();
                self.before = Some(header.hash);
                Err(RecordingError::Damaged { offset, reason })
            }
        }
    }

    /// The frames of the file: from its index, or by walking over their headers where it has none.
    pub fn index(&mut self) -> Result<Vec<IndexEntry>, RecordingError> {
        match self.stored_index()? {
            Some(index) => Ok(index),
            None => self.walk(),
        }
    }

    /// Goes to where reading must begin to know what happened from `time` on: the last snapshots before the first record stored
    /// then or later, or the beginning.
    pub fn seek(&mut self, time: Time) -> Result<(), RecordingError> {
        let index = self.index()?;
        self.seek_in(&index, time);
        Ok(())
    }

    /// The same for who has the index already: that of a large recording takes a while to read.
    pub fn seek_in(&mut self, index: &[IndexEntry], time: Time) {
        let wanted = index
            .iter()
            .position(|entry| entry.kind == FrameKind::Records && entry.last_stored_at >= time)
            .unwrap_or(index.len());
        let is_snapshot = |at: usize| {
            index
                .get(at)
                .is_some_and(|entry| entry.kind == FrameKind::Snapshot)
        };
        let Some(last) = (0..wanted).rev().find(|at| is_snapshot(*at)) else {
            return;
        };
        let first = (0..=last)
            .rev()
            .take_while(|at| is_snapshot(*at))
            .last()
            .unwrap_or(last);
        if first > 0
            && let Some(entry) = index.get(first)
        {
            self.go_to(entry.offset);
        }
    }

    /// Reads on at the frame that begins at `offset`, an entry's of the index; that it follows the one before is not checked.
    pub fn go_to(&mut self, offset: u64) {
        self.offset = offset;
        self.before = None;
        self.ending = None;
        self.is_past_index = false;
    }

    /// The header of the frame at `offset`; `None` at the end, which is noted.
    fn header_at(
        &mut self,
        offset: u64,
    ) -> Result<Option<(FrameHeader, [u8; HEADER_BYTES])>, RecordingError> {
        self.file.seek(SeekFrom::Start(offset))?;
        let mut bytes = [0; HEADER_BYTES];
        let filled = read_full(&mut self.file, &mut bytes)?;
        if filled < HEADER_BYTES {
            self.ending = Some(if filled == 0 {
                Ending::Open { offset }
            } else {
                Ending::Torn { offset }
            });
            return Ok(None);
        }
        if let Some(header) = FrameHeader::parse(&bytes) {
            return Ok(Some((header, bytes)));
        }
        match self.find_frame(offset + 1)? {
            Some(next) => {
                self.offset = next;
                self.before = None;
                Err(RecordingError::Damaged {
                    offset,
                    reason: "its header does not hold".to_owned(),
                })
            }
            None => {
                self.ending = Some(Ending::Torn { offset });
                Ok(None)
            }
        }
    }

    /// The next place from `from` on where a whole header stands.
    fn find_frame(&mut self, from: u64) -> Result<Option<u64>, RecordingError> {
        let mut window = vec![0; SEARCH_BYTES];
        let mut start = from;
        loop {
            self.file.seek(SeekFrom::Start(start))?;
            let filled = read_full(&mut self.file, &mut window)?;
            let candidates = window[..filled].windows(HEADER_BYTES).enumerate();
            let found = candidates
                .filter(|(_, bytes)| bytes.starts_with(&MARKER))
                .find_map(|(at, bytes)| {
                    let bytes: &[u8; HEADER_BYTES] = bytes.try_into().ok()?;
                    FrameHeader::parse(bytes).map(|_| start + at as u64)
                });
            if found.is_some() || filled < SEARCH_BYTES {
                return Ok(found);
            }
            start += (SEARCH_BYTES - HEADER_BYTES + 1) as u64;
        }
    }

    /// An index counts as the end only with the trailer behind it.
    fn after_index(&mut self) -> Result<Ending, RecordingError> {
        self.file.seek(SeekFrom::Start(self.offset))?;
        let mut trailer = [0; TRAILER_BYTES as usize];
        let filled = read_full(&mut self.file, &mut trailer)?;
        let ends = filled == trailer.len() && trailer.ends_with(END_MAGIC);
        Ok(if ends {
            Ending::Finished
        } else {
            Ending::Torn { offset: self.offset }
        })
    }

    fn stored_index(&mut self) -> Result<Option<Vec<IndexEntry>>, RecordingError> {
        let length = self.file.seek(SeekFrom::End(0))?;
        let Some(trailer_at) = length.checked_sub(TRAILER_BYTES) else {
            return Ok(None);
        };
        self.file.seek(SeekFrom::Start(trailer_at))?;
        let mut trailer = [0; TRAILER_BYTES as usize];
        read_full(&mut self.file, &mut trailer)?;
        let Some((offset, magic)) = trailer.split_first_chunk::<8>() else {
            return Ok(None);
        };
        if magic != END_MAGIC {
            return Ok(None);
        }
        self.file
            .seek(SeekFrom::Start(u64::from_le_bytes(*offset).min(length)))?;
        let mut bytes = [0; HEADER_BYTES];
        read_full(&mut self.file, &mut bytes)?;
        let Some(header) = FrameHeader::parse(&bytes).filter(|header| header.kind == FrameKind::Index) else {
            return Ok(None);
        };
        let mut stored = Vec::new();
        (&mut self.file)
            .take(u64::from(header.stored_bytes))
            .read_to_end(&mut stored)?;
        Ok(header
            .open(stored)
            .ok()
            .and_then(|content| rmp_serde::from_slice(&content).ok()))
    }

    fn walk(&mut self) -> Result<Vec<IndexEntry>, RecordingError> {
        let (offset, before, ending) = (self.offset, self.before, self.ending);
        let mut index = Vec::new();
        loop {
            match self.header_at(self.offset) {
                Ok(Some((header, _))) if header.kind != FrameKind::Index => {
                    index.push(header.entry(self.offset));
                    self.offset += header.frame_bytes();
                }
                Ok(_) => break,
                // The offset is behind the damage.
                Err(RecordingError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        (self.offset, self.before, self.ending) = (offset, before, ending);
        Ok(index)
    }
}

fn read_preamble(file: &mut impl Read) -> Result<(Vec<u8>, Header), RecordingError> {
    let mut preamble = vec![0; PREAMBLE_BYTES];
    let filled = read_full(file, &mut preamble)?;
    if filled < MAGIC.len() + 2 || !preamble.starts_with(MAGIC) {
        return Err(RecordingError::NotARecording);
    }
    let number = |at: usize| {
        preamble
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u32::from_le_bytes)
    };
    let found = u16::from_le_bytes([preamble[8], preamble[9]]);
    if found > FORMAT_VERSION {
        return Err(RecordingError::Newer {
            found,
            known: FORMAT_VERSION,
        });
    }
    let (length, crc) = (number(12), number(16));
    if filled < PREAMBLE_BYTES || length as usize > HEADER_BYTES_MAX {
        return Err(RecordingError::Header("it is cut off".to_owned()));
    }
    let mut header = Vec::new();
    file.take(u64::from(length)).read_to_end(&mut header)?;
    if crc32c::crc32c(&header) != crc || header.len() != length as usize {
        return Err(RecordingError::Header("its checksum does not hold".to_owned()));
    }
    let decoded =
        rmp_serde::from_slice(&header).map_err(|error| RecordingError::Header(error.to_string()))?;
    preamble.extend_from_slice(&header);
    Ok((preamble, decoded))
}

/// What a frame holds; `None` for the index.
fn decode(header: &FrameHeader, content: &[u8]) -> Result<Option<FrameContent>, String> {
    let text = |error: rmp_serde::decode::Error| error.to_string();
    match header.kind {
        FrameKind::Index => Ok(None),
        FrameKind::Snapshot => {
            let snapshot = rmp_serde::from_slice(content).map_err(text)?;
            Ok(Some(FrameContent::Snapshot(Box::new(snapshot))))
        }
        FrameKind::Records => {
            let mut items = Vec::new();
            let mut decoder = rmp_serde::Deserializer::from_read_ref(content);
            for _ in 0..header.items {
                items.push(Item::deserialize(&mut decoder).map_err(text)?);
            }
            Ok(Some(FrameContent::Items(items)))
        }
    }
}

/// Fills `buffer` as far as the file reaches.
fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
