//! The connection to the broker: made in the background, for ever, and every request over it with its retries. Knows
//! what a broker may answer; not what is in a stream.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::jetstream::ErrorCode;
use async_nats::{Client, ConnectErrorKind, Event, HeaderMap, Message, Request, ServerError};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use watchfold_log::LogError;

use crate::failure::{Failure, judge};
use crate::{Auth, JetStreamOptions};

/// How long one request waits for its answer: a loaded server answers within seconds, and an answer that comes later
/// is not lost, because messages have ids.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The first wait after a failed attempt, doubled up to the longest.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest wait between attempts of one call: an election is noticed soon after it ended.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// The longest wait between attempts to connect: a broker that is back is used at once, as people see it.
const RECONNECT_MAX: Duration = Duration::from_secs(4);
/// How often the client asks whether the server is still there, so that a connection that died without a word is noticed.
const PING_EVERY: Duration = Duration::from_secs(20);
/// While it cannot connect, one warning in this time.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// Refusals that are remembered until the request that they are about has seen them.
const DENIALS_MAX: usize = 32;
/// The oldest server whose streams are understood: message ids, ordered pulls and reading by subject in one request.
const SERVER_MIN: (i64, i64, i64) = (2, 9, 0);

/// A connection that is there or will be.
pub(crate) struct Link {
    pub(crate) options: JetStreamOptions,
    client: watch::Receiver<Option<Client>>,
    events: Arc<Events>,
    /// Buckets that held something, and in which connection that was seen.
    held: Mutex<BTreeMap<&'static str, u64>>,
    _connecting: DropGuard,
}

/// What the connection tells by itself.
struct Events {
    place: String,
    /// How often it was made; a change means that whatever was subscribed may have missed messages.
    connects: watch::Sender<u64>,
    /// Bumped with each refusal.
    denials: watch::Sender<u64>,
    denied: Mutex<VecDeque<(u64, String)>>,
    /// Where answers would reach us, which this user may not see: told once for each connection.
    deaf: Mutex<Option<String>>,
    inbox_prefix: String,
    /// Why there is no connection, while there is none.
    trouble: Mutex<Option<Trouble>>,
}

#[derive(Clone)]
struct Trouble {
    reason: String,
    refused: bool,
}

/// What JetStream says in place of an answer.
pub(crate) type ApiError = async_nats::jetstream::Error;

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Failed { error: ApiError },
    Given(T),
}

impl Link {
    /// Returns at once. Must be called within a runtime.
    pub(crate) fn start(options: JetStreamOptions) -> Link {
        let events = Arc::new(Events {
            place: options.place(),
            connects: watch::Sender::new(0),
            denials: watch::Sender::new(0),
            denied: Mutex::default(),
            deaf: Mutex::default(),
            inbox_prefix: options
                .inbox_prefix
                .clone()
                .unwrap_or_else(|| "_INBOX".to_owned()),
            trouble: Mutex::default(),
        });
        let (sender, client) = watch::channel(None);
        let cancel = CancellationToken::new();
        let connecting = connect(options.clone(), events.clone(), sender);
        let stop = cancel.clone();
        tokio::spawn(async move {
            stop.run_until_cancelled(connecting).await;
        });
        Link {
            options,
            client,
            events,
            held: Mutex::default(),
            _connecting: cancel.drop_guard(),
        }
    }

    pub(crate) fn place(&self) -> &str {
        &self.events.place
    }

    /// Changes with each new connection.
    pub(crate) fn connects(&self) -> watch::Receiver<u64> {
        self.events.connects.subscribe()
    }

    /// Which connection this is: they are counted from 1.
    pub(crate) fn connection(&self) -> u64 {
        *self.events.connects.borrow()
    }

    /// Whether [`Link::note_held`] was told of the bucket in this connection.
    pub(crate) fn has_held(&self, bucket: &str, connection: u64) -> bool {
        lock(&self.held).get(bucket) == Some(&connection)
    }

    pub(crate) fn note_held(&self, bucket: &'static str, connection: u64) {
        lock(&self.held).insert(bucket, connection);
    }

    pub(crate) fn forget_held(&self, bucket: &str) {
        lock(&self.held).remove(bucket);
    }

    /// Why nothing gets through just now; `None` while there is a connection.
    pub(crate) fn trouble(&self) -> Option<String> {
        let client = self.client.borrow();
        if client
            .as_ref()
            .is_some_and(|client| client.connection_state() == State::Connected)
        {
            return None;
        }
        let trouble = lock(&self.events.trouble).clone();
        Some(trouble.map_or_else(|| "not connected yet".to_owned(), |trouble| trouble.reason))
    }

    /// The most bytes of one message with its headers, once a server has said so.
    pub(crate) fn payload_max(&self) -> Option<usize> {
        let max = self.client.borrow().as_ref()?.server_info().max_payload;
        (max > 0).then_some(max)
    }

    /// Runs `attempt` until it succeeds, fails for good, or the deadline of [`JetStreamOptions`] is reached.
    pub(crate) async fn patiently<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        attempt: impl FnMut(Client) -> F,
    ) -> Result<T, LogError> {
        self.until(Instant::now() + self.options.deadline, attempt).await
    }

    pub(crate) async fn until<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        deadline: Instant,
        mut attempt: impl FnMut(Client) -> F,
    ) -> Result<T, LogError> {
        let mut wait = RETRY_MIN;
        let mut reason = None;
        loop {
            let Ok(client) = timeout_at(deadline, self.connected()).await else {
                return Err(self.unreachable(reason));
            };
            match timeout_at(deadline, attempt(client)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(Failure::Final(error) | Failure::Denied(error))) => return Err(error),
                Ok(Err(Failure::Again(why))) => reason = Some(why),
                Ok(Err(Failure::NotMade)) => return Err(self.opened_for_reading()),
                Ok(Err(Failure::NobodyThere)) => reason = Some("nobody there takes it".to_owned()),
                Err(_) => return Err(self.unreachable(reason)),
            }
            if Instant::now() + wait >= deadline {
                return Err(self.unreachable(reason));
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// A client that is connected. Nothing is sent before: it would wait in a queue and go out when nobody wants it.
    pub(crate) async fn connected(&self) -> Client {
        let mut client = self.client.clone();
        let mut connects = self.connects();
        loop {
            if let Some(client) = client.borrow_and_update().clone()
                && client.connection_state() == State::Connected
            {
                return client;
            }
            // The state changes a moment apart from what is told of it, so it is looked at now and then as well.
            tokio::select! {
                _ = client.changed() => {}
                _ = connects.changed() => {}
                () = sleep(RETRY_MIN) => {}
            }
        }
    }

    /// One request and its answer. A refusal that names `subject` is the answer too.
    pub(crate) async fn request(
        &self,
        client: &Client,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Message, Failure> {
        let mut denials = self.events.denials.subscribe();
        let since = *denials.borrow_and_update();
        let mut heard = denials.clone();
        let mut request = Request::new().payload(payload).timeout(Some(REQUEST_TIMEOUT));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let answer = timeout(REQUEST_TIMEOUT, client.send_request(subject.to_owned(), request));
        tokio::select! {
            denied = self.events.denied(since, subject, &mut denials) => Err(Failure::Denied(self.denied(subject, denied))),
            answer = answer => match answer {
                Ok(Ok(message)) => Ok(message),
                Ok(Err(error)) => Err(self.request_failed(client, &error)),
                Err(_) => Err(Failure::Again("no answer in time".to_owned())),
            },
            reason = self.events.deaf(&mut heard) => Err(Failure::Final(self.deaf(reason))),
        }
    }

    /// One request to JetStream itself, below `$JS.API`.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        client: &Client,
        what: &str,
        body: &impl Serialize,
    ) -> Result<Result<T, ApiError>, Failure> {
        let subject = self.api_subject(what);
        let body = serde_json::to_vec(body).map_err(|error| Failure::Again(error.to_string()))?;
        let message = self.request(client, &subject, None, body.into()).await?;
        match serde_json::from_slice(&message.payload) {
            Ok(Answer::Given(given)) => Ok(Ok(given)),
            Ok(Answer::Failed { error }) => match judge(self.place(), what, &error) {
                Some(failure) => Err(failure),
                None => Ok(Err(error)),
            },
            Err(error) => Err(Failure::Again(format!("an answer that cannot be read: {error}"))),
        }
    }

    pub(crate) fn api_subject(&self, what: &str) -> String {
        match &self.options.domain {
            Some(domain) => format!("$JS.{domain}.API.{what}"),
            None => format!("$JS.API.{what}"),
        }
    }

    /// Refuses servers that are too old.
    pub(crate) fn check_version(&self, client: &Client) -> Result<(), Failure> {
        let (major, minor, patch) = SERVER_MIN;
        if client.is_server_compatible(major, minor, patch) {
            return Ok(());
        }
        Err(Failure::Final(LogError::Mismatch {
            place: self.place().to_owned(),
            key: "nats-server",
            found: client.server_info().version,
            wanted: format!("{major}.{minor} or newer"),
            remedy: "upgrade the server".to_owned(),
        }))
    }

    pub(crate) fn refused(&self, action: &str, error: &ApiError) -> LogError {
        LogError::Refused {
            place: self.place().to_owned(),
            action: action.to_owned(),
            reason: error.to_string(),
            remedy: "see what the broker says of it, and give this user or account what it needs".to_owned(),
        }
    }

    /// What is answered to a write through a log that was opened for reading alone.
    pub(crate) fn opened_for_reading(&self) -> LogError {
        LogError::Refused {
            place: self.place().to_owned(),
            action: "make or change a stream".to_owned(),
            reason: "the log is opened for reading".to_owned(),
            remedy: "start the process that writes to it, such as `watchfold up --log`".to_owned(),
        }
    }

    fn denied(&self, subject: &str, reason: String) -> LogError {
        LogError::Refused {
            place: self.place().to_owned(),
            action: format!("use {subject}"),
            reason,
            remedy: "allow it in the permissions of this user, or use another user's credentials".to_owned(),
        }
    }

    fn deaf(&self, reason: String) -> LogError {
        let prefix = &self.events.inbox_prefix;
        LogError::Refused {
            place: self.place().to_owned(),
            action: format!("let answers reach {prefix}.>"),
            reason,
            remedy: "give the prefix that this user may see (--nats-inbox-prefix, or inbox_prefix in the nats context), or allow this one".to_owned(),
        }
    }

    fn request_failed(&self, client: &Client, error: &async_nats::client::RequestError) -> Failure {
        match error.kind() {
            RequestErrorKind::NoResponders if !client.server_info().jetstream => {
                Failure::Final(LogError::Refused {
                    place: self.place().to_owned(),
                    action: "keep streams".to_owned(),
                    reason: "JetStream is not enabled".to_owned(),
                    remedy: "add `jetstream { store_dir: … }` to the server's configuration and restart it"
                        .to_owned(),
                })
            }
            RequestErrorKind::NoResponders => Failure::NobodyThere,
            _ => Failure::Again(error.to_string()),
        }
    }

    fn unreachable(&self, reason: Option<String>) -> LogError {
        let trouble = lock(&self.events.trouble).clone();
        match trouble {
            Some(Trouble {
                reason,
                refused: true,
            }) => LogError::Refused {
                place: self.place().to_owned(),
                action: "let us in".to_owned(),
                reason,
                remedy: "check user and password, or the credentials file, and what TLS the server wants"
                    .to_owned(),
            },
            Some(Trouble {
                reason,
                refused: false,
            }) => self.silent(reason),
            None => self.silent(reason.unwrap_or_else(|| "no answer in time".to_owned())),
        }
    }

    fn silent(&self, reason: String) -> LogError {
        LogError::Unreachable {
            place: self.place().to_owned(),
            reason,
            remedy: "check that nats-server runs there with JetStream enabled for this account, and the way to it; this goes on by itself once it answers".to_owned(),
        }
    }
}

impl Events {
    async fn tell(&self, event: Event) {
        match event {
            Event::Connected => {
                *lock(&self.trouble) = None;
                *lock(&self.deaf) = None;
                self.connects.send_modify(|times| *times += 1);
                tracing::info!(place = self.place, "connected to the broker");
            }
            Event::Disconnected => {
                tracing::warn!(
                    place = self.place,
                    "the connection to the broker is gone; reconnecting"
                );
                self.trouble("the connection is gone".to_owned(), false);
            }
            Event::ServerError(ServerError::Other(text))
                if text.to_lowercase().contains("permissions violation") =>
            {
                tracing::warn!(place = self.place, text, "the broker refuses a subject");
                self.deny(text);
            }
            Event::ServerError(ServerError::AuthorizationViolation) => {
                self.trouble("authorization violation".to_owned(), true);
            }
            Event::ServerError(error) => tracing::warn!(place = self.place, %error, "the broker complains"),
            Event::ClientError(error) => self.trouble(error.to_string(), is_refusal(&error.to_string())),
            Event::SlowConsumer(_) => {
                tracing::warn!(
                    place = self.place,
                    "a reader's buffer was full; it reads again from where it was"
                );
            }
            Event::LameDuckMode => {
                tracing::info!(place = self.place, "the server is about to stop; another is used")
            }
            Event::Draining | Event::Closed => {}
        }
    }

    fn trouble(&self, reason: String, refused: bool) {
        *lock(&self.trouble) = Some(Trouble { reason, refused });
    }

    fn deny(&self, text: String) {
        if text.contains(&format!("Subscription to \"{}.", self.inbox_prefix)) {
            *lock(&self.deaf) = Some(text.clone());
        }
        let mut denied = lock(&self.denied);
        if denied.len() >= DENIALS_MAX {
            denied.pop_front();
        }
        let number = *self.denials.borrow() + 1;
        denied.push_back((number, text));
        drop(denied);
        self.denials.send_replace(number);
    }

    /// Waits until it is known that no answer can reach us; for ever where they can.
    async fn deaf(&self, denials: &mut watch::Receiver<u64>) -> String {
        loop {
            if let Some(told) = lock(&self.deaf).clone() {
                return told;
            }
            if denials.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits for a refusal after `since` that names the subject; for ever where none comes.
    async fn denied(&self, since: u64, subject: &str, denials: &mut watch::Receiver<u64>) -> String {
        let named = format!("\"{subject}\"");
        loop {
            let told = lock(&self.denied)
                .iter()
                .find(|(number, text)| *number > since && text.contains(&named))
                .map(|(_, text)| text.clone());
            if let Some(told) = told {
                return told;
            }
            if denials.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Connects once, however long that takes; from then on the client reconnects by itself.
async fn connect(options: JetStreamOptions, events: Arc<Events>, sender: watch::Sender<Option<Client>>) {
    let mut wait = RETRY_MIN;
    let mut warn_at = Instant::now();
    loop {
        let error = match prepare(&options, &events) {
            Ok(prepared) => match prepared.connect(options.servers.clone()).await {
                Ok(client) => {
                    sender.send_replace(Some(client));
                    // The client lives in the channel as long as somebody may ask for it.
                    return sender.closed().await;
                }
                Err(error) => {
                    let kind = error.kind();
                    let refused = matches!(
                        kind,
                        ConnectErrorKind::Authentication
                            | ConnectErrorKind::AuthorizationViolation
                            | ConnectErrorKind::Tls
                    );
                    Trouble {
                        reason: error.to_string(),
                        refused: refused || is_refusal(&error.to_string()),
                    }
                }
            },
            Err(reason) => Trouble {
                reason,
                refused: true,
            },
        };
        if Instant::now() >= warn_at {
            tracing::warn!(
                place = events.place,
                reason = error.reason,
                "cannot connect to the broker; trying on"
            );
            warn_at = Instant::now() + WARN_EVERY;
        }
        *lock(&events.trouble) = Some(error);
        sleep_until(Instant::now() + wait).await;
        wait = (wait * 2).min(RECONNECT_MAX);
    }
}

fn prepare(options: &JetStreamOptions, events: &Arc<Events>) -> Result<async_nats::ConnectOptions, String> {
    let told = events.clone();
    let mut prepared = async_nats::ConnectOptions::new()
        .name(&options.name)
        .event_callback(move |event| {
            let told = told.clone();
            async move { told.tell(event).await }
        })
        .reconnect_delay_callback(|attempts| {
            let doubled = RETRY_MIN.saturating_mul(1 << attempts.min(10));
            if attempts <= 1 {
                Duration::ZERO
            } else {
                doubled.min(RECONNECT_MAX)
            }
        })
        .ping_interval(PING_EVERY)
        .require_tls(options.tls.required);
    prepared = match &options.auth {
        Auth::None => prepared,
        Auth::Token(token) => prepared.token(token.reveal().to_owned()),
        Auth::UserPassword { user, password } => {
            prepared.user_and_password(user.clone(), password.reveal().to_owned())
        }
        Auth::Credentials(text) => prepared
            .credentials(text.reveal())
            .map_err(|_| "the credentials file holds no user and seed".to_owned())?,
        Auth::Nkey(seed) => prepared.nkey(seed.reveal().to_owned()),
    };
    if options.tls.first {
        prepared = prepared.tls_first();
    }
    if let Some(ca) = &options.tls.ca {
        prepared = prepared.add_root_certificates(ca.clone());
    }
    if let Some((cert, key)) = &options.tls.identity {
        prepared = prepared.add_client_certificate(cert.clone(), key.clone());
    }
    if let Some(prefix) = &options.inbox_prefix {
        prepared = prepared.custom_inbox_prefix(prefix);
    }
    Ok(prepared)
}

/// Whether what the client says of a failed connection is a no rather than a silence.
fn is_refusal(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["authorization", "certificate", "tls", "signing nonce"]
        .iter()
        .any(|word| reason.contains(word))
}

/// Whether an error says that the stream is not there.
pub(crate) fn is_missing_stream(error: &ApiError) -> bool {
    error.error_code() == ErrorCode::STREAM_NOT_FOUND
}

/// A panic elsewhere leaves whole values behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
