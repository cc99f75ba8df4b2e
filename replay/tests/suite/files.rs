//! The file itself: what is written is read, while it grows, past damage and up to a tear; garbage never panics.

use std::io::Cursor;

use proptest::prelude::*;
use watchfold_replay::recording::{
    Ending, FORMAT_VERSION, Frame, FrameContent, FrameKind, Header, Item, Reader, RecordStream,
    RecordingError, SiteSnapshot, StoredRecord, Writer,
};
use watchfold_schemas::Time;
use watchfold_schemas::snapshot::{CollectorPosition, FoldVersion, StateEntry};

fn header() -> Header {
    Header {
        v: FORMAT_VERSION,
        software: "0.1.0".into(),
        sites: vec!["cafe-1".into()],
        ..Header::default()
    }
}

fn item(sequence: u64) -> Item {
    Item::Record(StoredRecord {
        stream: if sequence.is_multiple_of(5) {
            RecordStream::Events
        } else {
            RecordStream::Observations
        },
        sequence,
        stored_at: Time(sequence as i64 * 1_000),
        id: format!("cafe-1/ping/1/{sequence}"),
        subject: "wf.obs.cafe-1.quiet.ping".into(),
        payload: (0..sequence % 300).map(|byte| (byte * sequence) as u8).collect(),
    })
}

fn snapshot() -> SiteSnapshot {
    SiteSnapshot {
        site: "cafe-1".into(),
        chain: watchfold_schemas::Chain::Site,
        sequence: 9,
        versions: vec![FoldVersion {
            fold: "chain".into(),
            version: 1,
        }],
        entries: vec![StateEntry {
            key: b"key".to_vec(),
            value: vec![7; 3_000],
        }],
        collectors: vec![CollectorPosition {
            collector: "ping".into(),
            incarnation: 1,
            number: 9,
            sequence: 9,
        }],
    }
}

/// Three frames of ten items each, a snapshot before them; the offsets of the frames.
fn sample() -> (Vec<u8>, Vec<u64>) {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    writer.snapshot(&snapshot()).unwrap();
    for sequence in 1..=30 {
        writer.push(&item(sequence)).unwrap();
        if sequence.is_multiple_of(10) {
            writer.flush().unwrap();
        }
    }
    let bytes = writer.finish().unwrap().out;
    let index = Reader::open(Cursor::new(&bytes)).unwrap().index().unwrap();
    assert_eq!(index.len(), 4);
    (bytes, index.iter().map(|entry| entry.offset).collect())
}

/// Everything that can be read, and what was wrong.
fn read(bytes: &[u8]) -> (Vec<Item>, Vec<RecordingError>, Option<Ending>) {
    let mut reader = Reader::open(Cursor::new(bytes)).unwrap();
    let (mut items, mut errors) = (Vec::new(), Vec::new());
    loop {
        match reader.next_frame() {
            Ok(Some(Frame {
                content: FrameContent::Items(more),
                ..
            })) => items.extend(more),
            Ok(Some(Frame {
                content: FrameContent::Snapshot(found),
                ..
            })) => assert_eq!(*found, snapshot()),
            Ok(None) => return (items, errors, reader.ending()),
            Err(error) => errors.push(error),
        }
    }
}

fn items(sequences: impl Iterator<Item = u64>) -> Vec<Item> {
    sequences.map(item).collect()
}

#[test]
fn what_was_written_is_read() {
    let (bytes, _) = sample();
    let (found, errors, ending) = read(&bytes);
    assert_eq!(found, items(1..=30));
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(ending, Some(Ending::Finished));
}

#[test]
fn a_file_that_grows_is_followed_byte_by_byte() {
    let (bytes, frames) = sample();
    let grown = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let first = frames[0] as usize;
    grown.borrow_mut().extend_from_slice(&bytes[..first]);
    let mut reader = Reader::open(Growing {
        content: grown.clone(),
        at: 0,
    })
    .unwrap();
    let mut found = Vec::new();
    for byte in &bytes[first..] {
        grown.borrow_mut().push(*byte);
        while let Some(frame) = reader.next_frame().unwrap() {
            if let FrameContent::Items(items) = frame.content {
                found.extend(items);
            }
        }
    }
    assert_eq!(found, items(1..=30));
    assert_eq!(reader.ending(), Some(Ending::Finished));
}

#[test]
fn cut_at_any_byte_it_is_read_up_to_the_tear() {
    let (bytes, frames) = sample();
    for length in frames[0] as usize..bytes.len() {
        let (found, errors, ending) = read(&bytes[..length]);
        let whole = frames
            .iter()
            .skip(2)
            .filter(|frame| **frame <= length as u64)
            .count() as u64;
        // The index follows the last frame of records; its offset stands in the trailer.
        let index_at = u64::from_le_bytes(bytes[bytes.len() - 16..bytes.len() - 8].try_into().unwrap());
        let whole = whole + u64::from(length as u64 >= index_at);
        assert_eq!(found, items(1..=whole * 10), "cut at {length}");
        assert!(errors.is_empty(), "cut at {length}: {errors:?}");
        match ending {
            Some(Ending::Torn { offset } | Ending::Open { offset }) => assert!(offset <= length as u64),
            other => panic!("cut at {length}: {other:?}"),
        }
    }
}

#[test]
fn a_flipped_bit_costs_at_most_its_frame() {
    let (bytes, frames) = sample();
    let index_at = u64::from_le_bytes(bytes[bytes.len() - 16..bytes.len() - 8].try_into().unwrap());
    for at in frames[1] as usize..index_at as usize {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let (found, errors, _) = read(&damaged);
        let hurt = frames.iter().rposition(|frame| *frame <= at as u64).unwrap() as u64;
        let kept = items((1..=30).filter(|sequence| (sequence - 1) / 10 + 1 != hurt));
        assert_eq!(found, kept, "bit flipped at {at}");
        let [RecordingError::Damaged { offset, .. }] = &errors[..] else {
            panic!("{at}: {errors:?}")
        };
        assert_eq!(*offset, frames[hurt as usize], "bit flipped at {at}");
    }
}

#[test]
fn a_frame_left_out_or_moved_is_told_and_the_rest_is_read() {
    let (bytes, frames) = sample();
    let part = |from: u64, to: u64| &bytes[from as usize..to as usize];
    let index_at = u64::from_le_bytes(bytes[bytes.len() - 16..bytes.len() - 8].try_into().unwrap());
    let left_out = [part(0, frames[2]), part(frames[3], bytes.len() as u64)].concat();
    let (found, errors, _) = read(&left_out);
    assert_eq!(found, items((1..=10).chain(21..=30)));
    let [RecordingError::Unchained { offset }] = &errors[..] else {
        panic!("{errors:?}")
    };
    assert_eq!(*offset, frames[2]);
    let moved = [
        part(0, frames[2]),
        part(frames[3], index_at),
        part(frames[2], frames[3]),
        part(index_at, bytes.len() as u64),
    ];
    let (found, errors, _) = read(&moved.concat());
    assert_eq!(found.len(), 30);
    assert!(
        errors
            .iter()
            .all(|error| matches!(error, RecordingError::Unchained { .. }))
            && errors.len() == 3
    );
}

#[test]
fn a_newer_format_names_the_version_needed() {
    let (mut bytes, _) = sample();
    bytes[8] = FORMAT_VERSION as u8 + 1;
    let error = Reader::open(Cursor::new(bytes)).err().unwrap();
    assert!(
        matches!(error, RecordingError::Newer { found: 2, known: 1 }),
        "{error}"
    );
    assert!(error.to_string().contains("upgrade"), "{error}");
}

#[test]
fn a_damaged_header_is_an_error() {
    let (bytes, frames) = sample();
    for at in 10..frames[0] as usize {
        // Two bytes behind the version are reserved.
        if (10..12).contains(&at) {
            continue;
        }
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        let error = Reader::open(Cursor::new(damaged)).err();
        assert!(
            matches!(error, Some(RecordingError::Header(_))),
            "{at}: {error:?}"
        );
    }
    for other in [&b""[..], b"\x89WF", b"hello, this is no recording"] {
        assert!(matches!(
            Reader::open(Cursor::new(other)).err(),
            Some(RecordingError::NotARecording)
        ));
    }
}

#[test]
fn seeking_goes_to_the_snapshot_before() {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    for sequence in 1..=100 {
        if sequence % 20 == 1 {
            writer
                .snapshot(&SiteSnapshot {
                    sequence: sequence - 1,
                    ..snapshot()
                })
                .unwrap();
        }
        writer.push(&item(sequence)).unwrap();
        if sequence.is_multiple_of(5) {
            writer.flush().unwrap();
        }
    }
    let finished = writer.finish().unwrap().out;
    let index = Reader::open(Cursor::new(&finished)).unwrap().index().unwrap();
    assert_eq!(
        index
            .iter()
            .filter(|entry| entry.kind == FrameKind::Snapshot)
            .count(),
        5
    );
    // Without its index it is walked, and seeks alike.
    let unfinished = &finished[..finished.len() - 1];
    assert_eq!(
        Reader::open(Cursor::new(unfinished)).unwrap().index().unwrap(),
        index
    );
    for (time, want) in [
        (0, 0),
        (1_000, 0),
        (20_000, 0),
        (20_500, 20),
        (61_000, 60),
        (99_999, 80),
        (1_000_000, 80),
    ] {
        for bytes in [&finished[..], unfinished] {
            let mut reader = Reader::open(Cursor::new(bytes)).unwrap();
            reader.seek(Time(time)).unwrap();
            let frame = reader.next_frame().unwrap().unwrap();
            let FrameContent::Snapshot(found) = frame.content else {
                panic!("{frame:?}")
            };
            assert_eq!(found.sequence, want, "seeking {time}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(
        edits in prop::collection::vec((0.0f64..1.0, any::<u8>()), 0..20),
        cut in 0.0f64..1.2,
        inserted in prop::collection::vec(any::<u8>(), 0..300),
        at in 0.0f64..1.0,
    ) {
        let (mut bytes, _) = sample();
        for (at, byte) in edits {
            let at = (at * bytes.len() as f64) as usize;
            bytes[at] = byte;
        }
        let at = (at * bytes.len() as f64) as usize;
        bytes.splice(at..at, inserted);
        bytes.truncate((cut * bytes.len() as f64) as usize);
        if let Ok(mut reader) = Reader::open(Cursor::new(&bytes)) {
            drop(reader.index());
            drop(reader.seek(Time(15_000)));
            // Every call goes forward, or the file ends.
            let mut calls = 0;
            while !matches!(reader.next_frame(), Ok(None)) {
                calls += 1;
                prop_assert!(calls <= bytes.len(), "reading does not end");
            }
        }
    }
}

/// A file that somebody else appends to.
struct Growing {
    content: std::rc::Rc<std::cell::RefCell<Vec<u8>>>,
    at: u64,
}

impl std::io::Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let content = self.content.borrow();
        let rest = content.get(self.at as usize..).unwrap_or_default();
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.at += taken as u64;
        Ok(taken)
    }
}

impl std::io::Seek for Growing {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            std::io::SeekFrom::Start(at) => at,
            std::io::SeekFrom::End(by) => (self.content.borrow().len() as i64 + by) as u64,
            std::io::SeekFrom::Current(by) => (self.at as i64 + by) as u64,
        };
        Ok(self.at)
    }
}
