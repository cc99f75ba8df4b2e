//! A local stand-in for VirusTotal's API, version 3, that enforces the public quotas. For tests only.
//!
//! It knows addresses and domains, the header of the key, the shapes of objects and errors, and can be told to fail in
//! every way that the service and networks do. Its clock is the test's.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use watchfold_kit::Clock;
use watchfold_schemas::{Span, Time};

/// The key that the server knows.
pub const KNOWN_KEY: &str = "5f2c0ffee5f2c0ffee5f2c0ffee5f2c0ffee5f2c0ffee5f2c0ffee5f2c0ffee0";

/// The public API's.
pub const PER_MINUTE: usize = 4;
pub const PER_DAY: usize = 500;

/// How the next call fails.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// This status with an error of this code, and perhaps how many seconds to wait.
    Error {
        status: u16,
        code: &'static str,
        retry_after_s: Option<u64>,
    },
    /// This status with a page for people.
    Portal(u16),
    /// 200 with these bytes.
    Garbage(Vec<u8>),
    /// Answers after this long.
    Slow(Duration),
    /// 200 and a body that breaks off.
    CloseMidBody,
    /// Closes without an answer.
    Close,
}

/// A call, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `ip_addresses/8.8.8.8`, say.
    pub path: String,
    pub at: Time,
    pub status: u16,
}

/// The running server; it stops when dropped.
pub struct VirusTotalServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    _stop: DropGuard,
}

struct Shared {
    clock: Arc<dyn Clock>,
    keys: Vec<String>,
    objects: BTreeMap<String, Value>,
    calls: Vec<Call>,
    failures: VecDeque<Failure>,
    /// When calls that were counted came.
    counted: Vec<Time>,
}

type Handle = State<Arc<Mutex<Shared>>>;

impl VirusTotalServer {
    /// On a free port of 127.0.0.1; minutes and days go by `clock`.
    pub async fn start(clock: Arc<dyn Clock>) -> std::io::Result<VirusTotalServer> {
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let shared = Arc::new(Mutex::new(Shared {
            clock,
            keys: vec![KNOWN_KEY.to_owned()],
            objects: BTreeMap::new(),
            calls: Vec::new(),
            failures: VecDeque::new(),
            counted: Vec::new(),
        }));
        let routes = Router::new()
            .route("/api/v3/{collection}/{id}", get(object))
            .with_state(shared.clone());
        let stop = CancellationToken::new();
        let (address, stopped) = (listener.local_addr()?, stop.clone());
        tokio::spawn(async move {
            let served = axum::serve(listener, routes).into_future();
            tokio::select! {
                () = stopped.cancelled() => {}
                result = served => if let Err(error) = result { tracing::warn!(%error, "the test server stopped") },
            }
        });
        Ok(VirusTotalServer {
            address,
            shared,
            _stop: stop.drop_guard(),
        })
    }

    /// What `sinks.virustotal.address` is set to.
    pub fn url(&self) -> String {
        format!("http://{}/api/v3", self.address)
    }

    /// Another key is good from now on.
    pub fn add_key(&self, key: &str) {
        self.shared().keys.push(key.to_owned());
    }

    /// What is known of `ip_addresses/…` or `domains/…`: so many engines call it malicious and suspicious.
    pub fn know(&self, path: &str, malicious: u32, suspicious: u32, reputation: i64) {
        self.shared()
            .objects
            .insert(path.to_owned(), sample(path, malicious, suspicious, reputation));
    }

    pub fn fail_next(&self, failure: Failure) {
        self.shared().failures.push_back(failure);
    }

    /// Every call, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.shared().calls.clone()
    }

    /// The paths of all calls, oldest first.
    pub fn paths(&self) -> Vec<String> {
        self.shared().calls.iter().map(|call| call.path.clone()).collect()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An object as the API shows it, with fields that nobody here reads.
pub fn sample(path: &str, malicious: u32, suspicious: u32, reputation: i64) -> Value {
    let (collection, id) = path.split_once('/').unwrap_or(("domains", path));
    let stats = json!({
        "malicious": malicious, "suspicious": suspicious, "harmless": 60, "undetected": 30, "timeout": 0,
    });
    let attributes = if collection == "ip_addresses" {
        json!({
            "as_owner": "Example Networks", "asn": 64_496, "continent": "EU", "country": "NL",
            "last_analysis_stats": stats, "reputation": reputation, "network": "203.0.113.0/24",
            "total_votes": { "harmless": 1, "malicious": 2 }, "tags": [], "whois": "…",
        })
    } else {
        json!({
            "registrar": "Example Registrar", "categories": { "One": "malware sites", "Two": "phishing" },
            "last_analysis_stats": stats, "reputation": reputation, "popularity_ranks": {},
            "last_dns_records": [{ "type": "A", "value": "203.0.113.7" }],
        })
    };
    let kind = collection.trim_end_matches("es").trim_end_matches('s');
    json!({ "data": { "id": id, "type": kind, "links": { "self": format!("/api/v3/{path}") }, "attributes": attributes } })
}

async fn object(
    State(shared): Handle,
    Path((collection, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    let path = format!("{collection}/{id}");
    let (failure, answer) = {
        let mut shared = lock(&shared);
        let failure = shared.failures.pop_front();
        let answer = shared.answer(&path, &headers, failure.as_ref());
        let at = shared.clock.wall();
        let status = answer.status().as_u16();
        shared.calls.push(Call { path, at, status });
        (failure, answer)
    };
    match failure {
        Some(Failure::Slow(time)) => tokio::time::sleep(time).await,
        Some(Failure::Close) => std::panic::resume_unwind(Box::new("closing")),
        Some(Failure::CloseMidBody) => {
            let halves: [Result<&str, std::io::Error>; 2] = [
                Ok("{\"data\":{\"attributes\":{"),
                Err(std::io::Error::other("cut")),
            ];
            return Response::new(Body::from_stream(futures::stream::iter(halves)));
        }
        _ => {}
    }
    answer
}

impl Shared {
    fn answer(&mut self, path: &str, headers: &HeaderMap, failure: Option<&Failure>) -> Response<Body> {
        let Some(key) = headers.get("x-apikey").and_then(|key| key.to_str().ok()) else {
            return error(401, "AuthenticationRequiredError", None);
        };
        if !self.keys.iter().any(|known| known == key) {
            return error(401, "WrongCredentialsError", None);
        }
        let now = self.clock.wall();
        let within = |span: Span| self.counted.iter().filter(|at| now.since(**at) < span).count();
        let today = |at: &&Time| at.floor(DAY) == now.floor(DAY);
        if within(Span::from_seconds(60)) >= PER_MINUTE
            || self.counted.iter().filter(today).count() >= PER_DAY
        {
            return error(429, "QuotaExceededError", None);
        }
        self.counted.push(now);
        match failure {
            Some(Failure::Error {
                status,
                code,
                retry_after_s,
            }) => error(*status, code, *retry_after_s),
            Some(Failure::Portal(status)) => response(*status, "<html>please sign in</html>"),
            Some(Failure::Garbage(bytes)) => response(200, bytes.clone()),
            Some(Failure::Slow(_) | Failure::CloseMidBody | Failure::Close) | None => {
                match self.objects.get(path) {
                    Some(object) => response(200, object.to_string()),
                    None => error(404, "NotFoundError", None),
                }
            }
        }
    }
}

const DAY: Span = Span::from_seconds(86_400);

fn error(status: u16, code: &str, retry_after_s: Option<u64>) -> Response<Body> {
    let body = json!({ "error": { "code": code, "message": "as the test asked" } });
    let mut response = response(status, body.to_string());
    if let Some(seconds) = retry_after_s {
        let headers = response.headers_mut();
        headers.insert("retry-after", HeaderValue::from(seconds));
    }
    response
}

fn response(status: u16, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
