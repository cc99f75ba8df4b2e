//! Sliding windows of one rule, one for each key: exactly what its condition can need, and no more.
//!
//! Windows are closed: a row exactly as old as the window counts. The time that they are given never falls. A condition
//! with a lower threshold than the rule's own is answered exactly as well; beyond the threshold what is measured is a lower
//! bound, as near as a sixteenth of the window.

mod buckets;
mod distinct;
mod queue;
mod rows;
mod table;

use watchfold_schemas::{Span, Time};

use super::compile::{Measure, WindowRule};
use super::print::Print;
use super::varint::{Reader, Writer};

pub use distinct::DistinctWindow;
pub use queue::{PartsWindow, QUEUE_MAX, QueueWindow};
pub use rows::RowsWindow;
pub use table::{Limits, Pushed, SHARDS, Table};

/// What every window of a rule has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub span: Span,
    /// The rule's own threshold: what has to be told apart below it.
    pub at_least: u64,
    /// Of a sum: into how many parts the window is cut.
    pub parts: Option<u32>,
}

/// A row as a window sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: Time,
    /// The packet's number.
    pub number: u64,
    /// What is added up, or the print of what is told apart.
    pub amount: u64,
}

/// The window of one key.
pub trait Window: Sized {
    fn new(plan: &Plan) -> Self;

    /// Takes a row and tells what is measured now.
    fn push(&mut self, plan: &Plan, entry: Entry) -> u64;

    /// Takes a value back, where values are told apart.
    fn withdraw(&mut self, _value: u64) {}

    /// When the last row came.
    fn last(&self) -> Time;

    /// How many rows or values are kept: what memory goes by.
    fn cells(&self) -> usize;

    /// Rows that went although they still counted, since the last call.
    fn take_dropped(&mut self) -> u64 {
        0
    }

    /// The number of the first packet that still counts, and how many count.
    fn causes(&self) -> (u64, u64);

    fn write(&self, out: &mut Writer);

    /// The reverse, for a window of the same plan; `None` for foreign bytes.
    fn read(plan: &Plan, bytes: &mut Reader<'_>) -> Option<Self>;
}

/// The windows of one rule at one capture point.
#[derive(Debug)]
pub enum Windows {
    Rows(Table<RowsWindow>),
    Distinct(Table<DistinctWindow>),
    Queue(Table<QueueWindow>),
    Parts(Table<PartsWindow>),
}

/// The same for each kind of window.
macro_rules! each {
    ($windows:expr, $table:ident => $body:expr) => {
        match $windows {
            Windows::Rows($table) => $body,
            Windows::Distinct($table) => $body,
            Windows::Queue($table) => $body,
            Windows::Parts($table) => $body,
        }
    };
}

impl Windows {
    pub fn new(rule: &WindowRule, limits: Limits) -> Windows {
        let mut plan = Plan {
            span: rule.span,
            at_least: rule.at_least,
            parts: None,
        };
        match rule.measure {
            Measure::Rows => Windows::Rows(Table::new(plan, limits)),
            Measure::Distinct(_) => Windows::Distinct(Table::new(plan, limits)),
            Measure::Sum { parts: None, .. } => Windows::Queue(Table::new(plan, limits)),
            Measure::Sum { parts, .. } => {
                plan.parts = parts;
                Windows::Parts(Table::new(plan, limits))
            }
        }
    }

    /// Takes one row; for rows that come one by one.
    pub fn push(&mut self, key: Print, entry: Entry) -> Pushed {
        each!(self, table => table.push(key, None, entry))
    }

    /// Takes back a value that was counted for a key.
    pub fn withdraw(&mut self, key: Print, value: u64) {
        each!(self, table => table.withdraw(key, value));
    }

    /// The first packet that counts in the window with this number, and how many count.
    pub fn causes(&self, number: u32) -> (u64, u64) {
        each!(self, table => table.causes(number))
    }

    /// Keys, and rows of exact sums, forgotten before their time, since the last call.
    pub fn take_evicted(&mut self) -> u64 {
        each!(self, table => std::mem::take(&mut table.evicted))
    }

    /// Other bounds, from the next row on.
    pub fn set_limits(&mut self, limits: Limits) {
        each!(self, table => table.set_limits(limits));
    }

    #[cfg(test)]
    pub fn keys(&self) -> usize {
        each!(self, table => table.keys())
    }

    /// Shards as they are stored: those that changed since [`Windows::mark_clean`], or all. An empty one holds nothing.
    pub fn store(&self, all: bool) -> Vec<(usize, Vec<u8>)> {
        each!(self, table => table.store(all))
    }

    /// What was stored is stored.
    pub fn mark_clean(&mut self) {
        each!(self, table => table.mark_clean());
    }

    /// Takes a stored shard over.
    pub fn load(&mut self, shard: usize, bytes: &[u8]) -> Option<()> {
        each!(self, table => table.load(shard, bytes))
    }
}

#[cfg(test)]
mod tests;
