//! Writes a recording, appending only: each frame is handed to the file whole, so a reader may follow it.

use std::io::Write;

use watchfold_schemas::Time;

use super::frame::{Draft, Hash, first_hash};
use super::{
    BLOCK_BYTES, END_MAGIC, FORMAT_VERSION, FrameKind, HEADER_BYTES_MAX, Header, INDEX_ENTRIES_MAX,
    IndexEntry, Item, MAGIC, RecordStream, RecordingError, SNAPSHOT_DISTANCE, SNAPSHOT_EVERY_BYTES,
    SiteSnapshot,
};

/// An unfinished recording. Dropping it leaves a file without an index, which can be read.
pub struct Writer<W: Write> {
    out: W,
    offset: u64,
    hash: Hash,
    index: Vec<IndexEntry>,
    /// The length at which the index is thinned at first, and next.
    index_max: usize,
    thinned_at: usize,
    frames: u64,
    batch: Batch,
    records: u64,
    /// Content since the last set of snapshots, and of that set.
    records_bytes: u64,
    snapshots_bytes: u64,
}

/// What became of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished<W> {
    pub out: W,
    pub bytes: u64,
    pub frames: u64,
    pub records: u64,
    /// The hash of the last frame, as 64 hexadecimal digits: it stands for the whole file.
    pub hash: String,
}

/// Items on their way into a frame.
#[derive(Default)]
struct Batch {
    content: Vec<u8>,
    items: u32,
    sequences: (u64, u64),
    stored_at: Option<(Time, Time)>,
}

impl<W: Write> Writer<W> {
    pub fn new(mut out: W, header: &Header) -> Result<Writer<W>, RecordingError> {
        let header = rmp_serde::to_vec_named(header)?;
        let length = u32::try_from(header.len())
            .ok()
            .filter(|length| *length as usize <= HEADER_BYTES_MAX);
        let length = length.ok_or(RecordingError::TooLarge { bytes: header.len() })?;
        let mut preamble = MAGIC.to_vec();
        preamble.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        preamble.extend_from_slice(&[0, 0]);
        preamble.extend_from_slice(&length.to_le_bytes());
        preamble.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        preamble.extend_from_slice(&header);
        out.write_all(&preamble)?;
        Ok(Writer {
            out,
            offset: preamble.len() as u64,
            hash: first_hash(&preamble),
            index: Vec::new(),
            index_max: INDEX_ENTRIES_MAX,
            thinned_at: INDEX_ENTRIES_MAX,
            frames: 0,
            batch: Batch::default(),
            records: 0,
            records_bytes: 0,
            snapshots_bytes: 0,
        })
    }

    /// Appends an item; a frame is written when enough of them have come together.
    pub fn push(&mut self, item: &Item) -> Result<(), RecordingError> {
        rmp_serde::encode::write_named(&mut self.batch.content, item)?;
        self.batch.items += 1;
        if let Item::Record(record) = item {
            self.records += 1;
            let at = record.stored_at;
            self.batch.stored_at = Some(
                self.batch
                    .stored_at
                    .map_or((at, at), |(first, last)| (first.min(at), last.max(at))),
            );
            if record.stream == RecordStream::Observations {
                if self.batch.sequences.0 == 0 {
                    self.batch.sequences.0 = record.sequence;
                }
                self.batch.sequences.1 = record.sequence;
            }
        }
        if self.batch.content.len() >= BLOCK_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Bytes handed to the file so far.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// Writes what has come together, for whoever follows the file.
    pub fn flush(&mut self) -> Result<(), RecordingError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.items == 0 {
            return Ok(());
        }
        let last = self.last_stored_at();
        self.records_bytes += batch.content.len() as u64;
        self.frame(&Draft {
            kind: FrameKind::Records,
            content: &batch.content,
            items: batch.items,
            sequences: batch.sequences,
            stored_at: batch.stored_at.unwrap_or((last, last)),
        })
    }

    /// Whether enough has come since the last set of snapshots for another one to be worth its bytes.
    pub fn is_snapshot_due(&self) -> bool {
        self.records_bytes >= SNAPSHOT_EVERY_BYTES.max(SNAPSHOT_DISTANCE * self.snapshots_bytes)
    }

    /// Appends the state of one site's chain as it is after the records so far.
    pub fn snapshot(&mut self, snapshot: &SiteSnapshot) -> Result<(), RecordingError> {
        self.flush()?;
        let last = self.last_stored_at();
        let content = rmp_serde::to_vec_named(snapshot)?;
        if std::mem::take(&mut self.records_bytes) > 0 {
            self.snapshots_bytes = 0;
        }
        self.snapshots_bytes += content.len() as u64;
        self.frame(&Draft {
            kind: FrameKind::Snapshot,
            content: &content,
            items: 1,
            sequences: (0, 0),
            stored_at: (last, last),
        })
    }

    /// Writes the index. The caller makes the file durable.
    pub fn finish(mut self) -> Result<Finished<W>, RecordingError> {
        self.flush()?;
        let index_offset = self.offset;
        let frames = self.frames;
        let last = self.last_stored_at();
        let draft = Draft {
            kind: FrameKind::Index,
            content: &rmp_serde::to_vec_named(&self.index)?,
            items: u32::try_from(self.index.len()).unwrap_or(u32::MAX),
            sequences: (0, 0),
            stored_at: (last, last),
        };
        self.frame(&draft)?;
        self.out.write_all(&index_offset.to_le_bytes())?;
        self.out.write_all(END_MAGIC)?;
        self.out.flush()?;
        Ok(Finished {
            out: self.out,
            bytes: self.offset + super::reader::TRAILER_BYTES,
            frames,
            records: self.records,
            hash: self.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    fn last_stored_at(&self) -> Time {
        self.index
            .last()
            .map_or(Time(i64::MIN), |entry| entry.last_stored_at)
    }

    fn frame(&mut self, draft: &Draft<'_>) -> Result<(), RecordingError> {
        let (bytes, hash) = draft.seal(&self.hash)?;
        self.out.write_all(&bytes)?;
        self.out.flush()?;
        self.index.push(IndexEntry {
            offset: self.offset,
            kind: draft.kind,
            first_sequence: draft.sequences.0,
            last_sequence: draft.sequences.1,
            first_stored_at: draft.stored_at.0,
            last_stored_at: draft.stored_at.1,
        });
        self.frames += 1;
        self.offset += bytes.len() as u64;
        self.hash = hash;
        if self.index.len() >= self.thinned_at {
            tracing::warn!(
                entries = self.index.len(),
                "the recording is very long: its index leaves out frames of records from now on"
            );
            self.index = thin(&self.index);
            // What cannot be left out may be most of it; then it is looked at again when a quarter of the limit has come.
            self.thinned_at = self.index_max.max(self.index.len() + self.index_max / 4);
        }
        Ok(())
    }
}

/// Every other frame of records goes into the entry of the next one. Snapshots stay, and so do the first and the last frame
/// between two of them: whoever looks for a time finds the same snapshot as before.
fn thin(index: &[IndexEntry]) -> Vec<IndexEntry> {
    let is_records = |entry: &IndexEntry| entry.kind == FrameKind::Records;
    let mut kept: Vec<IndexEntry> = Vec::new();
    let mut left_out: Option<IndexEntry> = None;
    for (at, entry) in index.iter().enumerate() {
        let follows_kept = left_out.is_none() && kept.last().is_some_and(is_records);
        let next = index.get(at + 1).filter(|next| is_records(next));
        // The last observations are looked for in the last entry that has any.
        let is_continued = next.is_some_and(|next| next.last_sequence > 0 || entry.last_sequence == 0);
        if is_records(entry) && follows_kept && is_continued {
            left_out = Some(*entry);
            continue;
        }
        kept.push(match left_out.take() {
            Some(before) => joined(before, *entry),
            None => *entry,
        });
    }
    kept
}

fn joined(before: IndexEntry, entry: IndexEntry) -> IndexEntry {
    IndexEntry {
        first_sequence: match before.first_sequence {
            0 => entry.first_sequence,
            first => first,
        },
        first_stored_at: before.first_stored_at.min(entry.first_stored_at),
        last_stored_at: before.last_stored_at.max(entry.last_stored_at),
        ..entry
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::{Reader, StoredRecord};
    use super::*;

    const FRAMES: u64 = 3_000;

    fn record(sequence: u64) -> Item {
        Item::Record(StoredRecord {
            stream: RecordStream::Observations,
            sequence,
            stored_at: Time::from_seconds(sequence as i64),
            id: format!("one/{sequence}"),
            subject: "wf.obs".to_owned(),
            payload: vec![7; 16],
        })
    }

    /// A frame for each record, and a snapshot after every 250.
    fn recorded(index_max: usize) -> (Finished<Vec<u8>>, Vec<IndexEntry>) {
        let mut writer = Writer::new(Vec::new(), &Header::default()).unwrap();
        (writer.index_max, writer.thinned_at) = (index_max, index_max);
        for sequence in 1..=FRAMES {
            if sequence % 250 == 1 {
                let snapshot = SiteSnapshot {
                    chain: watchfold_schemas::Chain::Site,
                    site: "one".to_owned(),
                    sequence: sequence - 1,
                    versions: Vec::new(),
                    entries: Vec::new(),
                    collectors: Vec::new(),
                };
                writer.snapshot(&snapshot).unwrap();
            }
            writer.push(&record(sequence)).unwrap();
            writer.flush().unwrap();
        }
        let finished = writer.finish().unwrap();
        let index = Reader::open(Cursor::new(&finished.out)).unwrap().index().unwrap();
        (finished, index)
    }

    #[test]
    fn the_index_of_a_long_recording_stays_small_and_finds_the_same() {
        let (whole, all) = recorded(INDEX_ENTRIES_MAX);
        let (thinned, few) = recorded(64);
        assert_eq!(all.len() as u64, whole.frames);
        assert_eq!(thinned.frames, whole.frames);
        assert!(few.len() <= 96, "{}", few.len());
        let snapshots = |index: &[IndexEntry]| -> Vec<u64> {
            let snapshots = index.iter().filter(|entry| entry.kind == FrameKind::Snapshot);
            snapshots.map(|entry| entry.offset).collect()
        };
        assert_eq!(snapshots(&few), snapshots(&all));
        let ends = |index: &[IndexEntry]| {
            let mut records = index.iter().filter(|entry| entry.kind == FrameKind::Records);
            (
                records.next().copied(),
                records.next_back().map(|last| last.offset),
            )
        };
        assert_eq!(ends(&few), ends(&all));
        for second in [0, 1, 250, 251, 252, 777, 1_499, 2_750, 2_751, 3_000, 3_001] {
            let found = |file: &[u8], index: &[IndexEntry]| {
                let mut reader = Reader::open(Cursor::new(file.to_vec())).unwrap();
                reader.seek_in(index, Time::from_seconds(second));
                reader.offset()
            };
            assert_eq!(found(&thinned.out, &few), found(&whole.out, &all), "{second} s");
        }
    }
}
