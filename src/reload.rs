//! Takes a changed configuration over while running, and keeps the last good one when the new one has a mistake.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_config::CaptureConfig;
use watchfold_discord::DiscordConfig;
use watchfold_healthchecks::HealthchecksConfig;
use watchfold_kit::in_force::{KEEP_EVERY, Recorded};
use watchfold_kit::rules::SiteRules;
use watchfold_kit::signals::Hangup;
use watchfold_kit::{Progress, Publisher};
use watchfold_log::MessageLog;
use watchfold_schemas::SiteConfig;
use watchfold_virustotal::VirusTotalConfig;

use crate::config::{self, Config, Seen};
use crate::parts::rules::site_rules;

/// How often the files are looked at. Reading a few kilobytes costs nothing, and works with every editor and file system.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The configuration in force is recorded again this often, so that retention never takes the last record of it and
/// a piece of the log need not reach further back to be understood.
const RECORD_EVERY: Duration = Duration::from_secs(86_400);

/// A log that did not take the new configuration is asked again after this: each time costs it up to two records.
const RECORD_AGAIN: Duration = Duration::from_secs(5);

/// Where the parts get their configuration from.
pub struct Channels {
    pub site: watch::Sender<Arc<SiteConfig>>,
    pub discord: watch::Sender<Option<Arc<DiscordConfig>>>,
    pub healthchecks: watch::Sender<Option<Arc<HealthchecksConfig>>>,
    pub captures: watch::Sender<Arc<Vec<CaptureConfig>>>,
    pub virustotal: watch::Sender<Option<Arc<VirusTotalConfig>>>,
}

/// Watches the file, and those that it names, until cancelled.
pub struct Reloader {
    pub path: PathBuf,
    /// What the file, and those that it names, held at the last look; `None` makes the next look load it.
    pub seen: Option<Seen>,
    pub current: Config,
    pub channels: Channels,
    /// Those of `current`.
    pub rules: SiteRules,
    /// Where the log holds `current` and `rules`.
    pub recorded: Recorded,
    pub log: Arc<dyn MessageLog>,
    pub publisher: Arc<Publisher>,
    pub progress: Arc<Progress>,
    /// When a good file that the log did not take is tried again.
    pub again_at: Option<Instant>,
}

impl Reloader {
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut looks = 0u64;
        let mut hangup = Hangup::listen();
        let (mut recorded_at, mut kept_at) = (Instant::now(), Instant::now());
        let progress = self.progress.clone();
        // What runs is the file as it was a moment ago.
        progress.advance(looks, looks);
        loop {
            let forced = tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = hangup.rung() => true,
            };
            looks += 1;
            self.progress.advance(looks, looks);
            let before = self.seen.clone().unwrap_or_default();
            let now = match Seen::look(&self.path, &before) {
                Ok(now) => now,
                Err(error) => {
                    self.seen = None;
                    self.keep_last_good(&format!("failed to read {}: {error}", self.path.display()));
                    continue;
                }
            };
            let again = self.again_at.is_some_and(|at| at <= Instant::now());
            if self.seen.as_ref() != Some(&now) || forced || again {
                self.seen = Some(now);
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = moving(&progress, &mut looks, self.take_over()) => {}
                }
            }
            let again = recorded_at.elapsed() > RECORD_EVERY;
            if again || kept_at.elapsed() > KEEP_EVERY {
                kept_at = Instant::now();
                if again {
                    recorded_at = kept_at;
                }
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = moving(&progress, &mut looks, self.keep(again)) => {}
                }
            }
        }
    }

    /// Has the log hold what is in force: a wiped or replaced one gets it again.
    async fn keep(&mut self, again: bool) {
        let in_force = (&self.current.site, &self.rules);
        let kept = match again {
            true => self.recorded.record(&self.log, &self.publisher, in_force).await,
            false => self
                .recorded
                .keep(&self.log, &self.publisher, in_force)
                .await
                .map(drop),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "the log may not hold the configuration in force; checking again");
        }
    }

    async fn take_over(&mut self) {
        self.again_at = None;
        let mut new = match config::load(&self.path) {
            Ok(new) => new,
            Err(error) => return self.keep_last_good(&error.to_string()),
        };
        if self.current.is_listen_given {
            new.listen = self.current.listen;
            new.is_listen_given = true;
        }
        if new.site.site != self.current.site.site {
            return self.keep_last_good("the name of the site cannot change while running: restart for it");
        }
        let rules = match site_rules(&new, &self.path) {
            Ok(rules) => rules,
            Err(error) => return self.keep_last_good(&error.to_string()),
        };
        for warning in &new.warnings {
            tracing::warn!("{warning}");
        }
        if new.listen != self.current.listen {
            tracing::warn!(listen = %new.listen, "another address to listen on takes effect at the next start");
        }
        if new.page != self.current.page {
            tracing::warn!(
                "changed names and proxies of the page (dashboard.public_url, hosts, proxies) take effect at the next start"
            );
        }
        if let Err(why) = self.record(&new, &rules).await {
            // That is no fault of the file, so it need not change to be tried again.
            self.again_at = Some(Instant::now() + RECORD_AGAIN);
            return self.keep_last_good(&why);
        }
        self.rules = rules;
        tracing::info!("the changed configuration is in force");
        self.progress.ok();
        self.channels.site.send_replace(Arc::new(new.site.clone()));
        self.channels
            .discord
            .send_replace(new.discord.clone().map(Arc::new));
        self.channels
            .healthchecks
            .send_replace(new.healthchecks.clone().map(Arc::new));
        let captures = Arc::new(new.captures.clone());
        self.channels.captures.send_if_modified(|old| {
            let changed = **old != *captures;
            *old = captures;
            changed
        });
        self.channels
            .virustotal
            .send_replace(new.virustotal.clone().map(Arc::new));
        self.current = new;
    }

    async fn record(&mut self, new: &Config, rules: &SiteRules) -> Result<(), String> {
        let recorded = self
            .recorded
            .record(&self.log, &self.publisher, (&new.site, rules));
        recorded.await.map_err(|error| error.to_string())
    }

    fn keep_last_good(&self, why: &str) {
        if self.progress.snapshot().detail.as_deref() != Some(why) {
            tracing::error!("the changed configuration is not used, the last good one is kept: {why}");
        }
        self.progress.fail(why.to_owned());
    }
}

/// Does `work` and advances meanwhile: it waits for the log, which may take no record for as long as its disk is full, and that
/// is no reason to be taken for stuck.
async fn moving(progress: &Progress, looks: &mut u64, work: impl Future<Output = ()>) {
    tokio::pin!(work);
    loop {
        tokio::select! {
            () = &mut work => return,
            () = tokio::time::sleep(LOOK_EVERY) => {
                *looks += 1;
                progress.advance(*looks, *looks);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinHandle;
    use watchfold_log::memory::MemoryLog;
    use watchfold_schemas::event::NoticeClass;
    use watchfold_schemas::{Body, Stream, decode_observation};

    /// The configuration of a site with one target.
    fn text(target: &str) -> String {
        format!("site = \"cafe-1\"\n[[network.targets]]\nname = \"{target}\"\naddress = \"127.0.0.1\"\n")
    }

    /// A reloader that runs on a file.
    struct Reloading {
        path: PathBuf,
        log: Arc<MemoryLog>,
        progress: Arc<Progress>,
        site: watch::Receiver<Arc<SiteConfig>>,
        discord: watch::Receiver<Option<Arc<DiscordConfig>>>,
        cancel: CancellationToken,
        running: JoinHandle<()>,
        _directory: tempfile::TempDir,
    }

    impl Reloading {
        async fn start() -> Reloading {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("watchfold.toml"), text("router")).unwrap();
            Reloading::start_in(directory).await
        }

        async fn start_in(directory: tempfile::TempDir) -> Reloading {
            let path = directory.path().join("watchfold.toml");
            let current = config::load(&path).unwrap();
            let log = MemoryLog::new();
            let publisher = Publisher::open(log.clone(), "cafe-1", "config", directory.path());
            let (sender, site) = watch::channel(Arc::new(current.site.clone()));
            let (told, discord) = watch::channel(current.discord.clone().map(Arc::new));
            let (progress, cancel) = (Progress::new("config"), CancellationToken::new());
            let reloader = Reloader {
                path: path.clone(),
                seen: Some(current.seen.clone()),
                rules: site_rules(&current, &path).unwrap(),
                channels: Channels {
                    site: sender,
                    discord: told,
                    healthchecks: watch::Sender::new(None),
                    captures: watch::Sender::new(Arc::default()),
                    virustotal: watch::Sender::new(None),
                },
                current,
                recorded: Recorded::default(),
                log: log.clone(),
                publisher: publisher.await.unwrap(),
                progress: progress.clone(),
                again_at: None,
            };
            Reloading {
                path,
                log,
                progress,
                site,
                discord,
                running: tokio::spawn(reloader.run(cancel.clone())),
                cancel,
                _directory: directory,
            }
        }

        fn target(&self) -> String {
            self.site.borrow().network.targets[0].name.clone()
        }

        /// The titles of the rules in force, and the end of the address for alerts.
        fn in_force(&self) -> (Vec<String>, String) {
            let records = self.log.records(Stream::Observations).into_iter();
            let bodies = records.map(|record| decode_observation(&record.payload).unwrap().body);
            let rules = bodies.filter_map(|body| match body {
                Body::Rules(rules) => Some(rules.set.rules),
                _ => None,
            });
            let rules = rules.last().unwrap_or_default().into_iter();
            let discord = self.discord.borrow().clone().unwrap();
            let webhook = discord.webhooks[&NoticeClass::Alerts].expose();
            let end = webhook.rsplit('/').next().unwrap().to_owned();
            (rules.map(|rule| rule.title).collect(), end)
        }

        fn trouble(&self) -> Option<String> {
            self.progress.snapshot().detail
        }

        /// Waits until it has looked at the file so many times more.
        async fn looks(&self, times: u64) {
            let until = self.progress.snapshot().position + times;
            while self.progress.snapshot().position < until {
                tokio::time::sleep(LOOK_EVERY / 4).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_log_did_not_take_comes_into_force_though_the_file_stays_as_it_is() {
        let reloading = Reloading::start().await;
        reloading.log.fail_info(true);
        std::fs::write(&reloading.path, text("printer")).unwrap();
        // Longer than it waits before it tries again, and in vain each time.
        reloading.looks(3 * RECORD_AGAIN.as_secs()).await;
        assert_eq!(reloading.target(), "router", "the last good one is in force");
        let trouble = reloading.trouble().unwrap();
        assert!(trouble.contains("which rules are in force"), "{trouble}");
        let tries = reloading.log.records(Stream::Observations).len();
        assert!((2..=4).contains(&tries), "{tries} records, one of each try");

        reloading.log.fail_info(false);
        reloading.looks(RECORD_AGAIN.as_secs() + 2).await;
        assert_eq!(
            (reloading.target().as_str(), reloading.trouble()),
            ("printer", None)
        );
        // Nothing is left to try.
        let records = reloading.log.records(Stream::Observations).len();
        reloading.looks(2 * RECORD_AGAIN.as_secs()).await;
        assert_eq!(reloading.log.records(Stream::Observations).len(), records);
        reloading.cancel.cancel();
        reloading.running.await.unwrap();
    }

    fn rule(title: &str) -> String {
        format!(
            "title: {title}\nname: slow\nlevel: low\nlogsource:\n    category: ping\ndetection:\n    selection:\n        \
             ping.outcome: timed_out\n    condition: selection\n"
        )
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_the_files_that_the_configuration_names_take_effect_and_mistakes_in_them_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let webhook = |token: &str| format!("https://discord.test/api/webhooks/1/{token}\n");
        let text = "[rules]\nset = \"rules\"\n[sinks.discord]\nalerts = { file = \"hook\" }\n";
        std::fs::create_dir(at("rules")).unwrap();
        std::fs::write(at("watchfold.toml"), format!("site = \"cafe-1\"\n{text}")).unwrap();
        std::fs::write(at("rules/slow.yml"), rule("one")).unwrap();
        std::fs::write(at("hook"), webhook("first")).unwrap();
        let (slow, new, hook) = (at("rules/slow.yml"), at("rules/.new"), at("hook"));
        let reloading = Reloading::start_in(directory).await;
        let check = async |rule: &str, token: &str, trouble: Option<&str>| {
            reloading.looks(2).await;
            let (rules, end) = reloading.in_force();
            assert_eq!((rules.concat().as_str(), end.as_str()), (rule, token));
            let got = reloading.trouble().unwrap_or_default();
            assert!(got.contains(trouble.unwrap_or_default()), "{got}");
            assert_eq!(got.is_empty(), trouble.is_none(), "{got}");
        };

        std::fs::write(&slow, rule("two")).unwrap();
        check("two", "first", None).await;
        std::fs::write(&slow, "title: broken").unwrap();
        check("two", "first", Some("slow.yml")).await;
        std::fs::write(&new, rule("three")).unwrap();
        std::fs::rename(&new, &slow).unwrap();
        check("three", "first", None).await;
        std::fs::write(&hook, "").unwrap();
        check("three", "first", Some("hook is empty")).await;
        std::fs::write(&hook, webhook("second")).unwrap();
        check("three", "second", None).await;
        std::fs::remove_file(&hook).unwrap();
        check("three", "second", Some("failed to read the secret's file")).await;
        std::fs::write(&hook, webhook("second")).unwrap();
        check("three", "second", None).await;
        std::fs::remove_file(&slow).unwrap();
        check("three", "second", Some("rules are files that end in")).await;
        std::fs::write(&slow, rule("three")).unwrap();
        check("three", "second", None).await;
        // The file itself is away for a moment, and back as it was.
        let aside = reloading.path.with_extension("aside");
        std::fs::rename(&reloading.path, &aside).unwrap();
        check("three", "second", Some("failed to read")).await;
        std::fs::rename(&aside, &reloading.path).unwrap();
        check("three", "second", None).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_was_wiped_gets_the_configuration_again() {
        let reloading = Reloading::start().await;
        let activations = || {
            let records = reloading.log.records(Stream::Observations);
            let is_one = |record: &&watchfold_log::Record| record.subject.contains(".activation.");
            records.iter().filter(is_one).count()
        };
        reloading.looks(KEEP_EVERY.as_secs() + 2).await;
        assert_eq!(activations(), 1);
        reloading.looks(3 * KEEP_EVERY.as_secs()).await;
        assert_eq!(activations(), 1, "the log holds it");
        reloading.log.replace();
        assert_eq!(activations(), 0);
        reloading.looks(KEEP_EVERY.as_secs() + 2).await;
        assert_eq!(activations(), 1);
        reloading.cancel.cancel();
        reloading.running.await.unwrap();
    }
}
