//! An interface that a test plays, and a log that fails on command.

use watchfold_kit::PublisherOptions;
use watchfold_log::memory::MemoryLog;
use watchfold_schemas::packets::PacketBatch;
use watchfold_schemas::{Observation, decode_observation};

use super::*;
use crate::testing::{Played, tcp_frame, tcp_frame_of, until};

/// A capture that runs on an interface that is played.
struct Running {
    log: Arc<MemoryLog>,
    played: Played,
    publisher: Arc<Publisher>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), CaptureError>>,
    _state: tempfile::TempDir,
}

impl Running {
    async fn start() -> Running {
        let (log, played, state) = (MemoryLog::new(), Played::default(), tempfile::tempdir().unwrap());
        let config = CaptureConfig {
            head_ports: vec![22],
            ..CaptureConfig::of("played")
        };
        let options = PublisherOptions::packets(None);
        let publisher = Publisher::open_with(log.clone(), "cafe-1", "capture-played", state.path(), options);
        let publisher = publisher.await.unwrap();
        let (progress, cancel) = (Progress::new("capture"), CancellationToken::new());
        let task = tokio::spawn(run_on(
            played.opener(),
            publisher.clone(),
            config,
            state.path().join("ring"),
            progress.clone(),
            cancel.clone(),
        ));
        Running {
            log,
            played,
            publisher,
            progress,
            cancel,
            task,
            _state: state,
        }
    }

    fn records(&self, stream: Stream) -> Vec<Observation> {
        let records = self.log.records(stream);
        let decoded = records.iter().map(|record| decode_observation(&record.payload));
        decoded.map(Result::unwrap).collect()
    }

    fn batches(&self) -> Vec<PacketBatch> {
        let batch = |record: Observation| match record.body {
            Body::Batch(batch) => Some(*batch),
            _ => None,
        };
        self.records(Stream::Packets)
            .into_iter()
            .filter_map(batch)
            .collect()
    }

    fn last_counts(&self) -> watchfold_schemas::packets::CaptureCounts {
        self.batches()
            .last()
            .map(|batch| batch.counts)
            .unwrap_or_default()
    }

    fn gaps(&self) -> Vec<Gap> {
        let gap = |record: Observation| match record.body {
            Body::Gap(gap) => Some(gap),
            _ => None,
        };
        self.records(Stream::Packets)
            .into_iter()
            .filter_map(gap)
            .collect()
    }

    /// Whether each fault begins or ends, and why.
    fn faults(&self) -> Vec<(bool, String)> {
        let fault = |record: Observation| match record.body {
            Body::Fault(fault) => Some((fault.active, fault.reason)),
            _ => None,
        };
        let all = self.records(Stream::Observations);
        all.into_iter().filter_map(fault).collect()
    }

    fn detail(&self) -> String {
        self.progress.snapshot().detail.unwrap_or_default()
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_takes_none_of_is_dropped_and_counted_and_told() {
    let running = Running::start().await;
    let (played, frame) = (&running.played, tcp_frame_of(22, &[7; 64]));
    played.put(&frame, 10);
    until("the first packets", || running.last_counts().received == 10).await;

    running.log.fail_appends(true);
    let mut put = 10;
    while !running.detail().contains("packets were dropped") {
        assert!(
            put < 2_000_000,
            "nothing is dropped: {:?}",
            running.publisher.stats()
        );
        if played.play().waiting.is_empty() {
            played.put(&frame, 4 * PACKET_ROWS_MAX);
            put += 4 * PACKET_ROWS_MAX as u64;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let waiting = running.publisher.stats().queued_bytes;
    assert!(waiting < 2 * BACKLOG_BYTES_MAX, "{waiting} bytes wait");
    until("all of it is read", || played.play().waiting.is_empty()).await;

    running.log.fail_appends(false);
    until("room", || {
        running.publisher.stats().queued_bytes < BACKLOG_BYTES_MAX
    })
    .await;
    played.put(&frame, 5);
    put += 5;
    until("what comes later", || running.last_counts().received == put).await;
    let counts = running.last_counts();
    let rows: u64 = running.batches().iter().map(|batch| batch.len() as u64).sum();
    assert!(counts.dropped_here > 0);
    assert_eq!(rows + counts.dropped_here, put, "each packet is there or counted");
    assert_eq!(running.publisher.stats().dropped, 0, "what waits is not lost");

    // One gap for all of it, where the packets are missing.
    let gaps = running.gaps();
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert!(gap.records > 0 && gap.from <= gap.to, "{gap:?}");
    let is_before = |batch: &PacketBatch| batch.counts.dropped_here == 0;
    for batch in running.batches() {
        let view = batch.view().unwrap();
        for row in 0..view.len() {
            match is_before(&batch) {
                true => assert!(view.at(row) <= gap.from),
                false => assert!(view.at(row) >= gap.to),
            }
        }
    }
    let records = running.records(Stream::Packets);
    let told = records
        .iter()
        .position(|record| matches!(record.body, Body::Gap(_)));
    let counted = records
        .iter()
        .position(|record| matches!(&record.body, Body::Batch(batch) if !is_before(batch)));
    assert!(told < counted, "{told:?} {counted:?}");
    until("nothing is shown to be wrong", || running.detail().is_empty()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_kernel_drops_is_counted_over_every_opening() {
    let running = Running::start().await;
    let dropped = |by_kernel, by_interface| Drops {
        by_kernel,
        by_interface,
    };
    until("it is open", || running.played.play().opened == 1).await;
    running.played.play().drops = dropped(7, 1);
    until("the first drops", || running.last_counts().dropped_by_kernel == 7).await;
    let note = running.progress.snapshot().note.unwrap();
    assert!(note.contains("dropped 7 packets"), "{note}");

    running.played.play().is_gone = true;
    until("the interface is gone", || {
        running.detail().contains("no interface")
    })
    .await;
    running.played.play().is_gone = false;
    until("it is back", || running.played.play().opened == 2).await;
    running.played.play().drops = dropped(3, 0);
    until("further drops", || running.last_counts().dropped_by_kernel == 10).await;
    assert_eq!(running.last_counts().dropped_by_interface, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_that_comes_back_ends_its_fault_and_leaves_a_gap() {
    let running = Running::start().await;
    running.played.put(&tcp_frame(80), 3);
    until("packets", || running.last_counts().received == 3).await;
    running.played.play().is_gone = true;
    until("a fault", || running.faults().len() >= 3).await;
    running.played.play().is_gone = false;
    running.played.put(&tcp_frame(80), 2);
    until("later packets", || running.last_counts().received == 5).await;
    let faults = running.faults();
    let active: Vec<bool> = faults.iter().map(|(active, _)| *active).collect();
    assert_eq!(active, [false, true, true, false], "{faults:?}");
    assert!(faults[1].1.contains("disappeared") && faults[2].1.contains("there is no interface"));
    let last = running
        .batches()
        .into_iter()
        .rfind(|batch| !batch.is_empty())
        .unwrap();
    assert_eq!(last.first, 4, "they are numbered on");
    let gaps = running.gaps();
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert!(
        gap.from < gap.to && gap.to <= last.view().unwrap().at(0),
        "{gap:?}"
    );
    running.stop().await;
}
