//! A log, a server and a clock that the test moves; and rules that ask.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchfold_kit::{Clock, KitError, Progress, Publisher, PublisherOptions};
use watchfold_log::memory::MemoryLog;
use watchfold_log::{Append, Lease, Leases, LocalLeases, LogError, MessageLog};
use watchfold_schemas::alert::{LookupWanted, SubjectKind, Verdict};
use watchfold_schemas::event::{Causes, EVENT_VERSION, EventBody, Place};
use watchfold_schemas::observation::Fault;
use watchfold_schemas::origin::Cause;
use watchfold_schemas::{
    Body, Chain, Event, EventId, MessageId, Span, Stream, Time, decode_observation, encode_event, subjects,
};
use watchfold_sink_kit::Secret;
use watchfold_virustotal::deliver::{Timing, run_timed};
use watchfold_virustotal::testing::{KNOWN_KEY, VirusTotalServer};
use watchfold_virustotal::{
    LookupContext, LookupCount, LookupError, LookupStats, ORACLE, Publishers, VirusTotalConfig,
};

pub const SITE: &str = "cafe-1";

/// Long enough for anything but a mistake, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Twice the look at the clock, and more: what has not happened by then does not.
const A_WHILE: Duration = Duration::from_millis(300);

/// The test's clock: it stands until the test moves it.
pub struct TestClock(Mutex<Time>);

impl TestClock {
    pub fn pass(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = *now + Span::from_seconds(seconds);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Time {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn monotonic(&self) -> Span {
        self.wall().since(Time::EPOCH)
    }
}

/// Leases as a broker gives them: one holder for each name.
#[derive(Default)]
pub struct SharedLeases(Arc<Mutex<BTreeSet<String>>>);

impl Leases for SharedLeases {
    fn acquire(&self, name: &str) -> BoxFuture<'_, Result<Option<Lease>, LogError>> {
        let (held, name) = (self.0.clone(), name.to_owned());
        async move {
            let taken = held
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(name.clone());
            if !taken {
                return Ok(None);
            }
            let released = CancellationToken::new();
            let lease = Lease::new(&name, CancellationToken::new(), released.clone());
            tokio::spawn(async move {
                released.cancelled().await;
                held.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            });
            Ok(Some(lease))
        }
        .boxed()
    }
}

pub struct World {
    pub log: Arc<MemoryLog>,
    pub server: VirusTotalServer,
    pub clock: Arc<TestClock>,
    pub config: watch::Sender<Option<Arc<VirusTotalConfig>>>,
    pub timing: Timing,
    data: TempDir,
    asked: u64,
}

pub struct Running {
    pub stats: Arc<LookupStats>,
    pub progress: Arc<Progress>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), LookupError>>,
}

impl World {
    /// At noon on the first of January, which is when the log in memory begins.
    pub async fn new() -> World {
        // A second test of the process finds it installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Arc::new(TestClock(Mutex::new("2026-01-01T12:00:00Z".parse().unwrap())));
        let server = VirusTotalServer::start(clock.clone()).await.unwrap();
        let stored = clock.clone();
        let world = World {
            log: MemoryLog::with_clock(Arc::new(move || stored.wall())),
            config: watch::Sender::new(None),
            server,
            clock,
            timing: Timing {
                call_timeout: Duration::from_secs(15),
                look_every: Duration::from_millis(50),
            },
            data: tempfile::tempdir().unwrap(),
            asked: 0,
        };
        world.configure(|_| {});
        world
    }

    /// The defaults with the server's address and its key, changed.
    pub fn configure(&self, change: impl Fn(&mut VirusTotalConfig)) {
        let mut config = VirusTotalConfig::with_defaults(Some(Secret::new(KNOWN_KEY))).unwrap();
        config.address = self.server.url();
        change(&mut config);
        self.config.send_replace(Some(Arc::new(config)));
    }

    pub fn state_path(&self) -> PathBuf {
        self.data.path().join("virustotal.state")
    }

    fn publishers(&self) -> Publishers {
        let (log, data) = (self.log.clone(), self.data.path().to_owned());
        Arc::new(move |site: String| {
            let (log, data) = (log.clone(), data.join(&site));
            async move {
                std::fs::create_dir_all(&data).map_err(|source| KitError::State {
                    action: "create",
                    path: data.display().to_string(),
                    source,
                })?;
                let options = PublisherOptions::packets(None);
                Publisher::open_with(log, &site, ORACLE, &data, options).await
            }
            .boxed()
        })
    }

    pub fn start(&self) -> Running {
        self.start_on(Arc::new(LocalLeases), self.state_path())
    }

    /// Another machine: it shares the log and its leases, and nothing else.
    pub fn start_on(&self, leases: Arc<dyn Leases>, state_path: PathBuf) -> Running {
        let (stats, progress) = (Arc::new(LookupStats::default()), Progress::new("sink:virustotal"));
        let context = LookupContext {
            log: self.log.clone(),
            leases,
            publishers: self.publishers(),
            sites: Default::default(),
            clock: self.clock.clone(),
            state_path,
            progress: progress.clone(),
            stats: stats.clone(),
        };
        let cancel = CancellationToken::new();
        let task = tokio::spawn(run_timed(
            context,
            self.config.subscribe(),
            self.timing,
            cancel.clone(),
        ));
        Running {
            stats,
            progress,
            cancel,
            task,
        }
    }

    /// A rule of the site comes near to firing.
    pub async fn ask_at(&mut self, site: &str, kind: SubjectKind, subject: &str, nearness_permille: u32) {
        self.asked += 1;
        let cause = Cause::Message(MessageId(format!("{site}/capture-lan/1/{}", self.asked)));
        let body = EventBody::LookupWanted(LookupWanted {
            kind,
            subject: subject.to_owned(),
            nearness_permille,
            rule: "port_scan".to_owned(),
        });
        let event = Event {
            v: EVENT_VERSION,
            id: EventId::derive(site, Chain::Packets, body.kind(), subject, &cause, 0),
            site: site.to_owned(),
            chain: Chain::Packets,
            at: self.clock.wall(),
            key: subject.to_owned(),
            cause,
            n: 0,
            place: Place {
                input: self.asked,
                index: 0,
            },
            causes: Causes::default(),
            body,
        };
        let append = Append {
            stream: Stream::Events,
            subject: subjects::event(site, event.chain, event.body.kind(), &event.key),
            id: MessageId(event.id.0.clone()),
            payload: encode_event(&event).unwrap().into(),
        };
        self.log.append(vec![append]).await.unwrap();
    }

    pub async fn ask(&mut self, address: &str) {
        self.ask_at(SITE, SubjectKind::Address, address, 500).await;
    }

    /// What the log has of this collector, by site.
    fn published(&self, stream: Stream) -> Vec<(String, Body)> {
        let records = self.log.records(stream).into_iter();
        let observations = records.map(|record| decode_observation(&record.payload).unwrap());
        observations
            .filter(|observation| observation.origin.collector == ORACLE)
            .map(|observation| (observation.origin.site, observation.body))
            .collect()
    }

    /// (site, verdict) as the log has them.
    pub fn verdicts(&self) -> Vec<(String, Verdict)> {
        let published = self.published(Stream::Packets).into_iter();
        published
            .filter_map(|(site, body)| match body {
                Body::Verdict(verdict) => Some((site, *verdict)),
                _ => None,
            })
            .collect()
    }

    /// The faults that the log has.
    pub fn faults(&self) -> Vec<(String, Fault)> {
        let published = self.published(Stream::Observations).into_iter();
        published
            .filter_map(|(site, body)| match body {
                Body::Fault(fault) => Some((site, fault)),
                _ => None,
            })
            .collect()
    }

    /// How many verdicts each site has of a subject.
    pub fn told(&self, subject: &str) -> BTreeMap<String, usize> {
        let mut told = BTreeMap::new();
        for (site, verdict) in self.verdicts() {
            if verdict.subject == subject {
                *told.entry(site).or_default() += 1;
            }
        }
        told
    }

    pub async fn calls(&self, count: usize) {
        until(&format!("{count} calls"), || self.server.calls().len() >= count).await;
        assert_eq!(self.server.calls().len(), count, "{:?}", self.server.calls());
    }

    /// Waits until the log has so many verdicts.
    pub async fn answers(&self, count: usize) {
        until(&format!("{count} verdicts"), || self.verdicts().len() >= count).await;
        assert_eq!(self.verdicts().len(), count, "{:?}", self.verdicts());
    }

    /// Lets the loop look at the clock and the log, and holds that it makes no call.
    pub async fn no_further_call(&self) {
        let before = self.server.calls().len();
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(self.server.calls().len(), before, "{:?}", self.server.calls());
    }

    /// Everything that reached the log or the disk, as text.
    pub fn everything_stored(&self) -> String {
        let records = Stream::ALL
            .into_iter()
            .flat_map(|stream| self.log.records(stream));
        let mut stored: String = records
            .map(|record| String::from_utf8_lossy(&record.payload).into_owned())
            .collect();
        stored += &std::fs::read_to_string(self.state_path()).unwrap_or_default();
        stored
    }
}

impl Running {
    pub fn count(&self, count: LookupCount) -> u64 {
        self.stats.get(count)
    }

    /// Waits until a counter has a value.
    pub async fn counts(&self, count: LookupCount, value: u64) {
        until(&format!("{count:?} is {value}"), || self.count(count) >= value).await;
        assert_eq!(self.count(count), value, "{count:?}");
    }

    pub async fn fails(&self, word: &str) {
        until(word, || {
            let detail = self.progress.snapshot().detail;
            detail.is_some_and(|detail| detail.contains(word))
        })
        .await;
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As a kill: nothing more is written.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}
