//! Capture files as an input: batches of packets without a log around them. Their time is that of their packets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use watchfold_schemas::{Body, Observation};

use super::{Raw, Selection};
use crate::ReplayError;
use crate::outside::{CaptureSummary, Captured, CapturedBatches, total};

/// The site of capture files, where none is named.
pub const CAPTURE_SITE: &str = "capture";

/// Before the first batch stands the activation of the rules.
const FIRST_SEQUENCE: u64 = 2;

/// Files whose packets without a row are listed one by one; those of further files are added up.
const FILES_LISTED_MAX: usize = 20;

pub(super) struct CaptureSource {
    batches: CapturedBatches,
    paths: Vec<PathBuf>,
    site: String,
    bytes: u64,
    sequence: u64,
    summaries: Vec<CaptureSummary>,
    /// Whether a packet gave a row.
    has_rows: bool,
    /// Reading failed within a file.
    has_failed: bool,
}

impl CaptureSource {
    pub(super) fn open(paths: &[PathBuf], selection: &Selection) -> Result<CaptureSource, ReplayError> {
        let site = selection.site.as_deref().unwrap_or(CAPTURE_SITE);
        let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        Ok(CaptureSource {
            batches: selection.outside.captures(paths, site)?,
            paths: paths.to_vec(),
            site: site.to_owned(),
            bytes: paths.iter().map(size).sum(),
            sequence: FIRST_SEQUENCE,
            summaries: Vec::new(),
            has_rows: false,
            has_failed: false,
        })
    }

    pub(super) fn site(&self) -> &str {
        &self.site
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn next(&mut self) -> Option<Raw> {
        while !self.has_failed {
            match self.batches.next()? {
                Ok(Captured::Batch(observation)) => return Some(self.captured(observation)),
                Ok(Captured::Read(summary)) => {
                    let problem = skipped(&summary);
                    self.summaries.push(summary);
                    if problem.is_some() {
                        return problem.map(Raw::Problem);
                    }
                }
                Err(error) => {
                    self.has_failed = true;
                    return Some(Raw::Problem(error.to_string()));
                }
            }
        }
        None
    }

    fn captured(&mut self, observation: Box<Observation>) -> Raw {
        let sequence = self.sequence;
        self.sequence += 1;
        self.has_rows |= matches!(&observation.body, Body::Batch(batch) if !batch.is_empty());
        Raw::Captured(observation, sequence)
    }

    /// The files as a sentence names them.
    pub(super) fn names(&self) -> String {
        super::names(self.paths.iter().map(PathBuf::as_path))
    }

    /// Why there is no packet to evaluate, once all files were read: nobody is to take that for "nothing was found".
    pub(super) fn nothing_read(&self) -> Option<ReplayError> {
        if self.has_rows {
            return None;
        }
        let packets: u64 = self.summaries.iter().map(|summary| summary.packets).sum();
        let names = self.names();
        let reason = match packets {
            0 if self.has_failed => format!("{names}: no packet could be read"),
            0 => format!("{names}: there are no packets in it; nothing was evaluated"),
            _ => {
                let mut reasons = BTreeMap::new();
                for (why, count) in self.summaries.iter().flat_map(reasons_of) {
                    *reasons.entry(why.clone()).or_default() += count;
                }
                let reasons: Vec<(String, u64)> = reasons.into_iter().collect();
                format!(
                    "{names}: 0 of {packets} packets gave a row, so nothing was evaluated: {}",
                    listed(&reasons)
                )
            }
        };
        Some(ReplayError::NothingRead { reason })
    }

    /// Packets that were read and gave no row, as sentences by file. Those that were skipped are problems.
    pub(super) fn unread(&self) -> Vec<String> {
        let mut with_some = self
            .summaries
            .iter()
            .filter(|summary| !summary.undecoded.is_empty());
        let mut sentences: Vec<String> = with_some
            .by_ref()
            .take(FILES_LISTED_MAX)
            .map(|summary| sentence(summary, &summary.undecoded, "gave no row"))
            .collect();
        let (mut files, mut packets) = (0_u64, 0);
        for summary in with_some {
            files += 1;
            packets += total(&summary.undecoded);
        }
        if files > 0 {
            sentences.push(format!("{packets} packets of {files} further files gave no row"));
        }
        sentences
    }
}

fn reasons_of(summary: &CaptureSummary) -> impl Iterator<Item = &(String, u64)> {
    summary.skipped.iter().chain(&summary.undecoded)
}

fn skipped(summary: &CaptureSummary) -> Option<String> {
    let reasons = &summary.skipped;
    (!reasons.is_empty()).then(|| sentence(summary, reasons, "were skipped"))
}

fn sentence(summary: &CaptureSummary, reasons: &[(String, u64)], what: &str) -> String {
    let CaptureSummary { path, packets, .. } = summary;
    format!(
        "{}: {} of {packets} packets {what}: {}",
        path.display(),
        total(reasons),
        listed(reasons)
    )
}

fn listed(reasons: &[(String, u64)]) -> String {
    let listed: Vec<String> = reasons
        .iter()
        .map(|(why, count)| format!("{count} {why}"))
        .collect();
    listed.join("; ")
}
