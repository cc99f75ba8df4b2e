//! The rows of the site chain: records of collectors hold many of them, each with a time of its own.
//!
//! A new kind of row is a variant here, with an arm in each method, and an accessor for the folds that use it. The merge,
//! the clocks and the other folds do not change.

use serde::{Deserialize, Serialize};
use watchfold_schemas::Time;
use watchfold_schemas::observation::{PingRow, PingRowRef};

use crate::merge::Timed;

/// One row of a record.
#[derive(Clone, Copy, Debug)]
pub enum Row<'a> {
    /// One probe of one address.
    Ping(PingRowRef<'a>),
}

/// A row that waits for its collector's `through` to pass it, as state holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingRow {
    Ping(PingRow),
}

impl<'a> Row<'a> {
    pub fn ping(&self) -> Option<&PingRowRef<'a>> {
        match self {
            Row::Ping(row) => Some(row),
        }
    }

    pub fn to_waiting(self) -> WaitingRow {
        match self {
            Row::Ping(row) => WaitingRow::Ping(row.to_row()),
        }
    }
}

impl Timed for Row<'_> {
    fn at(&self) -> Time {
        match self {
            Row::Ping(row) => row.at,
        }
    }
}

impl WaitingRow {
    pub fn as_row(&self) -> Row<'_> {
        match self {
            WaitingRow::Ping(row) => Row::Ping(row.as_row()),
        }
    }
}
