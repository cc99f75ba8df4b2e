//! Two processes that publish under one collector's name: who folds hears only the one that began later, and drops what
//! the other says as over. The other one finds that out here, says so and stops, until the later one is gone.
//!
//! It does not choose between them, and prevents nothing: a process that cannot ask the log goes on, and a spool waits for
//! nobody.

use std::sync::Arc;
use std::time::Duration;

use crate::Publisher;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchfold_log::{LogError, LogReader, MessageLog, Start};
use watchfold_schemas::{Stream, decode_observation, subjects};

/// How often the log is asked what was published under the name: as often as a quiet collector says something.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// After so many looks without a word the other is gone. Only looks that the log answered count, so that its absence
/// is nobody's.
const QUIET_LOOKS: u32 = 6;

/// Records read at once.
const LOOK_RECORDS: usize = 256;

/// Follows what is published under the name of this publisher. Holds why the name is not ours, while it is not.
pub fn watch_namesake(
    log: Arc<dyn MessageLog>,
    site: &str,
    collector: &str,
    publisher: &Arc<Publisher>,
    cancel: CancellationToken,
) -> watch::Receiver<Option<String>> {
    let (taken, receiver) = watch::channel(None);
    let filter = subjects::observation(site, "*", collector);
    let why = format!(
        "another process publishes as {collector} of {site} and began later, so this one would not be heard: it waits until \
         that one ends. Where both are meant, give one of them another `name`"
    );
    let watching = Watching {
        publisher: publisher.clone(),
        taken,
        why,
        theirs: None,
        quiet_looks: 0,
    };
    tokio::spawn(async move {
        let mut watching = watching;
        let following = follow(log, filter, &mut watching);
        if let Some(error) = cancel.run_until_cancelled(following).await {
            tracing::debug!(%error, "whether another process has the same name is not known");
            // Held for as long as anybody looks.
            cancel.cancelled().await;
        }
    });
    receiver
}

/// Ends where this user may not read.
async fn follow(log: Arc<dyn MessageLog>, filter: String, watching: &mut Watching) -> LogError {
    let mut next = None;
    loop {
        let error = match read(&log, &filter, &mut next, watching).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        match error {
            LogError::Refused { .. } | LogError::Closed => return error,
            // Another log is in its place, whose sequences say nothing of the ones read.
            LogError::Stopped(_) => next = None,
            _ => {}
        }
        watching.quiet_looks = 0;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn read(
    log: &Arc<dyn MessageLog>,
    filter: &str,
    next: &mut Option<u64>,
    watching: &mut Watching,
) -> Result<std::convert::Infallible, LogError> {
    let from = match next {
        Some(next) => *next,
        None => log.info(Stream::Observations).await?.last_sequence + 1,
    };
    *next = Some(from);
    let start = Start::Sequence(from);
    let mut reader: Box<dyn LogReader> = log.reader(Stream::Observations, filter, start).await?;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let mut newest = None;
        loop {
            let batch = reader.try_next(LOOK_RECORDS).await?;
            for record in &batch.records {
                *next = Some(record.sequence + 1);
                // What cannot be read is the chain's to count.
                if let Ok(observation) = decode_observation(&record.payload) {
                    newest = newest.max(Some(observation.origin.incarnation));
                }
            }
            if batch.records.is_empty() && batch.lost.is_none() {
                break;
            }
        }
        watching.look(newest);
    }
}

struct Watching {
    publisher: Arc<Publisher>,
    taken: watch::Sender<Option<String>>,
    why: String,
    /// The other's incarnation.
    theirs: Option<u64>,
    quiet_looks: u32,
}

impl Watching {
    /// The newest incarnation published under the name since the last look.
    fn look(&mut self, newest: Option<u64>) {
        let ours = self.publisher.stats().incarnation;
        if let Some(newest) = newest.filter(|newest| *newest > ours) {
            if self.theirs.is_none() {
                tracing::error!(why = self.why, "the name is another process's");
            }
            self.theirs = Some(newest);
            self.quiet_looks = 0;
            self.taken.send_replace(Some(self.why.clone()));
            return;
        }
        let Some(theirs) = self.theirs else { return };
        self.quiet_looks += 1;
        if self.quiet_looks >= QUIET_LOOKS {
            tracing::info!("the other process of this name is gone; going on");
            self.publisher.renew_after(theirs);
            self.theirs = None;
            self.taken.send_replace(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchfold_log::memory::MemoryLog;
    use watchfold_schemas::Body;

    async fn publisher(log: &Arc<MemoryLog>, state: &tempfile::TempDir) -> Arc<Publisher> {
        let opened = Publisher::open(log.clone(), "cafe-1", "capture-eth0", state.path());
        opened.await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_began_later_has_the_name_until_it_is_gone() {
        let log = MemoryLog::new();
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cancel = CancellationToken::new();
        let watch = |publisher: &Arc<Publisher>| {
            watch_namesake(log.clone(), "cafe-1", "capture-eth0", publisher, cancel.clone())
        };
        let first = publisher(&log, &here).await;
        let first_taken = watch(&first);
        first.publish(Body::Quiet).await.unwrap();
        tokio::time::sleep(10 * LOOK_EVERY).await;
        assert_eq!(
            *first_taken.borrow(),
            None,
            "what it says itself is nobody else's"
        );

        let second = publisher(&log, &there).await;
        let second_taken = watch(&second);
        for _ in 0..20 {
            first.publish(Body::Quiet).await.unwrap();
            second.publish(Body::Quiet).await.unwrap();
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let why = first_taken.borrow().clone().unwrap_or_default();
        assert!(why.contains("capture-eth0 of cafe-1"), "{why:?}");
        assert_eq!(*second_taken.borrow(), None, "the later one is heard");

        let over = second.stats().incarnation;
        tokio::time::sleep(20 * LOOK_EVERY).await;
        assert_eq!(*first_taken.borrow(), None);
        assert!(first.stats().incarnation > over, "so that it is heard again");
        cancel.cancel();
    }
}
