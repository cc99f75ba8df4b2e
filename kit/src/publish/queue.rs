//! Observations on their way to the log, in order and bounded. What overflows is replaced by one gap.
//!
//! Nothing here has a number yet: numbers are given when a record is first sent, so a dropped one leaves no hole.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use watchfold_log::Ack;
use watchfold_schemas::observation::Gap;
use watchfold_schemas::{Body, Stream, Time};

use crate::KitError;

/// The most records that wait for the log: half an hour of a collector that publishes five a second, and little
/// memory beside [`QUEUE_BYTES_MAX`].
pub const QUEUE_RECORDS_MAX: usize = 8_192;

/// The most encoded bytes that wait for the log.
pub const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What is told when a published observation is durable, or lost.
pub(crate) type AckSender = oneshot::Sender<Result<Ack, KitError>>;

/// An observation without its number.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Counts what was queued; see [`crate::Publisher::flush`].
    pub ticket: u64,
    pub incarnation: u64,
    pub observed_at: Time,
    pub through: Time,
    /// Where it goes. A gap goes where what it stands for would have gone.
    pub stream: Stream,
    pub body: Body,
    /// Encoded size.
    pub bytes: usize,
    pub ack: Option<AckSender>,
}

#[derive(Debug)]
pub(crate) struct Queue {
    waiting: VecDeque<Pending>,
    bytes: usize,
    records_max: usize,
    bytes_max: usize,
    /// `through` of the last record taken, and its incarnation: where a loss at the front would begin.
    taken: Option<(u64, Time)>,
}

impl Queue {
    pub(crate) fn new(records_max: usize, bytes_max: usize) -> Queue {
        Queue {
            waiting: VecDeque::new(),
            bytes: 0,
            records_max,
            bytes_max,
            taken: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends, and drops the oldest while there is too much. Returns how many observations were dropped.
    pub(crate) fn push(&mut self, pending: Pending) -> u64 {
        self.bytes += pending.bytes;
        self.waiting.push_back(pending);
        let mut dropped = 0;
        while self.waiting.len() > 2 && (self.waiting.len() > self.records_max || self.bytes > self.bytes_max)
        {
            dropped += self.drop_oldest();
        }
        dropped
    }

    /// The incarnation of the oldest record.
    pub(crate) fn incarnation(&self) -> Option<u64> {
        self.waiting.front().map(|front| front.incarnation)
    }

    /// The first records of this incarnation, at most `records` and about `bytes`, at least one.
    pub(crate) fn take(&mut self, incarnation: u64, records: usize, bytes: usize) -> Vec<Pending> {
        let mut taken = Vec::new();
        let mut taken_bytes = 0;
        while let Some(front) = self.waiting.front() {
            if front.incarnation != incarnation {
                break;
            }
            if !taken.is_empty() && (taken.len() >= records || taken_bytes + front.bytes > bytes) {
                break;
            }
            taken_bytes += front.bytes;
            taken.extend(self.waiting.pop_front());
        }
        self.bytes -= taken_bytes;
        if let Some(last) = taken.last() {
            self.taken = Some((last.incarnation, last.through));
        }
        taken
    }

    pub(crate) fn clear(&mut self) -> Vec<Pending> {
        self.bytes = 0;
        self.waiting.drain(..).collect()
    }

    /// The two oldest records of one stream: each stream has a gap of its own.
    fn oldest_pair(&self) -> Option<(usize, usize)> {
        self.waiting.iter().enumerate().find_map(|(second, pending)| {
            let of_stream = |other: &Pending| other.stream == pending.stream;
            let first = self.waiting.iter().take(second).position(of_stream)?;
            Some((first, second))
        })
    }

    /// Replaces the two oldest records of a stream by one gap, in the place of the second.
    fn drop_oldest(&mut self) -> u64 {
        let mut dropped = 0;
        let mut gap: Option<Gap> = None;
        let mut last = None;
        let Some((first, second)) = self.oldest_pair() else {
            return 0;
        };
        for place in [first, second - 1] {
            let Some(mut pending) = self.waiting.remove(place) else {
                break;
            };
            self.bytes -= pending.bytes;
            if let Some(ack) = pending.ack.take() {
                // Whoever awaited it may be gone; then nobody needs to know.
                let _ = ack.send(Err(KitError::Overflow));
            }
            let (from, records) = match &pending.body {
                Body::Gap(gap) => (gap.from, gap.records),
                _ => {
                    dropped += 1;
                    (self.start_of_loss(&pending), 1)
                }
            };
            let earlier = gap
                .take()
                .map_or((from, 0), |gap: Gap| (gap.from.min(from), gap.records));
            gap = Some(Gap {
                from: earlier.0.min(pending.through),
                to: pending.through,
                records: records + earlier.1,
                reason: "the log took nothing until the queue was full".to_owned(),
            });
            last = Some(pending);
        }
        if let (Some(last), Some(gap)) = (last, gap) {
            self.bytes += last.bytes;
            let pending = Pending {
                body: Body::Gap(gap),
                ack: None,
                ..last
            };
            self.waiting.insert(second - 1, pending);
        }
        dropped
    }

    /// What was known complete before the oldest record: `through` of the one sent before it in its incarnation.
    fn start_of_loss(&self, pending: &Pending) -> Time {
        match self.taken {
            Some((incarnation, through)) if incarnation == pending.incarnation => through,
            _ => pending.through,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(second: i64, bytes: usize) -> Pending {
        let at = Time::from_seconds(second);
        Pending {
            ticket: 0,
            incarnation: 1,
            observed_at: at,
            through: at,
            stream: Stream::Observations,
            body: Body::Quiet,
            bytes,
            ack: None,
        }
    }

    fn shape(queue: &mut Queue) -> Vec<String> {
        let describe = |pending: &Pending| match &pending.body {
            Body::Gap(gap) => {
                format!(
                    "gap {}..{} of {}",
                    gap.from.as_seconds(),
                    gap.to.as_seconds(),
                    gap.records
                )
            }
            _ => pending.through.as_seconds().to_string(),
        };
        queue
            .take(1, usize::MAX, usize::MAX)
            .iter()
            .map(describe)
            .collect()
    }

    #[test]
    fn overflow_leaves_one_gap_before_the_newest() {
        let mut queue = Queue::new(3, 1_000);
        let dropped: u64 = (1..=3).map(|second| queue.push(pending(second, 10))).sum();
        assert_eq!(dropped, 0);
        assert_eq!(queue.take(1, 1, 1_000).len(), 1);
        let dropped: u64 = (4..=8).map(|second| queue.push(pending(second, 10))).sum();
        assert_eq!(dropped, 5);
        assert_eq!(shape(&mut queue), ["gap 1..6 of 5", "7", "8"]);
        assert_eq!((queue.len(), queue.bytes), (0, 0));
    }

    #[test]
    fn each_stream_has_a_gap_of_its_own() {
        let mut queue = Queue::new(4, 1_000);
        for second in 1..=8 {
            let stream = match second % 4 {
                0 => Stream::Observations,
                _ => Stream::Packets,
            };
            queue.push(Pending {
                stream,
                ..pending(second, 10)
            });
        }
        let streams: Vec<Stream> = queue.waiting.iter().map(|pending| pending.stream).collect();
        use Stream::{Observations, Packets};
        assert_eq!(streams, [Observations, Packets, Packets, Observations]);
        assert_eq!(shape(&mut queue), ["4", "gap 1..6 of 5", "7", "8"]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut queue = Queue::new(100, 100);
        (1..=4).for_each(|second| {
            queue.push(pending(second, 40));
        });
        assert_eq!(shape(&mut queue), ["gap 1..3 of 3", "4"]);
    }

    #[test]
    fn a_batch_is_bounded_but_never_empty() {
        let mut queue = Queue::new(100, 1_000);
        (1..=5).for_each(|second| {
            queue.push(pending(second, 40));
        });
        assert_eq!(queue.take(1, 10, 80).len(), 2);
        assert_eq!(queue.take(1, 2, 1).len(), 1);
        assert_eq!(queue.take(1, 2, 1_000).len(), 2);
    }
}
