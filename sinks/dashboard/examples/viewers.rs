//! How long an event takes from the log to many viewers, whether one of them falls behind, and the memory that viewers cost while they are
//! there and after they left. The viewers are another process on the same cores, so the times are an upper bound.
//!
//! `cargo run --release -p watchfold-dashboard --example viewers -- [viewers] [events a second] [seconds] [viewers that never read]`

#![expect(clippy::print_stdout, reason = "an example prints for the person who runs it")]

use std::error::Error;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use futures::future::join_all;
use tokio::process::Command;
use tokio::time::{Instant, sleep};
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
/// The first argument of the process of viewers.
const WATCH: &str = "watch";
/// Incidents that are open before the first viewer comes, so that a whole state has some size.
const OPEN_BEFORE: u64 = 500;
/// Viewers that never read are waited for this long.
const IDLE_WAIT: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A second choice would be the same one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [watch, url, token, numbers @ ..] = &arguments[..]
        && watch == WATCH
    {
        return view(url, token, &parse(numbers)?).await;
    }
    serve(&parse(&arguments)?).await
}

fn parse(arguments: &[String]) -> Result<Vec<u64>, std::num::ParseIntError> {
    arguments.iter().map(|text| text.parse()).collect()
}

/// The server, in this process.
async fn serve(arguments: &[u64]) -> Result<(), Box<dyn Error>> {
    let argument = |index: usize, default| arguments.get(index).copied().unwrap_or(default);
    let (viewers, rate, seconds) = (argument(0, 100), argument(1, 100), argument(2, 10));
    let idle = argument(3, 0);
    let log = MemoryLog::new();
    for number in 0..OPEN_BEFORE {
        log.append(vec![opened(number)?]).await?;
    }
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
    let (url, address) = (
        format!("ws://{}/api/v1/stream", dashboard.addr),
        dashboard.address(),
    );
    let cancel = CancellationToken::new();
    let server = tokio::spawn(dashboard.run(cancel.clone()));
    let shown = async || viewers_now(&address, &token).await;
    let before = resident_kib();
    let events = rate * seconds;
    let mut watching = Command::new(std::env::current_exe()?)
        .args([WATCH, &url, &token])
        .args([viewers, events, idle].map(|number| number.to_string()))
        .stdin(Stdio::null())
        .spawn()?;
    while shown().await? < viewers + idle {
        sleep(Duration::from_millis(20)).await;
    }
    let connected = resident_kib();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate.max(1) as f64));
    for number in 0..events {
        ticks.tick().await;
        log.append(vec![opened(OPEN_BEFORE + number)?]).await?;
    }
    let after_events = resident_kib();
    let began = Instant::now();
    while idle > 0 && shown().await? > 0 && began.elapsed() < IDLE_WAIT {
        sleep(Duration::from_secs(1)).await;
    }
    if idle > 0 {
        println!(
            "{} viewers left {} s after the last event, of {idle} that never read",
            shown().await?,
            began.elapsed().as_secs()
        );
    }
    watching.wait().await?;
    while shown().await? > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_secs(2)).await;
    println!(
        "memory of the server: {before} KiB before, {connected} KiB with {} viewers, {after_events} KiB after {events} events, {} KiB after they left",
        viewers + idle,
        resident_kib()
    );
    cancel.cancel();
    server.await??;
    Ok(())
}

async fn viewers_now(address: &str, token: &str) -> Result<u64, Box<dyn Error>> {
    let request = reqwest::Client::new()
        .get(format!("{address}metrics"))
        .bearer_auth(token);
    let text = request.send().await?.text().await?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("watchfold_viewers "));
    Ok(line.ok_or("no figure for viewers")?.trim().parse()?)
}

/// The memory of this process; 0 where there is no /proc.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// The viewers, in a process of their own.
async fn view(url: &str, token: &str, numbers: &[u64]) -> Result<(), Box<dyn Error>> {
    let [viewers, events, idle] = *numbers else {
        return Err("viewers, events and viewers that never read".into());
    };
    let connect = async || -> Result<_, Box<dyn Error>> {
        let mut request = url.into_client_request()?;
        request
            .headers_mut()
            .insert("authorization", format!("Bearer {token}").parse()?);
        Ok(connect_async(request).await?.0)
    };
    let mut watching = Vec::new();
    for _ in 0..viewers {
        watching.push(tokio::spawn(watch(connect().await?, events)));
    }
    let mut silent = Vec::new();
    for _ in 0..idle {
        silent.push(connect().await?);
    }
    let mut latencies_us = Vec::new();
    let (mut missed, mut restarted) = (0, 0);
    for seen in join_all(watching).await {
        let seen = seen?;
        missed += events.saturating_sub(seen.latencies_us.len() as u64);
        restarted += seen.snapshots.saturating_sub(1);
        latencies_us.extend(seen.latencies_us);
    }
    latencies_us.sort_unstable();
    let quantile = |permille: usize| {
        latencies_us
            .get(latencies_us.len() * permille / 1_000)
            .copied()
            .unwrap_or(0)
    };
    println!("{viewers} viewers, {events} events: {missed} missed, {restarted} restarted");
    println!(
        "log to viewer: p50 {} µs, p99 {} µs, p99.9 {} µs, max {} µs",
        quantile(500),
        quantile(990),
        quantile(999),
        latencies_us.last().copied().unwrap_or(0)
    );
    if idle > 0 {
        sleep(IDLE_WAIT).await;
    }
    drop(silent);
    Ok(())
}

#[derive(Default)]
struct Seen {
    latencies_us: Vec<u64>,
    snapshots: u64,
}

async fn watch(
    mut socket: tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>,
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
        let now_ns = now_ns();
        for part in text.split(MARK).skip(1) {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            let sent_ns: u64 = digits.parse().unwrap_or(now_ns);
            heard = Instant::now();
            seen.latencies_us.push(now_ns.saturating_sub(sent_ns) / 1_000);
        }
    }
    seen
}

/// Both processes have this clock.
#[expect(
    clippy::disallowed_methods,
    reason = "two processes of one machine share the wall clock"
)]
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

fn opened(number: u64) -> Result<Append, Box<dyn Error>> {
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
        detail: Some(format!("{MARK}{}", now_ns())),
        attack: None,
        flood: None,
        reasons: Vec::new(),
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
