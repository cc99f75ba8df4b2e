//! Damaged captures by the thousand: whatever stands in them, they are read or refused, in bounded memory, and every batch of them
//! is sound. More of them: `WATCHFOLD_PROPERTY_CASES=1000000`; from captures of a directory beside the built ones:
//! `WATCHFOLD_PROPERTY_SEEDS=DIR`; a failing case prints its number: `WATCHFOLD_PROPERTY_CASE=17`.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;

use etherparse::PacketBuilder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use watchfold_schemas::packets::{CaptureCounts, CaptureSource};
use watchfold_schemas::{Span, Time};

use crate::batch::{BatchBuilder, Pushed};
use crate::file::CaptureFile;
use crate::parse::{LinkType, decode};
use crate::pcapng::{self, PacketRecord};
use crate::testing::{pcap, tcp_frame};

/// Cases of an ordinary run; each is some microseconds.
const CASES: u64 = 3_000;

/// Larger captures are cut for it: the beginning has the headers, which is where damage counts.
const SEED_BYTES_MAX: usize = 64 * 1024;

/// Link types that frames of other link types are read as.
const LINKS: [i32; 10] = [0, 1, 9, 12, 50, 101, 108, 113, 228, 276];

/// A xorshift generator: nothing here needs more.
struct Random(u64);

impl Random {
    fn of(case: u64) -> Random {
        let mut random = Random(case.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        (0..8).for_each(|_| {
            random.below(2);
        });
        random
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % (limit.max(1) as u64)) as usize
    }
}

/// One frame of each kind that is understood.
fn frames() -> Vec<Vec<u8>> {
    let v4 = || PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 0, 0, 1], [192, 0, 2, 9], 64);
    let v6 = || PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6([1; 16], [2; 16], 64);
    let dns =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03org\x00\x00\x10\x00\x01";
    let http = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
    let hello = b"\x16\x03\x01\x00\x3a\x01\x00\x00\x36\x03\x03aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb\x00\x00\x02\x13\x01\x01\x00\x00\x0b\x00\x00\x00\x07\x00\x05\x00\x00\x02hi";
    let mut dhcp = vec![0; 236];
    dhcp[..3].copy_from_slice(&[1, 1, 6]);
    dhcp.extend(b"\x63\x82\x53\x63\x35\x01\x01\x36\x04\x0a\x00\x00\x01\xff");
    let neighbour = [[0x20, 0, 0, 0].as_slice(), &[7; 16], &[2, 1, 3, 3, 3, 3, 3, 3]].concat();
    let mut arp = vec![0xFF; 6];
    arp.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    arp.extend([2, 0, 0, 0, 0, 9, 10, 0, 0, 1, 2, 0, 0, 0, 0, 5, 10, 0, 0, 5]);
    let mut frames = vec![tcp_frame(22), arp];
    let mut write = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = Vec::new();
        write(&mut frame);
        frames.push(frame);
    };
    write(&|out| v4().udp(5_353, 53).write(out, dns).unwrap());
    write(&|out| v4().udp(68, 67).write(out, &dhcp).unwrap());
    write(&|out| v4().tcp(40_000, 80, 1, 1).write(out, http).unwrap());
    write(&|out| v4().tcp(40_000, 443, 1, 1).write(out, hello).unwrap());
    write(&|out| v6().udp(5_353, 53).write(out, dns).unwrap());
    write(&|out| v6().icmpv6_raw(136, 0, [0; 4]).write(out, &neighbour).unwrap());
    write(&|out| v4().icmpv4_echo_request(1, 2).write(out, b"ping").unwrap());
    // VLANs, PPPoE, MPLS and tunnels are a header before what stands above.
    let headers: [&[u8]; 5] = [
        &[0x81, 0, 0, 7],
        &[0x88, 0xA8, 0, 7, 0x81, 0, 0, 9],
        &[0x88, 0x64, 0x11, 0, 0, 1, 0, 42, 0, 0x21],
        &[0x88, 0x47, 0, 0, 1, 0x40],
        &[
            0x08, 0, 0x45, 0, 0, 90, 0, 0, 0, 0, 64, 47, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 0,
        ],
    ];
    let plain = tcp_frame(443);
    for header in headers {
        let keeps_type = header[0] != 0x88 || header[1] == 0xA8;
        let rest = if keeps_type { &plain[12..] } else { &plain[14..] };
        frames.push([&plain[..12], header, rest].concat());
    }
    frames
}

/// Captures without damage: the frames as pcap and pcapng, packed and not; and those of a directory, if one is named.
fn seeds() -> Vec<Vec<u8>> {
    let at = |index: usize| Time::from_seconds(1_000) + Span::from_millis(index as i64);
    let packets: Vec<(Time, Vec<u8>)> = frames()
        .into_iter()
        .enumerate()
        .map(|(index, frame)| (at(index), frame))
        .collect();
    let plain = pcap(&packets);
    let mut next = Vec::new();
    pcapng::section(&mut next, "seeds");
    let name = "eth0".to_owned();
    pcapng::interface(
        &mut next,
        &CaptureSource {
            name,
            link_type: 1,
            snap_length: 96,
        },
    );
    for (number, (at, bytes)) in (1..).zip(&packets) {
        let wire_length = bytes.len() as u32;
        pcapng::packet(
            &mut next,
            &PacketRecord {
                interface: 0,
                number,
                at: *at,
                wire_length,
                bytes,
            },
        );
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &plain).unwrap();
    let packed = [
        gzip.finish().unwrap(),
        compress_to_vec(&next[..], CompressionLevel::Fastest),
    ];
    let mut seeds: Vec<Vec<u8>> = [plain, next].into_iter().chain(packed).collect();
    if let Some(directory) = std::env::var_os("WATCHFOLD_PROPERTY_SEEDS") {
        let files = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        for path in files.filter(|path| path.is_file()) {
            let mut bytes = std::fs::read(path).unwrap();
            bytes.truncate(SEED_BYTES_MAX);
            seeds.push(bytes);
        }
    }
    seeds
}

fn damage(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte ^= 1 << random.below(8)),
            2 => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte = random.below(256) as u8),
            // Lengths and counts that are as large, or as small, as can be.
            3 => bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0xFF),
            4 => bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = 0),
            5 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let piece: Vec<u8> = other[from..].iter().take(random.below(200)).copied().collect();
                bytes.splice(at..at, piece);
            }
            _ => {
                let piece: Vec<u8> = bytes[at..].iter().take(random.below(100)).copied().collect();
                bytes.extend(piece);
            }
        }
    }
}

/// Everything that reads the file, to its end.
fn read(bytes: Vec<u8>, link: Option<i32>) {
    let Ok(mut file) = CaptureFile::read(Path::new("hostile"), Box::new(Cursor::new(bytes))) else {
        return;
    };
    let mut builder = BatchBuilder::new(CaptureSource::default(), &[22, 53, 80]);
    let mut number = 0;
    let check = |builder: &mut BatchBuilder| {
        let batch = builder.take(CaptureCounts::default());
        let view = batch.view().expect("a batch that was built is sound");
        let encoded = watchfold_schemas::codec::encode(&batch).unwrap();
        assert!(
            encoded.len() < 768 * 1024,
            "{} bytes of {} rows",
            encoded.len(),
            view.len()
        );
    };
    let ended = file.for_each(|frame| {
        number += 1;
        let link = link.map_or(frame.link, LinkType::from);
        if let Ok(packet) = decode(link, frame.bytes, frame.wire_length) {
            if !builder.fits(number, frame.at) {
                check(&mut builder);
            }
            assert_eq!(
                builder.push(number, frame.at, frame.wire_length, packet),
                Pushed::Taken
            );
        }
        ControlFlow::Continue(())
    });
    check(&mut builder);
    // How it ended does not matter, as long as it did.
    drop(ended);
}

#[test]
fn damaged_captures_are_read_or_refused() {
    let seeds = seeds();
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let cases = match number("WATCHFOLD_PROPERTY_CASE") {
        Some(case) => case..case + 1,
        None => 0..number("WATCHFOLD_PROPERTY_CASES").unwrap_or(CASES),
    };
    for case in cases {
        let mut random = Random::of(case);
        let mut bytes = seeds[random.below(seeds.len())].clone();
        damage(&mut bytes, &seeds, &mut random);
        let link = (random.below(3) == 0).then(|| LINKS[random.below(LINKS.len())]);
        let outcome = std::panic::catch_unwind(|| read(bytes, link));
        assert!(outcome.is_ok(), "WATCHFOLD_PROPERTY_CASE={case}");
    }
}
