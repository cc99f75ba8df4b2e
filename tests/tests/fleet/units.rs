//! The units of systemd: known to it, hardened, and with command lines that the programs take. No unit is started.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::Place;

/// A program that is there, so that `verify` finds one.
const STAND_IN: &str = "/bin/true";

/// How exposed a unit may be, of 100: the network is what these programs are for.
const EXPOSURE_MAX: u32 = 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd")
}

struct Unit {
    name: String,
    text: String,
}

impl Unit {
    fn all() -> Vec<Unit> {
        let mut units: Vec<Unit> = std::fs::read_dir(folder())
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                Unit {
                    name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                    text: std::fs::read_to_string(&path).unwrap(),
                }
            })
            .collect();
        units.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(units.len(), 10);
        units
    }

    /// The only value of a key.
    fn value(&self, key: &str) -> &str {
        let mut values = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let value = values
            .next()
            .unwrap_or_else(|| panic!("{} has no {key}", self.name));
        assert_eq!(values.next(), None, "{} says {key} twice", self.name);
        value
    }

    /// The words of the command line, and the program's name.
    fn command(&self) -> (String, Vec<String>) {
        let mut words = self.value("ExecStart").split(' ').map(str::to_owned);
        let program = words.next().unwrap();
        let program = program
            .strip_prefix("/usr/local/bin/")
            .unwrap_or_else(|| panic!("{program}"));
        (program.to_owned(), words.collect())
    }
}

/// Units as files whose program is there.
fn with_a_program(place: &Place) -> Vec<PathBuf> {
    let write = |unit: Unit| {
        let line = format!("ExecStart={}", unit.value("ExecStart"));
        let (_, arguments) = line.split_once(' ').unwrap();
        place.write(
            &unit.name,
            &unit
                .text
                .replace(&line, &format!("ExecStart={STAND_IN} {arguments}")),
        )
    };
    Unit::all().into_iter().map(write).collect()
}

fn analyze(arguments: &[&str], files: &[PathBuf]) -> Output {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .args(files)
        .output();
    output.expect("systemd-analyze, of the package systemd")
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

#[test]
fn systemd_knows_every_word_of_them() {
    let place = Place::new();
    let output = analyze(&["verify", "--man=no"], &with_a_program(&place));
    // It warns of a word that it does not know, and goes on.
    assert!(
        output.status.success() && said(&output).trim().is_empty(),
        "{}",
        said(&output)
    );
    let odd = place.write(
        "odd.service",
        "[Service]\nExecStart=/bin/true\nProtectEverything=yes\n",
    );
    let warned = analyze(&["verify", "--man=no"], &[odd]);
    assert!(
        said(&warned).contains("ProtectEverything"),
        "the look for unknown words is blind"
    );
}

#[test]
fn they_are_hardened() {
    let place = Place::new();
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    for file in with_a_program(&place) {
        let output = analyze(&["security", "--offline=true", "--no-pager", &threshold], &[file]);
        assert!(output.status.success(), "{}", said(&output));
    }
    for unit in Unit::all() {
        let raw = [
            "watchfold.service",
            "watchfold-ping.service",
            "watchfold-capture.service",
        ];
        let has_sockets = raw.contains(&unit.name.as_str());
        let allowed = if has_sockets { "CAP_NET_RAW" } else { "" };
        assert_eq!(unit.value("CapabilityBoundingSet"), allowed, "{}", unit.name);
        assert_eq!(
            unit.text.contains("AmbientCapabilities"),
            has_sockets,
            "{}",
            unit.name
        );
        assert_eq!(unit.value("DynamicUser"), "yes", "{}", unit.name);
    }
}

#[test]
fn a_manager_hears_of_them_and_keeps_them_running() {
    let mut ports = BTreeSet::new();
    for unit in Unit::all() {
        assert_eq!(
            (unit.value("Type"), unit.value("NotifyAccess")),
            ("notify", "main"),
            "{}",
            unit.name
        );
        assert_eq!(
            (unit.value("Restart"), unit.value("StartLimitIntervalSec")),
            ("always", "0"),
            "{}",
            unit.name
        );
        assert_eq!(unit.value("WatchdogSec"), "60s", "{}", unit.name);
        let (program, words) = unit.command();
        // It reads and records a file, and keeps nothing.
        if unit.name == "watchfold-config.service" {
            assert_eq!((program.as_str(), words[0].as_str()), ("watchfold", "config"));
            assert!(words.iter().any(|word| word == "--follow"), "{words:?}");
            continue;
        }
        assert_eq!(format!("{program}.service"), unit.name);
        // What it keeps is where it may write.
        let directory = format!("/var/lib/{}", unit.value("StateDirectory"));
        assert_eq!(unit.value("StateDirectory"), program);
        assert!(words.contains(&directory), "{}: {words:?}", unit.name);
        if let Some(at) = words.iter().position(|word| word == "--status") {
            assert!(words[at + 1].starts_with("127.0.0.1:"), "{}", unit.name);
            assert!(
                ports.insert(words[at + 1].clone()),
                "{} takes another's port",
                unit.name
            );
        }
    }
    assert_eq!(ports.len(), 8);
}

#[tokio::test]
async fn their_command_lines_are_taken() {
    let place = Place::new();
    let config = place.write(
        "watchfold.toml",
        "site = \"cafe-1\"\n[sinks.discord]\nalerts = \"https://discord.invalid/api/webhooks/1/x\"\n\
         [sinks.healthchecks]\nurl = \"https://hc.invalid/5a8c1e1e-7f4e-4f0c-9d2e-0c5a1f1b2c3d\"\n\
         [sinks.virustotal]\nkey = \"5f2c0ffee\"\n[[capture]]\ninterface = \"eth0\"\n",
    );
    let config = config.display().to_string();
    for unit in Unit::all() {
        let (program, words) = unit.command();
        let mut words: Vec<String> = words
            .into_iter()
            .map(|word| match word.as_str() {
                "/etc/watchfold/watchfold.toml" => config.clone(),
                _ => word,
            })
            .collect();
        if program == "watchfold" {
            // It has no mode that only checks: a word that it does not take ends it before anything is started.
            words.push("--no-such-word".to_owned());
            let output = place
                .run(&program, &words.iter().map(String::as_str).collect::<Vec<_>>())
                .await;
            let told = said(&output);
            assert_eq!(output.status.code(), Some(64), "{told}");
            assert!(told.contains("'--no-such-word'"), "{told}");
            continue;
        }
        // The broker's URL may hold a password, and everybody sees the words of a command.
        let (variable, url) = unit.value("Environment").split_once('=').unwrap();
        assert_eq!(variable, "WATCHFOLD_LOG_URL", "{}", unit.name);
        assert!(!words.iter().any(|word| word == "--log"), "{}", unit.name);
        words.extend(["--log", url, "--check-config"].map(str::to_owned));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = place.run(&program, &words).await;
        assert!(output.status.success(), "{}: {}", unit.name, said(&output));
    }
}
