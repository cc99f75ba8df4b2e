//! `watchfold-capture`: takes packets from the interfaces that a file names, and publishes them as batches.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use watchfold_capture::config::check_filters;
use watchfold_capture::{CaptureConfig, CaptureError, Given};
use watchfold_config::{Config, ConfigError, load_site};
use watchfold_kit::configured::{Without, while_configured};
use watchfold_kit::exit::Usage;
use watchfold_kit::reload::Followed;
use watchfold_kit::{COLLECTORS, Frame, ProcessArgs, Program};

/// Captures packets of one site, and publishes them as batches of columns.
#[derive(Debug, clap::Parser)]
#[command(name = "watchfold-capture", version, max_term_width = 100)]
struct Capture {
    #[command(flatten)]
    process: ProcessArgs,
}

fn main() -> ExitCode {
    watchfold_kit::run::<Capture>()
}

impl Capture {
    fn configuration(&self) -> anyhow::Result<(Config<()>, PathBuf)> {
        let Some(path) = &self.process.config else {
            let missing = "give --config FILE: its [[capture]] tables name the interfaces".to_owned();
            return Err(Usage(missing).into());
        };
        let config = load(path)?;
        // Where captures are to say that they are over there is something to do without any.
        let state = self.process.state.join(COLLECTORS).join(&config.site.site);
        if config.captures.is_empty() && watchfold_capture::gone(&state, &[])?.is_empty() {
            let path = path.display();
            let missing = format!("{path} has no [[capture]]: add one with interface = \"eth0\", say");
            return Err(Usage(missing).into());
        }
        Ok((config, path.clone()))
    }
}

impl Program for Capture {
    fn process(&self) -> &ProcessArgs {
        &self.process
    }

    fn check(&self) -> anyhow::Result<Vec<String>> {
        let (config, _) = self.configuration()?;
        Ok(config.warnings)
    }

    async fn start(self, frame: Arc<Frame>) -> anyhow::Result<()> {
        let (current, path) = self.configuration()?;
        for capture in &current.captures {
            // Whatever else is wrong may pass; a permission does not come by waiting.
            if let Err(error @ (CaptureError::NotAllowed { .. } | CaptureError::Unsupported)) =
                watchfold_capture::check(capture)
            {
                return Err(error.into());
            }
        }
        let site = current.site.site.clone();
        let rings = frame.directory("ring", &site)?;
        let state = frame.directory(COLLECTORS, &site)?;
        let config = frame.file_config(Followed { path, load, current }, captures);
        let progress = frame.stages.add("captures");
        let (shown, cancel, inside) = (progress.clone(), frame.cancel(), frame.clone());
        frame.supervise(progress, move || {
            let (frame, site, following) = (inside.clone(), site.clone(), shown.clone());
            let (rings, state) = (rings.clone(), state.clone());
            while_configured(
                config.clone(),
                Without::Waiting,
                shown.clone(),
                cancel.clone(),
                move |configs, cancel| {
                    let (frame, site, shown) = (frame.clone(), site.clone(), following.clone());
                    let (rings, state) = (rings.clone(), state.clone());
                    async move {
                        let wanted = configs.borrow().clone();
                        let again = |collector: String| {
                            let (frame, site) = (frame.clone(), site.clone());
                            async move { frame.packet_publisher(&site, &collector).await }
                        };
                        watchfold_capture::farewell_to_gone(&state, &wanted, again).await;
                        let open = move |capture: CaptureConfig| given(frame.clone(), site.clone(), capture);
                        watchfold_capture::run_several(configs, open, rings, shown, cancel).await
                    }
                },
            )
        });
        Ok(())
    }
}

async fn given(
    frame: Arc<Frame>,
    site: String,
    capture: CaptureConfig,
) -> Result<Given, watchfold_kit::KitError> {
    let collector = capture.collector();
    let publisher = frame.packet_publisher(&site, &collector).await?;
    Ok(Given {
        taken: frame.namesake(&site, &collector, &publisher),
        publisher,
        progress: frame.stages.add(&format!("collector:{collector}")),
    })
}

fn captures(config: &Config<()>) -> Option<Vec<CaptureConfig>> {
    Some(config.captures.clone())
}

/// The file, with filters that are filters.
fn load(path: &Path) -> Result<Config<()>, ConfigError> {
    let config = load_site(path)?;
    let problems = check_filters(&config.captures);
    match problems.is_empty() {
        true => Ok(config),
        false => Err(ConfigError::Invalid {
            path: path.to_owned(),
            problems,
        }),
    }
}
