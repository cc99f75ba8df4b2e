//! `watchfold demo`: a café that does not exist, watched by everything that is real but the collectors. It needs no
//! root, no network and no configuration, tells nobody but the page, and leaves nothing behind.

mod cafe;
mod capture;
mod day;
mod feed;
pub mod plan;
pub mod random;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchfold_dashboard::{Dashboard, DashboardOptions};
use watchfold_folds::{PacketChain, SiteChain, StateMachine};
use watchfold_kit::Progress;
use watchfold_kit::signals::listen_for_signals;
use watchfold_log::{Embedded, MessageLog, Options};
use watchfold_runner::{ChainRunner, RunnerOptions};
use watchfold_schemas::{Chain, Span, Stream, Time};

use crate::cli::DemoArgs;
use crate::explain::explainer;
use crate::narrate;
use crate::open_page::{self, LogLimits};
use crate::paths::Data;
use cafe::SITE;
use capture::Capture;
use day::Days;
use feed::{DemoTime, Feed};
use plan::{Outline, PCS};
use watchfold_kit::console;

/// What the demo may take of the disk: some days of observations, packets and events.
const LOG_LIMITS: LogLimits = LogLimits {
    observations_bytes_max: 256 * 1024 * 1024,
    packets_bytes_max: 128 * 1024 * 1024,
    other_bytes_max: 64 * 1024 * 1024,
};

/// The page opens here: with a morning to look back on, and trouble ahead.
const OPENS_AT: Span = Span::from_seconds(14 * 3_600);

/// How often it looks whether everybody has caught up, and after how long it opens the page all the same.
const CATCH_UP_POLL: Duration = Duration::from_millis(10);
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// Everything has ended by then, or is left behind.
const DRAIN: Duration = Duration::from_secs(5);

pub fn demo(args: &DemoArgs) -> anyhow::Result<()> {
    open_page::in_passing("demo", async |data| serve(&data, args).await)
}

async fn serve(data: &Data, args: &DemoArgs) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    listen_for_signals(stop.clone()).context("failed to listen for signals")?;
    // The log's own clock tells which day it is; from there on the demo's time takes its place.
    let start = last_midnight((Options::default().clock)());
    let time = DemoTime::new(start);
    let log = open_page::open_log(data, &LOG_LIMITS, time.clock()).await?;
    let house = House {
        log: log.clone(),
        cancel: CancellationToken::new(),
        tasks: TaskTracker::new(),
        chain: Progress::new("chain:site"),
        packets: Progress::new("chain:packets"),
        page: Progress::new("dashboard"),
        feed: Progress::new("collector:demo"),
        failed: watch::Sender::new(None),
    };
    let dashboard = house.bind(data, args.listen).await?;
    let (link, address) = (dashboard.link(), dashboard.address());
    house.run_dashboard(dashboard);
    house.run_chain(data, Chain::Site).await?;
    house.run_chain(data, Chain::Packets).await?;
    let mut failed = house.failed.subscribe();

    let days = Days::new(start, args.seed, Outline::DAY);
    let capture = Capture::new(start, Outline::DAY.length_s)?;
    let feed = Feed::new(log.clone(), days, time, house.chain.clone(), house.feed.clone())
        .with_packets(capture, house.packets.clone());
    let running = async {
        let feed = house.write_history(feed, start + OPENS_AT).await?;
        let what = format!("watching, {} times as fast", args.speed);
        open_page::announce(data, &what, &link, &address)?;
        house.narrate();
        feed.run(start + OPENS_AT, args.speed, house.cancel.clone()).await
    };
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = running => ended,
        why = failed.wait_for(Option::is_some) => match why.ok().and_then(|why| why.clone()) {
            Some(why) => Err(anyhow::anyhow!("the demo stopped: {why}")),
            None => Ok(()),
        },
    };
    house.cancel.cancel();
    house.tasks.close();
    if tokio::time::timeout(DRAIN, house.tasks.wait()).await.is_err() {
        tracing::warn!(seconds = DRAIN.as_secs(), "some parts did not end in time");
    }
    log.close();
    outcome
}

/// The parts of a demo and how far they are.
struct House {
    log: Arc<Embedded>,
    cancel: CancellationToken,
    tasks: TaskTracker,
    chain: Arc<Progress>,
    packets: Arc<Progress>,
    page: Arc<Progress>,
    feed: Arc<Progress>,
    /// Why the demo cannot go on, once it cannot.
    failed: watch::Sender<Option<String>>,
}

impl House {
    async fn bind(&self, data: &Data, listen: Option<SocketAddr>) -> anyhow::Result<Dashboard> {
        open_page::bind(listen, |listen| self.options(data, listen)).await
    }

    fn options(&self, data: &Data, listen: SocketAddr) -> DashboardOptions {
        let stages = [&self.feed, &self.chain, &self.packets, &self.page].map(Arc::clone);
        DashboardOptions {
            log: self.log.clone(),
            site: SITE.to_owned(),
            listen,
            access: Default::default(),
            data_dir: data.path().to_owned(),
            operator: None,
            explain: Some(explainer(data, SITE)),
            packets: None,
            figures: Arc::new(|_| ()),
            stages: Arc::new(move || stages.iter().map(|progress| progress.snapshot()).collect()),
            progress: self.page.clone(),
            software: format!("watchfold {} demo", env!("CARGO_PKG_VERSION")),
        }
    }

    fn run_dashboard(&self, dashboard: Dashboard) {
        let (failed, cancel) = (self.failed.clone(), self.cancel.clone());
        self.tasks.spawn(async move {
            if let Err(error) = dashboard.run(cancel).await {
                failed.send_replace(Some(error.to_string()));
            }
        });
    }

    async fn run_chain(&self, data: &Data, chain: Chain) -> anyhow::Result<()> {
        let (fold, progress, stream_bytes_max): (Box<dyn StateMachine>, _, _) = match chain {
            Chain::Site => (
                Box::new(SiteChain::new(SITE)),
                &self.chain,
                LOG_LIMITS.observations_bytes_max,
            ),
            Chain::Packets => (
                Box::new(PacketChain::new(SITE)),
                &self.packets,
                LOG_LIMITS.packets_bytes_max,
            ),
        };
        let options = RunnerOptions {
            stream_bytes_max,
            ..RunnerOptions::for_chain(chain)
        };
        let (log, progress) = (self.log.clone(), progress.clone());
        let store = data
            .path()
            .join("state")
            .join(format!("{SITE}.{}", chain.token()));
        let runner = ChainRunner::open(log, &store, SITE, chain, fold, progress, options).await?;
        let (failed, cancel) = (self.failed.clone(), self.cancel.clone());
        self.tasks.spawn(async move {
            if let Err(error) = runner.run(cancel).await {
                failed.send_replace(Some(error.to_string()));
            }
        });
        Ok(())
    }

    /// Writes what lies before `until`, and waits until the chain and the page know it.
    async fn write_history(&self, mut feed: Feed, until: Time) -> anyhow::Result<Feed> {
        let began = Instant::now();
        console::announce(format_args!(
            "a café with {PCS} PCs: writing its day up to {until} …"
        ));
        feed.write_until(until).await?;
        while !self.has_caught_up(&feed).await? {
            if began.elapsed() > CATCH_UP_MAX {
                tracing::warn!("this machine is slow; the page opens before all of the morning is folded");
                break;
            }
            sleep(CATCH_UP_POLL).await;
        }
        let seconds = began.elapsed().as_secs_f64();
        console::announce(format_args!(
            "{} records, written and folded in {seconds:.1} s",
            feed.appended() + feed.captured()
        ));
        Ok(feed)
    }

    async fn has_caught_up(&self, feed: &Feed) -> anyhow::Result<bool> {
        if self.packets.snapshot().position < feed.captured() {
            return Ok(false);
        }
        // With what the packet chain told the site chain.
        let observations = self.log.info(Stream::Observations).await?.last_sequence;
        if self.chain.snapshot().position < observations {
            return Ok(false);
        }
        let events = self.log.info(Stream::Events).await?.last_sequence;
        Ok(self.page.snapshot().position >= observations + events)
    }

    fn narrate(&self) {
        let (log, cancel) = (self.log.clone(), self.cancel.clone());
        self.tasks.spawn(async move {
            if let Err(error) = narrate::run(log, SITE.to_owned(), cancel).await {
                tracing::warn!(%error, "events are no longer told here; the page goes on");
            }
        });
    }
}

/// The first moment of the last day that is over, in UTC, which is the café's time.
fn last_midnight(now: Time) -> Time {
    let day = Span::from_seconds(24 * 3_600);
    now.floor(day) - day
}
