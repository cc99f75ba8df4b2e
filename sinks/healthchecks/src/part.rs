//! The sink as a part of a process.

use std::path::Path;
use std::sync::Arc;

use watchfold_config::{ConfigError, Ignored, Naming, SecretRef, Sinks, load};
use watchfold_kit::configured::{Without, mapped, while_configured_else};
use watchfold_kit::observed::{Observed, SEEN_LATE_MAX};
use watchfold_kit::{Context, Kind, Loaded, Part, ProgressSnapshot};
use watchfold_sink_kit::{OutletContext, SinkStats};

use crate::config::{HealthchecksConfig, HealthchecksSection};
use crate::deliver::{SINK, StageSource};
use crate::judge::{Role, Stage};

/// Pings healthchecks.io while every stage of a site advances.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(
    about = "Pings healthchecks.io while every stage of a site advances. Needs a configuration with [sinks.healthchecks]"
)]
pub struct Healthchecks {}

impl Part for Healthchecks {
    const NAME: &'static str = SINK;
    const KIND: Kind = Kind::Sink;
    const NEEDS: Option<&'static str> = Some("sinks.healthchecks");

    fn read(path: &Path) -> Result<Loaded, ConfigError> {
        let config = load(
            path,
            Naming::Optional,
            |sinks: Sinks<Ignored, HealthchecksSection<SecretRef>>, around, problems| {
                if sinks.healthchecks.is_none() {
                    problems.push(
                        "sinks.healthchecks",
                        "there is no [sinks.healthchecks]: add it with the check's ping address",
                    );
                }
                sinks.healthchecks?.resolve(around, problems)
            },
        )?;
        let section = config.sinks.clone();
        Ok(Loaded::of(config)?.with(section))
    }

    async fn start(self, context: Context) -> anyhow::Result<()> {
        let site = context.site()?;
        let source = stages(&context, &site);
        let config = context.section::<HealthchecksConfig>();
        let stats = Arc::new(SinkStats::default());
        context
            .figures()
            .join("sink", &[("sink", SINK)], &stats, SinkStats::rows);
        let outlet = OutletContext {
            sink: SINK.to_owned(),
            publisher: context.publisher(&site, SINK).await?,
            state_path: context.directory("sinks", &site)?.join("healthchecks.state"),
            stats,
        };
        context.serve_one(&site, move |site| {
            let (source, outlet, name) = (source.clone(), outlet.clone(), site.name.clone());
            let of_site = move |config: &HealthchecksConfig| HealthchecksConfig {
                site: name.clone(),
                ..config.clone()
            };
            mapped(config.clone(), of_site, move |config| {
                let (left, pinging) = (outlet.clone(), site.progress.clone());
                while_configured_else(
                    config,
                    Without::Idle,
                    site.progress,
                    site.cancel,
                    move |config, cancel| {
                        let (outlet, progress) = (outlet.clone(), pinging.clone());
                        crate::run(source.clone(), config, outlet, progress, cancel)
                    },
                    move || {
                        left.withdraw();
                        std::future::ready(())
                    },
                )
            })
        });
        Ok(())
    }
}

/// Where the stages to vouch for are seen: in this process where all of them run in it, else through the log.
fn stages(context: &Context, site: &str) -> Arc<dyn StageSource> {
    if !context.is_alone() {
        let stages = context.frame().stages.clone();
        return Arc::new(move || -> Vec<Stage> {
            let vouched = stages.vouched().into_iter();
            vouched
                .map(|(kind, progress)| Stage::new(role(kind), progress))
                .collect()
        });
    }
    let observed = Observed::new(context.log(), site);
    let (watched, cancel) = (observed.clone(), context.cancel());
    context.spawn(async move { watched.run(cancel).await });
    Arc::new(move || -> Vec<Stage> { observed.snapshots().into_iter().map(observed_stage).collect() })
}

fn role(kind: Kind) -> Role {
    match kind {
        Kind::Collector => Role::Collector,
        Kind::Oracle | Kind::Sink => Role::Sink,
        Kind::Activation | Kind::Chain | Kind::Page => Role::Processor,
    }
}

/// A stage of another process: what is seen of it through the log is seen a little late.
fn observed_stage(progress: ProgressSnapshot) -> Stage {
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
