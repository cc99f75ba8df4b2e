//! The chains as parts of a process.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use watchfold_config::{ConfigError, Naming, Sinks, load};
use watchfold_kit::figures::Rows;
use watchfold_kit::supervise::supervise;
use watchfold_kit::{Context, Kind, KitError, Loaded, Part, Parts, Program, Site, parts};
use watchfold_runner::{
    ChainRunner, PacketChain, ParityCheck, ParityOptions, RunnerError, RunnerOptions, SiteChain, Spans,
    StatsHandle,
};
use watchfold_schemas::{Body, Chain};

/// Sites of one process when nothing else is said: some megabytes of state and a thread for each.
const SITES_MAX_DEFAULT: usize = 256;

/// Folds the observations of sites into events. Several of these share the sites of a log.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(about = "Folds the observations of sites into events. Several of these share the sites of a log")]
pub struct Processors {
    /// Serve at most so many sites; with several processes, somewhat more than each one's share.
    #[arg(long, value_name = "N", default_value_t = SITES_MAX_DEFAULT)]
    pub sites_max: usize,
}

impl Program for Processors {
    const NAME: &'static str = "processors";

    fn read(path: &Path) -> Result<Loaded, ConfigError> {
        Loaded::of(load(path, Naming::Optional, |_: Sinks, _, _| ())?)
    }

    fn parts(self) -> Parts {
        let Processors { sites_max } = self;
        parts![PacketChainPart { sites_max }, SiteChainPart { sites_max }]
    }
}

/// The chain over everything but packets.
#[derive(Clone, Copy, Debug)]
pub struct SiteChainPart {
    pub sites_max: usize,
}

/// The chain over packets, of sites that capture some.
#[derive(Clone, Copy, Debug)]
pub struct PacketChainPart {
    pub sites_max: usize,
}

impl Default for SiteChainPart {
    fn default() -> SiteChainPart {
        SiteChainPart {
            sites_max: SITES_MAX_DEFAULT,
        }
    }
}

impl Default for PacketChainPart {
    fn default() -> PacketChainPart {
        PacketChainPart {
            sites_max: SITES_MAX_DEFAULT,
        }
    }
}

impl Part for SiteChainPart {
    const NAME: &'static str = "site";
    const KIND: Kind = Kind::Chain;
    const IS_VOUCHED: bool = true;

    async fn start(self, context: Context) -> anyhow::Result<()> {
        let (inside, sites) = (context.clone(), context.sites());
        context.serve(sites, self.sites_max, move |site| fold(inside.clone(), site));
        Ok(())
    }
}

impl Part for PacketChainPart {
    const NAME: &'static str = "packets";
    const KIND: Kind = Kind::Chain;
    const IS_VOUCHED: bool = true;

    async fn start(self, context: Context) -> anyhow::Result<()> {
        let (inside, sites) = (context.clone(), context.packet_sites());
        context.serve(sites, self.sites_max, move |site| {
            fold_packets(inside.clone(), site)
        });
        Ok(())
    }
}

/// Why a site is not folded here.
#[derive(Debug, thiserror::Error)]
enum FoldError {
    #[error(transparent)]
    Kit(#[from] KitError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
}

async fn fold(context: Context, site: Site) -> Result<(), FoldError> {
    let store = context.directory("state", &site.name)?;
    let fold = Box::new(SiteChain::new(&site.name));
    let options = RunnerOptions::for_chain(Chain::Site);
    let (log, chain) = (context.log(), Chain::Site);
    let runner = ChainRunner::open(log, &store, &site.name, chain, fold, site.progress, options).await?;
    let stats = Arc::new(runner.stats());
    let rows = |stats: &StatsHandle| -> Rows { stats.snapshot().rows() };
    let labels = [("site", site.name.as_str())];
    context.figures().join("chain", &labels, &stats, rows);
    let check = ParityCheck {
        log: context.log(),
        site: site.name.clone(),
        spans: Spans::Hours,
        fold: |site| Box::new(SiteChain::new(site)),
        options: ParityOptions::for_chain(Chain::Site).apart(&site.name),
    };
    let checks = check_parity(&context, check, "parity", site.cancel.clone()).await?;
    tokio::select! {
        ended = runner.run(site.cancel) => Ok(ended?),
        // It ends with the chain: both are under one lease.
        never = checks => match never {},
    }
}

async fn fold_packets(context: Context, site: Site) -> Result<(), FoldError> {
    // A site's name holds no dot, so this is no other site's.
    let store = context.directory("state", &format!("{}.packets", site.name))?;
    let fold = Box::new(PacketChain::new(&site.name));
    let options = RunnerOptions::for_chain(Chain::Packets);
    let (log, chain) = (context.log(), Chain::Packets);
    let runner = ChainRunner::open(log, &store, &site.name, chain, fold, site.progress, options).await?;
    let stats = Arc::new(runner.stats());
    let rows = |stats: &StatsHandle| -> Rows { stats.snapshot().rows() };
    let labels = [("site", site.name.as_str())];
    let figures = context.figures();
    figures.join("packet_chain", &labels, &stats, rows);
    figures.join("packets", &labels, &stats, StatsHandle::fold_counters);
    let check = ParityCheck {
        log: context.log(),
        site: site.name.clone(),
        spans: Spans::Snapshots(StatsHandle::clone(&stats)),
        fold: |site| Box::new(PacketChain::new(site)),
        options: ParityOptions::for_chain(Chain::Packets).apart(&site.name),
    };
    let checks = check_parity(&context, check, "parity-packets", site.cancel.clone()).await?;
    tokio::select! {
        ended = runner.run(site.cancel) => Ok(ended?),
        never = checks => match never {},
    }
}

/// Now and then folds a stretch again. What it finds goes into the log as an observation of a collector of its own: the chains of a
/// site may be folded by two processes.
async fn check_parity(
    context: &Context,
    check: ParityCheck,
    collector: &str,
    cancel: CancellationToken,
) -> Result<impl Future<Output = Infallible> + use<>, KitError> {
    let publisher = context.publisher(&check.site, collector).await?;
    let name = context.named(collector, &check.site);
    let stage = context.frame().stages.join(&name, None);
    let progress = stage.progress().clone();
    let (shown, stop) = (progress.clone(), cancel.clone());
    let part = move || {
        let publisher = publisher.clone();
        let tell = move |parity| {
            if let Err(error) = publisher.submit(Body::Parity(parity)) {
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
