//! A local stand-in for the ping routes of healthchecks. For tests only.
//!
//! It checks `rid`, keeps bodies up to its limit, tells that limit, and can be told to fail.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::routing::any;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::is_uuid;

/// The check's UUID that the server knows.
pub const KNOWN_CHECK: &str = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278";

/// How the next call is answered; none of these records the ping except where it says so.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    Status(u16),
    /// 200 with a remark, as the hosted service answers pings by UUID.
    Remark(&'static str),
    /// Records the ping and never answers.
    Hang,
    /// Closes without an answer and records nothing.
    Close,
}

/// A recorded ping.
#[derive(Clone, Debug)]
pub struct RecordedPing {
    pub method: String,
    /// `success`, `start`, `fail`, `log` or an exit status.
    pub kind: String,
    pub rid: Option<String>,
    /// What the server keeps of the body.
    pub body: String,
    /// How long the body was that came.
    pub body_bytes: usize,
    pub at: Instant,
}

/// The running server; it stops when dropped.
pub struct HealthchecksServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    _stop: DropGuard,
}

struct Shared {
    pings: Vec<RecordedPing>,
    calls: u64,
    failures: VecDeque<Failure>,
    body_limit: usize,
}

type Handle = State<Arc<Mutex<Shared>>>;

impl HealthchecksServer {
    /// On a free port of 127.0.0.1, keeping bodies up to `body_limit` bytes.
    pub async fn start(body_limit: usize) -> std::io::Result<HealthchecksServer> {
        HealthchecksServer::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), body_limit).await
    }

    pub async fn start_on(address: SocketAddr, body_limit: usize) -> std::io::Result<HealthchecksServer> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let shared = Shared {
            pings: Vec::new(),
            calls: 0,
            failures: VecDeque::new(),
            body_limit,
        };
        let shared = Arc::new(Mutex::new(shared));
        let routes = Router::new()
            .route("/{check}", any(plain_ping))
            .route("/{check}/{suffix}", any(suffixed_ping))
            .with_state(shared.clone());
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let stopped = stop.clone();
        tokio::spawn(async move {
            let served = axum::serve(listener, routes).into_future();
            tokio::select! {
                () = stopped.cancelled() => {}
                result = served => if let Err(error) = result { tracing::warn!(%error, "the test server stopped") },
            }
        });
        Ok(HealthchecksServer {
            address,
            shared,
            _stop: stop.drop_guard(),
        })
    }

    /// The ping address of the known check.
    pub fn url(&self) -> String {
        self.url_of(KNOWN_CHECK)
    }

    pub fn url_of(&self, check: &str) -> String {
        format!("http://{}/{check}", self.address)
    }

    pub fn pings(&self) -> Vec<RecordedPing> {
        self.shared().pings.clone()
    }

    /// The kinds of the recorded pings, oldest first.
    pub fn kinds(&self) -> Vec<String> {
        self.shared().pings.iter().map(|ping| ping.kind.clone()).collect()
    }

    /// Calls, recorded or not.
    pub fn calls(&self) -> u64 {
        self.shared().calls
    }

    pub fn fail_next(&self, failure: Failure) {
        self.shared().failures.push_back(failure);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn plain_ping(
    state: Handle,
    method: axum::http::Method,
    Path(check): Path<String>,
    query: Query<Vec<(String, String)>>,
    body: Bytes,
) -> Response<Body> {
    ping(
        state,
        method.to_string(),
        check,
        "success".to_owned(),
        query.0,
        body,
    )
    .await
}

async fn suffixed_ping(
    state: Handle,
    method: axum::http::Method,
    Path((check, suffix)): Path<(String, String)>,
    query: Query<Vec<(String, String)>>,
    body: Bytes,
) -> Response<Body> {
    ping(state, method.to_string(), check, suffix, query.0, body).await
}

async fn ping(
    State(shared): Handle,
    method: String,
    check: String,
    kind: String,
    query: Vec<(String, String)>,
    body: Bytes,
) -> Response<Body> {
    let rid = query
        .into_iter()
        .find(|(name, _)| name == "rid")
        .map(|(_, value)| value);
    let (failure, limit) = {
        let mut shared = lock(&shared);
        shared.calls += 1;
        (shared.failures.pop_front(), shared.body_limit)
    };
    let exit_status = kind.parse::<u32>();
    let known_kind = matches!(kind.as_str(), "success" | "start" | "fail" | "log") || exit_status.is_ok();
    match &failure {
        Some(Failure::Status(status)) => return answer(*status, "as the test asked", limit),
        Some(Failure::Remark(remark)) => return answer(200, &format!("OK ({remark})"), limit),
        Some(Failure::Close) => std::panic::resume_unwind(Box::new("closing")),
        Some(Failure::Hang) | None => {}
    }
    if check != KNOWN_CHECK || !known_kind {
        return answer(404, "not found", limit);
    }
    if rid.as_deref().is_some_and(|rid| !is_uuid(rid)) {
        return answer(400, "invalid uuid format", limit);
    }
    if exit_status.is_ok_and(|status| status > 255) {
        return answer(400, "invalid exit status", limit);
    }
    let kept = String::from_utf8_lossy(&body[..body.len().min(limit)]).into_owned();
    let recorded = RecordedPing {
        method,
        kind,
        rid,
        body: kept,
        body_bytes: body.len(),
        at: Instant::now(),
    };
    lock(&shared).pings.push(recorded);
    if failure == Some(Failure::Hang) {
        std::future::pending::<()>().await;
    }
    answer(200, "OK", limit)
}

fn answer(status: u16, text: &str, limit: usize) -> Response<Body> {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert("ping-body-limit", HeaderValue::from(limit));
    response
}
