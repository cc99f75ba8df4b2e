//! Golden scenarios: each directory of `scenarios/` is a story with what it expects, and the events it gives.
//!
//! `story` holds both the site's day and the hand count (`expect …`); `expected.jsonl` pins every field of every
//! event. `WATCHFOLD_BLESS=1` writes it anew; the hand count is never written by a machine.

use std::fs;
use std::path::{Path, PathBuf};

use watchfold_schemas::digest::EventDigest;
use watchfold_schemas::event::Event;
use watchfold_tests::story::{fold, happened, observations, parse};

#[test]
fn every_scenario_gives_what_it_expects() {
    let mut failures = Vec::new();
    let scenarios = scenarios();
    assert!(
        scenarios.len() >= 10,
        "scenarios are missing: found {}",
        scenarios.len()
    );
    for directory in &scenarios {
        if let Err(why) = check(directory) {
            failures.push(format!("{}\n{why}", directory.display()));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        scenarios.len(),
        failures.join("\n\n")
    );
    println!("{} scenarios", scenarios.len());
}

fn check(directory: &Path) -> Result<(), String> {
    let text = fs::read_to_string(directory.join("story")).map_err(|error| error.to_string())?;
    let story = parse(&text)?;
    let events = fold(&story.config.site, &observations(&story));
    let happened = happened(&events, &|key| story.pc_name(key));
    let kinds: std::collections::BTreeSet<&str> = story.expect.iter().map(|line| first_word(line)).collect();
    // A kind that is expected at all is expected whole; `none` stands for nothing of a kind.
    let mut compared: Vec<&String> = happened
        .iter()
        .filter(|line| kinds.contains(first_word(line)))
        .collect();
    let mut wanted: Vec<&String> = story
        .expect
        .iter()
        .filter(|line| !line.ends_with(" none"))
        .collect();
    // The order counts within a kind; a story may list its kinds as it reads best.
    compared.sort_by_key(|line| first_word(line));
    wanted.sort_by_key(|line| first_word(line));
    if story.expect.is_empty() {
        return Err("it expects nothing".to_owned());
    }
    if compared != wanted {
        return Err(format!("expected {wanted:#?}\nbut there was {compared:#?}"));
    }
    compare_whole(directory, &events)
}

fn compare_whole(directory: &Path, events: &[Event]) -> Result<(), String> {
    let path = directory.join("expected.jsonl");
    let mut lines = String::new();
    // A digest says nothing that the other events do not, and names the software.
    for event in events.iter().filter(|event| EventDigest::covers(&event.body)) {
        lines.push_str(&serde_json::to_string(&Line::of(event)).map_err(|error| error.to_string())?);
        lines.push('\n');
    }
    if std::env::var_os("WATCHFOLD_BLESS").is_some() {
        return fs::write(&path, lines).map_err(|error| error.to_string());
    }
    let wanted = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    match lines.lines().zip(wanted.lines()).find(|(got, want)| got != want) {
        Some((got, want)) => Err(format!("expected.jsonl differs:\n  want {want}\n  got  {got}")),
        None if lines.len() != wanted.len() => Err("expected.jsonl has more or fewer events".to_owned()),
        None => Ok(()),
    }
}

/// An event's content with its identity, without the sequences that a log gives.
#[derive(serde::Serialize)]
struct Line<'a> {
    at: watchfold_schemas::Time,
    id: &'a str,
    key: &'a str,
    body: &'a watchfold_schemas::EventBody,
}

impl Line<'_> {
    fn of(event: &Event) -> Line<'_> {
        Line {
            at: event.at,
            id: &event.id.0,
            key: &event.key,
            body: &event.body,
        }
    }
}

fn scenarios() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut found: Vec<PathBuf> = fs::read_dir(&root)
        .unwrap_or_else(|error| panic!("{}: {error}", root.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}
