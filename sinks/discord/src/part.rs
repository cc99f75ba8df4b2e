//! The sink as a part of a process.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use watchfold_config::{ConfigError, Naming, SecretRef, Sinks, load};
use watchfold_kit::configured::{Without, mapped, while_configured_else};
use watchfold_kit::{Context, Kind, Loaded, Part, Site};
use watchfold_sink_kit::{SinkContext, SinkStats, withdraw};

use crate::config::{DiscordConfig, DiscordSection};
use crate::deliver::SINK;

/// Sends what the chains of sites ask for to Discord. Two of these send each message once.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(
    about = "Sends what the chains of sites ask for to Discord. Needs a configuration with [sinks.discord]"
)]
pub struct Discord {}

impl Part for Discord {
    const NAME: &'static str = SINK;
    const KIND: Kind = Kind::Sink;
    const IS_VOUCHED: bool = true;
    const NEEDS: Option<&'static str> = Some("sinks.discord");

    fn read(path: &Path) -> Result<Loaded, ConfigError> {
        let config = load(
            path,
            Naming::Optional,
            |sinks: Sinks<DiscordSection<SecretRef>>, around, problems| {
                if sinks.discord.is_none() {
                    problems.push(
                        "sinks.discord",
                        "there is no [sinks.discord]: add it with a webhook for each class to send",
                    );
                }
                sinks.discord?.resolve(around, problems)
            },
        )?;
        let section = config.sinks.clone();
        Ok(Loaded::of(config)?.with(section))
    }

    async fn start(self, context: Context) -> anyhow::Result<()> {
        let config = context.section::<DiscordConfig>();
        let inside = context.clone();
        context.serve(context.sites(), usize::MAX, move |site| {
            send(inside.clone(), config.clone(), site)
        });
        Ok(())
    }
}

async fn send(
    context: Context,
    config: watch::Receiver<Option<Arc<DiscordConfig>>>,
    site: Site,
) -> anyhow::Result<()> {
    let stats = Arc::new(SinkStats::default());
    let labels = [("site", site.name.as_str()), ("sink", SINK)];
    context.figures().join("sink", &labels, &stats, SinkStats::rows);
    let sink = SinkContext {
        sink: SINK.to_owned(),
        log: context.log(),
        publisher: context.publisher(&site.name, SINK).await?,
        state_path: context.directory("sinks", &site.name)?.join("discord.state"),
        progress: site.progress.clone(),
        stats,
        site: site.name.clone(),
    };
    // A file for many sites names none: the sender is the site that a message is about.
    let of_site = |config: &DiscordConfig| DiscordConfig {
        username: match context.is_alone() {
            true => site.name.clone(),
            false => config.username.clone(),
        },
        ..config.clone()
    };
    let left = sink.clone();
    let running = mapped(config, of_site, |config| {
        while_configured_else(
            config,
            Without::Idle,
            site.progress.clone(),
            site.cancel.clone(),
            move |config, cancel| crate::run(sink.clone(), config, cancel),
            move || {
                let left = left.clone();
                async move { withdraw(&left).await }
            },
        )
    });
    running.await?;
    Ok(())
}
