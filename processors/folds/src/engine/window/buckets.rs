//! A window cut into parts: what each part held, and what all parts held that are wholly within the window.

use std::collections::VecDeque;

use watchfold_schemas::{Span, Time};

use super::Entry;
use crate::engine::varint::{Reader, Writer};

/// Parts of equal length, counted from the epoch so that they do not depend on what came first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    width: i64,
    buckets: VecDeque<Bucket>,
    amount: u64,
    rows: u64,
    /// Where the newest part ends: most rows need no division.
    newest_ends: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    begins: i64,
    amount: u64,
    rows: u64,
    /// The number of its first packet.
    first: u64,
}

impl Buckets {
    pub fn new(span: Span, parts: u32) -> Buckets {
        let parts = i64::from(parts.max(1));
        Buckets {
            width: (span.0 / parts + i64::from(span.0 % parts != 0)).max(1),
            buckets: VecDeque::new(),
            amount: 0,
            rows: 0,
            newest_ends: i64::MIN,
        }
    }

    /// Adds a row that stands for `rows` and tells how much the parts since `from` hold.
    pub fn push(&mut self, from: Time, entry: Entry, rows: u64) -> u64 {
        self.expire(from);
        if entry.at.0 >= self.newest_ends {
            let begins = entry.at.0 - entry.at.0.rem_euclid(self.width);
            self.newest_ends = begins.saturating_add(self.width);
            self.buckets.push_back(Bucket {
                begins,
                amount: 0,
                rows: 0,
                first: entry.number,
            });
        }
        if let Some(newest) = self.buckets.back_mut() {
            newest.amount = newest.amount.saturating_add(entry.amount);
            newest.rows += rows;
            self.amount = self.amount.saturating_add(entry.amount);
            self.rows += rows;
        }
        self.amount
    }

    /// A part that begins before the window is not wholly within it.
    fn expire(&mut self, from: Time) {
        while let Some(oldest) = self.buckets.front().filter(|oldest| oldest.begins < from.0) {
            self.amount = self.amount.saturating_sub(oldest.amount);
            self.rows -= oldest.rows;
            self.buckets.pop_front();
        }
        if self.buckets.is_empty() {
            self.newest_ends = i64::MIN;
        }
    }

    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// The number of the first packet that counts, and how many count.
    pub fn causes(&self) -> Option<(u64, u64)> {
        self.buckets.front().map(|oldest| (oldest.first, self.rows))
    }

    pub fn write(&self, out: &mut Writer) {
        out.unsigned(self.buckets.len() as u64);
        let (mut begins, mut first) = (0, 0);
        for bucket in &self.buckets {
            out.signed(bucket.begins.wrapping_sub(begins));
            out.unsigned(bucket.amount);
            out.unsigned(bucket.rows);
            out.signed(bucket.first.wrapping_sub(first) as i64);
            (begins, first) = (bucket.begins, bucket.first);
        }
    }

    pub fn read(span: Span, parts: u32, bytes: &mut Reader<'_>) -> Option<Buckets> {
        let mut out = Buckets::new(span, parts);
        let (mut begins, mut first) = (0_i64, 0_u64);
        for _ in 0..bytes.length()? {
            begins = begins.wrapping_add(bytes.signed()?);
            let (amount, rows) = (bytes.unsigned()?, bytes.unsigned()?);
            first = first.wrapping_add_signed(bytes.signed()?);
            out.buckets.push_back(Bucket {
                begins,
                amount,
                rows,
                first,
            });
            out.amount = out.amount.saturating_add(amount);
            out.rows = out.rows.saturating_add(rows);
            out.newest_ends = begins.saturating_add(out.width);
        }
        Some(out)
    }
}
