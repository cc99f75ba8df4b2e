//! Tests of the runner, against the in-memory log, with a small fold whose events tell any record lost or folded
//! twice.

mod crash;
mod embedded;
mod holes;
mod input;
mod packet_parity;
mod packets;
mod parity;
mod rebuild;
mod site;
mod snapshots;
mod stores;
mod traffic;
mod world;
