//! Capture files that cannot be evaluated, wholly or in part: the command says so, and by its status nobody takes that for "nothing
//! was found".

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::captures::{broken_off_scan, told};
use crate::command::built_command;

/// The status of an input that holds no packet that can be evaluated.
const NOTHING_READ: Option<i32> = Some(65);
const TROUBLE: Option<i32> = Some(2);

/// Bytes of a pcap file before its first record, and of a record before its packet.
const HEADER: usize = 24;
const RECORD: usize = 16;

/// Capture files of one scan of 15 ports, which the pack `classic` finds.
struct Scan {
    directory: tempfile::TempDir,
    pcap: Vec<u8>,
}

impl Scan {
    fn new() -> Scan {
        Scan {
            directory: tempfile::tempdir().unwrap(),
            pcap: broken_off_scan(15),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path: PathBuf = self.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Seconds, microseconds and bytes of each packet.
    fn packets(&self) -> Vec<(u32, u32, Vec<u8>)> {
        let word = |at: usize| u32::from_le_bytes(self.pcap[at..at + 4].try_into().unwrap());
        let (mut packets, mut at) = (Vec::new(), HEADER);
        while at < self.pcap.len() {
            let length = word(at + 8) as usize;
            let bytes = self.pcap[at + RECORD..at + RECORD + length].to_vec();
            packets.push((word(at), word(at + 4), bytes));
            at += RECORD + length;
        }
        packets
    }

    /// The file with another link type field.
    fn of_link(&self, network: u32) -> Vec<u8> {
        let mut bytes = self.pcap.clone();
        bytes[20..24].copy_from_slice(&network.to_le_bytes());
        bytes
    }

    /// The records of the modified format, in either byte order.
    fn modified(&self, is_big_endian: bool) -> Vec<u8> {
        let mut file = Vec::new();
        let push = |word: u32, file: &mut Vec<u8>| match is_big_endian {
            true => file.extend(word.to_be_bytes()),
            false => file.extend(word.to_le_bytes()),
        };
        push(0xA1B2_CD34, &mut file);
        file.extend(match is_big_endian {
            true => [0, 2, 0, 4],
            false => [2, 0, 4, 0],
        });
        [0, 0, 1_600, 1]
            .into_iter()
            .for_each(|word| push(word, &mut file));
        for (seconds, micros, bytes) in self.packets() {
            let length = bytes.len() as u32;
            let words = [seconds, micros, length, length, 1, 8];
            words.into_iter().for_each(|word| push(word, &mut file));
            file.extend(bytes);
        }
        file
    }

    /// With four bytes behind each frame, and a header that says so.
    fn with_check_sequences(&self) -> Vec<u8> {
        let mut file = self.of_link(0x2400_0001)[..HEADER].to_vec();
        for (seconds, micros, bytes) in self.packets() {
            let length = bytes.len() as u32 + 4;
            for word in [seconds, micros, length, length] {
                file.extend(word.to_le_bytes());
            }
            file.extend(bytes);
            file.extend([0xDE, 0xAD, 0xBE, 0xEF]);
        }
        file
    }

    /// As pcapng with times in this unit, 2 to the minus `exponent`; every packet that `is_simple` picks in a simple packet block.
    fn pcapng(&self, exponent: u8, is_simple: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut file = Vec::new();
        block(&mut file, 0x0A0D_0D0A, &[0x1A2B_3C4D, 1, u32::MAX, u32::MAX], &[]);
        let resolution = u32::from_le_bytes([0x80 | exponent, 0, 0, 0]);
        block(&mut file, 1, &[1, 0, 0x0001_0009, resolution, 0], &[]);
        for (index, (seconds, micros, bytes)) in self.packets().into_iter().enumerate() {
            let length = bytes.len() as u32;
            if is_simple(index) {
                block(&mut file, 3, &[length], &bytes);
                continue;
            }
            let ticks =
                (u64::from(seconds) << exponent) + (u64::from(micros) << exponent).div_ceil(1_000_000);
            let words = [0, (ticks >> 32) as u32, ticks as u32, length, length];
            block(&mut file, 6, &words, &bytes);
        }
        file
    }
}

/// A little-endian block of pcapng.
fn block(file: &mut Vec<u8>, kind: u32, words: &[u32], bytes: &[u8]) {
    let padded = bytes.len().next_multiple_of(4);
    let length = (12 + words.len() * 4 + padded) as u32;
    for word in [kind, length].iter().chain(words) {
        file.extend(word.to_le_bytes());
    }
    file.extend_from_slice(bytes);
    file.resize(file.len() + padded - bytes.len(), 0);
    file.extend(length.to_le_bytes());
}

fn replay(path: &str) -> (Option<i32>, String, String) {
    told(&["replay", path, "--rules", "classic"])
}

#[test]
fn the_same_scan_is_found_whatever_its_file_says() {
    let scan = Scan::new();
    let never = |_| false;
    for (name, bytes) in [
        ("plain", scan.pcap.clone()),
        ("modified", scan.modified(false)),
        ("modified-big", scan.modified(true)),
        ("fcs", scan.with_check_sequences()),
        ("reserved-bits", scan.of_link(0x03FF_0001)),
        ("two-to-the-20", scan.pcapng(20, never)),
        ("two-to-the-32", scan.pcapng(32, never)),
    ] {
        let path = scan.write(name, &bytes);
        let (status, lines, trouble) = replay(&path);
        assert_eq!(status, Some(0), "{name}: {trouble}");
        let alert = lines.lines().next().unwrap_or_default();
        // Rounded up to the next unit, all of these are within a millionth of a second of the fifteenth port.
        assert!(alert.starts_with("2026-01-05T08:00:01.4"), "{name}: {lines}");
        assert!(
            alert.contains("port_scan") && alert.contains("15/15"),
            "{name}: {lines}"
        );
        assert!(!trouble.contains("gave no row"), "{name}: {trouble}");
        let out = scan.directory.path().join(format!("{name}.wfrec"));
        let (status, _, trouble) = told(&["record", &path, "--out", out.to_str().unwrap()]);
        assert_eq!(status, Some(0), "{name}: {trouble}");
    }
}

#[test]
fn nothing_that_can_be_read_has_a_status_of_its_own() {
    let scan = Scan::new();
    let some = scan.pcap.len();
    for (name, bytes, why) in [
        (
            "radiotap",
            scan.of_link(127),
            "0 of 15 packets gave a row, so nothing was evaluated",
        ),
        (
            "radiotap-why",
            scan.of_link(127),
            "15 of link type 127 (radiotap and IEEE 802.11)",
        ),
        (
            "simple",
            scan.pcapng(20, |_| true),
            "15 in a simple packet block, which has no time",
        ),
        ("unit", scan.pcapng(20, |_| false), ""),
        (
            "empty",
            scan.pcap[..HEADER].to_vec(),
            "there are no packets in it",
        ),
    ] {
        let mut bytes = bytes;
        if name == "unit" {
            // 10 to the minus 100, of which no computer counts anything.
            bytes[48] = 100;
        }
        let path = scan.write(name, &bytes);
        let (status, lines, trouble) = replay(&path);
        assert_eq!((status, lines.as_str()), (NOTHING_READ, ""), "{name}: {trouble}");
        assert!(
            trouble.contains(&path) && trouble.contains(why),
            "{name}: {trouble}"
        );
        let (status, ..) = told(&[
            "replay",
            "--diff",
            &path,
            "--rules",
            "classic",
            "--against",
            "default",
        ]);
        assert_eq!(status, TROUBLE, "{name}: a comparison has three statuses");
        let out = scan.directory.path().join("out.wfrec");
        let (status, _, trouble) = told(&["record", &path, "--out", out.to_str().unwrap()]);
        assert_eq!(status, NOTHING_READ, "{name}: {trouble}");
        assert!(!out.exists(), "{name}");
        let (status, _, trouble) = told(&["explain", "0000000000000000", &path]);
        assert_eq!(status, NOTHING_READ, "{name}: {trouble}");
        // A test that nothing can be read of is no success.
        let directory = scan.directory.path().join(format!("{name}.test"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("input.pcap"), &bytes).unwrap();
        fs::write(directory.join("expected.jsonl"), "").unwrap();
        let (status, ..) = told(&["rules", "test", directory.to_str().unwrap()]);
        assert_eq!(status, TROUBLE, "{name}");
    }
    assert_eq!(scan.pcap.len(), some);
}

#[test]
fn packets_that_are_skipped_are_counted_and_are_trouble() {
    let scan = Scan::new();
    let path = scan.write("some.pcapng", &scan.pcapng(20, |index| index % 3 == 0));
    let sentence = "5 of 15 packets were skipped: 5 in a simple packet block, which has no time";
    for arguments in [
        &["replay", &path][..],
        &[
            "replay",
            "--diff",
            &path,
            "--rules",
            "classic",
            "--against",
            "classic",
        ],
        &["record", &path, "--out", &format!("{path}.wfrec")],
    ] {
        let (status, _, trouble) = told(arguments);
        assert_eq!(status, TROUBLE, "{arguments:?}: {trouble}");
        assert!(trouble.contains(sentence), "{arguments:?}: {trouble}");
    }
    let (status, counts, _) = told(&["capture", "stat", &path]);
    assert_eq!(status, TROUBLE);
    assert!(
        counts.contains("5 skipped: in a simple packet block, which has no time"),
        "{counts}"
    );
    let (_, line, _) = told(&["capture", "stat", "--format", "json", &path]);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["skipped"], &line["rows"]),
        (&Value::from(5), &Value::from(10))
    );
}

#[test]
fn packets_without_a_row_are_counted_by_file_and_are_no_trouble() {
    let scan = Scan::new();
    let mut bytes = scan.pcap.clone();
    // The first frame holds something that is neither IP nor ARP.
    bytes[HEADER + RECORD + 12..HEADER + RECORD + 14].copy_from_slice(&[0x88, 0xCC]);
    let (mixed, other) = (
        scan.write("mixed", &bytes),
        scan.write("other", &scan.of_link(127)),
    );
    let (status, _, summary) = replay(&mixed);
    assert_eq!(status, Some(0), "{summary}");
    let of_mixed = format!("{mixed}: 1 of 15 packets gave no row: 1 neither IP nor ARP");
    assert!(summary.contains(&of_mixed), "{summary}");
    let (status, _, summary) = told(&["replay", &mixed, &other]);
    assert_eq!(status, Some(0), "{summary}");
    assert!(summary.contains(&of_mixed), "{summary}");
    assert!(
        summary.contains(&format!(
            "{other}: 15 of 15 packets gave no row: 15 of link type 127"
        )),
        "{summary}"
    );
    let (status, _, trouble) = told(&["replay", &other, &other]);
    assert_eq!(status, NOTHING_READ);
    assert!(trouble.contains("and another file: 0 of 30 packets"), "{trouble}");
}

#[test]
fn a_span_without_packets_says_from_when_they_are() {
    let scan = Scan::new();
    let path = scan.write("scan", &scan.pcap);
    let (status, _, trouble) = told(&["replay", &path, "--from", "2027-01-01T00:00:00Z"]);
    assert_eq!(status, TROUBLE);
    assert!(
        trouble.contains(&path) && trouble.contains("there are records from 2026-01-05T08:00:0"),
        "{trouble}"
    );
}

#[test]
fn a_torn_file_is_mentioned_once() {
    let scan = Scan::new();
    let path = scan.write("torn", &scan.pcap[..scan.pcap.len() - 1]);
    let (status, _, trouble) = replay(&path);
    assert_eq!(status, TROUBLE);
    assert_eq!(trouble.matches("torn after 14 packets").count(), 1, "{trouble}");
    assert!(!trouble.contains("WARN"), "{trouble}");
}

#[test]
fn packets_on_a_pipe_are_read_once_and_whole() {
    let scan = Scan::new();
    for bytes in [scan.pcap.clone(), scan.modified(true)] {
        let path = scan.write("piped", &bytes);
        let script = r#""$0" replay --rules classic <(cat "$1"); "$0" replay --rules classic - < "$1""#;
        let command = built_command();
        let output = Command::new("bash")
            .args(["-c", script])
            .arg(command)
            .arg(path)
            .output()
            .unwrap();
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        let alerts = lines.lines().filter(|line| line.contains("  alert ")).count();
        assert_eq!(alerts, 2, "{output:?}");
    }
}

#[test]
fn digests_of_a_capture_are_printed_for_who_asks() {
    let scan = Scan::new();
    let mut bytes = scan.pcap.clone();
    let (seconds, micros, last) = scan.packets().pop().unwrap();
    let length = last.len() as u32;
    for minutes in [30, 59, 61, 90] {
        for word in [seconds + minutes * 60, micros, length, length] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend_from_slice(&last);
    }
    let path = scan.write("long", &bytes);
    let kinds = |arguments: &[&str]| {
        let (status, lines, trouble) = told(&[&["replay", &path, "--format", "jsonl"], arguments].concat());
        assert_eq!(status, Some(0), "{trouble}");
        let kind = |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap();
            let body = event["body"].as_object();
            body.and_then(|body| body.keys().next().cloned())
                .unwrap_or_default()
        };
        lines.lines().map(kind).collect::<Vec<_>>()
    };
    let all = kinds(&[]);
    assert!(all.iter().any(|kind| kind == "alert_raised"), "{all:?}");
    assert!(all.iter().all(|kind| kind != "digest"), "{all:?}");
    let digests = kinds(&["--kind", "digest"]);
    assert!(
        !digests.is_empty() && digests.iter().all(|kind| kind == "digest"),
        "{digests:?}"
    );
    let two = kinds(&["--kind", "alert_raised,attack_began"]);
    assert!(two.iter().any(|kind| kind == "attack_began"), "{two:?}");
    // What a person reads.
    let (_, lines, _) = told(&["replay", &path, "--kind", "digest"]);
    assert_eq!(lines.lines().count(), digests.len(), "{lines}");
    let (_, lines, _) = replay(&path);
    assert!(!lines.contains("digest"), "{lines}");
}
