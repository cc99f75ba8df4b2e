//! The time of each capture point: that of its packets, which never falls.

use serde::{Deserialize, Serialize};
use watchfold_schemas::{Span, Time};

use crate::table::{Change, Table};

/// Connections count in the order of their packets' own times within this. A packet that is earlier than the newest of its
/// collector by more, or later than what its collector says of time, is counted.
pub const ORDER_WITHIN: Span = Span::from_seconds(1);

/// The most capture points of one site. With a further one, the one whose packets are oldest is forgotten.
pub const CAPTURES_MAX: usize = 64;

/// What the packet chain had to do without, for metrics. Counted since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketCounters {
    /// Packets that were judged.
    pub packets: u64,
    /// Batches whose columns disagreed; their packets were not judged.
    pub malformed_batches: u64,
    /// Packets more than a second older than the newest of their collector; they count at the newest's time.
    pub late_packets: u64,
    /// Packets more than a second later than their record says that time has come; they count at the newest's time.
    pub ahead_packets: u64,
    /// Packets that were seen before: rules pass over them.
    pub duplicate_packets: u64,
    /// Packets forgotten, because there were too many, while copies of them might still come.
    pub originals_evicted: u64,
    /// Capture points forgotten, and their attacks ended, because a further one came.
    pub captures_forgotten: u64,
    /// Keys of windows, and rows of exact sums, forgotten before their time because there were too many.
    pub windows_evicted: u64,
    /// Batches with payloads and no payload's beginning in them, while a rule asks for these: the capture keeps none.
    pub batches_without_heads: u64,
    /// Rules that were activated and cannot be compiled by this version; they judge nothing.
    pub rules_refused: u64,
    /// Look-ups that were not asked for because the minute's were used up.
    pub lookups_withheld: u64,
    /// Entries of what is known of addresses, connections and attacks forgotten because there were too many.
    pub facts_evicted: u64,
}

/// The clock of one capture point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptureClock {
    pub incarnation: u64,
    /// The greatest time of a packet or of `through` so far.
    pub newest: Time,
    /// The last interface or file that its packets came from.
    pub interface: String,
    /// Records of the stream are gone: what lies before its next one was not seen.
    pub lost: bool,
}

impl CaptureClock {
    /// When a packet with this time counts, of a record that is complete up to `through`. The clock follows it, but not one
    /// that is far ahead of its record: that would make everything after it count at one instant.
    pub fn count(&mut self, at: Time, through: Time) -> (Time, Order) {
        if at.since(through) > ORDER_WITHIN && at > self.newest {
            if self.newest == Time::default() {
                self.newest = through;
            }
            return (self.newest, Order::Ahead);
        }
        if at >= self.newest {
            self.newest = at;
            return (at, Order::Within);
        }
        if self.newest.since(at) > ORDER_WITHIN {
            return (self.newest, Order::Late);
        }
        (self.newest, Order::Within)
    }
}

/// How a packet's time stands to those around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In order within a second.
    Within,
    Late,
    Ahead,
}

/// All capture points.
#[derive(Debug)]
pub struct CaptureClocks {
    pub captures: Table<CaptureClock>,
}

impl CaptureClocks {
    pub const fn new() -> CaptureClocks {
        CaptureClocks {
            captures: Table::new("packets/clock/"),
        }
    }

    /// Whether the collector is known, or there is room for it.
    pub fn admits(&self, collector: &str) -> bool {
        self.captures.len() < CAPTURES_MAX || self.captures.get(collector).is_some()
    }

    /// The capture point whose packets are oldest, by name where several are.
    pub fn oldest(&self) -> Option<String> {
        let captures = self.captures.iter();
        let oldest = captures.min_by_key(|(name, clock)| (clock.newest, *name));
        oldest.map(|(name, _)| name.clone())
    }

    /// The greatest time of any capture point.
    pub fn now(&self) -> Option<Time> {
        self.captures.iter().map(|(_, clock)| clock.newest).max()
    }

    pub fn drain_dirty(&mut self, out: &mut Vec<Change>) {
        self.captures.drain_dirty(out);
    }

    pub fn store_all(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        self.captures.store_all(out);
    }

    pub fn load(&mut self, key: &[u8], bytes: &[u8]) -> Result<bool, String> {
        self.captures.load(key, bytes)
    }
}
