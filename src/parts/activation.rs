//! Records which configuration and rules are in force at the site, before anything else takes them over.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_kit::in_force::{KEEP_EVERY, NotRecorded, Recorded};
use watchfold_kit::rules::SiteRules;
use watchfold_kit::{Context, Kind, Loaded, Part, Publisher};
use watchfold_log::MessageLog;

use super::rules::site_rules;
use crate::config::Config;

/// The configuration in force is recorded again this often, so that retention never takes the last record of it and
/// a piece of the log need not reach further back to be understood.
const RECORD_EVERY: Duration = Duration::from_secs(86_400);

/// How long the start waits for the log to take the configuration; a full disk must not keep the page from saying so.
const ACTIVATE_TIMEOUT: Duration = Duration::from_secs(2);

/// Changes of the configuration that wait to be recorded; the next one is read when this one is dealt with.
const CHANGES_WAITING_MAX: usize = 1;

/// Exactly one party records what is in force at a site: this part, or `watchfold config activate`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activation {}

impl Part for Activation {
    const NAME: &'static str = "config";
    const KIND: Kind = Kind::Activation;

    async fn start(self, context: Context) -> anyhow::Result<()> {
        let site = context.site()?;
        let config = context.section::<Config>();
        let config = config
            .borrow()
            .clone()
            .context("there is no configuration to record")?;
        let rules = site_rules(&config)?;
        let mut recorder = Recorder {
            log: context.log(),
            publisher: context.publisher(&site, Self::NAME).await?,
            recorded: Recorded::default(),
            config,
            rules,
        };
        recorder.record_at_start().await?;
        let (changes, changed) = mpsc::channel(CHANGES_WAITING_MAX);
        context
            .frame()
            .set_gate(Box::new(move |loaded| Box::pin(ask(changes.clone(), loaded))));
        context.spawn(recorder.run(changed, context.cancel()));
        Ok(())
    }
}

/// A configuration, and where the answer goes whether it is in force.
type Change = (Loaded, oneshot::Sender<Result<(), String>>);

async fn ask(changes: mpsc::Sender<Change>, loaded: Loaded) -> Result<(), String> {
    let ending = || "the process ends".to_owned();
    let (answer, answered) = oneshot::channel();
    changes.send((loaded, answer)).await.map_err(|_| ending())?;
    answered.await.map_err(|_| ending())?
}

/// Has the log hold what is in force.
struct Recorder {
    log: Arc<dyn MessageLog>,
    publisher: Arc<Publisher>,
    /// Where the log holds `config` and `rules`.
    recorded: Recorded,
    config: Arc<Config>,
    rules: SiteRules,
}

impl Recorder {
    async fn record_at_start(&mut self) -> anyhow::Result<()> {
        match tokio::time::timeout(ACTIVATE_TIMEOUT, self.record()).await {
            Ok(Ok(())) => {}
            // The log never takes this configuration; all else is tried again while it runs.
            Ok(Err(error @ NotRecorded::Config(_))) => return Err(error.into()),
            Ok(Err(error)) => tracing::warn!(%error, "the configuration is recorded once the log takes it"),
            Err(_) => {
                tracing::warn!("the log takes no records yet: the configuration is recorded when it does");
            }
        }
        Ok(())
    }

    async fn run(mut self, mut changed: mpsc::Receiver<Change>, cancel: CancellationToken) {
        let mut recorded_at = Instant::now();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                Some((loaded, answer)) = changed.recv() => {
                    let taken = self.take_over(&loaded).await;
                    // Nobody waits for the answer of a process that ends.
                    drop(answer.send(taken));
                }
                () = tokio::time::sleep(KEEP_EVERY) => {
                    let is_due = recorded_at.elapsed() > RECORD_EVERY;
                    if is_due {
                        recorded_at = Instant::now();
                    }
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = self.keep(is_due) => {}
                    }
                }
            }
        }
    }

    async fn take_over(&mut self, loaded: &Loaded) -> Result<(), String> {
        let new = loaded.sections.get::<Config>();
        let new = new.ok_or_else(|| "there is no configuration to record".to_owned())?;
        let rules = site_rules(&new).map_err(|error| error.to_string())?;
        let recorded = self
            .recorded
            .record(&self.log, &self.publisher, (&new.site, &rules))
            .await;
        recorded.map_err(|error| error.to_string())?;
        (self.config, self.rules) = (new, rules);
        Ok(())
    }

    async fn record(&mut self) -> Result<(), NotRecorded> {
        let in_force = (&self.config.site, &self.rules);
        self.recorded.record(&self.log, &self.publisher, in_force).await
    }

    /// A wiped or replaced log gets what is in force again; every log does when it is due.
    async fn keep(&mut self, is_due: bool) {
        let in_force = (&self.config.site, &self.rules);
        let kept = match is_due {
            true => self.recorded.record(&self.log, &self.publisher, in_force).await,
            false => self
                .recorded
                .keep(&self.log, &self.publisher, in_force)
                .await
                .map(drop),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "the log may not hold the configuration in force; checking again");
        }
    }
}

#[cfg(test)]
mod tests;
