//! A bounded table in the order in which its entries came, found by a hash: the oldest is known, and any can leave.
//!
//! Hashes find entries and never order them, so that nothing that is derived depends on them. It does not bound itself: who
//! inserts looks at [`Arrivals::len`] and takes out the oldest first.

/// No slot.
const NONE: u32 = u32::MAX;

/// The smallest index; it doubles when it is three quarters full.
const INDEX_MIN: usize = 64;

/// Where an entry is, while it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

#[derive(Clone, Debug)]
struct Entry<T> {
    hash: u64,
    before: u32,
    after: u32,
    /// `None` while the slot is free; `after` is the next free one then.
    value: Option<T>,
}

/// Entries from the oldest to the newest.
#[derive(Clone, Debug)]
pub struct Arrivals<T> {
    entries: Vec<Entry<T>>,
    /// Open addressing: a hash's slots stand at its place or right after it, without a hole between.
    index: Vec<u32>,
    oldest: u32,
    newest: u32,
    free: u32,
    len: usize,
}

impl<T> Default for Arrivals<T> {
    fn default() -> Arrivals<T> {
        Arrivals {
            entries: Vec::new(),
            index: Vec::new(),
            oldest: NONE,
            newest: NONE,
            free: NONE,
            len: 0,
        }
    }
}

impl<T> Arrivals<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// The entry with this hash for which `is` holds.
    pub fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<Slot> {
        if self.index.is_empty() {
            return None;
        }
        let mut place = self.place_of(hash);
        loop {
            let slot = self.index[place];
            if slot == NONE {
                return None;
            }
            let entry = &self.entries[slot as usize];
            if entry.hash == hash && entry.value.as_ref().is_some_and(&is) {
                return Some(Slot(slot));
            }
            place = self.following(place);
        }
    }

    pub fn get(&self, slot: Slot) -> Option<&T> {
        self.entries.get(slot.0 as usize)?.value.as_ref()
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.entries.get_mut(slot.0 as usize)?.value.as_mut()
    }

    /// Adds the newest entry. That none equals it, the caller has looked.
    pub fn push(&mut self, hash: u64, value: T) -> Slot {
        if (self.len + 1) * 4 > self.index.len() * 3 {
            self.grow();
        }
        let entry = Entry {
            hash,
            before: NONE,
            after: NONE,
            value: Some(value),
        };
        let slot = match self.free {
            NONE => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
            slot => {
                self.free = self.entries[slot as usize].after;
                self.entries[slot as usize] = entry;
                slot
            }
        };
        self.place(hash, slot);
        self.link_newest(slot);
        self.len += 1;
        Slot(slot)
    }

    pub fn remove(&mut self, slot: Slot) -> Option<T> {
        let value = self.entries.get_mut(slot.0 as usize)?.value.take()?;
        self.unplace(slot.0);
        self.unlink(slot.0);
        self.entries[slot.0 as usize].after = self.free;
        self.free = slot.0;
        self.len -= 1;
        Some(value)
    }

    /// Makes an entry the newest.
    pub fn renew(&mut self, slot: Slot) {
        if self.newest != slot.0 && self.get(slot).is_some() {
            self.unlink(slot.0);
            self.link_newest(slot.0);
        }
    }

    pub fn oldest(&self) -> Option<(Slot, &T)> {
        let entry = self.entries.get(self.oldest as usize)?;
        Some((Slot(self.oldest), entry.value.as_ref()?))
    }

    /// From the oldest to the newest.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let entry = self.entries.get(next as usize)?;
            next = entry.after;
            entry.value.as_ref()
        })
    }

    fn place_of(&self, hash: u64) -> usize {
        hash as usize & (self.index.len() - 1)
    }

    fn following(&self, place: usize) -> usize {
        (place + 1) & (self.index.len() - 1)
    }

    fn place(&mut self, hash: u64, slot: u32) {
        let mut place = self.place_of(hash);
        while self.index[place] != NONE {
            place = self.following(place);
        }
        self.index[place] = slot;
    }

    /// Takes a slot out of the index and moves those behind it into the hole that would hide them.
    fn unplace(&mut self, slot: u32) {
        let mut hole = self.place_of(self.entries[slot as usize].hash);
        while self.index[hole] != slot {
            hole = self.following(hole);
        }
        let mut place = self.following(hole);
        while self.index[place] != NONE {
            let home = self.place_of(self.entries[self.index[place] as usize].hash);
            let mask = self.index.len() - 1;
            // It may move where its home is not between the hole and where it stands.
            if place.wrapping_sub(home) & mask >= place.wrapping_sub(hole) & mask {
                self.index[hole] = self.index[place];
                hole = place;
            }
            place = self.following(place);
        }
        self.index[hole] = NONE;
    }

    fn grow(&mut self) {
        let size = (self.index.len() * 2).max(INDEX_MIN);
        self.index = vec![NONE; size];
        for slot in 0..self.entries.len() {
            if self.entries[slot].value.is_some() {
                self.place(self.entries[slot].hash, slot as u32);
            }
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let before = self.newest;
        let entry = &mut self.entries[slot as usize];
        entry.before = before;
        entry.after = NONE;
        match self.entries.get_mut(before as usize) {
            Some(entry) => entry.after = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { before, after, .. } = self.entries[slot as usize];
        match self.entries.get_mut(before as usize) {
            Some(entry) => entry.after = after,
            None => self.oldest = after,
        }
        match self.entries.get_mut(after as usize) {
            Some(entry) => entry.before = before,
            None => self.newest = before,
        }
    }
}

/// A hash of words for [`Arrivals`]. `seed` is something that senders of packets do not know, and is in the input.
pub fn hash_words(seed: u64, words: &[u64]) -> u64 {
    words.iter().fold(seed ^ MIX[0], |hash, word| {
        fold(hash ^ MIX[1], word ^ hash.rotate_left(32))
    })
}

/// The same of bytes.
pub fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(seed ^ MIX[0], |hash, word| {
        fold(hash ^ MIX[1], u64::from_le_bytes(*word) ^ hash.rotate_left(32))
    });
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(
        hash ^ MIX[1],
        u64::from_le_bytes(last) ^ (bytes.len() as u64).rotate_right(8) ^ hash.rotate_left(32),
    )
}

/// Odd numbers without a pattern: the first digits of the square roots of 2 and 3 in binary.
const MIX: [u64; 2] = [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b];

/// Both halves of a product, so that every bit of either factor counts.
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Steps without a pattern, the same in every run.
    fn steps(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(|number| hash_words(7, &[number]))
    }

    #[test]
    fn it_does_what_a_list_does() {
        let mut arrivals = Arrivals::default();
        let mut list: VecDeque<u64> = VecDeque::new();
        for step in steps(20_000) {
            let key = (step >> 8) % 300;
            // So few hashes that many keys share one.
            let hash = key % 37;
            let found = arrivals.find(hash, |held| *held == key);
            assert_eq!(found.is_some(), list.contains(&key));
            match (step % 4, found) {
                (0 | 1, None) => {
                    arrivals.push(hash, key);
                    list.push_back(key);
                }
                (2, Some(slot)) => {
                    arrivals.renew(slot);
                    list.retain(|held| *held != key);
                    list.push_back(key);
                }
                (3, Some(slot)) => {
                    assert_eq!(arrivals.remove(slot), Some(key));
                    list.retain(|held| *held != key);
                }
                _ => {}
            }
            assert_eq!(arrivals.oldest().map(|(_, key)| *key), list.front().copied());
            assert_eq!(arrivals.len(), list.len());
        }
        assert!(arrivals.iter().eq(&list), "{list:?}");
    }

    #[test]
    fn a_slot_that_is_free_holds_nothing() {
        let mut arrivals = Arrivals::default();
        let slot = arrivals.push(1, "a");
        assert_eq!(arrivals.remove(slot), Some("a"));
        assert_eq!(
            (arrivals.remove(slot), arrivals.get(slot), arrivals.oldest()),
            (None, None, None)
        );
        arrivals.renew(slot);
        assert_eq!(arrivals.iter().count(), 0);
    }

    #[test]
    fn hashes_tell_keys_apart() {
        let keys: [&[u8]; 8] = [
            b"",
            b"\0",
            b"\0\0",
            b"a",
            b"b",
            b"12345678",
            b"12345678\0",
            b"123456789",
        ];
        for (one, other) in keys
            .iter()
            .flat_map(|one| keys.iter().map(move |other| (one, other)))
        {
            assert_eq!(
                hash_bytes(1, one) == hash_bytes(1, other),
                one == other,
                "{one:?} {other:?}"
            );
        }
        assert_ne!(hash_bytes(1, b"a"), hash_bytes(2, b"a"));
        // Low bits choose the place: close keys must not crowd.
        let mut places: Vec<u64> = (0..1_024)
            .map(|port| hash_words(3, &[1, 2, port]) % 1_024)
            .collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > 550, "{} of 1024 places", places.len());
    }
}
