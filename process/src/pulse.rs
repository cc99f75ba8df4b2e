//! Looks at the log and at the parts, and tells the service manager and the status port how it goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use watchfold_log::{LogError, StreamInfo};
use watchfold_schemas::Stream;

use crate::frame::Frame;
use crate::health::Health;
use crate::notify::Notifier;
use crate::status::Told;

/// How often the log is asked whether it answers.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A log that takes longer than this to say how long it is does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A log that stays away is mentioned again this often.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// How a process is, seen from its inside.
pub struct Pulse {
    frame: Arc<Frame>,
    software: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    started: bool,
    log_answers_since: Option<Instant>,
    /// When the log's silence was last mentioned.
    mentioned: Option<Instant>,
}

impl Pulse {
    pub fn new(frame: Arc<Frame>, software: String) -> Arc<Pulse> {
        Arc::new(Pulse {
            frame,
            software,
            state: Mutex::default(),
        })
    }

    /// Everything that was to be started is.
    pub fn started(&self) {
        self.state().started = true;
    }

    /// Looks until dropped. A log that takes its time to answer keeps no word from the service manager.
    pub async fn run(self: Arc<Self>, notifier: Arc<Notifier>) {
        tokio::join!(self.follow_the_log(), self.tell(&notifier));
    }

    async fn follow_the_log(&self) {
        loop {
            self.look_at_the_log().await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
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

    async fn look_at_the_log(&self) {
        let answer = timeout(ANSWER_TIMEOUT, self.frame.log.info(Stream::Observations)).await;
        let why = match answer {
            Ok(Ok(StreamInfo { .. })) => None,
            Ok(Err(error @ LogError::Stopped(_))) => {
                self.frame.fail(error.to_string());
                Some(error.to_string())
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
        };
        let mut state = self.state();
        let place = &self.frame.place;
        match why {
            None => {
                if state.mentioned.take().is_some() {
                    tracing::info!(log = %place, "the log answers");
                }
                state.log_answers_since.get_or_insert_with(Instant::now);
            }
            Some(why) => {
                state.log_answers_since = None;
                if state.mentioned.is_none_or(|at| at.elapsed() >= REMIND_EVERY) {
                    state.mentioned = Some(Instant::now());
                    tracing::warn!(log = %place, why, "the log does not answer; trying for ever");
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told for Pulse {
    fn health(&self) -> Health {
        let state = self.state();
        Health {
            log_answers_for: state.log_answers_since.map(|since| since.elapsed()),
            started: state.started,
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
