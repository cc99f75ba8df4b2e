//! `watchfold-dashboard`: the page and the API of one site, wherever its other parts run.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use watchfold_config::{Config, Naming, Sinks};
use watchfold_dashboard::{Dashboard, DashboardConfig, DashboardError, DashboardOptions};
use watchfold_kit::ProgressSnapshot;
use watchfold_kit::args::site;
use watchfold_kit::console;
use watchfold_kit::exit::{Unavailable, Usage};
use watchfold_kit::files::write_private;
use watchfold_kit::observed::Observed;
use watchfold_kit::{Frame, ProcessArgs, Program};

/// Serves the live page and the API of one site.
#[derive(Debug, clap::Parser)]
#[command(name = "watchfold-dashboard", version, max_term_width = 100)]
struct Page {
    #[command(flatten)]
    process: ProcessArgs,
    /// The site to show. Default: the one of the configuration.
    #[arg(long, value_name = "NAME", value_parser = site)]
    site: Option<String>,
    /// Where the page listens, in place of the configured address.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

fn main() -> ExitCode {
    watchfold_kit::run::<Page>()
}

impl Page {
    fn configuration(&self) -> anyhow::Result<(Option<Config<()>>, String)> {
        let file = self
            .process
            .config
            .as_deref()
            .map(|path| watchfold_config::load(path, Naming::Optional, |_: Sinks, _, _| ()))
            .transpose()?;
        let named = file.as_ref().map(|file| file.site.site.clone());
        let site = self
            .site
            .clone()
            .or(named.filter(|site| !site.is_empty()))
            .ok_or_else(|| Usage("give --site NAME, or --config FILE that names a site".to_owned()))?;
        Ok((file, site))
    }
}

impl Program for Page {
    fn process(&self) -> &ProcessArgs {
        &self.process
    }

    fn check(&self) -> anyhow::Result<Vec<String>> {
        let (file, _) = self.configuration()?;
        Ok(file.map(|file| file.warnings).unwrap_or_default())
    }

    async fn start(self, frame: Arc<Frame>) -> anyhow::Result<()> {
        let (file, site) = self.configuration()?;
        let access = file.as_ref().map(|file| file.page.clone()).unwrap_or_default();
        let listen = self
            .listen
            .or(file.and_then(|file| file.listen))
            .unwrap_or_else(|| DashboardConfig::default().listen);
        let observed = Observed::new(frame.log.clone(), &site);
        let (watched, cancel) = (observed.clone(), frame.cancel());
        frame.spawn(async move { watched.run(cancel).await });
        let progress = frame.stages.add("dashboard");
        let own = frame.stages.clone();
        let options = DashboardOptions {
            log: frame.log.clone(),
            site: site.clone(),
            listen,
            access,
            data_dir: frame.state().to_owned(),
            operator: Some(frame.publisher(&site, "operator").await?),
            // The log is elsewhere, and folding a span of it again takes its files.
            explain: None,
            packets: None,
            figures: {
                let figures = frame.figures.clone();
                Arc::new(move || figures.render_sources())
            },
            stages: Arc::new(move || {
                // Those of other processes once they were seen: the page is ready without them.
                let elsewhere = observed.snapshots().into_iter();
                let seen = elsewhere.filter(|stage: &ProgressSnapshot| stage.advanced_age.is_some());
                own.snapshots().into_iter().chain(seen).collect()
            }),
            progress: progress.clone(),
            software: format!("{} {}", frame.name, env!("CARGO_PKG_VERSION")),
        };
        let dashboard = Dashboard::bind(options).await.map_err(unavailable)?;
        tell_link(&frame, &dashboard)?;
        let (served, cancel) = (frame.clone(), frame.cancel());
        frame.spawn(async move {
            if let Err(error) = dashboard.run(cancel).await {
                served.fail(format!("the page stopped: {error}"));
            }
        });
        Ok(())
    }
}

fn unavailable(error: DashboardError) -> anyhow::Error {
    match error {
        DashboardError::AddressInUse { .. } | DashboardError::Listen { .. } => {
            Unavailable(error.to_string()).into()
        }
        DashboardError::Token(error) => error.into(),
        error => error.into(),
    }
}

/// The link with the token goes to a terminal only, and into a file that only its owner may read.
fn tell_link(frame: &Frame, dashboard: &Dashboard) -> anyhow::Result<()> {
    let path = frame.state().join("link");
    let link = dashboard.link();
    write_private(&path, &format!("{link}\n"))
        .with_context(|| format!("failed to write {}", path.display()))?;
    if console::is_output_terminal() {
        console::announce(format_args!("open {link}"));
    } else {
        let (page, path) = (dashboard.address(), path.display());
        console::announce(format_args!(
            "the page is at {page} and the link with its token in {path}"
        ));
    }
    Ok(())
}
