//! Calls Discord: one attempt at a time, and what Discord's answer means for the next.
//!
//! It never retries by itself, never decides what to tell, and never shows an address: the sink kit's loop does the
//! former, [`crate::render`] the words.
//!
//! A failure before an answer (a timeout, a connection cut before the status) is tried again. If Discord had taken the
//! message all the same it shows twice; the README lists every such case.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::{Method, Url};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchfold_schemas::event::{Notice, NoticeClass, NotificationRequest};
use watchfold_schemas::observation::Fault;
use watchfold_sink_kit::{
    Attempt, Destination, Edit, EditOutcome, Job, Outcome, Pause, Secret, SinkContext, SinkError, deliver,
};

use crate::answer::{Answer, BodyRead, counts_as_invalid, interpret};
use crate::config::{DiscordConfig, key};
use crate::digest;
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

/// The sink's name in receipts, faults and subjects.
pub const SINK: &str = "discord";

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
        let Some((_, webhook)) = route(&config, job.class, &job.notice) else {
            return attempt(Outcome::Blocked {
                detail: "no webhook is configured any more".to_owned(),
            });
        };
        let style = style(&config, &job.time_zone);
        if !job.digest.is_empty() {
            return self.post(webhook, digest::message(&job.digest, style)).await;
        }
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
        let Some((_, webhook)) = route(&config, edit.class, &edit.notice) else {
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
    fn lane(&self, request: &NotificationRequest) -> Option<String> {
        let config = self.config();
        route(&config, request.class, &request.notice).map(|(lane, _)| lane.to_owned())
    }

    fn lanes(&self) -> BTreeMap<String, u64> {
        let config = self.config();
        let lanes = lanes(&config).into_iter();
        lanes
            .map(|(lane, webhook)| {
                let mut hasher = DefaultHasher::new();
                webhook.expose().hash(&mut hasher);
                (lane.to_owned(), hasher.finish())
            })
            .collect()
    }

    fn deliver(self: Arc<Self>, job: Job) -> BoxFuture<'static, Attempt> {
        Box::pin(async move { self.deliver_job(&job).await })
    }

    fn edit(self: Arc<Self>, edit: Edit) -> BoxFuture<'static, EditOutcome> {
        Box::pin(async move { self.edit_message(&edit).await })
    }
}

/// Each webhook under the key of the first class that has it: classes that share a webhook share a lane, and so its order
/// and its rate limit.
fn lanes(config: &DiscordConfig) -> Vec<(&'static str, &Secret)> {
    let mut lanes: Vec<(&'static str, &Secret)> = Vec::new();
    for (class, webhook) in &config.webhooks {
        if lanes.iter().all(|(_, other)| *other != webhook) {
            lanes.push((key(*class), webhook));
        }
    }
    lanes
}

/// Where a notice goes: the lane of its class. News about a lane itself goes to another one, because the lane takes
/// nothing and its messages would only wait or be refused; without another one it goes nowhere.
fn route<'c>(
    config: &'c DiscordConfig,
    class: NoticeClass,
    notice: &Notice,
) -> Option<(&'static str, &'c Secret)> {
    let webhook = config.webhooks.get(&class)?;
    let lanes = lanes(config);
    let about = |lane: &str| match notice {
        Notice::IncidentOpened { incident, .. }
        | Notice::IncidentUpdated { incident }
        | Notice::IncidentReminder { incident, .. }
        | Notice::IncidentClosed { incident, .. } => incident.subject == Fault::destination(SINK, Some(lane)),
        Notice::SessionsStarted { .. } | Notice::SessionsEnded { .. } | Notice::OccupancySnapshot { .. } => {
            false
        }
    };
    let own = lanes.iter().find(|(_, other)| *other == webhook);
    let others = lanes.iter().filter(|(_, other)| *other != webhook);
    own.into_iter()
        .chain(others)
        .find(|(lane, _)| !about(lane))
        .copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    const WEBHOOK: &str = "https://discord.example/api/webhooks/1/s3cret-t0ken";

    #[tokio::test]
    async fn refused_calls_are_bounded() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = DiscordConfig {
            webhooks: Default::default(),
            username: "cafe-1".into(),
            page_url: None,
        };
        let discord = Discord::new(watch::Sender::new(Arc::new(config)).subscribe()).unwrap();
        for _ in 1..INVALID_MAX {
            discord.note_invalid();
        }
        assert_eq!(discord.budget_wait(), None);
        discord.note_invalid();
        assert!(discord.budget_wait().is_some());
    }

    #[test]
    fn an_edit_goes_to_the_message_and_keeps_the_thread_of_the_webhook() {
        let with_thread = Secret::new(format!("{WEBHOOK}?thread_id=7"));
        let (method, url) = address(&with_thread, Some("42")).unwrap();
        assert_eq!(method, Method::PATCH);
        assert_eq!(
            url.as_str(),
            format!("{WEBHOOK}/messages/42?thread_id=7&wait=true")
        );
        let (method, url) = address(&Secret::new(WEBHOOK), None).unwrap();
        assert_eq!(
            (method, url.as_str()),
            (Method::POST, format!("{WEBHOOK}?wait=true").as_str())
        );
    }
}
