//! The page of something that does not watch: a demo, a replay. It is given what to show, and says where it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use watchfold_dashboard::{Dashboard, DashboardConfig, DashboardError, DashboardOptions, WebError};
use watchfold_log::{Embedded, Options, StoredAtClock, StreamOptions};
use watchfold_schemas::Stream;

use crate::paths::{Data, write_private};
use watchfold_kit::console;

/// As in `watchfold up`.
const WORKER_THREADS: usize = 2;

/// Runs `serve` over a data directory that is gone afterwards.
pub fn in_passing<T>(what: &str, serve: impl AsyncFnOnce(Data) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let directory = tempfile::Builder::new()
        .prefix(&format!("watchfold-{what}-"))
        .tempdir()
        .with_context(|| {
            format!("failed to make a directory for the {what}: set TMPDIR to one that is writable")
        })?;
    let data = Data::locate(Some(directory.path()))?;
    data.create()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let outcome = runtime.block_on(serve(data));
    runtime.shutdown_timeout(Duration::from_millis(500));
    let path = directory.path().to_owned();
    directory
        .close()
        .with_context(|| format!("failed to remove {}: remove it by hand", path.display()))?;
    outcome
}

/// What each stream of a log in passing may take of the disk.
pub struct LogLimits {
    pub observations_bytes_max: u64,
    pub packets_bytes_max: u64,
    /// Of each other stream.
    pub other_bytes_max: u64,
}

/// The log in the data directory, which stamps what it stores by `clock`.
pub async fn open_log(
    data: &Data,
    limits: &LogLimits,
    clock: StoredAtClock,
) -> anyhow::Result<Arc<Embedded>> {
    let mut options = Options::uniform(StreamOptions::new(limits.other_bytes_max, None));
    for (stream, bytes_max) in [
        (Stream::Observations, limits.observations_bytes_max),
        (Stream::Packets, limits.packets_bytes_max),
    ] {
        options
            .streams
            .insert(stream, StreamOptions::new(bytes_max, None));
    }
    options.clock = clock;
    let directory = data.log();
    let opened = tokio::task::spawn_blocking(move || Embedded::open(&directory, options)).await;
    Ok(opened.context("opening the log panicked")??)
}

/// Without a given address, the usual one, or any that is free when that one is taken.
pub async fn bind(
    listen: Option<SocketAddr>,
    options: impl Fn(SocketAddr) -> DashboardOptions,
) -> anyhow::Result<Dashboard> {
    let usual = DashboardConfig::default().listen;
    match Dashboard::bind(options(listen.unwrap_or(usual))).await {
        Err(DashboardError::Web(WebError::AddressInUse { .. })) if listen.is_none() => {
            let any = SocketAddr::new(usual.ip(), 0);
            Ok(Dashboard::bind(options(any)).await?)
        }
        bound => Ok(bound?),
    }
}

/// Says what goes on and where. The token is shown to a terminal only, as `watchfold up` does it.
pub fn announce(data: &Data, what: &str, link: &str, address: &str) -> anyhow::Result<()> {
    let file = data.link();
    write_private(&file, &format!("{link}\n"))
        .with_context(|| format!("failed to write {}", file.display()))?;
    if console::is_output_terminal() {
        console::announce(format_args!("{what}; open {link}"));
        console::announce("Ctrl-C ends it, and nothing is left behind");
    } else {
        console::announce(format_args!(
            "{what}; the page is at {address} and the link with its token in {}",
            file.display()
        ));
    }
    Ok(())
}
