//! What a fault did, in numbers. Counting only: what may be is asserted by the tests.

use std::fmt;

use watchfold_schemas::Span;

/// A record stored so much later than it was made was held up by a fault.
pub const DELAYED: Span = Span::from_seconds(1);

/// Lost, duplicated, delayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub observations: u64,
    /// Numbers that the log lacks and no gap accounts for.
    pub lost: u64,
    /// Numbers that gaps account for.
    pub in_gaps: u64,
    /// Records that stand in the log a second time; readers drop them.
    pub repeated: u64,
    /// Records behind a later one of their collector, those that stand twice aside.
    pub disordered: u64,
    /// Records stored more than [`DELAYED`] after they were made, and the longest that one took.
    pub delayed: u64,
    pub delay_max: Span,
    pub events: u64,
    /// Events that stand in the log a second time, and those behind a later one; readers put up with both.
    pub events_repeated: u64,
    pub events_disordered: u64,
    /// Messages that people see, and how many of them they see again.
    pub messages: u64,
    pub told_again: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.delay_max.0 as f64 / 1e9;
        write!(
            f,
            "{} observations: {} lost, {} in gaps, {} twice in the log, {} out of order, {} late by {:.1} s at most; \
             {} events: {} twice in the log, {} out of order; {} messages: {} told again",
            self.observations,
            self.lost,
            self.in_gaps,
            self.repeated,
            self.disordered,
            self.delayed,
            seconds,
            self.events,
            self.events_repeated,
            self.events_disordered,
            self.messages,
            self.told_again,
        )
    }
}
