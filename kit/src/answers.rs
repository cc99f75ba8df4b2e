//! Whether the log answers, asked once a second: for readiness, health, metrics and the watchdog.
//!
//! It knows nothing of what is in the log, and does not judge how old that is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Progress;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use watchfold_log::{LogError, MessageLog};
use watchfold_schemas::Stream;

/// How often the log is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// A log that takes longer than this to say how long it is does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A log that stays away is mentioned in the log lines again this often.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// What the answers of one log were.
pub struct LogAnswers {
    log: Arc<dyn MessageLog>,
    /// The log's place, for people.
    place: String,
    /// Shown as a stage, where there is one: its position is the newest record.
    progress: Option<Arc<Progress>>,
    state: Mutex<State>,
    stopped: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    trouble: Option<String>,
    /// When the log's silence was last mentioned.
    mentioned: Option<Instant>,
}

impl LogAnswers {
    pub fn new(log: Arc<dyn MessageLog>, place: &str, progress: Option<Arc<Progress>>) -> Arc<LogAnswers> {
        Arc::new(LogAnswers {
            log,
            place: place.to_owned(),
            progress,
            state: Mutex::default(),
            stopped: watch::Sender::new(None),
        })
    }

    /// Asks until dropped.
    pub async fn follow(&self) {
        loop {
            self.ask().await;
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// How long the log has answered without a break; `None` while it does not.
    pub fn answering_for(&self) -> Option<Duration> {
        self.state().since.map(|since| since.elapsed())
    }

    /// Why the log does not answer, while it does not.
    pub fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    /// Waits until the log has stopped for good: after that it takes nothing until it is opened again.
    pub async fn stopped(&self) -> LogError {
        let mut stopped = self.stopped.subscribe();
        match stopped.wait_for(Option::is_some).await {
            Ok(why) => LogError::Stopped(why.clone().unwrap_or_default()),
            // The sender lives in `self`.
            Err(_) => std::future::pending().await,
        }
    }

    async fn ask(&self) {
        let answer = timeout(ANSWER_TIMEOUT, self.log.end(Stream::Observations)).await;
        let why = match answer {
            Ok(Ok(end)) => {
                if let Some(progress) = &self.progress {
                    if let Some(end) = end {
                        progress.advance(end, end);
                    }
                    progress.ok();
                }
                return self.answered();
            }
            Ok(Err(LogError::Stopped(why))) => {
                self.stopped.send_replace(Some(why.clone()));
                why
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no word from it within {} s", ANSWER_TIMEOUT.as_secs()),
        };
        if let Some(progress) = &self.progress {
            progress.fail(format!("the log does not answer: {why}"));
        }
        self.silent(why);
    }

    fn answered(&self) {
        let mut state = self.state();
        if state.mentioned.take().is_some() {
            tracing::info!(log = %self.place, "the log answers");
        }
        state.trouble = None;
        state.since.get_or_insert_with(Instant::now);
    }

    fn silent(&self, why: String) {
        let mut state = self.state();
        state.since = None;
        if state.mentioned.is_none_or(|at| at.elapsed() >= REMIND_EVERY) {
            state.mentioned = Some(Instant::now());
            tracing::warn!(log = %self.place, why, "the log does not answer; trying for ever");
        }
        state.trouble = Some(why);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfold_log::memory::MemoryLog;

    #[tokio::test(start_paused = true)]
    async fn a_silent_log_is_a_fault_of_its_stage_until_it_answers() {
        let log = MemoryLog::new();
        let progress = Progress::new("log");
        let answers = LogAnswers::new(log.clone(), "memory", Some(progress.clone()));
        assert_eq!((answers.answering_for(), answers.trouble()), (None, None));
        answers.ask().await;
        assert!(answers.answering_for().is_some());
        assert!(progress.snapshot().advanced_age.is_some());
        log.fail_info(true);
        answers.ask().await;
        assert_eq!(answers.answering_for(), None);
        assert!(answers.trouble().is_some());
        let detail = progress.snapshot().detail.unwrap();
        assert!(detail.starts_with("the log does not answer: "), "{detail}");
        log.fail_info(false);
        answers.ask().await;
        assert_eq!((answers.trouble(), progress.snapshot().detail), (None, None));
    }
}
