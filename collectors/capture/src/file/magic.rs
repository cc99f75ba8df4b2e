//! What a file is, by its first bytes: the one place that decides what counts as a capture.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes that tell every kind apart.
pub const HEAD_BYTES: usize = 4;

/// The first block of a pcapng file; its bytes are the same in either byte order.
pub const SECTION_HEADER: [u8; 4] = [0x0A, 0x0D, 0x0D, 0x0A];

/// Skippable frames of zstd, which pzstd and others write first, have sixteen numbers that differ in their lowest bits.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2A, 0x4D, 0x18];

/// The kind of a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pcap(Variant),
    PcapNg,
    Gzip,
    Zstd,
}

/// What the magic number of a pcap file says about the rest of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    pub is_big_endian: bool,
    pub nanos_per_unit: u32,
    /// Whether records have the longer header of the "modified" format, which Fritz!Box routers write.
    pub is_modified: bool,
}

/// Returns the kind of a file that begins with these bytes, or `None` for anything that is not a capture.
pub fn kind(head: &[u8]) -> Option<Kind> {
    match *head {
        [0x1F, 0x8B, ..] => Some(Kind::Gzip),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Kind::Zstd),
        [0x50..=0x5F, a, b, c, ..] if [a, b, c] == ZSTD_SKIPPABLE => Some(Kind::Zstd),
        [a, b, c, d, ..] if [a, b, c, d] == SECTION_HEADER => Some(Kind::PcapNg),
        [a, b, c, d, ..] => {
            let little = variant(u32::from_le_bytes([a, b, c, d]), false);
            little
                .or_else(|| variant(u32::from_be_bytes([a, b, c, d]), true))
                .map(Kind::Pcap)
        }
        _ => None,
    }
}

fn variant(magic: u32, is_big_endian: bool) -> Option<Variant> {
    let (nanos_per_unit, is_modified) = match magic {
        0xA1B2_C3D4 => (1_000, false),
        0xA1B2_3C4D => (1, false),
        0xA1B2_CD34 => (1_000, true),
        _ => return None,
    };
    Some(Variant {
        is_big_endian,
        nanos_per_unit,
        is_modified,
    })
}

/// Returns whether a path names a capture: a file that begins like one, packed or not, or anything that can be read only
/// once, such as a pipe. `-` is standard input. Nothing is read from what can be read only once.
pub fn is_capture(path: &Path) -> bool {
    if path == Path::new("-") {
        return true;
    }
    let Ok(metadata) = std::fs::metadata(path) else {
        return false;
    };
    if !metadata.is_file() {
        return !metadata.is_dir();
    }
    let head = File::open(path).and_then(head);
    head.is_ok_and(|head| kind(&head).is_some())
}

/// The first bytes, fewer where there are not as many.
pub fn head(input: impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    input.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}
