//! A site on real brokers, as one binary so that it is linked once: what they do to those who use them, and what must
//! hold all the same. Everything is on loopback or in namespaces of its own.

#![expect(clippy::print_stderr, reason = "the harness shows it when a test fails")]

mod accounts;
mod cluster;
mod compose;
mod faults;
mod figures;
mod load;
#[path = "../plane/process.rs"]
#[expect(dead_code, reason = "the suite of the small programs uses the rest")]
mod process;
mod record;
mod server_files;
mod shipped;
mod site;
#[path = "../plane/telling.rs"]
mod telling;
mod topology;
mod units;
mod upgrade;
