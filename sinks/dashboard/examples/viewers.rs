//! How long an event takes from the log to many viewers, and whether one of them falls behind. Server and viewers share
//! this process and its cores, so the figures are an upper bound.
//!
//! `cargo run --release -p watchfold-dashboard --example viewers -- [viewers] [events a second] [seconds]`

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;
use watchfold_dashboard::{Dashboard, DashboardOptions};
use watchfold_kit::Progress;
use watchfold_log::memory::MemoryLog;
use watchfold_log::{Append, MessageLog};
use watchfold_schemas::event::{EVENT_VERSION, Incident, IncidentClass, Place, Severity};
use watchfold_schemas::origin::{Cause, EventId, MessageId};
use watchfold_schemas::{Chain, Event, EventBody, Stream, Time, encode_event, subjects};

const SITE: &str = "bench";
/// Stands before the moment of sending in an event's text.
const MARK: &str = "sent-ns:";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<u64> = std::env::args()
        .skip(1)
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    let argument = |index: usize, default| arguments.get(index).copied().unwrap_or(default);
    let (viewers, rate, seconds) = (argument(0, 100) as usize, argument(1, 100), argument(2, 10));
    let log = MemoryLog::new();
    let folder = tempfile::tempdir()?;
    let dashboard = Dashboard::bind(DashboardOptions {
        log: log.clone(),
        site: SITE.into(),
        listen: "127.0.0.1:0".parse()?,
        access: Default::default(),
        data_dir: folder.path().to_owned(),
        operator: None,
        explain: None,
        packets: None,
        figures: Arc::new(String::new),
        stages: Arc::new(Vec::new),
        progress: Progress::new("dashboard"),
        software: "bench".into(),
    })
    .await?;
    let token = std::fs::read_to_string(&dashboard.token_path)?.trim().to_owned();
    let url = format!("ws://{}/api/v1/stream", dashboard.addr);
    let cancel = CancellationToken::new();
    let server = tokio::spawn(dashboard.run(cancel.clone()));
    let epoch = Instant::now();
    let mut watching = Vec::new();
    for _ in 0..viewers {
        let mut request = url.as_str().into_client_request()?;
        request
            .headers_mut()
            .insert("authorization", format!("Bearer {token}").parse()?);
        let (socket, _) = connect_async(request).await?;
        watching.push(tokio::spawn(watch(socket, epoch, rate * seconds)));
    }
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate as f64));
    for number in 0..rate * seconds {
        ticks.tick().await;
        log.append(vec![opened(number, epoch)?]).await?;
    }
    let mut latencies_us = Vec::new();
    let (mut missed, mut restarted) = (0, 0);
    for seen in join_all(watching).await {
        let seen = seen?;
        missed += rate * seconds - seen.latencies_us.len() as u64;
        restarted += seen.snapshots - 1;
        latencies_us.extend(seen.latencies_us);
    }
    latencies_us.sort_unstable();
    let quantile = |permille: usize| {
        latencies_us
            .get(latencies_us.len() * permille / 1_000)
            .copied()
            .unwrap_or(0)
    };
    println!(
        "{viewers} viewers, {rate} events a second for {seconds} s: {missed} missed, {restarted} restarted"
    );
    println!(
        "log to viewer: p50 {} µs, p99 {} µs, p99.9 {} µs, max {} µs",
        quantile(500),
        quantile(990),
        quantile(999),
        latencies_us.last().copied().unwrap_or(0)
    );
    cancel.cancel();
    server.await??;
    Ok(())
}

#[derive(Default)]
struct Seen {
    latencies_us: Vec<u64>,
    snapshots: u64,
}

async fn watch(
    mut socket: tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>,
    epoch: Instant,
    events: u64,
) -> Seen {
    let mut seen = Seen::default();
    // Pings and beats go on for ever; what has not come a while after the last event was missed.
    let mut heard = Instant::now();
    while (seen.latencies_us.len() as u64) < events && heard.elapsed() < Duration::from_secs(30) {
        // Beats come more often than this.
        let next = tokio::time::timeout(Duration::from_secs(10), socket.next()).await;
        let text = match next {
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(_))) => continue,
            _ => return seen,
        };
        if text.starts_with("{\"type\":\"snapshot\"") {
            seen.snapshots += 1;
            continue;
        }
        let now_ns = epoch.elapsed().as_nanos() as u64;
        for part in text.split(MARK).skip(1) {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            let sent_ns: u64 = digits.parse().unwrap_or(now_ns);
            heard = Instant::now();
            seen.latencies_us.push(now_ns.saturating_sub(sent_ns) / 1_000);
        }
    }
    seen
}

fn opened(number: u64, epoch: Instant) -> Result<Append, Box<dyn Error>> {
    let id = EventId(format!("{number:032x}"));
    let at = Time::from_seconds(1_785_715_200 + number as i64);
    let incident = Incident {
        id: format!("{number:016x}"),
        class: IncidentClass::Outage,
        subject: "router".into(),
        severity: Severity::High,
        started_at: at,
        opened_at: at,
        ended_at: None,
        duration_ms: None,
        unmeasured_ms: 0,
        late: false,
        acknowledged_by: None,
        acknowledged_at: None,
        reminders: 0,
        suppressed: Vec::new(),
        close_reason: None,
        detail: Some(format!("{MARK}{}", epoch.elapsed().as_nanos())),
        attack: None,
    };
    let body = EventBody::IncidentOpened(incident);
    let subject = subjects::event(SITE, Chain::Site, body.kind(), "router");
    let event = Event {
        v: EVENT_VERSION,
        id: id.clone(),
        site: SITE.into(),
        chain: Chain::Site,
        at,
        key: "router".into(),
        cause: Cause::Message(MessageId("bench/ping/1/1".into())),
        n: 0,
        place: Place {
            input: number,
            index: 0,
        },
        causes: Default::default(),
        body,
    };
    Ok(Append {
        stream: Stream::Events,
        subject,
        id: id.message_id(),
        payload: encode_event(&event)?.into(),
    })
}
