//! How much in all: row by row where it has to be exact, in parts of the window where a bound on memory matters more.

use std::collections::VecDeque;

use watchfold_schemas::Time;

use super::buckets::Buckets;
use super::rows::PARTS_BEYOND;
use super::{Entry, Plan, Window};
use crate::engine::varint::{Reader, Writer};

/// The most rows of one key: 5,000,000 bytes in packets of 20. Where they are more the oldest go, and the sum is too low.
pub const QUEUE_MAX: usize = 262_144;

/// The newest rows, as many as it takes to reach the threshold.
#[derive(Clone, Debug)]
pub struct QueueWindow {
    queue: VecDeque<Entry>,
    sum: u64,
    beyond: Option<Box<Buckets>>,
    last: Time,
    /// Rows that still counted and went because they were too many.
    dropped: u64,
}

impl Window for QueueWindow {
    fn new(_plan: &Plan) -> QueueWindow {
        QueueWindow {
            queue: VecDeque::new(),
            sum: 0,
            beyond: None,
            last: Time(i64::MIN),
            dropped: 0,
        }
    }

    fn push(&mut self, plan: &Plan, entry: Entry) -> u64 {
        let from = entry.at - plan.span;
        self.last = entry.at;
        while self.queue.front().is_some_and(|oldest| oldest.at < from) {
            self.pop();
        }
        if entry.amount > 0 {
            self.queue.push_back(entry);
            self.sum = self.sum.saturating_add(entry.amount);
        }
        if self.sum < plan.at_least {
            self.beyond = None;
            if self.queue.len() > QUEUE_MAX {
                self.pop();
                self.dropped += 1;
            }
            return self.sum;
        }
        let counted = match &mut self.beyond {
            Some(beyond) => beyond.push(from, entry, 1),
            None => {
                let mut beyond = Box::new(Buckets::new(plan.span, PARTS_BEYOND));
                for entry in &self.queue {
                    beyond.push(from, *entry, 1);
                }
                let counted = beyond.amount();
                self.beyond = Some(beyond);
                counted
            }
        };
        let observed = counted.max(self.sum);
        while let Some(oldest) = self.queue.front()
            && (self.sum - oldest.amount >= plan.at_least || self.queue.len() > QUEUE_MAX)
        {
            self.pop();
        }
        observed
    }

    fn last(&self) -> Time {
        self.last
    }

    fn cells(&self) -> usize {
        self.queue.len() + self.beyond.as_ref().map_or(0, |beyond| beyond.len())
    }

    fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn causes(&self) -> (u64, u64) {
        let kept = (
            self.queue.front().map_or(0, |entry| entry.number),
            self.queue.len() as u64,
        );
        let counted = self.beyond.as_ref().and_then(|beyond| beyond.causes());
        counted.filter(|(_, rows)| *rows > kept.1).unwrap_or(kept)
    }

    fn write(&self, out: &mut Writer) {
        out.signed(self.last.0);
        out.unsigned(self.queue.len() as u64);
        let (mut last_at, mut last_number) = (0, 0);
        for entry in &self.queue {
            out.signed(entry.at.0.wrapping_sub(last_at));
            out.signed(entry.number.wrapping_sub(last_number) as i64);
            out.unsigned(entry.amount);
            (last_at, last_number) = (entry.at.0, entry.number);
        }
        out.unsigned(u64::from(self.beyond.is_some()));
        if let Some(beyond) = &self.beyond {
            beyond.write(out);
        }
    }

    fn read(plan: &Plan, bytes: &mut Reader<'_>) -> Option<QueueWindow> {
        let mut out = QueueWindow::new(plan);
        out.last = Time(bytes.signed()?);
        let (mut at, mut number) = (0_i64, 0_u64);
        for _ in 0..bytes.length()? {
            at = at.wrapping_add(bytes.signed()?);
            number = number.wrapping_add_signed(bytes.signed()?);
            let amount = bytes.unsigned()?;
            out.queue.push_back(Entry {
                at: Time(at),
                number,
                amount,
            });
            out.sum = out.sum.saturating_add(amount);
        }
        if bytes.unsigned()? == 1 {
            out.beyond = Some(Box::new(Buckets::read(plan.span, PARTS_BEYOND, bytes)?));
        }
        Some(out)
    }
}

impl QueueWindow {
    fn pop(&mut self) {
        if let Some(oldest) = self.queue.pop_front() {
            self.sum -= oldest.amount;
        }
    }
}

/// The sum of the parts that lie wholly within the window: too low by at most what the oldest part held.
#[derive(Clone, Debug)]
pub struct PartsWindow {
    buckets: Buckets,
    last: Time,
}

impl Window for PartsWindow {
    fn new(plan: &Plan) -> PartsWindow {
        PartsWindow {
            buckets: Buckets::new(plan.span, plan.parts.unwrap_or(PARTS_BEYOND)),
            last: Time(i64::MIN),
        }
    }

    fn push(&mut self, plan: &Plan, entry: Entry) -> u64 {
        self.last = entry.at;
        self.buckets.push(entry.at - plan.span, entry, 1)
    }

    fn last(&self) -> Time {
        self.last
    }

    fn cells(&self) -> usize {
        self.buckets.len()
    }

    fn causes(&self) -> (u64, u64) {
        self.buckets.causes().unwrap_or_default()
    }

    fn write(&self, out: &mut Writer) {
        out.signed(self.last.0);
        self.buckets.write(out);
    }

    fn read(plan: &Plan, bytes: &mut Reader<'_>) -> Option<PartsWindow> {
        let last = Time(bytes.signed()?);
        let buckets = Buckets::read(plan.span, plan.parts.unwrap_or(PARTS_BEYOND), bytes)?;
        Some(PartsWindow { buckets, last })
    }
}
