//! Addresses of targets that are given as names, by the system's resolver, the one that answered last first.
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

/// The most addresses of one name that are asked: two of each family.
const ADDRESSES_MAX: usize = 4;

/// The most names held; targets are limited further above.
const NAMES_MAX: usize = 4_096;

#[derive(Default)]
pub(crate) struct Names {
    entries: Mutex<HashMap<String, Entry>>,
}

#[derive(Clone, Default)]
struct Entry {
    good: Option<(Vec<SocketAddr>, Instant)>,
    /// Answered last.
    preferred: Option<SocketAddr>,
    asked_at: Option<Instant>,
    failure: Option<String>,
}

impl Names {
    /// The addresses in the order in which to ask them, with port 0 and, for IPv6, their scope. The error is a reason for people.
    pub(crate) async fn addresses(self: &Arc<Names>, text: &str) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, 0)]);
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
            Some((mut addresses, _)) => {
                if due {
                    self.begin(text, now);
                    tokio::spawn(Arc::clone(self).look_up(text.to_owned()));
                }
                if let Some(preferred) = entry.preferred {
                    // A stable sort: the others stay in their order.
                    addresses.sort_by_key(|address| *address != preferred);
                }
                Ok(addresses)
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

    /// Remembers which address of a name answered, so that one that is dead costs its head start once and not in every round.
    pub(crate) fn prefer(&self, text: &str, address: SocketAddr) {
        if let Some(entry) = self.entries().get_mut(text) {
            entry.preferred = Some(address);
        }
    }

    async fn look_up(self: Arc<Names>, text: String) -> Result<Vec<SocketAddr>, String> {
        let found = tokio::net::lookup_host((text.as_str(), 0)).await;
        match found.map(|found| in_turn(found.collect())) {
            Ok(addresses) if !addresses.is_empty() => {
                let mut entries = self.entries();
                let entry = entries.entry(text).or_default();
                entry.good = Some((addresses.clone(), Instant::now()));
                entry.failure = None;
                Ok(addresses)
            }
            Ok(_) => Err(self.fail(&text, "no address")),
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

/// The families in turn, beginning with the resolver's first choice (RFC 8305 section 4), and each address once.
fn in_turn(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut once: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !once.contains(&address) {
            once.push(address);
        }
    }
    let is_first_family = once.first().is_some_and(SocketAddr::is_ipv4);
    let (first, other): (Vec<_>, Vec<_>) = once
        .into_iter()
        .partition(|address| address.is_ipv4() == is_first_family);
    let mut other = other.into_iter();
    let mut turns = Vec::new();
    for address in first {
        turns.push(address);
        turns.extend(other.next());
    }
    turns.extend(other);
    turns.truncate(ADDRESSES_MAX);
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_no_address_is_asked_twice() {
        let check = |found: &[&str], want: &[&str]| {
            let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            let (found, want): (Vec<SocketAddr>, Vec<SocketAddr>) = (addresses(found), addresses(want));
            assert_eq!(in_turn(found), want);
        };
        let (a, b, c) = ("192.0.2.1:0", "192.0.2.2:0", "192.0.2.3:0");
        let (x, y, z) = ("[2001:db8::1]:0", "[2001:db8::2]:0", "[2001:db8::3]:0");
        check(&[], &[]);
        check(&[a, a], &[a]);
        check(&[x, y, a], &[x, a, y]);
        check(&[a, x, y, b], &[a, x, b, y]);
        check(&[x, y, z, a, b, c], &[x, a, y, b]);
    }

    #[tokio::test]
    async fn the_address_that_answered_is_asked_first_until_the_name_loses_it() {
        let names = Arc::new(Names::default());
        let [first, second]: [SocketAddr; 2] =
            ["[2001:db8::1]:0", "192.0.2.1:0"].map(|text| text.parse().unwrap());
        let now = Instant::now();
        let known = |addresses: &[SocketAddr]| Entry {
            good: Some((addresses.to_vec(), now)),
            asked_at: Some(now),
            ..Entry::default()
        };
        names.entries().insert("www.test".into(), known(&[first, second]));
        assert_eq!(names.addresses("www.test").await.unwrap(), [first, second]);
        names.prefer("www.test", second);
        assert_eq!(names.addresses("www.test").await.unwrap(), [second, first]);
        if let Some(entry) = names.entries().get_mut("www.test") {
            entry.good = Some((vec![first], now));
        }
        assert_eq!(names.addresses("www.test").await.unwrap(), [first]);
    }

    #[tokio::test]
    async fn addresses_need_no_resolver_and_names_do() {
        let names = Arc::new(Names::default());
        assert_eq!(
            names.addresses("192.0.2.1").await,
            Ok(vec!["192.0.2.1:0".parse().unwrap()])
        );
        assert_eq!(
            names.addresses("2001:db8::1").await,
            Ok(vec!["[2001:db8::1]:0".parse().unwrap()])
        );
        let local = names.addresses("localhost").await.unwrap();
        assert!(
            local.iter().all(|address| address.ip().is_loopback()),
            "{local:?}"
        );
    }

    #[tokio::test]
    async fn a_failure_names_the_name_and_is_remembered() {
        let names = Arc::new(Names::default());
        // No resolver is asked for a name that holds a zero byte.
        let first = names.addresses("nobody\0").await.unwrap_err();
        assert!(first.starts_with("nobody\0 cannot be resolved"), "{first}");
        let asked = names.entries()["nobody\0"].asked_at;
        assert_eq!(names.addresses("nobody\0").await.unwrap_err(), first);
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
                good: Some((vec![address], now)),
                asked_at: Some(now),
                failure: Some("down".into()),
                preferred: None,
            },
        );
        assert_eq!(names.addresses("router.invalid").await, Ok(vec![address]));
    }
}
