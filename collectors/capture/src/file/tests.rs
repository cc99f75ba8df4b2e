//! Capture files by hand: what their headers say, and what comes of it.

use std::io::Write;

use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

/// A pcap file of Ethernet with these packets, one a second.
pub(super) fn pcap(packets: &[&[u8]]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xA1B2_C3D4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (second, packet) in (1_700_000_000_u32..).zip(packets) {
        let length = packet.len() as u32;
        for word in [second, 250_000, length, length + 1] {
            file.extend(word.to_le_bytes());
        }
        file.extend_from_slice(packet);
    }
    file
}

/// One frame of raw blocks.
pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Uncompressed)
}

fn read(bytes: Vec<u8>) -> (Vec<(Time, Vec<u8>)>, End) {
    let mut file = CaptureFile::read(Path::new("test.pcap"), Box::new(io::Cursor::new(bytes))).unwrap();
    let mut packets = Vec::new();
    let end = file
        .for_each(|frame| {
            assert_eq!(frame.wire_length as usize, frame.bytes.len() + 1);
            packets.push((frame.at, frame.bytes.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    (packets, end)
}

#[test]
fn packets_keep_their_times_and_bytes_packed_or_not() {
    let plain = pcap(&[b"one packet", b"another one"]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let packed = [gzip.finish().unwrap(), zstd(&plain), plain];
    for bytes in packed {
        let (packets, end) = read(bytes);
        assert_eq!(end, End::Whole);
        assert_eq!(
            packets[0],
            (Time(1_700_000_000_250_000_000), b"one packet".to_vec())
        );
        assert_eq!(packets[1].1, b"another one");
    }
}

#[test]
fn a_file_cut_anywhere_gives_what_stands_before() {
    let whole = pcap(&[b"one packet", b"another one"]);
    for length in 24..whole.len() {
        let (packets, end) = read(whole[..length].to_vec());
        let expected = usize::from(length >= 24 + 26);
        assert_eq!(packets.len(), expected, "{length}");
        let is_at_an_edge = length == 24 || length == 24 + 26;
        assert_eq!(end == End::Whole, is_at_an_edge, "{length}: {end:?}");
    }
}

#[test]
fn a_packed_file_cut_anywhere_gives_what_stands_before() {
    // Several blocks of zstd, of which each is unpacked as a whole.
    let packets: Vec<Vec<u8>> = (0..10_000_u32).map(|number| vec![number as u8; 60]).collect();
    let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    let plain = pcap(&packets);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&plain).unwrap();
    for whole in [gzip.finish().unwrap(), zstd(&plain)] {
        let cut = whole[..whole.len() * 3 / 4].to_vec();
        let (frames, end) = read(cut);
        assert!(frames.len() > 1_000, "{}", frames.len());
        assert!(
            matches!(&end, End::Torn { reason, .. } if reason.contains("end early")),
            "{end:?}"
        );
    }
    let (magic, error) = (vec![0x28, 0xB5, 0x2F, 0xFD], "end early");
    let path = Path::new("cut.pcap.zst");
    let refused = CaptureFile::read(path, Box::new(io::Cursor::new(magic))).err();
    assert!(refused.unwrap().to_string().contains(error));
}

proptest::proptest! {
    #[test]
    fn random_bytes_after_a_header_never_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        is_pcapng in proptest::prelude::any::<bool>(),
    ) {
        let mut file = pcap(&[]);
        if is_pcapng {
            file = [0x0A0D_0D0A_u32, 28, 0x1A2B_3C4D, 1, u32::MAX, u32::MAX, 28].iter().flat_map(|word| word.to_le_bytes()).collect();
        }
        file.extend(bytes);
        if let Ok(mut opened) = CaptureFile::read(Path::new("x"), Box::new(io::Cursor::new(file))) {
            drop(opened.for_each(|_| ControlFlow::Continue(())));
        }
    }
}

#[test]
fn what_is_no_capture_is_refused() {
    for bytes in [
        &b""[..],
        b"hello, this is no capture file at all",
        &[0x1F, 0x8B, 0, 0],
    ] {
        let opened = CaptureFile::read(Path::new("x"), Box::new(io::Cursor::new(bytes.to_vec())));
        assert!(opened.is_err(), "{bytes:?}");
    }
}

mod headers;
mod packed;
