//! Follows a configuration file, and keeps the last good one when the new one has a mistake.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_config::{Config, ConfigError, FileText};
use watchfold_kit::Progress;

use crate::signals::Hangup;

/// How often a file is looked at. Reading a few kilobytes costs nothing, and works with every editor and file system.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads and checks a file.
pub type Load<S> = fn(&Path) -> Result<Config<S>, ConfigError>;

/// A file, and how to read it.
pub struct Followed<S> {
    pub path: PathBuf,
    pub load: Load<S>,
    /// What is in force.
    pub current: Config<S>,
}

/// Looks at the file until cancelled, and hands every good change to `taken`; one that it refuses is not taken over.
pub async fn follow_file<S, T>(
    mut file: Followed<S>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    taken: T,
) where
    T: Fn(&Config<S>) -> Result<(), String> + Send,
    S: Send,
{
    let mut hangup = Hangup::listen();
    let mut seen = file.current.text.clone();
    for looks in 0.. {
        progress.advance(looks, looks);
        let forced = tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => false,
            () = hangup.rung() => true,
        };
        let text = match std::fs::read_to_string(&file.path) {
            Ok(text) => FileText(text),
            Err(error) => {
                keep_last_good(
                    &progress,
                    &format!("failed to read {}: {error}", file.path.display()),
                );
                continue;
            }
        };
        if text == seen && !forced {
            continue;
        }
        seen = text;
        let new = match (file.load)(&file.path) {
            Ok(new) => new,
            Err(error) => {
                keep_last_good(&progress, &error.to_string());
                continue;
            }
        };
        if new.site.site != file.current.site.site {
            keep_last_good(
                &progress,
                "the name of the site cannot change while running: restart for it",
            );
            continue;
        }
        for warning in &new.warnings {
            tracing::warn!("{warning}");
        }
        match taken(&new) {
            Ok(()) => {
                tracing::info!("the changed configuration is in force");
                progress.ok();
                file.current = new;
            }
            Err(why) => keep_last_good(&progress, &why),
        }
    }
}

/// A sender of one part of a configuration.
pub fn into<S, C: PartialEq>(sender: &watch::Sender<Option<Arc<C>>>, config: &S, part: fn(&S) -> Option<C>) {
    let new = part(config);
    sender.send_if_modified(|old| {
        let changed = old.as_deref() != new.as_ref();
        if changed {
            *old = new.map(Arc::new);
        }
        changed
    });
}

fn keep_last_good(progress: &Progress, why: &str) {
    if progress.snapshot().detail.as_deref() != Some(why) {
        tracing::error!("the changed configuration is not used, the last good one is kept: {why}");
    }
    progress.fail(why.to_owned());
}
