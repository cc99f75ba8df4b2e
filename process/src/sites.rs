//! Which sites there are: those that the program was told, or every one whose configuration is in the log.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_kit::Progress;
use watchfold_log::{LogError, MessageLog, Start};
use watchfold_schemas::{Stream, subjects};

/// Sites that one process knows. More are a mistake in somebody's subjects, or time for processes that are told theirs.
const SITES_MAX: usize = 10_000;

/// Configurations read at once.
const READ_BATCH: usize = 16;

/// Adds the sites of the log to `sites` as they become known, until cancelled.
pub async fn follow_sites(
    log: Arc<dyn MessageLog>,
    sites: Arc<watch::Sender<BTreeSet<String>>>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(), LogError> {
    let filter = subjects::activations_of_all();
    // Asked first: what is recorded between the two questions stands behind it.
    let head = log.info(Stream::Observations).await?.last_sequence;
    let known = log.subjects(Stream::Observations, &filter).await?;
    add(&sites, known.iter().map(String::as_str));
    let count = |sites: &watch::Sender<BTreeSet<String>>| sites.borrow().len() as u64;
    progress.advance(count(&sites), count(&sites));
    let mut reader = log
        .reader(Stream::Observations, &filter, Start::Sequence(head + 1))
        .await?;
    loop {
        let batch = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            batch = reader.next(READ_BATCH) => batch?,
        };
        add(&sites, batch.records.iter().map(|record| record.subject.as_str()));
        progress.advance(count(&sites), count(&sites));
    }
}

fn add<'s>(sites: &watch::Sender<BTreeSet<String>>, subjects: impl Iterator<Item = &'s str>) {
    let found: BTreeSet<String> = subjects
        .filter_map(subjects::site_of)
        .map(str::to_owned)
        .collect();
    sites.send_if_modified(|sites| {
        let before = sites.len();
        for site in found {
            if sites.len() >= SITES_MAX && !sites.contains(&site) {
                tracing::warn!(
                    limit = SITES_MAX,
                    site,
                    "too many sites; this one is not served here"
                );
                continue;
            }
            sites.insert(site);
        }
        sites.len() > before
    });
}
