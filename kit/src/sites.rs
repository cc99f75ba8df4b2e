//! Which sites there are: those that the program was told, or every one whose configuration is in the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::Progress;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_log::{LogError, MessageLog, Start};
use watchfold_schemas::{Stream, subjects};

/// Sites that one process knows. More are a mistake in somebody's subjects, or time for processes that are told theirs.
const SITES_MAX: usize = 10_000;

/// Configurations read at once.
const READ_BATCH: usize = 16;

/// How often this says that it gets on while no site comes: far more often than a part that stands still is called stuck.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The kind of observation that packets come in.
const BATCH: &str = "batch";

/// What is wrong while there is no site.
const NO_SITE: &str =
    "no configuration in the log: record one with `watchfold config activate FILE --log URL`";

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
    show(&sites, &progress);
    let mut reader = log
        .reader(Stream::Observations, &filter, Start::Sequence(head + 1))
        .await?;
    loop {
        let batch = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            batch = tokio::time::timeout(LOOK_EVERY, reader.next(READ_BATCH)) => batch,
        };
        if let Ok(batch) = batch {
            add(
                &sites,
                batch?.records.iter().map(|record| record.subject.as_str()),
            );
        }
        show(&sites, &progress);
    }
}

/// Adds the sites of which packets are in the log to `sites` as they become known, until cancelled; of `given` alone where
/// there are some. It asks for subjects, and reads no packets for it.
pub async fn follow_packet_sites(
    log: Arc<dyn MessageLog>,
    given: BTreeSet<String>,
    sites: Arc<watch::Sender<BTreeSet<String>>>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(), LogError> {
    let filter = subjects::of_observation(Stream::Packets, "*", BATCH, "*");
    loop {
        let known = log.subjects(Stream::Packets, &filter).await?;
        let served = |subject: &&str| {
            given.is_empty() || subjects::site_of(subject).is_some_and(|site| given.contains(site))
        };
        add(&sites, known.iter().map(String::as_str).filter(served));
        // That no site captures packets is no failure.
        let count = sites.borrow().len() as u64;
        progress.advance(count, count);
        progress.ok();
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// It gets on, also while nothing comes.
fn show(sites: &watch::Sender<BTreeSet<String>>, progress: &Progress) {
    let known = sites.borrow().len() as u64;
    progress.advance(known, known);
    match known {
        0 => progress.fail(NO_SITE.to_owned()),
        _ => progress.ok(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use watchfold_log::memory::MemoryLog;

    /// Waits until the part has said once more that it gets on.
    async fn gets_on(progress: &Progress) {
        // Behind by as much as no log says.
        progress.advance(0, u64::MAX);
        for _ in 0..1_000 {
            if progress.snapshot().head != u64::MAX {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("it stands still: {:?}", progress.snapshot());
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_has_packets_once_some_are_in_the_log() {
        for (given, want) in [
            (vec![], vec!["cafe-1", "cafe-2"]),
            (vec!["cafe-2"], vec!["cafe-2"]),
        ] {
            let log = MemoryLog::new();
            let sites = Arc::new(watch::Sender::new(BTreeSet::new()));
            let (progress, cancel) = (Progress::new("packets"), CancellationToken::new());
            let given: BTreeSet<String> = given.into_iter().map(str::to_owned).collect();
            let following = follow_packet_sites(
                log.clone(),
                given,
                sites.clone(),
                progress.clone(),
                cancel.clone(),
            );
            let following = tokio::spawn(following);
            gets_on(&progress).await;
            assert!(sites.borrow().is_empty());
            for (site, kind) in [("cafe-1", BATCH), ("cafe-2", BATCH), ("cafe-3", "rules")] {
                let subject = subjects::of_observation(Stream::Packets, site, kind, "any");
                let message = watchfold_log::Append {
                    stream: Stream::Packets,
                    id: watchfold_schemas::MessageId(subject.clone()),
                    subject,
                    payload: Vec::new().into(),
                };
                log.append(vec![message]).await.unwrap();
            }
            let want: BTreeSet<String> = want.into_iter().map(str::to_owned).collect();
            sites.subscribe().wait_for(|sites| *sites == want).await.unwrap();
            assert_eq!(progress.snapshot().detail, None);
            cancel.cancel();
            following.await.unwrap().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_gets_on_while_nothing_comes_and_says_that_no_site_is_known() {
        for (known, detail) in [(None, Some(NO_SITE)), (Some("cafe-1".to_owned()), None)] {
            let sites = Arc::new(watch::Sender::new(known.into_iter().collect()));
            let (progress, cancel) = (Progress::new("sites"), CancellationToken::new());
            let following = follow_sites(MemoryLog::new(), sites, progress.clone(), cancel.clone());
            let following = tokio::spawn(following);
            for _ in 0..3 {
                gets_on(&progress).await;
                assert_eq!(progress.snapshot().detail.as_deref(), detail);
            }
            cancel.cancel();
            following.await.unwrap().unwrap();
        }
    }
}
