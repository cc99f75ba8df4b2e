//! `watchfold bench page`: how long an event takes from the log to every viewer of the page, what that costs, and the memory of the
//! server with its viewers. Its peer writes as many bytes to as many sockets and does nothing else. The viewers are a process of
//! their own on the same cores, so the times are an upper bound.

mod peer;
mod viewers;

use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use watchfold_dashboard::{Dashboard, DashboardOptions};
use watchfold_kit::Progress;
use watchfold_kit::token::TOKEN_VARIABLE;
use watchfold_log::memory::MemoryLog;
use watchfold_log::{Append, MessageLog};
use watchfold_schemas::event::{EVENT_VERSION, Incident, IncidentClass, Place, Severity};
use watchfold_schemas::origin::{Cause, EventId, MessageId};
use watchfold_schemas::{Chain, Event, EventBody, Stream, Time, encode_event, subjects};

use super::machine;
use super::report::Report;
use super::workspace;
use crate::cli::BenchPageArgs;
use viewers::{READY, Seen};

const SITE: &str = "bench";
/// Stands before the number of an event and the moment of its append.
const MARK: &str = "sent:";
/// Incidents that are open before the first viewer comes, so that a whole state has some size.
const OPEN_BEFORE: u64 = 500;
/// What a server gives back after its viewers left is measured after this.
const SETTLE: Duration = Duration::from_secs(2);

pub fn page(args: &BenchPageArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    if let Some(address) = &args.watch {
        runtime.block_on(viewers::watch(address, args))?;
    } else {
        runtime.block_on(measured(args))?.print(args.common.format)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn measured(args: &BenchPageArgs) -> anyhow::Result<Report> {
    let mut report = Report::new("page");
    report.add(
        "viewers",
        f64::from(args.viewers),
        "viewers",
        "that follow the live stream",
    );
    report.add(
        "silent_viewers",
        f64::from(args.silent),
        "viewers",
        "that never read",
    );
    report.add("events", args.events() as f64, "events", "appended to the log");
    let (page, bytes) = shown(args, &mut report).await?;
    let bare = peer::written(args, bytes).await?;
    add(
        &mut report,
        &page,
        ["missed", "p50_us", "p99_us", "max_us", "cpu_us"],
        "page",
    );
    report.add(
        "restarted",
        page.seen.restarted as f64,
        "states",
        "page: whole states after the first",
    );
    add(
        &mut report,
        &bare,
        [
            "bare_missed",
            "bare_p50_us",
            "bare_p99_us",
            "bare_max_us",
            "bare_cpu_us",
        ],
        "bare writes",
    );
    let (p99, bare_p99) = (page.seen.p99_us as f64, bare.seen.p99_us as f64);
    report.ratio("p99_vs_bare", p99, bare_p99, "page beside bare writes, p99");
    Ok(report)
}

/// What viewers saw of a server, and the processor time of the server.
struct Run {
    seen: Seen,
    processor: Option<Duration>,
}

fn add(report: &mut Report, run: &Run, names: [&'static str; 5], what: &str) {
    let [missed, p50, p99, max, processor] = names;
    let seen = &run.seen;
    report.add(
        missed,
        seen.missed as f64,
        "events",
        format!("{what}: not seen by a viewer"),
    );
    for (name, value, quantile) in [
        (p50, seen.p50_us, "half"),
        (p99, seen.p99_us, "99 %"),
        (max, seen.max_us, "all"),
    ] {
        let words = format!("{what}: from the append to {quantile} of the viewers, at most");
        report.add(name, value as f64, "µs", words);
    }
    if let Some(took) = run.processor
        && seen.got > 0
    {
        let each = took.as_secs_f64() * 1e6 / seen.got as f64;
        report.add(
            processor,
            each,
            "µs",
            format!("{what}: processor time of the server for each event and viewer"),
        );
    }
}

/// The page over a log in memory; also gives how many bytes a viewer got for each event.
async fn shown(args: &BenchPageArgs, report: &mut Report) -> anyhow::Result<(Run, usize)> {
    let log = MemoryLog::new();
    for number in 0..OPEN_BEFORE {
        log.append(vec![opened(number, None)?]).await?;
    }
    let folder = workspace(&args.common)?;
    let dashboard = Dashboard::bind(DashboardOptions {
        log: log.clone(),
        site: SITE.into(),
        listen: "127.0.0.1:0".parse()?,
        access: Default::default(),
        data_dir: folder.path().to_owned(),
        operator: None,
        explain: None,
        packets: None,
        figures: Arc::new(|_| ()),
        stages: Arc::new(Vec::new),
        progress: Progress::new("dashboard"),
        software: "bench".into(),
    })
    .await?;
    let address = dashboard.addr.to_string();
    let link = dashboard.link();
    let token = link.split_once("token=").map(|(_, token)| token.to_owned());
    let cancel = CancellationToken::new();
    let server = tokio::spawn(dashboard.run(cancel.clone()));
    let before = resident_bytes();
    let mut watching = Watching::begin(&address, args, token.as_deref().unwrap_or_default()).await?;
    let connected = resident_bytes();
    let processor = machine::processor_time();
    let mut ticks = paced(args);
    for number in 0..args.events() {
        ticks.tick().await;
        log.append(vec![opened(OPEN_BEFORE + number, Some(mark_of(number)))?])
            .await?;
    }
    let seen = watching.end().await?;
    let run = Run {
        processor: machine::processor_time()
            .zip(processor)
            .map(|(after, before)| after.saturating_sub(before)),
        seen,
    };
    sleep(SETTLE).await;
    for (name, bytes, what) in [
        (
            "resident_before_bytes",
            before,
            "resident before the first viewer",
        ),
        (
            "resident_with_viewers_bytes",
            connected,
            "resident with all viewers",
        ),
        (
            "resident_after_bytes",
            resident_bytes(),
            "resident after they left",
        ),
    ] {
        if let Some(bytes) = bytes {
            report.add(name, bytes as f64, "bytes", what);
        }
    }
    cancel.cancel();
    server.await??;
    let per_event = run.seen.bytes.checked_div(run.seen.got).unwrap_or_default();
    Ok((run, usize::try_from(per_event)?))
}

fn paced(args: &BenchPageArgs) -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / f64::from(args.rate.max(1))));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

/// The process of viewers.
struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    /// Starts it, and waits until every viewer is there.
    async fn begin(address: &str, args: &BenchPageArgs, token: &str) -> anyhow::Result<Watching> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "page", "--watch", address])
            .args(["--viewers", &args.viewers.to_string()])
            .args(["--silent", &args.silent.to_string()])
            .args(["--rate", &args.rate.to_string()])
            .args(["--seconds", &args.seconds.to_string()])
            .env(TOKEN_VARIABLE, token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("failed to start the process of viewers")?;
        let output = child
            .stdout
            .take()
            .context("the process of viewers has no output")?;
        let mut lines = BufReader::new(output).lines();
        let first = lines.next_line().await?;
        ensure!(first.as_deref() == Some(READY), "the viewers did not all connect");
        Ok(Watching { child, lines })
    }

    /// Waits until they saw everything, or nothing for a while.
    async fn end(&mut self) -> anyhow::Result<Seen> {
        let line = self.lines.next_line().await?.context("the viewers ended early")?;
        self.child.wait().await?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// The memory of this process. Linux only.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Both processes have this clock.
#[expect(
    clippy::disallowed_methods,
    reason = "two processes of one machine share the wall clock"
)]
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The mark that an event of the measurement carries.
fn mark_of(number: u64) -> String {
    format!("{MARK}{number}:{};", now_ns())
}

fn opened(number: u64, mark: Option<String>) -> anyhow::Result<Append> {
    let id = EventId(format!("{number:032x}"));
    let at = Time::from_seconds(1_785_715_200 + i64::try_from(number)?);
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
        detail: mark,
        attack: None,
        reasons: Vec::new(),
        flood: None,
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
