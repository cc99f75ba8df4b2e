//! Who has which address on a link: what ARP messages and neighbour advertisements announce, beside what was known.
//!
//! It believes the first, follows what is announced, and tells each change. That DHCP explains a change is what the messages
//! say; they can be forged as ARP can.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::packets::{ArpRow, DhcpRow, NeighbourRow};
use watchfold_schemas::{Span, Time};

use crate::engine::segment::Segment;
use crate::packets::arrivals::{Arrivals, Slot, hash_words};

/// The most addresses whose owner is known; the one that was announced longest ago is forgotten first.
pub const NEIGHBOURS_MAX: usize = 16_384;

/// The most leases that are remembered; the oldest goes first.
pub const LEASES_MAX: usize = 16_384;

/// The most addresses whose last ARP reply is kept for `arp.reply_changed`; further ones are not learnt.
pub const ARP_REPLIES_MAX: usize = 10_000;

/// Back to an owner of within this time is a flip-flop.
const FLIP_FLOP_WITHIN: Span = Span::from_seconds(600);

/// Earlier owners kept for each address; two suffice for two who fight, more for several.
const OWNERS_BEFORE_MAX: usize = 4;

const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// The flag of a neighbour advertisement by which a router says that it is one.
const IS_ROUTER: u8 = 128;
const DHCP_ACKNOWLEDGE: u8 = 5;
const DHCP_RELEASE: u8 = 7;

/// A hardware address.
pub type Mac = [u8; 6];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Message {
    Request,
    Reply,
    /// A request or reply of an address about itself.
    Gratuitous,
    Advertisement,
}

impl Message {
    /// As rules spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Message::Request => "request",
            Message::Reply => "reply",
            Message::Gratuitous => "gratuitous",
            Message::Advertisement => "advertisement",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    New,
    Same,
    Changed,
    FlipFlop,
}

impl Change {
    /// As rules spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Change::New => "new",
            Change::Same => "same",
            Change::Changed => "changed",
            Change::FlipFlop => "flip_flop",
        }
    }
}

/// One announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourFact {
    /// The packet's row.
    pub row: u16,
    pub segment: Segment,
    /// Whose hardware address it announces.
    pub address: IpAddr,
    /// Whom it asks for or answers.
    pub target: Option<IpAddr>,
    pub mac: Mac,
    /// What was known before, where that was another one.
    pub previous: Option<Mac>,
    pub change: Change,
    pub message: Message,
    pub explained: bool,
    /// It has announced itself as a router. What is configured, the caller knows.
    pub router: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    segment: Segment,
    address: IpAddr,
    mac: Mac,
    heard_at: Time,
    /// Owners before, the latest first, and when each was last announced.
    before: Vec<(Mac, Time)>,
    router: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Lease {
    segment: Segment,
    address: Ipv4Addr,
    mac: Mac,
    released: bool,
}

/// What is known of one collector's links: an address in two segments is two addresses.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    seed: u64,
    /// In the order in which they were last announced.
    known: Arrivals<Known>,
    /// In the order in which they were given.
    leases: Arrivals<Lease>,
    /// The address that each client was given last; as many as there are leases.
    clients: BTreeMap<(Segment, Mac), Ipv4Addr>,
    /// By address, the hardware address of the last ARP reply.
    replies: BTreeMap<(Segment, [u8; 4]), Mac>,
    /// Addresses and leases forgotten because there were too many.
    pub evicted: u64,
}

/// [`Neighbours`] as a store holds them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredNeighbours {
    known: Vec<Known>,
    leases: Vec<Lease>,
    replies: Vec<((Segment, [u8; 4]), Mac)>,
    evicted: u64,
}

impl Neighbours {
    /// `seed` should differ between collectors and runs, and be in the input: the incarnation, say.
    pub fn new(seed: u64) -> Neighbours {
        Neighbours {
            seed,
            ..Neighbours::default()
        }
    }

    /// What an ARP message announces. A probe for an address that its sender has not taken yet announces nothing.
    pub fn arp(&mut self, at: Time, segment: Segment, arp: &ArpRow) -> Option<NeighbourFact> {
        let (sender, target) = (Ipv4Addr::from(arp.sender_ip), Ipv4Addr::from(arp.target_ip));
        let message = match arp.operation {
            ARP_REQUEST | ARP_REPLY if sender == target => Message::Gratuitous,
            ARP_REQUEST => Message::Request,
            ARP_REPLY => Message::Reply,
            _ => return None,
        };
        if sender.is_unspecified() {
            return None;
        }
        let fact = NeighbourFact {
            row: arp.row,
            target: Some(IpAddr::V4(target)),
            message,
            ..self.announce(at, segment, IpAddr::V4(sender), arp.sender_mac)
        };
        Some(fact)
    }

    /// What a neighbour message of IPv6 announces: advertisements that carry a hardware address. A router's advertisement is
    /// remembered and announces none.
    pub fn neighbour(
        &mut self,
        at: Time,
        segment: Segment,
        neighbour: &NeighbourRow,
    ) -> Option<NeighbourFact> {
        let address = IpAddr::V6(Ipv6Addr::from(neighbour.target));
        match (neighbour.message_type, neighbour.mac) {
            (ROUTER_ADVERTISEMENT, mac) => {
                self.router(at, segment, address, mac);
                None
            }
            (NEIGHBOUR_ADVERTISEMENT, Some(mac)) => {
                let mut fact = NeighbourFact {
                    row: neighbour.row,
                    message: Message::Advertisement,
                    ..self.announce(at, segment, address, mac)
                };
                if neighbour.flags & IS_ROUTER != 0 {
                    self.router(at, segment, address, None);
                    fact.router = true;
                }
                Some(fact)
            }
            _ => None,
        }
    }

    /// Learns who was given which address, and who gave one back.
    pub fn dhcp(&mut self, segment: Segment, dhcp: &DhcpRow) {
        match dhcp.message_type {
            DHCP_ACKNOWLEDGE if dhcp.your_ip != [0; 4] => {
                self.lease(segment, dhcp.client_mac, dhcp.your_ip.into());
            }
            DHCP_RELEASE => {
                let Some(address) = self.clients.get(&(segment, dhcp.client_mac)).copied() else {
                    return;
                };
                let slot = self.find_lease(segment, address);
                if let Some(lease) = slot.and_then(|slot| self.leases.get_mut(slot)) {
                    lease.released |= lease.mac == dhcp.client_mac;
                }
            }
            _ => {}
        }
    }

    /// Whether an ARP reply gives an address another hardware address than the reply before; `None` for what is no reply.
    /// The first is believed, and each change is.
    pub fn reply_changed(&mut self, segment: Segment, arp: &ArpRow) -> Option<bool> {
        if arp.operation != ARP_REPLY {
            return None;
        }
        if let Some(mac) = self.replies.get_mut(&(segment, arp.sender_ip)) {
            let before = std::mem::replace(mac, arp.sender_mac);
            return Some(before != arp.sender_mac);
        }
        if self.replies.len() < ARP_REPLIES_MAX {
            self.replies.insert((segment, arp.sender_ip), arp.sender_mac);
        }
        Some(false)
    }

    /// Takes over an announcement. Its row, target and message are the caller's.
    fn announce(&mut self, at: Time, segment: Segment, address: IpAddr, mac: Mac) -> NeighbourFact {
        let hash = hash_address(self.seed, segment, address);
        let mut fact = NeighbourFact {
            row: 0,
            segment,
            address,
            target: None,
            mac,
            previous: None,
            change: Change::New,
            message: Message::Reply,
            explained: false,
            router: false,
        };
        match self.known.find(hash, |known| known.is_of(segment, address)) {
            Some(slot) => {
                if let Some(known) = self.known.get_mut(slot) {
                    fact.previous = (known.mac != mac).then_some(known.mac);
                    fact.change = known.follow(at, mac);
                    fact.router = known.router;
                }
                self.known.renew(slot);
            }
            None => self.learn(hash, Known::of(at, segment, address, mac)),
        }
        fact.explained = self.is_explained(segment, address, mac, fact.previous);
        fact
    }

    fn learn(&mut self, hash: u64, known: Known) {
        while self.known.len() >= NEIGHBOURS_MAX
            && let Some((slot, _)) = self.known.oldest()
        {
            self.known.remove(slot);
            self.evicted += 1;
        }
        self.known.push(hash, known);
    }

    /// Remembers that an address is a router's. Its hardware address is believed only while none is known: otherwise a
    /// forged advertisement would hide the change that the next one tells.
    fn router(&mut self, at: Time, segment: Segment, address: IpAddr, mac: Option<Mac>) {
        let hash = hash_address(self.seed, segment, address);
        if let Some(slot) = self.known.find(hash, |known| known.is_of(segment, address)) {
            if let Some(known) = self.known.get_mut(slot) {
                known.router = true;
            }
        } else if let Some(mac) = mac {
            let known = Known {
                router: true,
                ..Known::of(at, segment, address, mac)
            };
            self.learn(hash, known);
        }
    }

    /// DHCP gave this address to its new owner, or the owner before gave it back.
    fn is_explained(&self, segment: Segment, address: IpAddr, mac: Mac, previous: Option<Mac>) -> bool {
        let IpAddr::V4(address) = address else {
            return false;
        };
        let lease = self
            .find_lease(segment, address)
            .and_then(|slot| self.leases.get(slot));
        lease.is_some_and(|lease| lease.mac == mac || (lease.released && previous == Some(lease.mac)))
    }

    fn lease(&mut self, segment: Segment, mac: Mac, address: Ipv4Addr) {
        if let Some(slot) = self.find_lease(segment, address) {
            self.forget_lease(slot);
        }
        while self.leases.len() >= LEASES_MAX
            && let Some((slot, _)) = self.leases.oldest()
        {
            self.forget_lease(slot);
            self.evicted += 1;
        }
        let lease = Lease {
            segment,
            address,
            mac,
            released: false,
        };
        self.clients.insert((segment, mac), address);
        self.leases
            .push(hash_address(self.seed, segment, IpAddr::V4(address)), lease);
    }

    fn forget_lease(&mut self, slot: Slot) {
        if let Some(lease) = self.leases.remove(slot)
            && self.clients.get(&(lease.segment, lease.mac)) == Some(&lease.address)
        {
            self.clients.remove(&(lease.segment, lease.mac));
        }
    }

    fn find_lease(&self, segment: Segment, address: Ipv4Addr) -> Option<Slot> {
        let hash = hash_address(self.seed, segment, IpAddr::V4(address));
        self.leases
            .find(hash, |lease| (lease.segment, lease.address) == (segment, address))
    }

    pub fn store(&self) -> StoredNeighbours {
        StoredNeighbours {
            known: self.known.iter().cloned().collect(),
            leases: self.leases.iter().copied().collect(),
            replies: self
                .replies
                .iter()
                .map(|(address, mac)| (*address, *mac))
                .collect(),
            evicted: self.evicted,
        }
    }

    pub fn load(stored: StoredNeighbours, seed: u64) -> Neighbours {
        let mut out = Neighbours {
            replies: stored.replies.into_iter().collect(),
            evicted: stored.evicted,
            ..Neighbours::new(seed)
        };
        for known in stored.known {
            out.known
                .push(hash_address(seed, known.segment, known.address), known);
        }
        for lease in stored.leases {
            out.clients.insert((lease.segment, lease.mac), lease.address);
            let hash = hash_address(seed, lease.segment, IpAddr::V4(lease.address));
            out.leases.push(hash, lease);
        }
        out
    }
}

impl Known {
    fn of(at: Time, segment: Segment, address: IpAddr, mac: Mac) -> Known {
        Known {
            segment,
            address,
            mac,
            heard_at: at,
            before: Vec::new(),
            router: false,
        }
    }

    fn is_of(&self, segment: Segment, address: IpAddr) -> bool {
        self.segment == segment && self.address == address
    }

    /// Believes what is announced now, and says what it changes.
    fn follow(&mut self, at: Time, mac: Mac) -> Change {
        let heard_at = std::mem::replace(&mut self.heard_at, at);
        if self.mac == mac {
            return Change::Same;
        }
        let again = self.before.iter().position(|(before, _)| *before == mac);
        let back = again.map(|index| self.before.remove(index).1);
        self.before.insert(0, (self.mac, heard_at));
        self.before.truncate(OWNERS_BEFORE_MAX);
        self.mac = mac;
        match back {
            Some(last) if at.since(last) <= FLIP_FLOP_WITHIN => Change::FlipFlop,
            _ => Change::Changed,
        }
    }
}

fn hash_address(seed: u64, segment: Segment, address: IpAddr) -> u64 {
    let segment = u64::from(segment.0);
    match address {
        IpAddr::V4(address) => hash_words(seed, &[segment << 32 | u64::from(address.to_bits())]),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            hash_words(seed, &[segment, (bits >> 64) as u64, bits as u64])
        }
    }
}

#[cfg(test)]
mod tests;
