//! The sinks: the page, those that tell people, and the terminal.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_config::PageAccess;
use watchfold_dashboard::{Dashboard, DashboardOptions};
use watchfold_healthchecks::{Role, Stage};
use watchfold_kit::configured::{Without, while_configured_else};
use watchfold_kit::share::led;
use watchfold_kit::supervise::supervise;
use watchfold_kit::{Progress, Publisher, PublisherOptions, SystemClock};
use watchfold_log::MessageLog;
use watchfold_sink_kit::{OutletContext, SinkContext, SinkStats, withdraw};
use watchfold_virustotal::{LookupContext, LookupStats, ORACLE};

use super::house::{Group, House};
use super::packets::kept_packets;
use crate::explain::explainer;
use crate::narrate;

pub async fn bind_dashboard(
    house: &House,
    listen: std::net::SocketAddr,
    access: PageAccess,
    operator: Arc<Publisher>,
) -> anyhow::Result<(Dashboard, Arc<Progress>)> {
    let progress = house.stages.add("dashboard", None);
    let stages = house.stages.clone();
    let options = DashboardOptions {
        log: house.log.clone(),
        site: house.site.clone(),
        listen,
        access,
        data_dir: house.data.path().to_owned(),
        operator: Some(operator),
        // It folds files, and a log elsewhere has none here.
        explain: (!house.elsewhere).then(|| explainer(&house.data, &house.site)),
        packets: (!house.elsewhere).then(|| kept_packets(&house.data)),
        figures: {
            let figures = house.figures.clone();
            Arc::new(move || figures.render_sources())
        },
        stages: Arc::new(move || {
            stages
                .snapshots()
                .into_iter()
                .map(|(_, progress)| progress)
                .collect()
        }),
        progress: progress.clone(),
        software: format!("watchfold {}", env!("CARGO_PKG_VERSION")),
    };
    Ok((Dashboard::bind(options).await?, progress))
}

pub fn run_dashboard(
    dashboard: Dashboard,
    progress: Arc<Progress>,
    group: &Group,
) -> watch::Receiver<Option<String>> {
    let (failed, receiver) = watch::channel(None);
    let cancel = group.cancel.clone();
    group.tasks.spawn(async move {
        if let Err(error) = dashboard.run(cancel).await {
            progress.fail(error.to_string());
            failed.send_replace(Some(error.to_string()));
        }
    });
    receiver
}

/// Runs while a configuration for it is there, and again when one comes later.
pub fn run_discord(
    house: &House,
    publisher: &Arc<Publisher>,
    config: watch::Receiver<Option<Arc<watchfold_discord::DiscordConfig>>>,
    group: &Group,
) {
    let progress = house.stages.add("sink:discord", Some(Role::Sink));
    let stats = Arc::new(SinkStats::default());
    let labels = [("sink", watchfold_discord::SINK)];
    house.figures.join("sink", &labels, &stats, SinkStats::rows);
    let context = SinkContext {
        site: house.site.clone(),
        sink: "discord".to_owned(),
        log: house.log.clone(),
        publisher: publisher.clone(),
        state_path: house.data.sinks().join("discord.state"),
        progress: progress.clone(),
        stats,
    };
    let cancel = group.cancel.clone();
    let led_by = house.led("sink:discord", &progress, group);
    let part = move || {
        let (context, config, cancel) = (context.clone(), config.clone(), cancel.clone());
        let led_by = led_by.clone();
        let (progress, left) = (context.progress.clone(), context.clone());
        let running = move |config: watch::Receiver<_>, cancel| {
            let (context, led_by) = (context.clone(), led_by.under(cancel));
            led(led_by, move |cancel| {
                watchfold_discord::run(context.clone(), config.clone(), cancel)
            })
        };
        let gone = move || {
            let context = left.clone();
            async move { withdraw(&context).await }
        };
        while_configured_else(config, Without::Idle, progress, cancel, running, gone)
    };
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}

/// Answers what rules ask about addresses and names, while there is a key.
pub fn run_virustotal(
    house: &House,
    config: watch::Receiver<Option<Arc<watchfold_virustotal::VirusTotalConfig>>>,
    group: &Group,
) {
    let progress = house.stages.add("sink:virustotal", None);
    let stats = Arc::new(LookupStats::default());
    house
        .figures
        .join("sink", &[("sink", ORACLE)], &stats, LookupStats::rows);
    let (log, kit) = (house.log.clone(), house.data.kit());
    let context = LookupContext {
        log: house.log.clone(),
        leases: house.leases.clone(),
        publishers: Arc::new(move |site| {
            let (log, kit) = (log.clone(), kit.clone());
            async move {
                // Verdicts stand among the packets.
                let options = PublisherOptions::packets(None);
                Publisher::open_with(log, &site, ORACLE, &kit, options).await
            }
            .boxed()
        }),
        sites: [house.site.clone()].into(),
        clock: Arc::new(SystemClock::new()),
        state_path: house.data.sinks().join("virustotal.state"),
        progress: progress.clone(),
        stats,
    };
    let cancel = group.cancel.clone();
    let part = move || watchfold_virustotal::run(context.clone(), config.clone(), cancel.clone());
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}

pub fn run_healthchecks(
    house: &House,
    publisher: &Arc<Publisher>,
    config: watch::Receiver<Option<Arc<watchfold_healthchecks::HealthchecksConfig>>>,
    group: &Group,
) {
    let progress = house.stages.add("sink:healthchecks", None);
    let stages = house.stages.clone();
    let source = Arc::new(move || -> Vec<Stage> {
        let judged = stages
            .snapshots()
            .into_iter()
            .filter_map(|(role, progress)| Some((role?, progress)));
        judged
            .map(|(role, progress)| Stage::new(role, progress))
            .collect()
    });
    let outlet = OutletContext {
        sink: watchfold_healthchecks::SINK.to_owned(),
        publisher: publisher.clone(),
        state_path: house.data.sinks().join("healthchecks.state"),
    };
    let (shown, cancel) = (progress.clone(), group.cancel.clone());
    let part = move || {
        let (source, shown, outlet) = (source.clone(), shown.clone(), outlet.clone());
        let (progress, left) = (shown.clone(), outlet.clone());
        let running = move |config, cancel| {
            let (source, outlet) = (source.clone(), outlet.clone());
            watchfold_healthchecks::run(source, config, outlet, progress.clone(), cancel)
        };
        let gone = move || {
            left.withdraw();
            std::future::ready(())
        };
        while_configured_else(
            config.clone(),
            Without::Idle,
            shown,
            cancel.clone(),
            running,
            gone,
        )
    };
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}

/// How long after a failure to read events it is tried again.
const NARRATE_AGAIN: Duration = Duration::from_secs(5);

/// Shows new events on the terminal until cancelled, whatever becomes of the log meanwhile.
pub async fn narrated(log: Arc<dyn MessageLog>, site: String, cancel: CancellationToken) {
    while let Err(error) = narrate::run(log.clone(), site.clone(), cancel.clone()).await {
        tracing::warn!(%error, "events are not shown here for a moment; the page and the sinks go on");
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(NARRATE_AGAIN) => {}
        }
    }
}
