//! The order in which several capture files are one capture: that of their first packets, whatever order a shell names them in.
//!
//! It moves no packet from one file to another: files that overlap in time are to be merged before.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use watchfold_schemas::Time;

use crate::file::{CaptureFile, FileError};

/// The files by the time of their first packet; one without packets keeps its place behind the one before it. What can be read
/// only once (standard input, a pipe) cannot be looked into, and then the order is as given.
pub fn in_time_order(paths: &[PathBuf]) -> Result<Vec<PathBuf>, FileError> {
    let can_be_read_twice = paths.iter().all(|path| path.is_file());
    if paths.len() < 2 || !can_be_read_twice {
        return Ok(paths.to_vec());
    }
    let mut begin = Time(i64::MIN);
    let mut timed = Vec::with_capacity(paths.len());
    for path in paths {
        begin = first_packet_at(path)?.unwrap_or(begin);
        timed.push((begin, path));
    }
    timed.sort_by_key(|(begin, _)| *begin);
    Ok(timed.into_iter().map(|(_, path)| path.clone()).collect())
}

fn first_packet_at(path: &Path) -> Result<Option<Time>, FileError> {
    let mut first = None;
    CaptureFile::open(path)?.for_each(|frame| {
        first = Some(frame.at);
        ControlFlow::Break(())
    })?;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use watchfold_schemas::Span;

    use super::*;
    use crate::testing::{pcap, tcp_frame};

    /// Files of these names, each with a packet at this second or none, in the order in which they are read.
    fn check(given: &[(&str, Option<i64>)], wanted: &[&str]) {
        let directory = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (name, second) in given {
            let at = |second: i64| Time::from_seconds(1_000) + Span::from_seconds(second);
            let packets: Vec<_> = second.iter().map(|second| (at(*second), tcp_frame(80))).collect();
            paths.push(directory.path().join(name));
            std::fs::write(directory.path().join(name), pcap(&packets)).unwrap();
        }
        let read = in_time_order(&paths).unwrap();
        let names: Vec<_> = read
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, wanted);
    }

    #[test]
    fn files_are_read_by_the_time_of_their_first_packets() {
        // As `tcpdump -C` names them and a shell gives them.
        check(
            &[
                ("a.pcap", Some(0)),
                ("a.pcap1", Some(1)),
                ("a.pcap10", Some(10)),
                ("a.pcap2", Some(2)),
            ],
            &["a.pcap", "a.pcap1", "a.pcap2", "a.pcap10"],
        );
    }

    #[test]
    fn equal_times_and_files_without_packets_keep_their_places() {
        check(
            &[("b", Some(5)), ("none", None), ("a", Some(5))],
            &["b", "none", "a"],
        );
        check(
            &[("none", None), ("late", Some(9)), ("early", Some(1))],
            &["none", "early", "late"],
        );
    }

    #[test]
    fn a_file_that_is_none_is_named_before_anything_is_folded() {
        let directory = tempfile::tempdir().unwrap();
        let (good, bad) = (directory.path().join("good"), directory.path().join("bad"));
        std::fs::write(&good, pcap(&[])).unwrap();
        std::fs::write(&bad, "no capture").unwrap();
        let error = in_time_order(&[good, bad]).unwrap_err();
        assert!(error.to_string().contains("bad is not a capture file"), "{error}");
    }
}
