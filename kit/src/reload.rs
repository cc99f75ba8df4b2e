//! Follows a configuration file and every file that it names, and keeps the last good one when the new one has a mistake.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_config::{ConfigError, Seen};

use crate::Progress;
use crate::sections::Loaded;
use crate::signals::Hangup;

/// How often the files are looked at. Reading a few kilobytes costs nothing, and works with every editor and file system.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A good file that could not be taken over, because the log took no record of it, is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Reads and checks a file.
pub type Load = Arc<dyn Fn(&Path) -> Result<Loaded, ConfigError> + Send + Sync>;

/// A file, and how to read it.
#[derive(Clone)]
pub struct Followed {
    pub path: PathBuf,
    pub load: Load,
    /// What is in force.
    pub current: Loaded,
}

/// Looks at the files until cancelled, and hands every good change to `take_over`; one that it refuses does not come into force.
pub async fn follow_file<T>(file: Followed, progress: Arc<Progress>, cancel: CancellationToken, take_over: T)
where
    T: Fn(Loaded) -> BoxFuture<'static, Result<(), String>> + Send,
{
    let mut hangup = Hangup::listen();
    let mut following = Following {
        seen: file.current.seen.clone(),
        site: file.current.site.clone(),
        file,
        progress,
        again_at: None,
        is_unread: false,
        looks: 0,
    };
    following.advance();
    loop {
        let is_forced = tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => false,
            () = hangup.rung() => true,
        };
        following.advance();
        let Some(new) = following.look(is_forced) else {
            continue;
        };
        let taking_over = take_over(new);
        tokio::select! {
            () = cancel.cancelled() => return,
            () = following.take_over(taking_over) => {}
        }
    }
}

struct Following {
    file: Followed,
    /// The site does not change while a process runs.
    site: Option<String>,
    seen: Seen,
    progress: Arc<Progress>,
    /// When a good file that was not taken over is tried again.
    again_at: Option<Instant>,
    /// A file that could not be read is loaded again when it can, even if it is as it was.
    is_unread: bool,
    looks: u64,
}

impl Following {
    fn advance(&mut self) {
        self.looks += 1;
        self.progress.advance(self.looks, self.looks);
    }

    /// A changed and good file.
    fn look(&mut self, is_forced: bool) -> Option<Loaded> {
        let now = match Seen::look(&self.file.path, &self.seen) {
            Ok(now) => now,
            Err(error) => {
                self.is_unread = true;
                let path = self.file.path.display();
                self.keep_last_good(&format!("failed to read {path}: {error}"));
                return None;
            }
        };
        let is_due = self.again_at.is_some_and(|at| at <= Instant::now());
        if now == self.seen && !is_forced && !is_due && !self.is_unread {
            return None;
        }
        self.seen = now;
        self.is_unread = false;
        self.again_at = None;
        let new = match (self.file.load)(&self.file.path) {
            Ok(new) => new,
            Err(error) => {
                self.keep_last_good(&error.to_string());
                return None;
            }
        };
        if new.site != self.site {
            self.keep_last_good("the name of the site cannot change while running: restart for it");
            return None;
        }
        for warning in &new.warnings {
            tracing::warn!("{warning}");
        }
        Some(new)
    }

    /// Advances while it waits for the log: one that takes no record, because its disk is full, makes nothing here stuck.
    async fn take_over(&mut self, taking_over: BoxFuture<'static, Result<(), String>>) {
        tokio::pin!(taking_over);
        let taken = loop {
            tokio::select! {
                taken = &mut taking_over => break taken,
                () = tokio::time::sleep(LOOK_EVERY) => self.advance(),
            }
        };
        match taken {
            Ok(()) => {
                tracing::info!("the changed configuration is in force");
                self.progress.ok();
            }
            Err(why) => {
                // The file need not change to be tried again.
                self.again_at = Some(Instant::now() + AGAIN_AFTER);
                self.keep_last_good(&why);
            }
        }
    }

    fn keep_last_good(&self, why: &str) {
        if self.progress.snapshot().detail.as_deref() != Some(why) {
            tracing::error!("the changed configuration is not used, the last good one is kept: {why}");
        }
        self.progress.fail(why.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures::FutureExt;
    use tokio::sync::watch;
    use watchfold_config::{Naming, SecretRef, Sinks, load};

    use super::*;

    fn read(path: &Path) -> Result<Loaded, ConfigError> {
        let config = load(
            path,
            Naming::Required,
            |sinks: Sinks<BTreeMap<String, SecretRef>>, around, problems| {
                let resolved: Result<String, String> =
                    sinks.discord?["key"].resolve("sinks.discord.key", around.directory);
                resolved
                    .map_err(|why| problems.push("sinks.discord.key", why))
                    .ok()
            },
        )?;
        let key = config.sinks.clone();
        Ok(Loaded::of(config)?.with(key))
    }

    fn secret(loaded: &Loaded) -> Option<Arc<String>> {
        loaded.sections.get()
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
            load: Arc::new(read),
        };
        let (progress, cancel) = (Progress::new("config"), CancellationToken::new());
        let (sender, receiver) = watch::channel(secret(&file.current));
        let taken = move |loaded: Loaded| {
            sender.send_replace(secret(&loaded));
            std::future::ready(Ok(())).boxed()
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
            assert_eq!(
                receiver.borrow().as_deref().map(String::as_str),
                Some(want),
                "{detail}"
            );
            assert!(
                detail.contains(trouble) && detail.is_empty() == trouble.is_empty(),
                "{detail}"
            );
        }
        cancel.cancel();
        following.await.unwrap();
    }
}
