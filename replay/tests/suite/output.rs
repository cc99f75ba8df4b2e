//! The built command whose standard output or standard error takes nothing: a closed pipe, a full device, a closed descriptor.
#![cfg(target_os = "linux")]

use std::fs::OpenOptions;
use std::process::{Command, Output, Stdio};

use crate::command::{built_command, run};
use crate::world::{World, everything};

/// EX_IOERR
const IO: i32 = 74;
/// EX_USAGE
const USAGE: i32 = 64;

const OUTAGE: &str = "target server\nset interval 2\nrun 0..300\ndown server 100..140\n";

/// Two ARP packets of which the second is torn: output, and a status of its own.
fn torn_capture() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xA1B2_C3D4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    let mut arp = vec![0xFF; 6];
    arp.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    arp.extend([2, 0, 0, 0, 0, 9, 10, 0, 0, 1, 2, 0, 0, 0, 0, 5, 10, 0, 0, 5]);
    for _ in 0..2 {
        for word in [1_700_000_000, 0, arp.len() as u32, arp.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend_from_slice(&arp);
    }
    bytes.truncate(bytes.len() - 1);
    bytes
}

/// A log, a recording, a torn capture, a configuration and a file of rules with a mistake; and every command that prints about them.
struct Commands {
    world: World,
    incident: String,
}

impl Commands {
    fn new() -> Commands {
        let world = World::new(OUTAGE);
        world.record("r.wfrec", everything());
        let write = |name: &str, bytes: &[u8]| std::fs::write(world.file(name), bytes).unwrap();
        write("torn.pcap", &torn_capture());
        write("watchfold.toml", b"site = \"cafe-1\"\n");
        write("wrong.yml", b"title: A\n");
        let incident = world.events.iter().find_map(|event| match &event.body {
            watchfold_schemas::EventBody::IncidentOpened(incident) => Some(incident.id.clone()),
            _ => None,
        });
        Commands {
            world,
            incident: incident.unwrap(),
        }
    }

    fn all(&self) -> Vec<Vec<String>> {
        let path = |name: &str| self.world.file(name).display().to_string();
        let data = self.world.data().display().to_string();
        let (recording, capture) = (path("r.wfrec"), path("torn.pcap"));
        let (config, rules) = (path("watchfold.toml"), path("wrong.yml"));
        let commands: &[&[&str]] = &[
            &["--help"],
            &["--version"],
            &["completions", "bash"],
            &["config", "check", "--config", &config],
            &["config", "check", "--config", &config, "--format", "json"],
            &["rules", "list", "--rules", "default"],
            &["rules", "check", &rules],
            &["log", "stat", "--data", &data],
            &["log", "stat", "--data", &data, "--format", "json"],
            &["log", "verify", "--data", &data],
            &["log", "cat", "--data", &data],
            &["capture", "stat", &capture, &capture],
            &["capture", "stat", &capture, "--format", "json"],
            &["capture", "interfaces"],
            &["replay", &recording],
            &["replay", &recording, "--format", "jsonl"],
            &["replay", &recording, "--diff"],
            &["explain", &self.incident, &recording],
            &["doctor", "--config", &config, "--data", &data],
            &["ready", "http://127.0.0.1:1"],
            &[
                "scenario",
                "test",
                concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/scenarios/muted"),
            ],
        ];
        commands
            .iter()
            .map(|words| words.iter().map(|word| (*word).to_owned()).collect())
            .collect()
    }
}

/// The writing end of a pipe that nobody reads any more.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full_device() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn run_into(arguments: &[String], stdout: Stdio, stderr: Stdio) -> Output {
    Command::new(built_command())
        .args(arguments)
        .env_remove("WATCHFOLD_DATA")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap()
}

#[test]
fn a_reader_that_has_seen_enough_changes_no_status_and_a_full_device_is_an_error() {
    let commands = Commands::new();
    for arguments in commands.all() {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let whole = run(&words);
        assert!(
            !whole.stdout.is_empty(),
            "{arguments:?} prints nothing: {whole:?}"
        );
        let status = whole.status.code();

        let closed = run_into(&arguments, closed_pipe(), Stdio::piped());
        assert_eq!(closed.status.code(), status, "{arguments:?} | true: {closed:?}");
        let said = String::from_utf8_lossy(&closed.stderr);
        assert!(
            !said.contains("standard output") && !said.contains("panicked"),
            "{arguments:?} | true: {said}"
        );

        let full = run_into(&arguments, full_device(), Stdio::piped());
        assert_eq!(full.status.code(), Some(IO), "{arguments:?} >/dev/full: {full:?}");
        let said = String::from_utf8_lossy(&full.stderr);
        let named = said.matches("failed to write to standard output: No space left on device");
        assert_eq!(named.count(), 1, "{arguments:?} >/dev/full: {said}");

        let unheard = [
            (Stdio::piped(), closed_pipe(), status),
            (Stdio::piped(), full_device(), status),
            (closed_pipe(), closed_pipe(), status),
            (full_device(), full_device(), Some(IO)),
        ];
        for (stdout, stderr, want) in unheard {
            let ended = run_into(&arguments, stdout, stderr);
            assert_eq!(ended.status.code(), want, "{arguments:?}: {ended:?}");
        }
    }
}

#[test]
fn errors_that_nobody_can_read_keep_their_status() {
    let world = World::new(OUTAGE);
    let missing = world.file("missing").display().to_string();
    for (arguments, status) in [
        (vec!["no-such-command"], USAGE),
        (vec!["replay", &missing], 2),
        (vec!["capture", "stat", &missing], 2),
        (vec!["config", "check", "--config", &missing], 78),
    ] {
        let words: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        for stderr in [closed_pipe(), full_device()] {
            let ended = run_into(&words, Stdio::piped(), stderr);
            assert_eq!(ended.status.code(), Some(status), "{arguments:?}: {ended:?}");
        }
    }
}

#[test]
fn a_closed_descriptor_is_no_error() {
    let command = built_command();
    let shell = "exec \"$0\" rules list --rules default 2>&- >&-";
    let status = Command::new("sh")
        .args(["-c", shell])
        .arg(command)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_torn_capture_is_reported_once() {
    let commands = Commands::new();
    let capture = commands.world.file("torn.pcap").display().to_string();
    for arguments in [["replay", &capture].as_slice(), &["capture", "stat", &capture]] {
        let ended = run(arguments);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        let said = String::from_utf8_lossy(&ended.stderr);
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("torn.pcap")).collect();
        assert_eq!(lines.len(), 1, "{said}");
    }
}
