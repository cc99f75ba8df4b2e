//! The windows of all keys of one rule, within bounds: which keys are forgotten when there are too many, and how they are
//! stored, in shards of which only those that changed are written.

use watchfold_schemas::{Span, Time};

use super::{Entry, Plan, Window};
use crate::engine::keyed::Keyed;
use crate::engine::print::Print;
use crate::engine::varint::{Reader, Writer};

/// Into how many shards the stored windows of a rule are cut.
pub const SHARDS: usize = 64;

/// Windows in which nothing counts any more are looked for this often, or once a window where that is longer.
const SWEEP_EVERY: Span = Span::from_seconds(60);

/// The shard that holds no windows but when the next sweep is.
const META: usize = SHARDS;

/// The bounds of one rule at one capture point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub keys: usize,
    /// Rows or values kept for all keys together, each of 16 to 40 bytes.
    pub cells: usize,
}

/// What a row did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The number of its key's window, until the next row.
    pub window: u32,
    pub observed: u64,
}

/// Windows by key.
#[derive(Debug)]
pub struct Table<W> {
    plan: Plan,
    limits: Limits,
    windows: Keyed<W>,
    cells: usize,
    next_sweep: Option<Time>,
    /// Shards that changed since they were stored, one bit each.
    dirty: u64,
    /// Keys forgotten before their time, and rows of a sum that had too many.
    pub evicted: u64,
}

impl<W: Window> Table<W> {
    pub fn new(plan: Plan, limits: Limits) -> Table<W> {
        Table {
            plan,
            limits,
            windows: Keyed::default(),
            cells: 0,
            next_sweep: None,
            dirty: 0,
            evicted: 0,
        }
    }

    #[cfg(test)]
    pub fn keys(&self) -> usize {
        self.windows.len()
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub fn causes(&self, window: u32) -> (u64, u64) {
        self.windows.at(window as usize).causes()
    }

    /// Where the window of a key is until the next row, if there is one.
    pub fn find(&self, key: Print) -> Option<u32> {
        self.windows.find(key).map(|number| number as u32)
    }

    /// Takes a row of this key. `hint` is where its window was last time, if the caller remembers.
    pub fn push(&mut self, key: Print, hint: Option<u32>, entry: Entry) -> Pushed {
        self.sweep_now_and_then(entry.at);
        let hinted = hint
            .map(|hint| hint as usize)
            .filter(|hint| self.windows.is_at(*hint, key));
        let mut number = match hinted.or_else(|| self.windows.find(key)) {
            Some(number) => number,
            None => {
                if self.windows.len() >= self.limits.keys {
                    self.make_room(entry.at, None);
                }
                self.windows.seed(seed_of(entry.at, entry.number));
                self.windows.insert(key, W::new(&self.plan))
            }
        };
        let window = self.windows.at_mut(number);
        let before = window.cells();
        let observed = window.push(&self.plan, entry);
        self.evicted += window.take_dropped();
        self.cells = self.cells + window.cells() - before;
        self.dirty |= 1 << shard_of(key);
        if self.cells > self.limits.cells {
            self.make_room(entry.at, Some(key));
            number = self.windows.find(key).unwrap_or(number);
        }
        Pushed {
            window: number as u32,
            observed,
        }
    }

    /// Takes a value of this key back.
    pub fn withdraw(&mut self, key: Print, value: u64) {
        if let Some(number) = self.windows.find(key) {
            let window = self.windows.at_mut(number);
            let before = window.cells();
            window.withdraw(value);
            self.cells = self.cells + window.cells() - before;
            self.dirty |= 1 << shard_of(key);
        }
    }

    fn sweep_now_and_then(&mut self, at: Time) {
        match self.next_sweep {
            Some(next) if at < next => return,
            Some(_) => self.sweep(at),
            None => {}
        }
        self.next_sweep = Some(at + SWEEP_EVERY.max(self.plan.span));
    }

    /// Forgets windows in which nothing counts any more; no condition can tell.
    fn sweep(&mut self, at: Time) {
        let from = at - self.plan.span;
        self.keep(|_, window| window.last() >= from);
    }

    fn keep(&mut self, keep: impl Fn(Print, &W) -> bool) -> usize {
        let (before, mut cells, mut dirty) = (self.windows.len(), 0, 0);
        self.windows.sweep(|key, window| {
            let kept = keep(key, window);
            if kept {
                cells += window.cells();
            } else {
                dirty |= 1 << shard_of(key);
            }
            kept
        });
        self.cells = cells;
        self.dirty |= dirty;
        before - self.windows.len()
    }

    /// Forgets what is longest ago, by time and then by key, until a quarter of what is allowed is free. The key whose row
    /// is at hand stays.
    fn make_room(&mut self, at: Time, current: Option<Print>) {
        self.sweep(at);
        let (keys_max, cells_max) = (self.limits.keys / 4 * 3, self.limits.cells / 4 * 3);
        if self.windows.len() <= keys_max && self.cells <= cells_max {
            return;
        }
        let mut by_age: Vec<_> = self
            .windows
            .iter()
            .filter(|(key, _)| Some(*key) != current)
            .map(|(key, window)| (window.last(), key, window.cells()))
            .collect();
        by_age.sort_unstable();
        let (mut keys, mut cells) = (self.windows.len(), self.cells);
        let going = by_age.iter().take_while(|(_, _, of_key)| {
            let goes = keys > keys_max || cells > cells_max;
            if goes {
                keys -= 1;
                cells -= of_key;
            }
            goes
        });
        if let Some((last, key, _)) = going.last() {
            let oldest_kept = (*last, *key);
            let evicted = self.keep(|key, window| Some(key) == current || (window.last(), key) > oldest_kept);
            self.evicted += evicted as u64;
        }
    }

    pub fn store(&self, all: bool) -> Vec<(usize, Vec<u8>)> {
        let mut windows: Vec<_> = self
            .windows
            .iter()
            .map(|(key, window)| (shard_of(key), key, window))
            .filter(|(shard, _, _)| all || self.dirty & (1 << shard) != 0)
            .collect();
        windows.sort_unstable_by_key(|(shard, key, _)| (*shard, *key));
        let mut shards: Vec<(usize, Writer)> = (0..SHARDS)
            .filter(|shard| all || self.dirty & (1 << shard) != 0)
            .map(|shard| (shard, Writer::default()))
            .collect();
        let mut stored = shards.iter_mut().peekable();
        for (shard, key, window) in windows {
            while stored.next_if(|(at, _)| *at < shard).is_some() {}
            if let Some((_, out)) = stored.peek_mut() {
                out.fixed(key.0);
                out.fixed(key.1);
                window.write(out);
            }
        }
        let mut out: Vec<_> = shards
            .into_iter()
            .map(|(shard, writer)| (shard, writer.0))
            .collect();
        if let Some(next) = self.next_sweep.filter(|_| all || self.dirty != 0) {
            let mut meta = Writer::default();
            meta.signed(next.0);
            out.push((META, meta.0));
        }
        out
    }

    pub fn mark_clean(&mut self) {
        self.dirty = 0;
    }

    /// Takes a stored shard over; `None` for bytes that are none.
    pub fn load(&mut self, shard: usize, bytes: &[u8]) -> Option<()> {
        let mut bytes = Reader(bytes);
        if shard == META {
            self.next_sweep = Some(Time(bytes.signed()?));
            return Some(());
        }
        while !bytes.0.is_empty() {
            let key = Print(bytes.fixed()?, bytes.fixed()?);
            let window = W::read(&self.plan, &mut bytes)?;
            if self.windows.find(key).is_some() {
                return None;
            }
            self.cells += window.cells();
            self.windows.seed(seed_of(window.last(), window.causes().0));
            self.windows.insert(key, window);
        }
        Some(())
    }
}

/// When a packet was captured, to the nanosecond, and its number: what nobody who sends packets knows.
fn seed_of(at: Time, number: u64) -> Print {
    Print::of_number(at.0).with(Print::of_number(number as i64))
}

fn shard_of(key: Print) -> usize {
    (key.1 >> 58) as usize
}
