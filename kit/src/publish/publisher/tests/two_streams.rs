//! A collector whose observations go to two streams: each record reaches its own, through outages, restarts and losses.

use std::time::Duration;

use watchfold_schemas::packets::PacketBatch;
use watchfold_schemas::{Origin, Span};

use super::super::testing::{Mode, START, World, until};
use super::super::*;

const OBSERVATIONS: &[Stream] = &[Stream::Observations];
const PACKETS: &[Stream] = &[Stream::Packets];

fn world(bytes_max: u64) -> World {
    World {
        streams: PublisherOptions::PACKETS,
        ..World::new(bytes_max)
    }
}

/// Batches of `bytes` whose first packets have these numbers, and after each third one an observation of its own.
fn submit(world: &World, publisher: &Publisher, numbers: std::ops::Range<u64>, bytes: usize) {
    for first in numbers {
        world.clock.advance(Span::from_millis(1));
        let batch = PacketBatch {
            first,
            base: publisher.now(),
            v4: vec![0; bytes],
            ..PacketBatch::default()
        };
        publisher.submit(Body::Batch(Box::new(batch))).unwrap();
        if first % 3 == 2 {
            publisher.submit(Body::Quiet).unwrap();
        }
    }
}

fn batches(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|first| format!("from {first}")).collect()
}

async fn drained(world: &World, publisher: &Publisher) {
    until("everything is in the log", || publisher.stats().queued == 0).await;
    until("the spool is gone", || !world.spool().exists()).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_and_a_kill_lose_nothing_of_either_stream() {
    let world = world(64 * 1024 * 1024);
    let publisher = world.open().await;
    submit(&world, &publisher, 0..3, 10);
    publisher.flush().await;
    world.log.set(Mode::Full);
    submit(&world, &publisher, 3..6, 10);
    publisher.flush().await;
    publisher.kill().await;
    let publisher = world.open().await;
    submit(&world, &publisher, 6..9, 10);
    publisher.flush().await;
    world.log.set(Mode::Takes);
    drained(&world, &publisher).await;
    submit(&world, &publisher, 9..12, 10);
    publisher.flush().await;
    assert_eq!(world.names_in(PACKETS), batches(0..12));
    assert_eq!(world.names_in(OBSERVATIONS), ["quiet"; 4]);
    let places: Vec<(u64, u64)> = world
        .accepted()
        .iter()
        .map(|made| (made.origin.incarnation - 1_000_000, made.origin.number))
        .collect();
    let together = (1..=8)
        .map(|number| (0, number))
        .chain((1..=8).map(|number| (6, number)));
    assert_eq!(places, together.collect::<Vec<_>>(), "one numbering over both");
}

#[tokio::test(start_paused = true)]
async fn what_a_spool_loses_is_a_gap_in_both_streams() {
    let world = world(64 * 1024);
    let publisher = world.open().await;
    submit(&world, &publisher, 0..2, 10);
    publisher.flush().await;
    world.log.set(Mode::Full);
    for first in 2..80 {
        submit(&world, &publisher, first..first + 1, 4_000);
        publisher.flush().await;
    }
    world.log.set(Mode::Takes);
    drained(&world, &publisher).await;
    for stream in [PACKETS, OBSERVATIONS] {
        let names = world.names_in(stream);
        let gaps: Vec<&String> = names.iter().filter(|name| name.starts_with("gap")).collect();
        assert_eq!(gaps.len(), 1, "{stream:?}: {names:?}");
    }
    let packets = world.names_in(PACKETS);
    assert_eq!(packets[..2], batches(0..2));
    assert!(
        packets[2].starts_with("gap") && packets.last() == Some(&"from 79".to_owned()),
        "{packets:?}"
    );
    let lost = publisher.stats().spool_lost;
    assert!(
        packets[2] == format!("gap of {lost}"),
        "counted once: {lost} {packets:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_and_a_refused_batch_leave_gaps_in_their_own_stream() {
    let world = world(64 * 1024);
    let publisher = world.open().await;
    world.log.set(Mode::Limit(1_000));
    submit(&world, &publisher, 0..3, 2_000);
    publisher.flush().await;
    assert_eq!(world.names_in(PACKETS), ["gap of 1"; 3]);
    assert_eq!(world.names_in(OBSERVATIONS), ["quiet"]);
}

#[tokio::test(start_paused = true)]
async fn batches_do_not_keep_a_collector_from_saying_that_it_lives() {
    let world = world(64 * 1024);
    let publisher = world.open().await;
    let cancel = CancellationToken::new();
    publisher.spawn_quiet(Duration::from_secs(5), cancel.clone());
    for second in 0..12 {
        submit(&world, &publisher, second * 3..second * 3 + 1, 10);
        publisher.flush().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    cancel.cancel();
    publisher.flush().await;
    assert_eq!(world.names_in(OBSERVATIONS), ["quiet"; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_file_and_a_clock_behind_go_on_from_the_packets_too() {
    let world = world(64 * 1024);
    let origin = Origin {
        site: "cafe".into(),
        collector: "ping".into(),
        incarnation: 9_000_000,
        number: 3,
    };
    assert!(START.as_millis() < 9_000_000);
    world.log.put_in(Stream::Packets, origin);
    let publisher = world.open().await;
    assert_eq!(publisher.stats().incarnation, 9_000_001);
}
