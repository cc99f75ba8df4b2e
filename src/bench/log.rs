//! `watchfold bench log`: how fast the embedded log takes, gives back and opens, beside a bare checksummed write of as many
//! bytes on the same disk in the same run, and beside JetStream when a server is named.

mod counting;
mod measure;
mod opening;
mod peer;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use watchfold_connect::{ConnectArgs, Patience};

use super::report::Report;
use super::workspace;
use crate::cli::BenchLogArgs;
use measure::{Appended, Plan, Rate};
use watchfold_kit::outln;

/// Rounds of what is compared, taken in turns; the median counts, so that one slow sync of the disk does not.
const ROUNDS: usize = 3;
/// Rounds before them that do not count: on a virtual machine they pay for memory that its host had not handed out yet.
const WARM_UP_ROUNDS: usize = 1;
/// Records for a broker, which is an order of magnitude slower.
const BROKER_RECORDS_MAX: u64 = 200_000;
/// How long the broker may take to answer at all.
const BROKER_PATIENCE: Duration = Duration::from_secs(10);

pub fn log(args: &BenchLogArgs) -> anyhow::Result<Report> {
    let plan = Plan {
        run: RandomState::new().hash_one(args.records) as u32,
        payload_bytes: args.size as usize,
        records: args.records,
        batch: u64::from(args.batch),
        sync_delay: Duration::from_millis(args.sync_delay_ms),
    };
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let mut report = Report::new("log");
    report.add(
        "payload_bytes",
        f64::from(args.size),
        "bytes",
        "payload of a record",
    );
    report.add(
        "append_records",
        f64::from(args.batch),
        "records",
        "records of an append",
    );
    report.add("sync_delay_ms", args.sync_delay_ms as f64, "ms", "synced within");
    runtime.block_on(async {
        let appended = append_and_read(args, &plan, &mut report).await?;
        waits_and_limits(args, &plan, &mut report).await?;
        if let Some(url) = &args.nats {
            broker(url, &plan, &appended, &mut report).await?;
        }
        anyhow::Ok(())
    })?;
    Ok(report)
}

/// What the child process does that opens a log alone.
pub fn open_only(dir: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    outln!(
        "{}",
        serde_json::to_string(&runtime.block_on(opening::open(dir))?)?
    )?;
    Ok(())
}

async fn append_and_read(args: &BenchLogArgs, plan: &Plan, report: &mut Report) -> anyhow::Result<Rate> {
    let (mut rounds, mut bare, mut kept) = (Vec::new(), Vec::new(), None);
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        // The log of the round before is removed first: one at a time is what the disk has to hold.
        drop(kept.take());
        let root = workspace(&args.common)?;
        let appended = measure::append(&root.path().join("log"), plan).await?;
        let written = peer::bare_write(&root.path().join("bare"), appended.bytes_written, plan)?;
        if round >= WARM_UP_ROUNDS {
            rounds.push(appended);
            bare.push(written);
        }
        kept = Some(root);
    }
    let appended = median(rounds, |round| round.rate.records_per_s);
    let (Some(root), Some(appended), Some(bare)) = (kept, appended, median(bare, |rate| rate.records_per_s))
    else {
        bail!("nothing was measured");
    };
    add_append(report, &appended, &bare);
    add_rate(
        report,
        ["make_records_per_s", "make_mb_per_s", "only making the messages"],
        &measure::make(plan),
    );
    let dir = root.path().join("log");
    for (filter, names) in [
        (">", ["read_records_per_s", "read_mb_per_s", "reading"]),
        (
            &measure::site_filter(),
            [
                "read_site_records_per_s",
                "read_site_mb_per_s",
                "reading one site",
            ],
        ),
    ] {
        let read = measure::read(&dir, plan, filter).await?;
        add_rate(report, names, &read);
    }
    if args.open_size.is_none() {
        opening::measure(&dir, report)?;
    }
    drop(root);
    if let Some(bytes) = args.open_size {
        let root = workspace(&args.common)?;
        let dir = root.path().join("log");
        let records = bytes / (appended.bytes_written / plan.records).max(1);
        measure::append(&dir, &Plan { records, ..*plan }).await?;
        opening::measure(&dir, report)?;
    }
    Ok(appended.rate)
}

fn add_append(report: &mut Report, appended: &Appended, bare: &Rate) {
    add_rate(
        report,
        ["append_records_per_s", "append_mb_per_s", "appending"],
        &appended.rate,
    );
    add_rate(
        report,
        ["bare_records_per_s", "bare_mb_per_s", "bare checksummed write"],
        bare,
    );
    let (ours, theirs) = (appended.rate.records_per_s, bare.records_per_s);
    report.ratio("vs_bare", ours, theirs, "appending against the bare write");
    report.add(
        "append_syncs",
        appended.syncs as f64,
        "syncs",
        "syncs while appending",
    );
    report.ratio(
        "disk_bytes_per_payload_byte",
        appended.bytes_written as f64,
        appended.payload_bytes as f64,
        "bytes on the disk for each of payload",
    );
    if let Some(bytes) = appended.resident_bytes {
        report.add(
            "append_resident_mb",
            bytes as f64 / 1e6,
            "MB",
            "resident after appending",
        );
    }
}

async fn waits_and_limits(args: &BenchLogArgs, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let root = workspace(&args.common)?;
    let awaited = measure::awaited(&root.path().join("awaited"), plan).await?;
    add_rate(
        report,
        [
            "awaited_records_per_s",
            "awaited_mb_per_s",
            "appending, each awaited",
        ],
        &awaited,
    );
    for waited in measure::waiting(&root.path().join("waiting"), plan).await? {
        let [rate, shared] = waited.names;
        let who = format!("{} waiting appenders", waited.appenders);
        report.add(rate, waited.appends_per_s, "appends/s", &*who);
        report.ratio(
            shared,
            waited.appends as f64,
            waited.syncs as f64,
            format!("{who}, appends a sync"),
        );
    }
    let retained = measure::retention(&root.path().join("retention"), plan).await?;
    report.add(
        "retention_limit_mb",
        retained.limit_bytes as f64 / 1e6,
        "MB",
        "limit of a stream that is overrun",
    );
    report.add(
        "retention_disk_mb_max",
        retained.disk_bytes_max as f64 / 1e6,
        "MB",
        "its most on the disk",
    );
    Ok(())
}

async fn broker(url: &str, plan: &Plan, appended: &Rate, report: &mut Report) -> anyhow::Result<()> {
    let args = ConnectArgs {
        log: Some(url.to_owned()),
        ..ConnectArgs::default()
    };
    let opened = watchfold_connect::open(&args, Patience::AtMost(BROKER_PATIENCE)).await?;
    let records = plan.records.min(BROKER_RECORDS_MAX);
    let acknowledged = measure::append_in_pipeline(opened.log.as_ref(), &Plan { records, ..*plan }).await?;
    add_rate(
        report,
        ["jetstream_records_per_s", "jetstream_mb_per_s", "JetStream"],
        &acknowledged,
    );
    let (ours, theirs) = (appended.records_per_s, acknowledged.records_per_s);
    report.ratio("vs_jetstream", ours, theirs, "appending against JetStream");
    Ok(())
}

fn add_rate(report: &mut Report, [records, bytes, what]: [&'static str; 3], rate: &Rate) {
    report.add(records, rate.records_per_s, "records/s", what);
    report.add(bytes, rate.mb_per_s, "MB/s", what);
}

/// The middle one by `key`; of an even number the lower.
fn median<T>(mut measured: Vec<T>, key: impl Fn(&T) -> f64) -> Option<T> {
    measured.sort_by(|left, right| key(left).total_cmp(&key(right)));
    let middle = measured.len().checked_sub(1)? / 2;
    measured.into_iter().nth(middle)
}
