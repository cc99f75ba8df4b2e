//! Captures on the interfaces that the latest configuration names, each by itself.
//!
//! One that fails is started again; the others go on.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use watchfold_config::CaptureConfig;
use watchfold_kit::{KitError, Progress, Publisher};

use crate::error::CaptureError;
use crate::probe;

/// How long one that failed is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// What one interface's capture needs of its process.
#[derive(Clone)]
pub struct Given {
    /// Of the collector that [`CaptureConfig::collector`] names, for both streams
    /// ([`watchfold_kit::PublisherOptions::packets`]).
    pub publisher: Arc<Publisher>,
    pub progress: Arc<Progress>,
}

/// Captures until cancelled. `open` is asked once for each collector; Each keeps packets in a directory of its name under `rings`.
pub async fn run_several<O, F>(
    mut configs: watch::Receiver<Arc<Vec<CaptureConfig>>>,
    open: O,
    rings: PathBuf,
    cancel: CancellationToken,
) -> Result<(), CaptureError>
where
    O: Fn(CaptureConfig) -> F,
    F: Future<Output = Result<Given, KitError>>,
{
    let mut given: BTreeMap<String, Given> = BTreeMap::new();
    let mut running: JoinSet<()> = JoinSet::new();
    let mut current: BTreeMap<String, (CaptureConfig, CancellationToken)> = BTreeMap::new();
    loop {
        let wanted = configs.borrow_and_update().clone();
        let is_wanted = |config: &CaptureConfig| wanted.contains(config);
        let stopped = current.len();
        current.retain(|_, (config, stop)| {
            let stays = is_wanted(config);
            if !stays {
                stop.cancel();
            }
            stays
        });
        // What stops and begins again must have stopped before: both publish under one name.
        if current.len() < stopped {
            let ended = stopped - current.len();
            for _ in 0..ended {
                running.join_next().await;
            }
        }
        for config in wanted.iter() {
            let collector = config.collector();
            if current.contains_key(&collector) {
                continue;
            }
            let parts = match given.get(&collector) {
                Some(parts) => parts.clone(),
                None => open(config.clone()).await?,
            };
            given.insert(collector.clone(), parts.clone());
            let stop = cancel.child_token();
            current.insert(collector, (config.clone(), stop.clone()));
            let ring = rings.join(config.collector());
            running.spawn(one(parts, config.clone(), ring, stop));
        }
        for (collector, parts) in &given {
            if !current.contains_key(collector) {
                parts.progress.advance(0, 0);
                parts.progress.ok();
            }
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            // Nobody reloads any more, because everything is about to stop.
            changed = configs.changed() => if changed.is_err() { cancel.cancelled().await; break },
        }
    }
    while running.join_next().await.is_some() {}
    Ok(())
}

async fn one(given: Given, config: CaptureConfig, ring: PathBuf, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let Given { publisher, progress } = given.clone();
        let shown = progress.clone();
        let Err(error) = probe::run(publisher, config.clone(), ring.clone(), progress, stop.clone()).await
        else {
            return;
        };
        tracing::error!(interface = config.interface, %error, "the capture stopped");
        shown.fail(format!("stopped: {error}"));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
