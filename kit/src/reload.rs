//! Follows a configuration file and every file that it names, and keeps the last good one when the new one has a mistake.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::Progress;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_config::{Config, ConfigError, Seen};

use crate::signals::Hangup;

/// How often the files are looked at. Reading a few kilobytes costs nothing, and works with every editor and file system.
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

/// Looks at the files until cancelled, and hands every good change to `taken`; one that it refuses is not taken over.
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
    let mut seen = file.current.seen.clone();
    // A file that could not be read is loaded again when it can, even if it is as it was.
    let mut unread = false;
    for looks in 0.. {
        progress.advance(looks, looks);
        let forced = tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => false,
            () = hangup.rung() => true,
        };
        let now = match Seen::look(&file.path, &seen) {
            Ok(now) => now,
            Err(error) => {
                unread = true;
                keep_last_good(
                    &progress,
                    &format!("failed to read {}: {error}", file.path.display()),
                );
                continue;
            }
        };
        if now == seen && !forced && !unread {
            continue;
        }
        (seen, unread) = (now, false);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use watchfold_config::{Naming, SecretRef, Sinks, load};

    fn read(path: &Path) -> Result<Config<Option<String>>, ConfigError> {
        load(
            path,
            Naming::Required,
            |sinks: Sinks<BTreeMap<String, SecretRef>>, around, problems| {
                let resolved = sinks.discord?["key"].resolve("sinks.discord.key", around.directory);
                resolved.map_err(|why| problems.push(why)).ok()
            },
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotated_secret_is_handed_on_and_an_empty_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (path, key) = (
            directory.path().join("watchfold.toml"),
            directory.path().join("key"),
        );
        std::fs::write(
            &path,
            "site = \"cafe-1\"\n[sinks.discord]\nkey = { file = \"key\" }\n",
        )
        .unwrap();
        std::fs::write(&key, "one").unwrap();
        let file = Followed {
            current: read(&path).unwrap(),
            path: path.clone(),
            load: read,
        };
        let (progress, cancel) = (Progress::new("config"), CancellationToken::new());
        let (sender, receiver) = watch::channel(file.current.sinks.clone());
        let taken = move |config: &Config<Option<String>>| {
            sender.send_replace(config.sinks.clone());
            Ok(())
        };
        let following = tokio::spawn(follow_file(file, progress.clone(), cancel.clone(), taken));
        let aside = directory.path().join("aside");
        type Step<'s> = (&'s str, &'s dyn Fn() -> std::io::Result<()>, &'s str);
        let steps: [Step<'_>; 5] = [
            ("two", &|| std::fs::write(&key, "two\n"), ""),
            ("two", &|| std::fs::write(&key, " \n"), "key is empty"),
            ("three", &|| std::fs::write(&key, "three"), ""),
            ("three", &|| std::fs::rename(&path, &aside), "failed to read"),
            ("three", &|| std::fs::rename(&aside, &path), ""),
        ];
        for (want, change, trouble) in steps {
            change().unwrap();
            let until = progress.snapshot().position + 2;
            while progress.snapshot().position < until {
                tokio::time::sleep(LOOK_EVERY / 4).await;
            }
            let detail = progress.snapshot().detail.unwrap_or_default();
            assert_eq!(receiver.borrow().as_deref(), Some(want), "{detail}");
            assert!(
                detail.contains(trouble) && detail.is_empty() == trouble.is_empty(),
                "{detail}"
            );
        }
        cancel.cancel();
        following.await.unwrap();
    }
}
