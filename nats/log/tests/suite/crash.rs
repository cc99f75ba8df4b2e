//! kill -9 of a real process that appends, at random moments, over and over on one directory: everything that it
//! printed an ack for is there, in order. `WATCHFOLD_KILL_ROUNDS` says how often.

#![expect(
    clippy::disallowed_methods,
    reason = "the child process acknowledges on its standard output"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use watchfold_log::{Embedded, MessageLog, Options, Start, StreamOptions, contract, verify};

use crate::sim_disk::Rng;
use crate::{GIB, OBS};

/// Rounds in a plain test run.
const ROUNDS: u64 = 20;
/// Set for the child; names the directory.
const CHILD: &str = "WATCHFOLD_KILL_CHILD";

fn options() -> Options {
    Options::uniform(StreamOptions {
        segment_bytes: 50_000,
        ..StreamOptions::new(GIB, None)
    })
}

fn message(number: u64) -> watchfold_log::Append {
    let bytes = (number.wrapping_mul(7919) % 700) as usize;
    contract::message(OBS, "wf.obs.s.x.y", number, vec![number as u8; bytes])
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    if let Some(dir) = std::env::var_os(CHILD) {
        append_until_killed(Path::new(&dir));
    }
    let rounds = std::env::var("WATCHFOLD_KILL_ROUNDS")
        .ok()
        .map_or(ROUNDS, |text| text.parse().expect("a number"));
    let root = tempfile::tempdir().unwrap();
    let mut rng = Rng(u64::from(std::process::id()));
    let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
    for round in 0..rounds {
        let known = acknowledged.len();
        let acks_wanted = 1 + rng.below(60);
        for (sequence, number) in
            run_and_kill(root.path(), acks_wanted, Duration::from_micros(rng.below(3_000)))
        {
            let before = acknowledged.insert(sequence, number);
            assert!(
                before.is_none_or(|before| before == number),
                "round {round}: {sequence} acknowledged twice"
            );
        }
        assert!(acknowledged.len() > known, "round {round}: nothing happened");
        check(root.path(), &acknowledged);
    }
}

/// The acks that the child printed before it was killed, a moment after it printed enough of them.
fn run_and_kill(dir: &Path, acks_wanted: u64, moment: Duration) -> Vec<(u64, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::a_killed_process_loses_nothing_acknowledged",
            "--nocapture",
        ])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acks = Vec::new();
    let mut is_killed = false;
    // A line is printed whole, or the kill cut it: then it lacks its end.
    while let Some(Ok(line)) = lines.next() {
        let Some(ack) = line.strip_prefix("ack ").and_then(|ack| ack.strip_suffix(" .")) else {
            continue;
        };
        let (sequence, number) = ack.split_once(' ').unwrap();
        acks.push((sequence.parse().unwrap(), number.parse().unwrap()));
        if acks.len() as u64 >= acks_wanted && !is_killed {
            std::thread::sleep(moment);
            child.kill().unwrap();
            is_killed = true;
        }
    }
    assert!(is_killed, "the child ended by itself");
    child.wait().unwrap();
    acks
}

fn check(dir: &Path, acknowledged: &BTreeMap<u64, u64>) {
    let report = verify(dir).unwrap();
    assert!(report.is_whole(), "{report:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let log = Embedded::open(dir, options()).unwrap();
        let mut reader = log.reader(OBS, ">", Start::First).await.unwrap();
        let (mut held, mut last) = (BTreeMap::new(), 0);
        loop {
            let batch = reader.try_next(1000).await.unwrap();
            assert_eq!(batch.lost, None);
            if batch.records.is_empty() {
                break;
            }
            for record in batch.records {
                let number: u64 = record.id.0.rsplit('/').next().unwrap().parse().unwrap();
                assert_eq!(record.payload, message(number).payload);
                assert!(
                    number == last + 1,
                    "message {number} behind {last}: missing, twice or out of order"
                );
                last = number;
                held.insert(record.sequence, number);
            }
        }
        for (sequence, number) in acknowledged {
            assert_eq!(held.get(sequence), Some(number), "{sequence} was acknowledged");
        }
    });
}

/// The child: goes on where the log ends, a few batches in flight, and prints each ack once it has it.
fn append_until_killed(dir: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let log = Embedded::open(dir, options()).unwrap();
        let last = log.last(OBS, ">").await.unwrap();
        let mut number = last.map_or(0, |record| {
            record.id.0.rsplit('/').next().unwrap().parse().unwrap()
        });
        loop {
            let mut in_flight = Vec::new();
            for size in [1, 5, 2, 9] {
                let numbers: Vec<u64> = (number + 1..=number + size).collect();
                number += size;
                let messages = numbers.iter().map(|number| message(*number)).collect();
                in_flight.push((numbers, log.submit(OBS, messages).await.unwrap()));
            }
            for (numbers, submitted) in in_flight {
                let acks = submitted.wait().await.unwrap();
                let mut out = String::new();
                for (number, ack) in numbers.iter().zip(acks) {
                    out.push_str(&format!("ack {} {number} .\n", ack.sequence));
                }
                std::io::stdout().write_all(out.as_bytes()).unwrap();
            }
        }
    })
}
