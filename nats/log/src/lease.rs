//! Leases: who of several processes does a thing, until it stops or can no longer be sure.
//!
//! A lease keeps the work of one name from being done twice at a time as far as clocks and networks let it; it is no
//! lock. What must not happen twice is told by message ids as well. Does not know what is done under a name.

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::LogError;

/// Bytes of a lease's name; as of a position's.
pub const LEASE_NAME_BYTES_MAX: usize = 80;

/// Gives out leases by name.
pub trait Leases: Send + Sync + 'static {
    /// The lease of that name, or `None` while somebody else holds it: ask again in some seconds.
    fn acquire(&self, name: &str) -> BoxFuture<'_, Result<Option<Lease>, LogError>>;
}

/// Held until it is dropped or lost. Whoever gave it out renews it in the background.
#[derive(Debug)]
pub struct Lease {
    name: String,
    lost: CancellationToken,
    /// Tells whoever renews it that nobody holds it any more.
    _released: DropGuard,
}

impl Lease {
    /// For those who give out leases: they cancel `lost` before another could get this one, and give it up when
    /// `released` is cancelled, which dropping the lease does.
    pub fn new(name: &str, lost: CancellationToken, released: CancellationToken) -> Lease {
        Lease {
            name: name.to_owned(),
            lost,
            _released: released.drop_guard(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Cancelled when it could not be renewed before it ran out: stop what is done under it.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }
}

/// Leases beside an embedded log. One process owns that, so every lease is granted, and none is ever lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalLeases;

impl Leases for LocalLeases {
    fn acquire(&self, name: &str) -> BoxFuture<'_, Result<Option<Lease>, LogError>> {
        let lease = Lease::new(name, CancellationToken::new(), CancellationToken::new());
        async move { Ok(Some(lease)) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_alone_gets_every_lease() {
        for _ in 0..2 {
            let lease = LocalLeases.acquire("site/cafe-1").await.unwrap().unwrap();
            assert_eq!(
                (lease.name(), lease.lost().is_cancelled()),
                ("site/cafe-1", false)
            );
        }
    }

    #[test]
    fn dropping_a_lease_releases_it_and_does_not_call_it_lost() {
        let (lost, released) = (CancellationToken::new(), CancellationToken::new());
        let lease = Lease::new("site/cafe-1", lost.clone(), released.clone());
        assert!(!released.is_cancelled());
        drop(lease);
        assert!(released.is_cancelled() && !lost.is_cancelled());
    }
}
