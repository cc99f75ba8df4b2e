//! The measurements themselves, each on a log of its own. What is appended is made while it is appended, as a collector
//! does: an id and a subject as text and a payload of its own for each record.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use watchfold_log::{Append, Embedded, MessageLog, Options, Start, StreamOptions};
use watchfold_schemas::{Chain, MessageId, Stream, subjects};

use super::counting::CountingDisk;
use crate::bench::machine;

/// Where everything goes. Events, because a broker takes those in a pipeline.
pub const STREAM: Stream = Stream::Events;
const SITE: &str = "bench";
static SUBJECT: LazyLock<String> = LazyLock::new(|| subjects::event(SITE, Chain::Site, "measured", "target"));
/// Far more than a round writes, so that retention stays out of it.
pub const BYTES_MAX: u64 = 1 << 40;
/// Records of one read.
const READ_MAX: usize = 4_096;
/// Appends under way at once where each is awaited.
const IN_FLIGHT: usize = 4;
/// Appenders that wait at once, each for one record at a time, and how their figures are called.
const APPENDERS: [(u64, [&str; 2]); 5] = [
    (1, ["waiting_1_appends_per_s", "waiting_1_appends_per_sync"]),
    (4, ["waiting_4_appends_per_s", "waiting_4_appends_per_sync"]),
    (16, ["waiting_16_appends_per_s", "waiting_16_appends_per_sync"]),
    (64, ["waiting_64_appends_per_s", "waiting_64_appends_per_sync"]),
    (256, ["waiting_256_appends_per_s", "waiting_256_appends_per_sync"]),
];
/// How long each number of appenders is measured.
const WAITING_TIME: Duration = Duration::from_secs(1);
/// The limit of the stream whose retention is measured, and how often over it is written.
const RETAINED_BYTES_MAX: u64 = 64 << 20;
const RETAINED_TIMES: u64 = 4;

/// What to measure with.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Goes into every id, so that a broker takes none for a duplicate of an earlier run's.
    pub run: u32,
    pub payload_bytes: usize,
    pub records: u64,
    pub batch: u64,
    pub sync_delay: Duration,
}

/// How fast something went.
#[derive(Clone, Copy)]
pub struct Rate {
    pub records_per_s: f64,
    /// Of payload for a log, of all that was written for the bare write.
    pub mb_per_s: f64,
}

impl Rate {
    pub fn new(records: u64, bytes: u64, took: Duration) -> Rate {
        let seconds = took.as_secs_f64();
        Rate {
            records_per_s: records as f64 / seconds,
            mb_per_s: bytes as f64 / 1e6 / seconds,
        }
    }
}

pub struct Appended {
    pub rate: Rate,
    pub syncs: u64,
    pub bytes_written: u64,
    pub payload_bytes: u64,
    /// At most so far, the waiting messages included.
    pub resident_bytes: Option<u64>,
}

pub struct Waiting {
    pub appenders: u64,
    pub names: [&'static str; 2],
    pub appends: u64,
    pub appends_per_s: f64,
    pub syncs: u64,
}

pub struct Retained {
    pub limit_bytes: u64,
    pub disk_bytes_max: u64,
}

/// What a reader of one site asks for.
pub fn site_filter() -> String {
    subjects::site_filter(STREAM, SITE)
}

impl Plan {
    fn options(&self, bytes_max: u64) -> Options {
        Options::uniform(StreamOptions {
            sync_delay: self.sync_delay,
            ..StreamOptions::new(bytes_max, None)
        })
    }

    fn message(&self, filling: &[u8], number: u64) -> Append {
        Append {
            stream: STREAM,
            subject: SUBJECT.clone(),
            id: MessageId(format!("bench/log/{:08x}/{number}", self.run)),
            payload: Bytes::copy_from_slice(filling),
        }
    }

    fn filling(&self) -> Vec<u8> {
        vec![b'x'; self.payload_bytes]
    }

    /// The messages of the batch that begins with `first`.
    fn batch(&self, filling: &[u8], first: u64) -> Vec<Append> {
        let end = (first + self.batch).min(self.records);
        (first..end).map(|number| self.message(filling, number)).collect()
    }
}

/// Only makes the messages: what the appending thread spends on them before the log has any.
pub fn make(plan: &Plan) -> Rate {
    let filling = plan.filling();
    let began = Instant::now();
    let mut first = 0;
    while first < plan.records {
        std::hint::black_box(plan.batch(&filling, first));
        first += plan.batch;
    }
    Rate::new(
        plan.records,
        plan.records * plan.payload_bytes as u64,
        began.elapsed(),
    )
}

/// Nobody waits but for the last: synced as by the delay.
pub async fn append(dir: &Path, plan: &Plan) -> anyhow::Result<Appended> {
    let disk = CountingDisk::default();
    let log = Embedded::open_on(Arc::new(disk.clone()), dir, plan.options(BYTES_MAX))?;
    let filling = plan.filling();
    let (syncs, bytes) = (disk.0.syncs(), disk.0.bytes_written());
    let began = Instant::now();
    let (mut first, mut last) = (0, None);
    while first < plan.records {
        last = Some(log.submit(STREAM, plan.batch(&filling, first)).await?);
        first += plan.batch;
    }
    if let Some(last) = last {
        last.wait().await?;
    }
    let took = began.elapsed();
    let info = log.info(STREAM).await?;
    ensure!(
        info.last_sequence == plan.records,
        "{} of {} records are in the log",
        info.last_sequence,
        plan.records
    );
    let payload_bytes = plan.records * plan.payload_bytes as u64;
    log.close();
    Ok(Appended {
        rate: Rate::new(plan.records, payload_bytes, took),
        syncs: disk.0.syncs() - syncs,
        bytes_written: disk.0.bytes_written() - bytes,
        payload_bytes,
        resident_bytes: machine::resident_bytes_max(),
    })
}

/// Every batch is awaited, a few at once: each is synced as soon as the sync before it is over.
pub async fn awaited(dir: &Path, plan: &Plan) -> anyhow::Result<Rate> {
    let log = Embedded::open(dir, plan.options(BYTES_MAX))?;
    let rate = append_in_pipeline(log.as_ref(), plan).await?;
    log.close();
    Ok(rate)
}

/// The same for any transport.
pub async fn append_in_pipeline(log: &dyn MessageLog, plan: &Plan) -> anyhow::Result<Rate> {
    let filling = plan.filling();
    let began = Instant::now();
    let mut in_flight = FuturesUnordered::new();
    let mut first = 0;
    while first < plan.records {
        if in_flight.len() == IN_FLIGHT {
            in_flight.next().await.transpose()?;
        }
        in_flight.push(log.append(plan.batch(&filling, first)));
        first += plan.batch;
    }
    while in_flight.next().await.transpose()?.is_some() {}
    let payload_bytes = plan.records * plan.payload_bytes as u64;
    Ok(Rate::new(plan.records, payload_bytes, began.elapsed()))
}

pub async fn read(dir: &Path, plan: &Plan, filter: &str) -> anyhow::Result<Rate> {
    let log = Embedded::open(dir, plan.options(BYTES_MAX))?;
    let mut reader = log.reader(STREAM, filter, Start::First).await?;
    let began = Instant::now();
    let (mut records, mut bytes) = (0, 0);
    while records < plan.records {
        let batch = reader.next(READ_MAX).await?;
        ensure!(batch.lost.is_none(), "the log lost {:?}", batch.lost);
        for record in &batch.records {
            records += 1;
            bytes += record.payload.len() as u64;
            ensure!(
                record.sequence == records,
                "record {} came as {records}",
                record.sequence
            );
        }
    }
    Ok(Rate::new(records, bytes, began.elapsed()))
}

/// Each appender waits for its record before it brings the next; all who wait share a sync.
pub async fn waiting(dir: &Path, plan: &Plan) -> anyhow::Result<Vec<Waiting>> {
    let disk = CountingDisk::default();
    let log = Embedded::open_on(Arc::new(disk.clone()), dir, plan.options(BYTES_MAX))?;
    let next = Arc::new(AtomicU64::new(0));
    let mut measured = Vec::new();
    for (appenders, names) in APPENDERS {
        let (syncs, first, began) = (disk.0.syncs(), next.load(Ordering::Relaxed), Instant::now());
        let tasks: Vec<_> = (0..appenders)
            .map(|_| {
                let (log, next) = (log.clone(), next.clone());
                let plan = *plan;
                tokio::spawn(async move {
                    let filling = plan.filling();
                    while began.elapsed() < WAITING_TIME {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        log.append(vec![plan.message(&filling, number)]).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await.context("an appender panicked")??;
        }
        let appends = next.load(Ordering::Relaxed) - first;
        let syncs = disk.0.syncs() - syncs;
        measured.push(Waiting {
            appenders,
            names,
            appends,
            appends_per_s: appends as f64 / began.elapsed().as_secs_f64(),
            syncs,
        });
    }
    log.close();
    Ok(measured)
}

/// Writes several times what the stream may keep, and looks at the disk after each batch.
pub async fn retention(dir: &Path, plan: &Plan) -> anyhow::Result<Retained> {
    let log = Embedded::open(dir, plan.options(RETAINED_BYTES_MAX))?;
    let filling = plan.filling();
    let (mut number, mut disk_bytes_max) = (0, 0);
    while number * plan.payload_bytes as u64 <= RETAINED_TIMES * RETAINED_BYTES_MAX {
        let batch = (number..number + plan.batch).map(|number| plan.message(&filling, number));
        log.append(batch.collect()).await?;
        number += plan.batch;
        disk_bytes_max = disk_bytes_max.max(disk_bytes(&dir.join(STREAM.name()))?);
    }
    log.close();
    Ok(Retained {
        limit_bytes: RETAINED_BYTES_MAX,
        disk_bytes_max,
    })
}

/// What the files in a directory take, in blocks where the system says so.
fn disk_bytes(dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        match entry?.metadata() {
            Ok(metadata) => bytes += taken_bytes(&metadata),
            // Dropped while we look.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

#[cfg(unix)]
fn taken_bytes(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn taken_bytes(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}
