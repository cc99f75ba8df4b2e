//! What every transport must do, as cases over [`MessageLog`]: the embedded log, its in-memory twin and, later, a broker
//! run the same ones. For tests; each case panics on what it finds wrong.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use watchfold_schemas::{MessageId, Stream};

use crate::{
    Ack, Append, Batch, LogError, LogReader, MessageLog, PAYLOAD_BYTES_MAX, Position, Record, Start, agrees,
};

/// How long a case waits for what must come.
const WAIT_MAX: Duration = Duration::from_secs(20);
const STREAM: Stream = Stream::Observations;

/// A transport under test.
pub trait Transport: Send + Sync {
    /// An empty log with small limits.
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn MessageLog>>;
    /// The same log after a restart of the process.
    fn reopen(&self, log: Arc<dyn MessageLog>) -> BoxFuture<'_, Arc<dyn MessageLog>>;
    /// Makes retention drop some of the oldest records of `WF_OBS`, not all.
    fn drop_oldest<'a>(&'a self, log: &'a Arc<dyn MessageLog>) -> BoxFuture<'a, ()>;
    /// The same log after it lost at least the last record of `WF_OBS`.
    fn lose_tail(&self, log: Arc<dyn MessageLog>) -> BoxFuture<'_, Arc<dyn MessageLog>>;
}

/// Runs every case, each on a fresh log.
pub async fn check_all(transport: &dyn Transport) {
    order_and_acks(transport.fresh().await).await;
    filters(transport.fresh().await).await;
    duplicates(transport, transport.fresh().await).await;
    invalid_messages(transport.fresh().await).await;
    starts(transport.fresh().await).await;
    waiting_readers(transport.fresh().await).await;
    several_readers_and_a_slow_one(transport.fresh().await).await;
    a_dropped_future_loses_nothing(transport.fresh().await).await;
    large_messages(transport.fresh().await).await;
    many_appenders_at_once(transport.fresh().await).await;
    a_reader_that_dies_mid_batch(transport.fresh().await).await;
    a_restart_changes_nothing(transport, transport.fresh().await).await;
    retention_overtakes_a_reader(transport, transport.fresh().await).await;
    a_lost_tail_disagrees(transport, transport.fresh().await).await;
    positions(transport, transport.fresh().await).await;
    streams_are_apart(transport.fresh().await).await;
}

/// A message of a test producer.
pub fn message(stream: Stream, subject: &str, number: u64, payload: impl Into<Bytes>) -> Append {
    let id = MessageId(format!("site/contract/1/{number}"));
    Append {
        stream,
        subject: subject.to_owned(),
        id,
        payload: payload.into(),
    }
}

fn numbered(numbers: std::ops::RangeInclusive<u64>) -> Vec<Append> {
    let numbered = |number| {
        message(
            STREAM,
            "wf.obs.site.tick.clock",
            number,
            format!("payload {number}"),
        )
    };
    numbers.map(numbered).collect()
}

async fn append(log: &Arc<dyn MessageLog>, messages: Vec<Append>) -> Vec<Ack> {
    tokio::time::timeout(WAIT_MAX, log.append(messages))
        .await
        .expect("in time")
        .expect("appends")
}

async fn reader(log: &Arc<dyn MessageLog>, filter: &str, start: Start) -> Box<dyn LogReader> {
    log.reader(STREAM, filter, start).await.expect("opens a reader")
}

async fn next(reader: &mut Box<dyn LogReader>, max: usize) -> Batch {
    tokio::time::timeout(WAIT_MAX, reader.next(max))
        .await
        .expect("in time")
        .expect("reads")
}

/// Everything up to the end, with every loss told on the way.
async fn rest(reader: &mut Box<dyn LogReader>) -> (Vec<Record>, u64) {
    let (mut records, mut lost) = (Vec::new(), 0);
    loop {
        let batch = reader.try_next(7).await.expect("reads");
        if batch.records.is_empty() && batch.lost.is_none() {
            return (records, lost);
        }
        lost += batch.lost.map_or(0, |lost| lost.to - lost.from + 1);
        records.extend(batch.records);
    }
}

fn sequences(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.sequence).collect()
}

async fn order_and_acks(log: Arc<dyn MessageLog>) {
    let info = log.info(STREAM).await.expect("info");
    assert_eq!(
        (info.first_sequence, info.last_sequence, info.last_stored_at),
        (1, 0, None)
    );
    assert_eq!(append(&log, Vec::new()).await, []);
    let messages = numbered(1..=20);
    let (first, second) = messages.split_at(3);
    let mut acks = append(&log, first.to_vec()).await;
    acks.extend(append(&log, second.to_vec()).await);
    let want: Vec<Ack> = (1..=20)
        .map(|sequence| Ack {
            sequence,
            duplicate: false,
        })
        .collect();
    assert_eq!(acks, want);
    let (records, lost) = rest(&mut reader(&log, ">", Start::First).await).await;
    assert_eq!((sequences(&records), lost), ((1..=20).collect(), 0));
    for (record, message) in records.iter().zip(&messages) {
        let told = (&record.id, &record.subject, &record.payload);
        assert_eq!(told, (&message.id, &message.subject, &message.payload));
        assert_eq!(
            log.get(STREAM, record.sequence).await.expect("gets").as_ref(),
            Some(record)
        );
    }
    assert!(records.is_sorted_by_key(|record| record.stored_at));
    assert_eq!(log.get(STREAM, 0).await.expect("gets"), None);
    assert_eq!(log.get(STREAM, 21).await.expect("gets"), None);
    let info = log.info(STREAM).await.expect("info");
    assert_eq!(
        (info.first_sequence, info.last_sequence, info.damaged),
        (1, 20, 0)
    );
    assert_eq!(info.last_stored_at, records.last().map(|record| record.stored_at));
}

async fn filters(log: Arc<dyn MessageLog>) {
    let subjects = ["wf.obs.a.tick.clock", "wf.obs.b.tick.clock", "wf.obs.a.ping.gw"];
    let messages = (1..=9)
        .map(|n| message(STREAM, subjects[n as usize % 3], n, "x"))
        .collect();
    append(&log, messages).await;
    for (filter, want) in [
        (">", (1..=9).collect::<Vec<u64>>()),
        ("wf.obs.a.>", vec![2, 3, 5, 6, 8, 9]),
        ("wf.obs.*.tick.*", vec![1, 3, 4, 6, 7, 9]),
        ("wf.obs.a.ping.gw", vec![2, 5, 8]),
        ("wf.obs.c.>", vec![]),
    ] {
        let (records, lost) = rest(&mut reader(&log, filter, Start::First).await).await;
        assert_eq!((sequences(&records), lost), (want.clone(), 0), "{filter}");
        let last = log
            .last(STREAM, filter)
            .await
            .expect("last")
            .map(|record| record.sequence);
        assert_eq!(last, want.last().copied(), "{filter}");
        let of_records: BTreeSet<String> = records.into_iter().map(|record| record.subject).collect();
        let subjects = log.subjects(STREAM, filter).await.expect("lists subjects");
        assert_eq!(subjects, of_records, "{filter}");
    }
}

async fn duplicates(transport: &dyn Transport, log: Arc<dyn MessageLog>) {
    append(&log, numbered(1..=5)).await;
    let again = |sequence| Ack {
        sequence,
        duplicate: true,
    };
    let mut both = numbered(4..=6);
    both.extend(numbered(6..=6));
    let new = Ack {
        sequence: 6,
        duplicate: false,
    };
    assert_eq!(
        append(&log, both.clone()).await,
        [again(4), again(5), new, again(6)]
    );
    let log = transport.reopen(log).await;
    assert_eq!(append(&log, both).await, [again(4), again(5), again(6), again(6)]);
    let (records, _) = rest(&mut reader(&log, ">", Start::First).await).await;
    assert_eq!(sequences(&records), (1..=6).collect::<Vec<u64>>());
}

async fn invalid_messages(log: Arc<dyn MessageLog>) {
    let with = |subject: &str, id: &str, bytes: usize| {
        let id = MessageId(id.to_owned());
        Append {
            stream: STREAM,
            subject: subject.to_owned(),
            id,
            payload: vec![7; bytes].into(),
        }
    };
    for bad in [
        with("", "id", 1),
        with("wf obs", "id", 1),
        with("wf..obs", "id", 1),
        with("wf.obs.s.k.c", "", 1),
    ] {
        let refused = log.append(vec![with("wf.obs.s.k.c", "good", 1), bad]).await;
        assert!(
            matches!(refused, Err(LogError::InvalidMessage { .. })),
            "{refused:?}"
        );
    }
    let refused = log.append(vec![with("wf.obs.s.k.c", &"i".repeat(256), 1)]).await;
    assert!(
        matches!(refused, Err(LogError::InvalidMessage { bytes: 256, .. })),
        "{refused:?}"
    );
    let refused = log
        .append(vec![with("wf.obs.s.k.c", "id", PAYLOAD_BYTES_MAX + 1)])
        .await;
    assert!(matches!(refused, Err(LogError::TooLarge { .. })), "{refused:?}");
    assert_eq!(
        log.info(STREAM).await.expect("info").last_sequence,
        0,
        "a refused append leaves nothing"
    );
    let large = with("wf.obs.s.k.c", &"i".repeat(255), PAYLOAD_BYTES_MAX);
    append(&log, vec![large.clone(), with("wf.obs.s.k.c", "empty", 0)]).await;
    let (records, _) = rest(&mut reader(&log, ">", Start::First).await).await;
    assert_eq!(records.len(), 2);
    assert!(records[0].payload == large.payload && records[1].payload.is_empty());
}

async fn starts(log: Arc<dyn MessageLog>) {
    append(&log, numbered(1..=6)).await;
    let fourth = log
        .get(STREAM, 4)
        .await
        .expect("gets")
        .expect("is kept")
        .stored_at;
    let since = (1..=6).rev();
    let mut first_at_fourth = 4;
    for sequence in since {
        let record = log.get(STREAM, sequence).await.expect("gets").expect("is kept");
        if record.stored_at >= fourth {
            first_at_fourth = sequence;
        }
    }
    for (start, want) in [
        (Start::First, 1),
        (Start::Sequence(0), 1),
        (Start::Sequence(3), 3),
        (Start::Sequence(7), 7),
        (Start::New, 7),
        (Start::StoredAt(fourth), first_at_fourth),
        (Start::StoredAt(watchfold_schemas::Time(i64::MAX)), 7),
        (Start::StoredAt(watchfold_schemas::Time::EPOCH), 1),
    ] {
        let mut reader = reader(&log, ">", start.clone()).await;
        let (records, lost) = rest(&mut reader).await;
        assert_eq!(
            (sequences(&records), lost),
            ((want..=6).collect(), 0),
            "{start:?}"
        );
    }
}

async fn waiting_readers(log: Arc<dyn MessageLog>) {
    let mut waiting = reader(&log, "wf.obs.site.wanted.>", Start::New).await;
    let (batch, _) = tokio::join!(next(&mut waiting, 10), async {
        append(&log, numbered(1..=3)).await;
        append(&log, vec![message(STREAM, "wf.obs.site.wanted.x", 4, "x")]).await;
    });
    assert_eq!(sequences(&batch.records), [4]);
    assert!(batch.last_sequence >= 4);
    assert_eq!(waiting.try_next(10).await.expect("reads").records, []);
}

async fn several_readers_and_a_slow_one(log: Arc<dyn MessageLog>) {
    let mut slow = reader(&log, ">", Start::First).await;
    let fast: Vec<_> = (0..4)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut reader = reader(&log, ">", Start::First).await;
                let mut seen = Vec::new();
                while seen.len() < 100 {
                    seen.extend(sequences(&next(&mut reader, 9).await.records));
                }
                seen
            })
        })
        .collect();
    let mut slow_seen = Vec::new();
    for from in (1..=100).step_by(5) {
        append(&log, numbered(from..=from + 4)).await;
        if from % 3 == 0 {
            slow_seen.extend(sequences(&next(&mut slow, 1).await.records));
        }
    }
    for reader in fast {
        assert_eq!(reader.await.expect("ends"), (1..=100).collect::<Vec<u64>>());
    }
    slow_seen.extend(sequences(&rest(&mut slow).await.0));
    assert_eq!(slow_seen, (1..=100).collect::<Vec<u64>>());
}

async fn a_dropped_future_loses_nothing(log: Arc<dyn MessageLog>) {
    append(&log, numbered(1..=60)).await;
    let mut reader = reader(&log, ">", Start::First).await;
    let mut seen = Vec::new();
    while seen.len() < 60 {
        // Polled once, then dropped: perhaps in the middle of its work.
        let mut polled = Box::pin(reader.next(3));
        let once = futures::poll!(polled.as_mut());
        drop(polled);
        if let std::task::Poll::Ready(batch) = once {
            seen.extend(sequences(&batch.expect("reads").records));
            continue;
        }
        seen.extend(sequences(&next(&mut reader, 3).await.records));
    }
    assert_eq!(seen, (1..=60).collect::<Vec<u64>>());
}

/// As large as a message may be, between small ones, in one append.
async fn large_messages(log: Arc<dyn MessageLog>) {
    let subject = "wf.obs.site.large.x";
    let sizes = [1, PAYLOAD_BYTES_MAX, 10, PAYLOAD_BYTES_MAX, 0];
    let messages: Vec<Append> = (1_u8..)
        .zip(sizes)
        .map(|(number, bytes)| message(STREAM, subject, number.into(), vec![number; bytes]))
        .collect();
    append(&log, messages.clone()).await;
    let mut reader = reader(&log, ">", Start::First).await;
    let mut records = Vec::new();
    while records.len() < messages.len() {
        let batch = next(&mut reader, 2).await;
        assert!(batch.records.len() <= 2 && batch.lost.is_none());
        records.extend(batch.records);
    }
    for (record, message) in records.iter().zip(&messages) {
        assert!(
            record.payload == message.payload,
            "record {} is not what was sent",
            record.sequence
        );
    }
}

/// More than can be on its way at a time, while a reader stands still: appenders wait, and nothing is lost or mixed up.
async fn many_appenders_at_once(log: Arc<dyn MessageLog>) {
    const APPENDERS: u64 = 20;
    const EACH: u64 = 25;
    let mut still = reader(&log, ">", Start::First).await;
    let appenders: Vec<_> = (0..APPENDERS)
        .map(|appender| {
            let log = log.clone();
            tokio::spawn(async move {
                let subject = format!("wf.obs.site.tick.c{appender}");
                let mut acks = Vec::new();
                for from in (0..EACH).step_by(5) {
                    let numbers = (from..from + 5).map(|number| appender * EACH + number);
                    let messages =
                        numbers.map(|number| message(STREAM, &subject, number, vec![number as u8; 4096]));
                    acks.extend(append(&log, messages.collect()).await);
                }
                acks
            })
        })
        .collect();
    let mut acked = Vec::new();
    for appender in appenders {
        let acks = appender.await.expect("ends");
        assert!(acks.is_sorted_by_key(|ack| ack.sequence) && acks.iter().all(|ack| !ack.duplicate));
        acked.extend(acks.iter().map(|ack| ack.sequence));
    }
    acked.sort_unstable();
    assert_eq!(acked, (1..=APPENDERS * EACH).collect::<Vec<u64>>());
    let (records, lost) = rest(&mut still).await;
    assert_eq!((sequences(&records), lost), (acked, 0));
    for appender in 0..APPENDERS {
        let subject = format!("wf.obs.site.tick.c{appender}");
        let ids = records.iter().filter(|record| record.subject == subject);
        let want = (0..EACH).map(|number| format!("site/contract/1/{}", appender * EACH + number));
        assert!(
            ids.map(|record| record.id.0.clone()).eq(want),
            "{subject} is in order"
        );
    }
}

/// What it read and did not deal with is there for the next one, which goes on from the position that was saved.
async fn a_reader_that_dies_mid_batch(log: Arc<dyn MessageLog>) {
    append(&log, numbered(1..=40)).await;
    let mut first = reader(&log, ">", Start::First).await;
    let mut dealt_with = 0;
    while dealt_with < 7 {
        let batch = next(&mut first, 10).await;
        dealt_with = sequences(&batch.records).into_iter().take(7).max().unwrap_or(7);
        log.save_position("sink/site", position_at(&log, dealt_with).await)
            .await
            .expect("saves");
    }
    let waiting = tokio::spawn(async move { first.next(10).await.map(|batch| batch.records.len()) });
    tokio::task::yield_now().await;
    waiting.abort();
    let saved = log.load_position("sink/site").await.expect("loads");
    let saved = saved.expect("was saved");
    assert!(agrees(log.as_ref(), STREAM, &saved).await.expect("asks"));
    let mut second = reader(&log, ">", Start::Sequence(saved.sequence + 1)).await;
    let (records, lost) = rest(&mut second).await;
    assert_eq!(
        (sequences(&records), lost),
        ((saved.sequence + 1..=40).collect(), 0)
    );
}

async fn a_restart_changes_nothing(transport: &dyn Transport, log: Arc<dyn MessageLog>) {
    append(&log, numbered(1..=30)).await;
    let (before, info) = (
        rest(&mut reader(&log, ">", Start::First).await).await,
        log.info(STREAM).await,
    );
    let info = info.expect("info");
    let log = transport.reopen(log).await;
    assert_eq!(rest(&mut reader(&log, ">", Start::First).await).await, before);
    assert_eq!(log.info(STREAM).await.expect("info").log_id, info.log_id);
    let mut resumed = reader(&log, ">", Start::Sequence(31)).await;
    let ack = append(&log, numbered(31..=31)).await;
    assert_eq!(
        ack,
        [Ack {
            sequence: 31,
            duplicate: false
        }]
    );
    assert_eq!(sequences(&next(&mut resumed, 5).await.records), [31]);
}

async fn retention_overtakes_a_reader(transport: &dyn Transport, log: Arc<dyn MessageLog>) {
    append(&log, numbered(1..=10)).await;
    let mut overtaken = reader(&log, ">", Start::First).await;
    let head = next(&mut overtaken, 2).await.records.len() as u64;
    transport.drop_oldest(&log).await;
    let info = log.info(STREAM).await.expect("info");
    assert!(info.first_sequence > 1 && info.first_sequence <= info.last_sequence);
    let (records, lost) = rest(&mut overtaken).await;
    assert_eq!(
        head + lost + records.len() as u64,
        info.last_sequence,
        "each record is read or told lost"
    );
    assert!(sequences(&records).is_sorted());
    let mut late = reader(&log, ">", Start::Sequence(1)).await;
    let told = next(&mut late, 1).await.lost.expect("is told of the gap");
    assert_eq!((told.from, told.to), (1, info.first_sequence - 1));
    let (_, lost) = rest(&mut reader(&log, ">", Start::First).await).await;
    assert_eq!(lost, 0, "the first record kept is where First starts");
    assert_eq!(log.get(STREAM, 1).await.expect("gets"), None);
}

async fn position_at(log: &Arc<dyn MessageLog>, sequence: u64) -> Position {
    let log_id = log.info(STREAM).await.expect("info").log_id;
    let record = log.get(STREAM, sequence).await.expect("gets").expect("is kept");
    Position {
        log_id,
        sequence,
        id: record.id.0,
    }
}

async fn a_lost_tail_disagrees(transport: &dyn Transport, log: Arc<dyn MessageLog>) {
    append(&log, numbered(1..=10)).await;
    let (early, late) = (position_at(&log, 3).await, position_at(&log, 10).await);
    let other = Position {
        log_id: "another".into(),
        ..early.clone()
    };
    let none = Position {
        sequence: 0,
        id: String::new(),
        ..early.clone()
    };
    for (position, want) in [(&early, true), (&late, true), (&other, false), (&none, true)] {
        assert_eq!(
            agrees(log.as_ref(), STREAM, position).await.expect("asks"),
            want,
            "{position:?}"
        );
    }
    let log = transport.lose_tail(log).await;
    assert!(agrees(log.as_ref(), STREAM, &early).await.expect("asks"));
    assert!(
        !agrees(log.as_ref(), STREAM, &late).await.expect("asks"),
        "the record is gone"
    );
    append(&log, numbered(101..=110)).await;
    assert!(agrees(log.as_ref(), STREAM, &early).await.expect("asks"));
    assert!(
        !agrees(log.as_ref(), STREAM, &late).await.expect("asks"),
        "another record took its place"
    );
}

async fn positions(transport: &dyn Transport, log: Arc<dyn MessageLog>) {
    append(&log, numbered(1..=2)).await;
    assert_eq!(log.load_position("discord/site").await.expect("loads"), None);
    let (first, second) = (position_at(&log, 1).await, position_at(&log, 2).await);
    log.save_position("discord/site", first.clone())
        .await
        .expect("saves");
    log.save_position("other", first.clone()).await.expect("saves");
    log.save_position("discord/site", second.clone())
        .await
        .expect("saves");
    let log = transport.reopen(log).await;
    assert_eq!(
        log.load_position("discord/site").await.expect("loads"),
        Some(second)
    );
    assert_eq!(log.load_position("other").await.expect("loads"), Some(first));
}

async fn streams_are_apart(log: Arc<dyn MessageLog>) {
    let obs = |n| message(Stream::Observations, "wf.obs.site.tick.clock", n, "o");
    let evt = |n| message(Stream::Events, "wf.evt.site.site.opened.gw", n, "e");
    let acks = append(&log, vec![obs(1), evt(1), evt(2), obs(2), evt(3)]).await;
    assert_eq!(
        acks.iter().map(|ack| ack.sequence).collect::<Vec<u64>>(),
        [1, 1, 2, 2, 3]
    );
    assert!(acks.iter().all(|ack| !ack.duplicate));
    for (stream, want) in [
        (Stream::Observations, 2),
        (Stream::Events, 3),
        (Stream::Commands, 0),
    ] {
        assert_eq!(
            log.info(stream).await.expect("info").last_sequence,
            want,
            "{stream}"
        );
    }
}
