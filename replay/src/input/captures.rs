//! Capture files as an input: batches of packets without a log around them. Their time is that of their packets.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Raw, Selection};
use crate::ReplayError;
use crate::outside::CapturedBatches;

/// The site of capture files, where none is named.
pub const CAPTURE_SITE: &str = "capture";

/// Before the first batch stands the activation of the rules.
const FIRST_SEQUENCE: u64 = 2;

/// The first bytes of pcap in both byte orders and both units, of pcapng, and of zstd.
const MAGICS: [[u8; 4]; 6] = [
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
    [0x0a, 0x0d, 0x0d, 0x0a],
    [0x28, 0xb5, 0x2f, 0xfd],
];

/// Gzip has three.
const GZIP: [u8; 3] = [0x1f, 0x8b, 0x08];

/// Whether a path is a capture file, by its first bytes; `-` is one, on standard input.
pub fn is_capture(path: &Path) -> bool {
    if path == Path::new("-") {
        return true;
    }
    let mut magic = [0; 4];
    let is_read =
        !path.is_dir() && File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok());
    is_read && (MAGICS.contains(&magic) || magic.starts_with(&GZIP))
}

pub(super) struct CaptureSource {
    batches: CapturedBatches,
    site: String,
    bytes: u64,
    sequence: u64,
    is_ended: bool,
}

impl CaptureSource {
    pub(super) fn open(paths: &[PathBuf], selection: &Selection) -> Result<CaptureSource, ReplayError> {
        let site = selection.site.as_deref().unwrap_or(CAPTURE_SITE);
        let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(CaptureSource {
            batches: selection.outside.captures(paths, site)?,
            site: site.to_owned(),
            bytes: paths.iter().map(size).sum(),
            sequence: FIRST_SEQUENCE,
            is_ended: false,
        })
    }

    pub(super) fn site(&self) -> &str {
        &self.site
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn next(&mut self) -> Option<Raw> {
        if self.is_ended {
            return None;
        }
        match self.batches.next()? {
            Ok(observation) => {
                let sequence = self.sequence;
                self.sequence += 1;
                Some(Raw::Captured(Box::new(observation), sequence))
            }
            Err(error) => {
                self.is_ended = true;
                Some(Raw::Problem(error.to_string()))
            }
        }
    }
}
