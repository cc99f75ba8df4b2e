//! A local stand-in for Discord's webhook routes that enforces the documented limits. For tests only.
//!
//! It knows `POST` and `PATCH` of webhooks, the limits of messages and embeds, `wait`, rate-limit headers, and can be
//! told to fail in every way that Discord and networks do.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use axum::routing::{patch, post};
use serde_json::{Map, Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How the next call fails.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// 429 with `Retry-After` in whole seconds, `retry_after` as a float, and a scope of user, global or shared.
    RateLimited {
        header_s: u64,
        body_s: f64,
        scope: &'static str,
    },
    /// 429 without any of Discord's own words, as an edge proxy sends it.
    BareRateLimit { header_s: u64 },
    /// This status with a short error body.
    Status(u16),
    /// 400 with a field error at this path, `embeds.0.url` say.
    InvalidField(&'static str),
    /// 404 with code 10015.
    UnknownWebhook,
    /// 404 with code 10008.
    UnknownMessage,
    /// Takes the message and never answers.
    Hang,
    /// Takes the message, sends the status and half of the body, and closes.
    CloseMidBody,
    /// Takes no message and closes without an answer.
    Close,
    /// Takes the message, and closes without an answer: the far side's half of the ambiguous window.
    TakeAndClose,
}

/// A message as the channel shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownMessage {
    pub id: String,
    /// The webhook's id, the part before the token.
    pub webhook: String,
    /// The body as it was posted, or as it is after the last edit.
    pub body: Value,
    pub edits: u32,
}

/// A call, whatever became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: &'static str,
    pub webhook: String,
    pub status: u16,
    pub body: Value,
}

/// The running server; it stops when dropped.
pub struct DiscordServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    _stop: DropGuard,
}

#[derive(Default)]
struct Shared {
    messages: Vec<ShownMessage>,
    calls: Vec<Call>,
    failures: VecDeque<(Option<String>, Failure)>,
    headers: Vec<(&'static str, String)>,
    next_id: u64,
    latency: Duration,
}

type Handle = State<Arc<Mutex<Shared>>>;

impl DiscordServer {
    /// On a free port of 127.0.0.1.
    pub async fn start() -> std::io::Result<DiscordServer> {
        DiscordServer::start_on(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub async fn start_on(address: SocketAddr) -> std::io::Result<DiscordServer> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let shared = Arc::new(Mutex::new(Shared {
            next_id: 1_000_000,
            ..Shared::default()
        }));
        let routes = Router::new()
            .route("/api/webhooks/{webhook}/{token}", post(create))
            .route("/api/webhooks/{webhook}/{token}/messages/{message}", patch(edit))
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
        Ok(DiscordServer {
            address,
            shared,
            _stop: stop.drop_guard(),
        })
    }

    /// The address of a webhook called `webhook`; any name works.
    pub fn url(&self, webhook: &str) -> String {
        format!("http://{}/api/webhooks/{webhook}/t0ken-{webhook}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The messages that people see, oldest first.
    pub fn messages(&self) -> Vec<ShownMessage> {
        self.shared().messages.clone()
    }

    pub fn calls(&self) -> Vec<Call> {
        self.shared().calls.clone()
    }

    /// The titles of all messages, oldest first.
    pub fn titles(&self) -> Vec<String> {
        let title = |message: &ShownMessage| {
            message.body["embeds"][0]["title"]
                .as_str()
                .unwrap_or("")
                .to_owned()
        };
        self.shared().messages.iter().map(title).collect()
    }

    /// The next call to any webhook fails so; failures queue up.
    pub fn fail_next(&self, failure: Failure) {
        self.shared().failures.push_back((None, failure));
    }

    /// The next call to this webhook fails so.
    pub fn fail_webhook(&self, webhook: &str, failure: Failure) {
        self.shared()
            .failures
            .push_back((Some(webhook.to_owned()), failure));
    }

    /// What successes carry from now on, `X-RateLimit-Remaining` say.
    pub fn answer_with_header(&self, name: &'static str, value: &str) {
        let mut shared = self.shared();
        shared.headers.retain(|(known, _)| *known != name);
        shared.headers.push((name, value.to_owned()));
    }

    /// Somebody deletes a message.
    pub fn delete(&self, id: &str) {
        self.shared().messages.retain(|message| message.id != id);
    }

    /// Every call from now on is answered after this.
    pub fn answer_after(&self, latency: Duration) {
        self.shared().latency = latency;
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn create(
    State(shared): Handle,
    Path((webhook, _token)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    body: Bytes,
) -> Response<Body> {
    let failure = take_failure(&shared, &webhook);
    let (taken, answer) = {
        let mut guard = lock(&shared);
        let answer = create_message(
            &mut guard,
            &webhook,
            &body,
            wants_message(&query),
            failure.as_ref(),
        );
        (failure, answer)
    };
    record(&shared, "POST", webhook, &answer, &body);
    let latency = lock(&shared).latency;
    misbehave(latency, taken, answer).await
}

async fn edit(
    State(shared): Handle,
    Path((webhook, _token, message)): Path<(String, String, String)>,
    body: Bytes,
) -> Response<Body> {
    let failure = take_failure(&shared, &webhook);
    let answer = {
        let mut guard = lock(&shared);
        edit_message(&mut guard, &webhook, &message, &body, failure.as_ref())
    };
    record(&shared, "PATCH", webhook, &answer, &body);
    let latency = lock(&shared).latency;
    misbehave(latency, failure, answer).await
}

/// What Discord would say: status, headers, body.
struct Said {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Value,
}

impl Said {
    fn error(status: u16, code: u64, message: &str) -> Said {
        Said {
            status,
            headers: Vec::new(),
            body: json!({ "message": message, "code": code }),
        }
    }
}

fn create_message(
    shared: &mut Shared,
    webhook: &str,
    body: &[u8],
    wait: bool,
    failure: Option<&Failure>,
) -> Said {
    if let Some(said) = failure.and_then(refusal) {
        return said;
    }
    let body = match validated(body) {
        Ok(body) => body,
        // Without `wait` an unsaved message is no error.
        Err(said) => {
            return if wait {
                said
            } else {
                Said {
                    status: 204,
                    headers: Vec::new(),
                    body: Value::Null,
                }
            };
        }
    };
    if matches!(failure, Some(Failure::Close)) {
        return Said {
            status: 0,
            headers: Vec::new(),
            body: Value::Null,
        };
    }
    shared.next_id += 1;
    let id = shared.next_id.to_string();
    let embeds = body["embeds"].clone();
    shared.messages.push(ShownMessage {
        id: id.clone(),
        webhook: webhook.to_owned(),
        body,
        edits: 0,
    });
    let headers = shared.headers.clone();
    if !wait {
        return Said {
            status: 204,
            headers,
            body: Value::Null,
        };
    }
    Said {
        status: 200,
        headers,
        body: json!({ "id": id, "type": 0, "webhook_id": webhook, "embeds": embeds }),
    }
}

fn edit_message(
    shared: &mut Shared,
    webhook: &str,
    id: &str,
    body: &[u8],
    failure: Option<&Failure>,
) -> Said {
    if let Some(said) = failure.and_then(refusal) {
        return said;
    }
    let body = match validated(body) {
        Ok(body) => body,
        Err(said) => return said,
    };
    let headers = shared.headers.clone();
    let known = shared
        .messages
        .iter_mut()
        .find(|message| message.id == id && message.webhook == webhook);
    let Some(message) = known else {
        return Said::error(404, 10_008, "Unknown Message");
    };
    message.body = body;
    message.edits += 1;
    Said {
        status: 200,
        headers,
        body: json!({ "id": id, "type": 0, "webhook_id": webhook }),
    }
}

fn refusal(failure: &Failure) -> Option<Said> {
    Some(match failure {
        Failure::RateLimited {
            header_s,
            body_s,
            scope,
        } => {
            let global = *scope == "global";
            let mut headers = vec![
                ("retry-after", header_s.to_string()),
                ("x-ratelimit-scope", (*scope).to_owned()),
            ];
            if global {
                headers.push(("x-ratelimit-global", "true".to_owned()));
            }
            let body =
                json!({ "message": "You are being rate limited.", "retry_after": body_s, "global": global });
            Said {
                status: 429,
                headers,
                body,
            }
        }
        Failure::BareRateLimit { header_s } => Said {
            status: 429,
            headers: vec![("retry-after", header_s.to_string())],
            body: Value::Null,
        },
        Failure::Status(status) => Said::error(*status, 0, "as the test asked"),
        Failure::InvalidField(path) => invalid(path, "Not a well formed URL."),
        Failure::UnknownWebhook => Said::error(404, 10_015, "Unknown Webhook"),
        Failure::UnknownMessage => Said::error(404, 10_008, "Unknown Message"),
        Failure::Hang | Failure::CloseMidBody | Failure::Close | Failure::TakeAndClose => return None,
    })
}

/// The body when it is within Discord's limits.
fn validated(body: &[u8]) -> Result<Value, Said> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return Err(Said::error(
            400,
            50_109,
            "The request body contains invalid JSON.",
        ));
    };
    match first_fault(&body) {
        Some((path, message)) => Err(invalid(&path, &message)),
        None => Ok(body),
    }
}

/// The first breach of the documented limits, with its path.
pub fn first_fault(body: &Value) -> Option<(String, String)> {
    let too_long = |limit: usize| format!("Must be {limit} or fewer in length.");
    if length(&body["content"]) > 2_000 {
        return Some(("content".into(), too_long(2_000)));
    }
    if let Some(name) = body["username"].as_str() {
        let lower = name.to_lowercase();
        if let Some(word) = ["discord", "clyde", "here", "everyone"]
            .into_iter()
            .find(|word| lower.contains(word))
        {
            return Some(("username".into(), format!("Username cannot contain \"{word}\"")));
        }
        if name.is_empty() || name.chars().count() > 80 {
            return Some(("username".into(), "Must be between 1 and 80 in length.".into()));
        }
    }
    let nothing = Vec::new();
    let embeds = body["embeds"].as_array().unwrap_or(&nothing);
    if embeds.is_empty() && length(&body["content"]) == 0 {
        return Some(("content".into(), "Cannot send an empty message".into()));
    }
    if embeds.len() > 10 {
        return Some(("embeds".into(), too_long(10)));
    }
    let mut total = 0;
    for (index, embed) in embeds.iter().enumerate() {
        if let Some((path, message)) = embed_fault(embed, &mut total) {
            return Some((format!("embeds.{index}.{path}"), message));
        }
    }
    (total > 6_000).then(|| ("embeds".into(), "Embed size exceeds maximum size of 6000".into()))
}

fn embed_fault(embed: &Value, total: &mut usize) -> Option<(String, String)> {
    let texts = [
        ("title", &embed["title"], 256),
        ("description", &embed["description"], 4_096),
        ("footer.text", &embed["footer"]["text"], 2_048),
        ("author.name", &embed["author"]["name"], 256),
    ];
    for (path, text, limit) in texts {
        *total += length(text);
        if length(text) > limit {
            return Some((path.into(), format!("Must be {limit} or fewer in length.")));
        }
    }
    if let Some(url) = embed["url"].as_str()
        && !(url.starts_with("http://") || url.starts_with("https://"))
    {
        return Some(("url".into(), "Not a well formed URL.".into()));
    }
    let nothing = Vec::new();
    let fields = embed["fields"].as_array().unwrap_or(&nothing);
    if fields.len() > 25 {
        return Some(("fields".into(), "Must be 25 or fewer in length.".into()));
    }
    for (index, field) in fields.iter().enumerate() {
        for (name, limit) in [("name", 256), ("value", 1_024)] {
            let found = length(&field[name]);
            *total += found;
            if found == 0 {
                return Some((format!("fields.{index}.{name}"), "This field is required".into()));
            }
            if found > limit {
                return Some((
                    format!("fields.{index}.{name}"),
                    format!("Must be {limit} or fewer in length."),
                ));
            }
        }
    }
    None
}

/// Characters as the stricter of both ways of counting, outer whitespace trimmed.
fn length(text: &Value) -> usize {
    text.as_str().map_or(0, |text| text.trim().encode_utf16().count())
}

/// 400 with Discord's nested error object.
fn invalid(path: &str, message: &str) -> Said {
    let mut errors = json!({ "_errors": [{ "code": "BASE_TYPE_INVALID", "message": message }] });
    for name in path.rsplit('.') {
        let mut outer = Map::new();
        outer.insert(name.to_owned(), errors);
        errors = Value::Object(outer);
    }
    let body = json!({ "message": "Invalid Form Body", "code": 50_035, "errors": errors });
    Said {
        status: 400,
        headers: Vec::new(),
        body,
    }
}

fn wants_message(query: &[(String, String)]) -> bool {
    query
        .iter()
        .any(|(name, value)| name == "wait" && value == "true")
}

fn take_failure(shared: &Mutex<Shared>, webhook: &str) -> Option<Failure> {
    let mut shared = lock(shared);
    let matching = |(only, _): &(Option<String>, Failure)| only.as_deref().is_none_or(|only| only == webhook);
    let place = shared.failures.iter().position(matching)?;
    shared.failures.remove(place).map(|(_, failure)| failure)
}

fn record(shared: &Mutex<Shared>, method: &'static str, webhook: String, said: &Said, body: &[u8]) {
    let body = serde_json::from_slice(body).unwrap_or(Value::Null);
    lock(shared).calls.push(Call {
        method,
        webhook,
        status: said.status,
        body,
    });
}

async fn misbehave(latency: Duration, failure: Option<Failure>, said: Said) -> Response<Body> {
    tokio::time::sleep(latency).await;
    match failure {
        Some(Failure::Hang) => std::future::pending().await,
        // Unwinding ends the connection's task, and with it the connection, before a status was sent.
        Some(Failure::Close | Failure::TakeAndClose) => std::panic::resume_unwind(Box::new("closing")),
        Some(Failure::CloseMidBody) => {
            let broken = futures::stream::unfold(0, |step| async move {
                match step {
                    0 => Some((Ok(Bytes::from_static(b"{\"id\":\"1")), 1)),
                    _ => {
                        // The first half must leave before the connection breaks.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Some((Err(std::io::Error::other("cut")), 2))
                    }
                }
            });
            let mut response = Response::new(Body::from_stream(broken));
            *response.status_mut() = StatusCode::OK;
            response
        }
        _ => answer(said),
    }
}

fn answer(said: Said) -> Response<Body> {
    let text = if said.body.is_null() {
        String::new()
    } else {
        said.body.to_string()
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(said.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in said.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}
