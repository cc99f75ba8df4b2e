//! Attempts to open TCP connections, and what came of them.
//!
//! Only packets with SYN, FIN or RST are given to it. What an ICMP message refuses is not known here: its row does not say
//! which attempt it quotes, so such an attempt goes unanswered.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use watchfold_schemas::{Span, Time};

use crate::packets::arrivals::{Arrivals, Slot, hash_words};

/// The most attempts that wait for an answer; in a flood the oldest is forgotten and nothing is said about it.
pub const WAITING_MAX: usize = 65_536;

/// The most open connections whose end is awaited; the longest open is forgotten first.
pub const OPENED_MAX: usize = 65_536;

/// An attempt is unanswered once it is this old.
pub const ANSWER_WITHIN: Span = Span::from_seconds(3);

/// Bits of TCP's flags.
pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// A packet with one of these is worth a look.
pub const OPENS_OR_CLOSES: u8 = FIN | SYN | RST;

/// Two ends, the source of the SYN first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    pub destination_port: u16,
}

/// A TCP packet with SYN, FIN or RST.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub at: Time,
    /// The packet's number.
    pub number: u64,
    /// As in the packet.
    pub ends: Ends,
    pub flags: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Opened,
    Refused,
    Unanswered,
    Ended,
}

impl Outcome {
    /// As rules spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Opened => "opened",
            Outcome::Refused => "refused",
            Outcome::Unanswered => "unanswered",
            Outcome::Ended => "ended",
        }
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    pub at: Time,
    /// The packet that tells: the answer or the end; of an unanswered attempt its SYN.
    pub number: u64,
    pub ends: Ends,
    pub outcome: Outcome,
    /// Since the SYN.
    pub duration: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Attempt {
    ends: Ends,
    syn_at: Time,
    syn_number: u64,
}

/// The attempts and connections of one collector.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// For hashing; senders of packets do not know it.
    seed: u64,
    /// In the order of their SYNs, so the oldest is due first.
    waiting: Arrivals<Attempt>,
    opened: Arrivals<Attempt>,
    /// Attempts and connections forgotten because there were too many.
    pub evicted: u64,
}

/// [`Connections`] as a store holds them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredConnections {
    waiting: Vec<Attempt>,
    opened: Vec<Attempt>,
    evicted: u64,
}

impl Connections {
    /// `seed` should differ between collectors and runs, and be in the input: the incarnation, say.
    pub fn new(seed: u64) -> Connections {
        Connections {
            seed,
            ..Connections::default()
        }
    }

    /// What a packet says about an attempt. Packets come in time order, after those attempts that were due by then.
    pub fn see(&mut self, segment: &Segment) -> Option<ConnectionRow> {
        match segment.flags & (SYN | FIN | RST | ACK) {
            SYN => {
                self.attempt(segment);
                None
            }
            flags if flags == SYN | ACK => self.answer(segment, Outcome::Opened),
            flags if flags & RST != 0 => {
                let refused = self.answer(segment, Outcome::Refused);
                refused.or_else(|| self.end(segment))
            }
            flags if flags & FIN != 0 => self.end(segment),
            _ => None,
        }
    }

    /// A SYN that is sent again is the same attempt. One with the ends of an open connection is a new one.
    fn attempt(&mut self, segment: &Segment) {
        let hash = self.hash(&segment.ends);
        if self
            .waiting
            .find(hash, |attempt| attempt.ends == segment.ends)
            .is_some()
        {
            return;
        }
        if let Some(slot) = self.opened.find(hash, |attempt| attempt.ends == segment.ends) {
            self.opened.remove(slot);
        }
        self.evicted += make_room(&mut self.waiting, WAITING_MAX);
        let attempt = Attempt {
            ends: segment.ends,
            syn_at: segment.at,
            syn_number: segment.number,
        };
        self.waiting.push(hash, attempt);
    }

    /// From the other end, while the attempt waits.
    fn answer(&mut self, segment: &Segment, outcome: Outcome) -> Option<ConnectionRow> {
        let ends = segment.ends.turned();
        let hash = self.hash(&ends);
        let slot = self.waiting.find(hash, |attempt| attempt.ends == ends)?;
        let attempt = self.waiting.remove(slot)?;
        if outcome == Outcome::Opened {
            self.evicted += make_room(&mut self.opened, OPENED_MAX);
            self.opened.push(hash, attempt);
        }
        Some(attempt.row(segment, outcome))
    }

    /// From either end of an open connection.
    fn end(&mut self, segment: &Segment) -> Option<ConnectionRow> {
        let slot = self
            .find_opened(segment.ends)
            .or_else(|| self.find_opened(segment.ends.turned()))?;
        let attempt = self.opened.remove(slot)?;
        Some(attempt.row(segment, Outcome::Ended))
    }

    fn find_opened(&self, ends: Ends) -> Option<Slot> {
        self.opened.find(self.hash(&ends), |attempt| attempt.ends == ends)
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
        let attempt = self.waiting.remove(slot)?;
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
        self.waiting = Arrivals::default();
    }

    fn hash(&self, ends: &Ends) -> u64 {
        let ports = u64::from(ends.source_port) << 16 | u64::from(ends.destination_port);
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

    pub fn store(&self) -> StoredConnections {
        StoredConnections {
            waiting: self.waiting.iter().copied().collect(),
            opened: self.opened.iter().copied().collect(),
            evicted: self.evicted,
        }
    }

    pub fn load(stored: StoredConnections, seed: u64) -> Connections {
        let mut out = Connections {
            evicted: stored.evicted,
            ..Connections::new(seed)
        };
        for attempt in stored.waiting {
            out.waiting.push(out.hash(&attempt.ends), attempt);
        }
        for attempt in stored.opened {
            out.opened.push(out.hash(&attempt.ends), attempt);
        }
        out
    }
}

/// Forgets the oldest until there is room for one more; tells how many.
fn make_room(attempts: &mut Arrivals<Attempt>, max: usize) -> u64 {
    let mut forgotten = 0;
    while attempts.len() >= max
        && let Some((slot, _)) = attempts.oldest()
    {
        attempts.remove(slot);
        forgotten += 1;
    }
    forgotten
}

impl Ends {
    fn turned(self) -> Ends {
        Ends {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

impl Attempt {
    fn deadline(&self) -> Time {
        self.syn_at + ANSWER_WITHIN
    }

    fn row(&self, segment: &Segment, outcome: Outcome) -> ConnectionRow {
        ConnectionRow {
            at: segment.at,
            number: segment.number,
            ends: self.ends,
            outcome,
            duration: segment.at.since(self.syn_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(client: u32, port: u16) -> Ends {
        Ends {
            source: IpAddr::from(client.to_be_bytes()),
            destination: IpAddr::from([10, 0, 0, 5]),
            source_port: 40_000,
            destination_port: port,
        }
    }

    /// Milliseconds, the flags in letters, whether the server sent it, and the port.
    type Line<'a> = (i64, &'a str, bool, u16);

    fn segment((ms, letters, from_server, port): Line<'_>, number: u64) -> Segment {
        let flag = |letter| match letter {
            'S' => SYN,
            'A' => ACK,
            'F' => FIN,
            'R' => RST,
            _ => 8,
        };
        let ends = ends(0xc000_0207, port);
        Segment {
            at: Time::from_millis(ms),
            number,
            ends: if from_server { ends.turned() } else { ends },
            flags: letters.chars().map(flag).sum(),
        }
    }

    /// Gives packets in order, each after what was due, and then lets an hour pass.
    fn check(lines: &[Line<'_>], want: &[&str]) {
        let mut connections = Connections::new(9);
        let mut rows = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let segment = segment(*line, number as u64 + 1);
            while let Some(row) = connections.pop_due(segment.at) {
                rows.push(row);
            }
            rows.extend(connections.see(&segment));
            connections = Connections::load(connections.store(), 5);
        }
        while let Some(row) = connections.pop_due(Time::from_seconds(3_600)) {
            rows.push(row);
        }
        assert_eq!(connections.next_deadline(), None);
        let text = |row: &ConnectionRow| {
            let (at, port) = (row.at.as_millis(), row.ends.destination_port);
            assert_eq!(row.ends, ends(0xc000_0207, port));
            format!(
                "{at} {} {port} #{} {}",
                row.outcome.name(),
                row.number,
                row.duration.as_millis()
            )
        };
        assert_eq!(rows.iter().map(text).collect::<Vec<_>>(), want, "{lines:?}");
    }

    #[test]
    fn attempts_are_opened_refused_or_unanswered() {
        check(
            &[(0, "S", false, 80), (20, "SA", true, 80)],
            &["20 opened 80 #2 20"],
        );
        check(
            &[(0, "S", false, 80), (20, "RA", true, 80)],
            &["20 refused 80 #2 20"],
        );
        check(
            &[(0, "S", false, 80), (20, "R", true, 80)],
            &["20 refused 80 #2 20"],
        );
        check(&[(0, "S", false, 80)], &["3000 unanswered 80 #1 3000"]);
        // An answer at exactly the deadline is too late.
        check(
            &[(0, "S", false, 80), (3_000, "SA", true, 80)],
            &["3000 unanswered 80 #1 3000"],
        );
        check(
            &[(0, "S", false, 80), (2_999, "SA", true, 80)],
            &["2999 opened 80 #2 2999"],
        );
    }

    #[test]
    fn connections_end_once() {
        let opened = [(0, "S", false, 80), (20, "SA", true, 80)];
        let with = |more: &[Line<'static>]| [&opened[..], more].concat();
        check(
            &with(&[(500, "FA", false, 80), (510, "FA", true, 80)]),
            &["20 opened 80 #2 20", "500 ended 80 #3 500"],
        );
        check(
            &with(&[(500, "FA", true, 80), (510, "R", false, 80)]),
            &["20 opened 80 #2 20", "500 ended 80 #3 500"],
        );
        // A scanner that resets what it opened.
        check(
            &with(&[(21, "R", false, 80)]),
            &["20 opened 80 #2 20", "21 ended 80 #3 21"],
        );
    }

    #[test]
    fn a_syn_that_is_sent_again_counts_once() {
        check(
            &[
                (0, "S", false, 80),
                (1_000, "S", false, 80),
                (1_500, "SA", true, 80),
            ],
            &["1500 opened 80 #3 1500"],
        );
        // After its deadline it is another attempt.
        check(
            &[(0, "S", false, 80), (3_000, "S", false, 80)],
            &["3000 unanswered 80 #1 3000", "6000 unanswered 80 #2 3000"],
        );
        // So is one with the ends of a connection whose end nobody saw.
        check(
            &[
                (0, "S", false, 80),
                (10, "SA", true, 80),
                (5_000, "S", false, 80),
                (5_010, "RA", true, 80),
            ],
            &["10 opened 80 #2 10", "5010 refused 80 #4 10"],
        );
    }

    #[test]
    fn what_belongs_to_no_attempt_says_nothing() {
        check(
            &[
                (0, "SA", true, 80),
                (1, "R", true, 80),
                (2, "FA", false, 80),
                (3, "A", false, 80),
            ],
            &[],
        );
        // The client's own reset is no refusal.
        check(
            &[(0, "S", false, 80), (10, "R", false, 80)],
            &["3000 unanswered 80 #1 3000"],
        );
        // Flags that no stack sends.
        check(
            &[(0, "SF", false, 80), (1, "SR", false, 80), (2, "P", false, 80)],
            &[],
        );
    }

    #[test]
    fn attempts_are_due_in_the_order_of_their_syns() {
        check(
            &[
                (0, "S", false, 1),
                (1, "S", false, 2),
                (2, "S", false, 3),
                (10, "RA", true, 2),
            ],
            &[
                "10 refused 2 #4 9",
                "3000 unanswered 1 #1 3000",
                "3002 unanswered 3 #3 3000",
            ],
        );
    }

    #[test]
    fn a_flood_forgets_the_oldest_and_stays_within_its_bound() {
        let mut connections = Connections::new(1);
        let flood = 3 * WAITING_MAX as u32;
        for client in 0..flood {
            let segment = Segment {
                at: Time(i64::from(client)),
                number: u64::from(client),
                ends: ends(client, 80),
                flags: SYN,
            };
            assert_eq!(connections.see(&segment), None);
        }
        assert_eq!(
            (connections.waiting.len(), connections.evicted),
            (WAITING_MAX, 2 * WAITING_MAX as u64)
        );
        let first = connections.pop_due(Time::from_seconds(9)).unwrap();
        assert_eq!(first.number, u64::from(flood) - WAITING_MAX as u64);
    }

    #[test]
    fn ends_of_both_families_are_told_apart() {
        let mut connections = Connections::new(1);
        let ends = Ends {
            source: "2001:db8::7".parse().unwrap(),
            destination: "2001:db8::5".parse().unwrap(),
            source_port: 40_000,
            destination_port: 22,
        };
        let segment = |ends, flags| Segment {
            at: Time::EPOCH,
            number: 1,
            ends,
            flags,
        };
        connections.see(&segment(ends, SYN));
        let other = Ends {
            source: "2001:db8::8".parse().unwrap(),
            ..ends
        };
        assert_eq!(connections.see(&segment(other.turned(), SYN | ACK)), None);
        let row = connections.see(&segment(ends.turned(), SYN | ACK)).unwrap();
        assert_eq!((row.outcome, row.ends), (Outcome::Opened, ends));
    }
}
