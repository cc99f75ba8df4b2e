//! `watchfold-discord`: tells Discord about every site whose lease it holds, so that two of these tell once.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::watch;
use watchfold_config::{Config, ConfigError, Naming, SecretRef, Sinks, load};
use watchfold_discord::{DiscordConfig, DiscordSection};
use watchfold_kit::configured::{Without, mapped, while_configured};
use watchfold_kit::reload::Followed;
use watchfold_kit::share::{Share, Site, share};
use watchfold_kit::{Frame, ProcessArgs, Program, SitesArgs};
use watchfold_sink_kit::{SinkContext, SinkError, SinkStats};

/// Tells Discord what the chains of sites ask for. Needs a configuration with [sinks.discord].
#[derive(Debug, clap::Parser)]
#[command(name = "watchfold-discord", version, max_term_width = 100)]
struct Discord {
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    sites: SitesArgs,
}

type Section = Option<DiscordConfig>;

fn main() -> ExitCode {
    watchfold_kit::run::<Discord>()
}

fn read(path: &Path) -> Result<Config<Section>, ConfigError> {
    load(
        path,
        Naming::Optional,
        |sinks: Sinks<DiscordSection<SecretRef>>, around, problems| {
            if sinks.discord.is_none() {
                problems.push(
                    "there is no [sinks.discord]: add it with a webhook for each class to tell".to_owned(),
                );
            }
            sinks.discord?.resolve(around, problems)
        },
    )
}

impl Discord {
    fn configuration(&self) -> anyhow::Result<Followed<Section>> {
        self.process.configuration("sinks.discord", read)
    }
}

impl Program for Discord {
    fn process(&self) -> &ProcessArgs {
        &self.process
    }

    fn check(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.configuration()?.current.warnings)
    }

    async fn start(self, frame: Arc<Frame>) -> anyhow::Result<()> {
        let file = self.configuration()?;
        let sites = self.sites.or_named_by(&file.current);
        let shared = Share {
            part: "sink:discord",
            sites_max: usize::MAX,
            sites: frame.sites(&sites),
        };
        let config = frame.file_config(file, |config| config.sinks.clone());
        let progress = frame.stages.add("sinks");
        let told = frame.clone();
        let part = move |site: Site| tell(told.clone(), config.clone(), site);
        frame.spawn(share(frame.clone(), shared, progress, part));
        Ok(())
    }
}

async fn tell(
    frame: Arc<Frame>,
    config: watch::Receiver<Option<Arc<DiscordConfig>>>,
    site: Site,
) -> anyhow::Result<()> {
    let stats = Arc::new(SinkStats::default());
    let labels = [("site", site.name.as_str()), ("sink", "discord")];
    frame.figures.join("sink", &labels, &stats, SinkStats::rows);
    let context = SinkContext {
        sink: "discord".to_owned(),
        log: frame.log.clone(),
        publisher: frame.publisher(&site.name, "discord").await?,
        state_path: frame.directory("sinks", &site.name)?.join("discord.state"),
        progress: site.progress.clone(),
        stats,
        site: site.name.clone(),
    };
    // A file for many sites names none: the sender is the site that a message is about.
    let of_site = |config: &DiscordConfig| DiscordConfig {
        username: site.name.clone(),
        ..config.clone()
    };
    let running = mapped(config, of_site, |config| {
        while_configured(
            config,
            Without::Idle,
            site.progress.clone(),
            site.cancel,
            move |config, cancel| watchfold_discord::run(context.clone(), config, cancel),
        )
    });
    let ended: Result<(), SinkError> = running.await;
    Ok(ended?)
}
