//! The hash table behind the duplicate window: from hashes to numbers that others give a meaning. Eight bytes a slot, so
//! that a full window's table stays near the processor: open addressing, the next slot when one is taken, and no
//! tombstones, because ids leave as fast as they come.

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
    used: usize,
}

impl Slots {
    pub(super) fn new() -> Slots {
        Slots {
            slots: Vec::new(),
            used: 0,
        }
    }

    /// The number of this hash; `is_it` decides between those that look alike.
    pub(super) fn find(&self, hash: u128, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.position(hash, is_it).map(|at| self.slots[at].number)
    }

    /// The hash must not be there, and the table not crowded.
    pub(super) fn insert(&mut self, hash: u128, number: u32) {
        self.put(Slot {
            tag: tag(hash),
            number,
        });
        self.used += 1;
    }

    pub(super) fn replace(&mut self, hash: u128, older: u32, newer: u32) {
        if let Some(at) = self.position(hash, |number| number == older) {
            self.slots[at].number = newer;
        }
    }

    /// Nothing happens when another number stands for the hash by now.
    pub(super) fn remove(&mut self, hash: u128, number: u32) {
        let Some(mut hole) = self.position(hash, |known| known == number) else {
            return;
        };
        // Whatever was pushed past the hole moves into it, or a search for it would end there.
        let mask = self.mask();
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot.tag == 0 {
                break;
            }
            let pushed_by = at.wrapping_sub(slot.tag as usize) & mask;
            if pushed_by >= (at.wrapping_sub(hole) & mask) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = Slot::default();
        self.used -= 1;
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.used * 2 >= self.slots.len()
    }

    pub(super) fn double(&mut self) {
        let slots = vec![Slot::default(); (self.slots.len() * 2).max(SLOTS_MIN)];
        for slot in std::mem::replace(&mut self.slots, slots) {
            if slot.tag != 0 {
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
