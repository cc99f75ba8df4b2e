//! Golden scenarios: each directory of `scenarios/` is one that `watchfold scenario test` runs, with the story that it was made from.
//!
//! `story` is what people write: the site's day and the hand count (`expect …`). `input` is the recording that the story gives, and
//! `expected.jsonl` pins every field of every event that follows from it. `WATCHFOLD_BLESS=1` writes these two anew; the hand count is never
//! written by a machine.

use std::fs;
use std::path::{Path, PathBuf};

use watchfold_replay::Outside;
use watchfold_replay::recording::{
    Beginning, BeginningState, FORMAT_VERSION, Header, Item, RecordStream, RecordingError, StoredRecord,
    Writer,
};
use watchfold_replay::scenario::{self, Compared, Difference};
use watchfold_rules::{RuleSource, load};
use watchfold_schemas::rules::RuleSet;
use watchfold_schemas::{Stream, Time, encode_observation, subjects};
use watchfold_tests::story::{Story, fold, happened, observations, parse};

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
    let mut story = parse(&text)?;
    if let Some(file) = &story.rules_file {
        let source = RuleSource::Directory(directory.join(file));
        let set = load(&source).map_err(|error| error.to_string())?;
        // A directory has the checkout's place in its name; what is recorded must not.
        story.rules = Some(RuleSet {
            name: "story".to_owned(),
            ..set
        });
    }
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
    keep_input(directory, &story)?;
    compare_whole(directory)
}

/// `input` is the recording that a log of the story gives: what `watchfold scenario test` reads.
fn keep_input(directory: &Path, story: &Story) -> Result<(), String> {
    let path = directory.join(scenario::INPUT);
    let bytes = recording(story).map_err(|error| error.to_string())?;
    if is_blessing() {
        return fs::write(&path, bytes).map_err(|error| error.to_string());
    }
    let stored = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if stored == bytes {
        Ok(())
    } else {
        Err("input is not what its story gives: make it anew with WATCHFOLD_BLESS=1".to_owned())
    }
}

/// Only what was observed: what follows from it is for the folds to say, and stands in `expected.jsonl`.
fn recording(story: &Story) -> Result<Vec<u8>, RecordingError> {
    let site = &story.config.site;
    let header = Header {
        v: FORMAT_VERSION,
        software: "story".to_owned(),
        sites: vec![site.clone()],
        streams: vec![Stream::Observations.name().to_owned()],
        beginnings: vec![Beginning {
            site: site.clone(),
            state: BeginningState::Empty,
        }],
        ..Header::default()
    };
    let mut writer = Writer::new(Vec::new(), &header)?;
    let mut stored_at = Time(i64::MIN);
    for (sequence, observation) in (1..).zip(observations(story)) {
        // What was late is stored when it came; the clock of a log does not fall.
        stored_at = stored_at.max(observation.observed_at);
        let origin = &observation.origin;
        writer.push(&Item::Record(StoredRecord {
            stream: RecordStream::Observations,
            sequence,
            stored_at,
            id: observation.message_id().0,
            subject: subjects::observation(site, observation.body.kind(), &origin.collector),
            payload: encode_observation(&observation).expect("a story is encoded"),
        }))?;
    }
    Ok(writer.finish()?.out)
}

fn compare_whole(directory: &Path) -> Result<(), String> {
    if is_blessing() {
        return scenario::bless(directory, &Outside::default())
            .map(drop)
            .map_err(|error| error.to_string());
    }
    let found = scenario::compare(directory, &Outside::default()).map_err(|error| error.to_string())?;
    match found.compared {
        Compared::Same(_) => Ok(()),
        Compared::Different(Difference { line, wanted, got }) => Err(format!(
            "expected.jsonl differs at line {line}:\n  want {wanted:?}\n  got  {got:?}"
        )),
    }
}

fn is_blessing() -> bool {
    std::env::var_os("WATCHFOLD_BLESS").is_some()
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
