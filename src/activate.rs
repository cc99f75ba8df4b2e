//! `watchfold config activate`: records the configuration of a site and its rules in a log, for processes elsewhere that
//! follow it.
//!
//! Exactly one party does this for a site: this command, or an all-in-one that runs there.

use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_config::{Config, ConfigError, Found, Ignored, Naming, Sinks};
use watchfold_connect::Patience;
use watchfold_kit::exit::Unavailable;
use watchfold_kit::in_force::{KEEP_EVERY, NotRecorded, Recorded};
use watchfold_kit::notify::Notifier;
use watchfold_kit::reload::{Followed, follow_file};
use watchfold_kit::rules::SiteRules;
use watchfold_kit::signals::listen_for_signals;
use watchfold_kit::{Loaded, Progress, Publisher};
use watchfold_log::MessageLog;
use watchfold_schemas::SiteConfig;

use crate::cli::ActivateArgs;
use watchfold_kit::{errln, outln};

/// How long one recording may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// With `--follow` the configuration is recorded again this often, so that retention never takes the last record of it.
const RECORD_EVERY: Duration = Duration::from_secs(86_400);

/// Whether the file asks an oracle; its key is for the program that does.
#[derive(Clone, PartialEq)]
struct Asks(bool);

/// What is recorded.
struct Active {
    site: SiteConfig,
    rules: SiteRules,
}

fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let config = watchfold_config::load(
        path,
        Naming::Required,
        |sinks: Sinks<Ignored, Ignored, Ignored>, _, _| Asks(sinks.virustotal.is_some()),
    )?;
    let section = config.clone();
    Ok(Loaded::of(config)?.with(Some(section)))
}

impl Active {
    /// What rules may know of a machine is known where the parts run, so only what the file says is recorded here.
    fn of(loaded: &Loaded, path: &Path) -> anyhow::Result<Active> {
        let config = loaded.sections.get::<Config<Asks>>();
        let config = config.context("there is no configuration to record")?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let found = Found {
            lookups: config.sinks.0,
            ..Found::default()
        };
        let rules = SiteRules {
            site: config.site.site.clone(),
            set: watchfold_rules::rule_set(&config.rules, directory)?,
            surroundings: config.rules.surroundings(&found),
            captures: !config.captures.is_empty(),
        };
        let site = config.site.clone();
        Ok(Active { site, rules })
    }

    async fn record(
        &self,
        log: &Arc<dyn MessageLog>,
        publisher: &Publisher,
        recorded: &mut Recorded,
    ) -> Result<(), NotRecorded> {
        recorded.record(log, publisher, (&self.site, &self.rules)).await
    }
}

pub fn activate(args: &ActivateArgs) -> anyhow::Result<ExitCode> {
    let current = load(&args.file)?;
    for warning in &current.warnings {
        errln!("warning: {warning}");
    }
    let file = Followed {
        path: args.file.clone(),
        load: Arc::new(load),
        current,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let recorded = runtime.block_on(record(args, file));
    runtime.shutdown_timeout(Duration::from_millis(500));
    recorded.map(|()| ExitCode::SUCCESS)
}

async fn record(args: &ActivateArgs, file: Followed) -> anyhow::Result<()> {
    let active = Active::of(&file.current, &file.path)?;
    let patience = match args.follow {
        true => Patience::Forever,
        false => Patience::AtMost(PATIENCE),
    };
    let opened = watchfold_connect::open(&args.connect, patience).await?;
    let site = active.site.site.clone();
    // Its numbers go on from those in the log: nothing of it has to stay on this machine.
    let directory = tempfile::tempdir().context("failed to make a directory for a moment")?;
    let publisher = Publisher::open(opened.log.clone(), &site, "config", directory.path()).await?;
    if args.follow {
        keep(&opened.log, &publisher, active, file).await?;
    } else {
        let mut places = Recorded::default();
        let recorded = active.record(&opened.log, &publisher, &mut places);
        let Ok(recorded) = tokio::time::timeout(PATIENCE, recorded).await else {
            let seconds = PATIENCE.as_secs();
            let place = &opened.place;
            return Err(Unavailable(format!(
                "{place} took no record for {seconds} s; the configuration is not recorded"
            ))
            .into());
        };
        recorded?;
        outln!("{} is in force at {site} ({})", args.file.display(), opened.place)?;
    }
    opened.close().await;
    Ok(())
}

/// Records the file now, at each good change, and once a day, until it is asked to stop.
async fn keep(
    log: &Arc<dyn MessageLog>,
    publisher: &Publisher,
    active: Active,
    file: Followed,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    listen_for_signals(stop.clone()).context("failed to listen for signals")?;
    let (sender, active) = watch::channel(Arc::new(active));
    let path = file.path.clone();
    let progress = Progress::new("config");
    let following = follow_file(file, progress, stop.clone(), move |loaded| {
        let taken = Active::of(&loaded, &path).map_err(|error| error.to_string());
        let taken = taken.map(|active| drop(sender.send_replace(Arc::new(active))));
        Box::pin(std::future::ready(taken))
    });
    let following = tokio::spawn(following);
    let notifier = Notifier::from_environment();
    notifier.ready();
    tokio::select! {
        kept = record_each(log, publisher, active, &stop) => kept?,
        never = beat(&notifier) => match never {},
    }
    notifier.stopping();
    stop.cancel();
    following.await.context("following the file panicked")
}

/// Tells the service manager that we live; a log that takes nothing for a while is no reason to be restarted.
async fn beat(notifier: &Notifier) -> Infallible {
    loop {
        match notifier.watchdog_every() {
            Some(every) => tokio::time::sleep(every).await,
            None => std::future::pending().await,
        }
        notifier.alive();
    }
}

async fn record_each(
    log: &Arc<dyn MessageLog>,
    publisher: &Publisher,
    mut active: watch::Receiver<Arc<Active>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut places = Recorded::default();
    while !stop.is_cancelled() {
        let now: Arc<Active> = active.borrow_and_update().clone();
        tokio::select! {
            () = stop.cancelled() => break,
            recorded = now.record(log, publisher, &mut places) => recorded?,
        }
        tracing::info!(site = now.site.site, "the configuration is recorded");
        tokio::select! {
            () = stop.cancelled() => {}
            changed = active.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(RECORD_EVERY) => {}
            never = keep_in_log(log, publisher, &now, &mut places) => match never {},
        }
    }
    Ok(())
}

/// Has the log hold what is in force: a wiped or replaced one gets it again. A log that does not answer is asked again.
async fn keep_in_log(
    log: &Arc<dyn MessageLog>,
    publisher: &Publisher,
    active: &Active,
    places: &mut Recorded,
) -> Infallible {
    loop {
        tokio::time::sleep(KEEP_EVERY).await;
        let in_force = (&active.site, &active.rules);
        if let Err(error) = places.keep(log, publisher, in_force).await {
            tracing::warn!(%error, "the log may not hold the configuration in force; checking again");
        }
    }
}
