//! Leases in a key-value bucket of the broker whose values vanish unless they are written again. Who holds one writes
//! it again and again; who cannot stops in time. Does not know what is done under a lease.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

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
        let (asked, taken) = (Instant::now(), &held);
        let revision = self
            .shared
            .link
            .until(asked + ASK_MAX, |client| async move {
                self.check(&client).await?;
                taken.take(&client).await
            })
            .await?;
        let Some(revision) = revision else { return Ok(None) };
        let (lost, released) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(held.keep(revision, asked, lost.clone(), released.clone()));
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
        asked: Instant,
        lost: CancellationToken,
        released: CancellationToken,
    ) {
        let mut valid_until = asked + LEASE_TTL - MARGIN;
        let mut renew_at = asked + RENEW_EVERY;
        // Since when a renewal may have happened that nobody told us of.
        let mut unanswered: Option<Instant> = None;
        loop {
            let begun = tokio::select! {
                () = released.cancelled() => return self.give_back(revision).await,
                () = sleep_until(renew_at.min(valid_until)) => Instant::now(),
            };
            let renewed = tokio::select! {
                () = released.cancelled() => return self.give_back(revision).await,
                renewed = timeout_at(valid_until, self.renew(revision)) => renewed,
            };
            match renewed {
                Ok(Ok(Renewed::Now(new))) => {
                    (revision, unanswered) = (new, None);
                    valid_until = begun + LEASE_TTL - MARGIN;
                    renew_at = begun + RENEW_EVERY;
                }
                Ok(Ok(Renewed::Earlier(new))) => {
                    revision = new;
                    valid_until = unanswered.take().unwrap_or(begun) + LEASE_TTL - MARGIN;
                    renew_at = begun;
                }
                Ok(Ok(Renewed::Taken)) => break,
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.key, %error, "failed to renew a lease; trying again");
                    unanswered.get_or_insert(begun);
                    renew_at = Instant::now() + Duration::from_secs(1);
                }
                Err(_) => break,
            }
            if Instant::now() >= valid_until {
                break;
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
