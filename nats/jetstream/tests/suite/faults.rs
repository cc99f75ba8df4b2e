//! What a broker does to those who use it: dies, comes back, forgets, says no for a while.

use std::sync::Arc;
use std::time::Duration;

use watchfold_jetstream::testing::NatsCluster;
use watchfold_jetstream::{JetStream, JetStreamOptions};
use watchfold_log::contract::message;
use watchfold_log::{Append, LogError, MessageLog, Record, Start};
use watchfold_schemas::Stream;

use crate::{WAIT_MAX, log, operator, server};

const OBS: Stream = Stream::Observations;

fn tick(number: u64) -> Append {
    message(OBS, "wf.obs.site.tick.clock", number, format!("payload {number}"))
}

fn ids(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.id.0.clone()).collect()
}

/// Options with which a call gives up soon.
fn hasty(options: JetStreamOptions) -> JetStreamOptions {
    JetStreamOptions {
        deadline: Duration::from_secs(1),
        ..options
    }
}

async fn read(log: &Arc<JetStream>, count: usize) -> Vec<Record> {
    let mut reader = log.reader(OBS, ">", Start::First).await.unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        let batch = tokio::time::timeout(WAIT_MAX, reader.next(100))
            .await
            .unwrap()
            .unwrap();
        records.extend(batch.records);
    }
    records
}

/// A publisher and a reader go through five deaths of the server; each message is there once and in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_mixed_up_when_the_server_is_killed_under_load() {
    const LAST: u64 = 600;
    let mut server = server().await;
    let log = log(server.options()).await;
    let publisher = {
        let log = log.clone();
        tokio::spawn(async move {
            for number in 1..=LAST {
                append_again(&log, number).await;
            }
        })
    };
    let reader = {
        let log = log.clone();
        tokio::spawn(async move { read(&log, LAST as usize).await })
    };
    for death in 1..=5 {
        loop {
            let info = log.info(OBS).await.unwrap();
            if info.last_sequence >= death * 90 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.restart().await.unwrap();
    }
    publisher.await.unwrap();
    let seen = tokio::time::timeout(WAIT_MAX, reader).await.unwrap().unwrap();
    let want: Vec<String> = (1..=LAST).map(|number| tick(number).id.0).collect();
    assert_eq!(ids(&seen), want);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_is_told_and_used_again_once_it_is_back() {
    let mut server = server().await;
    let log = log(hasty(server.options())).await;
    log.append(vec![tick(1)]).await.unwrap();
    let mut waiting = log.reader(OBS, ">", Start::New).await.unwrap();
    let next = tokio::spawn(async move { waiting.next(10).await });
    server.kill();
    let error = log.append(vec![tick(2)]).await.unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, LogError::Unreachable { .. }), "{told}");
    assert!(
        told.contains(&server.url()) && told.contains("goes on by itself"),
        "{told}"
    );
    server.restart().await.unwrap();
    while log.append(vec![tick(2)]).await.is_err() {}
    let batch = tokio::time::timeout(WAIT_MAX, next)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(ids(&batch.records), [tick(2).id.0]);
}

/// Started before the broker, as processes of one machine are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_starts_before_its_broker_connects_later() {
    let mut server = server().await;
    server.kill();
    let log = JetStream::start(hasty(server.options()));
    let error = log.append(vec![tick(1)]).await.unwrap_err();
    assert!(matches!(error, LogError::Unreachable { .. }), "{error}");
    server.restart().await.unwrap();
    log.ready(WAIT_MAX).await.unwrap();
    assert_eq!(log.append(vec![tick(1)]).await.unwrap()[0].sequence, 1);
}

/// The server forgets the consumer of a waiting reader, as it does after an election.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_vanished_is_made_again_at_its_place() {
    let server = server().await;
    let log = log(server.options()).await;
    log.append((1..=3).map(tick).collect()).await.unwrap();
    let mut reader = log.reader(OBS, "wf.obs.site.>", Start::First).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(reader.next(10).await.unwrap().records);
    }
    let next = tokio::spawn(async move { reader.next(10).await });
    let stream = operator(&server).await.get_stream(OBS.name()).await.unwrap();
    let names: Vec<String> = {
        use futures::TryStreamExt;
        stream.consumer_names().try_collect().await.unwrap()
    };
    assert!(!names.is_empty());
    for name in names {
        stream.delete_consumer(&name).await.unwrap();
    }
    log.append(vec![tick(4)]).await.unwrap();
    let batch = tokio::time::timeout(WAIT_MAX, next)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(ids(&batch.records), [tick(4).id.0]);
}

/// An operator removed the stream: it is made anew, and who read the old one is told to look where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_made_anew_is_another_log() {
    let server = server().await;
    let log = log(server.options()).await;
    log.append((1..=5).map(tick).collect()).await.unwrap();
    let before = log.info(OBS).await.unwrap().log_id;
    let mut reader = log.reader(OBS, ">", Start::Sequence(6)).await.unwrap();
    operator(&server).await.delete_stream(OBS.name()).await.unwrap();
    assert_eq!(log.append(vec![tick(6)]).await.unwrap()[0].sequence, 1);
    assert_ne!(log.info(OBS).await.unwrap().log_id, before);
    let error = reader.try_next(10).await.unwrap_err();
    assert!(matches!(error, LogError::Stopped(_)), "{error}");
    assert!(error.to_string().contains("made anew"), "{error}");
}

/// A publisher that is none of ours: its messages have no ids, and get one that stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_message_is_a_record_like_others() {
    let server = server().await;
    let log = log(server.options()).await;
    let operator = operator(&server).await;
    operator
        .publish("wf.obs.site.tick.foreign", "x".into())
        .await
        .unwrap()
        .await
        .unwrap();
    log.append(vec![tick(1)]).await.unwrap();
    let records = read(&log, 2).await;
    assert_eq!(ids(&records), ["WF_OBS:1".to_owned(), tick(1).id.0]);
    assert_eq!(log.get(OBS, 1).await.unwrap().unwrap(), records[0]);
}

/// Retention overtakes a reader whose filter passes over what others sent: the loss is told, and only the loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filtered_reader_is_told_what_retention_took() {
    let server = server().await;
    let log = log(server.options()).await;
    let other = |number| message(OBS, "wf.obs.other.tick.clock", number, "x");
    log.append(
        (1..=10)
            .map(|n| if n % 2 == 0 { tick(n) } else { other(n) })
            .collect(),
    )
    .await
    .unwrap();
    let mut ahead = log.reader(OBS, "wf.obs.site.>", Start::First).await.unwrap();
    let mut behind = log.reader(OBS, "wf.obs.site.>", Start::First).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let batch = ahead.next(10).await.unwrap();
        assert_eq!(batch.lost, None);
        seen.extend(batch.records);
    }
    let stream = operator(&server).await.get_stream(OBS.name()).await.unwrap();
    stream.purge().sequence(8).await.unwrap();
    let lost = behind.next(10).await.unwrap().lost.unwrap();
    assert_eq!((lost.from, lost.to), (1, 7));
    log.append(vec![tick(11)]).await.unwrap();
    let batch = ahead.next(10).await.unwrap();
    assert_eq!((ids(&batch.records), batch.lost), (vec![tick(11).id.0], None));
}

/// Three servers: the leader of the stream dies under load, and the others go on with all that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_on_when_the_leader_of_a_stream_dies() {
    const LAST: u64 = 200;
    let mut cluster = NatsCluster::start().await.unwrap();
    let log = log(cluster.options()).await;
    let reader = {
        let log = log.clone();
        tokio::spawn(async move { read(&log, LAST as usize).await })
    };
    let mut acked = Vec::new();
    for number in 1..=LAST {
        if number == LAST / 2 {
            let leader = log.leader(OBS).await.unwrap().unwrap();
            cluster.server(&leader).unwrap().kill();
        }
        acked.push(append_again(&log, number).await);
    }
    let seen = tokio::time::timeout(WAIT_MAX, reader).await.unwrap().unwrap();
    let want: Vec<String> = (1..=LAST).map(|number| tick(number).id.0).collect();
    assert_eq!(ids(&seen), want);
    assert_eq!(
        acked,
        seen.iter().map(|record| record.sequence).collect::<Vec<u64>>()
    );
}

/// Until it is acknowledged; where it stands.
async fn append_again(log: &Arc<JetStream>, number: u64) -> u64 {
    loop {
        match log.append(vec![tick(number)]).await {
            Ok(acks) => return acks[0].sequence,
            Err(error) => assert!(matches!(error, LogError::Unreachable { .. }), "{error}"),
        }
    }
}

/// Retention took all there was, so no record follows that could show the gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_is_told_of_the_loss_when_nothing_is_left() {
    let server = server().await;
    let log = log(server.options()).await;
    log.append((1..=10).map(tick).collect()).await.unwrap();
    for filter in [">", "wf.obs.site.>"] {
        let mut reader = log.reader(OBS, filter, Start::Sequence(3)).await.unwrap();
        let stream = operator(&server).await.get_stream(OBS.name()).await.unwrap();
        stream.purge().await.unwrap();
        let last = log.info(OBS).await.unwrap().last_sequence;
        let lost = reader.try_next(10).await.unwrap().lost.unwrap();
        assert_eq!((lost.from, lost.to), (3, last), "{filter}");
        let acks = log.append(vec![tick(last + 1)]).await.unwrap();
        let batch = tokio::time::timeout(WAIT_MAX, reader.next(10))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (ids(&batch.records), batch.lost),
            (vec![tick(last + 1).id.0], None)
        );
        assert_eq!(batch.records[0].sequence, acks[0].sequence);
    }
}
