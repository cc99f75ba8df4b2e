//! How the state of a chain with large parts is stored: as texts of bytes with a name, cut into pieces that every store
//! takes, of which only those are written that changed.

use std::collections::BTreeMap;

use crate::detections::arrivals::hash_bytes;
use crate::machine::StateEntries;
use crate::table::Change;

/// The largest stored entry. Stores and snapshots take 256 KiB.
pub const PIECE_BYTES_MAX: usize = 128 * 1024;

/// Something to be stored whole.
pub type Blob = (String, Vec<u8>);

/// What was stored last, so that it is known what changed.
#[derive(Debug, Default)]
pub struct Blobs {
    /// The hashes of each blob's pieces.
    stored: BTreeMap<String, Vec<u64>>,
}

impl Blobs {
    /// What has to be written so that `blobs` are stored, and nothing is of those whose name begins with one of `gone` and
    /// that are not among them.
    pub fn changes(&mut self, blobs: Vec<Blob>, gone: &[String]) -> Vec<Change> {
        let mut out: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        let is_gone = |name: &String| gone.iter().any(|prefix| name.starts_with(prefix.as_str()));
        let names: Vec<String> = self.stored.keys().filter(|name| is_gone(name)).cloned().collect();
        for name in names {
            let pieces = self.stored.remove(&name).unwrap_or_default();
            out.extend((0..pieces.len()).map(|piece| (key_of(&name, piece), None)));
        }
        for (name, bytes) in blobs {
            self.put(name, &bytes, &mut out);
        }
        out.into_iter().collect()
    }

    fn put(&mut self, name: String, bytes: &[u8], out: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
        let before = self.stored.remove(&name).unwrap_or_default();
        let hashes: Vec<u64> = bytes
            .chunks(PIECE_BYTES_MAX)
            .map(|piece| hash_bytes(0, piece))
            .collect();
        for (number, piece) in bytes.chunks(PIECE_BYTES_MAX).enumerate() {
            if before.get(number) != hashes.get(number) {
                out.insert(key_of(&name, number), Some(piece.to_vec()));
            }
        }
        out.extend((hashes.len()..before.len()).map(|piece| (key_of(&name, piece), None)));
        if !hashes.is_empty() {
            self.stored.insert(name, hashes);
        }
    }
}

/// All pieces of blobs, for a snapshot.
pub fn entries_of(blobs: Vec<Blob>, out: &mut StateEntries) {
    for (name, bytes) in blobs {
        for (number, piece) in bytes.chunks(PIECE_BYTES_MAX).enumerate() {
            out.push((key_of(&name, number), piece.to_vec()));
        }
    }
}

/// Puts stored pieces together again.
#[derive(Debug, Default)]
pub struct Loading {
    pieces: BTreeMap<String, BTreeMap<usize, Vec<u8>>>,
}

impl Loading {
    /// Takes a stored entry, or says that it is none of a blob.
    pub fn take(&mut self, key: &[u8], bytes: Vec<u8>) -> Result<(), String> {
        let text = std::str::from_utf8(key).ok();
        let parts = text.and_then(|text| text.rsplit_once('/'));
        let Some((name, piece)) = parts.and_then(|(name, piece)| Some((name, piece.parse().ok()?))) else {
            return Err(String::from_utf8_lossy(key).into_owned());
        };
        self.pieces
            .entry(name.to_owned())
            .or_default()
            .insert(piece, bytes);
        Ok(())
    }

    /// Every blob by its name, and what is stored now. A missing piece is damage.
    pub fn finish(self) -> Result<(Vec<Blob>, Blobs), String> {
        let (mut out, mut blobs) = (Vec::new(), Blobs::default());
        for (name, pieces) in self.pieces {
            if pieces.keys().copied().ne(0..pieces.len()) {
                return Err(format!("a piece of {name} is missing"));
            }
            let hashes = pieces.values().map(|piece| hash_bytes(0, piece)).collect();
            blobs.stored.insert(name.clone(), hashes);
            out.push((name, pieces.into_values().collect::<Vec<_>>().concat()));
        }
        Ok((out, blobs))
    }
}

fn key_of(name: &str, piece: usize) -> Vec<u8> {
    format!("{name}/{piece:04}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(name: &str, bytes: usize, fill: u8) -> Blob {
        (name.to_owned(), vec![fill; bytes])
    }

    fn keys(changes: &[Change]) -> Vec<(String, Option<usize>)> {
        let key = |(key, bytes): &Change| {
            (
                String::from_utf8(key.clone()).unwrap(),
                bytes.as_ref().map(Vec::len),
            )
        };
        changes.iter().map(key).collect()
    }

    #[test]
    fn only_pieces_that_changed_are_written_and_what_is_gone_is_removed() {
        let mut blobs = Blobs::default();
        let large = blob("a/large", PIECE_BYTES_MAX + 5, 1);
        assert_eq!(
            blobs
                .changes(vec![large.clone(), blob("a/small", 3, 2)], &[])
                .len(),
            3
        );
        assert!(
            blobs
                .changes(vec![large.clone(), blob("a/small", 3, 2)], &[])
                .is_empty()
        );
        let mut changed = large.clone();
        changed.1[PIECE_BYTES_MAX] = 9;
        assert_eq!(
            keys(&blobs.changes(vec![changed], &[])),
            [("a/large/0001".to_owned(), Some(5))]
        );
        let shorter = blobs.changes(vec![blob("a/large", 4, 1), blob("a/small", 0, 0)], &[]);
        let want = [
            ("a/large/0000".to_owned(), Some(4)),
            ("a/large/0001".to_owned(), None),
            ("a/small/0000".to_owned(), None),
        ];
        assert_eq!(keys(&shorter), want);
        let gone = blobs.changes(vec![blob("b", 1, 1)], &["a/".to_owned()]);
        assert_eq!(
            keys(&gone),
            [("a/large/0000".to_owned(), None), ("b/0000".to_owned(), Some(1))]
        );
    }

    #[test]
    fn pieces_come_together_again_and_a_missing_one_is_damage() {
        let stored = vec![blob("a/large", PIECE_BYTES_MAX * 2 + 5, 1), blob("b", 1, 2)];
        let mut entries = Vec::new();
        entries_of(stored.clone(), &mut entries);
        let load = |entries: &StateEntries| {
            let mut loading = Loading::default();
            for (key, bytes) in entries {
                loading.take(key, bytes.clone())?;
            }
            loading.finish()
        };
        let (again, mut blobs) = load(&entries).unwrap();
        assert_eq!(again, stored);
        assert!(blobs.changes(stored, &[]).is_empty(), "nothing changed since");
        entries.remove(1);
        assert!(load(&entries).unwrap_err().contains("a/large"));
        assert!(load(&vec![(b"nonsense".to_vec(), Vec::new())]).is_err());
    }
}
