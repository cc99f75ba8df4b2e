//! How long to wait before trying again when the far side does not say. Deterministic: a site has one sink, so there
//! is no herd to spread.

use std::time::Duration;

/// The first wait, in milliseconds: a hiccup is over in a second.
const BACKOFF_MS_FIRST: u64 = 1_000;

/// The longest wait, in milliseconds: a connection that comes back is used within a minute.
pub const BACKOFF_MS_MAX: u64 = 60_000;

/// The wait after `attempts` failed attempts: 1 s, 2 s, 4 s … up to [`BACKOFF_MS_MAX`].
pub fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    Duration::from_millis((BACKOFF_MS_FIRST << doublings).min(BACKOFF_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_a_second_to_a_minute_and_stays_there() {
        let seconds: Vec<u64> = [0, 1, 2, 3, 6, 7, 8, u32::MAX]
            .map(|n| backoff(n).as_secs())
            .into();
        assert_eq!(seconds, [1, 1, 2, 4, 32, 60, 60, 60]);
    }
}
