//! When something that failed is tried again: later each time, with a warning now and then.

use std::time::Duration;

use tokio::time::Instant;

/// The first wait after a failure, doubled up to [`RETRY_DELAY_MAX`].
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);

/// The longest wait: short enough that a recovered disk or broker is used at once, as people see it.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// One warning for this many failures in a row: about one a minute at the longest wait.
const RETRIES_PER_WARNING: u32 = 12;

/// The failures in a row of one thing.
pub(crate) struct Retry {
    failures: u32,
    pub(crate) at: Instant,
}

impl Retry {
    pub(crate) fn new() -> Retry {
        Retry {
            failures: 0,
            at: Instant::now(),
        }
    }

    pub(crate) fn is_due(&self) -> bool {
        self.failures == 0 || self.at <= Instant::now()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// `consequence` tells people what follows.
    pub(crate) fn failed(
        &mut self,
        collector: &str,
        error: &(dyn std::error::Error + Sync),
        consequence: &str,
    ) {
        if self.failures.is_multiple_of(RETRIES_PER_WARNING) {
            tracing::warn!(collector, %error, failures = self.failures + 1, "{consequence}");
        }
        let delay = RETRY_DELAY_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(RETRY_DELAY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.at = Instant::now() + delay;
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The process is ending: what is tried once more is tried now.
    pub(crate) fn hurry(&mut self) {
        self.at = Instant::now();
    }
}
