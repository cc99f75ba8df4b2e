//! Waits for what a test expects, within a limit that only something broken reaches.

#![expect(clippy::print_stdout, reason = "the harness shows it when a test fails")]

use std::time::{Duration, Instant};

/// How long any condition may take on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Between two looks at a condition.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Tries until something is there; `said` is told with what did not come about.
pub async fn until<T>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Option<T>,
    said: impl Fn() -> String,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = attempt().await {
            println!("{what}: after {:.1?}", began.elapsed());
            return found;
        }
        assert!(
            began.elapsed() < LIMIT,
            "{what} did not come about within {LIMIT:?}\n{}",
            said()
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
