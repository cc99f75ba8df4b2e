//! From stages to pings at a server that answers as healthchecks does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchfold_healthchecks::deliver::run_timed;
use watchfold_healthchecks::schedule::Timing;
use watchfold_healthchecks::testing::{Failure, HealthchecksServer, RecordedPing};
use watchfold_healthchecks::{HealthchecksConfig, Role, SINK, Stage};
use watchfold_kit::{Progress, ProgressSnapshot, Publisher};
use watchfold_log::memory::MemoryLog;
use watchfold_schemas::{Body, Stream, decode_observation};
use watchfold_sink_kit::{OutletContext, Secret, SinkError};

/// The figures of the service, a hundredth as long.
const TIMING: Timing = Timing {
    spacing: Duration::from_millis(120),
    attempt_timeout: Duration::from_millis(400),
    retries_max: 5,
    retry_first: Duration::from_millis(10),
    refused_wait: Duration::from_secs(3_600),
    look_every: Duration::from_millis(10),
};

struct Running {
    server: HealthchecksServer,
    stages: Arc<Mutex<Vec<Stage>>>,
    config: watch::Sender<Arc<HealthchecksConfig>>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), SinkError>>,
    log: Arc<MemoryLog>,
    outlet: OutletContext,
    _data: tempfile::TempDir,
}

fn stage(role: Role, age_s: u64) -> Stage {
    let progress = ProgressSnapshot {
        name: format!("the-{}", role.name()),
        position: 7,
        head: 9,
        advanced_age: Some(Duration::from_secs(age_s)),
        detail: None,
        failing_age: None,
        note: None,
        configured: true,
    };
    Stage::new(role, progress)
}

fn healthy() -> Vec<Stage> {
    vec![
        stage(Role::Collector, 1),
        stage(Role::Processor, 1),
        stage(Role::Sink, 1),
    ]
}

/// The period is set below what the file allows, so that a test sees more than one.
fn config(url: &str) -> Arc<HealthchecksConfig> {
    let checked = HealthchecksConfig::new(Secret::new(url), 60, "cafe-1".into()).unwrap();
    Arc::new(HealthchecksConfig {
        period: Duration::from_millis(200),
        ..checked
    })
}

async fn start(body_limit: usize, failures: &[Failure]) -> Running {
    start_at(body_limit, failures, HealthchecksServer::url).await
}

async fn start_at(
    body_limit: usize,
    failures: &[Failure],
    url: impl Fn(&HealthchecksServer) -> String,
) -> Running {
    // A second test of the process finds it installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = HealthchecksServer::start(body_limit).await.unwrap();
    for failure in failures {
        server.fail_next(failure.clone());
    }
    let stages = Arc::new(Mutex::new(healthy()));
    let config = watch::Sender::new(config(&url(&server)));
    let (progress, cancel) = (Progress::new("healthchecks"), CancellationToken::new());
    let source = {
        let stages = stages.clone();
        Arc::new(move || stages.lock().unwrap().clone())
    };
    let (log, data) = (MemoryLog::new(), tempfile::tempdir().unwrap());
    let publisher = Publisher::open(log.clone(), "cafe-1", SINK, data.path());
    let outlet = OutletContext {
        stats: Arc::default(),
        sink: SINK.to_owned(),
        publisher: publisher.await.unwrap(),
        state_path: data.path().join("healthchecks.state"),
    };
    let task = tokio::spawn(run_timed(
        source,
        config.subscribe(),
        outlet.clone(),
        progress.clone(),
        cancel.clone(),
        TIMING,
    ));
    Running {
        server,
        stages,
        config,
        progress,
        cancel,
        task,
        log,
        outlet,
        _data: data,
    }
}

impl Running {
    /// Whether each recorded fault of the server began.
    fn faults(&self) -> Vec<bool> {
        let records = self.log.records(Stream::Observations);
        let fault = |payload: &[u8]| match decode_observation(payload).unwrap().body {
            Body::Fault(fault) if fault.subject == "sink:healthchecks" => fault.active,
            other => panic!("{other:?}"),
        };
        records.iter().map(|record| fault(&record.payload)).collect()
    }

    async fn pings(&self, count: usize) -> Vec<RecordedPing> {
        until("the pings", || self.server.pings().len() >= count).await;
        self.server.pings()
    }

    async fn stop(self) -> HealthchecksServer {
        self.cancel.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task)
            .await
            .expect("stops")
            .unwrap()
            .unwrap();
        self.server
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn it_gets_on_while_nothing_is_due() {
    let running = start(10_000, &[]).await;
    let checked = running.config.borrow().clone();
    running.config.send_replace(Arc::new(HealthchecksConfig {
        period: Duration::from_secs(3_600),
        ..(*checked).clone()
    }));
    running.pings(2).await;
    until("both are counted", || running.progress.snapshot().position == 2).await;
    // Behind by as much as no server records; the next look puts it right, without a ping.
    running.progress.advance(2, u64::MAX);
    until("it gets on", || running.progress.snapshot().head == 2).await;
    assert_eq!(running.server.kinds(), ["start", "success"]);
    running.stop().await;
}

#[tokio::test]
async fn start_success_and_a_word_at_the_stop() {
    let running = start(10_000, &[]).await;
    let pings = running.pings(3).await;
    let server = running.stop().await;
    assert_eq!(server.kinds()[..3], ["start", "success", "success"]);
    assert_eq!(server.kinds().last().map(String::as_str), Some("log"));
    assert!(pings.iter().all(|ping| ping.method == "POST"));
    let rids: Vec<&str> = pings.iter().map(|ping| ping.rid.as_deref().unwrap()).collect();
    assert_eq!(
        rids[0], rids[1],
        "the first success closes the run that the start opened"
    );
    assert_ne!(rids[1], rids[2]);
    assert_eq!(
        pings[1].body,
        "Watchfold at cafe-1: every stage advances\n\
         collector the-collector: at 7 of 9, advanced 1 s ago (limit 30 s)\n\
         processor the-processor: at 7 of 9, advanced 1 s ago (limit 60 s)\n\
         sink the-sink: at 7 of 9, advanced 1 s ago (limit 300 s)\n"
    );
    assert_eq!(
        server.pings().last().unwrap().body,
        "Watchfold at cafe-1: stopped by its operator\n"
    );
}

#[tokio::test]
async fn one_stage_that_stands_still_is_a_failure_that_names_it() {
    for (place, role) in [(0, Role::Collector), (1, Role::Processor), (2, Role::Sink)] {
        let running = start(10_000, &[]).await;
        running.pings(2).await;
        running.stages.lock().unwrap()[place] = stage(role, 301);
        until("the failure", || {
            running.server.kinds().contains(&"fail".to_owned())
        })
        .await;
        let fail = running
            .server
            .pings()
            .into_iter()
            .find(|ping| ping.kind == "fail")
            .unwrap();
        let headline = format!("Watchfold at cafe-1: {0} the-{0} not advancing\n", role.name());
        assert!(fail.body.starts_with(&headline), "{}", fail.body);
        *running.stages.lock().unwrap() = healthy();
        until("the recovery", || {
            running
                .server
                .kinds()
                .last()
                .is_some_and(|kind| kind == "success")
        })
        .await;
        let server = running.stop().await;
        let kinds = server.kinds();
        let first_fail = kinds.iter().position(|kind| kind == "fail").unwrap();
        let recovered = kinds.iter().rposition(|kind| kind == "fail").unwrap() + 1;
        assert!(
            kinds[first_fail..recovered].iter().all(|kind| kind == "fail"),
            "no success in between: {kinds:?}"
        );
    }
}

#[tokio::test]
async fn the_body_is_cut_to_what_the_server_keeps() {
    let running = start(50, &[]).await;
    let pings = running.pings(2).await;
    running.stop().await;
    assert_eq!(
        pings[1].body_bytes, 50,
        "the limit was learnt from the first answer"
    );
}

#[tokio::test]
async fn what_fails_is_repeated_under_the_same_rid() {
    let failures = [
        Failure::Status(500),
        Failure::Close,
        Failure::Status(429),
        Failure::Remark("rate limited"),
        Failure::Hang,
    ];
    for failure in failures {
        let running = start(10_000, std::slice::from_ref(&failure)).await;
        let recorded = if failure == Failure::Hang { 2 } else { 1 };
        let pings = running.pings(recorded).await;
        until("it is healthy again", || {
            running.progress.snapshot().detail.is_none()
        })
        .await;
        running.stop().await;
        assert!(
            pings[..recorded]
                .iter()
                .all(|ping| ping.kind == "start" && ping.rid == pings[0].rid),
            "{failure:?}"
        );
    }
}

#[tokio::test]
async fn a_wrong_address_is_shown_and_left_alone_until_it_is_corrected() {
    let refusals = [
        (Failure::Status(404), "404: no check has this address"),
        (Failure::Status(409), "409: several checks share this slug"),
        (Failure::Status(400), "400: the server does not take this ping"),
        (Failure::Status(301), "301: the address leads elsewhere"),
        (Failure::Remark("not found"), "no check has this address"),
    ];
    for (failure, want) in refusals {
        let unknown = "11111111-2222-4333-8444-555555555555";
        let running = start_at(10_000, &[failure], |server| server.url_of(unknown)).await;
        until("it is shown", || running.progress.snapshot().detail.is_some()).await;
        let detail = running.progress.snapshot().detail.unwrap();
        assert!(detail.starts_with(want) && !detail.contains(unknown), "{detail}");
        tokio::time::sleep(TIMING.spacing * 3).await;
        assert_eq!(running.server.calls(), 1, "it is not hammered");
        running.config.send_replace(config(&running.server.url()));
        let pings = running.pings(2).await;
        assert_eq!(
            (pings[0].kind.as_str(), pings[1].kind.as_str()),
            ("start", "success")
        );
        assert_eq!(running.progress.snapshot().detail, None);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_stop_is_not_held_up_by_a_server_that_does_not_answer() {
    let running = start(10_000, &[]).await;
    running.pings(2).await;
    running.server.fail_next(Failure::Hang);
    running.server.fail_next(Failure::Hang);
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_refuses_pings_is_a_recorded_fault_until_it_takes_one() {
    for refusal in [400, 401, 403, 404].map(Failure::Status) {
        let elsewhere = |server: &HealthchecksServer| server.url_of("22222222-2222-4222-8222-222222222222");
        let running = start_at(10_000, std::slice::from_ref(&refusal), elsewhere).await;
        until("the fault is recorded", || running.faults() == [true]).await;
        // Another check: the next ping is taken, and nothing more is recorded.
        running.config.send_replace(config(&running.server.url()));
        running.pings(2).await;
        until("the fault is over", || running.faults() == [true, false]).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn the_fault_of_a_server_that_is_not_configured_any_more_is_over() {
    let running = start(10_000, &[Failure::Status(404)]).await;
    until("the fault is recorded", || running.faults() == [true]).await;
    running.cancel.cancel();
    running.outlet.withdraw();
    running.outlet.withdraw();
    until("the fault is over", || running.faults() == [true, false]).await;
}
