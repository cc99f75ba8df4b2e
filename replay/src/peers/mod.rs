//! What another detector said of the same packets, beside what Watchfold says: Suricata's `eve.json` and Zeek's `notice.log`, joined by
//! Community ID and time.
//!
//! Foreign text never ends a comparison: a line that cannot be read is counted. Which of two detectors is right is not known here.

mod join;
mod read;

use core::net::IpAddr;
use std::path::Path;

use serde::Serialize;
use watchfold_schemas::Time;

use crate::ReplayError;

pub use join::{Alerts, Joined, JoinedBy, Ours, Pair};
pub use read::{LINE_BYTES_MAX, SAID_MAX};

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    Suricata,
    Zeek,
}

/// One alert or notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    pub at: Time,
    pub peer: Peer,
    /// The signature, or the kind of notice.
    pub name: String,
    /// The flow, as it was said, or computed of addresses and ports.
    pub community_id: Option<String>,
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Heard {
    pub said: Vec<Said>,
    pub lines: u64,
    /// Lines of other kinds: flows, statistics, DNS.
    pub others: u64,
    /// Lines that are too long, or nothing that either writes.
    pub unreadable: u64,
}

/// Reads a file of either.
pub fn hear(path: &Path) -> Result<Heard, ReplayError> {
    read::hear(path)
}

/// Whether a file looks like one of either, by its first line.
pub fn is_of_peer(path: &Path) -> bool {
    read::is_of_peer(path)
}
