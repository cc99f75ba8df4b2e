//! How far the time of a capture file has come. Pure.
//!
//! Packets of a file may be out of order, and a single one may have a time far ahead of all others. What comes after a packet
//! tells which it is: time goes on only to where most of the next packets are too.

use std::collections::VecDeque;

use watchfold_schemas::{Span, Time};

/// The order of packets is put right within this; beyond it they are counted.
pub const ORDER_WITHIN: Span = Span::from_seconds(1);

/// How many packets are looked at before it is known what one says of time.
pub const LOOK_AHEAD: usize = 8;

/// The time of a file, packet by packet.
#[derive(Clone, Debug, Default)]
pub struct FileTime {
    /// The packets whose successors are not all known, in the order in which they were read.
    undecided: VecDeque<Time>,
    reached: Option<Time>,
    /// Packets with a time ahead of those after them by more than [`ORDER_WITHIN`]; time does not follow them.
    pub ahead: u64,
    /// Packets with a time behind those before them by more than [`ORDER_WITHIN`].
    pub late: u64,
}

impl FileTime {
    /// Takes the next packet. Says whether one more is decided.
    pub fn push(&mut self, at: Time) -> bool {
        self.undecided.push_back(at);
        self.undecided.len() > LOOK_AHEAD && self.decide()
    }

    /// Decides the next one although nothing may come after it; `false` where none is left.
    pub fn decide(&mut self) -> bool {
        let Some(at) = self.undecided.pop_front() else {
            return false;
        };
        let is_later = self.reached.is_none_or(|reached| at > reached);
        if is_later && self.is_ahead(at) {
            self.ahead += 1;
            return true;
        }
        let reached = self.reached.map_or(at, |reached| reached.max(at));
        self.late += u64::from(reached.since(at) > ORDER_WITHIN);
        self.reached = Some(reached);
        true
    }

    /// Whether most of the next packets are earlier. Half of them usually tell that they are not.
    fn is_ahead(&self, at: Time) -> bool {
        let half = self.undecided.len().div_ceil(2);
        let not_earlier = |next: &&Time| at.since(**next) <= ORDER_WITHIN;
        self.undecided.iter().filter(not_earlier).take(half).count() < half
    }

    /// Where time has come to with the packets that are decided.
    pub fn reached(&self) -> Option<Time> {
        self.reached
    }

    /// The last packet that was read, or what time had come to before.
    pub fn last(&self) -> Option<Time> {
        self.undecided.back().copied().max(self.reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of packets; where time has come to after each, and how many were ahead and late.
    fn check(seconds: &[i64], want: &[Option<i64>], counts: (u64, u64)) {
        let mut time = FileTime::default();
        let mut reached = Vec::new();
        for second in seconds {
            if time.push(Time::from_seconds(*second)) {
                reached.push(time.reached());
            }
        }
        while time.decide() {
            reached.push(time.reached());
        }
        let want: Vec<_> = want.iter().map(|second| second.map(Time::from_seconds)).collect();
        assert_eq!(reached, want, "{seconds:?}");
        assert_eq!((time.ahead, time.late), counts, "{seconds:?}");
    }

    #[test]
    fn time_follows_packets_in_order_and_over_gaps() {
        check(&[1, 2, 3], &[Some(1), Some(2), Some(3)], (0, 0));
        check(
            &[1, 9_000, 90_000, 90_001],
            &[Some(1), Some(9_000), Some(90_000), Some(90_001)],
            (0, 0),
        );
        check(&[5], &[Some(5)], (0, 0));
        check(&[], &[], (0, 0));
    }

    #[test]
    fn time_does_not_follow_a_packet_far_ahead() {
        check(&[1, 9_000, 2, 3], &[Some(1), Some(1), Some(2), Some(3)], (1, 0));
        check(&[9_000, 1, 2], &[None, Some(1), Some(2)], (1, 0));
        check(&[1, 2, 9_000, 3], &[Some(1), Some(2), Some(2), Some(3)], (1, 0));
        check(
            &[1, 9_000, 9_001, 9_002, 2, 3, 4, 5, 6],
            &[
                Some(1),
                Some(1),
                Some(1),
                Some(1),
                Some(2),
                Some(3),
                Some(4),
                Some(5),
                Some(6),
            ],
            (3, 0),
        );
        // Nothing after it says otherwise.
        check(&[1, 9_000], &[Some(1), Some(9_000)], (0, 0));
    }

    #[test]
    fn a_late_packet_takes_nothing_back() {
        check(
            &[10, 11, 2, 12, 13],
            &[Some(10), Some(11), Some(11), Some(12), Some(13)],
            (0, 1),
        );
    }
}
