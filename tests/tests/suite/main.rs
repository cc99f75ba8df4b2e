//! The end-to-end tests that need no privileges: one binary, so that they are linked once.

mod boundaries;
mod limits;
mod modules;
mod new_fold;
mod properties;
mod scenarios;
mod short_reads;
mod tidy;
mod transports;
mod tree;
mod upgrade;
