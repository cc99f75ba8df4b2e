//! `watchfold-clock`: ticks every site whose lease it holds. Two of these take turns; everything else is the frame's.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use watchfold_clock::ClockError;
use watchfold_kit::share::{Share, Site, share};
use watchfold_kit::{Frame, ProcessArgs, Program, SitesArgs};

/// The clock beside the log: chains take "now" from its ticks.
#[derive(Debug, clap::Parser)]
#[command(name = "watchfold-clock", version, max_term_width = 100)]
struct Clock {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    sites: SitesArgs,
    /// Milliseconds between ticks.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    interval_ms: u32,
}

fn main() -> ExitCode {
    watchfold_kit::run::<Clock>()
}

impl Program for Clock {
    fn process(&self) -> &ProcessArgs {
        &self.process
    }

    async fn start(self, frame: Arc<Frame>) -> anyhow::Result<()> {
        let shared = Share {
            part: "collector:clock",
            sites_max: usize::MAX,
            sites: frame.sites(&self.sites.sites),
        };
        let interval = Duration::from_millis(u64::from(self.interval_ms));
        let progress = frame.stages.add("clocks");
        let ticked = frame.clone();
        let part = move |site: Site| tick(ticked.clone(), site, interval);
        frame.spawn(share(frame.clone(), shared, progress, part));
        Ok(())
    }
}

async fn tick(frame: Arc<Frame>, site: Site, interval: Duration) -> Result<(), ClockError> {
    let publisher = frame.publisher(&site.name, "clock").await?;
    watchfold_clock::run_shown(publisher, interval, site.progress, site.cancel).await
}
