//! Captures on which detectors go wrong: addresses in two VLANs, packets that are seen twice, ports that are used, packets out
//! of order. Each is replayed by the command under the default pack.

use std::fs;
use std::io::Read;
use std::path::Path;

use super::captures::told;

/// A pcap file's header and packets, each with its own header.
struct Pcap {
    header: Vec<u8>,
    packets: Vec<Vec<u8>>,
}

impl Pcap {
    fn read(name: &str) -> Pcap {
        let path = format!("{}/tests/cases/{name}.pcap.gz", env!("CARGO_MANIFEST_DIR"));
        let mut bytes = Vec::new();
        let file = fs::File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        flate2::read::GzDecoder::new(file)
            .read_to_end(&mut bytes)
            .unwrap();
        let (header, mut rest) = bytes.split_at(24);
        let mut packets = Vec::new();
        while rest.len() > 16 {
            let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
            let (packet, others) = rest.split_at(16 + length);
            packets.push(packet.to_vec());
            rest = others;
        }
        Pcap {
            header: header.to_vec(),
            packets,
        }
    }

    /// What the command says of it: the rules that fired, with what they measured, and the summary.
    fn replay(&self, rules: &str) -> (Vec<String>, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("input.pcap");
        fs::write(&path, [self.header.clone(), self.packets.concat()].concat()).unwrap();
        replay(&path, rules)
    }

    fn seconds(packet: &[u8]) -> u32 {
        u32::from_le_bytes(packet[..4].try_into().unwrap())
    }
}

fn replay(path: &Path, rules: &str) -> (Vec<String>, String) {
    let (status, lines, summary) = told(&["replay", path.to_str().unwrap(), "--rules", rules]);
    assert_eq!(status, Some(0), "{summary}");
    let alert = |line: &str| {
        let mut words = line.split_whitespace().skip(2);
        (words.next() == Some("alert")).then(|| words.next().unwrap_or_default().to_owned())
    };
    (lines.lines().filter_map(alert).collect(), summary)
}

#[test]
fn the_same_addresses_in_two_vlans_are_two_hosts() {
    let pcap = Pcap::read("d02_vlans");
    assert_eq!(pcap.replay("default").0, [""; 0]);
    // The inner tag of two counts as well.
    let mut stacked = Pcap::read("d02_vlans");
    for packet in &mut stacked.packets {
        packet.splice(28..28, [0x88, 0xa8, 0, 100]);
        let length = (packet.len() as u32 - 16).to_le_bytes();
        packet[8..12].copy_from_slice(&length);
        packet[12..16].copy_from_slice(&length);
    }
    assert_eq!(stacked.replay("default").0, [""; 0]);
    // Without tags somebody pretends to be somebody else.
    let mut untagged = Pcap::read("d02_vlans");
    for packet in &mut untagged.packets {
        packet.drain(28..32);
        let length = (packet.len() as u32 - 16).to_le_bytes();
        packet[8..12].copy_from_slice(&length);
        packet[12..16].copy_from_slice(&length);
    }
    let alerts = untagged.replay("default").0;
    assert!(alerts.contains(&"neighbour_spoofing".to_owned()), "{alerts:?}");
}

#[test]
fn ports_that_answer_and_are_used_are_no_scan() {
    let mut pcap = Pcap::read("d07_ftp_passive");
    assert_eq!(pcap.replay("default").0, [""; 0]);
    // The same attempts without what came of them.
    let is_syn = |packet: &[u8]| packet[16 + 14 + 20 + 13] & 0x12 == 2;
    pcap.packets.retain(|packet| is_syn(packet));
    assert_eq!(pcap.replay("default").0, ["port_scan"]);
}

#[test]
fn a_packet_that_is_seen_twice_is_one() {
    let mut pcap = Pcap::read("d10_mirror_twice");
    let (alerts, summary) = pcap.replay("default");
    assert_eq!(alerts, [""; 0]);
    assert!(summary.contains("240 packets were seen twice"), "{summary}");
    let classic = pcap.replay("classic").0;
    assert!(
        classic.contains(&"syn_flood".to_owned()),
        "it counts every packet: {classic:?}"
    );
    // On two ways: behind a router, and in another VLAN.
    for packet in pcap.packets.iter_mut().skip(1).step_by(2) {
        packet[16 + 14 + 8] -= 1;
        packet.splice(28..28, [0x81, 0, 0, 10]);
        let length = (packet.len() as u32 - 16).to_le_bytes();
        packet[8..12].copy_from_slice(&length);
        packet[12..16].copy_from_slice(&length);
    }
    assert_eq!(pcap.replay("default").0, [""; 0]);
    // Each with another acknowledgement is a packet of its own.
    let mut pcap = Pcap::read("d10_mirror_twice");
    for (number, packet) in pcap.packets.iter_mut().enumerate() {
        let at = packet.len() - 12;
        packet[at..at + 2].copy_from_slice(&(number as u16).to_be_bytes());
    }
    assert_eq!(pcap.replay("default").0, ["syn_flood"]);
}

#[test]
fn packets_count_in_time_order_within_a_second() {
    let mut pcap = Pcap::read("e02_unordered");
    let unordered = pcap.replay("default").0;
    assert_eq!(unordered, [""; 0]);
    pcap.packets.sort_by_key(|packet| {
        packet[..8]
            .chunks(4)
            .map(|part| u32::from_le_bytes(part.try_into().unwrap()))
            .collect::<Vec<_>>()
    });
    assert_eq!(pcap.replay("default").0, unordered);
    // Without its answers.
    let is_answer = |packet: &[u8]| packet[16 + 14 + 20 + 13] & 0x12 == 0x12;
    pcap.packets.retain(|packet| !is_answer(packet));
    assert_eq!(pcap.replay("default").0[0], "host_sweep");
}

#[test]
fn a_packet_far_in_the_future_silences_nothing_after_it() {
    let mut pcap = Pcap::read("d07_ftp_passive");
    let is_syn = |packet: &[u8]| packet[16 + 14 + 20 + 13] & 0x12 == 2;
    pcap.packets.retain(|packet| is_syn(packet));
    // One attempt in half a minute is no scan, whatever time stands between.
    for (number, packet) in pcap.packets.iter_mut().enumerate() {
        let second = 1_700_000_000 + 30 * number as u32;
        packet[..4].copy_from_slice(&second.to_le_bytes());
    }
    assert_eq!(pcap.replay("default").0, [""; 0]);
    for place in [0, 3, 20] {
        let mut stray = pcap.packets[place].clone();
        let later = Pcap::seconds(&stray) + 31_536_000;
        stray[..4].copy_from_slice(&later.to_le_bytes());
        let one = Pcap {
            header: pcap.header.clone(),
            packets: [&pcap.packets[..place], &[stray], &pcap.packets[place..]].concat(),
        };
        let (alerts, summary) = one.replay("default");
        assert_eq!(alerts, [""; 0], "after packet {place}");
        assert!(
            summary.contains("1 packet has a time more than a second ahead"),
            "{summary}"
        );
    }
}
