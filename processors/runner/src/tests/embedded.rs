//! The whole of it as in production: the embedded log, sled, a thread of its own, the real clock.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchfold_kit::Progress;
use watchfold_log::{Append, Embedded, MessageLog, Options, Record, Start};
use watchfold_schemas::{Chain, Stream, decode_event, subjects};

use super::world::{CountingFold, SITE, assert_same, inputs};
use crate::{ChainRunner, RunnerOptions, RunnerStats, fold_all};

async fn read_all(log: &dyn MessageLog, stream: Stream) -> Vec<Record> {
    let mut reader = log
        .reader(stream, &subjects::site_filter(stream, SITE), Start::First)
        .await
        .unwrap();
    let mut records = Vec::new();
    loop {
        let batch = reader.try_next(64).await.unwrap();
        if batch.records.is_empty() {
            return records;
        }
        records.extend(batch.records);
    }
}

/// One life of the process: opens everything, appends while the chain runs, stops when it has caught up.
async fn live(home: &Path, messages: &[Append]) -> RunnerStats {
    let log: Arc<Embedded> = Embedded::open(&home.join("log"), Options::default()).unwrap();
    let runner = ChainRunner::open(
        log.clone(),
        &home.join("state/site"),
        SITE,
        Chain::Site,
        Box::new(CountingFold::version(1)),
        Progress::new("chain"),
        RunnerOptions::for_chain(Chain::Site),
    )
    .await
    .unwrap();
    let (stats, cancel) = (runner.stats(), CancellationToken::new());
    let feeding = async {
        for chunk in messages.chunks(17) {
            log.append(chunk.to_vec()).await.unwrap();
        }
        let last = log.info(Stream::Observations).await.unwrap().last_sequence;
        for _ in 0..6_000 {
            let seen = stats.snapshot();
            if seen.position == last && seen.outbox == 0 {
                cancel.cancel();
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the chain does not catch up with {last}: {:?}", stats.snapshot());
    };
    tokio::join!(runner.run(cancel.clone()), feeding).0.unwrap();
    log.close();
    stats.snapshot()
}

#[tokio::test]
async fn several_lives_on_the_embedded_log_make_the_events_of_one() {
    let home = tempfile::tempdir().unwrap();
    let messages = inputs(900, 41);
    live(home.path(), &messages[..300]).await;
    let second = live(home.path(), &messages[300..600]).await;
    assert_eq!((second.rebuilds, second.records), (0, 300));
    std::fs::remove_dir_all(home.path().join("state")).unwrap();
    let third = live(home.path(), &messages[600..]).await;
    assert_eq!(third.rebuilds, 1);
    assert!(third.records < 900, "it began at a snapshot: {third:?}");

    let log = Embedded::open(&home.path().join("log"), Options::default()).unwrap();
    let filter = subjects::site_filter(Stream::Observations, SITE);
    let mut reader = log
        .reader(Stream::Observations, &filter, Start::First)
        .await
        .unwrap();
    let want = fold_all(reader.as_mut(), SITE, &mut CountingFold::version(1))
        .await
        .unwrap();
    let got: Vec<_> = read_all(log.as_ref(), Stream::Events)
        .await
        .iter()
        .map(|record| decode_event(&record.payload).unwrap())
        .collect();
    assert_same(&got, &want.events, "three lives");
}
