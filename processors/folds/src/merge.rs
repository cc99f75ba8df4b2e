//! Puts the rows of one collector into time order: those of a record, and those that waited for it.
//!
//! Of a row it knows when it was observed and in which order rows arrived, and nothing else.

use watchfold_schemas::Time;

/// The most rows of one collector that wait for `through` to pass them; more are folded at once, in time order.
pub const WAITING_ROWS_MAX: usize = 16_384;

/// What the merge knows of a row.
pub trait Timed {
    /// When it was observed, by its collector's clock.
    fn at(&self) -> Time;
}

/// Rows in time order; rows of one time are in the order in which they arrived.
#[derive(Debug, PartialEq)]
pub struct Merged<T> {
    pub rows: Vec<T>,
    /// Rows up to this time are folded now; later ones wait.
    pub until: Time,
    /// How many rows after `through` are folded now because too many would wait.
    pub forced: u64,
}

/// Merges `waiting`, which arrived first, with the rows of a record, which are in time order and complete up to `through`.
pub fn merge<T: Timed>(waiting: impl ExactSizeIterator<Item = T>, fresh: Vec<T>, through: Time) -> Merged<T> {
    let rows = match waiting.len() {
        0 => fresh,
        _ => {
            let mut rows: Vec<T> = waiting.chain(fresh).collect();
            rows.sort_by_key(Timed::at);
            rows
        }
    };
    let Some(last_folded) = rows.len().checked_sub(WAITING_ROWS_MAX + 1) else {
        return Merged {
            rows,
            until: through,
            forced: 0,
        };
    };
    let forced = rows[..=last_folded].iter().filter(|row| row.at() > through);
    Merged {
        forced: forced.count() as u64,
        until: through.max(rows[last_folded].at()),
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two kinds that have nothing but their time in common.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Any {
        Check(i64, &'static str),
        Beat(i64),
    }

    impl Timed for Any {
        fn at(&self) -> Time {
            match self {
                Any::Check(at, _) | Any::Beat(at) => Time(*at),
            }
        }
    }

    #[test]
    fn rows_of_different_kinds_come_in_time_order_and_ties_as_they_arrived() {
        use Any::{Beat, Check};
        let waiting = [Check(5, "waited"), Beat(9)];
        let fresh = vec![Beat(4), Check(5, "new"), Beat(9), Check(12, "later")];
        let merged = merge(waiting.into_iter(), fresh, Time(9));
        let want = [
            Beat(4),
            Check(5, "waited"),
            Check(5, "new"),
            Beat(9),
            Beat(9),
            Check(12, "later"),
        ];
        assert_eq!(merged.rows, want);
        assert_eq!((merged.until, merged.forced), (Time(9), 0));
    }

    #[test]
    fn where_too_many_rows_would_wait_the_earliest_are_folded() {
        let waiting: Vec<Any> = (0..WAITING_ROWS_MAX as i64)
            .map(|at| Any::Beat(100 + at))
            .collect();
        let full = merge(waiting.clone().into_iter(), Vec::new(), Time(50));
        assert_eq!((full.until, full.forced), (Time(50), 0));
        let one_more = merge(waiting.into_iter(), vec![Any::Beat(60), Any::Beat(101)], Time(50));
        assert_eq!((one_more.until, one_more.forced), (Time(100), 2));
    }
}
