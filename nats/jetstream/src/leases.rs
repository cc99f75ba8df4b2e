//! Leases in a key-value bucket of the broker whose values vanish unless they are written again. Who holds one writes
//! it again and again; who cannot stops in time. Does not know what is done under a lease.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_nats::Client;
use async_nats::jetstream::stream::Info;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use watchfold_log::{LEASE_NAME_BYTES_MAX, Lease, Leases, LogError};

use crate::bucket::{Bucket, key_of};
use crate::failure::Failure;
use crate::log::Shared;

/// How long a lease stays without being renewed: a process that died is followed within this time.
pub const LEASE_TTL: Duration = Duration::from_secs(15);
/// How often it is renewed: twice more before it is given up, should an answer be lost.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// It is given up so long before the broker could forget it, for whoever must stop its work.
const MARGIN: Duration = Duration::from_secs(3);
/// How long it is ours after it was asked for.
const HELD: Duration = LEASE_TTL.saturating_sub(MARGIN);
/// How often the wall clock is looked at: a machine that slept finds out within this time of waking.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long asking for one, or giving it back, may take.
const ASK_MAX: Duration = Duration::from_secs(5);

const LEASES: Bucket = Bucket {
    name: "WF_LEASE",
    ttl: Some(LEASE_TTL),
    description: "Watchfold: which process does what",
};

/// Tells the leases of one process apart.
static NUMBER: AtomicU64 = AtomicU64::new(1);

pub(crate) struct BrokerLeases {
    shared: Arc<Shared>,
    /// What tells this process from others.
    holder: String,
    checked: AtomicBool,
}

impl BrokerLeases {
    pub(crate) fn new(shared: Arc<Shared>) -> BrokerLeases {
        let random = RandomState::new().hash_one(std::process::id());
        let holder = format!(
            "{} {} {random:016x}",
            shared.link.options.name,
            std::process::id()
        );
        BrokerLeases {
            shared,
            holder,
            checked: AtomicBool::new(false),
        }
    }

    async fn ask(&self, name: &str) -> Result<Option<Lease>, LogError> {
        check_name(name)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let held = Held {
            shared: self.shared.clone(),
            key: key_of(name),
            value: format!("{} {number}", self.holder).into(),
        };
        let (asked, taken) = (Moment::now(), &held);
        let revision = self
            .shared
            .link
            .until(asked.at + ASK_MAX, |client| async move {
                self.check(&client).await?;
                taken.take(&client).await
            })
            .await?;
        let Some(revision) = revision else { return Ok(None) };
        let (lost, released) = (CancellationToken::new(), CancellationToken::new());
        let keeping = held.keep(revision, asked, lost.clone(), released.clone());
        self.shared.keepers.spawn(keeping);
        Ok(Some(Lease::new(name, lost, released)))
    }

    /// Values that vanish sooner than we think, or never, are no leases.
    async fn check(&self, client: &Client) -> Result<(), Failure> {
        if self.checked.load(Ordering::Acquire) {
            return Ok(());
        }
        let link = &self.shared.link;
        let what = format!("STREAM.INFO.KV_{}", LEASES.name);
        let max_age = match link.api::<Info>(client, &what, &()).await {
            Ok(Ok(info)) => info.config.max_age,
            // It is made with the first lease; or this user may not ask.
            Ok(Err(_)) | Err(Failure::Denied(_)) => return Ok(()),
            Err(failure) => return Err(failure),
        };
        if max_age.is_zero() || max_age < LEASE_TTL {
            return Err(Failure::Final(LogError::Mismatch {
                place: format!("bucket {} on {}", LEASES.name, link.place()),
                key: "ttl",
                found: format!("{} s", max_age.as_secs()),
                wanted: format!("{} s", LEASE_TTL.as_secs()),
                remedy: format!("remove it with `nats kv rm {}`; it is made anew", LEASES.name),
            }));
        }
        self.checked.store(true, Ordering::Release);
        Ok(())
    }
}

impl Leases for BrokerLeases {
    fn acquire(&self, name: &str) -> BoxFuture<'_, Result<Option<Lease>, LogError>> {
        let name = name.to_owned();
        async move { self.ask(&name).await }.boxed()
    }
}

/// Refuses names that nobody would choose; see [`LEASE_NAME_BYTES_MAX`].
pub(crate) fn check_name(name: &str) -> Result<(), LogError> {
    if (1..=LEASE_NAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    Err(LogError::InvalidMessage {
        bytes: name.len(),
        subject: name.chars().take(LEASE_NAME_BYTES_MAX).collect(),
    })
}

/// A lease that is ours, as the broker knows it.
struct Held {
    shared: Arc<Shared>,
    key: String,
    value: Bytes,
}

impl Held {
    /// The revision under which it is ours; `None` while another has it.
    async fn take(&self, client: &Client) -> Result<Option<u64>, Failure> {
        let link = &self.shared.link;
        let expected = match LEASES.get(link, client, &self.key).await? {
            None => 0,
            Some(entry) => match entry.value {
                // An earlier attempt took it, and its answer was lost.
                Some(value) if value == self.value => return Ok(Some(entry.revision)),
                Some(_) => return Ok(None),
                None => entry.revision,
            },
        };
        LEASES
            .put(link, client, &self.key, self.value.clone(), Some(expected))
            .await
    }

    /// Renews it until it is released, or lost.
    async fn keep(
        self,
        mut revision: u64,
        asked: Moment,
        lost: CancellationToken,
        released: CancellationToken,
    ) {
        let mut valid_from = asked;
        let mut renew_at = asked.at + RENEW_EVERY;
        // Since when a renewal may have happened that nobody told us of.
        let mut unanswered: Option<Moment> = None;
        while !valid_from.is_over() {
            let valid_until = valid_from.at + HELD;
            let look_at = renew_at.min(valid_until).min(Instant::now() + LOOK_EVERY);
            let begun = tokio::select! {
                () = released.cancelled() => return self.give_back(revision).await,
                () = sleep_until(look_at) => Moment::now(),
            };
            if begun.at < renew_at || valid_from.is_over() {
                continue;
            }
            let renewed = tokio::select! {
                () = released.cancelled() => return self.give_back(revision).await,
                renewed = timeout_at(valid_until, self.renew(revision)) => renewed,
            };
            match renewed {
                Ok(Ok(Renewed::Now(new))) => {
                    (revision, valid_from, unanswered) = (new, begun, None);
                    renew_at = begun.at + RENEW_EVERY;
                }
                Ok(Ok(Renewed::Earlier(new))) => {
                    (revision, valid_from) = (new, unanswered.take().unwrap_or(begun));
                    renew_at = begun.at;
                }
                Ok(Ok(Renewed::Taken)) => break,
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.key, %error, "failed to renew a lease; trying again");
                    unanswered.get_or_insert(begun);
                    renew_at = Instant::now() + Duration::from_secs(1);
                }
                Err(_) => break,
            }
        }
        tracing::warn!(lease = self.key, "a lease is lost: another process may take it");
        lost.cancel();
    }

    async fn renew(&self, revision: u64) -> Result<Renewed, LogError> {
        let link = &self.shared.link;
        link.until(Instant::now() + RENEW_EVERY, |client| async move {
            let value = self.value.clone();
            if let Some(new) = LEASES
                .put(link, &client, &self.key, value, Some(revision))
                .await?
            {
                return Ok(Renewed::Now(new));
            }
            Ok(match LEASES.get(link, &client, &self.key).await? {
                Some(entry) if entry.value.as_ref() == Some(&self.value) => Renewed::Earlier(entry.revision),
                _ => Renewed::Taken,
            })
        })
        .await
    }

    async fn give_back(&self, revision: u64) {
        let link = &self.shared.link;
        let removed = link.until(Instant::now() + ASK_MAX, |client| async move {
            LEASES.remove(link, &client, &self.key, revision).await
        });
        if !matches!(timeout(ASK_MAX, removed).await, Ok(Ok(()))) {
            tracing::debug!(
                lease = self.key,
                "a lease was not given back; it runs out by itself"
            );
        }
    }
}

enum Renewed {
    Now(u64),
    /// By an attempt whose answer was lost.
    Earlier(u64),
    Taken,
}

/// By two clocks: tokio's stands still while the machine sleeps, and the wall clock may be set.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    wall: SystemTime,
}

impl Moment {
    #[expect(
        clippy::disallowed_methods,
        reason = "a lease runs out at the broker while this machine sleeps, which only the wall clock tells"
    )]
    fn now() -> Moment {
        Moment {
            at: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// Whether a lease that was asked for then is ours no more.
    fn is_over(self) -> bool {
        self.is_over_at(Moment::now())
    }

    fn is_over_at(self, now: Moment) -> bool {
        // A wall clock that was set back tells nothing.
        let by_wall = now.wall.duration_since(self.wall).unwrap_or_default();
        now.at.duration_since(self.at).max(by_wall) >= HELD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_over_by_whichever_clock_says_so() {
        let asked = Moment::now();
        let second = Duration::from_secs(1);
        for (awake, by_wall, over) in [
            (second, asked.wall + second, false),
            (HELD, asked.wall + HELD, true),
            // Asleep, and awake again.
            (second, asked.wall + HELD, true),
            // The wall clock was set back.
            (second, asked.wall - 100 * second, false),
            (HELD, asked.wall - 100 * second, true),
        ] {
            let now = Moment {
                at: asked.at + awake,
                wall: by_wall,
            };
            assert_eq!(asked.is_over_at(now), over, "{awake:?} {by_wall:?}");
        }
    }
}
