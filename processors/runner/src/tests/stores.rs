//! One suite for both stores, and what only a directory can suffer.

use std::fs;
use std::path::Path;

use crate::store::{Batch, Pairs, StateStore, StoreError};
use crate::{BROKEN_KEPT_MAX, MemoryStore, SledStore};

fn batch(pairs: &[(&str, Option<&str>)]) -> Batch {
    pairs
        .iter()
        .map(|(key, value)| {
            (
                key.as_bytes().to_vec(),
                value.map(|value| value.as_bytes().to_vec()),
            )
        })
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Pairs {
    pairs
        .iter()
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

/// What every store must do; `open` opens the same one again.
fn check_store<S: StateStore>(open: impl Fn() -> S) {
    let mut store = open();
    assert_eq!(store.scan().unwrap(), pairs(&[]), "a new store is empty");
    store
        .apply_batch(batch(&[("b", Some("1")), ("a", Some("2")), ("c", Some("3"))]))
        .unwrap();
    store
        .apply_batch(batch(&[("b", None), ("c", Some("4")), ("z", None)]))
        .unwrap();
    assert_eq!(store.get(b"c").unwrap().as_deref(), Some(&b"4"[..]));
    assert_eq!(store.get(b"b").unwrap(), None);
    assert_eq!(
        store.scan().unwrap(),
        pairs(&[("a", "2"), ("c", "4")]),
        "sorted, the last word counts"
    );
    store.sync().unwrap();
    drop(store);

    let mut store = open();
    assert_eq!(
        store.scan().unwrap(),
        pairs(&[("a", "2"), ("c", "4")]),
        "synced is kept"
    );
    let big = "x".repeat(700_000);
    store.apply_batch(batch(&[("big", Some(&big))])).unwrap();
    store.sync().unwrap();
    drop(store);

    let mut store = open();
    assert_eq!(
        store.get(b"big").unwrap().map(|value| value.len()),
        Some(big.len()),
        "values may be large"
    );
    store.set_aside().unwrap();
    assert_eq!(store.scan().unwrap(), pairs(&[]), "set aside is empty");
    store.apply_batch(batch(&[("new", Some("1"))])).unwrap();
    store.sync().unwrap();
    drop(store);
    assert_eq!(open().scan().unwrap(), pairs(&[("new", "1")]), "and goes on");
}

#[test]
fn the_memory_store_keeps_the_contract() {
    let store = MemoryStore::new();
    check_store(|| store.clone());
}

#[test]
fn the_sled_store_keeps_the_contract() {
    let home = tempfile::tempdir().unwrap();
    check_store(|| SledStore::open(&home.path().join("chain")).unwrap());
}

#[test]
fn a_power_cut_takes_what_was_not_synced() {
    let mut store = MemoryStore::new();
    store.apply_batch(batch(&[("kept", Some("1"))])).unwrap();
    store.sync().unwrap();
    store
        .apply_batch(batch(&[("gone", Some("1")), ("kept", None)]))
        .unwrap();
    store.crash();
    assert_eq!(store.scan().unwrap(), pairs(&[("kept", "1")]));
}

#[test]
fn a_second_owner_is_an_error_and_nothing_is_set_aside() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("chain");
    let _owner = SledStore::open(&directory).unwrap();
    let second = SledStore::open_or_set_aside(&directory);
    assert!(matches!(second, Err(StoreError::Locked { .. })));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

fn spoil(directory: &Path, damage: fn(&Path)) {
    let mut store = SledStore::open(directory).unwrap();
    store.apply_batch(batch(&[("a", Some("1"))])).unwrap();
    store.sync().unwrap();
    drop(store);
    damage(directory);
}

#[test]
fn a_broken_directory_is_set_aside_and_only_the_last_few_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("chain");
    let damages: [fn(&Path); 4] = [
        |directory| fs::write(directory.join("conf"), b"not a configuration at all").unwrap(),
        |directory| {
            fs::remove_dir_all(directory).unwrap();
            fs::write(directory, b"a file where a directory was").unwrap();
        },
        |directory| fs::write(directory.join("conf"), vec![0xff; 4_096]).unwrap(),
        |directory| fs::write(directory.join("conf"), b"not a configuration at all").unwrap(),
    ];
    for damage in damages {
        spoil(&directory, damage);
        let (store, reason) = SledStore::open_or_set_aside(&directory).unwrap();
        assert!(reason.is_some_and(|reason| reason.contains("unusable")));
        assert_eq!(store.scan().unwrap(), pairs(&[]));
    }
    let kept = fs::read_dir(home.path()).unwrap().count() - 1;
    assert_eq!(kept, BROKEN_KEPT_MAX);
}
