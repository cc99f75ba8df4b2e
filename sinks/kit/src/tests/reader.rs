//! Events are read once, from any position.

use watchfold_log::memory::MemoryLog;
use watchfold_log::{Append, MessageLog, Start};
use watchfold_schemas::event::EventBody;
use watchfold_schemas::{MessageId, Stream, subjects};

use super::{FAR, SITE, append_of, event, opened, request};
use crate::{DEDUP_WINDOW, EventReader};

fn body() -> EventBody {
    EventBody::NotificationRequested(Box::new(request(opened("a"), FAR)))
}

/// Appends events by their inputs; each under a message id of its own, as a log does whose duplicate window is over.
async fn append(log: &MemoryLog, first: u64, inputs: impl IntoIterator<Item = u64>) {
    let appends = (first..)
        .zip(inputs)
        .map(|(message, input)| append_of(&event(input, body()), &format!("m{message}")));
    log.append(appends.collect()).await.unwrap();
}

async fn read(reader: &mut EventReader) -> Vec<u64> {
    let mut inputs = Vec::new();
    loop {
        let batch = reader.try_next(1_000).await.unwrap();
        inputs.extend(batch.events.iter().map(|(_, event)| event.place.input));
        if batch.drained {
            return inputs;
        }
    }
}

fn filter() -> String {
    subjects::site_filter(Stream::Events, SITE)
}

#[tokio::test]
async fn a_repeated_tail_is_dropped_and_counted() {
    let log = MemoryLog::new();
    append(&log, 1, [1, 2, 3, 2, 3, 4]).await;
    let mut reader = EventReader::open(log, &filter(), Start::First).await.unwrap();
    assert_eq!(read(&mut reader).await, [1, 2, 3, 4]);
    assert_eq!(reader.counts().repeated, 2);
}

#[tokio::test]
async fn a_repeated_tail_is_dropped_after_a_restart_in_the_middle_of_it() {
    let log = MemoryLog::new();
    append(&log, 1, [1, 2, 3]).await;
    let mut reader = EventReader::open(log.clone(), &filter(), Start::First)
        .await
        .unwrap();
    assert_eq!(read(&mut reader).await, [1, 2, 3]);
    let position = reader.position().unwrap();
    assert_eq!((position.sequence, position.id.as_str()), (3, "m3"));
    append(&log, 4, [2, 3, 4]).await;
    let mut reader = EventReader::open_after(log, &filter(), &position).await.unwrap();
    assert_eq!(read(&mut reader).await, [4]);
}

#[tokio::test]
async fn a_place_older_than_the_window_is_dropped_and_counted() {
    let log = MemoryLog::new();
    let window = DEDUP_WINDOW as u64;
    append(&log, 1, 1..=window + 2).await;
    append(&log, window + 3, [1, 2, 3, window + 3]).await;
    let mut reader = EventReader::open(log, &filter(), Start::First).await.unwrap();
    assert_eq!(read(&mut reader).await, (1..=window + 3).collect::<Vec<_>>());
    let counts = reader.counts();
    assert_eq!((counts.old_places, counts.repeated), (2, 1));
}

#[tokio::test]
async fn what_cannot_be_decoded_is_passed_over() {
    let log = MemoryLog::new();
    append(&log, 1, [1]).await;
    let mut broken = append_of(&event(2, body()), "broken");
    broken.payload = bytes::Bytes::from_static(b"\xc1 not an event");
    log.append(vec![broken]).await.unwrap();
    append(&log, 3, [3]).await;
    let mut reader = EventReader::open(log, &filter(), Start::First).await.unwrap();
    assert_eq!(read(&mut reader).await, [1, 3]);
    assert_eq!(reader.counts().quarantined, 1);
}

#[tokio::test]
async fn a_loss_is_told_with_what_follows_it() {
    let log = MemoryLog::new();
    append(&log, 1, [1, 2, 3, 4]).await;
    log.truncate_front(Stream::Events, 2);
    let mut reader = EventReader::open(log, &filter(), Start::Sequence(1))
        .await
        .unwrap();
    let batch = reader.next(10).await.unwrap();
    let lost = batch.lost.unwrap();
    assert_eq!((lost.from, lost.to, reader.counts().lost), (1, 2, 2));
    assert_eq!(batch.events.len() + read(&mut reader).await.len(), 2);
}

#[tokio::test]
async fn a_reader_of_rare_events_keeps_its_place_at_the_end() {
    let log = MemoryLog::new();
    append(&log, 1, [1]).await;
    let other = Append {
        stream: Stream::Events,
        subject: subjects::event(SITE, watchfold_schemas::Chain::Site, "target_rollup", "router"),
        id: MessageId("other".into()),
        payload: bytes::Bytes::from_static(b"x"),
    };
    log.append(vec![other]).await.unwrap();
    let rare = subjects::events_of_kind(SITE, "notification_requested");
    let mut reader = EventReader::open(log, &rare, Start::First).await.unwrap();
    assert_eq!(read(&mut reader).await, [1]);
    assert_eq!(reader.position().unwrap().sequence, 1);
    let checkpoint = reader.checkpoint().await.unwrap();
    assert_eq!((checkpoint.sequence, checkpoint.id.as_str()), (2, "other"));
}
