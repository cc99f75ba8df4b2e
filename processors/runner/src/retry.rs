//! When to try again what failed. It decides nothing else.

use std::time::Duration;

use tokio::time::Instant;

use crate::options::{RETRY_FIRST, RETRY_LAST};

/// When to try again. It starts small, doubles, and ends with success.
#[derive(Default)]
pub(crate) struct Retry {
    delay: Duration,
    pub(crate) not_before: Option<Instant>,
}

impl Retry {
    pub(crate) fn failed(&mut self) {
        self.delay = (self.delay * 2).clamp(RETRY_FIRST, RETRY_LAST);
        self.not_before = Some(Instant::now() + self.delay);
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Retry::default();
    }

    pub(crate) fn waiting(&self) -> bool {
        self.not_before.is_some_and(|at| Instant::now() < at)
    }
}
