//! What a part is given when it starts: its process, seen from its place in it.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_log::{Leases, MessageLog};
use watchfold_schemas::SiteConfig;

use crate::exit::Usage;
use crate::figures::Figures;
use crate::frame::{Frame, Group};
use crate::part::{AnyPart, Kind};
use crate::sections::Section;
use crate::share::{Led, Share, Site, lease_name, led, share};
use crate::stages::Stage;
use crate::supervise::supervise;
use crate::{KitError, Progress, Publisher};

/// A part's place in its process.
#[derive(Clone)]
pub struct Context {
    frame: Arc<Frame>,
    group: Group,
    name: &'static str,
    kind: Kind,
    is_vouched: bool,
}

impl Context {
    pub(crate) fn new(frame: &Arc<Frame>, part: &dyn AnyPart) -> Context {
        Context {
            group: frame.group(part.kind()),
            frame: frame.clone(),
            name: part.name(),
            kind: part.kind(),
            is_vouched: part.is_vouched(),
        }
    }

    pub fn frame(&self) -> &Arc<Frame> {
        &self.frame
    }

    pub fn log(&self) -> Arc<dyn MessageLog> {
        self.frame.log.clone()
    }

    pub fn leases(&self) -> Arc<dyn Leases> {
        self.frame.leases.clone()
    }

    pub fn figures(&self) -> &Figures {
        &self.frame.figures
    }

    /// Cancelled when parts of this kind are to end.
    pub fn cancel(&self) -> CancellationToken {
        self.group.cancel.clone()
    }

    /// `sink:discord`, say.
    pub fn stage_name(&self) -> String {
        match self.kind.prefix() {
            Some(prefix) => format!("{prefix}:{}", self.name),
            None => self.name.to_owned(),
        }
    }

    /// The part's own stage.
    pub fn stage(&self) -> Arc<Progress> {
        self.frame.stages.push_for(&self.stage_name(), self.vouched())
    }

    /// Another stage of the part, shown as it is named and vouched for like the part.
    pub fn join(&self, name: &str) -> Stage {
        self.frame.stages.join(name, self.vouched())
    }

    fn vouched(&self) -> Option<Kind> {
        self.is_vouched.then_some(self.kind)
    }

    /// A name within a process of several sites.
    pub fn named(&self, name: &str, site: &str) -> String {
        match self.frame.scope.only() {
            Some(_) => name.to_owned(),
            None => format!("{name}/{site}"),
        }
    }

    /// The one site that this part serves.
    pub fn site(&self) -> Result<String, Usage> {
        match self.frame.scope.named() {
            [site] => Ok(site.clone()),
            [] => Err(Usage(
                "give --site NAME, or --config FILE that names a site".to_owned(),
            )),
            several => Err(Usage(format!(
                "watchfold-{} serves one site: give one --site, not {}",
                self.name,
                several.len()
            ))),
        }
    }

    /// The sites that this part serves: those given, or all that the log knows and will know.
    pub fn sites(&self) -> watch::Receiver<BTreeSet<String>> {
        self.frame.sites(self.frame.scope.named())
    }

    /// Those of which packets are in the log, or on their way into it from this process.
    pub fn packet_sites(&self) -> watch::Receiver<BTreeSet<String>> {
        self.frame.packet_sites(self.frame.scope.named())
    }

    /// The part's section of the configuration file, and every later one.
    pub fn section<S: Section>(&self) -> watch::Receiver<Option<Arc<S>>> {
        self.frame.sections.follow()
    }

    /// The configuration of a site: the file's where this process has one, else the newest in the log.
    pub fn site_config(&self, site: &str) -> watch::Receiver<Option<Arc<SiteConfig>>> {
        let file = self.frame.sections.follow::<SiteConfig>();
        let of_file = file.borrow().as_ref().map(|config| config.site.clone());
        match of_file {
            Some(named) if named == site => file,
            _ => self.frame.site_config(site),
        }
    }

    /// Refuses a file of another site than the one that the part serves.
    pub fn expect_file_of(&self, site: &str) -> Result<(), Usage> {
        let file = self.frame.sections.follow::<SiteConfig>();
        match file.borrow().as_ref() {
            Some(config) if config.site != site => Err(Usage(format!(
                "the configuration is of the site {}, and --site says {site}: give one of them",
                config.site
            ))),
            _ => Ok(()),
        }
    }

    /// Whether this process is the part's own program, so that it ends where the part cannot begin.
    pub fn is_alone(&self) -> bool {
        !self.frame.is_whole
    }

    /// A directory for the state of one kind of thing of one site.
    pub fn directory(&self, kind: &str, site: &str) -> Result<PathBuf, KitError> {
        self.frame.directory(kind, site)
    }

    /// Writes into the log as the collector `name` of a site. What the log does not take waits in memory.
    pub async fn publisher(&self, site: &str, name: &str) -> Result<Arc<Publisher>, KitError> {
        self.frame.publisher(site, name).await
    }

    /// The same for measurements: where the log is reached over a network, they wait on disk, also over a restart.
    pub async fn measuring_publisher(&self, site: &str, name: &str) -> Result<Arc<Publisher>, KitError> {
        self.frame.measuring_publisher(site, name).await
    }

    /// Runs something that ends with the parts of this kind.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.group.tasks.spawn(task);
    }

    /// Runs `part` until the process ends; one that fails is started again.
    pub fn supervise<F, R, E>(&self, progress: Arc<Progress>, part: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        self.spawn(supervise(progress, self.cancel(), part));
    }

    /// Runs `part` for one site whenever its lease is this process's.
    pub fn serve_one<F, R, E>(&self, site: &str, part: F)
    where
        F: Fn(Site) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        self.spawn(self.led(site.to_owned(), self.stage(), Arc::new(part)));
    }

    /// Runs `part` for each of the sites whose lease is this process's, `sites_max` at most.
    pub fn serve<F, R, E>(&self, mut sites: watch::Receiver<BTreeSet<String>>, sites_max: usize, part: F)
    where
        F: Fn(Site) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let Some(only) = self.frame.scope.only() else {
            let progress = self.frame.stages.add(&format!("{} of sites", self.stage_name()));
            let shared = Share {
                part: self.stage_name(),
                vouched: self.vouched(),
                sites_max,
                sites,
            };
            let (frame, group) = (self.frame.clone(), self.group.clone());
            return self.spawn(share(frame, group, shared, progress, part));
        };
        let (only, part) = (only.to_owned(), Arc::new(part));
        if sites.borrow().contains(&only) {
            return self.spawn(self.led(only, self.stage(), part));
        }
        let context = self.clone();
        self.spawn(async move {
            let cancel = context.cancel();
            let came = sites.wait_for(|sites| sites.contains(&only));
            let came = cancel.run_until_cancelled(async { came.await.is_ok() }).await;
            if came == Some(true) {
                context.led(only, context.stage(), part).await;
            }
        });
    }

    fn led<F, R, E>(
        &self,
        site: String,
        progress: Arc<Progress>,
        part: Arc<F>,
    ) -> impl Future<Output = ()> + Send + use<F, R, E>
    where
        F: Fn(Site) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let cancel = self.cancel();
        let led_by = Led {
            leases: self.leases(),
            name: lease_name(&self.stage_name(), &site),
            progress: progress.clone(),
            cancel: cancel.clone(),
        };
        let shown = progress.clone();
        supervise(progress, cancel, move || {
            let (part, site, progress) = (part.clone(), site.clone(), shown.clone());
            led(led_by.clone(), move |cancel| {
                part(Site {
                    name: site.clone(),
                    progress: progress.clone(),
                    cancel,
                })
            })
        })
    }
}
