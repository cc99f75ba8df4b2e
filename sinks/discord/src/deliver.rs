//! Calls Discord: one attempt at a time, and what Discord's answer means for the next.
//!
//! It never retries by itself, never decides what to tell, and never shows an address: the sink kit's loop does the
//! former, [`crate::render`] the words.
//!
//! A failure before an answer (a timeout, a connection cut before the status) is tried again. If Discord had taken the
//! message all the same it shows twice: this and a crash before the receipt is durable are the only such windows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_schemas::event::{Notice, NotificationRequest};
use watchfold_sink_kit::{
    Attempt, Destination, Edit, EditOutcome, Job, Outcome, Pause, Secret, SinkContext, SinkError, deliver,
};

use crate::config::{DiscordConfig, key};
use crate::render::{self, Message, Style};

/// One attempt from connecting to the last byte of the answer, in milliseconds. Discord answers within a second; ten
/// leave room for a bad line, and a stuck call holds its class up no longer.
pub const ATTEMPT_TIMEOUT_MS: u64 = 10_000;

/// The longest answer that is read, in bytes; a message object is a few kilobytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Refused calls (401, 403, 404, 429) allowed in [`INVALID_WINDOW_MS`]. Discord bans an address at 10,000; a site that
/// reaches a hundredth of it has something to mend.
pub const INVALID_MAX: usize = 100;

/// The window of that rule, in milliseconds: 10 minutes.
const INVALID_WINDOW_MS: u64 = 600_000;

/// The wait after a 429 that names none, in milliseconds.
const RATE_LIMIT_DEFAULT_MS: u64 = 60_000;

/// Field errors of a refused message that are told; the first ones name the fault.
const FIELD_ERRORS_MAX: usize = 5;

/// The nesting of Discord's error object that is followed.
const ERROR_DEPTH_MAX: usize = 16;

/// Runs the sink until it is cancelled. A changed configuration takes effect with the next call.
pub async fn run(
    context: SinkContext,
    config: watch::Receiver<Arc<DiscordConfig>>,
    cancel: CancellationToken,
) -> Result<(), SinkError> {
    let discord = Arc::new(Discord::new(config.clone())?);
    deliver(context, discord, config, cancel).await
}

/// Discord's webhooks.
pub struct Discord {
    client: reqwest::Client,
    config: watch::Receiver<Arc<DiscordConfig>>,
    /// When calls were refused, oldest first; at most [`INVALID_MAX`].
    invalid: Mutex<VecDeque<Instant>>,
}

impl Discord {
    pub fn new(config: watch::Receiver<Arc<DiscordConfig>>) -> Result<Discord, SinkError> {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_millis(ATTEMPT_TIMEOUT_MS))
            // A redirected POST would become a GET; Discord does not redirect.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("Watchfold/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SinkError::Client(error.without_url().to_string()))?;
        Ok(Discord {
            client,
            config,
            invalid: Mutex::default(),
        })
    }

    fn config(&self) -> Arc<DiscordConfig> {
        self.config.borrow().clone()
    }

    async fn deliver_job(&self, job: &Job) -> Attempt {
        let config = self.config();
        let Some(webhook) = config.webhooks.get(&job.class) else {
            return attempt(Outcome::Blocked {
                detail: "no webhook is configured any more".to_owned(),
            });
        };
        let style = style(&config, &job.time_zone);
        let Notice::IncidentUpdated { .. } = &job.notice else {
            return self.post(webhook, render::message(&job.notice, style)).await;
        };
        match &job.thread {
            Some(thread) => {
                self.patch_update(webhook, thread, render::edited(&job.notice, style))
                    .await
            }
            None => pointless("there is no message of this incident to edit"),
        }
    }

    async fn post(&self, webhook: &Secret, message: Message) -> Attempt {
        let answer = self.call(webhook, None, &message).await;
        let answer = match answer {
            Answer::Invalid {
                detail,
                about_looks: true,
            } => {
                tracing::warn!(
                    detail,
                    "Discord refuses the sender's name or the link; sending without them"
                );
                self.call(webhook, None, &without_looks(message)).await
            }
            other => other,
        };
        match answer {
            Answer::Accepted { message, pause } => Attempt {
                outcome: Outcome::Delivered { message },
                pause,
                thread_gone: false,
            },
            other => failed(other),
        }
    }

    async fn patch_update(&self, webhook: &Secret, thread: &str, message: Message) -> Attempt {
        match self.call(webhook, Some(thread), &message).await {
            Answer::Accepted { pause, .. } => Attempt {
                outcome: Outcome::Delivered {
                    message: Some(thread.to_owned()),
                },
                pause,
                thread_gone: false,
            },
            Answer::MessageGone => Attempt {
                thread_gone: true,
                ..pointless("the message of this incident was deleted")
            },
            other => failed(other),
        }
    }

    async fn edit_message(&self, edit: &Edit) -> EditOutcome {
        let config = self.config();
        let Some(webhook) = config.webhooks.get(&edit.class) else {
            return EditOutcome::Given {
                detail: "no webhook is configured any more".to_owned(),
            };
        };
        let message = render::edited(&edit.notice, style(&config, &edit.time_zone));
        match self.call(webhook, Some(&edit.message), &message).await {
            Answer::Accepted { pause, .. } => EditOutcome::Done { pause },
            Answer::MessageGone => EditOutcome::Given {
                detail: "the message was deleted".to_owned(),
            },
            Answer::Invalid { detail, .. } | Answer::WebhookGone { detail } => EditOutcome::Given { detail },
            Answer::Wait { after, pause, detail } => EditOutcome::Retry { after, detail, pause },
        }
    }

    /// One call; `thread` is the message to edit.
    async fn call(&self, webhook: &Secret, thread: Option<&str>, message: &Message) -> Answer {
        if let Some(wait) = self.budget_wait() {
            let detail = format!(
                "{INVALID_MAX} calls were refused within ten minutes; waiting so as not to be banned"
            );
            tracing::warn!(
                wait_s = wait.as_secs(),
                limit = INVALID_MAX,
                "too many refused calls to Discord"
            );
            return Answer::Wait {
                after: Some(wait),
                pause: Pause::All(wait),
                detail,
            };
        }
        let Some((method, url)) = address(webhook, thread) else {
            return Answer::WebhookGone {
                detail: "the configured webhook is not an address".to_owned(),
            };
        };
        let response = match self.client.request(method, url).json(message).send().await {
            Ok(response) => response,
            Err(error) => return unanswered(&error),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_body(response).await;
        let answer = interpret(status, &headers, body, thread.is_some(), webhook);
        if counts_as_invalid(status, &headers) {
            self.note_invalid();
        }
        answer
    }

    /// How long to keep still because too many calls were refused lately.
    fn budget_wait(&self) -> Option<Duration> {
        let mut invalid = self.invalid.lock().unwrap_or_else(PoisonError::into_inner);
        let window = Duration::from_millis(INVALID_WINDOW_MS);
        while invalid.front().is_some_and(|at| at.elapsed() >= window) {
            invalid.pop_front();
        }
        let oldest = invalid.front()?;
        (invalid.len() >= INVALID_MAX).then(|| window.saturating_sub(oldest.elapsed()))
    }

    fn note_invalid(&self) {
        let mut invalid = self.invalid.lock().unwrap_or_else(PoisonError::into_inner);
        invalid.push_back(Instant::now());
        if invalid.len() > INVALID_MAX {
            invalid.pop_front();
        }
    }
}

impl Destination for Discord {
    /// Classes that share a webhook share a lane, and so its order and its rate limit.
    fn lane(&self, request: &NotificationRequest) -> Option<String> {
        let config = self.config();
        let webhook = config.webhooks.get(&request.class)?;
        let first = config.webhooks.iter().find(|(_, other)| *other == webhook);
        first.map(|(class, _)| key(*class).to_owned())
    }

    fn deliver(self: Arc<Self>, job: Job) -> BoxFuture<'static, Attempt> {
        Box::pin(async move { self.deliver_job(&job).await })
    }

    fn edit(self: Arc<Self>, edit: Edit) -> BoxFuture<'static, EditOutcome> {
        Box::pin(async move { self.edit_message(&edit).await })
    }
}

/// What Discord's answer means.
#[derive(Debug, PartialEq)]
enum Answer {
    Accepted {
        message: Option<String>,
        pause: Pause,
    },
    /// The message to edit does not exist.
    MessageGone,
    /// The webhook does not exist or does not let us in.
    WebhookGone {
        detail: String,
    },
    /// Discord will never take this body; `about_looks` when the fault is in the sender's name or a link.
    Invalid {
        detail: String,
        about_looks: bool,
    },
    Wait {
        after: Option<Duration>,
        pause: Pause,
        detail: String,
    },
}

/// What was read of an answer's body.
#[derive(Debug)]
enum BodyRead {
    Whole(Vec<u8>),
    /// It broke off.
    Cut,
}

fn interpret(
    status: StatusCode,
    headers: &HeaderMap,
    body: BodyRead,
    editing: bool,
    webhook: &Secret,
) -> Answer {
    let json: Option<Value> = match &body {
        BodyRead::Whole(bytes) => serde_json::from_slice(bytes).ok(),
        BodyRead::Cut => None,
    };
    let error = || describe(status, json.as_ref(), webhook);
    match status.as_u16() {
        200..=299 => accepted(status, headers, &body, json.as_ref()),
        429 => rate_limited(headers, json.as_ref()),
        404 if editing && code(json.as_ref()) != Some(CODE_UNKNOWN_WEBHOOK) => Answer::MessageGone,
        401 | 403 | 404 => Answer::WebhookGone { detail: error() },
        408 | 425 | 300..=399 | 500..=599 => Answer::Wait {
            after: retry_after(headers),
            pause: Pause::None,
            detail: error(),
        },
        _ => Answer::Invalid {
            about_looks: is_about_looks(json.as_ref()),
            detail: error(),
        },
    }
}

/// Discord's code for a webhook that does not exist.
const CODE_UNKNOWN_WEBHOOK: u64 = 10_015;

/// A success counts as soon as its status is read: with `wait=true` Discord sends it after the message was saved, so
/// an answer that breaks off then costs the message's id, and a repetition would show it twice.
fn accepted(status: StatusCode, headers: &HeaderMap, body: &BodyRead, json: Option<&Value>) -> Answer {
    let message = json
        .and_then(|json| json.get("id"))
        .and_then(Value::as_str)
        .map(str::to_owned);
    let foreign = matches!(body, BodyRead::Whole(bytes) if !bytes.is_empty()) && message.is_none();
    if foreign {
        let detail = format!(
            "{} with a body that is not a Discord message; something else answers",
            status.as_u16()
        );
        return Answer::Wait {
            after: None,
            pause: Pause::None,
            detail,
        };
    }
    Answer::Accepted {
        message: message.filter(|id| is_snowflake(id)),
        pause: spent(headers),
    }
}

/// The wait that keeps the next call from being refused: the bucket is empty until it resets.
fn spent(headers: &HeaderMap) -> Pause {
    match (
        number(headers, "x-ratelimit-remaining"),
        number(headers, "x-ratelimit-reset-after"),
    ) {
        (Some(remaining), Some(reset_after)) if remaining < 1.0 => {
            seconds(reset_after).map_or(Pause::None, Pause::Lane)
        }
        _ => Pause::None,
    }
}

fn rate_limited(headers: &HeaderMap, json: Option<&Value>) -> Answer {
    let in_body = json
        .and_then(|json| json.get("retry_after"))
        .and_then(Value::as_f64)
        .and_then(seconds);
    let asked = in_body
        .max(retry_after(headers))
        .max(number(headers, "x-ratelimit-reset-after").and_then(seconds));
    let wait = asked.unwrap_or(Duration::from_millis(RATE_LIMIT_DEFAULT_MS));
    let global = json
        .and_then(|json| json.get("global"))
        .and_then(Value::as_bool)
        .unwrap_or(false)
        || headers.contains_key("x-ratelimit-global")
        || scope(headers) == Some("global");
    let pause = if global {
        Pause::All(wait)
    } else {
        Pause::Lane(wait)
    };
    let scope = scope(headers).unwrap_or(if global { "global" } else { "user" });
    Answer::Wait {
        after: Some(wait),
        pause,
        detail: format!("429: rate limited ({scope}) for {} ms", wait.as_millis()),
    }
}

/// Whether Discord counts this answer towards its ban rule. A shared limit is not the caller's fault and does not.
fn counts_as_invalid(status: StatusCode, headers: &HeaderMap) -> bool {
    match status.as_u16() {
        401 | 403 | 404 => true,
        429 => scope(headers) != Some("shared"),
        _ => false,
    }
}

fn scope(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-ratelimit-scope")?.to_str().ok()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    number(headers, "retry-after").and_then(seconds)
}

fn number(headers: &HeaderMap, name: &str) -> Option<f64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn seconds(value: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value).ok()
}

fn code(json: Option<&Value>) -> Option<u64> {
    json?.get("code")?.as_u64()
}

fn is_snowflake(id: &str) -> bool {
    !id.is_empty() && id.len() <= 20 && id.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_about_looks(json: Option<&Value>) -> bool {
    let Some(errors) = json.and_then(|json| json.get("errors")) else {
        return false;
    };
    let mut found = Vec::new();
    field_errors(errors, String::new(), 0, &mut found);
    let about = |path: &str| path == "username" || path.ends_with(".url");
    !found.is_empty() && found.iter().all(|(path, _)| about(path))
}

/// `400: Invalid Form Body (50035): embeds.0.title: Must be 256 or fewer in length.`
fn describe(status: StatusCode, json: Option<&Value>, webhook: &Secret) -> String {
    let mut text = status.as_u16().to_string();
    if let Some(message) = json.and_then(|json| json.get("message")).and_then(Value::as_str) {
        text.push_str(&format!(": {message}"));
    }
    if let Some(code) = code(json) {
        text.push_str(&format!(" ({code})"));
    }
    if let Some(errors) = json.and_then(|json| json.get("errors")) {
        let mut found = Vec::new();
        field_errors(errors, String::new(), 0, &mut found);
        for (path, message) in found.iter().take(FIELD_ERRORS_MAX) {
            text.push_str(&format!(": {path}: {message}"));
        }
    }
    scrub(&text, webhook)
}

/// Collects the `_errors` of Discord's nested error object with their paths.
fn field_errors(errors: &Value, path: String, depth: usize, found: &mut Vec<(String, String)>) {
    let Some(fields) = errors.as_object().filter(|_| depth < ERROR_DEPTH_MAX) else {
        return;
    };
    for (name, inner) in fields {
        if name != "_errors" {
            let separator = if path.is_empty() { "" } else { "." };
            field_errors(inner, format!("{path}{separator}{name}"), depth + 1, found);
            continue;
        }
        for error in inner.as_array().into_iter().flatten() {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("refused");
            found.push((path.clone(), message.to_owned()));
        }
    }
}

/// Foreign text without the webhook's address or token, should the far side repeat them.
fn scrub(text: &str, webhook: &Secret) -> String {
    let address = webhook.expose();
    let token = address
        .split(['?', '#'])
        .next()
        .unwrap_or(address)
        .trim_end_matches('/')
        .rsplit('/')
        .next();
    let text = text.replace(address, "(webhook)");
    match token {
        Some(token) if token.len() >= 4 => text.replace(token, "(token)"),
        _ => text,
    }
}

fn address(webhook: &Secret, thread: Option<&str>) -> Option<(Method, Url)> {
    let mut url = Url::parse(webhook.expose()).ok()?;
    if let Some(thread) = thread {
        url.path_segments_mut()
            .ok()?
            .pop_if_empty()
            .push("messages")
            .push(thread);
    }
    url.query_pairs_mut().append_pair("wait", "true");
    Some((
        if thread.is_some() {
            Method::PATCH
        } else {
            Method::POST
        },
        url,
    ))
}

async fn read_body(mut response: reqwest::Response) -> BodyRead {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= ANSWER_BYTES_MAX => {
                bytes.extend_from_slice(&chunk)
            }
            Ok(Some(_)) | Err(_) => return BodyRead::Cut,
            Ok(None) => return BodyRead::Whole(bytes),
        }
    }
}

fn unanswered(error: &reqwest::Error) -> Answer {
    let what = match error {
        error if error.is_timeout() => "no answer in time",
        error if error.is_connect() => "no connection to Discord",
        _ => "the connection broke before an answer",
    };
    Answer::Wait {
        after: None,
        pause: Pause::None,
        detail: what.to_owned(),
    }
}

fn failed(answer: Answer) -> Attempt {
    match answer {
        Answer::Accepted { message, pause } => Attempt {
            outcome: Outcome::Delivered { message },
            pause,
            thread_gone: false,
        },
        Answer::MessageGone => attempt(Outcome::Blocked {
            detail: "404: unknown webhook".to_owned(),
        }),
        Answer::WebhookGone { detail } => attempt(Outcome::Blocked { detail }),
        Answer::Invalid { detail, .. } => attempt(Outcome::Rejected { detail }),
        Answer::Wait { after, pause, detail } => Attempt {
            pause,
            ..attempt(Outcome::Retry { after, detail })
        },
    }
}

fn attempt(outcome: Outcome) -> Attempt {
    Attempt {
        outcome,
        pause: Pause::None,
        thread_gone: false,
    }
}

fn pointless(detail: &str) -> Attempt {
    attempt(Outcome::Pointless {
        detail: detail.to_owned(),
    })
}

fn without_looks(mut message: Message) -> Message {
    message.username = None;
    for embed in &mut message.embeds {
        embed.url = None;
    }
    message
}

fn style<'a>(config: &'a DiscordConfig, time_zone: &'a str) -> Style<'a> {
    Style {
        site: &config.username,
        page_url: config.page_url.as_deref(),
        time_zone,
    }
}
