//! What is known beyond one packet: classes of addresses, parts of names, attempts to connect, who has which address.
//!
//! Named, bounded, and on packet time alone. They measure: whether something is an attack, rules say.

pub mod addresses;
pub mod connections;
pub mod dns;
pub mod neighbours;
