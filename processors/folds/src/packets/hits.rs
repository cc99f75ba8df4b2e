//! What rules found in one record, in the order in which it happened: by row, and for each row by rule.

use watchfold_schemas::Time;
use watchfold_schemas::alert::Tier;

use super::extract::connections::ConnectionRow;
use super::extract::neighbours::NeighbourFact;

/// A row that made a rule fire, or brought it near.
#[derive(Clone, Debug)]
pub struct Hit {
    pub place: Place,
    pub rule: u16,
    pub at: Time,
    /// The packet that made the row.
    pub number: u64,
    pub what: What,
    pub observed: u64,
    pub threshold: u64,
    pub tier: Tier,
    /// The first packet that counted, and how many did.
    pub first: u64,
    pub total: u64,
    /// It holds; otherwise it is near enough that somebody may be asked.
    pub holds: bool,
    /// Somebody may be asked about its reputation's subject.
    pub asks: bool,
}

/// Which row it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Packet(u16),
    /// Its number in [`Found::attempts`].
    Attempt(u32),
    /// Its number in [`Found::announcements`].
    Announcement(u32),
}

/// When in a record something happens: what time alone brings comes before the row of the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    row: u32,
    is_row: bool,
    /// Among what time brings before one row, or what one row brings.
    number: u32,
}

impl Place {
    pub const fn of_row(row: u16) -> Place {
        Place {
            row: row as u32,
            is_row: true,
            number: 0,
        }
    }

    /// What a row leads to, after the row itself.
    pub const fn through_row(row: u16, number: u32) -> Place {
        Place {
            row: row as u32,
            is_row: true,
            number: number + 1,
        }
    }

    /// Before this row, or at the end of the record where there is none.
    pub const fn before_row(row: u32, number: u32) -> Place {
        Place {
            row,
            is_row: false,
            number,
        }
    }
}

/// An attempt to connect of which something became.
#[derive(Clone, Copy, Debug)]
pub struct Attempted {
    pub place: Place,
    pub row: ConnectionRow,
    /// Time alone brought it, and no packet.
    pub is_due: bool,
}

/// Everything that a record holds beside its packets, and what rules made of all of it.
#[derive(Debug, Default)]
pub struct Found {
    pub attempts: Vec<Attempted>,
    /// With the packet's number.
    pub announcements: Vec<(NeighbourFact, u64)>,
    pub hits: Vec<Hit>,
}

impl Found {
    /// Puts hits in the order in which they happened.
    pub fn sort(&mut self) {
        // Rules were tried one after the other, so a rule's hits are in order already.
        let is_sorted = self.hits.is_sorted_by_key(|hit| (hit.place, hit.rule));
        if !is_sorted {
            self.hits.sort_by_key(|hit| (hit.place, hit.rule));
        }
    }
}
