//! `watchfold up`: starts everything in one process, says where the page is, and drains when asked to stop.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use watchfold_connect::ConnectArgs;
use watchfold_kit::notify::Notifier;
use watchfold_kit::signals::listen_for_signals;

use crate::cli::UpArgs;
use crate::config::{self, Config};
use crate::init;
use crate::parts::Parts;
use crate::paths::{Data, write_private};
use watchfold_kit::console;

/// Everything has ended by then, or is left behind: an operator who stops it waits no longer.
const DRAIN: Duration = Duration::from_secs(5);

/// Enough for folding, the log and the page together; the machine belongs to its users.
const WORKER_THREADS: usize = 2;

pub fn up(args: &UpArgs) -> anyhow::Result<()> {
    let data = Data::locate(args.data.data.as_deref())?;
    data.create()?;
    let (path, found) = config_path(args, &data)?;
    let mut config = config::load(&path)?;
    if let Some(listen) = args.listen {
        config.listen = listen;
        config.is_listen_given = true;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let served = runtime.block_on(serve(&data, args.connect.clone(), path, config, found));
    runtime.shutdown_timeout(Duration::from_millis(500));
    served
}

/// The given file, or the one in the data directory, made from what is found when there is none.
fn config_path(args: &UpArgs, data: &Data) -> anyhow::Result<(PathBuf, Option<String>)> {
    if let Some(path) = &args.config {
        return Ok((path.clone(), None));
    }
    let path = data.config();
    if path.exists() {
        return Ok((path, None));
    }
    let draft = init::Draft::discover();
    write_private(&path, &draft.to_toml()).with_context(|| format!("failed to write {}", path.display()))?;
    let found = format!("{}; edit {} to change it", draft.summary(), path.display());
    Ok((path, Some(found)))
}

async fn serve(
    data: &Data,
    connect: ConnectArgs,
    path: PathBuf,
    config: Config,
    found: Option<String>,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    listen_for_signals(stop.clone()).context("failed to listen for signals")?;
    let notifier = Notifier::from_environment();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let parts = tokio::select! {
        parts = Parts::start(data, &connect, path, config) => parts?,
        () = stop.cancelled() => return Ok(()),
    };
    announce(data, &parts, found.as_deref());
    notifier.ready();
    let failed = tokio::select! {
        failed = parts.until_stopped(&stop) => failed,
        never = watched(&notifier, &parts) => match never {},
    };
    notifier.stopping();
    if tokio::time::timeout(DRAIN, parts.drain()).await.is_err() {
        tracing::warn!(
            seconds = DRAIN.as_secs(),
            "some parts did not end in time; nothing acknowledged is lost"
        );
    }
    failed
}

/// Tells the service manager that we live, as often as it wants to hear it, while every part gets on or says why not.
async fn watched(notifier: &Notifier, parts: &Parts) -> Infallible {
    loop {
        match notifier.watchdog_every() {
            Some(every) => tokio::time::sleep(every).await,
            None => std::future::pending().await,
        }
        match parts.health().stuck() {
            Some(part) => tracing::error!(
                part,
                "a part is stuck and does not say why; the watchdog is not told that we live"
            ),
            None => notifier.alive(),
        }
    }
}

/// One line with the link; the token is shown to a terminal only.
fn announce(data: &Data, parts: &Parts, found: Option<&str>) {
    if let Some(found) = found {
        console::announce(format_args!("first start: {found}"));
    }
    console::announce(opening_line(parts, &data.link(), console::is_output_terminal()));
}

fn opening_line(parts: &Parts, link: &Path, terminal: bool) -> String {
    if terminal {
        format!("watching; open {}", parts.link())
    } else {
        format!(
            "watching; the page is at {} and the link with its token in {}",
            parts.address(),
            link.display()
        )
    }
}
