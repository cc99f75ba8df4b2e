//! From the log to the channel through a server that enforces Discord's contract.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_discord::DiscordConfig;
use watchfold_discord::testing::{DiscordServer, Failure};
use watchfold_kit::{Progress, Publisher};
use watchfold_log::memory::MemoryLog;
use watchfold_log::{Append, MessageLog};
use watchfold_schemas::event::{
    Causes, EVENT_VERSION, Event, EventBody, Notice, NoticeClass, NotificationRequest, Place,
};
use watchfold_schemas::observation::{Body, DeliveryOutcome, Receipt};
use watchfold_schemas::origin::Cause;
use watchfold_schemas::{
    Chain, EventId, MessageId, Stream, Time, decode_observation, encode_event, subjects,
};
use watchfold_sink_kit::{Count, Secret, SinkContext, SinkError, SinkStats};

use crate::sample::{closed, opened, reminder, snapshot, started, updated};

pub const SITE: &str = "cafe-1";

pub struct World {
    pub log: Arc<MemoryLog>,
    data: TempDir,
    pub server: DiscordServer,
    pub config: watch::Sender<Arc<DiscordConfig>>,
    asked: u64,
}

pub struct Running {
    cancel: CancellationToken,
    task: JoinHandle<Result<(), SinkError>>,
    pub stats: Arc<SinkStats>,
    pub progress: Arc<Progress>,
}

impl World {
    pub async fn new() -> World {
        // A second test of the process finds it installed, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = DiscordServer::start().await.unwrap();
        let config = config(&[
            (NoticeClass::Alerts, server.url("a1")),
            (NoticeClass::Occupancy, server.url("o1")),
        ]);
        let data = tempfile::tempdir().unwrap();
        World {
            log: MemoryLog::new(),
            data,
            server,
            config: watch::Sender::new(config),
            asked: 0,
        }
    }

    fn state_path(&self) -> PathBuf {
        self.data.path().join("discord.state")
    }

    pub async fn start(&self) -> Running {
        let log: Arc<dyn MessageLog> = self.log.clone();
        let publisher = Publisher::open(log.clone(), SITE, "discord", self.data.path())
            .await
            .unwrap();
        let (stats, progress) = (Arc::new(SinkStats::default()), Progress::new("discord"));
        let context = SinkContext {
            site: SITE.into(),
            sink: "discord".into(),
            log,
            publisher,
            state_path: self.state_path(),
            progress: progress.clone(),
            stats: stats.clone(),
        };
        let cancel = CancellationToken::new();
        let task = tokio::spawn(watchfold_discord::run(
            context,
            self.config.subscribe(),
            cancel.clone(),
        ));
        Running {
            cancel,
            task,
            stats,
            progress,
        }
    }

    pub async fn ask(&mut self, notice: Notice) -> EventId {
        self.ask_until(notice, Time(i64::MAX)).await
    }

    pub async fn ask_until(&mut self, notice: Notice, expires_at: Time) -> EventId {
        self.asked += 1;
        let (class, coalesce_key) = match &notice {
            Notice::IncidentOpened { incident, .. }
            | Notice::IncidentUpdated { incident }
            | Notice::IncidentReminder { incident, .. }
            | Notice::IncidentClosed { incident, .. } => (NoticeClass::Alerts, incident.id.clone()),
            _ => (NoticeClass::Occupancy, "occupancy".to_owned()),
        };
        let request = NotificationRequest {
            class,
            coalesce_key,
            expires_at,
            time_zone: "Europe/Berlin".into(),
            notice,
        };
        let cause = Cause::Message(MessageId(format!("{SITE}/ping/1/{}", self.asked)));
        let id = EventId::derive(SITE, Chain::Site, "notification_requested", "router", &cause, 0);
        let event = Event {
            v: EVENT_VERSION,
            id: id.clone(),
            site: SITE.into(),
            chain: Chain::Site,
            at: Time::EPOCH,
            key: "router".into(),
            cause,
            n: 0,
            place: Place {
                input: self.asked,
                index: 0,
            },
            causes: Causes::default(),
            body: EventBody::NotificationRequested(Box::new(request)),
        };
        let append = Append {
            stream: Stream::Events,
            subject: subjects::event(SITE, Chain::Site, "notification_requested", "router"),
            id: id.message_id(),
            payload: encode_event(&event).unwrap().into(),
        };
        self.log.append(vec![append]).await.unwrap();
        id
    }

    fn receipts(&self) -> Vec<Receipt> {
        let body = |payload: &[u8]| match decode_observation(payload).unwrap().body {
            Body::Receipt(receipt) => Some(receipt),
            _ => None,
        };
        self.log
            .records(Stream::Observations)
            .iter()
            .filter_map(|record| body(&record.payload))
            .collect()
    }

    pub fn outcomes(&self) -> Vec<DeliveryOutcome> {
        self.receipts()
            .iter()
            .flat_map(|receipt| receipt.requests.iter().map(|_| receipt.outcome))
            .collect()
    }

    /// Waits until everything asked has a receipt.
    pub async fn settled(&self) {
        until("everything is settled", || {
            self.outcomes().len() as u64 >= self.asked
        })
        .await;
    }

    /// How often each title shows.
    pub fn titles(&self) -> Vec<String> {
        self.server.titles()
    }
}

impl Running {
    pub async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task)
            .await
            .expect("a stop ends soon")
            .unwrap()
            .unwrap();
    }
}

pub fn config(webhooks: &[(NoticeClass, String)]) -> Arc<DiscordConfig> {
    let webhooks: BTreeMap<NoticeClass, Secret> = webhooks
        .iter()
        .map(|(class, url)| (*class, Secret::new(url.clone())))
        .collect();
    Arc::new(DiscordConfig::new(webhooks, SITE.into(), None).unwrap())
}

pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn each_class_reaches_its_own_webhook() {
    let mut world = World::new().await;
    world.ask(opened("a")).await;
    world.ask(snapshot()).await;
    let running = world.start().await;
    world.settled().await;
    running.stop().await;
    let mut shown: Vec<(String, String)> = world
        .server
        .messages()
        .iter()
        .map(|message| message.webhook.clone())
        .zip(world.titles())
        .collect();
    shown.sort();
    let want = [("a1", "Router is down"), ("o1", "Hourly snapshot")];
    assert_eq!(
        shown,
        want.map(|(webhook, title)| (webhook.to_owned(), title.to_owned()))
    );
    let receipt = world
        .receipts()
        .into_iter()
        .find(|receipt| receipt.message.is_some())
        .unwrap();
    assert!(
        world
            .server
            .messages()
            .iter()
            .any(|message| Some(&message.id) == receipt.message.as_ref())
    );
}

#[tokio::test]
async fn an_incident_is_edited_in_place_and_its_end_is_a_message_of_its_own() {
    let mut world = World::new().await;
    world.ask(opened("a")).await;
    let running = world.start().await;
    world.settled().await;
    world.ask(updated("a")).await;
    world.settled().await;
    assert_eq!(world.titles(), ["Router is down"]);
    assert_eq!(world.server.messages()[0].body["embeds"][0]["color"], 16_776_960);
    world.ask(closed("a")).await;
    world.settled().await;
    until("the first message shows the end", || {
        world.server.messages()[0].edits == 2
    })
    .await;
    running.stop().await;
    assert_eq!(world.titles(), ["Over: Router was down", "Router is back"]);
    assert_eq!(world.outcomes(), [DeliveryOutcome::Delivered; 3]);
}

#[tokio::test]
async fn a_deleted_message_costs_no_news() {
    let mut world = World::new().await;
    world.ask(opened("a")).await;
    let running = world.start().await;
    world.settled().await;
    world.server.delete(&world.server.messages()[0].id);
    world.ask(updated("a")).await;
    world.settled().await;
    world.ask(closed("a")).await;
    world.settled().await;
    running.stop().await;
    assert_eq!(world.titles(), ["Router is back"]);
    let (delivered, merged) = (DeliveryOutcome::Delivered, DeliveryOutcome::Merged);
    assert_eq!(world.outcomes(), [delivered, merged, delivered]);
}

#[tokio::test]
async fn a_failing_edit_does_not_fail_the_end() {
    let mut world = World::new().await;
    world.ask(opened("a")).await;
    let running = world.start().await;
    world.settled().await;
    world.ask(closed("a")).await;
    until("the end is told", || world.titles().len() == 2).await;
    world.settled().await;
    running.stop().await;
    // A restart between the end and its edit makes the edit good, or finds it done.
    let running = world.start().await;
    until("the edit", || world.server.messages()[0].edits == 1).await;
    running.stop().await;
    assert_eq!(world.titles(), ["Over: Router was down", "Router is back"]);
}

/// One failure, then success: the message shows once, and how the request ends.
async fn check_retried(failure: Failure) {
    let mut world = World::new().await;
    world.server.fail_next(failure.clone());
    world.ask(opened("a")).await;
    let running = world.start().await;
    world.settled().await;
    assert_eq!(running.stats.get(Count::Retried), 1, "{failure:?}");
    running.stop().await;
    assert_eq!(world.titles(), ["Router is down"], "{failure:?}");
    assert_eq!(world.outcomes(), [DeliveryOutcome::Delivered]);
    assert_eq!(world.receipts()[0].attempts, 2);
}

#[tokio::test]
async fn every_kind_of_rate_limit_is_waited_for() {
    for scope in ["user", "global", "shared"] {
        check_retried(Failure::RateLimited {
            header_s: 0,
            body_s: 0.05,
            scope,
        })
        .await;
    }
    check_retried(Failure::BareRateLimit { header_s: 1 }).await;
}

#[tokio::test]
async fn errors_of_the_server_and_of_the_line_are_tried_again() {
    for failure in [
        Failure::Status(500),
        Failure::Status(502),
        Failure::Status(302),
        Failure::Close,
    ] {
        check_retried(failure).await;
    }
}

#[tokio::test]
async fn the_longer_of_both_waits_counts_and_a_global_limit_holds_every_class() {
    let mut world = World::new().await;
    world.server.fail_webhook(
        "a1",
        Failure::RateLimited {
            header_s: 2,
            body_s: 0.1,
            scope: "global",
        },
    );
    world.ask(opened("a")).await;
    let running = world.start().await;
    until("the limit", || running.stats.get(Count::Retried) == 1).await;
    let begun = Instant::now();
    world.ask(snapshot()).await;
    world.settled().await;
    assert!(
        begun.elapsed() >= Duration::from_millis(1_500),
        "both waited: {:?}",
        begun.elapsed()
    );
    running.stop().await;
    assert_eq!(world.server.calls().len(), 3);
}

#[tokio::test]
async fn an_empty_bucket_is_waited_for_before_it_is_refused() {
    let mut world = World::new().await;
    world.server.answer_with_header("x-ratelimit-remaining", "0");
    world.server.answer_with_header("x-ratelimit-reset-after", "0.4");
    world.ask(opened("a")).await;
    world.ask(opened("b")).await;
    let begun = Instant::now();
    let running = world.start().await;
    world.settled().await;
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "{:?}",
        begun.elapsed()
    );
    running.stop().await;
    assert!(world.server.calls().iter().all(|call| call.status == 200));
}

#[tokio::test]
async fn an_answer_that_breaks_off_after_success_is_a_success() {
    let mut world = World::new().await;
    world.server.fail_next(Failure::CloseMidBody);
    world.ask(opened("a")).await;
    let running = world.start().await;
    world.settled().await;
    world.ask(closed("a")).await;
    world.settled().await;
    running.stop().await;
    assert_eq!(world.titles(), ["Router is down", "Router is back"]);
    assert_eq!(
        world.receipts()[0].message,
        None,
        "its id is lost, so it cannot be edited"
    );
}

#[tokio::test]
async fn a_refused_body_is_told_with_its_fields_and_never_repeated() {
    let mut world = World::new().await;
    world
        .server
        .fail_next(Failure::InvalidField("embeds.0.fields.6.value"));
    world.ask(opened("a")).await;
    world.ask(opened("b")).await;
    let running = world.start().await;
    world.settled().await;
    running.stop().await;
    assert_eq!(
        world.outcomes(),
        [DeliveryOutcome::Rejected, DeliveryOutcome::Delivered]
    );
    let detail = world.receipts()[0].detail.clone().unwrap();
    assert_eq!(
        detail,
        "400: Invalid Form Body (50035): embeds.0.fields.6.value: Not a well formed URL."
    );
    assert_eq!(world.server.calls().len(), 2);
}

#[tokio::test]
async fn a_refused_name_or_link_is_left_out_rather_than_the_news() {
    let mut world = World::new().await;
    world.server.fail_next(Failure::InvalidField("embeds.0.url"));
    world.ask(opened("a")).await;
    let running = world.start().await;
    world.settled().await;
    running.stop().await;
    assert_eq!(world.titles(), ["Router is down"]);
    assert_eq!(world.server.messages()[0].body.get("username"), None);
}

#[tokio::test]
async fn a_webhook_that_is_gone_is_not_called_until_its_configuration_changes() {
    for failure in [
        Failure::UnknownWebhook,
        Failure::Status(401),
        Failure::Status(403),
    ] {
        let mut world = World::new().await;
        world.server.fail_webhook("a1", failure);
        world.ask(opened("a")).await;
        let running = world.start().await;
        until("the trouble shows", || {
            running.progress.snapshot().detail.is_some()
        })
        .await;
        world.ask(opened("b")).await;
        world.ask(snapshot()).await;
        until("the other class is told", || {
            world.titles() == ["Hourly snapshot"]
        })
        .await;
        assert_eq!(
            world.server.calls().len(),
            2,
            "no more calls of the webhook that is gone"
        );
        let detail = running.progress.snapshot().detail.unwrap();
        assert!(
            detail.starts_with("alerts: 40") && !detail.contains("t0ken"),
            "{detail}"
        );
        let webhooks = [
            (NoticeClass::Alerts, world.server.url("a2")),
            (NoticeClass::Occupancy, world.server.url("o1")),
        ];
        world.config.send_replace(config(&webhooks));
        world.settled().await;
        running.stop().await;
        assert_eq!(
            world
                .server
                .messages()
                .iter()
                .filter(|message| message.webhook == "a2")
                .count(),
            2
        );
    }
}

#[tokio::test]
async fn a_hanging_call_neither_blocks_a_stop_nor_the_other_class() {
    let mut world = World::new().await;
    world.server.fail_webhook("a1", Failure::Hang);
    world.ask(opened("a")).await;
    world.ask(snapshot()).await;
    let running = world.start().await;
    until("the other class is told", || world.outcomes().len() == 1).await;
    until("the call hangs", || world.server.calls().len() == 2).await;
    running.stop().await;
    // Discord had taken the message before it fell silent: this is the window in which it shows twice.
    let running = world.start().await;
    world.settled().await;
    running.stop().await;
    assert_eq!(
        world
            .titles()
            .iter()
            .filter(|title| *title == "Router is down")
            .count(),
        2
    );
}

#[tokio::test]
async fn a_message_taken_without_an_answer_is_the_other_such_window() {
    let mut world = World::new().await;
    world.server.fail_next(Failure::TakeAndClose);
    world.ask(opened("a")).await;
    let running = world.start().await;
    world.settled().await;
    running.stop().await;
    assert_eq!(world.titles(), ["Router is down", "Router is down"]);
}

#[tokio::test]
async fn what_piles_up_while_the_line_is_dead_is_told_as_one_and_in_order() {
    let mut world = World::new().await;
    for _ in 0..2 {
        world.server.fail_webhook("a1", Failure::Close);
    }
    world.ask(opened("a")).await;
    world.ask(opened("b")).await;
    let running = world.start().await;
    until("the line is dead", || running.stats.get(Count::Retried) >= 1).await;
    world.ask(reminder("a")).await;
    world.ask(closed("a")).await;
    world.settled().await;
    running.stop().await;
    assert_eq!(world.titles(), ["Router is down", "Router is back"]);
    assert_eq!(
        world
            .outcomes()
            .iter()
            .filter(|outcome| **outcome == DeliveryOutcome::Merged)
            .count(),
        2
    );
}

#[tokio::test]
async fn nothing_is_told_twice_over_many_restarts() {
    let mut world = World::new().await;
    for round in 0..6 {
        world.ask(opened(&format!("i{round}"))).await;
        world.ask(started(round + 1)).await;
        if round % 2 == 1 {
            std::fs::remove_file(world.state_path()).unwrap();
        }
        let running = world.start().await;
        world.settled().await;
        running.stop().await;
    }
    let titles = world.titles();
    assert_eq!(titles.len(), 12, "{titles:?}");
    assert_eq!(
        titles
            .iter()
            .filter(|title| title.starts_with("New activity"))
            .count(),
        6
    );
}

#[tokio::test]
async fn a_changed_site_name_and_two_classes_on_one_webhook_are_fine() {
    let mut world = World::new().await;
    let shared = world.server.url("both");
    let webhooks = [
        (NoticeClass::Alerts, shared.clone()),
        (NoticeClass::Occupancy, shared),
    ];
    world.config.send_replace(config(&webhooks));
    world.ask(opened("a")).await;
    world.ask(started(2)).await;
    world.ask(opened("b")).await;
    let running = world.start().await;
    world.settled().await;
    running.stop().await;
    assert_eq!(
        world.titles(),
        ["Router is down", "Router is down", "New activity: 2 PCs"],
        "one lane, and outages first"
    );
}
