//! `watchfold-healthchecks`: vouches for the stages of one site, as far as the log shows them.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use watchfold_config::{Config, ConfigError, Naming, SecretRef, Sinks, load};
use watchfold_healthchecks::{HealthchecksConfig, HealthchecksSection, Role, SINK, Stage};
use watchfold_kit::args::site;
use watchfold_kit::configured::{Without, mapped, while_configured};
use watchfold_kit::exit::Usage;
use watchfold_kit::observed::{Observed, SEEN_LATE_MAX};
use watchfold_kit::reload::Followed;
use watchfold_kit::share::{Led, lease_name, led};
use watchfold_kit::{Frame, ProcessArgs, Program};
use watchfold_sink_kit::OutletContext;

/// Pings healthchecks.io while every stage of a site gets on. Needs a configuration with [sinks.healthchecks].
#[derive(Debug, clap::Parser)]
#[command(name = "watchfold-healthchecks", version, max_term_width = 100)]
struct Healthchecks {
    #[command(flatten)]
    process: ProcessArgs,
    /// The site to vouch for. Default: the one of the configuration.
    #[arg(long, value_name = "NAME", value_parser = site)]
    site: Option<String>,
}

type Section = Option<HealthchecksConfig>;

fn main() -> ExitCode {
    watchfold_kit::run::<Healthchecks>()
}

fn read(path: &Path) -> Result<Config<Section>, ConfigError> {
    load(
        path,
        Naming::Optional,
        |sinks: Sinks<watchfold_config::Ignored, HealthchecksSection<SecretRef>>, around, problems| {
            if sinks.healthchecks.is_none() {
                problems.push(
                    "there is no [sinks.healthchecks]: add it with the check's ping address".to_owned(),
                );
            }
            sinks.healthchecks?.resolve(around, problems)
        },
    )
}

impl Healthchecks {
    fn configuration(&self) -> anyhow::Result<(Followed<Section>, String)> {
        let file = self.process.configuration("sinks.healthchecks", read)?;
        let named = Some(file.current.site.site.clone()).filter(|site| !site.is_empty());
        let Some(site) = self.site.clone().or(named) else {
            let path = file.path.display();
            return Err(Usage(format!("{path} names no site: give --site NAME")).into());
        };
        Ok((file, site))
    }
}

impl Program for Healthchecks {
    fn process(&self) -> &ProcessArgs {
        &self.process
    }

    fn check(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.configuration()?.0.current.warnings)
    }

    async fn start(self, frame: Arc<Frame>) -> anyhow::Result<()> {
        let (file, site) = self.configuration()?;
        let observed = Observed::new(frame.log.clone(), &site);
        let (watched, cancel) = (observed.clone(), frame.cancel());
        frame.spawn(async move { watched.run(cancel).await });
        let source = Arc::new(move || -> Vec<Stage> {
            let snapshots = observed.snapshots();
            snapshots.into_iter().map(stage).collect()
        });
        let config = frame.file_config(file, |config| config.sinks.clone());
        let progress = frame.stages.add("sink:healthchecks");
        let led_by = Led {
            leases: frame.leases.clone(),
            name: lease_name("sink:healthchecks", &site),
            progress: progress.clone(),
            cancel: frame.cancel(),
        };
        let shown = progress.clone();
        let outlet = OutletContext {
            sink: SINK.to_owned(),
            publisher: frame.publisher(&site, SINK).await?,
            state_path: frame.directory("sinks", &site)?.join("healthchecks.state"),
        };
        frame.supervise(progress, move || {
            let (config, site, outlet) = (config.clone(), site.clone(), outlet.clone());
            let (source, shown) = (source.clone(), shown.clone());
            led(led_by.clone(), move |cancel| {
                let (source, progress) = (source.clone(), shown.clone());
                let (site, outlet) = (site.clone(), outlet.clone());
                let of_site = move |config: &HealthchecksConfig| HealthchecksConfig {
                    site: site.clone(),
                    ..config.clone()
                };
                mapped(config.clone(), of_site, move |config| {
                    let pinging = progress.clone();
                    while_configured(config, Without::Idle, progress, cancel, move |config, cancel| {
                        let (outlet, progress) = (outlet.clone(), pinging.clone());
                        watchfold_healthchecks::run(source.clone(), config, outlet, progress, cancel)
                    })
                })
            })
        });
        Ok(())
    }
}

/// A stage of another process: what is seen of it through the log is seen a little late.
fn stage(progress: watchfold_kit::ProgressSnapshot) -> Stage {
    let role = match progress.name.split(':').next() {
        Some("collector") => Role::Collector,
        Some("sink") => Role::Sink,
        _ => Role::Processor,
    };
    Stage {
        limit: role.limit_default() + SEEN_LATE_MAX,
        ..Stage::new(role, progress)
    }
}
