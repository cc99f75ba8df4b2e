//! Packets to alerts: rules over columns, what is known of addresses and connections, attacks.
//!
//! It reads what captures recorded and what came of look-ups, in the order of the log, and knows no capture, no oracle
//! and no clock but the packets' own.

mod chain;
mod clock;

pub use chain::PacketChain;
pub use clock::PacketCounters;
