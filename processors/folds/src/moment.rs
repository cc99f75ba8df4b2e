//! An instant by two clocks: the wall clock of whoever measures, and the same clock without jumps.

use serde::{Deserialize, Serialize};
use watchfold_schemas::{Span, Time};

/// An instant by the wall clock of its collector and by that collector's clock without jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Moment {
    pub at: Time,
    pub steady: Time,
}

impl Moment {
    /// By a clock whose wall time is `shift` ahead of its steady time.
    pub fn of_wall(at: Time, shift: Span) -> Moment {
        Moment {
            at,
            steady: at - shift,
        }
    }

    /// The same from a steady time.
    pub fn of_steady(steady: Time, shift: Span) -> Moment {
        Moment {
            at: steady + shift,
            steady,
        }
    }

    /// Whether it is not before `other`. Steady times of one clock are exact; between two clocks the wall decides.
    pub fn not_before(self, other: Moment, same_clock: bool) -> bool {
        if same_clock {
            self.steady >= other.steady
        } else {
            self.at >= other.at
        }
    }
}
