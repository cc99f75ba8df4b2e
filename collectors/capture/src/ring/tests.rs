//! A ring keeps what fits, gives back what is wanted, and survives kills and full disks.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;

use super::*;
use crate::error::CaptureError;
use crate::file::CaptureFile;
use crate::testing::{pcap, tcp_frame};

const START: Time = Time::from_seconds(1_000_000);

fn source() -> CaptureSource {
    CaptureSource {
        name: "eth0".to_owned(),
        link_type: 1,
        snap_length: 65_535,
    }
}

/// Packets of these numbers, a millisecond apart, ten in each batch.
fn keep(directory: &Path, bytes_max: u64, numbers: std::ops::Range<u64>) {
    let mut ring = RingWriter::start(directory.to_owned(), bytes_max);
    ring.set_source(&source());
    for number in numbers {
        let bytes = tcp_frame(number as u16);
        let raw = Raw {
            wall_ns: 0,
            wire_length: bytes.len() as u32,
            bytes: &bytes,
        };
        ring.push(number, START + Span::from_millis(number as i64), &raw);
        if number % 10 == 9 {
            ring.commit(Some(5));
            // The disk of a test may be slower than a loop.
            while lock(&ring.shared).dealt_with < ring.sent {
                thread::yield_now();
            }
        }
    }
    ring.commit(Some(5));
    assert_eq!(ring.left_out(), 0);
}

fn wanted(ranges: &[(u64, u64)], around_ms: (i64, i64)) -> Wanted {
    Wanted {
        incarnation: 5,
        ranges: ranges.to_vec(),
        from: START + Span::from_millis(around_ms.0),
        until: START + Span::from_millis(around_ms.1),
        bytes_max: 1024 * 1024,
    }
}

fn numbers(bytes: Vec<u8>) -> Vec<u64> {
    let mut file = CaptureFile::read(Path::new("cut"), Box::new(Cursor::new(bytes))).unwrap();
    let mut numbers = Vec::new();
    file.for_each(|frame| {
        numbers.extend(frame.given_number);
        ControlFlow::Continue(())
    })
    .unwrap();
    numbers
}

fn ring(directory: &Path) -> Kept {
    Kept::Ring(directory.to_owned())
}

#[test]
fn packets_come_back_by_number_and_by_time() {
    let directory = tempfile::tempdir().unwrap();
    keep(directory.path(), 1024 * 1024, 1..100);
    let cut = extract(&ring(directory.path()), &wanted(&[(3, 4), (90, 90)], (50, 52))).unwrap();
    assert_eq!(numbers(cut), [3, 4, 50, 51, 52, 90]);
    let of_another = Wanted {
        incarnation: 6,
        ..wanted(&[(3, 4)], (50, 52))
    };
    assert!(matches!(
        extract(&ring(directory.path()), &of_another),
        Err(CaptureError::Gone)
    ));
}

#[test]
fn a_small_cut_has_the_packets_of_the_alert_first() {
    let directory = tempfile::tempdir().unwrap();
    keep(directory.path(), 1024 * 1024, 1..100);
    let mut small = wanted(&[(90, 92)], (1, 99));
    let one = numbers(extract(&ring(directory.path()), &wanted(&[(1, 1)], (0, 0))).unwrap());
    assert_eq!(one, [1]);
    small.bytes_max = 5 * 120;
    let cut = numbers(extract(&ring(directory.path()), &small).unwrap());
    assert!(cut.ends_with(&[90, 91, 92]) && cut.len() < 8, "{cut:?}");
}

#[test]
fn the_oldest_go_and_a_new_process_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let bytes_max = 32 * 1024;
    keep(directory.path(), bytes_max, 1..1_000);
    keep(directory.path(), bytes_max, 1_000..2_000);
    let files = files::list(directory.path()).unwrap();
    assert!(
        files.is_sorted_by(|earlier, later| earlier.path < later.path),
        "a shell lists them in the order in which they were written: {files:?}"
    );
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    assert!((bytes_max / 2..=bytes_max).contains(&bytes), "{bytes}");
    let cut = extract(&ring(directory.path()), &wanted(&[(1_990, 1_999)], (0, 0))).unwrap();
    assert_eq!(numbers(cut), (1_990..2_000).collect::<Vec<_>>());
    let gone = extract(&ring(directory.path()), &wanted(&[(1, 10)], (0, 10)));
    assert!(matches!(gone, Err(CaptureError::Gone)), "{gone:?}");
}

#[test]
fn a_file_torn_anywhere_gives_what_stands_before() {
    let directory = tempfile::tempdir().unwrap();
    keep(directory.path(), 1024 * 1024, 1..20);
    let path = files::list(directory.path()).unwrap()[0].path.clone();
    let whole = std::fs::read(&path).unwrap();
    for length in (1..whole.len()).rev().step_by(37) {
        std::fs::write(&path, &whole[..length]).unwrap();
        match extract(&ring(directory.path()), &wanted(&[(1, 20)], (0, 0))) {
            Ok(cut) => {
                let cut = numbers(cut);
                assert_eq!(cut, (1..=cut.len() as u64).collect::<Vec<_>>(), "{length}");
            }
            Err(CaptureError::Gone) => assert!(length < 300, "{length}"),
            Err(error) => panic!("{length}: {error}"),
        }
    }
}

#[test]
fn a_disk_that_takes_nothing_is_told_and_nothing_else_stops() {
    let directory = tempfile::tempdir().unwrap();
    let taken = directory.path().join("ring");
    std::fs::write(&taken, "a file where the directory should be").unwrap();
    let mut ring = RingWriter::start(taken.clone(), 1024 * 1024);
    ring.set_source(&source());
    let bytes = tcp_frame(1);
    let raw = Raw {
        wall_ns: 0,
        wire_length: bytes.len() as u32,
        bytes: &bytes,
    };
    ring.push(1, START, &raw);
    ring.commit(Some(5));
    while ring.trouble().is_none() {
        thread::yield_now();
    }
    let trouble = ring.trouble().unwrap();
    assert!(trouble.contains(&taken.display().to_string()), "{trouble}");
    std::fs::remove_file(&taken).unwrap();
    ring.push(2, START + Span::from_seconds(60), &raw);
    ring.commit(Some(5));
    while ring.trouble().is_some() {
        thread::yield_now();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_no_empty_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(RingFile::name(5, 1, START));
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let keeper = Keeper {
        directory: directory.path().to_owned(),
        bytes_max: 1024 * 1024,
        file: None,
        shared: Arc::default(),
    };
    let piece = Piece {
        incarnation: 5,
        first: 1,
        at: START,
        source: source(),
        packets: 1,
        bytes: vec![0; 100],
    };
    let error = keeper.begin(&piece).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(std::fs::symlink_metadata(&path).is_err());
}

#[test]
fn capture_files_give_packets_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for file in 0..2_i64 {
        let at = |index: i64| START + Span::from_millis(file * 10 + index);
        let packets: Vec<(Time, Vec<u8>)> = (1..=3).map(|index| (at(index), tcp_frame(80))).collect();
        paths.push(directory.path().join(format!("{file}.pcap")));
        std::fs::write(paths.last().unwrap(), pcap(&packets)).unwrap();
    }
    let cut = extract(&Kept::Files(paths), &wanted(&[(5, 5)], (1, 2))).unwrap();
    assert_eq!(numbers(cut), [1, 2, 5]);
}
