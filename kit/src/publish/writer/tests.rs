//! Single steps of a writer whose spool breaks under it.

use std::fs;

use tokio::sync::oneshot;
use watchfold_schemas::Body;

use super::*;
use crate::publish::publisher::testing::{Mode, World};
use crate::publish::publisher::{Publisher, PublisherOptions};

const SPOOLED: usize = 3;

/// A writer in the test's hands. Its spool holds some records that it has read and not sent, and has lost its files'
/// handles, as after a write that failed.
async fn reading_writer(world: &World) -> (Arc<Publisher>, Writer) {
    world.log.set(Mode::Full);
    let publisher = world.open().await;
    for n in 0..SPOOLED {
        world.submit(&publisher, &n.to_string(), 10);
    }
    publisher.flush().await;
    let shared = publisher.stop_writer().await;
    let mut spool = Spool::start(&world.spool_options(), "ping", PublisherOptions::PACKETS)
        .await
        .unwrap();
    let records = spool.read(BATCH_RECORDS_MAX).await.unwrap();
    spool.close().await;
    let file = IncarnationFile::new(world.dir.path(), "ping");
    let mut writer = Writer::new(world.log.clone(), shared, file, Some(1_000_000), Some(spool));
    writer.numbering.number = SPOOLED as u64;
    writer.forwarding.extend(records);
    assert_eq!(writer.forwarding.len(), SPOOLED);
    (publisher, writer)
}

/// The log does not answer, and the records go to the spool.
async fn spool_next(writer: &mut Writer) {
    let closing = CancellationToken::new();
    let silent = SendError::Silent(SEND_PATIENCE);
    let not_sent = writer.not_sent(Source::Spool, SPOOLED, silent, &closing).await;
    assert!(not_sent.is_ok());
    assert!(writer.number_next(&closing).await.is_ok());
    assert_eq!(writer.outgoing.len(), 1);
    assert!(writer.spool_outgoing(&closing).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_was_read_from_a_lost_spool_says_nothing_of_the_next() {
    let world = World::new(64 * 1024 * 1024);
    let (_publisher, mut writer) = reading_writer(&world).await;
    fs::remove_dir_all(world.spool()).unwrap();
    fs::write(world.spool(), b"garbage").unwrap();
    let (sender, mut told) = oneshot::channel();
    writer
        .shared
        .enqueue(None, None, |_| Body::Quiet, Some(sender))
        .unwrap();
    spool_next(&mut writer).await;
    let spool = writer.spool.as_ref().unwrap();
    assert_eq!((spool.lives(), spool.records()), (1, 1));

    world.log.set(Mode::Takes);
    let messages = batch(writer.forwarding.iter().map(|ready| &ready.append), SPOOLED);
    let acks = world.log.append(messages).await.unwrap();
    writer.sent(Source::Spool, SPOOLED, acks).await;
    assert!(!writer.is_drained());
    assert!(told.try_recv().is_err(), "the record is not in the log yet");
    let closing = CancellationToken::new();
    while !writer.is_drained() {
        assert!(writer.step(&closing).await.is_ok());
    }
    assert_eq!(world.names(), ["0", "1", "2", "quiet"]);
    assert_eq!(told.try_recv().unwrap().unwrap().sequence, 4);
    assert!(!world.spool().exists());
}

#[tokio::test(start_paused = true)]
async fn trouble_of_the_spool_ends_with_it() {
    let world = World::new(64 * 1024 * 1024);
    let (publisher, mut writer) = reading_writer(&world).await;
    let (directory, away) = (world.dir.path().join("spool"), world.dir.path().join("away"));
    fs::rename(&directory, &away).unwrap();
    fs::write(&directory, b"in the way").unwrap();
    world.submit(&publisher, "3", 10);
    spool_next(&mut writer).await;
    let trouble = publisher.trouble().unwrap();
    assert!(trouble.contains("the spool takes no records either"), "{trouble}");

    fs::remove_file(&directory).unwrap();
    fs::rename(&away, &directory).unwrap();
    writer.spool_retry.hurry();
    assert!(writer.spool_outgoing(&CancellationToken::new()).await.is_ok());
    assert!(writer.outgoing.is_empty());
    let trouble = publisher.trouble().unwrap();
    assert!(
        trouble.contains("did not answer") && !trouble.contains("the spool takes"),
        "{trouble}"
    );
}
