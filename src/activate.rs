//! `watchfold config activate`: records the configuration of a site in a log, for processes elsewhere that follow it.
//!
//! Exactly one party does this for a site: this command, or an all-in-one that runs there.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_config::load_site;
use watchfold_connect::Patience;
use watchfold_kit::{Progress, Publisher};
use watchfold_process::exit::Unavailable;
use watchfold_process::notify::Notifier;
use watchfold_process::reload::{Followed, follow_file};
use watchfold_process::signals::listen_for_signals;
use watchfold_schemas::SiteConfig;

use crate::cli::ActivateArgs;

/// How long one recording may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// With `--follow` the configuration is recorded again this often, so that retention never takes the last record of it.
const RECORD_EVERY: Duration = Duration::from_secs(86_400);

pub fn activate(args: &ActivateArgs) -> anyhow::Result<ExitCode> {
    let config = load_site(&args.file)?;
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    let file = Followed {
        path: args.file.clone(),
        load: load_site,
        current: config,
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

async fn record(args: &ActivateArgs, file: Followed<()>) -> anyhow::Result<()> {
    let patience = match args.follow {
        true => Patience::Forever,
        false => Patience::AtMost(PATIENCE),
    };
    let opened = watchfold_connect::open(&args.connect, patience).await?;
    let site = file.current.site.clone();
    // Its numbers go on from those in the log: nothing of it has to stay on this machine.
    let directory = tempfile::tempdir().context("failed to make a directory for a moment")?;
    let publisher = Publisher::open(opened.log.clone(), &site.site, "config", directory.path()).await?;
    if args.follow {
        keep(&publisher, file).await?;
    } else {
        let recorded = watchfold_process::activate(&publisher, &site);
        let Ok(recorded) = tokio::time::timeout(PATIENCE, recorded).await else {
            let seconds = PATIENCE.as_secs();
            let place = &opened.place;
            return Err(Unavailable(format!(
                "{place} took no record for {seconds} s; the configuration is not recorded"
            ))
            .into());
        };
        recorded?;
        println!(
            "{} is in force at {} ({})",
            args.file.display(),
            site.site,
            opened.place
        );
    }
    opened.close().await;
    Ok(())
}

/// Records the file now, at each good change, and once a day, until it is asked to stop.
async fn keep(publisher: &Publisher, file: Followed<()>) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    listen_for_signals(stop.clone()).context("failed to listen for signals")?;
    let (sender, site) = watch::channel(Arc::new(file.current.site.clone()));
    let progress = Progress::new("config");
    let following = follow_file(file, progress, stop.clone(), move |config| {
        sender.send_replace(Arc::new(config.site.clone()));
        Ok(())
    });
    let following = tokio::spawn(following);
    let notifier = Notifier::from_environment();
    notifier.ready();
    tokio::select! {
        kept = record_each(publisher, site, &stop) => kept?,
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
    publisher: &Publisher,
    mut site: watch::Receiver<Arc<SiteConfig>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        let now: Arc<SiteConfig> = site.borrow_and_update().clone();
        tokio::select! {
            () = stop.cancelled() => break,
            recorded = watchfold_process::activate(publisher, &now) => recorded?,
        }
        tracing::info!(site = now.site, "the configuration is recorded");
        tokio::select! {
            () = stop.cancelled() => {}
            changed = site.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(RECORD_EVERY) => {}
        }
    }
    Ok(())
}
