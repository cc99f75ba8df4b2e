//! `watchfold bench packets`: a capture file through every stage, from a bare libpcap loop to attacks told to the site chain,
//! and once more from the log; each beside the bare loop of the same run.

pub mod stages;
pub mod traffic;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use watchfold_rules::RuleSource;

use super::report::Report;
use super::{machine, workspace};
use crate::cli::BenchPacketsArgs;

/// How often each pack is measured; the pass of least processor time counts.
const PACK_ROUNDS: usize = 3;

/// The packs of which one is held against the other.
const PACKS: [&str; 2] = ["classic", "default"];

pub fn packets(args: &BenchPacketsArgs) -> anyhow::Result<Report> {
    let directory = workspace(&args.common)?;
    let mut report = Report::new("packets");
    let path = capture(args, directory.path(), &mut report)?;

    let bare = stages::bare(&path)?;
    if let Some(bare) = &bare {
        rate(&mut report, "libpcap_per_s", "a bare libpcap loop", bare);
    }
    let decoded = stages::decode(&path)?;
    let packets = decoded.packets;
    report.add("packets", packets as f64, "packets", "in the file");
    rate(&mut report, "decode_per_s", "decoding alone", &decoded);
    let batched = stages::batch(&path)?;
    rate(
        &mut report,
        "batch_per_s",
        "decoding, and batches of columns",
        &batched,
    );

    machine::forget_resident_max();
    let rules = watchfold_rules::load(&args.rules)?;
    let whole = stages::whole(&path, directory.path(), rules)?;
    rate(
        &mut report,
        "whole_per_s",
        "the whole path, to attacks told to the site chain",
        &whole.pass,
    );
    if let Some(bare) = &bare {
        let what = "the whole path against the bare loop";
        report.ratio("vs_libpcap", per_s(&whole.pass), per_s(bare), what);
    }
    report.add(
        "log_bytes_per_packet",
        whole.log_bytes as f64 / packets.max(1) as f64,
        "bytes",
        "of the log for each packet",
    );
    report.add("events", whole.events as f64, "events", "alerts and attacks told");
    if let Some(bytes) = machine::resident_bytes_max() {
        report.add(
            "resident_bytes_max",
            bytes as f64,
            "bytes",
            "resident at most, with the log in it",
        );
    }
    let replayed = stages::replay(&whole.log)?;
    rate(
        &mut report,
        "replay_per_s",
        "replay of what was recorded",
        &replayed,
    );

    packs(&mut report, &whole.log)?;
    if let Some(sources) = args.flood {
        flood(&mut report, sources)?;
    }
    Ok(report)
}

/// The same batches under either pack.
fn packs(report: &mut Report, log: &Path) -> anyhow::Result<()> {
    let payloads = stages::recorded(log)?;
    let mut best: [Option<Pass>; PACKS.len()] = [None, None];
    // In turn, so that what else the machine does meets both.
    for _ in 0..PACK_ROUNDS {
        for (pack, best) in PACKS.into_iter().zip(&mut best) {
            let source: RuleSource = pack.parse().context("a pack of rules is missing")?;
            let pass = stages::fold(&payloads, watchfold_rules::load(&source)?)?;
            if best.as_ref().is_none_or(|best| pass.cost() < best.cost()) {
                *best = Some(pass);
            }
        }
    }
    let [Some(classic), Some(default)] = &best else {
        bail!("no pack of rules was measured");
    };
    rate(
        report,
        "fold_classic_per_s",
        "decoding batches and judging, classic",
        classic,
    );
    rate(
        report,
        "fold_default_per_s",
        "decoding batches and judging, default",
        default,
    );
    report.ratio(
        "default_vs_classic",
        default.cost().as_secs_f64(),
        classic.cost().as_secs_f64(),
        "processor time of default against that of classic",
    );
    Ok(())
}

/// The file that is measured with: the one that was named, or a generated one.
fn capture(args: &BenchPacketsArgs, directory: &Path, report: &mut Report) -> anyhow::Result<PathBuf> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => {
            let path = directory.join("traffic.pcap");
            traffic::write(&path, args.packets)
                .with_context(|| format!("failed to write {}", path.display()))?;
            path
        }
    };
    let bytes = std::fs::metadata(&path)
        .with_context(|| format!("failed to open {}", path.display()))?
        .len();
    report.add("file_bytes", bytes as f64, "bytes", "capture file");
    Ok(path)
}

/// A flood of so many invented sources against one victim: what is kept stays bounded, and the victim is told.
fn flood(report: &mut Report, sources: u64) -> anyhow::Result<()> {
    let can_tell = machine::forget_resident_max();
    let before = machine::resident_bytes_max().unwrap_or_default();
    let flooded = stages::flood(sources)?;
    rate(
        report,
        "flood_per_s",
        "judging a flood of invented sources, default",
        &flooded.pass,
    );
    report.add(
        "flood_events",
        flooded.events as f64,
        "events",
        "told of the flood",
    );
    report.add(
        "flood_victims",
        flooded.victims as f64,
        "attacks",
        "of these about its victim",
    );
    report.add(
        "flood_evicted",
        flooded.evicted as f64,
        "keys",
        "forgotten before their time",
    );
    if let Some(bytes) = machine::resident_bytes_max().filter(|_| can_tell) {
        let grown = bytes.saturating_sub(before);
        report.add(
            "flood_resident_bytes",
            grown as f64,
            "bytes",
            "resident more than before the flood",
        );
    }
    Ok(())
}

/// One stage over all packets.
pub struct Pass {
    pub packets: u64,
    pub took: Duration,
    /// Of a stage on one thread, where the system says it.
    pub processor: Option<Duration>,
}

impl Pass {
    /// What other work on the machine changes least.
    fn cost(&self) -> Duration {
        self.processor.unwrap_or(self.took)
    }
}

fn per_s(pass: &Pass) -> f64 {
    pass.packets as f64 / pass.took.as_secs_f64()
}

fn rate(report: &mut Report, name: &'static str, what: &str, pass: &Pass) {
    report.add(name, per_s(pass), "packets/s", what);
}

#[cfg(test)]
mod tests {
    use watchfold_capture::observe::{FileObservations, FileOptions};
    use watchfold_schemas::codec::encode_observation;

    use super::*;

    /// What the log may take for each packet, its frames included, which are some 150 bytes for each batch.
    const BYTES_PER_PACKET_MAX: f64 = 25.0;
    const FRAME_BYTES: f64 = 150.0;

    #[test]
    fn generated_traffic_stays_within_the_budget_of_bytes_for_each_packet() {
        const PACKETS: u64 = 40_960;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("traffic.pcap");
        traffic::write(&path, PACKETS).unwrap();
        let mut bytes = 0.0;
        for observation in FileObservations::open(&[path], FileOptions::default()).unwrap() {
            bytes += FRAME_BYTES + encode_observation(&observation.unwrap()).unwrap().len() as f64;
        }
        let per_packet = bytes / PACKETS as f64;
        assert!(
            per_packet <= BYTES_PER_PACKET_MAX,
            "{per_packet} bytes for each packet"
        );
    }
}
