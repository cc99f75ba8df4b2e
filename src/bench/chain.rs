//! `watchfold bench chain`: the runner of a site's chain over an embedded log, from observations that are stored to the
//! commit of its state and the acknowledgement of its events. Nothing is simulated but what the collectors saw.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio_util::sync::CancellationToken;
use watchfold_folds::SiteChain;
use watchfold_kit::Progress;
use watchfold_log::{Append, Embedded, MessageLog, Options, StreamOptions};
use watchfold_runner::{ChainRunner, RunnerOptions, StatsHandle};
use watchfold_schemas::{Body, Chain, Span, Stream, codec, subjects};

use super::month::{Month, SITE, START};
use super::report::Report;
use super::{machine, workspace};
use crate::cli::BenchChainArgs;

/// Records in one append while the chain runs: what collectors that catch up send at once.
const BATCH_RECORDS: usize = 256;

/// Batches that wait for their sync together, as those of several collectors do.
const BATCHES_AT_ONCE: usize = 4;

/// How far the appends may be ahead of the chain: a few batches, so that neither waits for the other's every step.
const AHEAD_RECORDS: u64 = 8 * BATCH_RECORDS as u64;

/// How often it is looked whether the chain has caught up.
const POLL: Duration = Duration::from_millis(1);

/// More than any measurement writes.
const STREAM_BYTES_MAX: u64 = 1 << 40;

pub fn chain(args: &BenchChainArgs) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let mut report = Report::new("chain");
    report.add(
        "hours",
        f64::from(args.hours),
        "hours",
        "of 23 addresses each 2 s",
    );
    let backlog = runtime.block_on(run(args, true))?;
    add(
        &mut report,
        &backlog,
        [
            "backlog_results",
            "backlog_events",
            "backlog_commits",
            "backlog_results_per_s",
            "backlog_results_per_core_s",
        ],
        "backlog",
    );
    let live = runtime.block_on(run(args, false))?;
    add(
        &mut report,
        &live,
        [
            "live_results",
            "live_events",
            "live_commits",
            "live_results_per_s",
            "live_results_per_core_s",
        ],
        "as it comes",
    );
    if let Some(bytes) = machine::resident_bytes_max() {
        report.add(
            "resident_bytes_max",
            bytes as f64,
            "bytes",
            "resident at most, with the log in it",
        );
    }
    Ok(report)
}

/// What one run came to.
struct Run {
    results: u64,
    events: u64,
    commits: u64,
    took: Duration,
    processor: Option<Duration>,
}

/// Folds everything in a log that holds it already, or batch by batch as it is appended.
async fn run(args: &BenchChainArgs, is_backlog: bool) -> anyhow::Result<Run> {
    let directory = workspace(&args.common)?;
    let mut options = Options::default();
    let limits = StreamOptions::new(STREAM_BYTES_MAX, None);
    options.streams.insert(Stream::Observations, limits);
    let log: Arc<Embedded> = Embedded::open(&directory.path().join("log"), options)?;
    let (mut batches, results) = batches(args.hours)?;
    if is_backlog {
        append_all(&log, &mut batches, None).await?;
    }
    let store = directory.path().join("state");
    let fold = Box::new(SiteChain::new(SITE));
    let options = RunnerOptions::for_chain(Chain::Site);
    let progress = Progress::new("chain");
    let runner = ChainRunner::open(log.clone(), &store, SITE, Chain::Site, fold, progress, options).await?;
    let stats = runner.stats();
    let cancel = CancellationToken::new();

    let (processor, began) = (machine::processor_time(), Instant::now());
    let running = tokio::spawn(runner.run(cancel.clone()));
    append_all(&log, &mut batches, Some(&stats)).await?;
    let head = log.info(Stream::Observations).await?.last_sequence;
    wait_for(&stats, head).await;
    // What the runner still does at its end belongs to the work: the last commit, the last events.
    cancel.cancel();
    let processor_before_end = machine::processor_time();
    running.await.context("the chain panicked")??;
    let took = began.elapsed();
    log.close();

    let counted = stats.snapshot();
    ensure!(
        counted.quarantined + counted.duplicates + counted.outbox == 0,
        "something was left out: {counted:?}"
    );
    Ok(Run {
        results,
        events: counted.published,
        commits: counted.commits,
        took,
        // The chain's own thread is gone by the end, and its time with it.
        processor: processor_before_end
            .zip(processor)
            .map(|(after, before)| after.saturating_sub(before)),
    })
}

/// Everything that will be appended, and how many address results it holds.
fn batches(hours: u32) -> anyhow::Result<(VecDeque<Vec<Append>>, u64)> {
    let until = START + Span::from_seconds(i64::from(hours) * 3_600);
    let (mut batches, mut results) = (VecDeque::new(), 0);
    let mut batch = Vec::new();
    for observation in Month::new().take_while(|observation| observation.observed_at < until) {
        if let Body::PingRound(round) = &observation.body {
            results += round.len() as u64;
        }
        batch.push(Append {
            stream: Stream::Observations,
            subject: subjects::observation(SITE, observation.body.kind(), &observation.origin.collector),
            id: observation.origin.message_id(),
            payload: codec::encode_observation(&observation)?.into(),
        });
        if batch.len() == BATCH_RECORDS {
            batches.push_back(std::mem::take(&mut batch));
        }
    }
    batches.extend((!batch.is_empty()).then_some(batch));
    Ok((batches, results))
}

/// Appends every batch, some of them at once; with the chain's counters, never far ahead of the chain.
async fn append_all(
    log: &Arc<Embedded>,
    batches: &mut VecDeque<Vec<Append>>,
    chain: Option<&StatsHandle>,
) -> anyhow::Result<()> {
    let mut unacknowledged = VecDeque::new();
    while let Some(batch) = batches.pop_front() {
        unacknowledged.push_back(log.submit(Stream::Observations, batch).await?);
        if unacknowledged.len() < BATCHES_AT_ONCE {
            continue;
        }
        let acks = match unacknowledged.pop_front() {
            Some(submitted) => submitted.wait().await?,
            None => Vec::new(),
        };
        if let (Some(chain), Some(last)) = (chain, acks.last()) {
            wait_for(chain, last.sequence.saturating_sub(AHEAD_RECORDS)).await;
        }
    }
    for submitted in unacknowledged {
        submitted.wait().await?;
    }
    Ok(())
}

async fn wait_for(chain: &StatsHandle, position: u64) {
    while chain.snapshot().position < position {
        tokio::time::sleep(POLL).await;
    }
}

fn add(report: &mut Report, run: &Run, names: [&'static str; 5], what: &str) {
    let [results, events, commits, per_s, per_core_s] = names;
    report.add(
        results,
        run.results as f64,
        "address results",
        format!("{what}: folded"),
    );
    report.add(events, run.events as f64, "events", format!("{what}: published"));
    report.add(
        commits,
        run.commits as f64,
        "commits",
        format!("{what}: made durable"),
    );
    let rate = run.results as f64 / run.took.as_secs_f64();
    report.add(
        per_s,
        rate,
        "results/s",
        format!("{what}: from log to published events"),
    );
    if let Some(processor) = run.processor {
        let rate = run.results as f64 / processor.as_secs_f64();
        report.add(
            per_core_s,
            rate,
            "results/s",
            format!("{what}: for each second of one core, all threads together"),
        );
    }
}
