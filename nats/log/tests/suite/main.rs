//! Everything about the log that needs a disk, a crash, or time to go wrong: one binary, a module for each way.

mod contracts;
mod crash;
mod damage;
mod embedded;
mod frames;
mod full_disk;
mod model;
mod samples;
mod sim;
mod sim_disk;

use std::path::{Path, PathBuf};

use watchfold_log::stream::StreamStore;
use watchfold_log::{Append, StreamOptions, contract};
use watchfold_schemas::{Stream, Time};

const OBS: Stream = Stream::Observations;
const GIB: u64 = 1 << 30;

fn tick(number: u64) -> Append {
    contract::message(OBS, "wf.obs.site.tick.clock", number, format!("payload {number}"))
}

/// A stream on the real disk, without threads.
fn open_store(dir: &Path, options: StreamOptions) -> StreamStore {
    let disk = std::sync::Arc::new(watchfold_log::disk::RealDisk);
    StreamStore::open(disk, &dir.join(OBS.name()), options, [7; 16]).unwrap()
}

/// Writes ticks in synced commits of the given sizes, numbered from 1, and ends as if killed.
fn write_commits(dir: &Path, options: StreamOptions, commits: &[u64]) {
    let mut store = open_store(dir, options);
    let mut number = 1;
    for &size in commits {
        let messages: Vec<Append> = (number..number + size).map(tick).collect();
        store
            .append(&messages, Time::from_seconds(1_000 + number as i64))
            .unwrap();
        store.sync().unwrap();
        number += size;
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(dir.join(OBS.name()))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> = names
        .filter(|path| path.extension().is_some_and(|e| e == "wfl"))
        .collect();
    segments.sort();
    segments
}
