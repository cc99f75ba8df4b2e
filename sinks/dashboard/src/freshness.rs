//! How old what is shown is: the age of the newest record of the log, and whether the log answers at all. The page's colour,
//! readiness and metrics follow it. It reads no log; the feed tells it what came.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use watchfold_kit::answers::LogAnswers;
use watchfold_schemas::Time;

/// Data that is older is stale. The clock of a site writes a record each second beside the log and each 10 s in a fleet, so a
/// site whose newest record is older is not measured.
pub const STALE_AFTER: Duration = Duration::from_secs(15);

pub struct Freshness {
    /// `None` for a recording, which has no present.
    answers: Option<Arc<LogAnswers>>,
    newest: Mutex<Option<Newest>>,
}

#[derive(Clone, Copy)]
struct Newest {
    read: Instant,
    /// How old the record was when it was read.
    age: Duration,
}

impl Newest {
    fn age(&self) -> Duration {
        self.age + self.read.elapsed()
    }
}

/// How old what is shown is, as viewers and health see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DataAge {
    /// Age of the newest record; `None` before the first one and in a recording.
    pub age_ms: Option<u64>,
    /// Why what is shown is not the present, while it is not.
    pub stale: Option<String>,
}

impl Freshness {
    /// Of a log that `answers` asks; `None` for a recording.
    pub fn new(answers: Option<Arc<LogAnswers>>) -> Arc<Freshness> {
        Arc::new(Freshness {
            answers,
            newest: Mutex::default(),
        })
    }

    /// Asks the log whether it answers until dropped.
    pub async fn follow(&self) {
        match &self.answers {
            Some(answers) => answers.follow().await,
            None => std::future::pending().await,
        }
    }

    /// A record was read that the log stored at `stored_at`. While the log is only caught up with, its age is told by
    /// `now`; one that comes live is new, whatever the clocks of two machines say.
    pub fn note(&self, stored_at: Time, now: Time, is_live: bool) {
        let age_ns = if is_live { 0 } else { now.since(stored_at).0.max(0) };
        let read = Newest {
            read: Instant::now(),
            age: Duration::from_nanos(age_ns.unsigned_abs()),
        };
        let mut newest = self.newest();
        // Two streams are caught up with, one after the other.
        if newest.is_none_or(|known| read.age <= known.age()) {
            *newest = Some(read);
        }
    }

    pub fn data_age(&self) -> DataAge {
        let Some(answers) = &self.answers else {
            return DataAge::default();
        };
        let newest = *self.newest();
        let age = newest.map(|newest| newest.age());
        let old = age.filter(|age| *age > STALE_AFTER);
        let stale = match (answers.trouble(), old) {
            (Some(why), _) => Some(format!("the log does not answer: {why}")),
            (None, Some(age)) => Some(too_old(age)),
            (None, None) => None,
        };
        let age_ms = age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        DataAge { age_ms, stale }
    }

    /// Whether the log answers; a recording does.
    pub fn log_answers(&self) -> bool {
        self.answers
            .as_ref()
            .is_none_or(|answers| answers.answering_for().is_some())
    }

    /// Why what is shown is not the present, without places and paths: for those who show no token.
    pub fn stale_in_public(&self) -> Option<String> {
        let answers = self.answers.as_ref()?;
        if answers.trouble().is_some() {
            return Some("the log does not answer".to_owned());
        }
        self.data_age().stale
    }

    fn newest(&self) -> MutexGuard<'_, Option<Newest>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_old(age: Duration) -> String {
    format!(
        "the newest record in the log is {} s old: no collector of this site writes to it",
        age.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfold_log::memory::MemoryLog;

    #[tokio::test(start_paused = true)]
    async fn data_is_as_old_as_the_newest_record_and_stale_beyond_the_limit() {
        let answers = LogAnswers::new(MemoryLog::new(), "memory", None);
        let freshness = Freshness::new(Some(answers));
        assert_eq!(
            freshness.data_age(),
            DataAge::default(),
            "nothing was ever stored"
        );
        let now = Time::from_seconds(1_000);
        freshness.note(Time::from_seconds(0), now, true);
        tokio::time::sleep(Duration::from_secs(15)).await;
        let fresh = DataAge {
            age_ms: Some(15_000),
            stale: None,
        };
        assert_eq!(freshness.data_age(), fresh, "a live record is new on any clock");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let old = freshness.data_age();
        assert_eq!((old.age_ms, old.stale.is_some()), (Some(16_000), true));
        freshness.note(Time::from_seconds(900), now, false);
        assert_eq!(freshness.data_age(), old, "an older record of the other stream");
        freshness.note(Time::from_seconds(999), now, false);
        assert_eq!(
            (freshness.data_age().age_ms, freshness.data_age().stale),
            (Some(1_000), None)
        );
        let answers = LogAnswers::new(MemoryLog::new(), "memory", None);
        let restarted = Freshness::new(Some(answers));
        restarted.note(Time::from_seconds(900), now, false);
        let found = restarted.data_age();
        assert_eq!((found.age_ms, found.stale.is_some()), (Some(100_000), true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_does_not_answer_makes_the_data_stale_and_a_recording_is_never_stale() {
        let log = MemoryLog::new();
        log.fail_info(true);
        let answers = LogAnswers::new(log, "nats://hub:4222", None);
        let freshness = Freshness::new(Some(answers));
        freshness.note(Time(0), Time(0), true);
        let asked = tokio::time::timeout(Duration::from_secs(2), freshness.follow()).await;
        assert!(asked.is_err() && !freshness.log_answers());
        let stale = freshness.data_age().stale.unwrap();
        assert!(stale.starts_with("the log does not answer: "), "{stale}");
        assert_eq!(
            freshness.stale_in_public().as_deref(),
            Some("the log does not answer")
        );
        let recording = Freshness::new(None);
        recording.note(Time(0), Time::from_seconds(1_000), false);
        assert_eq!(
            (recording.data_age(), recording.log_answers()),
            (DataAge::default(), true)
        );
    }
}
