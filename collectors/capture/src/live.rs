//! Packets of a running capture on their way to batches: numbered, with times of the collector's own clock. Pure.
//!
//! It does not read packets and does not publish.

use watchfold_kit::Stamp;
use watchfold_schemas::packets::{CaptureCounts, CaptureSource, PacketBatch};
use watchfold_schemas::{Span, Time};

use crate::batch::{BatchBuilder, BatchLimits, Pushed};
use crate::parse::{LinkType, decode};
use crate::tap::Raw;

/// The kernel may hand a packet over later than one captured after it, by so much and no more: what is older was
/// stamped before the wall clock was set.
const LATE_MAX: Span = Span::from_seconds(1);

/// The collector's clock at one reading, beside the wall clock by which the kernel stamps packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub stamp: Stamp,
    pub wall: Time,
}

/// The batch under way.
pub(crate) struct LiveBatch {
    builder: BatchBuilder,
    link: LinkType,
    reading: Reading,
    /// The reading under which the batch began.
    begun: Option<Reading>,
    /// Steps of the clock so far; each begins a new numbering.
    epoch: u64,
    /// Of the last packet.
    number: u64,
    /// The greatest time of a packet in this numbering.
    latest: Option<Time>,
    pub counts: CaptureCounts,
}

/// A batch as it is to be published under this stamp.
pub(crate) struct Finished {
    batch: PacketBatch,
    begun: Option<Reading>,
    /// Packets, those without a row included.
    packets: u64,
}

impl LiveBatch {
    pub(crate) fn new(reading: Reading, head_ports: &[u16]) -> LiveBatch {
        LiveBatch {
            builder: BatchBuilder::new(CaptureSource::default(), head_ports),
            link: LinkType::from(0),
            reading,
            begun: None,
            epoch: reading.stamp.epoch(),
            number: 0,
            latest: None,
            counts: CaptureCounts::default(),
        }
    }

    /// What the packets to come are from; nothing may wait in the batch.
    pub(crate) fn set_source(&mut self, source: CaptureSource) {
        self.link = LinkType::from(source.link_type);
        self.builder.set_source(source);
    }

    /// The clock was read; packets that come now are placed by it.
    pub(crate) fn read_clock(&mut self, reading: Reading) {
        self.reading = reading;
    }

    /// When the batch began, if anything is in it.
    pub(crate) fn begun_at(&self) -> Option<Time> {
        self.begun.map(|reading| reading.stamp.now())
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn latest(&self) -> Option<Time> {
        self.latest
    }

    /// When the packet was captured, by the collector's clock. A time that is far ahead of the clock does not move what comes
    /// after it.
    pub(crate) fn time_of(&self, raw: &Raw<'_>) -> Time {
        let now = self.reading.stamp.now();
        let at = (now + Time(raw.wall_ns).since(self.reading.wall)).min(now + LATE_MAX);
        self.latest.map_or(at, |latest| at.max(latest - LATE_MAX))
    }

    /// Whether the packet can be added before the batch is finished.
    pub(crate) fn fits(&self, at: Time) -> bool {
        self.builder.fits(self.number + 1, at)
    }

    /// Adds a packet that fits.
    pub(crate) fn push(&mut self, at: Time, raw: &Raw<'_>) {
        self.number += 1;
        self.counts.received += 1;
        self.begun = self.begun.or(Some(self.reading));
        self.latest = Some(self.latest.map_or(at, |latest| latest.max(at)));
        match decode(self.link, raw.bytes, raw.wire_length) {
            Ok(packet) => {
                let pushed = self.builder.push(self.number, at, raw.wire_length, packet);
                debug_assert_eq!(pushed, Pushed::Taken, "whether it fits was asked before");
            }
            Err(_) => self.counts.undecoded += 1,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.builder.is_full()
    }

    pub(crate) fn len(&self) -> usize {
        self.builder.len()
    }

    /// What the log takes in one record is known.
    pub(crate) fn set_limits(&mut self, limits: BatchLimits) {
        self.builder.set_limits(limits);
    }

    /// The batch so far; no time in it is after `until`, which is now.
    pub(crate) fn finish(&mut self, until: Time) -> Finished {
        let mut batch = self.builder.take_at(until, self.number + 1, self.counts);
        if self.latest > Some(until) {
            cut_times(&mut batch, until);
            self.latest = Some(until);
        }
        let packets = match self.begun {
            Some(_) => (self.number + 1).saturating_sub(batch.first),
            None => 0,
        };
        Finished {
            batch,
            begun: self.begun.take(),
            packets,
        }
    }

    /// The finished batch was published after this many steps of the clock.
    pub(crate) fn published(&mut self, epoch: u64, packets: u64) {
        if epoch != self.epoch {
            (self.epoch, self.number, self.latest) = (epoch, packets, None);
        }
    }

    /// A batch was dropped: what comes now repeats nothing that was published.
    pub(crate) fn forget_repeats(&mut self) {
        self.builder.forget_repeats();
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Finished {
    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }

    /// The time of the first packet.
    pub(crate) fn begins_at(&self) -> Time {
        self.batch.base
    }

    /// The batch under the stamp of its record. After a step of the clock it is the first of a new incarnation: its
    /// packets are numbered from 1 and stand where the new clock would have seen them.
    pub(crate) fn under(mut self, stamp: &Stamp, epoch: u64) -> PacketBatch {
        if stamp.epoch() != epoch {
            let shift = self.begun.map_or(Span(0), |begun| {
                stamp.time_of(begun.stamp.moment()).since(begun.stamp.now())
            });
            self.batch.base = match self.batch.is_empty() {
                true => stamp.now(),
                false => self.batch.base + shift,
            };
            self.batch.first = 1;
            cut_times(&mut self.batch, stamp.now());
        }
        self.batch
    }
}

/// Puts what is later at this time.
fn cut_times(batch: &mut PacketBatch, until: Time) {
    batch.base = batch.base.min(until);
    let limit = i32::try_from(until.since(batch.base).0).unwrap_or(i32::MAX);
    for bytes in batch.at_ns.as_chunks_mut::<4>().0 {
        let offset = i32::from_le_bytes(*bytes).min(limit);
        *bytes = offset.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use watchfold_kit::ManualClock;

    use super::*;
    use crate::testing::tcp_frame;

    const START: Time = Time::from_seconds(1_000);

    fn batch_of(wall_offsets_ms: &[i64], until: Time) -> PacketBatch {
        let reading = Reading {
            stamp: Stamp::start(&ManualClock::at(START)),
            // The kernel's clock is 5 s ahead of the collector's.
            wall: START + Span::from_seconds(5),
        };
        let mut live = LiveBatch::new(reading, &[]);
        live.set_source(CaptureSource {
            link_type: 1,
            ..CaptureSource::default()
        });
        for offset in wall_offsets_ms {
            let frame = tcp_frame(80);
            let raw = Raw {
                wall_ns: (START + Span::from_seconds(5) + Span::from_millis(*offset)).0,
                wire_length: frame.len() as u32,
                bytes: &frame,
            };
            let at = live.time_of(&raw);
            assert!(live.fits(at));
            live.push(at, &raw);
        }
        live.finish(until).batch
    }

    fn offsets_ms(batch: &PacketBatch) -> Vec<i64> {
        let view = batch.view().unwrap();
        (0..view.len())
            .map(|row| view.at(row).since(START).as_millis())
            .collect()
    }

    #[test]
    fn packets_stand_on_the_collectors_clock() {
        let batch = batch_of(&[-30, -10, -20], START);
        assert_eq!(offsets_ms(&batch), [-30, -10, -20]);
        assert_eq!((batch.first, batch.counts.received), (1, 3));
    }

    #[test]
    fn no_packet_is_after_now_or_long_before_the_last() {
        let batch = batch_of(&[-30, 40, -5_000], START + Span::from_millis(7));
        assert_eq!(offsets_ms(&batch), [-30, 7, -960]);
    }

    #[test]
    fn a_packet_far_ahead_moves_none_after_it() {
        let batch = batch_of(&[-500, 3_600_000_000, -400], START + Span::from_seconds(1));
        assert_eq!(offsets_ms(&batch), [-500, 1_000, 0]);
    }

    #[test]
    fn a_step_of_the_clock_begins_a_new_numbering_where_the_new_clock_stands() {
        let clock = ManualClock::at(START);
        let stamp = Stamp::start(&clock);
        let mut live = LiveBatch::new(Reading { stamp, wall: START }, &[]);
        live.set_source(CaptureSource {
            link_type: 1,
            ..CaptureSource::default()
        });
        let frame = tcp_frame(80);
        let raw = Raw {
            wall_ns: START.0,
            wire_length: frame.len() as u32,
            bytes: &frame,
        };
        for _ in 0..3 {
            live.push(START, &raw);
        }
        live.finish(START);
        live.push(START, &raw);
        live.push(START, &raw);
        clock.advance(Span::from_millis(20));
        clock.step(Span::from_seconds(3_600));
        let finished = live.finish(START + Span::from_millis(20));
        assert_eq!(finished.packets(), 2);
        let later = stamp.next(&clock);
        let batch = finished.under(&later, stamp.epoch());
        let view = batch.view().unwrap();
        assert_eq!((view.number(0), view.number(1)), (1, 2));
        assert_eq!(
            view.at(1),
            START + Span::from_seconds(3_600),
            "20 ms before the new now"
        );
        live.published(later.epoch(), 2);
        live.push(START, &raw);
        assert_eq!(live.number(), 3);
    }

    #[test]
    fn an_empty_batch_stands_where_time_has_come_to() {
        let batch = batch_of(&[], START + Span::from_millis(7));
        assert_eq!(
            (batch.first, batch.base, batch.len()),
            (1, START + Span::from_millis(7), 0)
        );
    }
}
