//! What is measured, each in a process of its own: a bare libpcap loop, and the whole path from the interface to attacks
//! told to the site chain. Each says when it is ready, and what it counted once its standard input ends.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use watchfold_capture::CaptureConfig;
use watchfold_folds::PacketChain;
use watchfold_kit::{Progress, Publisher, PublisherOptions};
use watchfold_log::{Embedded, MessageLog, Options, Start};
use watchfold_rules::RuleSource;
use watchfold_runner::{ChainRunner, RunnerOptions};
use watchfold_schemas::packets::CaptureCounts;
use watchfold_schemas::{Body, Chain, Stream, decode_observation, subjects};

use crate::bench::packets::stages::{SITE, activation, append};
use watchfold_kit::{console, outln};

/// What a receiver says first.
pub const READY: &str = "ready";

/// As of the live capture.
const GATHER_MS: i32 = 20;

/// How long the bare loop rests when there is nothing to read, as the live capture does.
const REST: Duration = Duration::from_millis(5);

/// How long the chain may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(30);

/// How often it is looked whether something came about.
const POLL: Duration = Duration::from_millis(2);

/// Records of one read.
const READ_MAX: usize = 64;

/// What a receiver counted.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Counted {
    pub received: u64,
    pub dropped_by_kernel: u64,
    /// Lost before they reached the kernel's buffer.
    pub dropped_by_interface: u64,
    /// Dropped because the log took no more; of the whole path alone.
    pub dropped_here: u64,
    /// How long after the end the chain had judged everything; of the whole path alone.
    pub behind_ms: Option<u64>,
}

/// Reads every packet and does nothing with it; `late`, only when everything was sent.
pub fn bare(config: &CaptureConfig, late: bool) -> anyhow::Result<()> {
    let mut capture = pcap::Capture::from_device(config.interface.as_str())?
        .promisc(true)
        .snaplen(i32::try_from(config.snap_length)?)
        .buffer_size(i32::try_from(config.buffer_bytes)?)
        .timeout(GATHER_MS)
        .open()
        .and_then(pcap::Capture::setnonblock)
        .with_context(|| format!("libpcap cannot open {}", config.interface))?;
    let over = Arc::new(AtomicBool::new(false));
    ready()?;
    if late {
        until_told()?;
        over.store(true, Ordering::Release);
    } else {
        let over = Arc::clone(&over);
        std::thread::spawn(move || {
            // Also when nobody is there any more to tell, it is over.
            drop(until_told());
            over.store(true, Ordering::Release);
        });
    }
    let (mut received, mut bytes) = (0, 0);
    loop {
        let was_over = over.load(Ordering::Acquire);
        match capture.next_packet() {
            Ok(packet) => {
                received += 1;
                bytes += packet.data.len() as u64;
            }
            // Waiting for packets would last for ever once nothing is sent.
            Err(pcap::Error::TimeoutExpired) if !was_over => std::thread::sleep(REST),
            Err(pcap::Error::TimeoutExpired) => break,
            Err(error) => return Err(error.into()),
        }
    }
    std::hint::black_box(bytes);
    let stat = capture.stats()?;
    tell(&Counted {
        received,
        dropped_by_kernel: stat.dropped.into(),
        dropped_by_interface: stat.if_dropped.into(),
        ..Counted::default()
    })
}

/// Captures, batches, records and judges, as `watchfold up` does.
pub fn whole(config: CaptureConfig, rules: &RuleSource, directory: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("async")
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let rules = watchfold_rules::load(rules)?;
    let log = Embedded::open(&directory.join("log"), Options::default())?;
    let counted = runtime.block_on(async {
        log.append(vec![append(&activation(rules))?]).await?;
        through_the_log(config, directory, &log).await
    })?;
    log.close();
    tell(&counted)
}

async fn through_the_log(
    config: CaptureConfig,
    directory: &Path,
    log: &Arc<Embedded>,
) -> anyhow::Result<Counted> {
    let fold = Box::new(PacketChain::new(SITE));
    let options = RunnerOptions::for_chain(Chain::Packets);
    let store = directory.join("state");
    let shown = Progress::new("chain");
    let runner = ChainRunner::open(log.clone(), &store, SITE, Chain::Packets, fold, shown, options).await?;
    let (stats, chain_over, capture_over) =
        (runner.stats(), CancellationToken::new(), CancellationToken::new());
    let judging = tokio::spawn(runner.run(chain_over.clone()));

    let (collector, options) = (config.collector(), PublisherOptions::packets(None));
    let publisher = Publisher::open_with(log.clone(), SITE, &collector, directory, options).await?;
    let (ring, shown) = (directory.join("ring"), Progress::new("capture"));
    let capture = watchfold_capture::run(publisher.clone(), config, ring, shown, capture_over.clone());
    let capturing = tokio::spawn(capture);
    // An interface that is open gives a batch at least twice a second.
    while last_counts(log).await?.is_none() {
        tokio::time::sleep(POLL).await;
    }
    ready()?;
    tokio::task::spawn_blocking(until_told).await??;

    let ended = Instant::now();
    capture_over.cancel();
    capturing.await.context("the capture panicked")??;
    publisher.flush().await;
    let head = log.info(Stream::Packets).await?.last_sequence;
    while stats.snapshot().position < head && ended.elapsed() < CATCH_UP {
        tokio::time::sleep(POLL).await;
    }
    let behind_ms = ended.elapsed().as_millis() as u64;
    let counts = last_counts(log).await?.unwrap_or_default();
    chain_over.cancel();
    judging.await.context("the chain panicked")??;
    Ok(Counted {
        received: counts.received,
        dropped_by_kernel: counts.dropped_by_kernel,
        dropped_by_interface: counts.dropped_by_interface,
        dropped_here: counts.dropped_here,
        behind_ms: Some(behind_ms),
    })
}

/// Of the newest batch, if there is one.
async fn last_counts(log: &Arc<Embedded>) -> anyhow::Result<Option<CaptureCounts>> {
    let head = log.info(Stream::Packets).await?.last_sequence;
    let from = Start::Sequence(head.saturating_sub(1).max(1));
    let filter = subjects::of_observation(Stream::Packets, SITE, "*", "*");
    let mut reader = log.reader(Stream::Packets, &filter, from).await?;
    let (mut counts, mut at) = (None, 0);
    while at < head {
        for record in reader.next(READ_MAX).await?.records {
            at = record.sequence;
            if let Body::Batch(batch) = decode_observation(&record.payload)?.body {
                counts = Some(batch.counts);
            }
        }
    }
    Ok(counts)
}

fn ready() -> anyhow::Result<()> {
    let mut out = console::output();
    writeln!(out, "{READY}")?;
    Ok(out.flush()?)
}

fn tell(counted: &Counted) -> anyhow::Result<()> {
    outln!("{}", serde_json::to_string(counted)?)?;
    Ok(())
}

/// Waits until whoever started this process has closed its standard input.
fn until_told() -> std::io::Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new()).map(drop)
}
