//! Addresses of targets that are given as names, by the system's resolver.
//!
//! A resolver that fails is no answer of the target: the last good address is used for a while, and without one the
//! probe is a fault.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A name is asked again after this: an address that moved is followed within a minute.
const REFRESH_AFTER: Duration = Duration::from_secs(60);

/// After a failure the resolver is left alone for this long, whatever the interval of the target.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A good address is used for this long while the resolver fails.
const KEPT_FOR: Duration = Duration::from_secs(3_600);

/// The longest wait for the resolver within a probe; the lookup goes on without it.
const LOOKUP_WAIT_MAX: Duration = Duration::from_secs(2);

/// The most names held; targets are limited further above.
const NAMES_MAX: usize = 4_096;

#[derive(Default)]
pub(crate) struct Names {
    entries: Mutex<HashMap<String, Entry>>,
}

#[derive(Clone, Default)]
struct Entry {
    good: Option<(SocketAddr, Instant)>,
    asked_at: Option<Instant>,
    failure: Option<String>,
}

impl Names {
    /// The address, with port 0 and, for IPv6, its scope. The error is a reason for people.
    pub(crate) async fn address(self: &Arc<Names>, text: &str) -> Result<SocketAddr, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(SocketAddr::new(address, 0));
        }
        let now = Instant::now();
        let entry = self.entries().get(text).cloned().unwrap_or_default();
        let wait_over = |wait: Duration| entry.asked_at.is_none_or(|at| now.duration_since(at) >= wait);
        let kept = entry
            .good
            .filter(|(_, since)| now.duration_since(*since) < KEPT_FOR);
        let due = if entry.failure.is_some() {
            wait_over(RETRY_AFTER)
        } else {
            wait_over(REFRESH_AFTER)
        };
        match kept {
            Some((address, _)) => {
                if due {
                    self.begin(text, now);
                    tokio::spawn(Arc::clone(self).look_up(text.to_owned()));
                }
                Ok(address)
            }
            None if due => {
                self.begin(text, now);
                let lookup = tokio::spawn(Arc::clone(self).look_up(text.to_owned()));
                match tokio::time::timeout(LOOKUP_WAIT_MAX, lookup).await {
                    Ok(Ok(result)) => result,
                    Ok(Err(_)) | Err(_) => Err(self.fail(text, "the resolver does not answer")),
                }
            }
            None => Err(entry
                .failure
                .unwrap_or_else(|| format!("{text} is still being resolved"))),
        }
    }

    async fn look_up(self: Arc<Names>, text: String) -> Result<SocketAddr, String> {
        let found = tokio::net::lookup_host((text.as_str(), 0))
            .await
            .map(|mut found| found.next());
        match found {
            Ok(Some(address)) => {
                let mut entries = self.entries();
                let entry = entries.entry(text).or_default();
                entry.good = Some((address, Instant::now()));
                entry.failure = None;
                Ok(address)
            }
            Ok(None) => Err(self.fail(&text, "no address")),
            Err(error) => Err(self.fail(&text, &error.to_string())),
        }
    }

    fn begin(&self, text: &str, now: Instant) {
        let mut entries = self.entries();
        if entries.len() >= NAMES_MAX && !entries.contains_key(text) {
            // Names of earlier configurations; those in use come back at once.
            tracing::warn!(limit = NAMES_MAX, "the table of names is full and starts anew");
            entries.clear();
        }
        entries.entry(text.to_owned()).or_default().asked_at = Some(now);
    }

    fn fail(&self, text: &str, why: &str) -> String {
        let reason = format!("{text} cannot be resolved: {why}");
        let mut entries = self.entries();
        let entry = entries.entry(text.to_owned()).or_default();
        entry.failure = Some(reason.clone());
        reason
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_no_resolver_and_names_do() {
        let names = Arc::new(Names::default());
        assert_eq!(
            names.address("192.0.2.1").await,
            Ok("192.0.2.1:0".parse().unwrap())
        );
        assert_eq!(
            names.address("2001:db8::1").await,
            Ok("[2001:db8::1]:0".parse().unwrap())
        );
        assert!(names.address("localhost").await.unwrap().ip().is_loopback());
    }

    #[tokio::test]
    async fn a_failure_names_the_name_and_is_remembered() {
        let names = Arc::new(Names::default());
        // No resolver is asked for a name that holds a zero byte.
        let first = names.address("nobody\0").await.unwrap_err();
        assert!(first.starts_with("nobody\0 cannot be resolved"), "{first}");
        let asked = names.entries()["nobody\0"].asked_at;
        assert_eq!(names.address("nobody\0").await.unwrap_err(), first);
        assert_eq!(
            names.entries()["nobody\0"].asked_at,
            asked,
            "the resolver is left alone"
        );
    }

    #[tokio::test]
    async fn a_good_address_outlives_a_failing_resolver() {
        let names = Arc::new(Names::default());
        let address = "192.0.2.7:0".parse().unwrap();
        let now = Instant::now();
        names.entries().insert(
            "router.invalid".into(),
            Entry {
                good: Some((address, now)),
                asked_at: Some(now),
                failure: Some("down".into()),
            },
        );
        assert_eq!(names.address("router.invalid").await, Ok(address));
    }
}
