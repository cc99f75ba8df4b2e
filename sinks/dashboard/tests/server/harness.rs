//! A dashboard over a log in memory, and what clients need to talk to it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;
use watchfold_config::PageAccess;
use watchfold_dashboard::{Dashboard, DashboardError, DashboardOptions, Explain, ExplainFailure, Packets};
use watchfold_kit::{Clock, Progress, Publisher, SystemClock};
use watchfold_log::memory::MemoryLog;
use watchfold_log::{Append, MessageLog};
use watchfold_schemas::config::{PcHost, ProbeSpec, Signal, SignalSpec, SiteConfig, Target};
use watchfold_schemas::event::{
    EVENT_VERSION, Incident, IncidentClass, Place, Session, Severity, SubjectChanged, SubjectState,
};
use watchfold_schemas::observation::{Activation, OBSERVATION_VERSION, Outcome, PingRound, PingRow, Tick};
use watchfold_schemas::origin::{Cause, EventId, MessageId};
use watchfold_schemas::{
    Body, Chain, Event, EventBody, Observation, Origin, Stream, Time, encode_event, encode_observation,
    subjects,
};

use super::invented::packets_of;

pub const SITE: &str = "cafe";
/// Longer than anything here takes, however slow the machine.
pub const LIMIT: Duration = Duration::from_secs(30);

pub fn at(second: i64) -> Time {
    Time::from_seconds(1_785_715_200 + second)
}

/// What is given to a dashboard and outlives it.
pub struct Ground {
    pub log: Arc<MemoryLog>,
    pub folder: TempDir,
    /// Cuts packets for the dashboards that are started from now on.
    pub packets: Mutex<Option<Packets>>,
    /// Names and proxies of the dashboards that are started from now on.
    pub access: Mutex<PageAccess>,
    number: AtomicU64,
}

impl Ground {
    pub fn new() -> Arc<Ground> {
        // The age of the newest record is measured with this machine's clock.
        let clock = SystemClock::new();
        Ground::on(MemoryLog::with_clock(Arc::new(move || clock.wall())))
    }

    pub fn on(log: Arc<MemoryLog>) -> Arc<Ground> {
        // A second test in this process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Arc::new(Ground {
            log,
            folder: tempfile::tempdir().unwrap(),
            packets: Mutex::new(Some(Arc::new(|request| {
                Box::pin(async move { packets_of(&request) })
            }))),
            access: Mutex::default(),
            number: AtomicU64::new(1),
        })
    }

    pub async fn observe(&self, second: i64, collector: &str, body: Body) -> u64 {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let origin = Origin {
            site: SITE.into(),
            collector: collector.into(),
            incarnation: 1,
            number,
        };
        let subject = subjects::observation(SITE, body.kind(), collector);
        let id = origin.message_id();
        let observation = Observation {
            v: OBSERVATION_VERSION,
            origin,
            observed_at: at(second),
            through: at(second),
            body,
        };
        self.append(
            Stream::Observations,
            subject,
            id,
            encode_observation(&observation).unwrap(),
        )
        .await
    }

    pub async fn emit(&self, second: i64, key: &str, body: EventBody) -> u64 {
        self.emit_in(Chain::Site, second, key, body).await
    }

    pub async fn emit_in(&self, chain: Chain, second: i64, key: &str, body: EventBody) -> u64 {
        let id = format!("{:032x}", self.number.load(Ordering::Relaxed));
        self.emit_as(&id, chain, second, key, body).await
    }

    pub async fn emit_as(&self, id: &str, chain: Chain, second: i64, key: &str, body: EventBody) -> u64 {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let id = EventId(id.into());
        let subject = subjects::event(SITE, chain, body.kind(), key);
        let event = Event {
            v: EVENT_VERSION,
            id: id.clone(),
            site: SITE.into(),
            chain,
            at: at(second),
            key: key.into(),
            cause: Cause::Message(MessageId("cafe/ping/1/1".into())),
            n: 0,
            place: Place {
                input: number,
                index: 0,
            },
            causes: Default::default(),
            body,
        };
        self.append(
            Stream::Events,
            subject,
            id.message_id(),
            encode_event(&event).unwrap(),
        )
        .await
    }

    pub async fn append(&self, stream: Stream, subject: String, id: MessageId, payload: Vec<u8>) -> u64 {
        let append = Append {
            stream,
            subject,
            id,
            payload: payload.into(),
        };
        self.log.append(vec![append]).await.unwrap()[0].sequence
    }

    /// A router, a server, two PCs, an open and a closed incident, a running and an ended session.
    pub async fn furnish(&self) {
        let body = Activation {
            at: at(0),
            hash: config().hash(),
            config: config(),
            software: "test".into(),
        };
        self.observe(0, "config", Body::Activation(Box::new(body))).await;
        self.observe(
            1,
            "clock",
            Body::Tick(Tick {
                now: at(1),
                interval_ms: 1_000,
            }),
        )
        .await;
        self.round(2, Some(1_500)).await;
        self.state(2, "router", SubjectState::Up).await;
        self.emit(
            10,
            "router-closed",
            EventBody::IncidentClosed(incident("router-closed", 1, Some(9))),
        )
        .await;
        self.emit(
            20,
            "router-open",
            EventBody::IncidentOpened(incident("router-open", 5, None)),
        )
        .await;
        self.emit(
            21,
            "s1",
            EventBody::SessionEnded(session("s1", "192.0.2.101", 1, Some(9))),
        )
        .await;
        self.emit(
            22,
            "s2",
            EventBody::SessionStarted(session("s2", "192.0.2.102", 3, None)),
        )
        .await;
    }

    pub async fn state(&self, second: i64, subject: &str, to: SubjectState) -> u64 {
        let body = SubjectChanged {
            subject: subject.into(),
            from: SubjectState::Unknown,
            to,
            since: at(second),
            root: None,
            detail: None,
        };
        self.emit(second, subject, EventBody::SubjectChanged(body)).await
    }

    pub async fn round(&self, second: i64, rtt_us: Option<u32>) -> u64 {
        let row = PingRow {
            subject: "router".into(),
            address: "192.0.2.1".into(),
            signal: Signal::Echo,
            at: at(second),
            outcome: if rtt_us.is_some() {
                Outcome::Ok
            } else {
                Outcome::TimedOut
            },
            rtt_us,
            mac: None,
            detail: None,
            why: None,
            resolved: None,
        };
        self.observe(
            second,
            "ping",
            Body::PingRound(PingRound::from_rows(second as u64, 1, vec![row])),
        )
        .await
    }
}

pub fn config() -> SiteConfig {
    let target = |name: &str, depends_on: &[&str]| Target {
        name: name.into(),
        probes: vec![ProbeSpec {
            address: "192.0.2.1".into(),
            signals: vec![SignalSpec::Echo],
        }],
        quorum: 1,
        interval_ms: 2_000,
        timeout_ms: 1_000,
        depends_on: depends_on.iter().map(|name| (*name).to_owned()).collect(),
    };
    let mut config = SiteConfig {
        site: SITE.into(),
        time_zone: "Europe/Berlin".into(),
        ..SiteConfig::default()
    };
    config.network.targets = vec![target("router", &[]), target("server", &["router"])];
    config.occupancy.hosts = (1..=2)
        .map(|n| PcHost {
            address: format!("192.0.2.{}", 100 + n),
            mac: None,
            name: format!("PC-{n}"),
        })
        .collect();
    config
}

pub fn incident(id: &str, started: i64, ended: Option<i64>) -> Incident {
    Incident {
        id: id.into(),
        class: IncidentClass::Outage,
        subject: "router".into(),
        severity: Severity::High,
        started_at: at(started),
        opened_at: at(started + 10),
        ended_at: ended.map(at),
        duration_ms: ended.map(|ended| (ended - started) as u64 * 1_000),
        unmeasured_ms: 0,
        late: false,
        acknowledged_by: None,
        acknowledged_at: None,
        reminders: 0,
        suppressed: Vec::new(),
        close_reason: None,
        detail: Some("=1+1".into()),
        attack: None,
        flood: None,
        reasons: Vec::new(),
    }
}

pub fn session(id: &str, pc: &str, started: i64, ended: Option<i64>) -> Session {
    Session {
        id: id.into(),
        pc: pc.into(),
        name: pc.into(),
        started_at: at(started),
        ended_at: ended.map(at),
        duration_ms: ended.map(|ended| (ended - started) as u64 * 1_000),
        unmeasured_ms: 0,
    }
}

/// A running dashboard.
pub struct Served {
    pub ground: Arc<Ground>,
    pub addr: SocketAddr,
    pub token: String,
    pub http: reqwest::Client,
    pub progress: Arc<Progress>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), DashboardError>>,
}

impl Served {
    pub async fn furnished() -> Served {
        let ground = Ground::new();
        ground.furnish().await;
        Served::start(ground, true).await
    }

    /// With alerts and attacks besides.
    pub async fn alarmed() -> Served {
        let ground = Ground::new();
        ground.furnish().await;
        ground.furnish_alarms().await;
        Served::start(ground, true).await
    }

    pub async fn start(ground: Arc<Ground>, writable: bool) -> Served {
        let log = ground.log.clone();
        let served = Served::begin(ground, log, writable, explaining(Ok(explanation()))).await;
        served
            .until("readyz answers", async || {
                served.open_get("/readyz").await.0 == 200
            })
            .await;
        served
    }

    /// Does not wait until it is ready.
    pub async fn begin(
        ground: Arc<Ground>,
        log: Arc<dyn MessageLog>,
        writable: bool,
        explain: Option<Explain>,
    ) -> Served {
        let folder: &Path = ground.folder.path();
        let operator = match writable {
            true => Some(
                Publisher::open(Arc::clone(&log), SITE, "operator", folder)
                    .await
                    .unwrap(),
            ),
            false => None,
        };
        let packets = ground.packets.lock().unwrap().clone();
        let access = ground.access.lock().unwrap().clone();
        let progress = Progress::new("dashboard");
        let shown = Arc::clone(&progress);
        let dashboard = Dashboard::bind(DashboardOptions {
            log,
            site: SITE.into(),
            listen: "127.0.0.1:0".parse().unwrap(),
            access,
            data_dir: folder.to_owned(),
            operator,
            explain,
            packets,
            figures: Arc::new(|_| ()),
            stages: Arc::new(move || vec![shown.snapshot()]),
            progress: Arc::clone(&progress),
            software: "watchfold test".into(),
        })
        .await
        .unwrap();
        let addr = dashboard.addr;
        let token = std::fs::read_to_string(&dashboard.token_path)
            .unwrap()
            .trim()
            .to_owned();
        assert_eq!(dashboard.link(), format!("http://{addr}/?token={token}"));
        let cancel = CancellationToken::new();
        let task = tokio::spawn(dashboard.run(cancel.clone()));
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Served {
            ground,
            addr,
            token,
            http,
            progress,
            cancel,
            task,
        }
    }

    /// Stops it and gives what is left for the next one.
    pub async fn stop(self) -> Arc<Ground> {
        self.cancel.cancel();
        timeout(LIMIT, self.task).await.unwrap().unwrap().unwrap();
        self.ground
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Without the token.
    pub async fn open_get(&self, path: &str) -> (u16, String) {
        let response = self.http.get(self.url(path)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub async fn request(&self, method: &str, path: &str, body: Option<&str>) -> reqwest::Response {
        let method = method.to_uppercase().parse().unwrap();
        let mut request = self.http.request(method, self.url(path)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_owned());
        }
        request.send().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        json_of(self.request("get", path, None).await).await
    }

    pub async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        json_of(self.request("post", path, Some(body)).await).await
    }

    pub async fn watch(&self, after: Option<&str>) -> Viewer {
        let query = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let mut request = format!("ws://{}/api/v1/stream{query}", self.addr)
            .into_client_request()
            .unwrap();
        request
            .headers_mut()
            .insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        let (socket, _) = connect_async(request).await.unwrap();
        Viewer { socket }
    }

    /// Waits for a condition, and fails the test if it never comes.
    pub async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let end = Instant::now() + LIMIT;
        while !condition().await {
            assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn metric(&self, line: &str) -> Option<f64> {
        let text = self.request("get", "/metrics", None).await.text().await.unwrap();
        text.lines()
            .find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }
}

/// A function that explains everything in the same way.
pub fn explaining(answer: Result<Value, fn() -> ExplainFailure>) -> Option<Explain> {
    Some(Arc::new(move |_, _| {
        let answer = answer.clone().map_err(|failure| failure());
        Box::pin(async move { answer })
    }))
}

/// As the description says that one looks; `src/explain.rs` holds that real ones do.
pub fn explanation() -> Value {
    let row = json!({
        "subject": "router", "address": "192.0.2.1", "signal": "echo", "at": at(1), "outcome": "timed_out",
        "rtt_us": null, "mac": null, "detail": null,
    });
    json!({
        "id": "router-open",
        "site": SITE,
        "subject": "router",
        "steps": [{
            "at": at(10),
            "kind": "incident_opened",
            "cause": { "timer": { "timer": "incidents/open", "deadline": at(10) } },
            "condition": { "setting": "network.min_incident", "limit_ms": 10_000, "found_ms": 10_000 },
            "event": {},
        }],
        "records": [
            { "sequence": 3, "stored_at": at(1), "observed_at": at(1), "id": "cafe/ping/1/3", "kind": "ping_round", "rows": [row] },
            { "sequence": 4, "stored_at": at(2), "observed_at": at(2), "id": "cafe/operator/1/1", "kind": "operator", "body": { "operator": {} } },
        ],
        "records_left_out": 0,
    })
}

async fn json_of(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {status}: {text}"));
    (status, value)
}

/// A WebSocket client of the stream.
pub struct Viewer {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Viewer {
    /// The next message of the stream; `None` when it ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            match timeout(LIMIT, self.socket.next())
                .await
                .expect("the stream stays silent")?
            {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub async fn expect(&mut self, kind: &str) -> Value {
        let message = self.next().await.expect("the stream ended");
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// Reads deltas until one of their changes is wanted; gives the message and the change.
    pub async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> (Value, Value) {
        loop {
            let message = self.next().await.expect("the stream ended");
            let found = message["changes"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|change| wanted(change))
                .cloned();
            if let Some(change) = found {
                return (message, change);
            }
        }
    }
}

pub fn position(message: &Value) -> String {
    format!(
        "{},{}",
        message["position"]["events"], message["position"]["observations"]
    )
}
