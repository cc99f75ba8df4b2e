//! What the parts of a small program are given: the log, leases, a place for their state, and where to say how it goes.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::{KitError, Progress, Publisher, PublisherOptions, SpoolOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchfold_config::Config;
use watchfold_connect::Opened;
use watchfold_log::{Leases, MessageLog};
use watchfold_schemas::SiteConfig;

use crate::activation::follow_activations;
use crate::figures::{Figures, Rows};
use crate::namesake::watch_namesake;
use crate::reload::{Followed, follow_file, into};
use crate::sites::{follow_packet_sites, follow_sites};
use crate::stages::Stages;
use crate::supervise::supervise;

/// How long the parts may take to end; what is flushed and closed behind them has to fit into the five seconds too.
const PARTS_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the last flush may take, so that all of a stop fits into five seconds.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The kind of [`Frame::directory`] that holds the identities of a site's collectors.
pub const COLLECTORS: &str = "collectors";

/// Bytes that one collector keeps on disk while the log is away: some days of a café.
pub const SPOOL_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The inside of a running process.
pub struct Frame {
    /// The program, as it calls itself.
    pub name: String,
    pub log: Arc<dyn MessageLog>,
    pub leases: Arc<dyn Leases>,
    /// The log's place, for people.
    pub place: String,
    pub stages: Stages,
    pub figures: Figures,
    state: PathBuf,
    cancel: CancellationToken,
    tasks: TaskTracker,
    publishers: Mutex<Vec<Weak<Publisher>>>,
    failed: watch::Sender<Option<String>>,
}

impl Frame {
    pub fn new(name: &str, opened: &Opened, state: &Path) -> Arc<Frame> {
        let (log, leases) = (opened.log.clone(), opened.leases.clone());
        Frame::on(name, log, leases, &opened.place, state)
    }

    /// A frame on any log, with leases from anywhere.
    pub fn on(
        name: &str,
        log: Arc<dyn MessageLog>,
        leases: Arc<dyn Leases>,
        place: &str,
        state: &Path,
    ) -> Arc<Frame> {
        Arc::new(Frame {
            name: name.to_owned(),
            log,
            leases,
            place: place.to_owned(),
            stages: Stages::default(),
            figures: Figures::default(),
            state: state.to_owned(),
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
            publishers: Mutex::default(),
            failed: watch::Sender::new(None),
        })
    }

    /// Cancelled when the process is to end.
    pub fn cancel(&self) -> CancellationToken {
        self.cancel.clone()
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

    /// The same for an oracle, whose verdicts stand among the packets. Nothing waits on disk: it takes turns under a lease.
    pub async fn verdict_publisher(&self, site: &str, oracle: &str) -> Result<Arc<Publisher>, KitError> {
        self.open(site, oracle, PublisherOptions::packets(None)).await
    }

    /// The same for what must not be lost while the log is away: it waits on disk, also over a restart.
    pub async fn spooling_publisher(&self, site: &str, collector: &str) -> Result<Arc<Publisher>, KitError> {
        let directory = self.directory(COLLECTORS, site)?;
        let (log, spool) = (self.log.clone(), self.spool(site)?);
        let publisher = Publisher::open_with_spool(log, site, collector, &directory, spool).await?;
        self.join(site, collector, &publisher);
        Ok(publisher)
    }

    /// The same for a collector of packets, whose batches stand in a stream of their own.
    pub async fn packet_publisher(&self, site: &str, collector: &str) -> Result<Arc<Publisher>, KitError> {
        let options = PublisherOptions::packets(Some(self.spool(site)?));
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

    fn spool(&self, site: &str) -> Result<SpoolOptions, KitError> {
        Ok(SpoolOptions {
            directory: self.directory("spool", site)?,
            bytes_max: SPOOL_BYTES_MAX,
        })
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
        self.figures.join("publisher", &labels, publisher, published);
        let mut publishers = self.publishers();
        publishers.retain(|other| other.strong_count() > 0);
        publishers.push(Arc::downgrade(publisher));
    }

    /// Runs a part until the process ends; one that fails is started again.
    pub fn supervise<F, R, E>(&self, progress: Arc<Progress>, part: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        self.tasks.spawn(supervise(progress, self.cancel.clone(), part));
    }

    /// Runs something that ends with the process.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// The given sites, or, if none is given, all that the log knows and will know.
    pub fn sites(&self, given: &[String]) -> watch::Receiver<BTreeSet<String>> {
        let sites = Arc::new(watch::Sender::new(given.iter().cloned().collect()));
        let receiver = sites.subscribe();
        if given.is_empty() {
            let progress = self.stages.add("sites");
            let (log, shown, cancel) = (self.log.clone(), progress.clone(), self.cancel.clone());
            self.supervise(progress, move || {
                follow_sites(log.clone(), sites.clone(), shown.clone(), cancel.clone())
            });
        } else {
            // Held for as long as anybody looks.
            let cancel = self.cancel.clone();
            self.spawn(async move {
                cancel.cancelled().await;
                drop(sites);
            });
        }
        receiver
    }

    /// Those of the given sites, or of all, of which packets are in the log.
    pub fn packet_sites(&self, given: &[String]) -> watch::Receiver<BTreeSet<String>> {
        let sites = Arc::new(watch::Sender::new(BTreeSet::new()));
        let receiver = sites.subscribe();
        let given: BTreeSet<String> = given.iter().cloned().collect();
        let progress = self.stages.add("sites with packets");
        let (log, shown, cancel) = (self.log.clone(), progress.clone(), self.cancel.clone());
        self.supervise(progress, move || {
            let (log, given) = (log.clone(), given.clone());
            follow_packet_sites(log, given, sites.clone(), shown.clone(), cancel.clone())
        });
        receiver
    }

    /// The newest configuration of a site in the log, and every newer one.
    pub fn site_config(&self, site: &str) -> watch::Receiver<Option<Arc<SiteConfig>>> {
        let config = Arc::new(watch::Sender::new(None));
        let receiver = config.subscribe();
        let progress = self.stages.add("config");
        let (log, site) = (self.log.clone(), site.to_owned());
        let (shown, cancel) = (progress.clone(), self.cancel.clone());
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

    /// What a configuration file says to one part, and what every good change of it says.
    pub fn file_config<S, C>(
        &self,
        file: Followed<S>,
        part: fn(&Config<S>) -> Option<C>,
    ) -> watch::Receiver<Option<Arc<C>>>
    where
        S: Send + Sync + 'static,
        C: PartialEq + Send + Sync + 'static,
    {
        let (sender, receiver) = watch::channel(part(&file.current).map(Arc::new));
        let progress = self.stages.add("config");
        let taken = move |config: &Config<S>| {
            into(&sender, config, part);
            Ok(())
        };
        self.spawn(follow_file(file, progress, self.cancel.clone(), taken));
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

    /// Stops every part, and has what was published reach the log or the spool.
    pub(crate) async fn drain(&self) {
        self.cancel.cancel();
        self.tasks.close();
        if tokio::time::timeout(PARTS_TIMEOUT, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                parts = self.tasks.len(),
                "some parts do not end; they are left behind"
            );
        }
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

fn published(publisher: &Publisher) -> Rows {
    let stats = publisher.stats();
    vec![
        ("published", stats.published),
        ("queued", stats.queued),
        ("spooled", stats.spooled),
        ("spooled_bytes", stats.spooled_bytes),
        ("forwarded", stats.forwarded),
        ("spool_lost", stats.spool_lost),
        ("dropped", stats.dropped),
        ("retries", stats.retries),
    ]
}
