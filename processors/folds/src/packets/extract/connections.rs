//! Attempts to open TCP connections, and what came of them.
//!
//! Only packets with SYN, FIN or RST are given to it, and the first data of a connection. Packets count in the order of their
//! own times within [`ORDER_WITHIN`]: an answer that is stored before its SYN waits for it. What an ICMP message refuses is
//! not known here: its row does not say which attempt it quotes, so such an attempt goes unanswered.

mod stored;

use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use watchfold_schemas::{Span, Time};

use crate::engine::segment::Segment;
use crate::packets::arrivals::{Arrivals, Slot, hash_words};
use crate::packets::clock::ORDER_WITHIN;

/// The most attempts that wait for an answer; in a flood the oldest is forgotten and nothing is said about it.
pub const WAITING_MAX: usize = 65_536;

/// The most open connections whose end is awaited; the longest open is forgotten first.
pub const OPENED_MAX: usize = 65_536;

/// The most packets that came before what they belong to; the oldest is forgotten first.
pub const EARLY_MAX: usize = 16_384;

/// An attempt is unanswered once it is this old.
pub const ANSWER_WITHIN: Span = Span::from_seconds(3);

/// Bits of TCP's flags.
pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// A packet with one of these is worth a look.
pub const OPENS_OR_CLOSES: u8 = FIN | SYN | RST;

/// Counters by ports: few enough to be at hand for every packet that carries data.
const PORT_PAIRS: usize = 4_096;

/// Two ends, the source of the SYN first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    pub destination_port: u16,
    pub segment: Segment,
}

/// A TCP packet with SYN, FIN, RST or data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpPacket {
    /// When it counts.
    pub at: Time,
    /// Its own time, where that is at most [`ORDER_WITHIN`] earlier.
    pub seen: Time,
    /// The packet's number.
    pub number: u64,
    /// As in the packet.
    pub ends: Ends,
    pub flags: u8,
    pub has_payload: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Tried,
    Opened,
    Refused,
    Unanswered,
    Used,
    Ended,
}

impl Outcome {
    pub const ALL: [Outcome; 6] = [
        Outcome::Tried,
        Outcome::Opened,
        Outcome::Refused,
        Outcome::Unanswered,
        Outcome::Used,
        Outcome::Ended,
    ];

    /// As rules spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Tried => "tried",
            Outcome::Opened => "opened",
            Outcome::Refused => "refused",
            Outcome::Unanswered => "unanswered",
            Outcome::Used => "used",
            Outcome::Ended => "ended",
        }
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    pub at: Time,
    /// The packet that tells: the SYN, the answer, the first data or the end; of an unanswered attempt its SYN.
    pub number: u64,
    pub ends: Ends,
    pub outcome: Outcome,
    /// Since the SYN.
    pub duration: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Attempt {
    ends: Ends,
    /// Of the packet itself.
    syn_at: Time,
    /// When it counted.
    counted_at: Time,
    syn_number: u64,
    /// It carried data. While it waits, that is known before its answer is.
    is_used: bool,
}

/// The attempts and connections of one collector.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// For hashing; senders of packets do not know it.
    seed: u64,
    /// In the order in which their SYNs counted, so the oldest is due first.
    waiting: Arrivals<Attempt>,
    opened: Arrivals<Attempt>,
    /// Packets that belong to nothing that is known, for as long as an earlier one may still come.
    early: Arrivals<TcpPacket>,
    /// By ports, how many attempts, connections without data and early packets there are: data of all others needs no look.
    unused: PortPairs,
    /// Attempts, connections and early packets forgotten because there were too many.
    pub evicted: u64,
}

/// How many there are by ports, whichever end they belong to.
#[derive(Clone, Debug, Default)]
struct PortPairs(Vec<u32>);

impl Connections {
    /// `seed` should differ between collectors and runs, and be in the input: the incarnation, say.
    pub fn new(seed: u64) -> Connections {
        Connections {
            seed,
            ..Connections::default()
        }
    }

    /// Whether data between these ports may be the first of a connection.
    pub fn may_use(&self, source_port: u16, destination_port: u16) -> bool {
        self.unused.may_have(source_port, destination_port)
    }

    /// What a packet says about an attempt. Packets come as they count, after those attempts that were due by then.
    pub fn see(&mut self, packet: &TcpPacket, rows: &mut Vec<ConnectionRow>) {
        self.forget_early(packet.at);
        if !self.apply(packet, rows) {
            self.keep_early(packet);
        }
    }

    /// Says `false` where a packet that is stored later may be needed to tell what this one means. It keeps nothing for that
    /// itself, so that what was kept is never kept again.
    fn apply(&mut self, packet: &TcpPacket, rows: &mut Vec<ConnectionRow>) -> bool {
        match packet.flags & (SYN | FIN | RST | ACK) {
            SYN => {
                self.attempt(packet, rows);
                true
            }
            flags if flags == SYN | ACK => self.opened(packet, rows),
            flags if flags & SYN != 0 && flags & RST == 0 => true,
            flags => {
                let closes = flags & (FIN | RST) != 0;
                let is_known = (packet.has_payload && self.used(packet, rows))
                    | (closes && self.closed(packet, flags, rows));
                // Data alone waits only for a connection of which something is known.
                is_known || !(closes || (packet.has_payload && self.has_early(packet.ends)))
            }
        }
    }

    /// A SYN that is sent again is the same attempt. One with the ends of an open connection is a new one, unless it is the
    /// connection's own that comes late.
    fn attempt(&mut self, packet: &TcpPacket, rows: &mut Vec<ConnectionRow>) {
        let ends = packet.ends;
        let hash = self.hash(&ends);
        if self.waiting.find(hash, |attempt| attempt.ends == ends).is_some() {
            return;
        }
        if let Some(slot) = self.opened.find(hash, |attempt| attempt.ends == ends) {
            let is_same = |attempt: &Attempt| packet.seen.since(attempt.syn_at) < ANSWER_WITHIN;
            if self.opened.get(slot).is_some_and(is_same) {
                return;
            }
            self.forget_opened(slot);
        }
        while self.waiting.len() >= WAITING_MAX
            && let Some((slot, _)) = self.waiting.oldest()
        {
            self.forget_waiting_one(slot);
            self.evicted += 1;
        }
        let attempt = Attempt {
            ends,
            syn_at: packet.seen,
            counted_at: packet.at,
            syn_number: packet.number,
            is_used: false,
        };
        self.waiting.push(hash, attempt);
        self.unused.add(&ends);
        rows.push(attempt.row(packet, Outcome::Tried));
        self.apply_early(packet, rows);
    }

    /// The other end answers an attempt that waits. Says whether it belongs to anything.
    fn opened(&mut self, packet: &TcpPacket, rows: &mut Vec<ConnectionRow>) -> bool {
        let ends = packet.ends.turned();
        let hash = self.hash(&ends);
        let Some(slot) = self.waiting.find(hash, |attempt| attempt.ends == ends) else {
            return self.find_opened(ends).is_some();
        };
        let Some(attempt) = self.waiting.remove(slot) else {
            return false;
        };
        while self.opened.len() >= OPENED_MAX
            && let Some((slot, _)) = self.opened.oldest()
        {
            self.forget_opened(slot);
            self.evicted += 1;
        }
        self.opened.push(hash, attempt);
        rows.push(attempt.row(packet, Outcome::Opened));
        if attempt.is_used {
            self.unused.remove(&ends);
            rows.push(attempt.row(packet, Outcome::Used));
        }
        self.apply_early(packet, rows);
        true
    }

    /// Data from either end. Says whether it belongs to anything.
    fn used(&mut self, packet: &TcpPacket, rows: &mut Vec<ConnectionRow>) -> bool {
        for ends in [packet.ends, packet.ends.turned()] {
            let hash = self.hash(&ends);
            if let Some(slot) = self.opened.find(hash, |attempt| attempt.ends == ends) {
                self.use_opened(slot, packet, rows);
                return true;
            }
            let slot = self.waiting.find(hash, |attempt| attempt.ends == ends);
            if let Some(attempt) = slot.and_then(|slot| self.waiting.get_mut(slot)) {
                // Its answer is stored later, or was never sent.
                attempt.is_used = true;
                return true;
            }
        }
        false
    }

    fn use_opened(&mut self, slot: Slot, packet: &TcpPacket, rows: &mut Vec<ConnectionRow>) {
        if let Some(attempt) = self.opened.get_mut(slot)
            && !std::mem::replace(&mut attempt.is_used, true)
        {
            rows.push(attempt.row(packet, Outcome::Used));
            self.unused.remove(&attempt.ends);
        }
    }

    /// A refusal, or the end of a connection from either end. Says whether it belongs to anything.
    fn closed(&mut self, packet: &TcpPacket, flags: u8, rows: &mut Vec<ConnectionRow>) -> bool {
        let turned = packet.ends.turned();
        let hash = self.hash(&turned);
        if flags & RST != 0
            && let Some(slot) = self.waiting.find(hash, |attempt| attempt.ends == turned)
            && let Some(attempt) = self.waiting.remove(slot)
        {
            self.unused.remove(&turned);
            rows.push(attempt.row(packet, Outcome::Refused));
            return true;
        }
        let from_server = self.find_opened(turned);
        let Some(slot) = from_server.or_else(|| self.find_opened(packet.ends)) else {
            return false;
        };
        if from_server.is_some() && flags & RST == 0 {
            // A server that has nothing to send says so: a directory may be empty.
            self.use_opened(slot, packet, rows);
        }
        if let Some(attempt) = self.forget_opened(slot) {
            rows.push(attempt.row(packet, Outcome::Ended));
        }
        true
    }

    fn find_opened(&self, ends: Ends) -> Option<Slot> {
        self.opened.find(self.hash(&ends), |attempt| attempt.ends == ends)
    }

    fn forget_opened(&mut self, slot: Slot) -> Option<Attempt> {
        let attempt = self.opened.remove(slot)?;
        if !attempt.is_used {
            self.unused.remove(&attempt.ends);
        }
        Some(attempt)
    }

    fn forget_waiting_one(&mut self, slot: Slot) -> Option<Attempt> {
        let attempt = self.waiting.remove(slot)?;
        self.unused.remove(&attempt.ends);
        Some(attempt)
    }

    /// A packet that may belong to one that was captured before it and is stored after it; of several that say the same, the
    /// first.
    fn keep_early(&mut self, packet: &TcpPacket) {
        let hash = self.hash(&packet.ends.sorted());
        let says_the_same =
            |early: &TcpPacket| early.ends == packet.ends && Step::of(early) == Step::of(packet);
        if self.early.find(hash, says_the_same).is_some() {
            return;
        }
        while self.early.len() >= EARLY_MAX
            && let Some((slot, _)) = self.early.oldest()
        {
            self.forget_early_one(slot);
            self.evicted += 1;
        }
        self.early.push(hash, *packet);
        self.unused.add(&packet.ends);
    }

    fn has_early(&self, ends: Ends) -> bool {
        let sorted = ends.sorted();
        let is_of = |packet: &TcpPacket| packet.ends.sorted() == sorted;
        self.early.find(self.hash(&sorted), is_of).is_some()
    }

    /// What came before this packet and was captured after it: the answer first, then data, then the end.
    fn apply_early(&mut self, packet: &TcpPacket, rows: &mut Vec<ConnectionRow>) {
        if self.early.len() == 0 {
            return;
        }
        let sorted = packet.ends.sorted();
        let hash = self.hash(&sorted);
        for step in [Step::Answer, Step::Data, Step::End] {
            while let Some(slot) = self.early_of(hash, sorted, packet.seen, step)
                && let Some(early) = self.forget_early_one(slot)
            {
                let now = TcpPacket {
                    at: packet.at,
                    ..early
                };
                self.apply(&now, rows);
            }
        }
    }

    /// An early packet of these ends, captured since then, that can be taken up now. What would only wait again is left where
    /// it is.
    fn early_of(&self, hash: u64, sorted: Ends, since: Time, step: Step) -> Option<Slot> {
        self.early.find(hash, |early| {
            let is_of = early.ends.sorted() == sorted && early.seen >= since;
            is_of && Step::of(early) == step && self.applies(early)
        })
    }

    /// Whether a packet belongs to an attempt or a connection that is known.
    fn applies(&self, packet: &TcpPacket) -> bool {
        let turned = packet.ends.turned();
        let waits = |ends: Ends| {
            let is_it = |attempt: &Attempt| attempt.ends == ends;
            self.waiting.find(self.hash(&ends), is_it).is_some()
        };
        let is_open = || {
            self.find_opened(turned)
                .or_else(|| self.find_opened(packet.ends))
                .is_some()
        };
        match Step::of(packet) {
            Step::Answer => waits(turned),
            Step::Data => is_open() || waits(turned) || waits(packet.ends),
            Step::End => is_open() || (packet.flags & RST != 0 && waits(turned)),
        }
    }

    fn forget_early(&mut self, at: Time) {
        while let Some((slot, packet)) = self.early.oldest()
            && at.since(packet.at) > ORDER_WITHIN
        {
            self.forget_early_one(slot);
        }
    }

    fn forget_early_one(&mut self, slot: Slot) -> Option<TcpPacket> {
        let packet = self.early.remove(slot)?;
        self.unused.remove(&packet.ends);
        Some(packet)
    }

    /// When the next attempt goes unanswered, if nothing answers it. `None` while none waits.
    #[cfg(test)]
    pub fn next_deadline(&self) -> Option<Time> {
        self.waiting.oldest().map(|(_, attempt)| attempt.deadline())
    }

    /// Takes the next attempt that is unanswered by `until`, at its own time.
    pub fn pop_due(&mut self, until: Time) -> Option<ConnectionRow> {
        let (slot, attempt) = self.waiting.oldest()?;
        let at = attempt.deadline();
        if at > until {
            return None;
        }
        let attempt = self.forget_waiting_one(slot)?;
        Some(ConnectionRow {
            at,
            number: attempt.syn_number,
            ends: attempt.ends,
            outcome: Outcome::Unanswered,
            duration: ANSWER_WITHIN,
        })
    }

    /// Nobody measured for a while, so nobody knows what became of those that wait.
    pub fn forget_waiting(&mut self) {
        while let Some((slot, _)) = self.waiting.oldest() {
            self.forget_waiting_one(slot);
        }
        while let Some((slot, _)) = self.early.oldest() {
            self.forget_early_one(slot);
        }
    }

    fn hash(&self, ends: &Ends) -> u64 {
        let ports = u64::from(ends.segment.0) << 32
            | u64::from(ends.source_port) << 16
            | u64::from(ends.destination_port);
        match (ends.source, ends.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let addresses = u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits());
                hash_words(self.seed, &[addresses, ports])
            }
            (source, destination) => {
                let [source, destination] = [source, destination].map(|address| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
                    IpAddr::V6(address) => address.to_bits(),
                });
                let words = [
                    (source >> 64) as u64,
                    source as u64,
                    (destination >> 64) as u64,
                    destination as u64,
                    ports,
                ];
                hash_words(self.seed, &words)
            }
        }
    }
}

/// What an early packet is to its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Answer,
    Data,
    End,
}

impl Step {
    fn of(packet: &TcpPacket) -> Step {
        match packet.flags & (SYN | FIN | RST) {
            SYN => Step::Answer,
            0 => Step::Data,
            _ => Step::End,
        }
    }
}

impl PortPairs {
    /// The same whichever port is whose.
    fn place(source_port: u16, destination_port: u16) -> usize {
        let sum = usize::from(source_port.wrapping_add(destination_port));
        (sum ^ sum >> 12) % PORT_PAIRS
    }

    fn may_have(&self, source_port: u16, destination_port: u16) -> bool {
        self.0
            .get(PortPairs::place(source_port, destination_port))
            .is_some_and(|count| *count > 0)
    }

    fn add(&mut self, ends: &Ends) {
        if self.0.is_empty() {
            self.0 = vec![0; PORT_PAIRS];
        }
        self.0[PortPairs::place(ends.source_port, ends.destination_port)] += 1;
    }

    fn remove(&mut self, ends: &Ends) {
        if let Some(count) = self
            .0
            .get_mut(PortPairs::place(ends.source_port, ends.destination_port))
        {
            *count = count.saturating_sub(1);
        }
    }
}

impl Ends {
    fn turned(self) -> Ends {
        Ends {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            segment: self.segment,
        }
    }

    /// The same for packets of both directions.
    fn sorted(self) -> Ends {
        if (self.source, self.source_port) <= (self.destination, self.destination_port) {
            self
        } else {
            self.turned()
        }
    }
}

impl Attempt {
    fn deadline(&self) -> Time {
        self.counted_at + ANSWER_WITHIN
    }

    fn row(&self, packet: &TcpPacket, outcome: Outcome) -> ConnectionRow {
        ConnectionRow {
            at: packet.at,
            number: packet.number,
            ends: self.ends,
            outcome,
            duration: packet.seen.since(self.syn_at).max(Span::ZERO),
        }
    }
}

#[cfg(test)]
mod tests;
