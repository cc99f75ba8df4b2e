//! The viewers of `bench page`, in a process of their own. They read bytes and look for the marks in them, so that both servers have
//! the same readers and these take little of the cores.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use watchfold_kit::outln;
use watchfold_kit::token::TOKEN_VARIABLE;

use super::{MARK, now_ns};
use crate::cli::BenchPageArgs;

/// The line that says that every viewer is connected and got its first bytes.
pub const READY: &str = "ready";
/// What has not come this long after what came last was missed. Beats come more often, so it counts from the last mark.
const QUIET: Duration = Duration::from_secs(10);
/// How a whole state begins.
const SNAPSHOT: &[u8] = b"{\"type\":\"snapshot\"";
/// Bytes of one read.
const READ_BYTES: usize = 64 * 1_024;
/// More than a mark with its digits takes, so that none is lost between two reads.
const TAIL_BYTES: usize = 64;

/// What all viewers together saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Events seen, each viewer's counted.
    pub got: u64,
    pub missed: u64,
    /// Whole states after each viewer's first.
    pub restarted: u64,
    /// Bytes read after the first whole state.
    pub bytes: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// Connects all viewers, says so, and prints what they saw.
pub async fn watch(address: &str, args: &BenchPageArgs) -> anyhow::Result<()> {
    let token = std::env::var(TOKEN_VARIABLE).unwrap_or_default();
    let mut viewers = Vec::new();
    for _ in 0..args.viewers {
        viewers.push(Viewer::connect(address, &token).await?);
    }
    let mut silent = Vec::new();
    for _ in 0..args.silent {
        silent.push(Viewer::connect(address, &token).await?);
    }
    outln!("{READY}")?;
    let events = args.events();
    let following = viewers
        .into_iter()
        .map(|viewer| tokio::spawn(viewer.follow(events)));
    let mut seen = Seen::default();
    let mut latencies_us = Vec::new();
    for viewer in join_all(following).await {
        let viewer = viewer?;
        seen.missed += events.saturating_sub(viewer.latencies_us.len() as u64);
        seen.restarted += viewer.snapshots;
        seen.bytes += viewer.bytes;
        latencies_us.extend(viewer.latencies_us);
    }
    drop(silent);
    latencies_us.sort_unstable();
    let last = latencies_us.len().saturating_sub(1);
    let quantile = |percent: usize| {
        latencies_us
            .get(last * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    seen.got = latencies_us.len() as u64;
    (seen.p50_us, seen.p99_us, seen.max_us) = (quantile(50), quantile(99), quantile(100));
    outln!("{}", serde_json::to_string(&seen)?)?;
    Ok(())
}

struct Viewer {
    socket: TcpStream,
    /// By number.
    seen: Vec<bool>,
    latencies_us: Vec<u64>,
    snapshots: u64,
    bytes: u64,
}

impl Viewer {
    /// Opens the live stream and waits for the first bytes of its answer.
    async fn connect(address: &str, token: &str) -> anyhow::Result<Viewer> {
        let mut socket = TcpStream::connect(address)
            .await
            .context("a viewer could not connect")?;
        let request = format!(
            "GET /api/v1/stream HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await?;
        let mut first = [0];
        ensure!(socket.read(&mut first).await? == 1, "a viewer got no answer");
        Ok(Viewer {
            socket,
            seen: Vec::new(),
            latencies_us: Vec::new(),
            snapshots: 0,
            bytes: 0,
        })
    }

    async fn follow(mut self, events: u64) -> Viewer {
        self.seen = vec![false; usize::try_from(events).unwrap_or_default()];
        let mut bytes = vec![0; READ_BYTES];
        let mut tail: Vec<u8> = Vec::new();
        let mut is_first_state = true;
        let mut heard = tokio::time::Instant::now();
        while (self.latencies_us.len() as u64) < events && heard.elapsed() < QUIET {
            let count = match timeout(QUIET, self.socket.read(&mut bytes)).await {
                Ok(Ok(count)) if count > 0 => count,
                _ => break,
            };
            let now_ns = now_ns();
            tail.extend_from_slice(&bytes[..count]);
            if tail.windows(SNAPSHOT.len()).any(|window| window == SNAPSHOT) {
                self.snapshots += u64::from(!is_first_state);
                is_first_state = false;
            }
            let before = self.latencies_us.len();
            let taken = self.take_marks(&tail, now_ns);
            if self.latencies_us.len() > before {
                heard = tokio::time::Instant::now();
                self.bytes += count as u64;
            }
            let kept = taken.max(tail.len().saturating_sub(TAIL_BYTES));
            tail.drain(..kept);
        }
        self
    }

    /// Takes the whole marks, each event's once, and returns where the last one ends. A whole state holds earlier events again.
    fn take_marks(&mut self, bytes: &[u8], now_ns: u64) -> usize {
        let (mut from, mut taken) = (0, 0);
        while let Some(found) = find(&bytes[from..], MARK.as_bytes()) {
            let begin = from + found + MARK.len();
            let Some(length) = bytes[begin..].iter().position(|byte| *byte == b';') else {
                break;
            };
            let text = std::str::from_utf8(&bytes[begin..begin + length]).unwrap_or_default();
            let mark = text.split_once(':').and_then(|(number, sent_ns)| {
                Some((number.parse::<usize>().ok()?, sent_ns.parse::<u64>().ok()?))
            });
            if let Some((number, sent_ns)) = mark
                && let Some(is_seen) = self.seen.get_mut(number)
                && !std::mem::replace(is_seen, true)
            {
                self.latencies_us.push(now_ns.saturating_sub(sent_ns) / 1_000);
            }
            from = begin + length;
            taken = from;
        }
        taken
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
