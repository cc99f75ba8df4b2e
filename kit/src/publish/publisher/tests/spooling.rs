//! What a publisher with a spool promises, one case at a time.

use std::time::Duration;

use watchfold_log::{Embedded, Options};

use super::super::testing::{Mode, START, World, until};
use super::super::*;

const ROOMY: u64 = 64 * 1024 * 1024;

fn names(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn submit(world: &World, publisher: &Publisher, range: std::ops::Range<u32>) {
    range.for_each(|n| world.submit(publisher, &n.to_string(), 10));
}

async fn drained(world: &World, publisher: &Publisher) {
    until("everything is in the log", || publisher.stats().queued == 0).await;
    until("the spool is gone", || !world.spool().exists()).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_spooled_and_forwarded_in_order() {
    let world = World::new(ROOMY);
    let publisher = world.open().await;
    submit(&world, &publisher, 0..2);
    publisher.flush().await;
    assert!(!world.spool().exists(), "nothing is made before it is needed");

    world.log.set(Mode::Full);
    submit(&world, &publisher, 2..9);
    publisher.flush().await;
    let stats = publisher.stats();
    assert_eq!((stats.published, stats.spooled, stats.queued), (2, 7, 7));
    assert!(stats.spooled_bytes > 0);
    let progress = Progress::new("ping");
    publisher.report(&progress);
    let shown = progress.snapshot();
    assert_eq!((shown.position, shown.head), (2, 9));
    let trouble = shown.detail.unwrap();
    let since = START + watchfold_schemas::Span::from_millis(2);
    assert!(
        trouble.starts_with(&format!("7 records since {since}")),
        "{trouble}"
    );
    assert!(trouble.contains("/full"), "{trouble}");

    world.log.set(Mode::Takes);
    submit(&world, &publisher, 9..12);
    drained(&world, &publisher).await;
    submit(&world, &publisher, 12..14);
    publisher.flush().await;
    assert_eq!(world.names(), names(0..14));
    let numbers: Vec<u64> = world.accepted().iter().map(|o| o.origin.number).collect();
    assert_eq!(numbers, (1..=14).collect::<Vec<u64>>());
    let stats = publisher.stats();
    assert_eq!((stats.spooled, stats.spooled_bytes, stats.dropped), (0, 0, 0));
    assert!((7..=10).contains(&stats.forwarded), "{stats:?}");
    assert_eq!((publisher.trouble(), world.spool().exists()), (None, false));
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_leaves_what_the_next_one_forwards_first() {
    let world = World::new(ROOMY);
    let publisher = world.open().await;
    world.log.set(Mode::Full);
    submit(&world, &publisher, 0..5);
    publisher.flush().await;
    publisher.kill().await;

    let publisher = world.open().await;
    assert_eq!(publisher.stats().queued, 5, "shown from the start");
    submit(&world, &publisher, 5..8);
    publisher.flush().await;
    assert_eq!(publisher.stats().spooled, 8);
    world.log.set(Mode::Takes);
    drained(&world, &publisher).await;
    assert_eq!(world.names(), names(0..8));
    let places: Vec<(u64, u64)> = world
        .accepted()
        .iter()
        .map(|o| (o.origin.incarnation - 1_000_000, o.origin.number))
        .collect();
    assert_eq!(
        places,
        [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (5, 1), (5, 2), (5, 3)]
    );
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_stored_keeps_its_identity_over_a_restart() {
    let world = World::new(ROOMY);
    let publisher = world.open().await;
    world.log.set(Mode::LosesAck);
    submit(&world, &publisher, 0..4);
    publisher.flush().await;
    publisher.kill().await;
    world.log.set(Mode::Takes);
    let publisher = world.open().await;
    submit(&world, &publisher, 4..5);
    drained(&world, &publisher).await;
    publisher.flush().await;
    let stored: Vec<String> = world
        .log
        .observations()
        .iter()
        .map(|o| o.origin.to_string())
        .collect();
    assert_eq!(stored.len(), 5, "told by their ids: {stored:?}");
    assert_eq!(world.names(), names(0..5));
}

#[tokio::test(start_paused = true)]
async fn ending_in_order_leaves_nothing_in_memory() {
    let world = World::new(ROOMY);
    let publisher = world.open().await;
    world.log.set(Mode::Hangs);
    submit(&world, &publisher, 0..50);
    publisher.end().await;
    world.log.set(Mode::Takes);
    let publisher = world.open().await;
    drained(&world, &publisher).await;
    assert_eq!(world.names(), names(0..50));
}

#[tokio::test(start_paused = true)]
async fn a_full_spool_gives_up_its_oldest_for_one_gap() {
    let world = World::new(128 * 1024);
    let publisher = world.open().await;
    world.submit(&publisher, "before", 10);
    publisher.flush().await;
    world.log.set(Mode::Full);
    for n in 0..200 {
        world.submit(&publisher, &n.to_string(), 2_000);
        publisher.flush().await;
    }
    let bytes = publisher.stats().spooled_bytes;
    assert!((64 * 1024..=128 * 1024).contains(&bytes), "{bytes}");
    world.log.set(Mode::Takes);
    drained(&world, &publisher).await;
    let accepted = world.accepted();
    let (before, gap, first) = (&accepted[0], &accepted[1], &accepted[2]);
    let Body::Gap(told) = &gap.body else {
        panic!("{gap:?}")
    };
    assert_eq!(gap.origin.number, first.origin.number - 1);
    assert_eq!(told.records, gap.origin.number - before.origin.number);
    assert_eq!((told.from, told.to), (before.through, first.through));
    assert_eq!(told.reason, "the collector's spool was full");
    let kept: Vec<u64> = accepted[1..].iter().map(|o| o.origin.number).collect();
    assert_eq!(kept, (gap.origin.number..=201).collect::<Vec<u64>>());
    assert!(kept.len() > 30, "only what must go: {}", kept.len());
    let stats = publisher.stats();
    assert_eq!((stats.spool_lost, stats.dropped), (told.records, told.records));
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_cannot_be_read_is_set_aside_and_told() {
    let world = World::new(ROOMY);
    let stream = world.spool().join("WF_OBS");
    std::fs::create_dir_all(&stream).unwrap();
    std::fs::write(stream.join("stream"), b"garbage").unwrap();
    std::fs::write(stream.join("0000000001-00000000000000000001.wfl"), [7; 4_096]).unwrap();
    let publisher = world.open().await;
    submit(&world, &publisher, 0..2);
    publisher.flush().await;
    assert_eq!(world.names(), ["gap of 0", "0", "1"]);
    assert!(world.dir.path().join("spool/ping.damaged/WF_OBS").is_dir());
}

/// The next try to open the spool of an ended process finds no byte left on the disk. Each needs another one: what
/// could not be written is removed.
#[cfg(target_os = "linux")]
fn fill_disk(world: &World) -> bool {
    let stream = world.spool().join("WF_EVT");
    if stream.join("stream").exists() {
        std::fs::remove_file(stream.join("stream")).unwrap();
    }
    std::os::unix::fs::symlink("/dev/full", stream.join("stream.tmp")).is_ok()
}

#[cfg(target_os = "linux")]
async fn spooled_on_a_full_disk() -> (World, Arc<Publisher>) {
    let world = World::new(ROOMY);
    let publisher = world.open().await;
    world.log.set(Mode::Full);
    submit(&world, &publisher, 0..5);
    publisher.flush().await;
    publisher.kill().await;
    world.log.set(Mode::Takes);
    assert!(fill_disk(&world));
    let publisher = world.open().await;
    assert_eq!(publisher.stats().spooled, 0, "not opened");
    (world, publisher)
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn a_full_disk_does_not_cost_the_spool() {
    let (world, publisher) = spooled_on_a_full_disk().await;
    let mut tries = 0;
    // The longest wait between tries is 5 s.
    for _ in 0..4_000 {
        tries += u32::from(fill_disk(&world));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(tries > 20, "{tries}");
    submit(&world, &publisher, 5..6);
    std::fs::remove_file(world.spool().join("WF_EVT/stream.tmp")).unwrap();
    until("all is in the log", || world.names().len() == 6).await;
    drained(&world, &publisher).await;
    assert_eq!(world.names(), names(0..6));
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn a_spool_that_proves_unreadable_after_the_start_is_told_too() {
    let (world, publisher) = spooled_on_a_full_disk().await;
    std::fs::remove_dir_all(world.spool().join("WF_OBS")).unwrap();
    std::fs::write(world.spool().join("WF_OBS"), b"garbage").unwrap();
    until("it is told", || world.names() == ["gap of 0"]).await;
    submit(&world, &publisher, 5..6);
    drained(&world, &publisher).await;
    assert_eq!(world.names(), ["gap of 0", "5"]);
    assert!(world.dir.path().join("spool/ping.damaged").is_dir());
}

#[tokio::test(start_paused = true)]
async fn a_spool_of_another_process_is_an_error_that_names_it() {
    let world = World::new(ROOMY);
    let publisher = world.open().await;
    world.log.set(Mode::Full);
    submit(&world, &publisher, 0..1);
    publisher.flush().await;
    let Err(error) = world.try_open().await else {
        panic!("opened")
    };
    let text = error.to_string();
    assert!(
        text.contains("spool/ping") && text.contains("another running process"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_cannot_be_made_leaves_the_memory() {
    let world = World::new(ROOMY);
    let publisher = world.open().await;
    std::fs::write(world.spool(), b"in the way").unwrap();
    world.log.set(Mode::Full);
    submit(&world, &publisher, 0..300);
    let tried = || {
        publisher
            .trouble()
            .is_some_and(|trouble| trouble.contains("spool takes no"))
    };
    until("the spool was tried", tried).await;
    submit(&world, &publisher, 300..302);
    assert_eq!(publisher.stats().spooled, 0);
    world.log.set(Mode::Takes);
    publisher.flush().await;
    let got = world.names();
    assert!(got.iter().any(|name| name.starts_with("gap of")), "{got:?}");
    assert_eq!(got.last().unwrap(), "301");
    assert_eq!(publisher.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn whoever_awaits_a_record_is_told_when_the_log_has_it() {
    let world = World::new(ROOMY);
    let publisher = world.open().await;
    world.log.set(Mode::Hangs);
    let waiting = tokio::spawn({
        let publisher = Arc::clone(&publisher);
        async move { publisher.publish(Body::Quiet).await }
    });
    until("a log that does not answer is given up", || {
        publisher.stats().spooled == 1
    })
    .await;
    assert!(!waiting.is_finished());
    let trouble = publisher.trouble().unwrap();
    assert!(trouble.contains("did not answer"), "{trouble}");
    world.log.set(Mode::Takes);
    assert_eq!(waiting.await.unwrap().unwrap().sequence, 1);
}

#[tokio::test(start_paused = true)]
async fn a_spooled_record_that_the_log_refuses_becomes_a_gap_under_its_number() {
    let world = World::new(ROOMY);
    let publisher = world.open().await;
    world.log.set(Mode::Full);
    world.submit(&publisher, "0", 10);
    world.submit(&publisher, "1", 2_000);
    world.submit(&publisher, "2", 10);
    publisher.flush().await;
    world.log.set(Mode::Limit(600));
    drained(&world, &publisher).await;
    assert_eq!(world.names(), ["0", "gap of 1", "2"]);
    assert_eq!(publisher.stats().dropped, 1);
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_clock_during_an_outage_keeps_the_order() {
    let world = World::new(ROOMY);
    let publisher = world.open().await;
    world.log.set(Mode::Full);
    submit(&world, &publisher, 0..3);
    world.clock.step(watchfold_schemas::Span::from_seconds(-500));
    submit(&world, &publisher, 3..6);
    publisher.flush().await;
    assert_eq!(publisher.stats().spooled, 6);
    world.log.set(Mode::Takes);
    drained(&world, &publisher).await;
    assert_eq!(world.names(), names(0..6));
}

#[tokio::test(start_paused = true)]
async fn opening_does_not_wait_for_a_log_that_is_away() {
    let world = World::new(ROOMY);
    world.log.set(Mode::Hangs);
    let publisher = world.open().await;
    assert_eq!(
        publisher.stats().incarnation,
        1_000_000,
        "the wall clock in milliseconds"
    );
    submit(&world, &publisher, 0..1);
    until("it is spooled", || publisher.stats().spooled == 1).await;
    publisher.kill().await;
    // The number stays above what waits, whatever became of the file and the clock.
    std::fs::remove_file(world.dir.path().join("ping.incarnation")).unwrap();
    world.clock.step(watchfold_schemas::Span::from_seconds(-500));
    assert_eq!(world.open().await.stats().incarnation, 1_000_001);
}

#[tokio::test(start_paused = true)]
async fn what_was_forwarded_to_the_end_is_removed_at_the_next_start() {
    let world = World::new(ROOMY);
    let publisher = world.open().await;
    world.log.set(Mode::Full);
    submit(&world, &publisher, 0..3);
    publisher.flush().await;
    publisher.kill().await;
    // As if the process had ended between the last mark and the removal.
    let spool = Embedded::open(&world.spool(), Options::default()).unwrap();
    let info = spool.info(watchfold_schemas::Stream::Observations).await.unwrap();
    let position = watchfold_log::Position {
        log_id: info.log_id,
        sequence: 3,
        id: "cafe/ping/1000000/3 1000003000000".to_owned(),
    };
    spool.save_position("forwarded", position).await.unwrap();
    drop(spool);
    world.log.set(Mode::Takes);
    let publisher = world.open().await;
    until("the spool is gone", || !world.spool().exists()).await;
    submit(&world, &publisher, 3..4);
    publisher.flush().await;
    assert_eq!(world.names(), ["3"]);
    tokio::time::sleep(Duration::from_millis(1)).await;
}
