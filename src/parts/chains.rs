//! The chains of the site, and the checks that what they derived follows again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_config::CaptureConfig;
use watchfold_folds::{PacketChain, SiteChain};
use watchfold_healthchecks::Role;
use watchfold_kit::rules::has_packets;
use watchfold_kit::share::led;
use watchfold_kit::supervise::supervise;
use watchfold_kit::{Progress, Publisher};
use watchfold_runner::{
    ChainRunner, ParityCheck, ParityOptions, RunnerError, RunnerOptions, Spans, StatsHandle,
};
use watchfold_schemas::{Body, Chain};

use super::house::{Group, House};

pub fn run_chain(house: &House, group: &Group) {
    let progress = house.stages.add("chain:site", Some(Role::Processor));
    let led_by = house.led("chain:site", &progress, group);
    let (house, shown) = (house.clone(), progress.clone());
    let part = move || {
        let (house, progress) = (house.clone(), shown.clone());
        led(led_by.clone(), move |cancel| {
            let (house, progress) = (house.clone(), progress.clone());
            async move { fold_site(&house, progress, cancel).await }
        })
    };
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}

async fn fold_site(
    house: &House,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<(), RunnerError> {
    let fold = Box::new(SiteChain::new(&house.site));
    let options = RunnerOptions::for_chain(Chain::Site);
    let (log, store) = (house.log.clone(), house.data.store(&house.site));
    let runner = ChainRunner::open(log, &store, &house.site, Chain::Site, fold, progress, options).await?;
    let _shown = show(house, Chain::Site, runner.stats());
    runner.run(cancel).await
}

/// How often it is asked whether somebody else captures packets of this site.
const PACKETS_LOOK_EVERY: Duration = Duration::from_secs(10);

/// Runs once there are packets to judge, or a capture is configured. Until then it is a question now and then.
pub fn run_packet_chain(
    house: &House,
    parity: &Arc<Publisher>,
    mut captures: watch::Receiver<Arc<Vec<CaptureConfig>>>,
    group: &Group,
) {
    let (house, parity, group) = (house.clone(), parity.clone(), group.clone());
    let tasks = group.tasks.clone();
    tasks.spawn(async move {
        while captures.borrow_and_update().is_empty() && !any_packets(&house).await {
            tokio::select! {
                () = group.cancel.cancelled() => return,
                () = tokio::time::sleep(PACKETS_LOOK_EVERY) => {}
                changed = captures.changed() => if changed.is_err() { return },
            }
        }
        let progress = house.stages.add("chain:packets", Some(Role::Processor));
        let led_by = house.led("chain:packets", &progress, &group);
        let told = Told {
            publisher: parity,
            progress: house.stages.add("parity:packets", None),
        };
        let shown = progress.clone();
        let part = move || {
            let (house, progress, told) = (house.clone(), shown.clone(), told.clone());
            led(led_by.clone(), move |cancel| {
                let (house, progress, told) = (house.clone(), progress.clone(), told.clone());
                async move { fold_packets(&house, progress, told, cancel).await }
            })
        };
        supervise(progress, group.cancel.clone(), part).await;
    });
}

async fn any_packets(house: &House) -> bool {
    // A log that is away says so elsewhere, and is asked again.
    has_packets(&house.log, &house.site).await.unwrap_or(false)
}

async fn fold_packets(
    house: &House,
    progress: Arc<Progress>,
    told: Told,
    cancel: CancellationToken,
) -> Result<(), RunnerError> {
    let fold = Box::new(PacketChain::new(&house.site));
    let options = RunnerOptions::for_chain(Chain::Packets);
    let (log, store) = (house.log.clone(), house.data.packet_store(&house.site));
    let runner = ChainRunner::open(log, &store, &house.site, Chain::Packets, fold, progress, options).await?;
    let stats = show(house, Chain::Packets, runner.stats());
    let check = ParityCheck {
        log: house.log.clone(),
        site: house.site.clone(),
        spans: Spans::Snapshots(StatsHandle::clone(&stats)),
        fold: |site| Box::new(PacketChain::new(site)),
        options: ParityOptions::for_chain(Chain::Packets),
    };
    let checks = told.supervise(check, cancel.clone());
    tokio::select! {
        ended = runner.run(cancel) => ended,
        // It ends with the chain, which tells it how far it is.
        never = checks => match never {},
    }
}

/// Where what a check found goes.
#[derive(Clone)]
struct Told {
    publisher: Arc<Publisher>,
    progress: Arc<Progress>,
}

impl Told {
    /// Now and then folds a stretch again; what it finds goes into the log, and the site chain judges it like anything else.
    async fn supervise(self, check: ParityCheck, cancel: CancellationToken) -> Infallible {
        let (shown, stop) = (self.progress.clone(), cancel.clone());
        let part = move || {
            let told = self.publisher.clone();
            let tell = move |parity| {
                if let Err(error) = told.submit(Body::Parity(parity)) {
                    tracing::warn!(%error, "what a check of a chain found is not recorded");
                }
            };
            check.clone().run(shown.clone(), stop.clone(), tell)
        };
        supervise(self.progress.clone(), cancel, part).await;
        std::future::pending().await
    }
}

/// Shows the runner's figures for as long as what is returned lives.
fn show(house: &House, chain: Chain, stats: StatsHandle) -> Arc<StatsHandle> {
    let stats = Arc::new(stats);
    let (site, figures) = ([("site", house.site.as_str())], &house.figures);
    let family = match chain {
        Chain::Site => "chain",
        Chain::Packets => "packet_chain",
    };
    figures.join(family, &site, &stats, |stats| stats.snapshot().rows());
    figures.join("packets", &site, &stats, StatsHandle::fold_counters);
    stats
}

/// Checks the site chain's hours, wherever it runs.
pub fn run_parity(house: &House, publisher: &Arc<Publisher>, group: &Group) {
    let check = ParityCheck {
        log: house.log.clone(),
        site: house.site.clone(),
        spans: Spans::Hours,
        fold: |site| Box::new(SiteChain::new(site)),
        options: ParityOptions::for_chain(Chain::Site),
    };
    let told = Told {
        publisher: publisher.clone(),
        progress: house.stages.add("parity", None),
    };
    let (checks, cancel) = (told.supervise(check, group.cancel.clone()), group.cancel.clone());
    group.tasks.spawn(async move {
        tokio::select! {
            never = checks => match never {},
            () = cancel.cancelled() => {}
        }
    });
}
