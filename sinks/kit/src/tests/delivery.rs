//! Every request is told once, in order, whatever stops in between.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchfold_kit::{Progress, Publisher};
use watchfold_log::MessageLog;
use watchfold_log::memory::MemoryLog;
use watchfold_schemas::event::{Notice, NoticeClass, NotificationRequest};
use watchfold_schemas::observation::{Body, DeliveryOutcome, Receipt};
use watchfold_schemas::{EventId, Span, Stream, Time, decode_observation, subjects};

use super::{FAR, SITE, ask, closed, event, opened, reminder, request, sessions, snapshot, until, updated};
use crate::plan::incident_of;
use crate::{
    Attempt, Count, Destination, Edit, EditOutcome, Job, Outcome, Pause, SinkContext, SinkError, SinkStats,
    deliver,
};

/// The far side: takes everything, unless it was told otherwise for a lane.
#[derive(Default)]
pub(super) struct FarSide {
    script: Mutex<HashMap<String, VecDeque<Outcome>>>,
    shown: Mutex<Vec<Job>>,
    calls: Mutex<u32>,
    pub(super) edits: Mutex<Vec<Edit>>,
    without_occupancy: bool,
    /// Stands for the address behind the lane "alerts".
    pub(super) address: Mutex<u64>,
}

impl FarSide {
    pub(super) fn answer(&self, lane: &str, outcome: Outcome) {
        self.script
            .lock()
            .unwrap()
            .entry(lane.to_owned())
            .or_default()
            .push_back(outcome);
    }

    fn shown(&self) -> Vec<Job> {
        self.shown.lock().unwrap().clone()
    }

    /// (kind of notice, incident or count) of everything shown.
    pub(super) fn told(&self) -> Vec<String> {
        let name = |job: &Job| match job.digest.len() {
            0 => name(&job.notice),
            count => format!("digest of {count}"),
        };
        self.shown().iter().map(name).collect()
    }

    fn calls(&self) -> u32 {
        *self.calls.lock().unwrap()
    }
}

fn name(notice: &Notice) -> String {
    let incident = incident_of(notice).unwrap_or_default();
    match notice {
        Notice::IncidentOpened { .. } => format!("opened {incident}"),
        Notice::IncidentUpdated { .. } => format!("updated {incident}"),
        Notice::IncidentReminder { .. } => format!("reminder {incident}"),
        Notice::IncidentClosed { .. } => format!("closed {incident}"),
        Notice::SessionsStarted { sessions } => format!("started {}", sessions.total),
        Notice::SessionsEnded { sessions } => format!("ended {}", sessions.total),
        Notice::OccupancySnapshot { snapshot } => format!("snapshot {}", snapshot.current),
    }
}

impl Destination for FarSide {
    fn lane(&self, request: &NotificationRequest) -> Option<String> {
        match request.class {
            NoticeClass::Alerts => Some("alerts".into()),
            NoticeClass::Occupancy if self.without_occupancy => None,
            NoticeClass::Occupancy | NoticeClass::Screenshots => Some("occupancy".into()),
        }
    }

    fn lanes(&self) -> BTreeMap<String, u64> {
        let address = *self.address.lock().unwrap();
        let lanes = [("alerts", address), ("occupancy", 0)];
        let configured = lanes
            .into_iter()
            .filter(|(lane, _)| *lane == "alerts" || !self.without_occupancy);
        configured.map(|(lane, of)| (lane.to_owned(), of)).collect()
    }

    fn deliver(self: Arc<Self>, job: Job) -> BoxFuture<'static, Attempt> {
        Box::pin(async move {
            *self.calls.lock().unwrap() += 1;
            let scripted = self
                .script
                .lock()
                .unwrap()
                .get_mut(&job.lane)
                .and_then(VecDeque::pop_front);
            let outcome = scripted.unwrap_or_else(|| Outcome::Delivered {
                message: Some(format!("m-{}", job.id)),
            });
            if let Outcome::Delivered { .. } = outcome {
                self.shown.lock().unwrap().push(job);
            }
            Attempt {
                outcome,
                pause: Pause::None,
                thread_gone: false,
            }
        })
    }

    fn edit(self: Arc<Self>, edit: Edit) -> BoxFuture<'static, EditOutcome> {
        Box::pin(async move {
            self.edits.lock().unwrap().push(edit);
            EditOutcome::Done { pause: Pause::None }
        })
    }
}

pub(super) fn soon(detail: &str) -> Outcome {
    Outcome::Retry {
        after: Some(Duration::from_millis(10)),
        detail: detail.into(),
    }
}

/// A log and a data directory that outlive the processes run on them.
pub(super) struct World {
    pub(super) log: Arc<MemoryLog>,
    data: TempDir,
    pub(super) far: Arc<FarSide>,
    asked: u64,
}

pub(super) struct Running {
    cancel: CancellationToken,
    pub(super) reload: watch::Sender<()>,
    task: JoinHandle<Result<(), SinkError>>,
    stats: Arc<SinkStats>,
    pub(super) progress: Arc<Progress>,
}

impl World {
    pub(super) fn new() -> World {
        World::with(FarSide::default())
    }

    fn with(far: FarSide) -> World {
        World {
            log: MemoryLog::new(),
            data: tempfile::tempdir().unwrap(),
            far: Arc::new(far),
            asked: 0,
        }
    }

    pub(super) async fn ask(&mut self, notice: Notice) -> EventId {
        self.ask_until(notice, FAR).await
    }

    pub(super) async fn ask_until(&mut self, notice: Notice, expires_at: Time) -> EventId {
        self.asked += 1;
        ask(self.log.as_ref(), self.asked, request(notice, expires_at)).await
    }

    pub(super) fn state_path(&self) -> std::path::PathBuf {
        self.data.path().join("sinks").join("test.state")
    }

    pub(super) async fn start(&self) -> Running {
        self.start_on(self.log.clone(), self.far.clone()).await
    }

    /// With another way to the log, and another far side.
    pub(super) async fn start_on(&self, log: Arc<dyn MessageLog>, far: Arc<impl Destination>) -> Running {
        let (reload, reloaded) = watch::channel(());
        let context = self.context(log).await;
        let (stats, progress) = (context.stats.clone(), context.progress.clone());
        let cancel = CancellationToken::new();
        let task = tokio::spawn(deliver(context, far, reloaded, cancel.clone()));
        Running {
            cancel,
            reload,
            task,
            stats,
            progress,
        }
    }

    pub(super) async fn context(&self, log: Arc<dyn MessageLog>) -> SinkContext {
        let publisher = Publisher::open(log.clone(), SITE, "test", self.data.path())
            .await
            .unwrap();
        SinkContext {
            site: SITE.into(),
            sink: "test".into(),
            log,
            publisher,
            state_path: self.state_path(),
            progress: Progress::new("test"),
            stats: Arc::new(SinkStats::default()),
        }
    }

    /// Starts, waits until everything asked is settled, and stops.
    pub(super) async fn run_until_settled(&self) {
        let running = self.start().await;
        let asked = self.asked as usize;
        until("everything is settled", || self.receipted().len() >= asked).await;
        running.stop().await;
    }

    fn receipts(&self) -> Vec<Receipt> {
        let subject = subjects::observation(SITE, "receipt", "test");
        let records = self.log.records(Stream::Observations);
        let body = |payload: &[u8]| match decode_observation(payload).unwrap().body {
            Body::Receipt(receipt) => receipt,
            other => panic!("{other:?}"),
        };
        records
            .iter()
            .filter(|record| record.subject == subject)
            .map(|record| body(&record.payload))
            .collect()
    }

    /// (request, outcome), in the order of the log.
    pub(super) fn receipted(&self) -> Vec<(EventId, DeliveryOutcome)> {
        let pairs = |receipt: Receipt| receipt.requests.into_iter().map(move |id| (id, receipt.outcome));
        self.receipts().into_iter().flat_map(pairs).collect()
    }
}

impl Running {
    pub(super) async fn stop(self) {
        self.cancel.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), self.task).await;
        ended.expect("stops").unwrap().unwrap();
    }

    /// The process is killed: nothing is written any more.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err());
    }
}

#[tokio::test]
async fn requests_are_told_in_order_with_receipts() {
    let mut world = World::new();
    let ids = [
        world.ask(opened("a")).await,
        world.ask(opened("b")).await,
        world.ask(sessions(2)).await,
    ];
    world.run_until_settled().await;
    assert_eq!(
        world
            .far
            .told()
            .into_iter()
            .filter(|told| told.starts_with("opened"))
            .collect::<Vec<_>>(),
        ["opened a", "opened b"]
    );
    assert_eq!(world.far.shown().len(), 3);
    let mut receipted = world.receipted();
    receipted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut want = ids.map(|id| (id, DeliveryOutcome::Delivered)).to_vec();
    want.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(receipted, want);
    assert_eq!(
        world.receipts()[0].message.as_deref(),
        Some(format!("m-{}", world.receipts()[0].requests[0]).as_str())
    );
}

#[tokio::test]
async fn nothing_is_told_again_after_a_restart_whatever_became_of_the_state_file() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("kept", |_| {}),
        ("missing", |path| std::fs::remove_file(path).unwrap()),
        ("garbage", |path| std::fs::write(path, b"{\"v\":1,").unwrap()),
        ("newer", |path| {
            let text = std::fs::read_to_string(path)
                .unwrap()
                .replacen("\"v\":1", "\"v\":99", 1);
            std::fs::write(path, text).unwrap();
        }),
    ];
    for (damage, apply) in damages {
        let mut world = World::new();
        world.ask(opened("a")).await;
        world.ask(sessions(1)).await;
        world.run_until_settled().await;
        apply(&world.state_path());
        world.ask(closed("a")).await;
        world.run_until_settled().await;
        let mut told = world.far.told();
        told.sort();
        assert_eq!(told, ["closed a", "opened a", "started 1"], "{damage}");
        assert_eq!(
            world.far.edits.lock().unwrap().len(),
            1,
            "the first message is known: {damage}"
        );
        let aside = world.state_path().with_extension("state.set-aside").exists();
        assert_eq!(aside, matches!(damage, "garbage" | "newer"), "{damage}");
    }
}

#[tokio::test]
async fn a_crash_between_the_receipt_and_the_state_file_repeats_nothing() {
    let mut world = World::new();
    world.ask(opened("a")).await;
    world.run_until_settled().await;
    let before = std::fs::read(world.state_path()).unwrap();
    world.ask(opened("b")).await;
    let running = world.start().await;
    until("the receipt is durable", || world.receipted().len() == 2).await;
    running.kill().await;
    std::fs::write(world.state_path(), before).unwrap();
    world.ask(opened("c")).await;
    world.run_until_settled().await;
    assert_eq!(world.far.told(), ["opened a", "opened b", "opened c"]);
}

#[tokio::test]
async fn a_state_file_of_another_log_is_set_aside() {
    let mut world = World::new();
    world.ask(opened("a")).await;
    world.run_until_settled().await;
    world.log = MemoryLog::new();
    world.ask(opened("b")).await;
    let running = world.start().await;
    until("the request of the new log is settled", || {
        world.receipted().len() == 1
    })
    .await;
    running.stop().await;
    assert_eq!(world.far.told(), ["opened a", "opened b"]);
    assert!(world.state_path().with_extension("state.set-aside").exists());
}

#[tokio::test]
async fn what_has_expired_when_the_sink_is_first_started_is_receipted_and_not_told() {
    let mut world = World::new();
    let old = world.ask_until(opened("a"), Time::from_seconds(1_000)).await;
    let new = world.ask(opened("b")).await;
    world.run_until_settled().await;
    assert_eq!(world.far.told(), ["opened b"]);
    let mut receipted = world.receipted();
    receipted.sort_by(|a, b| a.0.cmp(&b.0));
    let mut want = vec![(old, DeliveryOutcome::Expired), (new, DeliveryOutcome::Delivered)];
    want.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(receipted, want);
}

#[tokio::test]
async fn what_cannot_be_delivered_before_it_expires_is_receipted_with_the_reason() {
    let mut world = World::new();
    for _ in 0..1_000 {
        world.far.answer("alerts", soon("no connection"));
    }
    let publisher = Publisher::open(world.log.clone(), SITE, "clock", world.data.path())
        .await
        .unwrap();
    world
        .ask_until(opened("a"), publisher.now() + Span::from_millis(300))
        .await;
    world.run_until_settled().await;
    assert!(world.far.told().is_empty() && world.far.calls() > 1);
    let receipt = &world.receipts()[0];
    assert_eq!(
        (receipt.outcome, receipt.detail.as_deref()),
        (DeliveryOutcome::Expired, Some("no connection"))
    );
}

#[tokio::test]
async fn an_outage_that_ends_before_it_could_be_told_is_told_once() {
    let mut world = World::new();
    for _ in 0..3 {
        world.far.answer("alerts", soon("no connection"));
    }
    let ids = [
        world.ask(opened("a")).await,
        world.ask(reminder("a", 1)).await,
        world.ask(closed("a")).await,
    ];
    world.run_until_settled().await;
    assert_eq!(world.far.told(), ["closed a"]);
    let [first, second, third] = ids;
    let (merged, delivered) = (DeliveryOutcome::Merged, DeliveryOutcome::Delivered);
    assert_eq!(
        world.receipted(),
        [(first, merged), (second, merged), (third, delivered)]
    );
    assert!(
        world.far.edits.lock().unwrap().is_empty(),
        "there is no first message to edit"
    );
}

#[tokio::test]
async fn a_merge_that_begins_while_the_opening_fails_tells_only_the_end() {
    let mut world = World::new();
    for _ in 0..20 {
        world.far.answer("alerts", soon("no connection"));
    }
    world.ask(opened("a")).await;
    let running = world.start().await;
    until("the opening failed", || world.far.calls() >= 2).await;
    world.ask(closed("a")).await;
    until("both are settled", || world.receipted().len() == 2).await;
    running.stop().await;
    assert_eq!(world.far.told(), ["closed a"]);
}

#[tokio::test]
async fn the_first_message_of_an_incident_is_edited_when_it_is_over() {
    let mut world = World::new();
    let id = world.ask(opened("a")).await;
    world.run_until_settled().await;
    world.ask(updated("a", "kim")).await;
    world.run_until_settled().await;
    assert_eq!(
        world.far.shown()[1].thread.as_deref(),
        Some(format!("m-{id}").as_str())
    );
    world.ask(closed("a")).await;
    let running = world.start().await;
    until("the edit", || !world.far.edits.lock().unwrap().is_empty()).await;
    running.stop().await;
    let edit = world.far.edits.lock().unwrap()[0].clone();
    assert_eq!(
        (edit.message, name(&edit.notice)),
        (format!("m-{id}"), "closed a".to_owned())
    );
}

#[tokio::test]
async fn a_stuck_class_blocks_no_other_and_a_new_configuration_frees_it() {
    let mut world = World::new();
    world.far.answer(
        "alerts",
        Outcome::Blocked {
            detail: "404: Unknown Webhook".into(),
        },
    );
    world.ask(opened("a")).await;
    let running = world.start().await;
    until("the class is blocked", || {
        running.progress.snapshot().detail.is_some()
    })
    .await;
    world.ask(sessions(1)).await;
    world.ask(snapshot(7)).await;
    until("the other class goes on", || {
        world.far.told() == ["started 1", "snapshot 7"]
    })
    .await;
    let calls = world.far.calls();
    assert_eq!(
        running.progress.snapshot().detail.as_deref(),
        Some("alerts: 404: Unknown Webhook")
    );
    let snapshot = running.progress.snapshot();
    assert!(
        snapshot.position < snapshot.head,
        "what is undelivered holds the position back: {snapshot:?}"
    );
    running.reload.send(()).unwrap();
    until("the blocked request is told", || {
        world.far.told().contains(&"opened a".to_owned())
    })
    .await;
    assert_eq!(world.far.calls(), calls + 1, "no call was made while blocked");
    until("the trouble is over", || {
        running.progress.snapshot().detail.is_none()
    })
    .await;
    until("everything is settled", || {
        let snapshot = running.progress.snapshot();
        snapshot.position == snapshot.head
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_refused_message_is_settled_and_the_next_goes_on() {
    let mut world = World::new();
    world.far.answer(
        "alerts",
        Outcome::Rejected {
            detail: "400: too long".into(),
        },
    );
    world.ask(opened("a")).await;
    world.ask(opened("b")).await;
    world.run_until_settled().await;
    assert_eq!(world.far.told(), ["opened b"]);
    assert_eq!(world.receipts()[0].outcome, DeliveryOutcome::Rejected);
    assert_eq!(world.receipts()[0].detail.as_deref(), Some("400: too long"));
}

#[tokio::test]
async fn a_class_without_a_destination_is_dropped_without_a_receipt() {
    let mut world = World::with(FarSide {
        without_occupancy: true,
        ..FarSide::default()
    });
    world.ask_until(sessions(1), Time::from_seconds(1)).await;
    world.ask(sessions(2)).await;
    world.ask(opened("a")).await;
    let running = world.start().await;
    until("the rest is told", || world.receipted().len() == 1).await;
    until("the old one is dropped", || {
        running.stats.get(Count::Unroutable) == 1
    })
    .await;
    until("it does not hold the position back", || {
        let snapshot = running.progress.snapshot();
        snapshot.head == 3 && snapshot.position == 3
    })
    .await;
    running.stop().await;
    assert_eq!(world.far.told(), ["opened a"]);
}

#[tokio::test]
async fn more_than_fits_waits_in_the_log_and_is_told_in_order() {
    let mut world = World::new();
    let total = crate::ledger::PENDING_MAX as u32 + 200;
    for number in 0..total {
        world.ask(sessions(number)).await;
    }
    world.run_until_settled().await;
    let want: Vec<String> = (0..total).map(|number| format!("started {number}")).collect();
    assert_eq!(world.far.told(), want);
}

#[tokio::test]
async fn a_crash_before_the_receipt_is_durable_may_repeat_one_message_and_loses_none() {
    let mut world = World::new();
    let running = world.start().await;
    world.ask(opened("a")).await;
    until("the first is settled", || world.receipted().len() == 1).await;
    let asked = event(
        99,
        watchfold_schemas::EventBody::NotificationRequested(Box::new(request(opened("b"), FAR))),
    );
    world
        .log
        .append(vec![super::append_of(&asked, &asked.id.0)])
        .await
        .unwrap();
    world.log.fail_appends(true);
    until("it is shown", || world.far.told().len() == 2).await;
    running.kill().await;
    world.log.fail_appends(false);
    // The crash came before the receipt was durable: a message can show twice then.
    let running = world.start().await;
    until("it is receipted in the end", || world.receipted().len() >= 2).await;
    running.stop().await;
    let shown = world.far.told().iter().filter(|told| *told == "opened b").count();
    assert!((1..=2).contains(&shown), "{shown}");
}

#[tokio::test]
async fn a_log_that_takes_nothing_for_a_while_costs_no_repetition() {
    let mut world = World::new();
    let running = world.start().await;
    world.ask(opened("a")).await;
    until("the first is settled", || world.receipted().len() == 1).await;
    world.far.answer("alerts", soon("no connection"));
    world.ask(opened("b")).await;
    world.log.fail_appends(true);
    until("it is shown", || world.far.told().len() == 2).await;
    world.log.fail_appends(false);
    until("it is receipted", || world.receipted().len() == 2).await;
    running.stop().await;
    assert_eq!(world.far.told(), ["opened a", "opened b"]);
}
