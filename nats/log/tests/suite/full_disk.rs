//! A real disk that is really full: a small tmpfs. Needs the right to mount, and fails without it.

use std::fs;
use std::path::Path;
use std::process::Command;

use watchfold_log::{
    Embedded, LogError, MessageLog, Options, Position, Start, StreamOptions, contract, verify,
};

use crate::{GIB, OBS};

/// Unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Tmpfs {
        let dir = tempfile::tempdir().unwrap();
        run(
            "mount",
            &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"],
            dir.path(),
        );
        Tmpfs(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run("umount", &["-l"], self.0.path());
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) {
    let done = Command::new(program)
        .args(arguments)
        .arg(path)
        .output()
        .expect("runs");
    assert!(
        done.status.success(),
        "{program} needs root: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_whole_appends_and_recovers_with_space() {
    let disk = Tmpfs::mount("1m");
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 300_000]).unwrap();
    let dir = disk.0.path().join("log");
    let options = || Options::uniform(StreamOptions::new(GIB, None));
    let log = Embedded::open(&dir, options()).unwrap();
    let message = |number| contract::message(OBS, "wf.obs.s.x.y", number, vec![number as u8; 10_000]);
    let mut acknowledged = 0;
    let refused = loop {
        let batch = (acknowledged + 1..=acknowledged + 3).map(message).collect();
        match log.append(batch).await {
            Ok(acks) => acknowledged = acks[2].sequence,
            Err(error) => break error,
        }
        assert!(acknowledged < 200, "the disk never filled");
    };
    assert!(matches!(refused, LogError::Full { .. }), "{refused}");
    assert!(acknowledged > 10);
    let id = log.info(OBS).await.unwrap().log_id;
    let position = Position {
        log_id: id,
        sequence: acknowledged,
        id: message(acknowledged).id.0,
    };
    let saved = log.save_position("reader", position.clone()).await;
    assert!(matches!(saved, Ok(()) | Err(LogError::Full { .. })), "{saved:?}");
    assert_eq!(
        log.info(OBS).await.unwrap().last_sequence,
        acknowledged,
        "nothing of the refused append shows"
    );

    fs::remove_file(&ballast).unwrap();
    let batch = (acknowledged + 1..=acknowledged + 3).map(message).collect();
    let acks = log
        .append(batch)
        .await
        .expect("appends again once there is space");
    assert_eq!((acks[0].sequence, acks[0].duplicate), (acknowledged + 1, false));
    log.save_position("reader", position.clone())
        .await
        .expect("saves again once there is space");
    drop(log);

    let report = verify(&dir).unwrap();
    assert!(report.is_whole());
    let log = Embedded::open(&dir, options()).unwrap();
    assert_eq!(log.load_position("reader").await.unwrap(), Some(position));
    let mut reader = log.reader(OBS, ">", Start::First).await.unwrap();
    for number in 1..=acknowledged + 3 {
        let record = reader.next(1).await.unwrap().records.remove(0);
        assert_eq!(
            (record.sequence, &record.id, &record.payload),
            (number, &message(number).id, &message(number).payload)
        );
    }
}

/// The log's own limit frees space on a full disk, although noting what it drops needs space too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_works_on_a_full_disk() {
    let disk = Tmpfs::mount("1m");
    let dir = disk.0.path().join("log");
    let limit = StreamOptions {
        segment_bytes: 64 * 1024,
        ..StreamOptions::new(400_000, None)
    };
    let log = Embedded::open(&dir, Options::uniform(limit)).unwrap();
    let message = |number| contract::message(OBS, "wf.obs.s.x.y", number, vec![number as u8; 10_000]);
    for number in 1..=30 {
        log.append(vec![message(number)]).await.unwrap();
    }
    let mut left = 0;
    while fs::write(disk.0.path().join(format!("ballast{left}")), [0; 4096]).is_ok() {
        left += 1;
    }
    let mut next = 31;
    for _ in 0..60 {
        match log.append(vec![message(next)]).await {
            Ok(_) => next += 1,
            Err(error) => assert!(matches!(error, LogError::Full { .. }), "{error}"),
        }
        if left > 0 && next < 40 {
            left -= 1;
            fs::remove_file(disk.0.path().join(format!("ballast{left}"))).unwrap();
        }
    }
    let info = log.info(OBS).await.unwrap();
    assert!(info.bytes <= 400_000 && info.first_sequence > 1, "{info:?}");
    assert_eq!(info.last_sequence, next - 1);
}

/// What a killed process left on a full disk is read again there, and taken on once there is space.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_opens_on_a_full_disk() {
    let disk = Tmpfs::mount("1m");
    let (dir, ballast) = (disk.0.path().join("log"), disk.0.path().join("ballast"));
    let options = || Options::uniform(StreamOptions::new(GIB, None));
    let message = |number| contract::message(OBS, "wf.obs.s.x.y", number, vec![number as u8; 10_000]);
    let log = Embedded::open(&dir, options()).unwrap();
    for number in 1..=5 {
        log.append(vec![message(number)]).await.unwrap();
    }
    run(
        "sh",
        &["-c", "cat /dev/zero > \"$0\"/ballast 2>/dev/null || true"],
        disk.0.path(),
    );
    // Its end is not noted for want of space, as after a kill; and what is noted of its beginning is lost.
    drop(log);
    fs::remove_file(dir.join(OBS.name()).join("stream")).unwrap();
    run(
        "sh",
        &["-c", "cat /dev/zero >> \"$0\"/ballast 2>/dev/null || true"],
        disk.0.path(),
    );
    let log = Embedded::open(&dir, options()).expect("a full disk is no reason not to read");
    assert_eq!(log.info(OBS).await.unwrap().last_sequence, 5);
    assert_eq!(log.get(OBS, 5).await.unwrap().unwrap().id, message(5).id);
    let refused = (6..60).map(|number| log.append(vec![message(number)]));
    let refused = futures::future::join_all(refused).await;
    assert!(
        refused
            .iter()
            .any(|one| matches!(one, Err(LogError::Full { .. })))
    );
    fs::remove_file(&ballast).unwrap();
    log.append(vec![message(100)])
        .await
        .expect("appends once there is space");
}
