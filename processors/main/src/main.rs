//! `watchfold-processors`: folds every site whose lease it holds. A site moves when its process dies, and is rebuilt
//! silently from its newest snapshot and the log. The packets of a site, where it captures some, are a chain of their own
//! under a lease of its own.
//!
//! What a chain does is the runner's, what it means the folds', and who has which site the frame's.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use watchfold_kit::KitError;
use watchfold_kit::figures::Rows;
use watchfold_kit::share::{Share, Site, share};
use watchfold_kit::supervise::supervise;
use watchfold_kit::{Frame, ProcessArgs, Program, SitesArgs};
use watchfold_runner::{
    ChainRunner, PacketChain, ParityCheck, ParityOptions, RunnerError, RunnerOptions, SiteChain, Spans,
    StatsHandle,
};
use watchfold_schemas::{Body, Chain};

/// Sites of one process when nothing else is said: some megabytes of state and a thread for each.
const SITES_MAX_DEFAULT: usize = 256;

/// Folds the observations of sites into events. Several of these share the sites of a log.
#[derive(Debug, clap::Parser)]
#[command(name = "watchfold-processors", version, max_term_width = 100)]
struct Processors {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    sites: SitesArgs,
    /// Serve at most so many sites; with several processes, somewhat more than each one's share.
    #[arg(long, value_name = "N", default_value_t = SITES_MAX_DEFAULT)]
    sites_max: usize,
}

fn main() -> ExitCode {
    watchfold_kit::run::<Processors>()
}

impl Program for Processors {
    fn process(&self) -> &ProcessArgs {
        &self.process
    }

    async fn start(self, frame: Arc<Frame>) -> anyhow::Result<()> {
        let shared = Share {
            part: "chain:site",
            sites_max: self.sites_max,
            sites: frame.sites(&self.sites.sites),
        };
        let packets = Share {
            part: "chain:packets",
            sites_max: self.sites_max,
            sites: frame.packet_sites(&self.sites.sites),
        };
        let progress = frame.stages.add("packet chains");
        let (served, parity) = (frame.clone(), ParityOptions::for_chain(Chain::Packets));
        let part = move |site: Site| {
            let parity = parity.apart(&site.name);
            fold_packets(served.clone(), site, parity)
        };
        frame.spawn(share(frame.clone(), packets, progress, part));

        let progress = frame.stages.add("chains");
        let (served, parity) = (frame.clone(), ParityOptions::for_chain(Chain::Site));
        let part = move |site: Site| {
            let parity = parity.apart(&site.name);
            fold(served.clone(), site, parity)
        };
        frame.spawn(share(frame.clone(), shared, progress, part));
        Ok(())
    }
}

/// Why a site is not folded here.
#[derive(Debug, thiserror::Error)]
enum FoldError {
    #[error(transparent)]
    Directory(#[from] KitError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
}

async fn fold(frame: Arc<Frame>, site: Site, parity: ParityOptions) -> Result<(), FoldError> {
    let store = frame.directory("state", &site.name)?;
    let fold = Box::new(SiteChain::new(&site.name));
    let options = RunnerOptions::for_chain(Chain::Site);
    let log = frame.log.clone();
    let runner =
        ChainRunner::open(log, &store, &site.name, Chain::Site, fold, site.progress, options).await?;
    let stats = Arc::new(runner.stats());
    let rows = |stats: &StatsHandle| -> Rows { stats.snapshot().rows() };
    frame.figures.join("chain", &[("site", &site.name)], &stats, rows);
    let check = ParityCheck {
        log: frame.log.clone(),
        site: site.name,
        spans: Spans::Hours,
        fold: |site| Box::new(SiteChain::new(site)),
        options: parity,
    };
    let checks = check_parity(frame, check, "parity", site.cancel.clone()).await?;
    tokio::select! {
        ended = runner.run(site.cancel) => Ok(ended?),
        // It ends with the chain: both are under one lease.
        never = checks => match never {},
    }
}

async fn fold_packets(frame: Arc<Frame>, site: Site, parity: ParityOptions) -> Result<(), FoldError> {
    // A site's name holds no dot, so this is no other site's.
    let store = frame.directory("state", &format!("{}.packets", site.name))?;
    let fold = Box::new(PacketChain::new(&site.name));
    let options = RunnerOptions::for_chain(Chain::Packets);
    let (log, chain) = (frame.log.clone(), Chain::Packets);
    let runner = ChainRunner::open(log, &store, &site.name, chain, fold, site.progress, options).await?;
    let stats = Arc::new(runner.stats());
    let labels = [("site", site.name.as_str())];
    let rows = |stats: &StatsHandle| -> Rows { stats.snapshot().rows() };
    frame.figures.join("packet_chain", &labels, &stats, rows);
    frame
        .figures
        .join("packets", &labels, &stats, StatsHandle::fold_counters);
    let check = ParityCheck {
        log: frame.log.clone(),
        site: site.name,
        spans: Spans::Snapshots(StatsHandle::clone(&stats)),
        fold: |site| Box::new(PacketChain::new(site)),
        options: parity,
    };
    let checks = check_parity(frame, check, "parity-packets", site.cancel.clone()).await?;
    tokio::select! {
        ended = runner.run(site.cancel) => Ok(ended?),
        never = checks => match never {},
    }
}

/// Now and then folds a stretch again; what it finds goes into the log, and the site chain judges it like anything else. It
/// speaks as a collector of its own: the chains of a site may be folded by two processes.
async fn check_parity(
    frame: Arc<Frame>,
    check: ParityCheck,
    collector: &str,
    cancel: CancellationToken,
) -> Result<impl Future<Output = Infallible>, KitError> {
    let site = check.site.clone();
    let publisher = frame.publisher(&site, collector).await?;
    let stage = frame.stages.join(&format!("{collector}/{site}"));
    let progress = stage.progress().clone();
    let (shown, stop) = (progress.clone(), cancel.clone());
    let part = move || {
        let told = publisher.clone();
        let tell = move |parity| {
            if let Err(error) = told.submit(Body::Parity(parity)) {
                tracing::warn!(%error, "what a check of a chain found is not recorded");
            }
        };
        check.clone().run(shown.clone(), stop.clone(), tell)
    };
    Ok(async move {
        supervise(progress, cancel, part).await;
        let _until_the_end = stage;
        std::future::pending().await
    })
}
