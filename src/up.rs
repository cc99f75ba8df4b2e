//! `watchfold up`: starts everything in one process, says where the page is, and drains when asked to stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use watchfold_connect::ConnectArgs;
use watchfold_dashboard::PageAddress;
use watchfold_kit::reload::{Followed, Load};
use watchfold_kit::{Frame, Process, Scope, console};
use watchfold_log::MessageLog;

use crate::cli::UpArgs;
use crate::explain::explainer;
use crate::parts::{self, kept_packets};
use crate::paths::{Data, write_private};
use crate::{config, init, narrate};

pub fn up(args: &UpArgs) -> anyhow::Result<()> {
    let data = Data::locate(args.data.data.as_deref())?;
    data.create()?;
    let (path, found) = config_path(args, &data)?;
    let listen = args.listen;
    let load: Load = Arc::new(move |path| config::loaded(path, listen));
    let current = load(&path)?;
    for warning in &current.warnings {
        tracing::warn!("{warning}");
    }
    let site = current.site.clone().unwrap_or_default();
    let process = Process {
        name: "watchfold".to_owned(),
        software: format!("watchfold {}", env!("CARGO_PKG_VERSION")),
        scope: Scope::Only(site.clone()),
        connect: connect(args, &data),
        state: data.path().to_owned(),
        status: None,
        is_whole: true,
        file: Some(Followed { path, load, current }),
    };
    let services = data.clone();
    process.run(
        parts::all(),
        // Files of a log that is elsewhere cannot be folded here, and rings belong to captures beside them.
        |frame| {
            if !frame.is_elsewhere {
                frame.provide(explainer(&services, &site));
                frame.provide(kept_packets(services.rings(&site)));
            }
        },
        |frame| {
            announce(&data, frame, found.as_deref());
            frame.spawn(narrated(frame.log.clone(), site.clone(), frame.cancel()));
        },
    )
}

/// The log that the command line names, or the one in the data directory.
fn connect(args: &UpArgs, data: &Data) -> ConnectArgs {
    let mut connect = args.connect.clone();
    if connect.nats_context.is_none() {
        connect
            .log
            .get_or_insert_with(|| format!("file:{}", data.log().display()));
    }
    connect
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

/// One line with the link; the token is shown to a terminal only.
fn announce(data: &Data, frame: &Frame, found: Option<&str>) {
    if let Some(found) = found {
        console::announce(format_args!("first start: {found}"));
    }
    if let Some(page) = frame.provided::<PageAddress>() {
        console::announce(opening_line(&page, &data.link(), console::is_output_terminal()));
    }
}

fn opening_line(page: &PageAddress, link: &Path, terminal: bool) -> String {
    if terminal {
        format!("watching; open {}", page.link)
    } else {
        format!(
            "watching; the page is at {} and the link with its token in {}",
            page.address,
            link.display()
        )
    }
}

/// How long after a failure to read events it is tried again.
const NARRATE_AGAIN: Duration = Duration::from_secs(5);

/// Shows new events on the terminal until cancelled, also after the log was away.
async fn narrated(log: Arc<dyn MessageLog>, site: String, cancel: CancellationToken) {
    while let Err(error) = narrate::run(log.clone(), site.clone(), cancel.clone()).await {
        tracing::warn!(%error, "events are not shown here for a moment; the page and the sinks continue");
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(NARRATE_AGAIN) => {}
        }
    }
}
