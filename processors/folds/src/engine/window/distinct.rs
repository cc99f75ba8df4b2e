//! How many different values: each with when it was last seen, in that order, so that the oldest go first.

use watchfold_schemas::Time;

use super::{Entry, Plan, Window};
use crate::engine::varint::{Reader, Writer};

/// No node, and an empty place of the index.
const NONE: u32 = u32::MAX;

/// Fewer values than this are found by looking at all of them.
const INDEX_FROM: usize = 17;

/// How many times its threshold a window tells apart, so that an attack shows how large it is.
const BEYOND: u64 = 8;

/// Where that stops, unless the threshold is higher.
const BEYOND_MAX: u64 = 1_024;

/// The window of one key.
#[derive(Clone, Debug)]
pub struct DistinctWindow {
    nodes: Vec<Node>,
    newest: u32,
    oldest: u32,
    /// The first of the nodes that hold nothing.
    free: u32,
    len: u32,
    /// Open addressing from a value to its node, once there are many.
    index: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    value: u64,
    last: Time,
    number: u64,
    newer: u32,
    older: u32,
}

fn values_max(plan: &Plan) -> u64 {
    plan.at_least
        .max(plan.at_least.saturating_mul(BEYOND).min(BEYOND_MAX))
}

impl Window for DistinctWindow {
    fn new(_plan: &Plan) -> DistinctWindow {
        DistinctWindow {
            nodes: Vec::new(),
            newest: NONE,
            oldest: NONE,
            free: NONE,
            len: 0,
            index: Vec::new(),
        }
    }

    fn push(&mut self, plan: &Plan, entry: Entry) -> u64 {
        let from = entry.at - plan.span;
        while self.node(self.oldest).is_some_and(|node| node.last < from) {
            self.remove_oldest();
        }
        let is_newest = self
            .node(self.newest)
            .is_some_and(|node| node.value == entry.amount);
        let known = if is_newest {
            Some(self.newest)
        } else {
            self.find(entry.amount)
        };
        match known {
            Some(number) => {
                if !is_newest {
                    self.unlink(number);
                    self.link_newest(number);
                }
                let node = &mut self.nodes[number as usize];
                (node.last, node.number) = (entry.at, entry.number);
            }
            None => {
                if u64::from(self.len) >= values_max(plan) {
                    self.remove_oldest();
                }
                self.insert(entry);
            }
        }
        u64::from(self.len)
    }

    fn withdraw(&mut self, value: u64) {
        if let Some(number) = self.find(value) {
            self.remove(number);
        }
    }

    fn last(&self) -> Time {
        self.node(self.newest).map_or(Time(i64::MIN), |node| node.last)
    }

    fn cells(&self) -> usize {
        self.len as usize
    }

    fn causes(&self) -> (u64, u64) {
        let first = self.node(self.oldest).map_or(0, |node| node.number);
        (first, u64::from(self.len))
    }

    fn write(&self, out: &mut Writer) {
        out.unsigned(u64::from(self.len));
        let (mut last_at, mut last_number) = (0, 0);
        let mut next = self.oldest;
        while let Some(node) = self.node(next) {
            out.fixed(node.value);
            out.signed(node.last.0.wrapping_sub(last_at));
            out.signed(node.number.wrapping_sub(last_number) as i64);
            (last_at, last_number) = (node.last.0, node.number);
            next = node.newer;
        }
    }

    fn read(plan: &Plan, bytes: &mut Reader<'_>) -> Option<DistinctWindow> {
        let mut out = DistinctWindow::new(plan);
        let (mut at, mut number) = (0_i64, 0_u64);
        for _ in 0..bytes.length()? {
            let amount = bytes.fixed()?;
            at = at.wrapping_add(bytes.signed()?);
            number = number.wrapping_add_signed(bytes.signed()?);
            if out.find(amount).is_some() {
                return None;
            }
            out.insert(Entry {
                at: Time(at),
                number,
                amount,
            });
        }
        Some(out)
    }
}

impl DistinctWindow {
    fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(number as usize)
    }

    fn find(&self, value: u64) -> Option<u32> {
        if self.index.is_empty() {
            // Freed nodes keep their value; only a linked one counts, and its neighbours or the ends know it.
            let is_it = |(number, node): (usize, &Node)| node.value == value && self.is_linked(number as u32);
            return self
                .nodes
                .iter()
                .enumerate()
                .position(is_it)
                .map(|number| number as u32);
        }
        self.place(value).map(|place| self.index[place])
    }

    fn is_linked(&self, number: u32) -> bool {
        let node = &self.nodes[number as usize];
        node.newer != NONE || self.newest == number
    }

    fn place(&self, value: u64) -> Option<usize> {
        let mask = self.index.len() - 1;
        let mut place = home_of(value) & mask;
        loop {
            match self.index[place] {
                NONE => return None,
                number if self.nodes[number as usize].value == value => return Some(place),
                _ => place = (place + 1) & mask,
            }
        }
    }

    fn insert(&mut self, entry: Entry) {
        let node = Node {
            value: entry.amount,
            last: entry.at,
            number: entry.number,
            newer: NONE,
            older: NONE,
        };
        let number = match self.node(self.free) {
            Some(free) => {
                let number = self.free;
                self.free = free.older;
                self.nodes[number as usize] = node;
                number
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        self.link_newest(number);
        self.len += 1;
        let len = self.len as usize;
        if len >= INDEX_FROM && len * 2 > self.index.len() {
            self.reindex();
        } else if !self.index.is_empty() {
            self.put(number);
        }
    }

    fn remove_oldest(&mut self) {
        if self.oldest != NONE {
            self.remove(self.oldest);
        }
    }

    fn remove(&mut self, number: u32) {
        if !self.index.is_empty() {
            self.take_out(self.nodes[number as usize].value);
        }
        self.unlink(number);
        self.nodes[number as usize].older = self.free;
        self.free = number;
        self.len -= 1;
        if self.len == 0 {
            // Nothing of it is worth its memory.
            *self = DistinctWindow {
                nodes: Vec::new(),
                newest: NONE,
                oldest: NONE,
                free: NONE,
                len: 0,
                index: Vec::new(),
            };
        }
    }

    fn unlink(&mut self, number: u32) {
        let Node { newer, older, .. } = self.nodes[number as usize];
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
        let node = &mut self.nodes[number as usize];
        (node.newer, node.older) = (NONE, NONE);
    }

    fn link_newest(&mut self, number: u32) {
        let before = std::mem::replace(&mut self.newest, number);
        self.nodes[number as usize].older = before;
        match self.nodes.get_mut(before as usize) {
            Some(node) => node.newer = number,
            None => self.oldest = number,
        }
    }

    fn reindex(&mut self) {
        let places = (self.len as usize * 4).next_power_of_two();
        self.index.clear();
        self.index.resize(places, NONE);
        let mut next = self.oldest;
        while let Some(node) = self.node(next) {
            let (number, newer) = (next, node.newer);
            self.put(number);
            next = newer;
        }
    }

    fn put(&mut self, number: u32) {
        let mask = self.index.len() - 1;
        let mut place = home_of(self.nodes[number as usize].value) & mask;
        while self.index[place] != NONE {
            place = (place + 1) & mask;
        }
        self.index[place] = number;
    }

    /// Empties the place of a value and moves up those that stand behind it for want of room.
    fn take_out(&mut self, value: u64) {
        let Some(mut hole) = self.place(value) else {
            return;
        };
        let mask = self.index.len() - 1;
        let mut next = (hole + 1) & mask;
        while self.index[next] != NONE {
            let home = home_of(self.nodes[self.index[next] as usize].value) & mask;
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.index[hole] = self.index[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.index[hole] = NONE;
    }
}

/// Numbers in a row or with a step between them, as ports often are, are spread over the index.
const fn home_of(value: u64) -> usize {
    (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}
