//! The hash table behind the duplicate window: from hashes to numbers that others give a meaning. Open addressing, the
//! next slot when one is taken. Ids leave as fast as they come, so nothing is taken out: a number that means nothing any
//! more leaves with the next rebuilding, which goes through the table once, in order.

/// Slots of an empty table.
const SLOTS_MIN: usize = 1024;

#[derive(Clone, Copy, Default)]
struct Slot {
    /// 32 bits of the hash, which also say where the search begins; 0 for an empty slot.
    tag: u32,
    number: u32,
}

pub(super) struct Slots {
    /// A power of two, at least half of them empty.
    slots: Vec<Slot>,
    /// Not empty, whatever their numbers mean.
    used: usize,
}

impl Slots {
    pub(super) fn new() -> Slots {
        Slots {
            slots: Vec::new(),
            used: 0,
        }
    }

    /// The number of this hash; `is_it` knows what numbers mean, and decides between hashes that look alike.
    pub(super) fn find(&self, hash: u128, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.position(hash, is_it).map(|at| self.slots[at].number)
    }

    /// The hash must not be there, and the table not crowded.
    pub(super) fn insert(&mut self, hash: u128, number: u32) {
        self.put(Slot {
            tag: tag(hash),
            number,
        });
    }

    pub(super) fn replace(&mut self, hash: u128, older: u32, newer: u32) {
        if let Some(at) = self.position(hash, |number| number == older) {
            self.slots[at].number = newer;
        }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.used * 2 >= self.slots.len()
    }

    /// Keeps the numbers that mean something, `kept` at most, with room for half as many again.
    pub(super) fn rebuild(&mut self, kept: usize, means_something: impl Fn(u32) -> bool) {
        let wanted = (kept * 3).next_power_of_two().max(SLOTS_MIN);
        let slots = std::mem::replace(&mut self.slots, vec![Slot::default(); wanted]);
        self.used = 0;
        for slot in slots {
            if slot.tag != 0 && means_something(slot.number) {
                self.put(slot);
            }
        }
    }

    fn put(&mut self, slot: Slot) {
        let mask = self.mask();
        let mut at = slot.tag as usize & mask;
        while self.slots[at].tag != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
        self.used += 1;
    }

    fn position(&self, hash: u128, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let (tag, mask) = (tag(hash), self.mask());
        let mut at = tag as usize & mask;
        loop {
            let slot = self.slots.get(at)?;
            if slot.tag == 0 {
                return None;
            }
            if slot.tag == tag && is_it(slot.number) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }
}

fn tag(hash: u128) -> u32 {
    (hash as u32).max(1)
}
