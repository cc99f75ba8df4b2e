//! A capture file under the default pack: what follows from it depends neither on how its packets are batched nor on restarts.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use watchfold_capture::{FileObservations, FileOptions};
use watchfold_fuzz::chain::{Folded, SITE, Told, pack};
use watchfold_fuzz::scratch;
use watchfold_rules::PackName;
use watchfold_schemas::{Body, Span, Time};

/// Packed bytes may stand for any number of packets; files with more are left out.
const PACKETS_MAX: u64 = 3_000;

fuzz_target!(|bytes: &[u8]| {
    let path = scratch::file("fuzzed.pcap", bytes);
    let Some(whole) = told(path, 4_096, None) else {
        return;
    };
    // The file's last bytes say how else it is batched.
    let tail = |back: usize| bytes.iter().rev().nth(back).copied().map_or(1, usize::from);
    assert!(
        told(path, 1, None).is_some_and(|rows| rows == whole),
        "row by row"
    );
    let stored = told(path, 1 + tail(0), Some(1 + tail(1) % 8));
    assert!(stored.is_some_and(|stored| stored == whole), "stored and loaded");
});

/// `None` where there are too many packets, or the file cannot be read.
fn told(path: &Path, batch_rows: usize, restart_every: Option<usize>) -> Option<Vec<Told>> {
    let options = FileOptions {
        site: SITE.to_owned(),
        head_ports: vec![22, 3_333, 14_444],
        batch_rows,
        ..FileOptions::default()
    };
    let mut observations = FileObservations::open(&[path.to_owned()], options).ok()?;
    let mut folded = Folded::under(pack(PackName::Default));
    let (mut through, mut records) = (Time::EPOCH, 0);
    loop {
        let Some(next) = observations.next() else { break };
        let observation = next.ok()?;
        if observations.counts().received > PACKETS_MAX {
            return None;
        }
        assert!(observation.through >= through || records == 0, "time falls");
        through = observation.through;
        folded.fold(&observation);
        records += 1;
        if restart_every.is_some_and(|every| records % every == 0) {
            folded.restart();
        }
    }
    assert_eq!(folded.chain.counters().malformed_batches, 0);
    let later = through + Span::from_seconds(7_200);
    folded.give("capture-file", 1, later, Body::Quiet);
    Some(folded.told)
}
