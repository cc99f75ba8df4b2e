//! Captures: one part for each configured interface, that come and go with the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchfold_config::CaptureConfig;
use watchfold_healthchecks::Role;
use watchfold_kit::Progress;
use watchfold_kit::supervise::supervise;

use super::house::{Group, House};

/// How long what was captured may take into the log once a capture ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Captures on every interface of the newest configuration. Without one this only waits.
pub fn run_captures(house: &House, mut config: watch::Receiver<Arc<Vec<CaptureConfig>>>, group: &Group) {
    let (house, cancel) = (house.clone(), group.cancel.clone());
    group.tasks.spawn(async move {
        let mut running = BTreeMap::new();
        let first = config.borrow().clone();
        say_over_of_gone(&house, &first).await;
        loop {
            let wanted = config.borrow_and_update().clone();
            reconcile(&house, &wanted, &mut running, &cancel).await;
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = config.changed() => if changed.is_err() { break },
            }
        }
        cancel.cancelled().await;
        for capture in running.into_values() {
            capture.end(&house).await;
        }
    });
}

/// One that runs.
struct Running {
    config: CaptureConfig,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn end(self, house: &House) {
        self.cancel.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(interface = self.config.interface, %error, "a capture ended in a panic");
        }
        house.stages.remove(&self.progress);
    }
}

async fn reconcile(
    house: &House,
    wanted: &[CaptureConfig],
    running: &mut BTreeMap<String, Running>,
    cancel: &CancellationToken,
) {
    let names: Vec<String> = running.keys().cloned().collect();
    for name in names {
        let stays = wanted.iter().any(|config| running[&name].config == *config);
        if !stays && let Some(capture) = running.remove(&name) {
            let config = capture.config.clone();
            capture.end(house).await;
            if wanted.iter().all(|config| config.name != name)
                && let Err(error) = say_over(house, &config).await
            {
                tracing::error!(capture = name, %error, "what was open of a capture that is over stays open");
            }
        }
    }
    for config in wanted {
        if !running.contains_key(&config.name) {
            running.insert(config.name.clone(), start(house, config.clone(), cancel));
        }
    }
}

/// Captures that were taken out of the configuration while nothing ran.
async fn say_over_of_gone(house: &House, wanted: &[CaptureConfig]) {
    let open = |collector: String| async move { house.packet_publisher(&collector).await };
    watchfold_capture::farewell_to_gone(&house.data.kit(), wanted, open).await;
}

/// The capture took its publisher with it, so another says that it is over.
async fn say_over(house: &House, config: &CaptureConfig) -> anyhow::Result<()> {
    let publisher = house.packet_publisher(&config.collector()).await?;
    watchfold_capture::farewell(&publisher).await?;
    Ok(())
}

fn start(house: &House, config: CaptureConfig, cancel: &CancellationToken) -> Running {
    let collector = config.collector();
    let stage = format!("collector:{collector}");
    let progress = house.stages.add(&stage, Some(Role::Collector));
    let cancel = cancel.child_token();
    let (house, shown, stop, captured) = (house.clone(), progress.clone(), cancel.clone(), config.clone());
    let part = move || {
        let (house, config) = (house.clone(), captured.clone());
        let (progress, cancel) = (shown.clone(), stop.clone());
        async move { capture(&house, config, progress, cancel).await }
    };
    let task = tokio::spawn(supervise(progress.clone(), cancel.clone(), part));
    Running {
        config,
        progress,
        cancel,
        task,
    }
}

async fn capture(
    house: &House,
    config: CaptureConfig,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let collector = config.collector();
    let publisher = house.packet_publisher(&collector).await?;
    let ring = house.data.ring(&collector);
    watchfold_capture::run(publisher.clone(), config, ring, progress, cancel).await?;
    if tokio::time::timeout(FLUSH_TIMEOUT, publisher.flush())
        .await
        .is_err()
    {
        tracing::warn!(
            collector,
            "the log takes no packets; what it has not taken is lost"
        );
    }
    Ok(())
}
