//! The page as a part of a process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use watchfold_config::{ConfigError, Naming, PageAccess, Sinks, load};
use watchfold_kit::exit::Unavailable;
use watchfold_kit::files::write_private;
use watchfold_kit::observed::Observed;
use watchfold_kit::{Context, Kind, Loaded, Part, ProgressSnapshot, console};

use crate::{Dashboard, DashboardConfig, DashboardError, DashboardOptions, Explain, Packets, WebError};

/// Serves the live page and the API of one site.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(about = "Serves the live page and the API of one site")]
pub struct Page {
    /// Where the page listens, in place of the configured address.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
}

/// What the file says about the page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageSection {
    pub listen: Option<SocketAddr>,
    /// Under which names and through which proxies the page is reached.
    pub access: PageAccess,
}

/// Where the page of this process is, for the terminal.
#[derive(Clone, Debug)]
pub struct PageAddress {
    /// With the access token.
    pub link: String,
    pub address: String,
}

impl Part for Page {
    const NAME: &'static str = "dashboard";
    const KIND: Kind = Kind::Page;

    fn read(path: &Path) -> Result<Loaded, ConfigError> {
        let config = load(path, Naming::Optional, |_: Sinks, _, _| ())?;
        let section = PageSection {
            listen: config.listen,
            access: config.page.clone(),
        };
        Ok(Loaded::of(config)?.with(Some(section)))
    }

    async fn start(self, context: Context) -> anyhow::Result<()> {
        let site = context.site()?;
        let frame = context.frame().clone();
        let section = context.section::<PageSection>();
        let current = section.borrow().as_deref().cloned().unwrap_or_default();
        let progress = context.stage();
        let figures = context.figures().clone();
        let options = DashboardOptions {
            log: context.log(),
            site: site.clone(),
            listen: (self.listen.or(current.listen)).unwrap_or_else(|| DashboardConfig::default().listen),
            access: current.access,
            data_dir: frame.state().to_owned(),
            operator: Some(context.publisher(&site, "operator").await?),
            explain: frame.provided::<Explain>(),
            packets: frame.provided::<Packets>(),
            figures: Arc::new(move |page| figures.add_to(page)),
            stages: stages(&context, &site),
            progress: progress.clone(),
            software: frame.software.clone(),
        };
        let dashboard = Dashboard::bind(options).await.map_err(unavailable)?;
        announce(&context, &dashboard);
        let cancel = context.cancel();
        let ending = cancel.clone();
        context.spawn(async move {
            ending.run_until_cancelled(warn_of_restarts(section)).await;
        });
        context.spawn(async move {
            if let Err(error) = dashboard.run(cancel).await {
                progress.fail(error.to_string());
                frame.fail(format!("the page stopped: {error}"));
            }
        });
        Ok(())
    }
}

/// The stages of this process, and those of others once the log showed them: the page is ready without them.
fn stages(context: &Context, site: &str) -> Arc<dyn Fn() -> Vec<ProgressSnapshot> + Send + Sync> {
    let own = context.frame().stages.clone();
    if !context.is_alone() {
        return Arc::new(move || own.snapshots());
    }
    let observed = Observed::new(context.log(), site);
    let (watched, cancel) = (observed.clone(), context.cancel());
    context.spawn(async move { watched.run(cancel).await });
    Arc::new(move || {
        let elsewhere = observed.snapshots().into_iter();
        let seen = elsewhere.filter(|stage: &ProgressSnapshot| stage.advanced_age.is_some());
        own.snapshots().into_iter().chain(seen).collect()
    })
}

fn unavailable(error: DashboardError) -> anyhow::Error {
    match error {
        DashboardError::Web(WebError::Token(error)) => error.into(),
        DashboardError::Web(error) => Unavailable(error.to_string()).into(),
        error => error.into(),
    }
}

/// The link with the token goes into a file that only its owner may read; a program of its own also shows it to a terminal. A disk
/// that is too full for the file is no reason not to start.
fn announce(context: &Context, dashboard: &Dashboard) {
    let path = context.frame().state().join("link");
    let (link, address) = (dashboard.link(), dashboard.address());
    let text = format!("{link}\n");
    let is_kept = std::fs::read_to_string(&path).is_ok_and(|kept| kept == text);
    if !is_kept && let Err(error) = write_private(&path, &text) {
        tracing::warn!(path = %path.display(), %error, "the link to the page could not be written; the token is in the file beside it");
    }
    if context.is_alone() {
        if console::is_output_terminal() {
            console::announce(format_args!("open {link}"));
        } else {
            console::announce(format_args!(
                "the page is at {address} and the link with its token in {}",
                path.display()
            ));
        }
    }
    context.frame().provide(PageAddress { link, address });
}

/// A changed address or name of the page needs a restart, and says so.
async fn warn_of_restarts(mut section: tokio::sync::watch::Receiver<Option<Arc<PageSection>>>) {
    let mut current = section.borrow_and_update().clone();
    while section.changed().await.is_ok() {
        let new = section.borrow_and_update().clone();
        let (old, now) = (
            current.as_deref().cloned().unwrap_or_default(),
            new.as_deref().cloned().unwrap_or_default(),
        );
        if now.listen != old.listen {
            tracing::warn!(listen = ?now.listen, "another address to listen on takes effect at the next start");
        }
        if now.access != old.access {
            tracing::warn!(
                "changed names and proxies of the page (dashboard.public_url, hosts, proxies) take effect at the next start"
            );
        }
        current = new;
    }
}
