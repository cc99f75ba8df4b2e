//! Files that changed behind the log's back: cut anywhere, any byte flipped, files missing or foreign.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use watchfold_log::{LogError, Record, StreamFiles, StreamOptions, stat, verify};

use crate::{GIB, OBS, open_store, segments, tick, write_commits};

const PLAIN: StreamOptions = StreamOptions::new(GIB, None);

/// Everything that reads, and the sequences told lost.
fn read_all(dir: &Path) -> (Vec<Record>, Vec<u64>) {
    let mut files = StreamFiles::open(dir, OBS).unwrap().unwrap();
    let (mut records, mut lost) = (Vec::new(), Vec::new());
    loop {
        let batch = files.next(3).unwrap();
        if batch.records.is_empty() && batch.lost.is_none() {
            return (records, lost);
        }
        lost.extend(batch.lost.into_iter().flat_map(|lost| lost.from..=lost.to));
        records.extend(batch.records);
    }
}

fn sequences(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.sequence).collect()
}

/// No record is wrong, and the numbers agree with what is read.
fn check_records(records: &[Record], what: &str) {
    for record in records {
        let want = tick(record.sequence);
        let same = (&record.id, &record.subject, &record.payload) == (&want.id, &want.subject, &want.payload);
        assert!(same, "{what}: a wrong record {record:?}");
    }
    assert!(records.is_sorted_by(|a, b| a.sequence < b.sequence), "{what}");
}

#[test]
fn a_tail_cut_at_any_byte_loses_the_last_record_only() {
    let root = tempfile::tempdir().unwrap();
    write_commits(root.path(), PLAIN, &[3, 1]);
    let path = segments(root.path()).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let last_bytes = 28 + tick(4).id.0.len() + tick(4).subject.len() + tick(4).payload.len();
    for cut in 0..last_bytes {
        fs::write(&path, &whole[..whole.len() - last_bytes + cut]).unwrap();
        let (records, lost) = read_all(root.path());
        assert_eq!(
            (sequences(&records), lost),
            (vec![1, 2, 3], vec![]),
            "cut at {cut}"
        );
        assert_eq!(
            verify(root.path()).unwrap().streams[0].torn_tail_bytes,
            cut as u64
        );
        let mut store = open_store(root.path(), PLAIN);
        let acks = store.append(&[tick(4)], watchfold_schemas::Time(1)).unwrap();
        assert_eq!(acks[0].sequence, 4);
        store.sync().unwrap();
        check_records(&read_all(root.path()).0, "after the cut");
        assert_eq!(read_all(root.path()).0.len(), 4);
    }
}

/// Each byte of a log of several commits and segments, flipped in turn: nothing panics, nothing wrong is read, at most
/// the records whose bytes were hit are gone (and what stood behind them in the very last commit).
#[test]
fn any_flipped_byte_is_noticed_and_hurts_little() {
    let root = tempfile::tempdir().unwrap();
    let small = StreamOptions {
        segment_bytes: 300,
        ..PLAIN
    };
    write_commits(root.path(), small, &[2, 2, 3, 1, 2]);
    let mut hurt = BTreeMap::new();
    for path in segments(root.path()) {
        let whole = fs::read(&path).unwrap();
        let is_last = Some(&path) == segments(root.path()).last();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            fs::write(&path, &changed).unwrap();
            let what = format!("{} byte {at}", path.display());
            let opened = StreamFiles::open(root.path(), OBS);
            if let Err(error) = opened {
                assert!(at < 64, "{what}: {error}");
                continue;
            }
            let (records, lost) = read_all(root.path());
            check_records(&records, &what);
            assert!(
                at < 64 || records.len() < 10,
                "{what}: the damage was not noticed"
            );
            assert!(is_last || lost.len() <= 1, "{what}: lost {lost:?}");
            assert!(
                is_last || records.len() + lost.len() == 10,
                "{what}: {} and {lost:?}",
                records.len()
            );
            assert!(!is_last || records.len() >= 8, "{what}: {} left", records.len());
            *hurt.entry(records.len()).or_insert(0) += 1;
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(hurt.contains_key(&9), "{hurt:?}");
    assert_eq!(read_all(root.path()).0.len(), 10);
}

#[test]
fn damage_in_the_middle_is_skipped_counted_and_told() {
    let root = tempfile::tempdir().unwrap();
    write_commits(root.path(), PLAIN, &[2, 2, 2]);
    let path = segments(root.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes
        .windows(9)
        .position(|window| window == b"payload 3")
        .unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (records, lost) = read_all(root.path());
    assert_eq!((sequences(&records), lost), (vec![1, 2, 4, 5, 6], vec![3]));
    let report = verify(root.path()).unwrap();
    assert!(!report.is_whole());
    assert_eq!((report.streams[0].records, report.streams[0].damaged), (5, 1));
    assert_eq!(stat(root.path()).unwrap().streams[0].damaged, 1);
    let mut store = open_store(root.path(), PLAIN);
    assert_eq!(store.damage().records(), 1);
    let acks = store.append(&[tick(7)], watchfold_schemas::Time(1)).unwrap();
    assert_eq!(acks[0].sequence, 7, "nothing behind the damage was cut");
}

#[test]
fn a_clean_end_vouches_for_its_last_commit() {
    let root = tempfile::tempdir().unwrap();
    write_commits(root.path(), PLAIN, &[3]);
    open_store(root.path(), PLAIN).close().unwrap();
    let path = segments(root.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes
        .windows(9)
        .position(|window| window == b"payload 2")
        .unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(
        (sequences(&read_all(root.path()).0), read_all(root.path()).1),
        (vec![1, 3], vec![2])
    );
    fs::write(&path, &bytes[..64]).unwrap();
    let mut store = open_store(root.path(), PLAIN);
    let acks = store.append(&[tick(4)], watchfold_schemas::Time(1)).unwrap();
    assert_eq!(
        acks[0].sequence, 4,
        "sequences never go back though the whole tail is gone"
    );
    store.sync().unwrap();
    assert_eq!(
        (sequences(&read_all(root.path()).0), read_all(root.path()).1),
        (vec![4], vec![1, 2, 3])
    );
}

/// A frame inside a payload must not be taken for one of the log's, even when the frame around it is damaged.
#[test]
fn a_log_inside_a_payload_stays_a_payload() {
    let root = tempfile::tempdir().unwrap();
    let inner = tempfile::tempdir().unwrap();
    write_commits(inner.path(), PLAIN, &[1, 1, 1, 1]);
    let nested = fs::read(segments(inner.path()).pop().unwrap()).unwrap();
    let outer = |number| watchfold_log::contract::message(OBS, "wf.obs.s.x.y", number, nested.clone());
    let store = watchfold_log::stream::StreamStore::open(
        std::sync::Arc::new(watchfold_log::disk::RealDisk),
        &root.path().join(OBS.name()),
        PLAIN,
        [8; 16],
    );
    let mut store = store.unwrap();
    for number in 1..=3 {
        store
            .append(&[outer(number)], watchfold_schemas::Time(number as i64))
            .unwrap();
        store.sync().unwrap();
    }
    drop(store);
    let path = segments(root.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[64 + 24] ^= 2;
    fs::write(&path, &bytes).unwrap();
    let (records, lost) = read_all(root.path());
    assert_eq!((sequences(&records), lost), (vec![2, 3], vec![1]));
    assert!(records.iter().all(|record| record.payload == nested));
}

#[test]
fn a_missing_segment_is_a_loss_told_and_a_missing_old_one_is_nothing() {
    let root = tempfile::tempdir().unwrap();
    let small = StreamOptions {
        segment_bytes: 1,
        ..PLAIN
    };
    write_commits(root.path(), small, &[1, 1, 1, 1]);
    let paths = segments(root.path());
    fs::remove_file(&paths[0]).unwrap();
    assert_eq!(
        (sequences(&read_all(root.path()).0), read_all(root.path()).1),
        (vec![2, 3, 4], vec![])
    );
    fs::remove_file(&paths[2]).unwrap();
    assert_eq!(
        (sequences(&read_all(root.path()).0), read_all(root.path()).1),
        (vec![2, 4], vec![3])
    );
    let mut store = open_store(root.path(), small);
    assert_eq!(
        store.append(&[tick(5)], watchfold_schemas::Time(1)).unwrap()[0].sequence,
        5
    );
}

#[test]
fn a_damaged_stream_file_is_made_again_and_a_foreign_segment_refused() {
    let root = tempfile::tempdir().unwrap();
    write_commits(root.path(), PLAIN, &[3]);
    let meta = root.path().join(OBS.name()).join("stream");
    for content in [&b"garbage"[..], b"", &[0; 56]] {
        fs::write(&meta, content).unwrap();
        let store = open_store(root.path(), PLAIN);
        assert_eq!(store.log_id(), [7; 16]);
        assert_eq!(read_all(root.path()).0.len(), 3);
    }
    let segment = segments(root.path()).pop().unwrap();
    fs::rename(
        &segment,
        segment.with_file_name("0000000009-00000000000000000001.wfl"),
    )
    .unwrap();
    let disk = std::sync::Arc::new(watchfold_log::disk::RealDisk);
    let dir = root.path().join(OBS.name());
    let refused = watchfold_log::stream::StreamStore::open(disk, &dir, PLAIN, [7; 16]);
    assert!(
        matches!(refused, Err(LogError::Io { .. })),
        "a renamed segment must not be cut as if it were torn"
    );
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    write_commits(root.path(), PLAIN, &[1]);
    let path = segments(root.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..64]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let refused = StreamFiles::open(root.path(), OBS).err();
    assert!(
        matches!(
            refused,
            Some(LogError::Newer {
                found: 2,
                known: 1,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn an_index_is_never_trusted_over_the_data() {
    let root = tempfile::tempdir().unwrap();
    let options = StreamOptions {
        segment_bytes: 600 * 1024,
        ..PLAIN
    };
    let large = |n| watchfold_log::contract::message(OBS, "wf.obs.s.x.y", n, vec![n as u8; 20_000]);
    let mut store = open_store(root.path(), options);
    for number in 1..=80 {
        store
            .append(
                &[large(number)],
                watchfold_schemas::Time::from_seconds(number as i64),
            )
            .unwrap();
        store.sync().unwrap();
    }
    drop(store);
    let index = fs::read_dir(root.path().join(OBS.name()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "wfi"))
        .expect("a sealed segment has an index");
    let whole = fs::read(&index).unwrap();
    let mut wrong = whole.clone();
    wrong[12 + 24 + 8] ^= 0x40;
    let seed = watchfold_log::frame::frame_seed([7; 16], 1);
    let checksum = crc32c::crc32c_append(seed, &wrong[12..]).to_le_bytes();
    wrong[8..12].copy_from_slice(&checksum);
    for content in [&whole[..], &whole[..20], b"", &wrong[..]] {
        fs::write(&index, content).unwrap();
        for sequence in [1, 12, 13, 14, 15, 29, 60, 80] {
            let mut files = StreamFiles::open(root.path(), OBS).unwrap().unwrap();
            files.seek(&watchfold_log::Start::Sequence(sequence)).unwrap();
            let record = files.next(1).unwrap().records.remove(0);
            assert_eq!((record.sequence, record.payload[0]), (sequence, sequence as u8));
            files
                .seek(&watchfold_log::Start::StoredAt(record.stored_at))
                .unwrap();
            assert_eq!(files.next(1).unwrap().records[0].sequence, sequence);
        }
    }
}
