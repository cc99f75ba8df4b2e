//! What is kept for each key, found by its print. Entries stand in the order in which they came, so that nothing depends on
//! the order of a hash, and are taken out in sweeps alone.

use super::print::Print;

/// A place in the index that holds nothing.
const EMPTY: u32 = u32::MAX;

/// The smallest index.
const PLACES_MIN: usize = 16;

/// Values by print.
#[derive(Clone, Debug)]
pub struct Keyed<V> {
    entries: Vec<(Print, V)>,
    /// Open addressing: the number of the entry, or [`EMPTY`]. At most half full.
    index: Vec<u32>,
    /// What senders of packets do not know, or they could choose keys that all have one place. Nothing but speed depends on it.
    seed: Print,
}

impl<V> Default for Keyed<V> {
    fn default() -> Keyed<V> {
        Keyed {
            entries: Vec::new(),
            index: Vec::new(),
            seed: Print::default(),
        }
    }
}

impl<V> Keyed<V> {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Another seed for the places of keys. Once there is an entry it stays.
    pub fn seed(&mut self, seed: Print) {
        if self.entries.is_empty() {
            self.seed = seed;
        }
    }

    /// The number of the entry of `key`. It holds until the next sweep.
    pub fn find(&self, key: Print) -> Option<usize> {
        let mask = self.index.len().checked_sub(1)?;
        let mut place = key.place(self.seed) & mask;
        loop {
            match self.index[place] {
                EMPTY => return None,
                number if self.entries[number as usize].0 == key => return Some(number as usize),
                _ => place = (place + 1) & mask,
            }
        }
    }

    /// Whether entry `number` is that of `key`: a number found earlier may be out of date.
    pub fn is_at(&self, number: usize, key: Print) -> bool {
        self.entries.get(number).is_some_and(|(at, _)| *at == key)
    }

    /// Adds an entry for a key that has none, and gives its number.
    pub fn insert(&mut self, key: Print, value: V) -> usize {
        let number = self.entries.len();
        self.entries.push((key, value));
        if (number + 1) * 2 > self.index.len() {
            self.reindex();
        } else {
            self.link(key, number);
        }
        number
    }

    #[cfg(test)]
    pub fn get(&self, key: Print) -> Option<&V> {
        self.find(key).map(|number| &self.entries[number].1)
    }

    #[cfg(test)]
    pub fn get_mut(&mut self, key: Print) -> Option<&mut V> {
        self.find(key).map(|number| &mut self.entries[number].1)
    }

    pub fn at(&self, number: usize) -> &V {
        &self.entries[number].1
    }

    pub fn at_mut(&mut self, number: usize) -> &mut V {
        &mut self.entries[number].1
    }

    pub fn iter(&self) -> impl Iterator<Item = (Print, &V)> {
        self.entries.iter().map(|(key, value)| (*key, value))
    }

    /// Keeps what `keep` says; numbers change.
    pub fn sweep(&mut self, mut keep: impl FnMut(Print, &V) -> bool) {
        self.entries.retain(|(key, value)| keep(*key, value));
        self.reindex();
    }

    fn reindex(&mut self) {
        let places = (self.entries.len() * 4).next_power_of_two().max(PLACES_MIN);
        self.index.clear();
        self.index.resize(places, EMPTY);
        for number in 0..self.entries.len() {
            self.link(self.entries[number].0, number);
        }
    }

    fn link(&mut self, key: Print, number: usize) {
        let mask = self.index.len() - 1;
        let mut place = key.place(self.seed) & mask;
        while self.index[place] != EMPTY {
            place = (place + 1) & mask;
        }
        self.index[place] = number as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_until_they_are_swept() {
        let key = |number: i64| Print::of_number(number);
        let mut keyed = Keyed::default();
        keyed.seed(key(77));
        assert_eq!(keyed.find(key(0)), None);
        for number in 0..1_000 {
            assert_eq!(keyed.insert(key(number), number), number as usize);
        }
        assert_eq!(keyed.get(key(999)), Some(&999));
        assert_eq!(keyed.find(key(1_000)), None);
        keyed.sweep(|_, value| value % 10 == 0);
        assert_eq!(
            (keyed.len(), keyed.get(key(990)), keyed.get(key(991))),
            (100, Some(&990), None)
        );
        assert!(keyed.is_at(1, key(10)) && !keyed.is_at(1, key(1)) && !keyed.is_at(100, key(1)));
        *keyed.get_mut(key(10)).unwrap() = 7;
        assert_eq!(keyed.iter().nth(1), Some((key(10), &7)));
    }

    #[test]
    fn keys_chosen_to_share_a_place_share_none_under_a_seed() {
        let seed = Print::of_number(1_700_000_000_123_456_789);
        for keys in [
            (0..1_000)
                .map(|number| Print(number << 32, 7))
                .collect::<Vec<_>>(),
            (0..1_000).map(|number| Print(5, number << 32)).collect(),
        ] {
            let mut places: Vec<usize> = keys.iter().map(|key| key.place(seed) & 4_095).collect();
            places.sort_unstable();
            places.dedup();
            assert!(places.len() > 800, "{} places", places.len());
        }
    }
}
