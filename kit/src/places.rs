//! Places for connections: a share for each address, reserves for loopback and for holders of a credential, and who leaves when all
//! are taken.
//!
//! A connection begins as a stranger. It becomes a member when a request on it showed a valid credential. When a limit is reached, the
//! newcomer takes the place of the stranger that has been there longest, so idle connections lock nobody out. A member keeps its place.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Page;

/// An address that showed a valid credential may use the reserve for this long.
pub const KNOWN_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Addresses that are remembered for the reserve; the one seen longest ago is forgotten first.
pub const KNOWN_ADDRESSES_MAX: usize = 256;
/// Refusals are counted and logged as one line this often.
pub const REPORT_EVERY: Duration = Duration::from_secs(10);

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceLimits {
    /// All connections together.
    pub all: usize,
    /// Strangers from one IPv4 address, or from one IPv6 network of 64 bits.
    pub per_address: usize,
    /// Places that only loopback and known addresses use.
    pub reserved_loopback: usize,
    /// Places that only addresses use that showed a valid credential within [`KNOWN_FOR`].
    pub reserved_known: usize,
}

impl PlaceLimits {
    /// Shares of `all`: a quarter for each address, and a sixteenth, at least one, for each reserve.
    pub fn shares_of(all: usize) -> PlaceLimits {
        PlaceLimits {
            all,
            per_address: (all / 4).max(4),
            reserved_loopback: (all / 16).max(1),
            reserved_known: (all / 16).max(1),
        }
    }
}

/// The places of one listener.
#[derive(Debug)]
pub struct Places {
    limits: PlaceLimits,
    inner: Mutex<Inner>,
    /// Connections that were closed at once, because every place was a member's.
    pub refused: AtomicU64,
    /// Strangers that had to leave for somebody else.
    pub displaced: AtomicU64,
    /// Connections that the system did not hand over.
    pub failures: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    /// Open connections in the order of their coming.
    open: BTreeMap<u64, Open>,
    next: u64,
    /// When an address last showed a valid credential.
    known: BTreeMap<IpAddr, Instant>,
}

#[derive(Debug)]
struct Open {
    address: IpAddr,
    class: Class,
    leave: CancellationToken,
}

/// What limits a connection is under, from the most to the least trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Showed a valid credential.
    Member,
    /// From an address of which another connection did.
    Known,
    Loopback,
    Stranger,
}

/// A place of an open connection; dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    number: u64,
    address: IpAddr,
    leave: CancellationToken,
}

impl Places {
    pub fn new(limits: PlaceLimits) -> Arc<Places> {
        Arc::new(Places {
            limits,
            inner: Mutex::default(),
            refused: AtomicU64::new(0),
            displaced: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    pub fn limits(&self) -> PlaceLimits {
        self.limits
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.inner().open.len()
    }

    /// A place for a connection from `peer`, or `None` when everybody else has more right to one.
    pub fn take(self: &Arc<Places>, peer: IpAddr) -> Option<Place> {
        let address = network_of(peer);
        let mut inner = self.inner();
        let class = inner.class_of(address);
        if !self.make_room(&mut inner, address, class) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let number = inner.next;
        inner.next += 1;
        let leave = CancellationToken::new();
        let open = Open {
            address,
            class,
            leave: leave.clone(),
        };
        inner.open.insert(number, open);
        Some(Place {
            places: Arc::clone(self),
            number,
            address,
            leave,
        })
    }

    fn make_room(&self, inner: &mut Inner, address: IpAddr, class: Class) -> bool {
        let of_address = |open: &Open| open.address == address && open.class != Class::Member;
        let for_strangers = |open: &Open| open.class == Class::Stranger;
        let beside_known = |open: &Open| open.class >= Class::Loopback;
        let limits = self.limits;
        let beside_known_max = limits.all.saturating_sub(limits.reserved_known);
        let strangers_max = beside_known_max.saturating_sub(limits.reserved_loopback);
        self.keep_under(inner, class, limits.per_address, of_address)
            && (class < Class::Stranger || self.keep_under(inner, class, strangers_max, for_strangers))
            && (class < Class::Loopback || self.keep_under(inner, class, beside_known_max, beside_known))
            && self.keep_under(inner, class, limits.all, |_| true)
    }

    /// Makes room for one more of `class` among those that are `counted`. If need be the oldest of the least trusted leaves, but no member
    /// and nobody more trusted than the newcomer.
    fn keep_under(
        &self,
        inner: &mut Inner,
        class: Class,
        max: usize,
        counted: impl Fn(&Open) -> bool,
    ) -> bool {
        if inner.open.values().filter(|open| counted(open)).count() < max {
            return true;
        }
        let candidates = inner.open.iter().filter(|(_, open)| counted(open));
        let leaving = candidates
            .filter(|(_, open)| open.class >= class.max(Class::Known))
            .max_by_key(|(number, open)| (open.class, std::cmp::Reverse(**number)))
            .map(|(number, _)| *number);
        let Some(open) = leaving.and_then(|number| inner.open.remove(&number)) else {
            return false;
        };
        open.leave.cancel();
        self.displaced.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Counts a connection that the system did not hand over: out of file descriptors, as a rule.
    pub fn failed(&self, error: &std::io::Error) {
        tracing::debug!(%error, "a connection could not be accepted");
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Logs what was refused since the last call, as one line.
    pub fn report(&self, listener: &str, reported: &mut Reported) {
        let now = Reported {
            refused: self.refused.load(Ordering::Relaxed),
            displaced: self.displaced.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        };
        let before = std::mem::replace(reported, now);
        let (refused, displaced) = (now.refused - before.refused, now.displaced - before.displaced);
        if refused + displaced > 0 {
            tracing::warn!(
                listener,
                refused,
                displaced,
                limit = self.limits.all,
                per_address = self.limits.per_address,
                "connections were refused, or closed for others, in the last {} s",
                REPORT_EVERY.as_secs()
            );
        }
        let failed = now.failures - before.failures;
        if failed > 0 {
            tracing::warn!(
                listener,
                failed,
                "connections could not be accepted in the last {} s: raise the limit of open files (LimitNOFILE)",
                REPORT_EVERY.as_secs()
            );
        }
    }

    /// Adds the metrics of the listener.
    pub fn add_to(&self, page: &mut Page) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        page.sample("watchfold_connections", &[], self.open());
        page.sample("watchfold_connections_refused_total", &[], count(&self.refused));
        page.sample(
            "watchfold_connections_displaced_total",
            &[],
            count(&self.displaced),
        );
        page.sample("watchfold_connections_failed_total", &[], count(&self.failures));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Places::report`] has logged so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reported {
    refused: u64,
    displaced: u64,
    failures: u64,
}

impl Inner {
    fn class_of(&self, address: IpAddr) -> Class {
        match self.known.get(&address) {
            Some(at) if at.elapsed() < KNOWN_FOR => Class::Known,
            _ if address.is_loopback() => Class::Loopback,
            _ => Class::Stranger,
        }
    }
}

impl Place {
    /// Remembers that a valid credential was shown: this connection keeps its place, and its address may use the reserve. Members leave
    /// the reserve of loopback free; beyond that a connection stays what it is.
    pub fn showed_credential(&self) {
        let mut inner = self.places.inner();
        if inner.known.len() >= KNOWN_ADDRESSES_MAX && !inner.known.contains_key(&self.address) {
            let oldest = inner
                .known
                .iter()
                .min_by_key(|(_, at)| **at)
                .map(|(address, _)| *address);
            oldest.and_then(|address| inner.known.remove(&address));
        }
        inner.known.insert(self.address, Instant::now());
        let limits = self.places.limits;
        let members = inner
            .open
            .values()
            .filter(|open| open.class == Class::Member)
            .count();
        let has_room = members < limits.all.saturating_sub(limits.reserved_loopback);
        if let Some(open) = inner.open.get_mut(&self.number)
            && has_room
        {
            open.class = Class::Member;
        }
    }

    /// Ends when the connection has to leave.
    pub async fn displaced(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.inner().open.remove(&self.number);
    }
}

/// Who shares one share: an IPv4 address, or the /64 that an IPv6 host chooses its addresses from.
fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PlaceLimits = PlaceLimits {
        all: 8,
        per_address: 3,
        reserved_loopback: 1,
        reserved_known: 2,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn left(place: &Place) -> bool {
        place.leave.is_cancelled()
    }

    #[tokio::test]
    async fn an_address_beyond_its_share_displaces_its_own_oldest_stranger() {
        let places = Places::new(LIMITS);
        let other = places.take(ip("192.0.2.9")).unwrap();
        let mut same: Vec<Place> = (0..3).map(|_| places.take(ip("192.0.2.1")).unwrap()).collect();
        same[0].showed_credential();
        // A member is not part of the share, so a fourth fits.
        same.push(places.take(ip("192.0.2.1")).unwrap());
        assert!(!same.iter().any(left));
        same.push(places.take(ip("::ffff:192.0.2.1")).unwrap());
        assert_eq!(
            same.iter().map(left).collect::<Vec<_>>(),
            [false, true, false, false, false]
        );
        assert!(!left(&other));
        assert_eq!(places.displaced.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn strangers_leave_the_reserves_free() {
        let places = Places::new(LIMITS);
        let known = places.take(ip("203.0.113.1")).unwrap();
        known.showed_credential();
        drop(known);
        let strangers: Vec<Place> = (0..20)
            .map(|n| places.take(ip(&format!("192.0.2.{n}"))).unwrap())
            .collect();
        let stays = |places: &[Place]| places.iter().filter(|place| !left(place)).count();
        assert_eq!(stays(&strangers), 5, "8 less the reserves of 1 and 2");
        let loopback: Vec<Place> = (0..2).map(|_| places.take(ip("127.0.0.1")).unwrap()).collect();
        assert_eq!(
            (stays(&strangers), stays(&loopback)),
            (4, 2),
            "beyond the reserve a stranger leaves"
        );
        let back: Vec<Place> = (0..3).map(|_| places.take(ip("203.0.113.1")).unwrap()).collect();
        assert_eq!((stays(&strangers), stays(&loopback), stays(&back)), (3, 2, 3));
    }

    #[tokio::test]
    async fn members_keep_their_places_and_leave_the_reserve_of_loopback() {
        let places = Places::new(LIMITS);
        let members: Vec<Place> = (0..8)
            .map(|n| {
                let place = places.take(ip(&format!("192.0.2.{n}"))).unwrap();
                place.showed_credential();
                place
            })
            .collect();
        let probe = places.take(ip("127.0.0.1")).unwrap();
        assert_eq!(
            members.iter().map(left).filter(|left| *left).count(),
            1,
            "the eighth stayed a stranger"
        );
        assert!(!left(&probe));
        let next = places.take(ip("127.0.0.1")).unwrap();
        assert!(left(&probe) && !left(&next));
        assert!(places.take(ip("198.51.100.1")).is_none());
        assert!(!left(&next), "a stranger displaces nobody who is more trusted");
        assert_eq!(places.refused.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_host_counts_once_for_all_addresses_of_its_ipv6_network() {
        let places = Places::new(LIMITS);
        let places_taken: Vec<Place> = (1..=4)
            .map(|n| places.take(ip(&format!("2001:db8::{n}"))).unwrap())
            .collect();
        assert!(left(&places_taken[0]) && !left(&places_taken[3]));
        assert_eq!(network_of(ip("::1")), ip("::1"));
        assert_eq!(network_of(ip("2001:db8:0:1:2:3:4:5")), ip("2001:db8:0:1::"));
    }

    #[tokio::test]
    async fn known_addresses_are_bounded_and_forgotten() {
        let places = Places::new(PlaceLimits::shares_of(1_024));
        for n in 0..=KNOWN_ADDRESSES_MAX {
            places
                .take(ip(&format!("10.0.{}.{}", n / 256, n % 256)))
                .unwrap()
                .showed_credential();
        }
        let inner = places.inner();
        assert_eq!(inner.known.len(), KNOWN_ADDRESSES_MAX);
        assert_eq!(inner.class_of(ip("10.0.0.0")), Class::Stranger);
        assert_eq!(inner.class_of(ip("10.0.1.0")), Class::Known);
        assert!(inner.open.is_empty(), "a dropped place is free");
    }
}
