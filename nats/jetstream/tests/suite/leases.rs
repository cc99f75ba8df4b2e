//! Leases on a real broker: one holder at a time, followed when it is gone.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;
use watchfold_jetstream::testing::NatsServer;
use watchfold_jetstream::{JetStream, LEASE_TTL};
use watchfold_log::{Lease, Leases, LogError, MessageLog, Position};

use crate::{WAIT_MAX, log, server};

async fn soon(leases: &dyn Leases, name: &str) -> Lease {
    let give_up = Instant::now() + WAIT_MAX;
    loop {
        if let Some(lease) = leases.acquire(name).await.unwrap() {
            return lease;
        }
        assert!(Instant::now() < give_up, "{name} never became free");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_holds_a_lease_until_it_lets_go() {
    let server = server().await;
    let (one, two) = (
        log(server.options()).await.leases(),
        log(server.options()).await.leases(),
    );
    let held = one.acquire("site/cafe-1").await.unwrap().unwrap();
    assert!(two.acquire("site/cafe-1").await.unwrap().is_none());
    assert!(
        one.acquire("site/cafe-1").await.unwrap().is_none(),
        "once in a process, too"
    );
    let other = two.acquire("site/cafe-2").await.unwrap().unwrap();
    drop(held);
    let taken = soon(two.as_ref(), "site/cafe-1").await;
    assert!(!taken.lost().is_cancelled() && !other.lost().is_cancelled());
    let error = one.acquire("").await.unwrap_err();
    assert!(matches!(error, LogError::InvalidMessage { .. }), "{error}");
}

/// The holder outlives the time of a lease by renewing it, and loses it when the broker is away for longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_lasts_while_it_is_renewed_and_is_lost_when_it_cannot_be() {
    let mut server = server().await;
    let leases = log(server.options()).await.leases();
    let held = leases.acquire("discord/site").await.unwrap().unwrap();
    tokio::time::sleep(LEASE_TTL + Duration::from_secs(2)).await;
    assert!(!held.lost().is_cancelled());
    assert!(leases.acquire("discord/site").await.unwrap().is_none());
    let gone = Instant::now();
    server.kill();
    tokio::time::timeout(WAIT_MAX, held.lost().cancelled())
        .await
        .unwrap();
    assert!(gone.elapsed() < LEASE_TTL, "told before another could take it");
    server.restart().await.unwrap();
    let again = soon(leases.as_ref(), "discord/site").await;
    assert!(!again.lost().is_cancelled());
}

/// How often ten reads of a position ask what the bucket is like.
async fn infos_of_ten_reads(server: &NatsServer, log: &JetStream) -> usize {
    let listener = async_nats::connect(server.url()).await.unwrap();
    let mut asked = listener.subscribe("$JS.API.STREAM.>").await.unwrap();
    // A server takes the commands of one connection in order: once it answers this, it has the subscription.
    listener.request("$JS.API.INFO", "".into()).await.unwrap();
    for _ in 0..10 {
        assert!(log.load_position("reader").await.unwrap().is_some());
    }
    let (mut infos, mut reads) = (0, 0);
    while reads < 10 {
        let request = tokio::time::timeout(WAIT_MAX, asked.next()).await.unwrap();
        match request.unwrap().subject.as_str() {
            "$JS.API.STREAM.INFO.KV_WF_POS" => infos += 1,
            "$JS.API.STREAM.MSG.GET.KV_WF_POS" => reads += 1,
            _ => {}
        }
    }
    infos
}

/// It is asked because nats-server 2.9.10 ends when a message of a bucket is asked for that is being made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_a_bucket_held_anything_is_asked_once_in_each_connection() {
    let mut server = server().await;
    let log = log(server.options()).await;
    assert!(
        log.load_position("reader").await.unwrap().is_none(),
        "and it is made"
    );
    let position = Position {
        log_id: "WF_OBS-1".to_owned(),
        sequence: 1,
        id: "i".to_owned(),
    };
    log.save_position("reader", position).await.unwrap();
    assert_eq!(infos_of_ten_reads(&server, &log).await, 1);
    assert_eq!(infos_of_ten_reads(&server, &log).await, 0);
    server.restart().await.unwrap();
    assert_eq!(
        infos_of_ten_reads(&server, &log).await,
        1,
        "its store may be another"
    );
}
