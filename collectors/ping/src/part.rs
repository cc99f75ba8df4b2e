//! The collector as a part of a process.

use std::path::Path;

use watchfold_config::{ConfigError, load_site};
use watchfold_kit::configured::{Without, while_configured};
use watchfold_kit::{Context, Kind, Loaded, Part};

/// Probes the targets and PCs of one site, as a file says or as the newest configuration in the log does, and publishes what it
/// measured.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(about = "Probes the targets and PCs of one site, and publishes what it measured")]
pub struct Ping {}

impl Part for Ping {
    const NAME: &'static str = "ping";
    const KIND: Kind = Kind::Collector;
    const IS_VOUCHED: bool = true;

    fn read(path: &Path) -> Result<Loaded, ConfigError> {
        let config = load_site(path)?;
        let site = config.site.clone();
        Ok(Loaded::of(config)?.with(Some(site)))
    }

    async fn start(self, context: Context) -> anyhow::Result<()> {
        let site = context.site()?;
        context.expect_file_of(&site)?;
        let config = context.site_config(&site);
        let publisher = context.measuring_publisher(&site, Self::NAME).await?;
        let (progress, cancel) = (context.stage(), context.cancel());
        let shown = progress.clone();
        context.supervise(progress, move || {
            let (publisher, progress) = (publisher.clone(), shown.clone());
            while_configured(
                config.clone(),
                Without::Waiting,
                shown.clone(),
                cancel.clone(),
                move |config, cancel| crate::run(publisher.clone(), config, progress.clone(), cancel),
            )
        });
        Ok(())
    }
}
