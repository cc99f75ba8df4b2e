//! How many rows: a ring of the last `threshold` times says exactly whether so many lie within the window.

use std::collections::VecDeque;

use watchfold_schemas::Time;

use super::buckets::Buckets;
use super::{Entry, Plan, Window};
use crate::engine::varint::{Reader, Writer};

/// Into how many parts a window is cut for what lies beyond the threshold.
pub const PARTS_BEYOND: u32 = 16;

/// The window of one key. What lies beyond the threshold is counted in parts while the threshold is reached.
#[derive(Clone, Debug)]
pub struct RowsWindow {
    ring: VecDeque<(Time, u64)>,
    beyond: Option<Box<Buckets>>,
}

impl Window for RowsWindow {
    fn new(_plan: &Plan) -> RowsWindow {
        RowsWindow {
            ring: VecDeque::new(),
            beyond: None,
        }
    }

    fn push(&mut self, plan: &Plan, entry: Entry) -> u64 {
        let from = entry.at - plan.span;
        while self.ring.front().is_some_and(|(at, _)| *at < from) {
            self.ring.pop_front();
        }
        let was_full = self.ring.len() as u64 >= plan.at_least;
        if was_full {
            self.ring.pop_front();
        }
        self.ring.push_back((entry.at, entry.number));
        let kept = self.ring.len() as u64;
        if kept < plan.at_least {
            self.beyond = None;
            return kept;
        }
        let one = Entry { amount: 1, ..entry };
        let counted = match &mut self.beyond {
            Some(beyond) => beyond.push(from, one, 1),
            None => {
                let mut beyond = Box::new(Buckets::new(plan.span, PARTS_BEYOND));
                for (at, number) in &self.ring {
                    let entry = Entry {
                        at: *at,
                        number: *number,
                        amount: 1,
                    };
                    beyond.push(from, entry, 1);
                }
                let counted = beyond.amount();
                self.beyond = Some(beyond);
                counted
            }
        };
        counted.max(kept)
    }

    fn last(&self) -> Time {
        self.ring.back().map_or(Time(i64::MIN), |(at, _)| *at)
    }

    fn cells(&self) -> usize {
        self.ring.len() + self.beyond.as_ref().map_or(0, |beyond| beyond.len())
    }

    fn causes(&self) -> (u64, u64) {
        let kept = (
            self.ring.front().map_or(0, |(_, number)| *number),
            self.ring.len() as u64,
        );
        let counted = self.beyond.as_ref().and_then(|beyond| beyond.causes());
        counted.filter(|(_, rows)| *rows > kept.1).unwrap_or(kept)
    }

    fn write(&self, out: &mut Writer) {
        out.unsigned(self.ring.len() as u64);
        let (mut last_at, mut last_number) = (0, 0);
        for (at, number) in &self.ring {
            out.signed(at.0.wrapping_sub(last_at));
            out.signed(number.wrapping_sub(last_number) as i64);
            (last_at, last_number) = (at.0, *number);
        }
        out.unsigned(u64::from(self.beyond.is_some()));
        if let Some(beyond) = &self.beyond {
            beyond.write(out);
        }
    }

    fn read(plan: &Plan, bytes: &mut Reader<'_>) -> Option<RowsWindow> {
        let mut out = RowsWindow::new(plan);
        let (mut at, mut number) = (0_i64, 0_u64);
        for _ in 0..bytes.length()? {
            at = at.wrapping_add(bytes.signed()?);
            number = number.wrapping_add_signed(bytes.signed()?);
            out.ring.push_back((Time(at), number));
        }
        if bytes.unsigned()? == 1 {
            out.beyond = Some(Box::new(Buckets::read(plan.span, PARTS_BEYOND, bytes)?));
        }
        Some(out)
    }
}
