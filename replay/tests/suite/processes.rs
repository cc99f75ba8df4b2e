//! The built command as a process that goes on: a recording that grows, a replay that keeps its pace, a page.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use watchfold_log::default_stream_options;
use watchfold_replay::Under;
use watchfold_schemas::{EventBody, Stream};
use watchfold_tests::story::{observations, parse};

use crate::command::{built_command, run};
use crate::world::{GrowingLog, World, everything, replay};

/// How long any condition may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(90);

const OUTAGE: &str = "target server\ntarget other\nset interval 2\nrun 0..300\ndown server 100..140\n";

/// Killed when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        let child = Command::new(built_command())
            .args(arguments)
            .env_remove("WATCHFOLD_DATA")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Running(child.unwrap())
    }

    /// SIGTERM, and how it ended with all that it said.
    fn stop(mut self) -> (ExitStatus, String) {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let status = self.0.wait().unwrap();
        let mut text = String::new();
        if let Some(mut out) = self.0.stdout.take() {
            out.read_to_string(&mut text).unwrap();
        }
        if let Some(mut err) = self.0.stderr.take() {
            err.read_to_string(&mut text).unwrap();
        }
        (status, text)
    }
}

fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_recording_follows_a_log_until_it_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = GrowingLog::open(
        &directory.path().join("log"),
        default_stream_options(Stream::Observations),
    );
    let observed = observations(&parse(OUTAGE).unwrap());
    let (first, second) = observed.split_at(observed.len() / 2);
    let mut live = log.append(first);
    let file = directory.path().join("f.wfrec");
    let (data, out) = (directory.path().to_str().unwrap(), file.to_str().unwrap());
    let recorder = Running::start(&["record", "--follow", "--data", data, "--out", out]);
    until("the recording", || file.exists().then_some(()));
    until("what there was", || {
        let output = run(&["replay", out, "--format", "jsonl"]);
        let events = output.stdout.iter().filter(|byte| **byte == b'\n').count();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (events == live.len() && output.status.code() == Some(2) && told.contains("still being written"))
            .then_some(())
    });
    live.extend(log.append(second));
    // It looks once more when it is stopped, so nothing that was stored before is missing.
    let (status, text) = recorder.stop();
    assert!(status.success(), "{text}");
    assert!(
        text.contains(&format!("{} observations", observed.len())) && text.contains("\nhash "),
        "{text}"
    );
    let whole = replay(&file, everything(), Under::recorded());
    assert_eq!((&whole.events, &whole.recorded), (&live, &live));
    assert!(whole.problems.is_empty(), "{:?}", whole.problems);
}

#[test]
fn a_paced_replay_gives_the_same_and_takes_its_time() {
    let world = World::new(OUTAGE);
    let data = world.data().to_str().unwrap();
    let as_fast_as_it_goes = run(&["replay", data]);
    let began = Instant::now();
    let paced = run(&["replay", data, "--speed", "150x"]);
    // 300 s of records at 150 times as fast; there is no upper limit on a loaded machine.
    assert!(
        began.elapsed() >= Duration::from_millis(1_900),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(paced.status.code(), Some(0), "{paced:?}");
    assert_eq!(paced.stdout, as_fast_as_it_goes.stdout);
}

#[test]
fn the_page_shows_what_is_replayed_and_refuses_acts() {
    let world = World::new(OUTAGE);
    let data = world.data().to_str().unwrap();
    let mut shown = Running::start(&["replay", data, "--dashboard", "--listen", "127.0.0.1:0"]);
    let mut line = String::new();
    let mut out = BufReader::new(shown.0.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let (address, link) = line
        .split_once("the page is at http://")
        .and_then(|(_, rest)| rest.split_once("/ and the link with its token in "))
        .unwrap_or_else(|| panic!("{line:?}"));
    let link = std::fs::read_to_string(link.trim()).unwrap();
    let token = link.trim().split_once("token=").unwrap().1.to_owned();
    let ask = |method: &str, path: &str| ask(address, &token, method, path);
    let closed = until("the incident is over", || {
        let (status, page) = ask("GET", "/api/v1/incidents?state=closed");
        (status == 200).then_some(())?;
        page["items"].as_array()?.first().cloned()
    });
    let live = world.events.iter().find_map(|event| match &event.body {
        EventBody::IncidentClosed(incident) => Some(incident),
        _ => None,
    });
    let live = live.unwrap();
    assert_eq!(
        (&closed["id"], &closed["subject"]),
        (&Value::from(live.id.clone()), &Value::from("server"))
    );
    let targets = until("both targets are up", || {
        let (_, page) = ask("GET", "/api/v1/targets");
        let targets = page["items"].as_array()?.clone();
        targets
            .iter()
            .all(|target| target["state"] == "up")
            .then_some(targets)
    });
    assert_eq!(targets.len(), 2);
    assert_eq!(ask("GET", "/api/v1/state").1["read_only"], true);
    let (status, answer) = ask("POST", &format!("/api/v1/incidents/{}/ack", live.id));
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &Value::from("read_only"))
    );
    let (status, text) = shown.stop();
    assert!(status.success(), "{text}");
    assert!(
        text.contains("that was all") && text.contains("digest cafe-1 "),
        "{text}"
    );
    assert!(!std::path::Path::new(link.trim()).exists());
}

#[test]
fn the_page_of_a_piece_shows_what_stood_before_it() {
    let world = World::new(OUTAGE);
    world.record("late.wfrec", crate::world::span(Some(200.0), None));
    let file = world.file("late.wfrec");
    let mut shown = Running::start(&[
        "replay",
        file.to_str().unwrap(),
        "--dashboard",
        "--listen",
        "127.0.0.1:0",
    ]);
    let mut line = String::new();
    BufReader::new(shown.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let (address, link) = line
        .split_once("the page is at http://")
        .and_then(|(_, rest)| rest.split_once("/ and the link with its token in "))
        .unwrap_or_else(|| panic!("{line:?}"));
    let link = std::fs::read_to_string(link.trim()).unwrap();
    let token = link.trim().split_once("token=").unwrap().1.to_owned();
    // Nothing changes in it, so no event tells that they are up.
    until("both targets are up", || {
        let (_, page) = ask(address, &token, "GET", "/api/v1/targets");
        let targets = page["items"].as_array()?;
        (targets.len() == 2 && targets.iter().all(|target| target["state"] == "up")).then_some(())
    });
    let (status, text) = shown.stop();
    assert!(status.success(), "{text}");
}

/// One request, as `Connection: close` makes it easy to read.
fn ask(address: &str, token: &str, method: &str, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    let body = if method == "POST" { "{}" } else { "" };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    // A long answer may come in chunks, whose lengths stand on lines of their own.
    let json: String = if answer.to_lowercase().contains("transfer-encoding: chunked") {
        body.split("\r\n").skip(1).step_by(2).collect()
    } else {
        body.to_owned()
    };
    (
        status.unwrap_or(0),
        serde_json::from_str(&json).unwrap_or(Value::Null),
    )
}
