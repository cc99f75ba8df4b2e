//! Captures as a part of a process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_config::{CaptureConfig, ConfigError, load_site};
use watchfold_kit::configured::{Without, while_configured};
use watchfold_kit::exit::Usage;
use watchfold_kit::{COLLECTORS, Context, Kind, KitError, Loaded, Part, Progress};

use crate::config::check_filters;
use crate::{CaptureError, Given};

/// The kind of directory that holds the rings of whole packets.
pub const RINGS: &str = "ring";

/// Captures packets of one site, and publishes them as batches of columns.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(about = "Captures packets of one site, and publishes them as batches of columns")]
pub struct Capture {}

impl Part for Capture {
    const NAME: &'static str = "capture";
    const KIND: Kind = Kind::Collector;
    const IS_VOUCHED: bool = true;
    const NEEDS: Option<&'static str> = Some("[capture]");

    /// The file, with filters that are filters.
    fn read(path: &Path) -> Result<Loaded, ConfigError> {
        let config = load_site(path)?;
        let problems = check_filters(&config.captures);
        if !problems.is_empty() {
            return Err(watchfold_config::refuse(path, problems));
        }
        let captures = config.captures.clone();
        Ok(Loaded::of(config)?.with(Some(captures)))
    }

    fn check(file: Option<&Loaded>, state: &Path) -> anyhow::Result<()> {
        let captures = file.and_then(|file| file.sections.get::<Vec<CaptureConfig>>());
        let site = file.and_then(|file| file.site.clone()).unwrap_or_default();
        let state = state.join(COLLECTORS).join(site);
        // Where captures have yet to say that they are over, there is something to do without any.
        let is_idle = captures.is_none_or(|captures| captures.is_empty());
        if is_idle && crate::gone(&state, &[])?.is_empty() {
            let missing = "the configuration has no [[capture]]: add one with interface = \"eth0\", say";
            return Err(Usage(missing.to_owned()).into());
        }
        Ok(())
    }

    async fn start(self, context: Context) -> anyhow::Result<()> {
        let site = context.site()?;
        let config = context.section::<Vec<CaptureConfig>>();
        let state = context.directory(COLLECTORS, &site)?;
        let rings = context.directory(RINGS, &site)?;
        let current = config.borrow().as_deref().cloned().unwrap_or_default();
        if context.is_alone() {
            check_permissions(&current)?;
        }
        let capturing = Capturing {
            context: context.clone(),
            site,
            state,
            rings,
        };
        context.spawn(async move {
            let cancel = capturing.context.cancel();
            cancel
                .run_until_cancelled(capturing.until_needed(config.clone()))
                .await;
            if !cancel.is_cancelled() {
                capturing.start(config, cancel);
            }
        });
        Ok(())
    }
}

/// A permission that is missing does not come by waiting.
fn check_permissions(captures: &[CaptureConfig]) -> Result<(), CaptureError> {
    for capture in captures {
        // Any other fault may pass.
        if let Err(error @ (CaptureError::NotAllowed { .. } | CaptureError::Unsupported)) =
            crate::check(capture)
        {
            return Err(error);
        }
    }
    Ok(())
}

/// What all captures of a site have in common.
#[derive(Clone)]
struct Capturing {
    context: Context,
    site: String,
    state: PathBuf,
    rings: PathBuf,
}

impl Capturing {
    /// Returns once an interface is configured, or one that was has to be ended.
    async fn until_needed(&self, mut config: watch::Receiver<Option<Arc<Vec<CaptureConfig>>>>) {
        let has_gone = crate::gone(&self.state, &[]).is_ok_and(|gone| !gone.is_empty());
        if !has_gone {
            let is_needed = |captures: &Option<Arc<Vec<CaptureConfig>>>| {
                captures.as_ref().is_some_and(|captures| !captures.is_empty())
            };
            // Nobody reloads any more when this fails, because everything is about to stop.
            if config.wait_for(is_needed).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn start(self, config: watch::Receiver<Option<Arc<Vec<CaptureConfig>>>>, cancel: CancellationToken) {
        let context = self.context.clone();
        let progress = context.frame().stages.add("captures");
        let shown = progress.clone();
        context.supervise(progress, move || {
            let (capturing, shown) = (self.clone(), shown.clone());
            let following = shown.clone();
            while_configured(
                config.clone(),
                Without::Waiting,
                shown,
                cancel.clone(),
                move |configs, cancel| capturing.clone().capture(configs, following.clone(), cancel),
            )
        });
    }

    async fn capture(
        self,
        configs: watch::Receiver<Arc<Vec<CaptureConfig>>>,
        progress: Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<(), CaptureError> {
        let wanted = configs.borrow().clone();
        let again = |collector: String| {
            let (context, site) = (self.context.clone(), self.site.clone());
            async move { context.frame().packet_publisher(&site, &collector).await }
        };
        crate::farewell_to_gone(&self.state, &wanted, again).await;
        let rings = self.rings.clone();
        let open = move |capture: CaptureConfig| self.clone().given(capture);
        crate::run_several(configs, open, rings, progress, cancel).await
    }

    async fn given(self, capture: CaptureConfig) -> Result<Given, KitError> {
        let (collector, frame) = (capture.collector(), self.context.frame());
        frame.expect_packets(&self.site);
        let publisher = frame.packet_publisher(&self.site, &collector).await?;
        Ok(Given {
            taken: frame.namesake(&self.site, &collector, &publisher),
            publisher,
            stage: Arc::new(self.context.join(&format!("collector:{collector}"))),
        })
    }
}
