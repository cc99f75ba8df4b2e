//! The configuration of a site in the log: recording the one in force, and following what others recorded.
//!
//! Exactly one party records the configuration of a site: the all-in-one, or `watchfold config activate`.

use std::sync::Arc;
use std::time::Duration;

use crate::{KitError, Progress, Publisher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_log::{Ack, LogError, MessageLog, Record, Start};
use watchfold_schemas::observation::Activation;
use watchfold_schemas::{Body, SiteConfig, Stream, decode_observation, subjects};

/// Activations read at once; they are rare.
const READ_BATCH: usize = 16;

/// How often a part that has its configuration says that it gets on while no other comes: far more often than a part
/// that stands still is called stuck.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The version in what is recorded: all programs of this repository have one.
pub(crate) const SOFTWARE: &str = env!("CARGO_PKG_VERSION");

/// Records the configuration as the one in force.
pub async fn activate(publisher: &Publisher, site: &SiteConfig) -> Result<Ack, KitError> {
    let recorded = publisher.publish_with(|stamp| {
        Body::Activation(Box::new(Activation {
            at: stamp.now(),
            hash: site.hash(),
            config: site.clone(),
            software: SOFTWARE.to_owned(),
        }))
    });
    recorded.await
}

/// Follows the newest configuration of `site` in the log until cancelled. Until there is one, the progress says how to
/// record it.
pub async fn follow_activations(
    log: Arc<dyn MessageLog>,
    site: String,
    config: Arc<watch::Sender<Option<Arc<SiteConfig>>>>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(), LogError> {
    let filter = subjects::activations(&site);
    // Asked first: what is recorded between the two questions stands behind it.
    let head = log.info(Stream::Observations).await?.last_sequence;
    let newest = log.last(Stream::Observations, &filter).await?;
    let after = newest.as_ref().map_or(head, |record| record.sequence);
    match newest {
        Some(record) => take_over(&record, &site, &config, &progress),
        None => progress.fail(format!(
            "the log holds no configuration of {site}: record one with `watchfold config activate FILE`"
        )),
    }
    let mut reader = log
        .reader(Stream::Observations, &filter, Start::Sequence(after + 1))
        .await?;
    loop {
        let batch = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            batch = tokio::time::timeout(LOOK_EVERY, reader.next(READ_BATCH)) => batch,
        };
        match batch {
            Ok(batch) => {
                for record in &batch?.records {
                    take_over(record, &site, &config, &progress);
                }
            }
            Err(_) if config.borrow().is_some() => {
                let position = progress.snapshot().position;
                progress.advance(position, position);
            }
            // Without a configuration it has not begun, and says so.
            Err(_) => {}
        }
    }
}

fn take_over(
    record: &Record,
    site: &str,
    config: &watch::Sender<Option<Arc<SiteConfig>>>,
    progress: &Progress,
) {
    let activation = match decode_observation(&record.payload).map(|observation| observation.body) {
        Ok(Body::Activation(activation)) if activation.config.site == site => activation,
        Ok(_) => {
            tracing::warn!(
                sequence = record.sequence,
                site,
                "a record is no configuration of this site; passed over"
            );
            return;
        }
        Err(error) => {
            tracing::warn!(sequence = record.sequence, site, %error, "a configuration cannot be read; the one before stays in force");
            return;
        }
    };
    progress.advance(record.sequence, record.sequence);
    progress.ok();
    let new = Arc::new(activation.config);
    let changed = config.send_if_modified(|old| {
        let changed = old.as_ref() != Some(&new);
        *old = Some(new);
        changed
    });
    if changed {
        tracing::info!(site, "the configuration in the log is in force");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfold_log::memory::MemoryLog;

    #[tokio::test(start_paused = true)]
    async fn it_gets_on_while_no_other_configuration_comes() {
        let log = MemoryLog::new();
        let state = tempfile::tempdir().unwrap();
        let publisher = Publisher::open(log.clone(), "cafe-1", "config", state.path()).await;
        let site = SiteConfig {
            site: "cafe-1".to_owned(),
            ..SiteConfig::default()
        };
        activate(&publisher.unwrap(), &site).await.unwrap();
        let config = Arc::new(watch::Sender::new(None));
        let (progress, cancel) = (Progress::new("config"), CancellationToken::new());
        let following = tokio::spawn(follow_activations(
            log,
            "cafe-1".to_owned(),
            config.clone(),
            progress.clone(),
            cancel.clone(),
        ));
        config.subscribe().wait_for(Option::is_some).await.unwrap();
        // Behind by as much as no log says; the next look puts it right.
        progress.advance(1, u64::MAX);
        for _ in 0..1_000 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!((progress.snapshot().position, progress.snapshot().head), (1, 1));
        cancel.cancel();
        following.await.unwrap().unwrap();
    }
}
