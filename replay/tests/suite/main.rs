//! Recordings and replays from outside: files, damage, digests and differences, on logs that the tests write.

mod attacks;
mod captures;
mod command;
mod diffs;
mod explains;
mod files;
mod follows;
mod output;
mod outside;
mod peers;
mod processes;
mod properties;
mod replays;
mod sample;
mod scans;
mod scenarios;
mod several;
mod snapshots;
mod still_open;
mod unread;
mod world;
