//! The wiring: which parts there are, and what each is given. A component is joined by one line here.

mod captures;
mod chains;
mod collectors;
mod house;
mod packets;
pub mod rules;
mod sinks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_connect::{ConnectArgs, Opened, Patience};
use watchfold_healthchecks::Role;
use watchfold_kit::Publisher;
use watchfold_kit::answers::LogAnswers;
use watchfold_kit::figures::Figures;
use watchfold_kit::health::Health;
use watchfold_kit::in_force::{NotRecorded, Recorded};

use self::captures::run_captures;
use self::chains::{run_chain, run_packet_chain, run_parity};
use self::collectors::{run_clock, run_ping};
use self::house::{Group, House, Publishers, Stages};
use self::rules::site_rules;
use self::sinks::{bind_dashboard, narrated, run_dashboard, run_discord, run_healthchecks, run_virustotal};
use crate::config::Config;
use crate::paths::{Data, write_private};
use crate::reload::{Channels, Reloader};

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
    answers: Arc<LogAnswers>,
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

impl Parts {
    pub async fn start(
        data: &Data,
        connect: &ConnectArgs,
        config_path: PathBuf,
        config: Config,
    ) -> anyhow::Result<Parts> {
        let seen = config.seen.clone();
        let opened = open_log(data, connect).await?;
        let house = House {
            site: config.site.site.clone(),
            log: opened.log.clone(),
            leases: opened.leases.clone(),
            elsewhere: connect.is_elsewhere(),
            data: data.clone(),
            stages: Stages::default(),
            figures: Figures::default(),
        };
        let rules = site_rules(&config, &config_path)?;
        let log_progress = house.stages.add("log", Some(Role::Processor));
        let answers = LogAnswers::new(house.log.clone(), &opened.place, Some(log_progress));
        let (collectors, chains, sinks) = (Group::new(), Group::new(), Group::new());
        let (site_sender, site_receiver) = watch::channel(Arc::new(config.site.clone()));
        let (discord_sender, discord) = watch::channel(config.discord.clone().map(Arc::new));
        let (health_sender, healthchecks) = watch::channel(config.healthchecks.clone().map(Arc::new));
        let (captures_sender, captures) = watch::channel(Arc::new(config.captures.clone()));
        let (virustotal_sender, virustotal) = watch::channel(config.virustotal.clone().map(Arc::new));
        let publishers = Publishers::open(&house).await?;
        let config_publisher = publishers.config.clone();
        let (dashboard, progress) = bind_dashboard(
            &house,
            config.listen,
            config.page.clone(),
            publishers.operator.clone(),
        )
        .await?;
        let (link, address) = (dashboard.link(), dashboard.address());
        keep_link(data, &link);
        let mut recorded = Recorded::default();
        let recording = recorded.record(&house.log, &config_publisher, (&config.site, &rules));
        match tokio::time::timeout(ACTIVATE_TIMEOUT, recording).await {
            Ok(Ok(())) => {}
            // The log takes this configuration never; all else is tried again while it runs.
            Ok(Err(error @ NotRecorded::Config(_))) => return Err(error.into()),
            Ok(Err(error)) => tracing::warn!(%error, "the configuration is recorded once the log takes it"),
            Err(_) => {
                tracing::warn!("the log takes no records yet: the configuration is recorded when it does")
            }
        }

        run_chain(&house, &chains);
        run_packet_chain(&house, &publishers.packet_parity, captures.clone(), &chains);
        run_answers(&answers, &sinks);
        let failed = run_dashboard(dashboard, progress, &sinks);
        run_clock(&house, &publishers.clock, &collectors);
        run_ping(&house, &publishers.ping, site_receiver, &collectors);
        run_captures(&house, captures, &collectors);
        run_parity(&house, &publishers.parity, &collectors);
        run_discord(&house, &publishers.discord, discord, &sinks);
        run_virustotal(&house, virustotal, &sinks);
        run_healthchecks(&house, &publishers.healthchecks, healthchecks, &sinks);
        sinks.tasks.spawn(narrated(
            house.log.clone(),
            house.site.clone(),
            sinks.cancel.clone(),
        ));
        let reloader = Reloader {
            path: config_path,
            seen: Some(seen),
            current: config,
            channels: Channels {
                site: site_sender,
                discord: discord_sender,
                healthchecks: health_sender,
                captures: captures_sender,
                virustotal: virustotal_sender,
            },
            rules,
            recorded,
            log: house.log.clone(),
            publisher: config_publisher,
            progress: house.stages.add("config", None),
            again_at: None,
        };
        collectors.tasks.spawn(reloader.run(collectors.cancel.clone()));
        Ok(Parts {
            opened,
            stages: house.stages,
            answers,
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
            log_answers_for: self.answers.answering_for(),
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
            error = self.answers.stopped() => Err(error.into()),
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

/// Writes the link into its file unless it is there. A disk that is too full for it keeps nobody from watching.
fn keep_link(data: &Data, link: &str) {
    let (path, text) = (data.link(), format!("{link}\n"));
    if std::fs::read_to_string(&path).is_ok_and(|kept| kept == text) {
        return;
    }
    if let Err(error) = write_private(&path, &text) {
        tracing::warn!(path = %path.display(), %error, "the link to the page could not be written; the token is in the file beside it");
    }
}

/// Asks the log whether it answers for as long as anything that says so runs.
fn run_answers(answers: &Arc<LogAnswers>, group: &Group) {
    let (answers, cancel) = (answers.clone(), group.cancel.clone());
    group.tasks.spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = answers.follow() => {}
        }
    });
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
