//! Packets to alerts: rules over columns, what is known of addresses and connections, attacks.
//!
//! It reads what captures recorded and what came of look-ups, in the order of the log, and knows no capture, no oracle
//! and no clock but the packets' own.

mod chain;
mod clock;
mod columns;
mod community_id;
mod conditions;
mod duplicates;
mod extract;
mod findings;
mod hits;
mod judge;
mod judge_rows;
mod mask;
mod matching;
mod point;
mod rows;
mod rulebook;
#[cfg(test)]
mod testing;
mod turn;

use crate::detections::{arrivals, attacks, reputation, telling};
use crate::{emit, store};

pub use chain::PacketChain;
pub use clock::PacketCounters;
pub use community_id::community_id;
pub use findings::finding_of;
pub use matching::RuleRows;

/// Protocol numbers as IANA has them.
mod protocols {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;
}
