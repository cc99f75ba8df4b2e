//! Keeps parts running: one that ends by itself is started again after a pause, and the health page says why.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::Progress;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The pauses before a part is started again double from here to there.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A part that ran for this long begins with the shortest pause again.
pub(crate) const STEADY: Duration = Duration::from_secs(300);

/// Runs `part` until cancelled. An error or a panic in it is logged and shown, and it is started again.
pub async fn supervise<F, R, E>(progress: Arc<Progress>, cancel: CancellationToken, part: F)
where
    F: Fn() -> R,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let mut pause = PAUSE_MIN;
    while !cancel.is_cancelled() {
        let started = Instant::now();
        let outcome = tokio::spawn(part()).await;
        if cancel.is_cancelled() {
            if let Ok(Err(error)) = outcome {
                tracing::warn!(part = progress.name(), %error, "ended with an error");
            }
            return;
        }
        let why = match outcome {
            Ok(Ok(())) => "it ended by itself".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        if started.elapsed() > STEADY {
            pause = PAUSE_MIN;
        }
        tracing::error!(
            part = progress.name(),
            why,
            again_in_s = pause.as_secs(),
            "a part stopped"
        );
        progress.fail(format!("stopped: {why}"));
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        progress.ok();
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_or_panics_is_started_again_and_shown() {
        let starts = Arc::new(AtomicU32::new(0));
        let progress = Progress::new("sink:test");
        let cancel = CancellationToken::new();
        let part = {
            let (starts, cancel, progress) = (starts.clone(), cancel.clone(), progress.clone());
            move || {
                let start = starts.fetch_add(1, Ordering::SeqCst);
                let (cancel, shown) = (cancel.clone(), progress.snapshot().detail);
                async move {
                    match start {
                        0 => Err("no such host"),
                        1 => panic!("a fault of ours"),
                        _ => {
                            assert_eq!(shown, None, "the fault is over once it runs again");
                            cancel.cancelled().await;
                            Ok(())
                        }
                    }
                }
            }
        };
        let running = tokio::spawn(supervise(progress.clone(), cancel.clone(), part));
        while starts.load(Ordering::SeqCst) < 1 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(
            progress.snapshot().detail.as_deref(),
            Some("stopped: no such host")
        );
        while starts.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        cancel.cancel();
        running.await.unwrap();
    }
}
