//! Keyed state that knows which of its entries changed, so that a commit writes those alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What changed or is stored: an entry's key, and its bytes or nothing once it is gone.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Entries of one kind, in the order of their keys.
#[derive(Clone, Debug)]
pub struct Table<V> {
    /// `fold/table/`: what its keys begin with in a store.
    prefix: &'static str,
    entries: BTreeMap<String, Entry<V>>,
    dirty: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Entry<V> {
    value: V,
    dirty: bool,
}

impl<V: Serialize + DeserializeOwned> Table<V> {
    pub const fn new(prefix: &'static str) -> Table<V> {
        Table {
            prefix,
            entries: BTreeMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    pub fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The entry to change; it counts as changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.insert(key.to_owned());
        }
        Some(&mut entry.value)
    }

    /// The entry to change, made first where there is none.
    pub fn entry_or_default(&mut self, key: &str) -> &mut V
    where
        V: Default,
    {
        if !self.entries.contains_key(key) {
            self.insert(key, V::default());
        }
        match self.get_mut(key) {
            Some(value) => value,
            None => unreachable!("it was inserted just now"),
        }
    }

    pub fn insert(&mut self, key: &str, value: V) {
        self.dirty.insert(key.to_owned());
        self.entries.insert(key.to_owned(), Entry { value, dirty: true });
    }

    pub fn remove(&mut self, key: &str) -> Option<V> {
        let entry = self.entries.remove(key)?;
        if !entry.dirty {
            self.dirty.insert(key.to_owned());
        }
        Some(entry.value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &V)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    pub fn keys(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Moves what changed since the last call into `out`.
    pub fn drain_dirty(&mut self, out: &mut Vec<Change>) {
        for key in std::mem::take(&mut self.dirty) {
            let bytes = self.entries.get_mut(&key).map(|entry| {
                entry.dirty = false;
                encode(&entry.value)
            });
            out.push((self.stored_key(&key), bytes));
        }
    }

    /// Every entry as a store holds it.
    pub fn store_all(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        for (key, entry) in &self.entries {
            out.push((self.stored_key(key), encode(&entry.value)));
        }
    }

    /// Takes a stored entry if it belongs here; says why when it cannot be read.
    pub fn load(&mut self, stored_key: &[u8], bytes: &[u8]) -> Result<bool, String> {
        Ok(self.load_key(stored_key, bytes)?.is_some())
    }

    /// The same, and tells its key in the table.
    pub fn load_key(&mut self, stored_key: &[u8], bytes: &[u8]) -> Result<Option<String>, String> {
        let Some(key) = stored_key.strip_prefix(self.prefix.as_bytes()) else {
            return Ok(None);
        };
        let key = std::str::from_utf8(key).map_err(|_| format!("a key of {} is not UTF-8", self.prefix))?;
        let value = rmp_serde::from_slice(bytes)
            .map_err(|error| format!("{}{key} cannot be read: {error}", self.prefix))?;
        self.entries.insert(key.to_owned(), Entry { value, dirty: false });
        Ok(Some(key.to_owned()))
    }

    fn stored_key(&self, key: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), key.as_bytes()].concat()
    }
}

/// State is made of strings, integers, lists and maps with string keys, which always encode; an entry that did not
/// would read as damaged and be derived again from the log.
fn encode<V: Serialize>(value: &V) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_drained_and_removal_is_one() {
        let mut table = Table::<u32>::new("t/");
        *table.entry_or_default("a") = 1;
        table.insert("b", 2);
        let mut out = Vec::new();
        table.drain_dirty(&mut out);
        assert_eq!(out.len(), 2);
        out.clear();
        table.drain_dirty(&mut out);
        assert!(out.is_empty());
        *table.get_mut("a").unwrap() = 5;
        table.remove("b");
        table.drain_dirty(&mut out);
        assert_eq!(out, [(b"t/a".to_vec(), Some(vec![5])), (b"t/b".to_vec(), None)]);
    }

    #[test]
    fn stored_entries_come_back_and_garbage_is_named() {
        let mut table = Table::<u32>::new("t/");
        table.insert("a", 7);
        let mut stored = Vec::new();
        table.store_all(&mut stored);
        let mut again = Table::<u32>::new("t/");
        assert_eq!(again.load(&stored[0].0, &stored[0].1), Ok(true));
        assert_eq!(again.get("a"), Some(&7));
        assert_eq!(again.load(b"other/a", b"\x07"), Ok(false));
        assert!(again.load(b"t/b", b"\xc1").unwrap_err().contains("t/b"));
    }
}
