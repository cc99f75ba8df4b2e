//! Stores and logs that went wrong, and changed software: the chain is brought up again and repeats itself to nobody.

use std::fs;
use std::path::Path;

use watchfold_log::Append;
use watchfold_schemas::observation::Tick;
use watchfold_schemas::{Body, Span, Stream, Time};

use super::world::{CountingFold, World, assert_same, inputs, message, observation};
use crate::{ChainRunner, RunnerStats, SledStore};

/// Half of the input, an accident to the store's directory, the other half: nothing is lost and nothing repeated.
async fn check_accident(name: &str, accident: impl Fn(&Path, &Path)) -> RunnerStats {
    let home = tempfile::tempdir().unwrap();
    let (directory, early) = (home.path().join("site"), home.path().join("early"));
    let world = World::new();
    let messages = inputs(600, 11);
    let open = async || -> ChainRunner {
        let (store, _) = SledStore::open_or_set_aside(&directory).unwrap();
        world
            .open_with(Box::new(store), CountingFold::version(1))
            .await
            .unwrap()
    };
    world.feed(&messages[..150]).await;
    world.settle_runner(open().await).await.unwrap();
    copy(&directory, &early);
    world.feed(&messages[150..400]).await;
    world.settle_runner(open().await).await.unwrap();
    let published = world.published();
    accident(&directory, &early);
    // First alone, so that whatever it repeats is seen, then with more input.
    let stats = world.settle_runner(open().await).await.unwrap();
    assert_same(&world.published(), &published, name);
    assert_eq!(stats.published, 0, "{name}: the refold is silent");
    world.feed(&messages[400..]).await;
    world.settle_runner(open().await).await.unwrap();
    world.check(CountingFold::version(1), name).await;
    stats
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn garble(path: &Path, from: usize, to: usize) {
    let mut bytes = fs::read(path).unwrap();
    let to = to.min(bytes.len());
    for (index, byte) in bytes.iter_mut().enumerate().take(to).skip(from) {
        *byte = (index * 31 % 251) as u8;
    }
    fs::write(path, bytes).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_gone_is_rebuilt() {
    let stats = check_accident("deleted", |directory, _| fs::remove_dir_all(directory).unwrap()).await;
    assert_eq!((stats.rebuilds, stats.stores_set_aside), (1, 0));
    assert!(stats.events_silenced > 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_full_of_garbage_is_rebuilt() {
    let stats = check_accident("garbage", |directory, _| {
        garble(&directory.join("conf"), 0, usize::MAX);
        garble(&directory.join("db"), 0, usize::MAX);
    })
    .await;
    assert_eq!(stats.rebuilds, 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_damaged_anywhere_is_rebuilt_or_still_right() {
    let size = 64 * 1024;
    for part in 0..8 {
        check_accident(&format!("damaged at {part}"), |directory, _| {
            garble(&directory.join("db"), part * size, part * size + 700);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_truncated_store_is_rebuilt_or_still_right() {
    for keep in [0, 1, 100, 5_000, 60_000, 524_288, 524_289] {
        check_accident(&format!("truncated to {keep}"), |directory, _| {
            let db = directory.join("db");
            let bytes = fs::read(&db).unwrap();
            fs::write(&db, &bytes[..keep.min(bytes.len())]).unwrap();
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_behind_goes_on_from_where_it_is() {
    let stats = check_accident("older copy", |directory, early| {
        fs::remove_dir_all(directory).unwrap();
        copy(early, directory);
    })
    .await;
    assert_eq!((stats.rebuilds, stats.stores_set_aside), (0, 0));
    assert_eq!(stats.records, 250, "only what it missed");
}

/// sled can lose a pair without noticing; the count and the sum over all pairs notice.
#[tokio::test(start_paused = true)]
async fn a_store_that_quietly_lost_a_pair_is_rebuilt() {
    let world = World::new();
    world.feed(&inputs(100, 12)).await;
    world.settle(CountingFold::version(1)).await;
    let pairs = world.store.copy();
    for lost in 0..pairs.len() {
        let mut fewer = pairs.clone();
        fewer.remove(lost);
        world.store.restore(fewer);
        let stats = world.settle(CountingFold::version(1)).await;
        assert_eq!(
            stats.stores_set_aside,
            1,
            "without {:?}",
            String::from_utf8_lossy(&pairs[lost].0)
        );
        // But for who folded it, which nobody knows any more.
        let is_no_fact = |pair: &(Vec<u8>, Vec<u8>)| pair.0 != b"f";
        let [rebuilt, before] = [world.store.copy(), pairs.clone()]
            .map(|pairs| pairs.into_iter().filter(is_no_fact).collect::<Vec<_>>());
        assert_eq!(rebuilt, before, "rebuilt to the same");
    }
    world.check(CountingFold::version(1), "lost pairs").await;
}

#[tokio::test(start_paused = true)]
async fn a_store_of_another_site_is_set_aside() {
    let world = World::new();
    world.feed(&inputs(30, 12)).await;
    world.settle(CountingFold::version(1)).await;
    let mut pairs = world.store.copy();
    for (key, value) in &mut pairs {
        if key == b"f" {
            let at = value.windows(4).position(|window| window == b"cafe").unwrap();
            value[at] = b'k';
        }
    }
    world.store.restore(pairs);
    assert_eq!(world.settle(CountingFold::version(1)).await.stores_set_aside, 1);
    world.check(CountingFold::version(1), "another site").await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_written_anew() {
    for failures in [1, 2] {
        let world = World::new();
        let messages = inputs(200, 13);
        world.feed(&messages[..100]).await;
        world.settle(CountingFold::version(1)).await;
        world.feed(&messages[100..]).await;
        world.store.fail_next(failures);
        let stats = world.settle(CountingFold::version(1)).await;
        assert_eq!((stats.stores_set_aside, stats.store_in_memory), (1, failures - 1));
        world.check(CountingFold::version(1), "failing store").await;
        let next = world.settle(CountingFold::version(1)).await;
        assert_eq!(next.published, 0, "nothing is told twice");
        assert_eq!(
            next.rebuilds,
            failures - 1,
            "after one failure the new store holds everything"
        );
    }
}

/// The log forgets its newest records and gives their sequences to others.
#[tokio::test(start_paused = true)]
async fn a_log_that_lost_its_tail_makes_the_chain_fold_again() {
    for (lost, with_store) in [(1, true), (40, true), (100, true), (40, false)] {
        let world = World::new();
        let messages = inputs(500, 14);
        world.feed(&messages[..250]).await;
        world.settle(CountingFold::version(1)).await;
        let published = world.published();
        world.log.truncate_tail(Stream::Observations, lost);
        // The collectors noticed nothing and go on with other records, some of them in new incarnations.
        let other: Vec<Append> = (1..=180)
            .map(|number| message(&observation("ping", 2, number, Body::Quiet)))
            .collect();
        world.feed(&other).await;
        if !with_store {
            world.store.restore(Vec::new());
        }
        let stats = world.settle(CountingFold::version(1)).await;
        assert_eq!(stats.stores_set_aside, u64::from(with_store), "{lost}");
        let kept = 250 - lost as u64;
        let want = world.expected(CountingFold::version(1)).await;
        let want_new: Vec<_> = want
            .into_iter()
            .filter(|event| event.place.input > kept)
            .collect();
        let got = world.published();
        assert_same(
            &got[published.len()..],
            &want_new,
            &format!("lost {lost}, store {with_store}"),
        );
    }
}

/// The lost part held nothing but a tick whose events do not name it; another tick gets its sequence.
#[tokio::test(start_paused = true)]
async fn events_of_a_lost_tick_do_not_silence_those_of_another() {
    let hour = Time::from_seconds(1_700_000_000).floor(Span::from_seconds(3_600));
    let tick = |number: u64, minute: i64| {
        let now = hour + Span::from_seconds(60 * minute);
        message(&observation(
            "clock",
            1,
            number,
            Body::Tick(Tick {
                now,
                interval_ms: 60_000,
            }),
        ))
    };
    for (with_store, with_snapshot) in [(true, true), (false, true), (true, false)] {
        let world = World::new();
        world
            .feed(
                &(1..=4)
                    .map(|number| tick(number, number as i64))
                    .collect::<Vec<_>>(),
            )
            .await;
        let quiet = |number: u64| message(&observation("ping", 1, number, Body::Quiet));
        world.feed(&(1..=26).map(quiet).collect::<Vec<_>>()).await;
        world.feed(&[tick(5, if with_snapshot { 61 } else { 5 })]).await;
        world.settle(CountingFold::version(1)).await;
        assert_eq!(world.published().len(), 12, "ten by threes and two by the tick");
        assert_eq!(
            world.log.records(Stream::Snapshots).len(),
            if with_snapshot { 2 } else { 0 },
            "taken at the lost tick"
        );
        world.log.truncate_tail(Stream::Observations, 1);
        world.feed(&[tick(6, 62)]).await;
        if !with_store {
            world.store.restore(Vec::new());
        }
        world.settle(CountingFold::version(1)).await;
        let want = world.expected(CountingFold::version(1)).await;
        assert_same(
            &world.published()[12..],
            &want[10..],
            &format!("store {with_store}, snapshot {with_snapshot}"),
        );
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_the_log_lost_are_derived_again() {
    let world = World::new();
    world.feed(&inputs(250, 15)).await;
    world.settle(CountingFold::version(1)).await;
    world.log.truncate_tail(Stream::Events, 20);
    let stats = world.settle(CountingFold::version(1)).await;
    assert_eq!((stats.stores_set_aside, stats.published), (1, 20));
    world.check(CountingFold::version(1), "lost events").await;
}

#[tokio::test(start_paused = true)]
async fn events_that_retention_removed_are_not_told_again() {
    let world = World::new();
    world.feed(&inputs(250, 16)).await;
    world.settle(CountingFold::version(1)).await;
    let kept = world.log.records(Stream::Events).len();
    world.log.truncate_front(Stream::Events, kept);
    let stats = world.settle(CountingFold::version(1)).await;
    assert_eq!((stats.stores_set_aside, stats.published), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn new_software_takes_the_state_over() {
    let world = World::new();
    let messages = inputs(300, 17);
    world.feed(&messages[..150]).await;
    world.settle(CountingFold::version(1)).await;
    world.feed(&messages[150..]).await;
    let stats = world.settle(CountingFold::version(2)).await;
    assert_eq!(
        (stats.stores_set_aside, stats.records, stats.events_silenced),
        (0, 150, 0)
    );
    world.check(CountingFold::version(1), "upgrade").await;
    let keys: Vec<Vec<u8>> = world.store.copy().into_iter().map(|(key, _)| key).collect();
    assert!(
        keys.contains(&b"scount".to_vec()) && !keys.contains(&b"stotal".to_vec()),
        "old keys are gone"
    );
    // And back: the older software refuses, so the chain is folded again, silently.
    let stats = world.settle(CountingFold::version(1)).await;
    assert_eq!((stats.stores_set_aside, stats.published), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn new_software_that_refuses_the_state_folds_again_in_silence() {
    let world = World::new();
    let messages = inputs(300, 18);
    world.feed(&messages[..150]).await;
    world.settle(CountingFold::version(1)).await;
    let before = world.published();
    world.feed(&messages[150..]).await;
    let stats = world.settle(CountingFold::version(3)).await;
    assert_eq!((stats.stores_set_aside, stats.records), (1, 300));
    let got = world.published();
    assert_same(&got[..before.len()], &before, "told before");
    let mark = before.last().unwrap().place;
    let want = world.expected(CountingFold::version(3)).await;
    let want_new: Vec<_> = want.into_iter().filter(|event| event.place > mark).collect();
    assert_same(&got[before.len()..], &want_new, "told by the new software");
}
