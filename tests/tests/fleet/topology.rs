//! The services of compose.yaml as processes of this machine: each with a directory in place of its volume, ports of
//! loopback in place of a network, and its own health check. What is changed in a command stands in one table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use watchfold_discord::testing::DiscordServer;
use watchfold_healthchecks::testing::HealthchecksServer;
use watchfold_jetstream::testing::{binary, free_port};
use watchfold_jetstream::{JetStream, JetStreamOptions};

use crate::compose::{Compose, Service};
use crate::process::built;
use crate::shipped::{LIMIT, folder, is_at_least, until, with_a_store};

/// The access token that somebody chose.
pub const TOKEN: &str = "0123456789abcdefghijklmnopqrstuvwxyz-_.~ABC";

/// Bytes of a ping's body that the stand-in for healthchecks.io takes.
const BODY_BYTES: usize = 10_000;

pub struct Topology {
    file: Compose,
    place: tempfile::TempDir,
    broker: u16,
    monitor: u16,
    page: u16,
    running: Vec<Running>,
    /// What is watched, until it is gone.
    watched: Option<TcpListener>,
    discord: DiscordServer,
    healthchecks: HealthchecksServer,
}

struct Running {
    service: String,
    instance: String,
    child: Child,
    health: Vec<String>,
    said: PathBuf,
}

impl Topology {
    pub async fn new(file: Compose) -> Topology {
        drop(rustls::crypto::ring::default_provider().install_default());
        let place = tempfile::tempdir().unwrap();
        let watched = TcpListener::bind("127.0.0.78:0").await.unwrap();
        let discord = DiscordServer::start().await.unwrap();
        let healthchecks = HealthchecksServer::start(BODY_BYTES).await.unwrap();
        let config = format!(
            "site = \"cafe-1\"\n[network]\ninterval = \"500ms\"\ntimeout = \"300ms\"\nretry_delay = \"100ms\"\n\
             min_incident = \"1s\"\n[[network.targets]]\nname = \"gone\"\naddress = \"127.0.0.78\"\n\
             signals = [{{ tcp = {} }}]\n[sinks.discord]\nalerts = {{ env = \"WATCHFOLD_DISCORD_ALERTS\" }}\n\
             [sinks.healthchecks]\nurl = {{ env = \"WATCHFOLD_HEALTHCHECKS_URL\" }}\n",
            watched.local_addr().unwrap().port(),
        );
        std::fs::write(place.path().join("watchfold.toml"), config).unwrap();
        Topology {
            file,
            place,
            broker: free_port().unwrap(),
            monitor: free_port().unwrap(),
            page: free_port().unwrap(),
            running: Vec::new(),
            watched: Some(watched),
            discord,
            healthchecks,
        }
    }

    /// The services that `docker compose up` starts, or those of a profile by its name.
    pub fn names_of_profile(&self, profile: Option<&str>) -> Vec<String> {
        let wanted = |service: &Service| match profile {
            None => service.profiles.is_empty(),
            Some(profile) => service.profiles == [profile],
        };
        let services = self.file.services.iter().filter(|(_, service)| wanted(service));
        services.map(|(name, _)| name.clone()).collect()
    }

    /// Starts each once those are healthy that it depends on.
    pub async fn start_in_order(&mut self, services: &[String]) {
        let mut left: Vec<&String> = services.iter().collect();
        while !left.is_empty() {
            let is_up = |name: &str| self.running.iter().any(|running| running.service == name);
            let (ready, waiting): (Vec<_>, Vec<_>) = left.into_iter().partition(|name| {
                self.file.services[*name]
                    .depends_on
                    .keys()
                    .all(|other| is_up(other))
            });
            assert!(!ready.is_empty(), "{waiting:?} wait for each other");
            for name in &ready {
                let needs = self.file.services[*name].depends_on.values();
                assert!(needs.into_iter().all(|need| need.condition == "service_healthy"));
                self.start(name, name);
            }
            for name in &ready {
                self.healthy(name).await;
            }
            left = waiting;
        }
    }

    /// One more of a service: `--scale`.
    pub async fn start_another(&mut self, service: &str) {
        let instance = format!("{service}-2");
        self.start(service, &instance);
        self.healthy(&instance).await;
    }

    fn start(&mut self, name: &str, instance: &str) {
        let service = self.file.services[name].clone();
        let home = self.place.path().join(instance);
        std::fs::create_dir_all(&home).unwrap();
        let status = free_port().unwrap();
        let here = |word: &str| self.here(word, instance, status);
        let words: Vec<String> = service.command.iter().map(|word| here(word)).collect();
        let program = match words[0].as_str() {
            "nats-server" => binary().unwrap(),
            program => built(program),
        };
        let said = self.place.path().join(format!("{instance}.said"));
        let output = std::fs::File::create(&said).unwrap();
        let mut command = Command::new(program);
        command
            .args(&words[1..])
            // The working directory of the image is the volume.
            .current_dir(&home)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true);
        if name == "nats" {
            command.args(["-p", &self.broker.to_string(), "-m", &self.monitor.to_string()]);
        }
        for (key, value) in &service.environment {
            command.env(
                key,
                if value.starts_with("${WATCHFOLD_TOKEN:?") {
                    TOKEN
                } else {
                    value
                },
            );
        }
        // What watchfold.env would give.
        command.env("WATCHFOLD_DISCORD_ALERTS", self.discord.url("alerts"));
        command.env("WATCHFOLD_HEALTHCHECKS_URL", self.healthchecks.url());
        self.running.push(Running {
            service: name.to_owned(),
            instance: instance.to_owned(),
            child: command.spawn().unwrap(),
            health: service.healthcheck.test.iter().map(|word| here(word)).collect(),
            said,
        });
    }

    /// A word of a command as it has to be on this machine.
    fn here(&self, word: &str, instance: &str, status: u16) -> String {
        let conf = if is_at_least(2, 10) {
            "single.conf"
        } else {
            "single-2.9.conf"
        };
        let conf = with_a_store(self.place.path(), "nats", &folder().join(conf));
        let table = [
            ("nats://nats:4222", format!("nats://127.0.0.1:{}", self.broker)),
            ("/etc/nats/single.conf", conf.display().to_string()),
            ("/etc/watchfold/", format!("{}/", self.place.path().display())),
            (
                "/var/lib/watchfold",
                self.place.path().join(instance).display().to_string(),
            ),
            ("127.0.0.1:9100", format!("127.0.0.1:{status}")),
            ("127.0.0.1:8222", format!("127.0.0.1:{}", self.monitor)),
            ("127.0.0.1:8737", format!("127.0.0.1:{}", self.page)),
            ("0.0.0.0:8737", format!("127.0.0.1:{}", self.page)),
            ("0.0.0.0", "127.0.0.1".to_owned()),
        ];
        let found = table.iter().find(|(from, _)| word.contains(from));
        found.map_or_else(|| word.to_owned(), |(from, to)| word.replace(from, to))
    }

    /// Waits for its health check; for the one that has none, until the configuration is recorded.
    async fn healthy(&mut self, instance: &str) {
        let running = self
            .running
            .iter_mut()
            .find(|running| running.instance == instance)
            .unwrap();
        let (health, said) = (running.health.clone(), running.said.clone());
        let has_said = || std::fs::read_to_string(&said).unwrap_or_default();
        if health.is_empty() {
            let recorded = async || has_said().contains("the configuration is recorded").then_some(());
            return until(&format!("{instance} has recorded"), recorded).await;
        }
        let child = &mut running.child;
        until(&format!("{instance} is healthy"), async || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{instance} ended ({ended:?}): {}", has_said());
            is_healthy(&health).await.then_some(())
        })
        .await;
    }

    pub fn page(&self) -> String {
        format!("127.0.0.1:{}", self.page)
    }

    pub async fn log(&self) -> Arc<JetStream> {
        let log = JetStream::start(JetStreamOptions::new([format!(
            "nats://127.0.0.1:{}",
            self.broker
        )]));
        log.ready(LIMIT).await.unwrap();
        log
    }

    /// What must come about, with everything that was said where it does not.
    pub async fn soon<T>(&self, what: &str, coming: impl Future<Output = T>) -> T {
        match timeout(LIMIT, coming).await {
            Ok(come) => come,
            Err(_) => panic!("{what} did not come\n{}", self.all_said()),
        }
    }

    /// Takes away what is watched.
    pub fn outage(&mut self) {
        assert!(self.watched.take().is_some(), "it is gone already");
    }

    /// Waits until people are told so.
    pub async fn told(&self, title: &str) {
        let told = async || {
            self.discord
                .titles()
                .iter()
                .any(|told| told == title)
                .then_some(())
        };
        self.soon(title, until(title, told)).await;
    }

    pub fn nothing_shows_the_token(&self) {
        let said = self.all_said();
        assert!(!said.contains(TOKEN), "{said}");
        assert!(!said.contains("t0ken-alerts"), "{said}");
    }

    /// Stops everything, who depends on others first, within what the file gives each for it.
    pub async fn stop_all(mut self) {
        while let Some(mut running) = self.running.pop() {
            let service = &self.file.services[&running.service];
            let grace = service.stop_grace_period.as_deref().unwrap_or("10s");
            let grace = Duration::from_secs(grace.trim_end_matches('s').parse().unwrap());
            let pid = running.child.id().expect("it runs").to_string();
            let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status();
            assert!(sent.unwrap().success());
            let said = || std::fs::read_to_string(&running.said).unwrap_or_default();
            let ended = timeout(grace, running.child.wait()).await;
            let ended = ended.unwrap_or_else(|_| panic!("{} runs on\n{}", running.instance, said()));
            let code = ended.unwrap().code();
            // The broker says 1 when it is asked to stop.
            assert!(
                code == Some(0) || running.service == "nats",
                "{}: {code:?}\n{}",
                running.instance,
                said()
            );
        }
    }

    fn all_said(&self) -> String {
        let mut all = BTreeMap::new();
        for running in &self.running {
            all.insert(
                &running.instance,
                std::fs::read_to_string(&running.said).unwrap_or_default(),
            );
        }
        all.iter()
            .map(|(instance, said)| format!("--- {instance}\n{said}\n"))
            .collect()
    }
}

/// Runs a health check as the file has it; the one that needs an HTTP client of another image is asked here.
async fn is_healthy(test: &[String]) -> bool {
    assert_eq!(test[0], "CMD");
    if test[1] == "wget" {
        let answer = reqwest::get(test.last().unwrap()).await;
        return answer.is_ok_and(|answer| answer.status().is_success());
    }
    let mut command = Command::new(built(&test[1]));
    command
        .args(&test[2..])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command.status().await.unwrap().success()
}
