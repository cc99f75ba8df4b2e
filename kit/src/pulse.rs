//! Looks at the log and at the parts, and tells the service manager and the status port how it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use watchfold_log::LogError;

use crate::answers::LogAnswers;
use crate::frame::Frame;
use crate::health::Health;
use crate::notify::Notifier;
use crate::part::Kind;
use crate::status::Told;

/// How often the parts are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a process is, seen from its inside.
pub struct Pulse {
    frame: Arc<Frame>,
    software: String,
    answers: Arc<LogAnswers>,
    started: AtomicBool,
}

impl Pulse {
    pub fn new(frame: Arc<Frame>, software: String) -> Arc<Pulse> {
        // Where everything runs in one process, the log is a stage among the others.
        let shown = frame
            .is_whole
            .then(|| frame.stages.add_vouched("log", Kind::Chain));
        let answers = LogAnswers::new(frame.log.clone(), &frame.place, shown);
        Arc::new(Pulse {
            frame,
            software,
            answers,
            started: AtomicBool::new(false),
        })
    }

    /// Everything that was to be started is.
    pub fn started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// Looks until dropped. A log that takes its time to answer keeps no word from the service manager.
    pub async fn run(self: Arc<Self>, notifier: Arc<Notifier>) {
        tokio::join!(self.answers.follow(), self.tell(&notifier));
    }

    /// Waits until the log has stopped for good.
    pub async fn log_stopped(&self) -> LogError {
        self.answers.stopped().await
    }

    async fn tell(&self, notifier: &Notifier) {
        let watched = notifier.watchdog_every();
        let every = watched.map_or(LOOK_EVERY, |every| every.min(LOOK_EVERY));
        let mut line = String::new();
        let mut alive_at: Option<Instant> = None;
        loop {
            let health = self.health();
            let due = watched.is_some_and(|limit| alive_at.is_none_or(|at| at.elapsed() + every > limit));
            match health.stuck() {
                Some(part) => {
                    tracing::error!(
                        part,
                        "a part is stuck and does not say why; the watchdog is not told that we live"
                    );
                }
                None if due => {
                    notifier.alive();
                    alive_at = Some(Instant::now());
                }
                None => {}
            }
            let now = health.line();
            if now != line {
                notifier.status(&now);
                line = now;
            }
            tokio::time::sleep(every).await;
        }
    }
}

impl Told for Pulse {
    fn health(&self) -> Health {
        Health {
            log_answers_for: self.answers.answering_for(),
            started: self.started.load(Ordering::Acquire),
            stages: self.frame.stages.snapshots(),
        }
    }

    fn metrics(&self) -> String {
        let health = self.health();
        self.frame
            .figures
            .render(&self.software, health.log_answers_for.is_some(), &health.stages)
    }
}
