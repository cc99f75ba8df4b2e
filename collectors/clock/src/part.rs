//! The clock as a part of a process.

use std::time::Duration;

use watchfold_kit::{Context, Kind, Part, Site};

use crate::{ClockConfig, ClockError};

/// The clock beside the log: chains take "now" from its ticks. Two of these take turns.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(about = "The clock beside the log: chains take \"now\" from its ticks")]
pub struct Clock {
    /// Milliseconds between ticks.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    pub interval_ms: u32,
}

impl Clock {
    /// For one site, whose log is in the same process.
    pub fn beside_the_log() -> Clock {
        Clock {
            interval_ms: ClockConfig::default().interval_ms,
        }
    }
}

impl Part for Clock {
    const NAME: &'static str = "clock";
    const KIND: Kind = Kind::Collector;
    const IS_VOUCHED: bool = true;

    async fn start(self, context: Context) -> anyhow::Result<()> {
        let interval = Duration::from_millis(u64::from(self.interval_ms));
        let inside = context.clone();
        context.serve(context.sites(), usize::MAX, move |site| {
            tick(inside.clone(), site, interval)
        });
        Ok(())
    }
}

async fn tick(context: Context, site: Site, interval: Duration) -> Result<(), ClockError> {
    let publisher = context.publisher(&site.name, Clock::NAME).await?;
    crate::run_shown(publisher, interval, site.progress, site.cancel).await
}
