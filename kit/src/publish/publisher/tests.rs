//! What a publisher promises, against a log that fails in every way.

mod outages;
mod spooling;
mod two_streams;

use std::time::Duration;

use watchfold_schemas::observation::Fault;
use watchfold_schemas::{CodecError, Span};

use super::testing::{Held, Mode, START, SwitchLog};
use super::*;
use crate::publish::clock::ManualClock;

struct Bench {
    publisher: Arc<Publisher>,
    log: Arc<SwitchLog>,
    clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

async fn bench(records_max: usize) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(SwitchLog::default());
    let clock = Arc::new(ManualClock::at(START));
    let options = PublisherOptions {
        clock: Box::new(Held(Arc::clone(&clock))),
        queue_records_max: records_max,
        ..PublisherOptions::default()
    };
    let publisher = Publisher::open_with(log.clone(), "cafe", "ping", dir.path(), options)
        .await
        .unwrap();
    Bench {
        publisher,
        log,
        clock,
        _dir: dir,
    }
}

/// Every record as `incarnation/number observed..through kind`, times in milliseconds after the start.
fn lines(log: &SwitchLog) -> Vec<String> {
    let millis = |time: Time| time.since(START).as_millis();
    let line = |o: Observation| {
        let step = o.origin.incarnation - 1_000_000;
        let (observed, through) = (millis(o.observed_at), millis(o.through));
        format!(
            "{step}/{} {observed}..{through} {}",
            o.origin.number,
            o.body.kind()
        )
    };
    log.observations().into_iter().map(line).collect()
}

fn fault(bytes: usize) -> Body {
    Body::Fault(Fault {
        subject: String::new(),
        at: START,
        reason: "x".repeat(bytes),
        active: true,
    })
}

#[tokio::test]
async fn records_are_numbered_stamped_and_acknowledged() {
    let bench = bench(100).await;
    assert_eq!(
        bench.publisher.publish(Body::Quiet).await.unwrap(),
        Ack {
            sequence: 1,
            duplicate: false
        }
    );
    bench.clock.advance(Span::from_millis(250));
    bench.publisher.submit(fault(3)).unwrap();
    bench.publisher.flush().await;
    assert_eq!(lines(&bench.log), ["0/1 0..0 quiet", "0/2 250..250 fault"]);
    let stats = bench.publisher.stats();
    assert_eq!((stats.published, stats.queued, stats.dropped), (2, 0, 0));
}

#[tokio::test]
async fn through_waits_for_the_earliest_measurement_and_never_falls() {
    let bench = bench(100).await;
    bench.clock.advance(Span::from_millis(100));
    let early = bench.publisher.start();
    bench.clock.advance(Span::from_millis(100));
    let late = bench.publisher.begin(bench.publisher.now());
    bench.clock.advance(Span::from_millis(100));
    bench.publisher.submit(Body::Quiet).unwrap();
    // The record of a measurement already counts without it.
    early.submit(|_| fault(1)).unwrap();
    drop(late);
    bench.publisher.submit(Body::Quiet).unwrap();
    let too_late = bench.publisher.begin(START);
    bench.publisher.submit(Body::Quiet).unwrap();
    drop(too_late);
    bench.publisher.flush().await;
    assert_eq!(
        lines(&bench.log),
        [
            "0/1 300..100 quiet",
            "0/2 300..200 fault",
            "0/3 300..300 quiet",
            "0/4 300..300 quiet"
        ]
    );
}

#[tokio::test]
async fn a_step_of_the_wall_clock_begins_an_incarnation_after_what_was_queued() {
    let bench = bench(100).await;
    bench.log.set(Mode::Full);
    bench.publisher.submit(Body::Quiet).unwrap();
    let flying = bench.publisher.start();
    let moment = flying.moment();
    bench.clock.advance(Span::from_millis(400));
    bench.publisher.submit(Body::Quiet).unwrap();
    bench.clock.step(Span::from_seconds(-500));
    bench.publisher.submit(Body::Quiet).unwrap();
    let mut sent_at = None;
    flying
        .submit(|stamp| {
            sent_at = Some(stamp.time_of(moment));
            Body::Quiet
        })
        .unwrap();
    bench.log.set(Mode::Takes);
    bench.publisher.flush().await;
    assert_eq!(
        lines(&bench.log),
        [
            "0/1 0..0 quiet",
            "0/2 400..0 quiet",
            "1/1 -499600..-500000 quiet",
            "1/2 -499600..-499600 quiet"
        ]
    );
    assert_eq!(
        sent_at,
        Some(START - Span::from_seconds(500)),
        "counted back from the new time"
    );
    assert_eq!(bench.publisher.stats().steps, 1);
    let kept = std::fs::read_to_string(bench._dir.path().join("ping.incarnation")).unwrap();
    assert_eq!(kept, "1000001\n");
}

#[tokio::test(start_paused = true)]
async fn a_failed_append_is_repeated_under_the_same_ids_in_order() {
    let bench = bench(100).await;
    bench.log.set(Mode::LosesAck);
    bench.publisher.submit(fault(1)).unwrap();
    bench.publisher.submit(Body::Quiet).unwrap();
    let mut count = bench.log.count.subscribe();
    count.wait_for(|count| *count >= 1).await.unwrap();
    bench.log.set(Mode::Takes);
    bench.publisher.submit(Body::Quiet).unwrap();
    bench.publisher.flush().await;
    assert_eq!(
        lines(&bench.log),
        ["0/1 0..0 fault", "0/2 0..0 quiet", "0/3 0..0 quiet"]
    );
    let asked = bench.log.asked.lock().unwrap();
    assert!(asked.len() >= 2 && asked[0] == asked[1], "{asked:?}");
    assert!(bench.publisher.stats().retries >= 1);
}

#[tokio::test(start_paused = true)]
async fn overflow_drops_the_oldest_and_leaves_a_gap_without_a_hole() {
    let bench = bench(3).await;
    bench.log.set(Mode::Full);
    // The writer takes the first one at once and keeps it.
    bench.publisher.submit(Body::Quiet).unwrap();
    while bench.publisher.stats().retries == 0 {
        tokio::task::yield_now().await;
    }
    let trouble = bench.publisher.trouble().expect("the log takes nothing");
    assert!(trouble.contains("/full"), "{trouble}");
    let waiting = tokio::spawn({
        let publisher = Arc::clone(&bench.publisher);
        async move { publisher.publish(Body::Quiet).await }
    });
    tokio::task::yield_now().await;
    for _ in 0..6 {
        bench.clock.advance(Span::from_millis(100));
        bench.publisher.submit(Body::Quiet).unwrap();
    }
    assert!(matches!(waiting.await.unwrap(), Err(KitError::Overflow)));
    bench.log.set(Mode::Takes);
    bench.publisher.flush().await;
    assert_eq!(bench.publisher.trouble(), None);
    assert_eq!(
        lines(&bench.log),
        [
            "0/1 0..0 quiet",
            "0/2 400..400 gap",
            "0/3 500..500 quiet",
            "0/4 600..600 quiet"
        ]
    );
    let gaps: Vec<_> = bench
        .log
        .observations()
        .into_iter()
        .filter(|o| o.body.kind() == "gap")
        .collect();
    let Body::Gap(gap) = &gaps[0].body else { panic!() };
    assert_eq!(
        (gap.from, gap.to, gap.records),
        (START, START + Span::from_millis(400), 5)
    );
    assert_eq!(bench.publisher.stats().dropped, 5);
}

#[tokio::test]
async fn a_record_refused_for_good_becomes_a_gap_under_its_number() {
    let bench = bench(100).await;
    bench.log.set(Mode::Limit(600));
    let refused = bench.publisher.publish(fault(1_000));
    let (refused, taken) = tokio::join!(refused, bench.publisher.publish(Body::Quiet));
    assert!(matches!(refused, Err(KitError::Refused(_))), "{refused:?}");
    taken.unwrap();
    assert_eq!(lines(&bench.log), ["0/1 0..0 gap", "0/2 0..0 quiet"]);
}

#[tokio::test]
async fn what_cannot_be_encoded_takes_no_number() {
    let bench = bench(100).await;
    let error = bench.publisher.publish(fault(2_000_000)).await.unwrap_err();
    assert!(
        matches!(error, KitError::Encode(CodecError::TooLarge { .. })),
        "{error}"
    );
    bench.publisher.publish(Body::Quiet).await.unwrap();
    assert_eq!(lines(&bench.log), ["0/1 0..0 quiet"]);
}

#[tokio::test]
async fn a_closed_log_is_told_to_everyone_who_waits() {
    let bench = bench(100).await;
    bench.log.set(Mode::Closed);
    assert!(matches!(
        bench.publisher.publish(Body::Quiet).await,
        Err(KitError::Closed)
    ));
    bench.publisher.flush().await;
    while bench.publisher.submit(Body::Quiet).is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn dropping_the_publisher_writes_what_is_queued() {
    let Bench { publisher, log, .. } = bench(100).await;
    (0..5).for_each(|_| publisher.submit(Body::Quiet).unwrap());
    drop(publisher);
    let mut count = log.count.subscribe();
    tokio::time::timeout(Duration::from_secs(10), count.wait_for(|count| *count == 5))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_quiet_collector_keeps_sending() {
    let bench = bench(100).await;
    let cancel = CancellationToken::new();
    bench
        .publisher
        .spawn_quiet(Duration::from_secs(1), cancel.clone());
    let mut count = bench.log.count.subscribe();
    count.wait_for(|count| *count >= 3).await.unwrap();
    cancel.cancel();
    assert!(bench.log.observations().iter().all(|o| o.body == Body::Quiet));
}

#[tokio::test]
async fn names_that_are_no_tokens_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(SwitchLog::default());
    let opened = Publisher::open(log, "cafe 1", "ping", dir.path()).await;
    let Err(error) = opened else { panic!("opened") };
    assert!(error.to_string().contains("\"cafe 1\""), "{error}");
}
