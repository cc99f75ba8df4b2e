//! The built command as a whole, on networks made for it: one binary, so that it is linked once. Needs root or user
//! namespaces, because every test runs in namespaces of its own; nothing outside them is sent a packet.

#![expect(clippy::print_stdout, reason = "the harness shows it when a test fails")]

mod attacks;
mod attacks_by_processes;
mod broker_away;
#[expect(dead_code, reason = "gaps are for the other suite")]
#[path = "../fleet/record.rs"]
mod broker_record;
mod browser;
mod captures;
mod crash;
mod failures;
#[path = "../fleet/figures.rs"]
mod figures;
mod first_start;
mod inside;
mod live;
mod network;
mod outage;
#[expect(dead_code, reason = "a service manager is for the other suite")]
#[path = "../plane/process.rs"]
mod process;
mod processes;
mod record;
mod story;
mod watchfold;
