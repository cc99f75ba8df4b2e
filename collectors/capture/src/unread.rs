//! What a capture file gave and what it did not: packets without a row, by reason.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::file::Skipped;
use crate::parse::Undecoded;

/// Packets without a row, by reason. There are as many reasons as link types at most, which are 16-bit numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    undecoded: BTreeMap<Undecoded, u64>,
    skipped: BTreeMap<Skipped, u64>,
}

/// What one capture file held, once it was read to its end or its tear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSummary {
    pub path: PathBuf,
    /// With those that gave no row.
    pub packets: u64,
    pub unread: Unread,
}

impl Unread {
    pub fn add(&mut self, why: Undecoded) {
        *self.undecoded.entry(why).or_default() += 1;
    }

    /// The counts of a [`crate::file::CaptureFile`], in place of those before.
    pub fn set_skipped(&mut self, skipped: &BTreeMap<Skipped, u64>) {
        self.skipped.clone_from(skipped);
    }

    /// Packets that were decoded as far as their link type, and hold nothing that gives a row.
    pub fn undecoded(&self) -> u64 {
        self.undecoded.values().sum()
    }

    /// Packets that cannot be placed in time, or of which the file says too little: what they hold is not known.
    pub fn skipped(&self) -> u64 {
        self.skipped.values().sum()
    }

    pub fn undecoded_by_reason(&self) -> impl Iterator<Item = (String, u64)> {
        self.undecoded
            .iter()
            .map(|(why, count)| (why.to_string(), *count))
    }

    pub fn skipped_by_reason(&self) -> impl Iterator<Item = (String, u64)> {
        self.skipped.iter().map(|(why, count)| (why.to_string(), *count))
    }
}
