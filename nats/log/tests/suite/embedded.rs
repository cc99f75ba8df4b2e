//! The embedded log as a process uses it: owners, group commit, retention by age, shutdown, reading beside the owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use watchfold_log::disk::{DirectoryLock, Disk, DiskFile, RealDisk};
use watchfold_log::{
    Ack, Embedded, LogError, MessageLog, Options, Start, StreamFiles, StreamOptions, stat, verify,
};
use watchfold_schemas::{Span, Stream, Time};

use crate::{GIB, OBS, open_store, tick};

fn plain() -> Options {
    Options::uniform(StreamOptions::new(GIB, None))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_owns_a_directory() {
    let root = tempfile::tempdir().unwrap();
    let log = Embedded::open(root.path(), plain()).unwrap();
    let refused = Embedded::open(root.path(), plain()).err().unwrap();
    let wanted = format!("(process {})", std::process::id());
    assert!(
        matches!(&refused, LogError::Locked { .. }) && refused.to_string().contains(&wanted),
        "{refused}"
    );
    log.append(vec![tick(1)]).await.unwrap();
    drop(log);
    let log = Embedded::open(root.path(), plain()).unwrap();
    assert_eq!(log.info(OBS).await.unwrap().last_sequence, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_look_in_while_it_runs() {
    let root = tempfile::tempdir().unwrap();
    let log = Embedded::open(root.path(), plain()).unwrap();
    log.append((1..=5).map(tick).collect()).await.unwrap();
    let report = verify(root.path()).unwrap();
    let obs = report
        .streams
        .iter()
        .find(|stream| stream.stream == OBS.name())
        .unwrap();
    assert_eq!((obs.records, obs.last_sequence, obs.torn_tail_bytes), (5, 5, 0));
    assert_eq!(stat(root.path()).unwrap(), report);
    let mut files = StreamFiles::open_filtered(root.path(), OBS, "wf.obs.*.tick.>")
        .unwrap()
        .unwrap();
    assert_eq!(files.next(10).unwrap().records.len(), 5);
    log.append(vec![tick(6)]).await.unwrap();
    assert!(verify(&root.path().join("nothing")).unwrap().streams.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_submitted_is_synced_in_time_and_before_the_end() {
    let root = tempfile::tempdir().unwrap();
    let log = Embedded::open(root.path(), plain()).unwrap();
    let submitted = log.submit(OBS, vec![tick(1), tick(2)]).await.unwrap();
    let mut reader = log.reader(OBS, ">", Start::First).await.unwrap();
    assert_eq!(
        reader.next(10).await.unwrap().records.len(),
        2,
        "a waiting reader has it synced"
    );
    assert_eq!(
        submitted.wait().await.unwrap()[1],
        Ack {
            sequence: 2,
            duplicate: false
        }
    );
    let unawaited = log.submit(OBS, vec![tick(3)]).await.unwrap();
    drop(unawaited);
    log.close();
    assert!(matches!(log.append(vec![tick(4)]).await, Err(LogError::Closed)));
    assert_eq!(reader.next(10).await.unwrap().records.len(), 1);
    assert!(matches!(reader.next(10).await, Err(LogError::Closed)));
    assert_eq!(
        verify(root.path())
            .unwrap()
            .streams
            .iter()
            .map(|stream| stream.records)
            .sum::<u64>(),
        3
    );
}

#[test]
fn old_segments_go_by_age_and_sequences_stay() {
    let root = tempfile::tempdir().unwrap();
    let hour = Span::from_seconds(3600);
    let options = StreamOptions::new(GIB, Some(Span(hour.0 * 8)));
    let mut store = open_store(root.path(), options);
    let at = |hours: i64| Time::from_seconds(1_000_000) + Span(hour.0 * hours);
    for hours in 1..=20 {
        store.append(&[tick(hours as u64)], at(hours)).unwrap();
        store.sync().unwrap();
        store.retain(at(hours)).unwrap();
    }
    let view = store.views().borrow().clone();
    // A segment spans a quarter of the limit, so no record is kept longer than that beyond it.
    assert!(
        (9..=12).contains(&view.first_sequence()),
        "{}",
        view.first_sequence()
    );
    store.retain(at(40)).unwrap();
    let view = store.views().borrow().clone();
    assert_eq!(
        (view.first_sequence(), view.next_sequence, view.segments.len()),
        (21, 21, 0)
    );
    drop(store);
    let mut store = open_store(root.path(), options);
    assert_eq!(store.append(&[tick(21)], at(41)).unwrap()[0].sequence, 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_byte_limit_is_hard() {
    let root = tempfile::tempdir().unwrap();
    let limit = StreamOptions {
        segment_bytes: 10_000,
        ..StreamOptions::new(60_000, None)
    };
    let log = Embedded::open(root.path(), Options::uniform(limit)).unwrap();
    for number in (1..=3_000).step_by(30) {
        log.append((number..number + 30).map(tick).collect())
            .await
            .unwrap();
        assert!(log.info(OBS).await.unwrap().bytes <= 60_000);
    }
    let info = log.info(OBS).await.unwrap();
    assert!(
        info.bytes > 40_000 && info.last_sequence == 3_000 && info.first_sequence > 1,
        "{info:?}"
    );
    let files = std::fs::read_dir(root.path().join(OBS.name())).unwrap().count() as u64;
    assert!(
        files <= 2 * info.segments + 1,
        "{files} files for {} segments",
        info.segments
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_at_is_the_injected_clock() {
    let root = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(5));
    let ticking = now.clone();
    let clock = Arc::new(move || Time(ticking.fetch_add(10, Ordering::SeqCst)));
    let log = Embedded::open(root.path(), Options { clock, ..plain() }).unwrap();
    for number in 1..=3 {
        log.append(vec![tick(number)]).await.unwrap();
    }
    let stamps = async |sequence| log.get(OBS, sequence).await.unwrap().unwrap().stored_at;
    let (first, third) = (stamps(1).await, stamps(3).await);
    assert!(first >= Time(5) && third > first && third < Time(now.load(Ordering::SeqCst)));
    let mut reader = log.reader(OBS, ">", Start::StoredAt(third)).await.unwrap();
    assert_eq!(reader.next(1).await.unwrap().records[0].sequence, 3);
}

/// Counts syncs, makes each take a moment, and fails them on request.
struct Watched {
    syncs: AtomicU64,
    fail: std::sync::atomic::AtomicBool,
}

struct WatchedDisk(Arc<Watched>);
struct WatchedFile(Arc<Watched>, Arc<dyn DiskFile>);

impl WatchedDisk {
    fn wrap(&self, file: std::io::Result<Arc<dyn DiskFile>>) -> std::io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(WatchedFile(self.0.clone(), file?)))
    }
}

impl Disk for WatchedDisk {
    fn create_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        RealDisk.create_dir(path)
    }
    fn list(&self, path: &std::path::Path) -> std::io::Result<Vec<String>> {
        RealDisk.list(path)
    }
    fn create_new(&self, path: &std::path::Path) -> std::io::Result<Arc<dyn DiskFile>> {
        self.wrap(RealDisk.create_new(path))
    }
    fn create(&self, path: &std::path::Path) -> std::io::Result<Arc<dyn DiskFile>> {
        self.wrap(RealDisk.create(path))
    }
    fn open(&self, path: &std::path::Path) -> std::io::Result<Arc<dyn DiskFile>> {
        self.wrap(RealDisk.open(path))
    }
    fn open_read(&self, path: &std::path::Path) -> std::io::Result<Arc<dyn DiskFile>> {
        RealDisk.open_read(path)
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &std::path::Path) -> std::io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        RealDisk.sync_dir(path)
    }
    fn lock(&self, dir: &std::path::Path) -> std::io::Result<Result<DirectoryLock, String>> {
        RealDisk.lock(dir)
    }
}

impl DiskFile for WatchedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.write_at(offset, bytes)
    }
    fn set_len(&self, bytes: u64) -> std::io::Result<()> {
        self.1.set_len(bytes)
    }
    fn len(&self) -> std::io::Result<u64> {
        self.1.len()
    }
    fn sync(&self) -> std::io::Result<()> {
        if self.0.fail.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("the disk is gone"));
        }
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        // Long enough that the other appenders queue up behind it.
        std::thread::sleep(Duration::from_millis(20));
        self.1.sync()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_appenders_share_a_sync_and_a_failed_one_stops_the_stream() {
    let root = tempfile::tempdir().unwrap();
    let watched = Arc::new(Watched {
        syncs: AtomicU64::new(0),
        fail: false.into(),
    });
    let log = Embedded::open_on(Arc::new(WatchedDisk(watched.clone())), root.path(), plain()).unwrap();
    log.append(vec![tick(1)]).await.unwrap();
    let before = watched.syncs.load(Ordering::SeqCst);
    let all = (2..=101).map(|number| log.append(vec![tick(number)]));
    for acks in futures::future::join_all(all).await {
        assert!(!acks.unwrap()[0].duplicate);
    }
    let syncs = watched.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs <= 10, "100 appenders took {syncs} syncs");

    let mut reader = log.reader(OBS, ">", Start::Sequence(102)).await.unwrap();
    watched.fail.store(true, Ordering::SeqCst);
    assert!(matches!(
        log.append(vec![tick(102)]).await,
        Err(LogError::Stopped(_))
    ));
    watched.fail.store(false, Ordering::SeqCst);
    assert!(
        matches!(log.append(vec![tick(103)]).await, Err(LogError::Stopped(_))),
        "it stays stopped"
    );
    let newest = log.last(OBS, ">").await.unwrap().unwrap();
    assert_eq!(newest.sequence, 101, "readers see what is synced");
    for stream in Stream::ALL {
        assert!(
            matches!(log.info(stream).await, Err(LogError::Stopped(_))),
            "{stream}: who asks how the log is learns it"
        );
    }
    assert!(matches!(reader.next(1).await, Err(LogError::Stopped(_))));
    drop((log, reader));
    let log = Embedded::open(root.path(), plain()).unwrap();
    let acks = log.append(vec![tick(102), tick(103)]).await.unwrap();
    assert_eq!(
        acks.iter().map(|ack| ack.sequence).collect::<Vec<u64>>(),
        [102, 103]
    );
}

/// Everybody appends the same messages, cut differently, at once: they share writes, and within one write as between them
/// a message is kept once and everyone is told the same place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appenders_that_share_a_write_share_its_duplicates() {
    const MESSAGES: u64 = 400;
    let root = tempfile::tempdir().unwrap();
    let log = Embedded::open(root.path(), plain()).unwrap();
    let appenders: Vec<_> = (1..=12_u64)
        .map(|cut| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut acks = Vec::new();
                let mut first = 1;
                while first <= MESSAGES {
                    let end = (first + cut * 5).min(MESSAGES + 1);
                    // Each message twice in a row, so that an append holds duplicates of its own too.
                    let numbers = (first..end).flat_map(|number| [number, number]);
                    acks.extend(log.append(numbers.map(tick).collect()).await.unwrap());
                    first = end;
                }
                acks
            })
        })
        .collect();
    let mut firsts = vec![0; MESSAGES as usize];
    let mut places: Vec<Option<u64>> = vec![None; MESSAGES as usize];
    for appender in appenders {
        let acks = appender.await.unwrap();
        assert_eq!(acks.len() as u64, MESSAGES * 2);
        for (position, ack) in acks.iter().enumerate() {
            let message = position / 2;
            firsts[message] += u64::from(!ack.duplicate);
            let place = *places[message].get_or_insert(ack.sequence);
            assert_eq!(place, ack.sequence, "message {} has two places", message + 1);
        }
    }
    assert_eq!(
        firsts,
        vec![1; MESSAGES as usize],
        "each is new to exactly one appender"
    );
    let mut reader = log.reader(OBS, ">", Start::First).await.unwrap();
    let mut sequence = 0;
    while sequence < MESSAGES {
        for record in reader.next(64).await.unwrap().records {
            sequence += 1;
            let message = places.iter().position(|place| *place == Some(sequence)).unwrap();
            let want = tick(message as u64 + 1);
            assert_eq!(
                (record.sequence, record.id, record.payload),
                (sequence, want.id, want.payload)
            );
        }
    }
    assert_eq!(log.info(OBS).await.unwrap().last_sequence, MESSAGES);
}

/// Opens a log with records in two streams, does something to its files, and waits for the log to stop.
async fn check_displaced(name: &str, displace: fn(&std::path::Path)) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("log");
    let options = Options::uniform(StreamOptions {
        segment_bytes: 4_096,
        ..StreamOptions::new(GIB, None)
    });
    let log = Embedded::open(&dir, options).unwrap();
    for number in 1..=200 {
        log.append(vec![tick(number)]).await.unwrap();
    }
    displace(&dir);
    let stopped = loop {
        match log.info(OBS).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => break error,
        }
    };
    let text = stopped.to_string();
    let path = dir.display().to_string();
    assert!(
        matches!(stopped, LogError::Stopped(_)) && text.contains(&path),
        "{name}: {text}"
    );
    assert!(log.append(vec![tick(201)]).await.is_err(), "{name}: acknowledged");
}

/// The newest segment of the stream, and the oldest.
fn segments(dir: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let files = std::fs::read_dir(dir.join(OBS.name())).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|suffix| suffix == "wfl"));
    files.sort();
    (files[files.len() - 1].clone(), files[0].clone())
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_files_are_deleted_moved_or_replaced_stops_and_names_the_path() {
    check_displaced("directory deleted", |dir| std::fs::remove_dir_all(dir).unwrap()).await;
    check_displaced("directory moved", |dir| {
        std::fs::rename(dir, dir.with_extension("away")).unwrap();
    })
    .await;
    check_displaced("directory replaced by a copy", |dir| {
        let away = dir.with_extension("away");
        std::fs::rename(dir, &away).unwrap();
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([&away, dir])
            .status();
        assert!(copied.unwrap().success());
    })
    .await;
    check_displaced("stream deleted", |dir| {
        std::fs::remove_dir_all(dir.join(OBS.name())).unwrap();
    })
    .await;
    check_displaced("newest segment unlinked", |dir| {
        std::fs::remove_file(segments(dir).0).unwrap();
    })
    .await;
    check_displaced("oldest segment unlinked", |dir| {
        std::fs::remove_file(segments(dir).1).unwrap();
    })
    .await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_into_files_that_have_no_name() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("log");
    let log = Embedded::open(&dir, plain()).unwrap();
    log.append(vec![tick(1)]).await.unwrap();
    std::fs::rename(&dir, root.path().join("away")).unwrap();
    let refused = log.append(vec![tick(2)]).await;
    assert!(matches!(refused, Err(LogError::Stopped(_))), "{refused:?}");
}

#[cfg(unix)]
#[test]
fn a_log_whose_lock_file_was_removed_is_still_locked() {
    let root = tempfile::tempdir().unwrap();
    let log = Embedded::open(root.path(), plain()).unwrap();
    std::fs::remove_file(root.path().join("lock")).unwrap();
    let second = Embedded::open(root.path(), plain()).map(drop);
    assert!(matches!(second, Err(LogError::Locked { .. })), "{second:?}");
    drop(log);
    Embedded::open(root.path(), plain()).unwrap();
}
