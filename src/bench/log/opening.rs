//! What opening a log takes. Another process does it, so that its memory is that of opening alone.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use watchfold_log::{Embedded, MessageLog, Options, StreamOptions};

use super::measure::{BYTES_MAX, STREAM};
use crate::bench::machine;
use crate::bench::report::Report;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Opened {
    log_bytes: u64,
    seconds: f64,
    resident_bytes_max: Option<u64>,
}

/// Opens the log and says what that took; for a process that does nothing else.
pub async fn open(dir: &Path) -> anyhow::Result<Opened> {
    let began = Instant::now();
    let log = Embedded::open(dir, Options::uniform(StreamOptions::new(BYTES_MAX, None)))?;
    let took = began.elapsed();
    Ok(Opened {
        log_bytes: log.info(STREAM).await?.bytes,
        seconds: took.as_secs_f64(),
        resident_bytes_max: machine::resident_bytes_max(),
    })
}

pub fn measure(dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("cannot find this program to start it again")?;
    let child = std::process::Command::new(own)
        .args(["bench", "log", "--open-only"])
        .arg(dir)
        .output()
        .context("cannot start this program again")?;
    if !child.status.success() {
        let said = String::from_utf8_lossy(&child.stderr);
        bail!("opening the log failed: {}", said.trim());
    }
    let opened: Opened = serde_json::from_slice(&child.stdout)?;
    let gb = opened.log_bytes as f64 / 1e9;
    report.add("open_log_gb", gb, "GB", "a log that is opened");
    report.add("open_s", opened.seconds, "s", "opening it");
    if let Some(bytes) = opened.resident_bytes_max {
        report.add(
            "open_resident_mb_max",
            bytes as f64 / 1e6,
            "MB",
            "resident at most while opening it",
        );
    }
    Ok(())
}
