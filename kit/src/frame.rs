//! The inside of a process: the log, leases, a place for state, what the file says, and the parts that run, by kind.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchfold_connect::Opened;
use watchfold_log::{Leases, MessageLog};
use watchfold_schemas::SiteConfig;

use crate::activation::follow_activations;
use crate::context::Context;
use crate::figures::{Figures, publisher_rows};
use crate::namesake::watch_namesake;
use crate::part::{Kind, Parts};
use crate::sections::{Loaded, Sections, SectionsInForce};
use crate::sites::{follow_packet_sites, follow_sites};
use crate::stages::Stages;
use crate::supervise::supervise;
use crate::{KitError, Progress, Publisher, PublisherOptions, SpoolOptions};

/// How long the parts may take to end; what is flushed and closed behind them has to fit into the five seconds too.
const PARTS_TIMEOUT: Duration = Duration::from_millis(2_500);

/// How long each of the two flushes may take, so that all of a stop fits into five seconds.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The kind of [`Frame::directory`] that holds the identities of a site's collectors.
pub const COLLECTORS: &str = "collectors";

/// Bytes that one collector keeps on disk while the log is away: some days of a café.
pub const SPOOL_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Which sites a process serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The one of an all-in-one: its stages are named without it.
    Only(String),
    /// Those named on the command line or in the file; none means all that the log knows.
    Named(Vec<String>),
}

impl Scope {
    pub fn only(&self) -> Option<&str> {
        match self {
            Scope::Only(site) => Some(site),
            Scope::Named(_) => None,
        }
    }

    pub fn named(&self) -> &[String] {
        match self {
            Scope::Only(site) => std::slice::from_ref(site),
            Scope::Named(sites) => sites,
        }
    }
}

/// Parts of one kind, which stop together.
#[derive(Clone, Default)]
pub struct Group {
    pub cancel: CancellationToken,
    pub tasks: TaskTracker,
}

impl Group {
    async fn stop(&self, deadline: Instant) {
        self.cancel.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                parts = self.tasks.len(),
                "some parts do not end; they are left behind"
            );
        }
    }
}

/// What a process is made from.
pub struct Setup {
    /// The program, as it calls itself.
    pub name: String,
    /// Name and version, as shown.
    pub software: String,
    pub scope: Scope,
    /// Where what must survive a restart is kept.
    pub state: PathBuf,
    /// Every part of a site runs in this process.
    pub is_whole: bool,
    /// The log is reached over a network.
    pub is_elsewhere: bool,
    pub sections: Sections,
}

/// The inside of a running process.
pub struct Frame {
    /// The program, as it calls itself.
    pub name: String,
    pub software: String,
    pub log: Arc<dyn MessageLog>,
    pub leases: Arc<dyn Leases>,
    /// The log's place, for people.
    pub place: String,
    pub stages: Stages,
    pub figures: Figures,
    pub scope: Scope,
    /// Every part of a site runs in this process.
    pub is_whole: bool,
    pub is_elsewhere: bool,
    pub sections: SectionsInForce,
    state: PathBuf,
    groups: BTreeMap<Kind, Group>,
    publishers: Mutex<Vec<Weak<Publisher>>>,
    failed: watch::Sender<Option<String>>,
    gate: OnceLock<Gate>,
    provided: Mutex<BTreeMap<TypeId, Box<dyn Any + Send>>>,
    /// Sites of which packets are in the log, or on their way into it.
    packet_sites: Arc<watch::Sender<BTreeSet<String>>>,
}

/// Takes a changed configuration over, or says why it cannot be in force.
pub type Gate = Box<dyn Fn(Loaded) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

const KINDS: [Kind; 6] = [
    Kind::Activation,
    Kind::Collector,
    Kind::Chain,
    Kind::Oracle,
    Kind::Sink,
    Kind::Page,
];

impl Frame {
    pub fn new(setup: Setup, opened: &Opened) -> Arc<Frame> {
        let (log, leases) = (opened.log.clone(), opened.leases.clone());
        Frame::on(setup, log, leases, &opened.place)
    }

    /// A frame on any log, with leases from anywhere.
    pub fn on(setup: Setup, log: Arc<dyn MessageLog>, leases: Arc<dyn Leases>, place: &str) -> Arc<Frame> {
        Arc::new(Frame {
            name: setup.name,
            software: setup.software,
            log,
            leases,
            place: place.to_owned(),
            stages: Stages::default(),
            figures: Figures::default(),
            scope: setup.scope,
            is_whole: setup.is_whole,
            is_elsewhere: setup.is_elsewhere,
            sections: SectionsInForce::new(setup.sections),
            state: setup.state,
            groups: KINDS.map(|kind| (kind, Group::default())).into(),
            publishers: Mutex::default(),
            failed: watch::Sender::new(None),
            gate: OnceLock::new(),
            provided: Mutex::default(),
            packet_sites: Arc::new(watch::Sender::new(BTreeSet::new())),
        })
    }

    /// Starts the parts. Those that record what is in force come first; the others start side by side, since each may wait
    /// for a log that is away.
    pub async fn start(self: &Arc<Self>, parts: Parts) -> anyhow::Result<()> {
        let (first, rest): (Parts, Parts) = parts
            .into_iter()
            .partition(|part| part.kind() == Kind::Activation);
        for part in first {
            let context = Context::new(self, part.as_ref());
            part.start(context).await?;
        }
        let starting = rest.into_iter().map(|part| {
            let context = Context::new(self, part.as_ref());
            part.start(context)
        });
        futures::future::try_join_all(starting).await?;
        Ok(())
    }

    pub(crate) fn group(&self, kind: Kind) -> Group {
        self.groups[&kind].clone()
    }

    /// Lets `gate` decide whether a changed configuration comes into force. There is one gate.
    pub fn set_gate(&self, gate: Gate) {
        if self.gate.set(gate).is_err() {
            tracing::error!("two parts record the configuration; the first one does");
        }
    }

    /// Takes a changed configuration over, if the gate lets it.
    pub async fn take_over(&self, loaded: Loaded) -> Result<(), String> {
        if let Some(gate) = self.gate.get() {
            gate(loaded.clone()).await?;
        }
        self.sections.replace(loaded.sections);
        Ok(())
    }

    /// Keeps something that one part has for another, found by its type.
    pub fn provide<T: Clone + Send + 'static>(&self, service: T) {
        let mut provided = self.provided.lock().unwrap_or_else(PoisonError::into_inner);
        provided.insert(TypeId::of::<T>(), Box::new(service));
    }

    pub fn provided<T: Clone + Send + 'static>(&self) -> Option<T> {
        let provided = self.provided.lock().unwrap_or_else(PoisonError::into_inner);
        provided.get(&TypeId::of::<T>())?.downcast_ref().cloned()
    }

    /// Cancelled when the last parts are to end.
    pub fn cancel(&self) -> CancellationToken {
        self.groups[&Kind::Page].cancel.clone()
    }

    /// A directory for the state of one kind of thing of one site, made when it is not there.
    pub fn directory(&self, kind: &str, site: &str) -> Result<PathBuf, KitError> {
        let path = self.state.join(kind).join(site);
        std::fs::create_dir_all(&path).map_err(|source| KitError::State {
            action: "create",
            path: path.display().to_string(),
            source,
        })?;
        Ok(path)
    }

    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A publisher for one collector of one site, flushed when the process ends.
    pub async fn publisher(&self, site: &str, collector: &str) -> Result<Arc<Publisher>, KitError> {
        self.open(site, collector, PublisherOptions::default()).await
    }

    /// The same for an oracle, whose verdicts are among the packets. Nothing waits on disk: it takes turns under a lease.
    pub async fn verdict_publisher(&self, site: &str, oracle: &str) -> Result<Arc<Publisher>, KitError> {
        self.open(site, oracle, PublisherOptions::packets(None)).await
    }

    /// The same for measurements: where the log is reached over a network, they wait on disk, also over a restart.
    pub async fn measuring_publisher(&self, site: &str, collector: &str) -> Result<Arc<Publisher>, KitError> {
        let Some(spool) = self.spool(site)? else {
            return self.publisher(site, collector).await;
        };
        let (log, directory) = (self.log.clone(), self.directory(COLLECTORS, site)?);
        let publisher = Publisher::open_with_spool(log, site, collector, &directory, spool).await?;
        self.join(site, collector, &publisher);
        Ok(publisher)
    }

    /// The same for a collector of packets, whose batches have a stream of their own.
    pub async fn packet_publisher(&self, site: &str, collector: &str) -> Result<Arc<Publisher>, KitError> {
        let options = PublisherOptions::packets(self.spool(site)?);
        self.open(site, collector, options).await
    }

    /// Holds why the name of this publisher's collector is another process's, while it is; see [`crate::namesake`].
    pub fn namesake(
        &self,
        site: &str,
        collector: &str,
        publisher: &Arc<Publisher>,
    ) -> watch::Receiver<Option<String>> {
        watch_namesake(self.log.clone(), site, collector, publisher, self.cancel())
    }

    /// An embedded log needs none.
    fn spool(&self, site: &str) -> Result<Option<SpoolOptions>, KitError> {
        if !self.is_elsewhere {
            return Ok(None);
        }
        Ok(Some(SpoolOptions {
            directory: self.directory("spool", site)?,
            bytes_max: SPOOL_BYTES_MAX,
        }))
    }

    async fn open(
        &self,
        site: &str,
        collector: &str,
        options: PublisherOptions,
    ) -> Result<Arc<Publisher>, KitError> {
        let directory = self.directory(COLLECTORS, site)?;
        let publisher = Publisher::open_with(self.log.clone(), site, collector, &directory, options).await?;
        self.join(site, collector, &publisher);
        Ok(publisher)
    }

    fn join(&self, site: &str, collector: &str, publisher: &Arc<Publisher>) {
        let labels = [("site", site), ("collector", collector)];
        self.figures.join("publisher", &labels, publisher, publisher_rows);
        let mut publishers = self.publishers();
        publishers.retain(|other| other.strong_count() > 0);
        publishers.push(Arc::downgrade(publisher));
    }

    /// Runs something until the last parts end; when it fails it is started again.
    fn supervise<F, R, E>(&self, progress: Arc<Progress>, part: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        self.spawn(supervise(progress, self.cancel(), part));
    }

    /// Runs something that ends with the last parts.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.groups[&Kind::Page].tasks.spawn(task);
    }

    /// The given sites, or, if none is given, all that the log knows and will know.
    pub fn sites(&self, given: &[String]) -> watch::Receiver<BTreeSet<String>> {
        let sites = Arc::new(watch::Sender::new(given.iter().cloned().collect()));
        let receiver = sites.subscribe();
        if given.is_empty() {
            let progress = self.stages.add("sites");
            let (log, shown, cancel) = (self.log.clone(), progress.clone(), self.cancel());
            self.supervise(progress, move || {
                follow_sites(log.clone(), sites.clone(), shown.clone(), cancel.clone())
            });
        } else {
            // Held for as long as anybody looks.
            let cancel = self.cancel();
            self.spawn(async move {
                cancel.cancelled().await;
                drop(sites);
            });
        }
        receiver
    }

    /// Those of the given sites, or of all, of which packets are in the log.
    pub fn packet_sites(&self, given: &[String]) -> watch::Receiver<BTreeSet<String>> {
        let sites = self.packet_sites.clone();
        let receiver = sites.subscribe();
        let given: BTreeSet<String> = given.iter().cloned().collect();
        // Of one site there is nothing to follow that its chain does not show.
        let progress = match self.scope.only() {
            Some(_) => Progress::new("packets"),
            None => self.stages.add("sites with packets"),
        };
        let (log, shown, cancel) = (self.log.clone(), progress.clone(), self.cancel());
        self.supervise(progress, move || {
            let (log, given) = (log.clone(), given.clone());
            follow_packet_sites(log, given, sites.clone(), shown.clone(), cancel.clone())
        });
        receiver
    }

    /// This process captures packets of the site: its chain need not wait to see the first ones.
    pub fn expect_packets(&self, site: &str) {
        self.packet_sites
            .send_if_modified(|sites| sites.insert(site.to_owned()));
    }

    /// The newest configuration of a site in the log, and every newer one.
    pub fn site_config(&self, site: &str) -> watch::Receiver<Option<Arc<SiteConfig>>> {
        let config = Arc::new(watch::Sender::new(None));
        let receiver = config.subscribe();
        let progress = self.stages.add("config");
        let (log, site) = (self.log.clone(), site.to_owned());
        let (shown, cancel) = (progress.clone(), self.cancel());
        self.supervise(progress, move || {
            follow_activations(
                log.clone(),
                site.clone(),
                config.clone(),
                shown.clone(),
                cancel.clone(),
            )
        });
        receiver
    }

    /// Ends the process: without this part it is of no use.
    pub fn fail(&self, why: String) {
        self.failed.send_replace(Some(why));
    }

    /// Waits for [`Frame::fail`].
    pub(crate) async fn failure(&self) -> String {
        let mut failed = self.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // The sender lives in `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops the parts, those that measure first, and has what was published reach the log or the spool.
    pub(crate) async fn drain(&self) {
        let began = Instant::now();
        let mut deadline = began + PARTS_TIMEOUT;
        for (kind, group) in &self.groups {
            group.stop(deadline).await;
            if *kind == Kind::Collector {
                let flushing = Instant::now();
                self.flush().await;
                deadline += flushing.elapsed();
            }
        }
        self.flush().await;
    }

    async fn flush(&self) {
        let open: Vec<Arc<Publisher>> = self.publishers().iter().filter_map(Weak::upgrade).collect();
        let flushed = async {
            for publisher in &open {
                publisher.flush().await;
            }
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, flushed).await.is_err() {
            tracing::warn!("the log takes no records; what it has not taken is lost with this process");
        }
    }

    fn publishers(&self) -> MutexGuard<'_, Vec<Weak<Publisher>>> {
        self.publishers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
