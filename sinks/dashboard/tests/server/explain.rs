//! Explanations: who gets one, who waits, and what ends one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use watchfold_dashboard::{Explain, ExplainFailure, ExplainKind, ExplainRequest};
use watchfold_schemas::Chain;

use super::harness::{Ground, LIMIT, Served, at, explaining, explanation};

async fn served(explain: Option<Explain>) -> Served {
    let ground = Ground::new();
    ground.furnish().await;
    let log = ground.log.clone();
    let served = Served::begin(ground, log, true, explain).await;
    served
        .until("readyz answers", async || {
            served.open_get("/readyz").await.0 == 200
        })
        .await;
    served
}

const INCIDENT: &str = "/api/v1/incidents/router-open/explain";

#[tokio::test]
async fn what_is_asked_for_is_explained_from_its_beginning_on() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::<ExplainRequest>::new()));
    let seen = Arc::clone(&asked);
    let served = served(Some(Arc::new(move |request, _| {
        seen.lock().unwrap().push(request);
        Box::pin(async { Ok(explanation()) })
    })))
    .await;
    assert_eq!(served.get("/api/v1/state").await.1["explains"], true);
    assert_eq!(served.get(INCIDENT).await, (200, explanation()));
    assert_eq!(served.get("/api/v1/sessions/s2/explain").await.0, 200);
    let request = |kind, id: &str, second| ExplainRequest {
        kind,
        chain: Chain::Site,
        id: id.into(),
        started_at: at(second),
    };
    assert_eq!(
        *asked.lock().unwrap(),
        [
            request(ExplainKind::Incident, "router-open", 5),
            request(ExplainKind::Session, "s2", 3)
        ]
    );
    served.stop().await;
}

#[tokio::test]
async fn what_cannot_be_explained_says_why() {
    let gone: fn() -> ExplainFailure = || ExplainFailure::NotDerived("its records are gone".into());
    let damaged: fn() -> ExplainFailure = || ExplainFailure::Unreadable("the disk is broken".into());
    for (explain, path, status, code, named) in [
        (None, INCIDENT, 409, "not_explained_here", "watchfold explain"),
        (explaining(Err(gone)), INCIDENT, 404, "not_derived", "gone"),
        (explaining(Err(damaged)), INCIDENT, 503, "log_unavailable", "disk"),
        (
            explaining(Ok(Value::Null)),
            "/api/v1/incidents/none/explain",
            404,
            "not_found",
            "incident",
        ),
        (
            explaining(Ok(Value::Null)),
            "/api/v1/sessions/none/explain",
            404,
            "not_found",
            "session",
        ),
        (
            explaining(Ok(Value::Null)),
            "/api/v1/incidents/router-open/explain?x=1",
            400,
            "unknown_parameter",
            "x",
        ),
    ] {
        let explains = explain.is_some();
        let served = served(explain).await;
        let (got, answer) = served.get(path).await;
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{path}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{message}");
        assert_eq!(served.get("/api/v1/state").await.1["explains"], explains);
        served.stop().await;
    }
}

/// Explains once it gets a permit, and counts what is under way and what was dropped.
struct Slow {
    under_way: AtomicUsize,
    most: AtomicUsize,
    dropped: AtomicUsize,
    permits: Semaphore,
}

struct Working(Arc<Slow>, bool);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        self.0.dropped.fetch_add(usize::from(!self.1), Ordering::SeqCst);
    }
}

fn slow() -> (Arc<Slow>, Option<Explain>) {
    let slow = Arc::new(Slow {
        under_way: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        dropped: AtomicUsize::new(0),
        permits: Semaphore::new(0),
    });
    let shared = Arc::clone(&slow);
    let explain: Explain = Arc::new(move |_, turn| {
        let slow = Arc::clone(&shared);
        Box::pin(async move {
            let _turn = turn;
            let now = slow.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            slow.most.fetch_max(now, Ordering::SeqCst);
            let mut working = Working(Arc::clone(&slow), false);
            slow.permits.acquire().await.unwrap().forget();
            working.1 = true;
            Ok(explanation())
        })
    });
    (slow, Some(explain))
}

#[tokio::test]
async fn one_is_made_at_a_time_and_few_may_wait() {
    let (slow, explain) = slow();
    let served = served(explain).await;
    let asked = join_all((0..9).map(|_| served.get(INCIDENT)));
    let (answers, ()) = tokio::join!(asked, async {
        served
            .until("the one too many is refused", async || {
                let busy =
                    "watchfold_http_requests_total{route=\"/api/v1/incidents/{id}/explain\",status=\"503\"}";
                served.metric(busy).await == Some(1.0)
            })
            .await;
        slow.permits.add_permits(8);
    });
    let of = |status| answers.iter().filter(move |(got, _)| *got == status);
    assert_eq!((of(200).count(), of(503).count()), (8, 1), "{answers:?}");
    assert_eq!(of(503).next().unwrap().1["error"]["code"], "busy");
    assert_eq!(slow.most.load(Ordering::SeqCst), 1);
    served.stop().await;
}

#[tokio::test]
async fn nothing_is_explained_to_those_who_left() {
    let (slow, explain) = slow();
    let served = served(explain).await;
    let asking = served
        .http
        .get(served.url(INCIDENT))
        .bearer_auth(&served.token)
        .send();
    tokio::select! {
        _ = asking => panic!("nobody let it go on"),
        () = served.until("it is under way", async || slow.under_way.load(Ordering::SeqCst) == 1) => {}
    }
    served
        .until("it is dropped", async || slow.dropped.load(Ordering::SeqCst) == 1)
        .await;
    slow.permits.add_permits(1);
    let next = tokio::time::timeout(LIMIT, served.get(INCIDENT)).await.unwrap();
    assert_eq!(next.0, 200, "the turn is free again");
    served.stop().await;
}
