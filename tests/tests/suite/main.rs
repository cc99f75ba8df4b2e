//! The end-to-end tests that need no privileges: one binary, so that they are linked once.

mod properties;
mod scenarios;
