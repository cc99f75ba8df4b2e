//! The file, the gate and the log together: what comes into force, and what does not.

use std::path::PathBuf;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use watchfold_discord::DiscordConfig;
use watchfold_kit::parts;
use watchfold_kit::reload::{Followed, LOOK_EVERY, follow_file};
use watchfold_kit::{Frame, Progress, Scope, Setup};
use watchfold_log::memory::MemoryLog;
use watchfold_schemas::event::NoticeClass;
use watchfold_schemas::{Body, SiteConfig, Stream, decode_observation};

use super::*;
use crate::config;

/// How long a good file that was not taken over waits before it is tried again, in looks.
const AGAIN_LOOKS: u64 = 5;

/// The configuration of a site with one target.
fn text(target: &str) -> String {
    format!("site = \"cafe-1\"\n[[network.targets]]\nname = \"{target}\"\naddress = \"127.0.0.1\"\n")
}

/// The part that records, in a process that follows a file.
struct Reloading {
    path: PathBuf,
    log: Arc<MemoryLog>,
    progress: Arc<Progress>,
    site: watch::Receiver<Option<Arc<SiteConfig>>>,
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
        let file = Followed {
            current: config::loaded(&path, None).unwrap(),
            load: Arc::new(|path| config::loaded(path, None)),
            path: path.clone(),
        };
        let log = MemoryLog::new();
        let setup = Setup {
            name: "watchfold".to_owned(),
            software: "watchfold".to_owned(),
            scope: Scope::Only("cafe-1".to_owned()),
            state: directory.path().to_owned(),
            is_whole: true,
            is_elsewhere: false,
            sections: file.current.sections.clone(),
        };
        let frame = Frame::on(setup, log.clone(), Arc::new(watchfold_log::LocalLeases), "memory");
        frame.start(parts![Activation::default()]).await.unwrap();
        let (site, discord) = (frame.sections.follow(), frame.sections.follow());
        let (progress, cancel) = (Progress::new("config"), CancellationToken::new());
        let following = follow_file(file, progress.clone(), cancel.clone(), move |loaded| {
            let frame = frame.clone();
            Box::pin(async move { frame.take_over(loaded).await })
        });
        Reloading {
            path,
            log,
            progress,
            site,
            discord,
            running: tokio::spawn(following),
            cancel,
            _directory: directory,
        }
    }

    fn target(&self) -> String {
        self.site.borrow().as_ref().unwrap().network.targets[0]
            .name
            .clone()
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
    reloading.looks(3 * AGAIN_LOOKS).await;
    assert_eq!(reloading.target(), "router", "the last good one is in force");
    let trouble = reloading.trouble().unwrap();
    assert!(trouble.contains("which rules are in force"), "{trouble}");
    let tries = reloading.log.records(Stream::Observations).len();
    assert!(
        (2..=4).contains(&tries),
        "{tries} records, one at the start and one of each try"
    );

    reloading.log.fail_info(false);
    reloading.looks(AGAIN_LOOKS + 2).await;
    assert_eq!(
        (reloading.target().as_str(), reloading.trouble()),
        ("printer", None)
    );
    // Nothing is left to try.
    let records = reloading.log.records(Stream::Observations).len();
    reloading.looks(2 * AGAIN_LOOKS).await;
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
