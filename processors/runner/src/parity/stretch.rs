//! A stretch of a chain's records that is folded again, whatever bounds it: two digests, or a snapshot and what is kept.

use watchfold_schemas::Time;
use watchfold_schemas::event::Place;

use super::hours::Hour;
use crate::outbox::PUBLISH_EVENTS_MAX;
use crate::snapshot::Candidate;

/// Which records, and where their events are.
#[derive(Debug)]
pub(super) struct Stretch {
    /// By what it is known: the first instant of its hour, or of what its snapshot holds the last.
    pub(super) at: Time,
    /// Its events come after this place.
    pub(super) after: Place,
    /// The last place of its events.
    pub(super) to: Place,
    /// Where its events begin in the log of events.
    pub(super) events_from: u64,
    /// Where they end, once that is known.
    pub(super) events_to: Option<u64>,
    /// The first of the log of events that has to be read.
    pub(super) read_from: u64,
    /// Where a limit is met or records are gone, it may end earlier.
    pub(super) may_end_early: bool,
}

/// One to be checked.
pub(super) struct Picked {
    pub(super) stretch: Stretch,
    /// The state that it is folded from, or why it cannot be.
    pub(super) begins: Result<Candidate, String>,
}

impl Stretch {
    pub(super) fn of_hour(hour: &Hour) -> Stretch {
        Stretch {
            at: hour.end.digest.hour,
            after: hour.begin.place,
            to: hour.end.place,
            events_from: hour.begin.sequence,
            events_to: Some(hour.end.sequence),
            read_from: hour.begin.sequence.saturating_sub(MARGIN).max(1),
            may_end_early: false,
        }
    }

    /// What follows the record at `after`, up to the one at `to`, both of the chain's stream.
    pub(super) const fn of_records(at: Time, after: u64, to: u64) -> Stretch {
        Stretch {
            at,
            after: end_of(after),
            to: end_of(to),
            events_from: 1,
            events_to: None,
            read_from: 1,
            may_end_early: true,
        }
    }

    pub(super) fn holds(&self, place: Place) -> bool {
        self.after < place && place <= self.to
    }

    /// It ends with the record at this sequence. Nothing is left of it where that is not within it.
    pub(super) fn end_with(&mut self, sequence: u64) {
        self.to = self.to.min(end_of(sequence));
    }

    /// Where its last record is named.
    pub(super) const fn last(&self) -> Place {
        match self.to.index {
            u32::MAX => Place {
                input: self.to.input,
                index: 0,
            },
            _ => self.to,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.to <= self.after
    }
}

/// How far around a stretch its events may stand in the log: they were published in their order, but a transport may have
/// turned those of one append around.
pub(super) const MARGIN: u64 = PUBLISH_EVENTS_MAX as u64;

/// 2^64 divided by the golden ratio: the fractions of its multiples fall evenly everywhere.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which of `count` it is that turn.
pub(super) fn evenly(turn: u64, count: u64) -> u64 {
    let fraction = turn.wrapping_add(1).wrapping_mul(GOLDEN);
    ((u128::from(count) * u128::from(fraction)) >> 64) as u64
}

const fn end_of(input: u64) -> Place {
    Place {
        input,
        index: u32::MAX,
    }
}
