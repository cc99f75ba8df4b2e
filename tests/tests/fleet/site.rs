//! A whole site in this process, over a broker: the collector of pings, a clock, load, the chain and Discord, each
//! with a connection of its own, as separate processes have. It wires and waits; it judges nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchfold_discord::testing::DiscordServer;
use watchfold_folds::{SiteChain, StateMachine};
use watchfold_jetstream::{JetStream, JetStreamOptions};
use watchfold_kit::{Progress, Publisher, SpoolOptions};
use watchfold_runner::{ChainRunner, RunnerOptions};
use watchfold_schemas::config::{NetworkConfig, ProbeSpec, SignalSpec, Target};
use watchfold_schemas::observation::Activation;
use watchfold_schemas::{Body, Chain, SiteConfig};
pub use watchfold_tests::LIMIT;
use watchfold_tests::LOOK_EVERY;
use watchfold_tests::service::Service;

use crate::figures::Figures;
use crate::load::{EVERY, Load};
use crate::record::Recorded;
use crate::telling::telling;

pub const SITE: &str = "cafe-1";

/// Between two looks at a whole log, which cost a reader each.
const READ_EVERY: Duration = Duration::from_millis(500);

/// Rounds of a service that is away: an incident, and some more. Those of one that is back: it has been seen.
const ROUNDS_DOWN: u64 = 15;
const ROUNDS_UP: u64 = 5;

/// Ticks often, so that what a clock can do to a site shows within seconds.
const TICK_EVERY: Duration = Duration::from_millis(250);

/// Room for any fault but those that are to overflow it.
const SPOOL_BYTES: u64 = 64 << 20;

/// How a site differs from the plain one.
pub struct Plan {
    pub broker: JetStreamOptions,
    /// Collectors that write without rest.
    pub loads: usize,
    pub load_every: Duration,
    /// Of the collector of pings.
    pub spool_bytes: u64,
}

impl Plan {
    pub fn new(broker: JetStreamOptions) -> Plan {
        Plan {
            broker,
            loads: 3,
            load_every: EVERY,
            spool_bytes: SPOOL_BYTES,
        }
    }
}

/// A site that runs.
pub struct Site {
    pub router: Service,
    pub internet: Service,
    pub discord: DiscordServer,
    /// For looking; none of the parts uses it.
    pub log: Arc<JetStream>,
    pub ping: Arc<Publisher>,
    rounds: Arc<Progress>,
    loads: Vec<Load>,
    publishers: Vec<Arc<Publisher>>,
    collecting: CancellationToken,
    running: CancellationToken,
    parts: Vec<(&'static str, JoinHandle<()>)>,
    broker: JetStreamOptions,
    place: TempDir,
}

impl Site {
    pub async fn start(plan: &Plan) -> Site {
        drop(rustls::crypto::ring::default_provider().install_default());
        let log = JetStream::start(plan.broker.clone());
        log.ready(LIMIT).await.unwrap();
        let place = tempfile::tempdir().unwrap();
        let broker = plan.broker.clone();
        let ping = publisher(&broker, &place, "ping", plan.spool_bytes).await;
        let mut site = Site {
            publishers: vec![ping.clone()],
            router: Service::open().await,
            internet: Service::open().await,
            discord: DiscordServer::start().await.unwrap(),
            log,
            ping,
            rounds: Progress::new("collector:ping"),
            loads: Vec::new(),
            collecting: CancellationToken::new(),
            running: CancellationToken::new(),
            parts: Vec::new(),
            broker,
            place,
        };
        let config = site.config();
        site.activate(&config).await;
        site.collect(config, plan).await;
        site
    }

    /// A site, its chain and its messages.
    pub async fn start_whole(plan: &Plan) -> Site {
        let mut site = Site::start(plan).await;
        let cancel = site.running.child_token();
        site.chain("one", Box::new(SiteChain::new(SITE)), cancel).await;
        site.tell().await;
        site.rounds(ROUNDS_UP).await;
        site
    }

    fn config(&self) -> SiteConfig {
        let target = |name: &str, service: &Service, depends_on: &[&str]| Target {
            name: name.to_owned(),
            probes: vec![ProbeSpec {
                address: service.address.ip().to_string(),
                signals: vec![SignalSpec::Tcp {
                    port: service.address.port(),
                }],
            }],
            quorum: 1,
            interval_ms: 200,
            // A connection on loopback is refused at once; a busy machine is no outage.
            timeout_ms: 2_000,
            depends_on: depends_on.iter().map(|name| (*name).to_owned()).collect(),
        };
        SiteConfig {
            site: SITE.to_owned(),
            time_zone: "UTC".to_owned(),
            network: NetworkConfig {
                targets: vec![
                    target("router", &self.router, &[]),
                    target("internet", &self.internet, &["router"]),
                ],
                min_incident_ms: 1_000,
                remind_every_ms: 0,
                escalate_after_ms: 0,
                flapping_count: 1_000,
                retry_delay_ms: 50,
                ..NetworkConfig::default()
            },
            ..SiteConfig::default()
        }
    }

    async fn activate(&mut self, config: &SiteConfig) {
        let publisher = self.publisher("config").await;
        let activation = publisher.publish_with(|stamp| {
            Body::Activation(Box::new(Activation {
                at: stamp.now(),
                hash: config.hash(),
                config: config.clone(),
                software: "test".to_owned(),
            }))
        });
        activation.await.unwrap();
    }

    async fn collect(&mut self, config: SiteConfig, plan: &Plan) {
        let cancel = self.collecting.clone();
        let (sender, config) = watch::channel(Arc::new(config));
        let (ping, rounds, stop) = (self.ping.clone(), self.rounds.clone(), cancel.clone());
        self.part("ping", async move {
            let _held = sender;
            watchfold_ping::run(ping, config, rounds, stop).await.unwrap();
        });
        let clock = self.publisher("clock").await;
        let stop = cancel.clone();
        self.part("clock", async move {
            watchfold_clock::run(clock, TICK_EVERY, stop).await.unwrap();
        });
        for number in 1..=plan.loads {
            let name = format!("load-{number}");
            let publisher = self.publisher(&name).await;
            self.loads
                .push(Load::start(&name, publisher, plan.load_every, cancel.clone()));
        }
    }

    /// Folds the site until cancelled; several chains are several processes.
    pub async fn chain(&mut self, name: &str, fold: Box<dyn StateMachine>, cancel: CancellationToken) {
        let log = JetStream::start(self.broker.clone());
        let store = self.place.path().join(name);
        let (progress, options) = (Progress::new(name), RunnerOptions::for_chain(Chain::Site));
        let runner = ChainRunner::open(log, &store, SITE, Chain::Site, fold, progress, options)
            .await
            .unwrap();
        self.part("chain", async move { runner.run(cancel).await.unwrap() });
    }

    /// Tells Discord.
    pub async fn tell(&mut self) {
        let telling = telling(
            SITE,
            JetStream::start(self.broker.clone()),
            self.publisher("discord").await,
            self.place.path(),
            &self.discord,
            self.running.clone(),
        );
        self.part("discord", telling);
    }

    pub fn running(&self) -> CancellationToken {
        self.running.clone()
    }

    /// Waits for rounds of probes, which go on whatever becomes of the broker.
    pub async fn rounds(&self, count: u64) {
        let goal = self.rounds.snapshot().position + count;
        until("rounds of probes", async || {
            (self.rounds.snapshot().position >= goal).then_some(())
        })
        .await;
    }

    /// The internet goes, long enough for an incident.
    pub async fn loses_the_internet(&mut self) {
        self.internet.down().await;
        self.rounds(ROUNDS_DOWN).await;
    }

    pub async fn finds_the_internet(&mut self) {
        self.internet.up().await;
        self.rounds(ROUNDS_UP).await;
    }

    /// One outage, from its beginning to its end.
    pub async fn one_outage(&mut self) {
        self.loses_the_internet().await;
        self.finds_the_internet().await;
    }

    /// Waits until people were sent a message with this title so many times; later edits do not matter.
    pub async fn told(&self, title: &str, times: usize) {
        let began = Instant::now();
        while self.sent(title) < times {
            if began.elapsed() > LIMIT {
                let recorded = Recorded::read(self.log.as_ref(), SITE).await;
                let kinds: Vec<&str> = recorded.events.iter().map(|event| event.body.kind()).collect();
                panic!(
                    "{title:?} was not told {times} times within {LIMIT:?}: {:#?}\n{}\n{kinds:?}",
                    self.discord.titles(),
                    recorded.figures(&self.discord),
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn sent(&self, title: &str) -> usize {
        let calls = self.discord.calls();
        let sent = calls.iter().filter(|call| call.method == "POST");
        sent.filter(|call| call.body["embeds"][0]["title"] == title)
            .count()
    }

    /// Ends collecting, waits until everything is in the log, folded and told, and reads the log.
    pub async fn settle(&mut self) -> Recorded {
        self.collecting.cancel();
        let mut wrote = Vec::new();
        for load in std::mem::take(&mut self.loads) {
            wrote.push((load.collector.clone(), load.written().await));
        }
        let recorded = self.drain().await.checked();
        for (collector, written) in wrote {
            let kept = recorded.numbers_of(&collector);
            assert_eq!(written, kept, "{collector}: what it wrote and what the log holds");
        }
        recorded
    }

    /// The same without a look at what it says.
    pub async fn drain(&mut self) -> Recorded {
        self.collecting.cancel();
        for publisher in &self.publishers {
            drained(publisher).await;
        }
        let began = Instant::now();
        loop {
            let recorded = Recorded::read(self.log.as_ref(), SITE).await;
            if recorded.settled() {
                return recorded;
            }
            let told = self.discord.titles();
            assert!(
                began.elapsed() < LIMIT,
                "not everything is told after {LIMIT:?}: {told:#?}"
            );
            tokio::time::sleep(READ_EVERY).await;
        }
    }

    /// What came of it, in numbers, once everything else holds.
    pub async fn end(mut self, recorded: &Recorded) -> Figures {
        self.running.cancel();
        for (name, part) in std::mem::take(&mut self.parts) {
            part.await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        recorded.told_once(&self.discord);
        recorded.figures(&self.discord)
    }

    async fn publisher(&mut self, collector: &str) -> Arc<Publisher> {
        let publisher = publisher(&self.broker, &self.place, collector, SPOOL_BYTES).await;
        self.publishers.push(publisher.clone());
        publisher
    }

    fn part(&mut self, name: &'static str, run: impl Future<Output = ()> + Send + 'static) {
        self.parts.push((name, tokio::spawn(run)));
    }
}

async fn publisher(
    broker: &JetStreamOptions,
    place: &TempDir,
    collector: &str,
    spool_bytes: u64,
) -> Arc<Publisher> {
    let log = JetStream::start(broker.clone());
    let spool = SpoolOptions {
        directory: place.path().join("spool"),
        bytes_max: spool_bytes,
    };
    Publisher::open_with_spool(log, SITE, collector, place.path(), spool)
        .await
        .unwrap()
}

/// Waits until nothing of a publisher waits, in memory or on disk.
async fn drained(publisher: &Publisher) {
    until("a collector is drained", async || {
        (publisher.stats().queued == 0).then_some(())
    })
    .await;
}

/// Tries until something is there.
pub async fn until<T>(what: &str, attempt: impl AsyncFnMut() -> Option<T>) -> T {
    watchfold_tests::until(what, attempt, String::new).await
}
