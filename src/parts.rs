//! The wiring: which parts there are, and what each is given. A component is joined by one line here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchfold_connect::{ConnectArgs, Opened, Patience};
use watchfold_dashboard::{Dashboard, DashboardOptions};
use watchfold_healthchecks::{Role, Stage};
use watchfold_kit::{Progress, ProgressSnapshot, Publisher, SpoolOptions};
use watchfold_log::{Leases, LogError, MessageLog};
use watchfold_process::configured::{Without, while_configured};
use watchfold_process::health::Health;
use watchfold_process::share::{Led, lease_name, led};
use watchfold_process::supervise::supervise;
use watchfold_process::{SPOOL_BYTES_MAX, activate};
use watchfold_runner::{ChainRunner, ParityCheck, ParityOptions, RunnerOptions, SiteFold};
use watchfold_schemas::{Body, Chain, SiteConfig, Stream};
use watchfold_sink_kit::{SinkContext, SinkStats};

use crate::config::Config;
use crate::explain::explainer;
use crate::narrate;
use crate::paths::{Data, write_private};
use crate::reload::{Channels, Reloader};

/// The distance of ticks where the log is in this process.
const TICK_EVERY: Duration = Duration::from_secs(1);

/// How often the log is asked whether it still works.
const LOG_LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long each of the two flushes of a drain may take, so that both and all else fit into five seconds.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long all parts together may take to end: the two flushes and closing the log have to fit into five seconds too.
const PARTS_TIMEOUT: Duration = Duration::from_millis(2_500);

/// How long the start waits for the log to take the configuration; a full disk must not keep the page from saying so.
const ACTIVATE_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything that runs.
pub struct Parts {
    opened: Opened,
    stages: Stages,
    log_opened: Option<Instant>,
    /// Collectors stop first, then the chain, then those who tell: what was seen is still folded and told.
    collectors: Group,
    chains: Group,
    sinks: Group,
    publishers: Vec<Arc<Publisher>>,
    /// The dashboard's failure ends the process: without it nobody sees anything.
    failed: watch::Receiver<Option<String>>,
    link: String,
    address: String,
}

/// Parts that stop together.
struct Group {
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Group {
    fn new() -> Group {
        Group {
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    async fn stop(&self, deadline: Instant) {
        self.cancel.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                parts = self.tasks.len(),
                "some parts do not end; they are left behind"
            );
        }
    }
}

/// What every part is made from.
struct House {
    site: String,
    log: Arc<dyn MessageLog>,
    leases: Arc<dyn Leases>,
    /// The log is reached over a network.
    elsewhere: bool,
    data: Data,
    stages: Stages,
}

/// What the parts write into the log with.
struct Publishers {
    operator: Arc<Publisher>,
    config: Arc<Publisher>,
    clock: Arc<Publisher>,
    ping: Arc<Publisher>,
    parity: Arc<Publisher>,
    discord: Arc<Publisher>,
}

impl Publishers {
    /// Opens all at once: each asks the log for its newest number, and waits a while for a log that is away.
    async fn open(house: &House) -> anyhow::Result<Publishers> {
        let ping = async {
            match house.elsewhere {
                true => house.spooling_publisher("ping").await,
                false => house.publisher("ping").await,
            }
        };
        let (operator, config, clock, ping, parity, discord) = tokio::try_join!(
            house.publisher("operator"),
            house.publisher("config"),
            house.publisher("clock"),
            ping,
            house.publisher("parity"),
            house.publisher("discord"),
        )?;
        Ok(Publishers {
            operator,
            config,
            clock,
            ping,
            parity,
            discord,
        })
    }

    fn into_all(self) -> Vec<Arc<Publisher>> {
        let watched = [self.clock, self.ping, self.parity, self.discord];
        [self.operator, self.config].into_iter().chain(watched).collect()
    }
}

/// The progress of every part, for the health page and the watchdog outside.
#[derive(Clone, Default)]
struct Stages(Arc<std::sync::Mutex<Vec<Part>>>);

/// A part's progress; parts with a role are vouched for by the watchdog outside.
type Part = (Option<Role>, Arc<Progress>);

impl Stages {
    fn add(&self, name: &str, role: Option<Role>) -> Arc<Progress> {
        let progress = Progress::new(name);
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.push((role, progress.clone()));
        progress
    }

    fn snapshots(&self) -> Vec<(Option<Role>, ProgressSnapshot)> {
        let all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.iter()
            .map(|(role, progress)| (*role, progress.snapshot()))
            .collect()
    }
}

impl House {
    async fn publisher(&self, collector: &str) -> anyhow::Result<Arc<Publisher>> {
        Publisher::open(self.log.clone(), &self.site, collector, &self.data.kit())
            .await
            .with_context(|| format!("failed to start the collector {collector}"))
    }

    /// What is measured waits on disk while the log is away.
    async fn spooling_publisher(&self, collector: &str) -> anyhow::Result<Arc<Publisher>> {
        let spool = SpoolOptions {
            directory: self.data.path().join("spool"),
            bytes_max: SPOOL_BYTES_MAX,
        };
        let (log, kit) = (self.log.clone(), self.data.kit());
        Publisher::open_with_spool(log, &self.site, collector, &kit, spool)
            .await
            .with_context(|| format!("failed to start the collector {collector}"))
    }

    /// What others must not do at the same time, where others can.
    fn led(&self, part: &str, progress: &Arc<Progress>, group: &Group) -> Led {
        Led {
            leases: self.leases.clone(),
            name: lease_name(part, &self.site),
            progress: progress.clone(),
            cancel: group.cancel.clone(),
        }
    }
}

impl Parts {
    pub async fn start(
        data: &Data,
        connect: &ConnectArgs,
        config_path: PathBuf,
        config: Config,
    ) -> anyhow::Result<Parts> {
        let config_text = config.text.clone();
        let opened = open_log(data, connect).await?;
        let house = House {
            site: config.site.site.clone(),
            log: opened.log.clone(),
            leases: opened.leases.clone(),
            elsewhere: connect.is_elsewhere(),
            data: data.clone(),
            stages: Stages::default(),
        };
        let (collectors, chains, sinks) = (Group::new(), Group::new(), Group::new());
        let (site_sender, site_receiver) = watch::channel(Arc::new(config.site.clone()));
        let (discord_sender, discord) = watch::channel(config.discord.clone().map(Arc::new));
        let (health_sender, healthchecks) = watch::channel(config.healthchecks.clone().map(Arc::new));
        let publishers = Publishers::open(&house).await?;
        let config_publisher = publishers.config.clone();
        let (dashboard, progress) =
            bind_dashboard(&house, config.listen, publishers.operator.clone()).await?;
        let (link, address) = (dashboard.link(), dashboard.address());
        let link_path = data.link();
        write_private(&link_path, &format!("{link}\n"))
            .with_context(|| format!("failed to write {}", link_path.display()))?;
        match tokio::time::timeout(ACTIVATE_TIMEOUT, activate(&config_publisher, &config.site)).await {
            Ok(recorded) => recorded?,
            Err(_) => {
                tracing::warn!("the log takes no records yet: the configuration is recorded when it does")
            }
        }

        run_chain(&house, &chains);
        let failed = run_dashboard(dashboard, progress, &sinks);
        run_clock(&house, &publishers.clock, &collectors);
        run_ping(&house, &publishers.ping, site_receiver, &collectors);
        run_parity(&house, &publishers.parity, &collectors);
        run_discord(&house, &publishers.discord, discord, &sinks);
        run_healthchecks(&house, healthchecks, &sinks);
        sinks.tasks.spawn(narrated(
            house.log.clone(),
            house.site.clone(),
            sinks.cancel.clone(),
        ));
        let reloader = Reloader {
            path: config_path,
            text: config_text,
            current: config,
            channels: Channels {
                site: site_sender,
                discord: discord_sender,
                healthchecks: health_sender,
            },
            publisher: config_publisher,
            progress: house.stages.add("config", None),
        };
        collectors.tasks.spawn(reloader.run(collectors.cancel.clone()));
        Ok(Parts {
            opened,
            stages: house.stages,
            // Whether a log elsewhere answers is not asked here: its parts say so themselves.
            log_opened: (!house.elsewhere).then(Instant::now),
            collectors,
            chains,
            sinks,
            publishers: publishers.into_all(),
            failed,
            link,
            address,
        })
    }

    /// How the parts are, for the service manager.
    pub fn health(&self) -> Health {
        let snapshots = self.stages.snapshots().into_iter();
        Health {
            log_answers_for: self.log_opened.map(|at| at.elapsed()),
            started: true,
            stages: snapshots.map(|(_, progress)| progress).collect(),
        }
    }

    /// What is still queued goes into the log, if the log takes it.
    async fn flush(&self) {
        let flushed = async {
            for publisher in &self.publishers {
                publisher.flush().await;
            }
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, flushed).await.is_err() {
            tracing::warn!("the log takes no records; what it has not taken is lost with this process");
        }
    }

    /// The link with the access token.
    pub fn link(&self) -> &str {
        &self.link
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits for the signal to stop, or for the failure of what nothing works without.
    pub async fn until_stopped(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut failed = self.failed.clone();
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            error = log_stopped(self.opened.log.clone()) => Err(error.into()),
            why = failed.wait_for(Option::is_some) => match why.ok().and_then(|why| why.clone()) {
                Some(why) => Err(anyhow::anyhow!("the page stopped: {why}")),
                None => Ok(()),
            },
        }
    }

    pub async fn drain(&self) {
        let began = Instant::now();
        self.collectors.stop(began + PARTS_TIMEOUT).await;
        let flushing = Instant::now();
        self.flush().await;
        let deadline = began + PARTS_TIMEOUT + flushing.elapsed();
        self.chains.stop(deadline).await;
        self.sinks.stop(deadline).await;
        self.flush().await;
        self.opened.close().await;
    }
}

/// Whether the log has stopped for good: after a failed sync it takes nothing until it is opened again.
async fn log_stopped(log: Arc<dyn MessageLog>) -> LogError {
    loop {
        tokio::time::sleep(LOG_LOOK_EVERY).await;
        if let Err(error @ LogError::Stopped(_)) = log.info(Stream::Observations).await {
            return error;
        }
    }
}

/// The log that the command line names, or the one in the data directory.
async fn open_log(data: &Data, connect: &ConnectArgs) -> anyhow::Result<Opened> {
    let mut connect = connect.clone();
    if connect.nats_context.is_none() {
        let own = || format!("file:{}", data.log().display());
        connect.log.get_or_insert_with(own);
    }
    Ok(watchfold_connect::open(&connect, Patience::Forever).await?)
}

async fn bind_dashboard(
    house: &House,
    listen: std::net::SocketAddr,
    operator: Arc<Publisher>,
) -> anyhow::Result<(Dashboard, Arc<Progress>)> {
    let progress = house.stages.add("dashboard", None);
    let stages = house.stages.clone();
    let options = DashboardOptions {
        log: house.log.clone(),
        site: house.site.clone(),
        listen,
        data_dir: house.data.path().to_owned(),
        operator: Some(operator),
        // It folds files, and a log elsewhere has none here.
        explain: (!house.elsewhere).then(|| explainer(&house.data, &house.site)),
        packets: None,
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

fn run_dashboard(
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

fn run_chain(house: &House, group: &Group) {
    let progress = house.stages.add("chain:site", Some(Role::Processor));
    let (log, site) = (house.log.clone(), house.site.clone());
    let store = house.data.store(&site);
    let led_by = house.led("chain:site", &progress, group);
    let shown = progress.clone();
    let part = move || {
        let (log, site, store) = (log.clone(), site.clone(), store.clone());
        let progress = shown.clone();
        led(led_by.clone(), move |cancel| {
            let (log, site, store) = (log.clone(), site.clone(), store.clone());
            let progress = progress.clone();
            async move {
                let fold = Box::new(SiteFold::new(&site));
                let options = RunnerOptions::for_chain(Chain::Site);
                let runner =
                    ChainRunner::open(log, &store, &site, Chain::Site, fold, progress, options).await?;
                runner.run(cancel).await
            }
        })
    };
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}

/// Now and then folds an hour again; what it finds goes into the log, and the chain judges it like anything else.
fn run_parity(house: &House, publisher: &Arc<Publisher>, group: &Group) {
    let progress = house.stages.add("parity", None);
    let site = house.site.clone();
    let check = ParityCheck {
        log: house.log.clone(),
        site: site.clone(),
        chain: Chain::Site,
        fold: Arc::new(move || Box::new(SiteFold::new(&site))),
        options: ParityOptions::default(),
    };
    let (told, shown, cancel) = (publisher.clone(), progress.clone(), group.cancel.clone());
    let part = move || {
        let told = told.clone();
        let tell = move |parity| {
            if let Err(error) = told.submit(Body::Parity(parity)) {
                tracing::warn!(%error, "what a check of an hour found is not recorded");
            }
        };
        check.clone().run(shown.clone(), cancel.clone(), tell)
    };
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}

fn run_clock(house: &House, publisher: &Arc<Publisher>, group: &Group) {
    let progress = house.stages.add("collector:clock", Some(Role::Collector));
    let (clock, shown, cancel) = (publisher.clone(), progress.clone(), group.cancel.clone());
    let part = move || watchfold_clock::run_shown(clock.clone(), TICK_EVERY, shown.clone(), cancel.clone());
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}

fn run_ping(
    house: &House,
    publisher: &Arc<Publisher>,
    config: watch::Receiver<Arc<SiteConfig>>,
    group: &Group,
) {
    let progress = house.stages.add("collector:ping", Some(Role::Collector));
    let (ping, shown, cancel) = (publisher.clone(), progress.clone(), group.cancel.clone());
    let part = move || watchfold_ping::run(ping.clone(), config.clone(), shown.clone(), cancel.clone());
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}

/// Runs while a configuration for it is there, and again when one comes later.
fn run_discord(
    house: &House,
    publisher: &Arc<Publisher>,
    config: watch::Receiver<Option<Arc<watchfold_discord::DiscordConfig>>>,
    group: &Group,
) {
    let progress = house.stages.add("sink:discord", Some(Role::Sink));
    let context = SinkContext {
        site: house.site.clone(),
        sink: "discord".to_owned(),
        log: house.log.clone(),
        publisher: publisher.clone(),
        state_path: house.data.sinks().join("discord.state"),
        progress: progress.clone(),
        stats: Arc::new(SinkStats::default()),
    };
    let cancel = group.cancel.clone();
    let led_by = house.led("sink:discord", &progress, group);
    let part = move || {
        let (context, config, cancel) = (context.clone(), config.clone(), cancel.clone());
        let led_by = led_by.clone();
        let progress = context.progress.clone();
        while_configured(config, Without::Idle, progress, cancel, move |config, cancel| {
            let (context, led_by) = (context.clone(), led_by.under(cancel));
            led(led_by, move |cancel| {
                watchfold_discord::run(context.clone(), config.clone(), cancel)
            })
        })
    };
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}

fn run_healthchecks(
    house: &House,
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
    let (shown, cancel) = (progress.clone(), group.cancel.clone());
    let part = move || {
        let (source, shown) = (source.clone(), shown.clone());
        while_configured(
            config.clone(),
            Without::Idle,
            shown.clone(),
            cancel.clone(),
            move |config, cancel| watchfold_healthchecks::run(source.clone(), config, shown.clone(), cancel),
        )
    };
    group.tasks.spawn(supervise(progress, group.cancel.clone(), part));
}

async fn narrated(log: Arc<dyn MessageLog>, site: String, cancel: CancellationToken) {
    if let Err(error) = narrate::run(log, site, cancel).await {
        tracing::warn!(%error, "events are no longer told here; the page and the sinks go on");
    }
}
