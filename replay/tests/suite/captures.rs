//! Golden captures: each directory of `tests/captures/` is one that `watchfold scenario test` runs. The packets are made here, nobody else's.
//!
//! What is to follow was counted by hand, as each README says, and the counts are held here, too. `WATCHFOLD_BLESS=1` writes
//! captures and expected events anew.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::command::run;

/// 2026-01-05T08:00:00Z.
const BEGIN_S: u32 = 1_767_600_000;

/// What a capture keeps of each packet where it does not keep everything.
const SNAP_BYTES: usize = 96;

const ONE: [u8; 4] = [10, 0, 0, 61];
const OTHER: [u8; 4] = [10, 0, 0, 62];
const VICTIM: [u8; 4] = [10, 0, 0, 9];

struct Packet {
    at_us: u64,
    wire_length: u32,
    bytes: Vec<u8>,
}

/// What a directory is about, by hand: its packets, and how often which events follow.
struct Golden {
    name: &'static str,
    packets: Vec<Packet>,
    /// Of each alert: the second, the rule, whom it is about, and what was measured.
    alerts: &'static [(f64, &'static str, &'static str, u64)],
    /// Of each attack: the second in which it begins, and the one in which it is over.
    attacks: &'static [(f64, f64)],
}

fn all() -> Vec<Golden> {
    vec![
        Golden {
            name: "scan_14_15",
            packets: scans(&[(0, ONE, 14), (30_000, OTHER, 15)]),
            alerts: &[(31.4, "port_scan", "10.0.0.62", 15)],
            attacks: &[(31.4, 46.4)],
        },
        Golden {
            name: "flood_199_200",
            packets: floods(),
            alerts: &[(33.98, "syn_flood", "10.0.0.62", 200)],
            attacks: &[(33.98, 48.98)],
        },
        Golden {
            name: "arp_rebound",
            packets: rebound(),
            alerts: &[(2.0, "arp_spoofing", "192.168.1.1", 1)],
            attacks: &[(2.0, 17.0)],
        },
        Golden {
            name: "dns_49_50",
            packets: names(),
            alerts: &[(10.0, "dns_tunnel", "10.0.0.62", 50)],
            attacks: &[(10.0, 25.0)],
        },
        Golden {
            name: "exfiltration_5_mb",
            packets: uploads(),
            alerts: &[(49.9, "exfiltration", "10.0.0.62", 5_000_000)],
            attacks: &[(49.9, 109.9)],
        },
        Golden {
            name: "own_rules",
            packets: scans(&[(0, ONE, 2), (30_000, OTHER, 3)]),
            alerts: &[(30.2, "three_ports", "10.0.0.62", 3)],
            attacks: &[(30.2, 90.2)],
        },
    ]
}

#[test]
fn every_capture_gives_what_was_counted_by_hand() {
    let mut names: Vec<&str> = Vec::new();
    for golden in all() {
        names.push(golden.name);
        let directory = directory_of(golden.name);
        let bytes = pcap(&golden.packets);
        let path = directory.join("input.pcap");
        if is_blessing() {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&path, &bytes).unwrap();
            let blessed = run(&["scenario", "test", "--bless", directory.to_str().unwrap()]);
            assert_eq!(blessed.status.code(), Some(0), "{blessed:?}");
        }
        assert!(
            fs::read(&path).unwrap() == bytes,
            "{}: the capture is not the one that is made here",
            golden.name
        );
        assert!(
            directory.join("README.md").is_file(),
            "{}: count it by hand",
            golden.name
        );
        let text = fs::read_to_string(directory.join("expected.jsonl")).unwrap();
        check(&golden, &text);
    }
    let found = fs::read_dir(directory()).unwrap().filter_map(Result::ok);
    let found = found.filter(|entry| entry.path().is_dir()).count();
    assert_eq!(found, names.len(), "a directory that nothing makes");
    let tested = run(&["scenario", "test", directory().to_str().unwrap()]);
    assert_eq!(
        tested.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&tested.stdout)
    );
}

fn check(golden: &Golden, expected: &str) {
    let (mut alerts, mut attacks) = (Vec::new(), Vec::new());
    for line in expected.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let second = |value: &Value| {
            let at: watchfold_schemas::Time = value.as_str().unwrap().parse().unwrap();
            (at.0 - i64::from(BEGIN_S) * 1_000_000_000) as f64 / 1e9
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        if let Some(alert) = event["body"].get("alert_raised") {
            let measured = alert["measured"]["observed"].as_u64().unwrap();
            alerts.push((
                second(&event["at"]),
                text(&alert["rule"]["name"]),
                text(&alert["subject"]),
                measured,
            ));
        } else if let Some(attack) = event["body"].get("attack_ended") {
            attacks.push((second(&attack["began_at"]), second(&event["at"])));
        }
    }
    let wanted = golden.alerts.iter();
    let wanted: Vec<_> = wanted
        .map(|(at, rule, subject, observed)| (*at, (*rule).to_owned(), (*subject).to_owned(), *observed))
        .collect();
    assert_eq!(alerts, wanted, "{}", golden.name);
    assert_eq!(attacks, golden.attacks, "{}", golden.name);
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/captures")
}

fn directory_of(name: &str) -> PathBuf {
    directory().join(name)
}

fn is_blessing() -> bool {
    std::env::var_os("WATCHFOLD_BLESS").is_some()
}

/// So many ports of the victim, one each tenth of a second, by who and from when; and time that passes.
fn scans(of: &[(u64, [u8; 4], u16)]) -> Vec<Packet> {
    let mut packets = only_scans(of);
    packets.push(later());
    packets
}

/// The bytes of a capture file that ends with the last port of a scan.
pub fn broken_off_scan(ports: u16) -> Vec<u8> {
    pcap(&only_scans(&[(0, OTHER, ports)]))
}

fn only_scans(of: &[(u64, [u8; 4], u16)]) -> Vec<Packet> {
    let mut packets = Vec::new();
    for (begin_ms, source, ports) in of {
        for index in 0..*ports {
            let at_us = (begin_ms + u64::from(index) * 100) * 1_000;
            packets.push(whole(at_us, syn(*source, VICTIM, 1_000 + index)));
        }
    }
    packets
}

/// 199 and 200 SYN to one port, one each 20 ms: 3.98 s from the first to the last.
fn floods() -> Vec<Packet> {
    let mut packets = Vec::new();
    for (begin_ms, source, count) in [(0, ONE, 199), (30_000, OTHER, 200)] {
        packets
            .extend((0..count).map(|index| whole((begin_ms + index * 20) * 1_000, syn(source, VICTIM, 80))));
    }
    packets.push(later());
    packets
}

/// The gateway says twice where it is, then somebody else says so.
fn rebound() -> Vec<Packet> {
    let (gateway, intruder) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0x66]);
    let reply = |second: u64, mac| whole(second * 1_000_000, arp_reply(mac, [192, 168, 1, 1], VICTIM));
    vec![reply(0, gateway), reply(1, gateway), reply(2, intruder), later()]
}

/// Names of 49 and of 50 characters.
fn names() -> Vec<Packet> {
    let name = |characters: usize| format!("{}.example.com", "a".repeat(characters - 12));
    vec![
        whole(0, dns_query(ONE, &name(49))),
        whole(10_000_000, dns_query(OTHER, &name(50))),
        later(),
    ]
}

/// 4,999,999 and 5,000,000 bytes on the wire within ten seconds each, of which little is kept.
fn uploads() -> Vec<Packet> {
    let mut packets = Vec::new();
    for (begin_ms, source, last) in [(0_u64, ONE, 49_999), (40_000, OTHER, 50_000)] {
        for index in 0..100_u64 {
            let length = if index == 99 { last } else { 50_000 };
            let bytes = udp(source, VICTIM, 9_999, &vec![0; length - 42]);
            packets.push(Packet {
                at_us: (begin_ms + index * 100) * 1_000,
                wire_length: length as u32,
                bytes: bytes[..SNAP_BYTES].to_vec(),
            });
        }
    }
    packets.push(later());
    packets
}

/// Two minutes after the beginning: whatever went on is over.
fn later() -> Packet {
    whole(120_000_000, udp(VICTIM, ONE, 5_000, b"later"))
}

fn whole(at_us: u64, bytes: Vec<u8>) -> Packet {
    Packet {
        at_us,
        wire_length: bytes.len() as u32,
        bytes,
    }
}

fn syn(source: [u8; 4], destination: [u8; 4], port: u16) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend(40_000_u16.to_be_bytes());
    tcp.extend(port.to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0]);
    ipv4(6, source, destination, &tcp)
}

fn udp(source: [u8; 4], destination: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
    let mut udp = Vec::new();
    udp.extend(40_000_u16.to_be_bytes());
    udp.extend(port.to_be_bytes());
    udp.extend((8 + payload.len() as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend_from_slice(payload);
    ipv4(17, source, destination, &udp)
}

fn dns_query(source: [u8; 4], name: &str) -> Vec<u8> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    udp(source, [10, 0, 0, 1], 53, &message)
}

fn ipv4(protocol: u8, source: [u8; 4], destination: [u8; 4], content: &[u8]) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 0x61, 8, 0];
    packet.extend([0x45, 0]);
    packet.extend((20 + content.len() as u16).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    packet.extend_from_slice(&source);
    packet.extend_from_slice(&destination);
    packet.extend_from_slice(content);
    packet
}

fn arp_reply(mac: [u8; 6], address: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let asker = [2, 0, 0, 0, 0, 9];
    let mut packet = asker.to_vec();
    packet.extend_from_slice(&mac);
    packet.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    packet.extend_from_slice(&mac);
    packet.extend_from_slice(&address);
    packet.extend_from_slice(&asker);
    packet.extend_from_slice(&to);
    packet
}

/// A pcap file of Ethernet with microseconds.
fn pcap(packets: &[Packet]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xA1B2_C3D4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for packet in packets {
        let seconds = BEGIN_S + (packet.at_us / 1_000_000) as u32;
        let words = [
            seconds,
            (packet.at_us % 1_000_000) as u32,
            packet.bytes.len() as u32,
            packet.wire_length,
        ];
        words.into_iter().for_each(|word| file.extend(word.to_le_bytes()));
        file.extend_from_slice(&packet.bytes);
    }
    file
}

/// A golden capture, and its rules.
fn golden(name: &str) -> (String, String) {
    let directory = directory_of(name);
    let rules = directory.join("rules");
    let rules = match rules.is_dir() {
        true => rules.to_str().unwrap().to_owned(),
        false => "classic".to_owned(),
    };
    (directory.join("input.pcap").to_str().unwrap().to_owned(), rules)
}

/// Runs the command, and gives its status with what it says and what it says beside that.
pub fn told(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_command_reads_captures_and_rules() {
    let (scan, _) = golden("scan_14_15");
    let (_, own) = golden("own_rules");
    let (status, lines, summary) = told(&["replay", &scan, "--rules", "classic"]);
    assert_eq!(status, Some(0), "{summary}");
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for word in [
        "alert",
        "port_scan",
        "10.0.0.62:40000 → 10.0.0.9:1014",
        "15/15 in 10 s",
        "1:",
    ] {
        assert!(lines[0].contains(word), "{word} in {}", lines[0]);
    }
    let attack = lines[0].split_whitespace().last().unwrap_or_default();
    let (status, explained, trouble) = told(&["explain", attack, &scan, "--rules", "classic"]);
    assert_eq!(status, Some(0), "{trouble}");
    assert!(explained.starts_with(attack), "{explained}");
    assert!(
        summary.contains("30 packets in ") && summary.contains("digest capture/packets "),
        "{summary}"
    );

    // Two rule sets over the same packets; the same; and nothing to compare with.
    let diff = |arguments: &[&str]| told(&[&["replay", "--diff", &scan][..], arguments].concat());
    let (status, _, trouble) = diff(&["--against", "missing.json"]);
    assert_eq!(status, Some(2), "{trouble}");
    assert!(
        trouble.contains("missing.json: there is no such file"),
        "{trouble}"
    );
    let (status, text, _) = diff(&["--rules", "classic", "--against", "classic"]);
    assert_eq!(
        (status, text.as_str()),
        (Some(0), "0 gained, 0 lost, 0 changed, 2 the same\n")
    );
    // Both scanners, each with its third port: an alert and an attack more for the one, and other ones for the other.
    let (status, text, _) = diff(&["--rules", &own, "--against", "classic"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.ends_with("4 gained, 2 lost, 0 changed, 0 the same\n"),
        "{text}"
    );
    let (status, _, why) = diff(&[]);
    assert_eq!(status, Some(2));
    assert!(why.contains("say what to compare with"), "{why}");
    let (status, _, why) = told(&["replay", &scan, "--rules", "clasic"]);
    assert!(status != Some(0) && why.contains("clasic"), "{why}");

    // A recording of the file tells the same, and why.
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("r.wfrec").to_str().unwrap().to_owned();
    let (status, _, why) = told(&["record", &scan, "--rules", "classic", "--out", &recording]);
    assert_eq!(status, Some(0), "{why}");
    let (status, _, again) = told(&["replay", "--diff", &recording]);
    assert_eq!(status, Some(0), "{again}");
    let digest = |text: &str| {
        let line = text
            .lines()
            .find(|line| line.contains("capture/packets"))
            .unwrap();
        line.split(' ').find(|word| word.len() == 64).unwrap().to_owned()
    };
    assert_eq!(digest(&again), digest(&summary));
    let expected = fs::read_to_string(directory_of("scan_14_15").join("expected.jsonl")).unwrap();
    let alert: Value = serde_json::from_str(expected.lines().next().unwrap()).unwrap();
    let id = alert["id"].as_str().unwrap();
    for input in [&scan, &recording] {
        let (status, text, why) = told(&["explain", id, input, "--rules", "classic"]);
        assert_eq!(status, Some(0), "{why}");
        assert!(
            text.contains("15 packets counted, captured by capture-file on input.pcap"),
            "{text}"
        );
        assert_eq!(
            text.lines().filter(|line| line.ends_with("SYN")).count(),
            15,
            "{text}"
        );
    }
}

#[test]
fn the_command_compares_with_another_detector() {
    let (scan, _) = golden("scan_14_15");
    let directory = tempfile::tempdir().unwrap();
    let eve = directory.path().join("eve.json");
    let path = eve.to_str().unwrap();
    let line = |at: &str, source: &str| {
        format!(
            "{{\"timestamp\":\"2026-01-05T08:00:{at}.000000+0000\",\"event_type\":\"alert\",\"src_ip\":\"{source}\",\
             \"src_port\":40000,\"dest_ip\":\"10.0.0.9\",\"dest_port\":1014,\"proto\":\"TCP\",\"alert\":{{\"signature\":\"scan\"}}}}\n"
        )
    };
    let arguments = ["replay", "--diff", "--rules", "classic", "--against", path, &scan];
    fs::write(&eve, line("31", "10.0.0.62")).unwrap();
    let (status, text, why) = told(&arguments);
    assert_eq!(status, Some(0), "{text}{why}");
    assert!(text.contains("by one flow: scan"), "{text}");
    fs::write(
        &eve,
        line("31", "10.0.0.62") + &line("02", "10.0.0.61") + "no line\n",
    )
    .unwrap();
    let (status, text, why) = told(&arguments);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.ends_with("1 seen by both, 0 by Watchfold alone, 1 by the other alone\n"),
        "{text}"
    );
    assert!(why.contains("1 lines of"), "{why}");
    let (status, text, _) = told(&[&arguments[..], &["--format", "jsonl"]].concat());
    let joined: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &joined["is_same"]), (Some(1), &Value::Bool(false)));
    assert_eq!(joined["only_theirs"][0]["source"], "10.0.0.61");
}
