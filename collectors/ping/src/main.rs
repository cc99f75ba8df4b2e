//! `watchfold-ping`: probes one site, as a file says or as the newest configuration in the log does.

use std::process::ExitCode;
use std::sync::Arc;

use watchfold_config::{Config, load_site};
use watchfold_kit::args::site;
use watchfold_kit::configured::{Without, while_configured};
use watchfold_kit::exit::Usage;
use watchfold_kit::reload::Followed;
use watchfold_kit::{Frame, ProcessArgs, Program};
use watchfold_schemas::SiteConfig;

/// Probes the targets and PCs of one site, and publishes what it measured.
#[derive(Debug, clap::Parser)]
#[command(name = "watchfold-ping", version, max_term_width = 100)]
struct Ping {
    #[command(flatten)]
    process: ProcessArgs,
    /// The site to probe as its newest configuration in the log says. Not needed with --config.
    #[arg(long, value_name = "NAME", value_parser = site)]
    site: Option<String>,
}

fn main() -> ExitCode {
    watchfold_kit::run::<Ping>()
}

impl Ping {
    /// The file, if one is given, and the site.
    fn configuration(&self) -> anyhow::Result<(Option<Config<()>>, String)> {
        match (&self.process.config, &self.site) {
            (Some(path), given) => {
                let config = load_site(path)?;
                let named = config.site.site.clone();
                match given {
                    Some(given) if *given != named => Err(Usage(format!(
                        "{} is of the site {named}, and --site says {given}: give one of them",
                        path.display()
                    ))
                    .into()),
                    _ => Ok((Some(config), named)),
                }
            }
            (None, Some(site)) => Ok((None, site.clone())),
            (None, None) => Err(Usage(
                "give --config FILE, or --site NAME to follow the configuration in the log".to_owned(),
            )
            .into()),
        }
    }
}

impl Program for Ping {
    fn process(&self) -> &ProcessArgs {
        &self.process
    }

    fn check(&self) -> anyhow::Result<Vec<String>> {
        let (config, _) = self.configuration()?;
        Ok(config.map(|config| config.warnings).unwrap_or_default())
    }

    async fn start(self, frame: Arc<Frame>) -> anyhow::Result<()> {
        let (file, site) = self.configuration()?;
        let config = match (file, self.process.config) {
            (Some(current), Some(path)) => {
                let file = Followed {
                    path,
                    load: load_site,
                    current,
                };
                frame.file_config(file, of_site)
            }
            _ => frame.site_config(&site),
        };
        let publisher = frame.spooling_publisher(&site, "ping").await?;
        let progress = frame.stages.add("collector:ping");
        let (shown, cancel) = (progress.clone(), frame.cancel());
        frame.supervise(progress, move || {
            let (publisher, progress) = (publisher.clone(), shown.clone());
            let (config, cancel) = (config.clone(), cancel.clone());
            while_configured(
                config,
                Without::Waiting,
                shown.clone(),
                cancel,
                move |config, cancel| {
                    watchfold_ping::run(publisher.clone(), config, progress.clone(), cancel)
                },
            )
        });
        Ok(())
    }
}

fn of_site(config: &Config<()>) -> Option<SiteConfig> {
    Some(config.site.clone())
}
