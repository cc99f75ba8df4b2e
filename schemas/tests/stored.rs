//! The stored formats are promises: their JSON Schemas are checked in and may not drift, and the frozen samples of
//! every version must decode for ever. `docs/formats.md` has the rule for changing one.
//!
//! `WATCHFOLD_BLESS=1` rewrites the schemas and adds samples that are missing. It never touches a sample that exists.

#![expect(
    clippy::disallowed_methods,
    reason = "a test reads files; the package that it tests does not"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use watchfold_schemas::codec::{decode_versioned, encode};
use watchfold_schemas::event::EVENT_VERSION;
use watchfold_schemas::observation::OBSERVATION_VERSION;
use watchfold_schemas::snapshot::{SNAPSHOT_VERSION, SnapshotRecord, SnapshotState};
use watchfold_schemas::{Event, EventBody, Observation, SiteConfig, decode_event, decode_observation};

mod samples;

use samples::Sample;

#[test]
fn schemas_are_those_of_the_types() {
    let folder = root().join("json");
    let mut drifted = Vec::new();
    for (name, schema) in schemas() {
        let path = folder.join(name);
        let found = fs::read_to_string(&path)
            .ok()
            .and_then(|text| serde_json::from_str::<Value>(&text).ok());
        // Compared as values: the order of keys depends on what else is built into the same binary.
        if found.as_ref() == Some(&schema) {
            continue;
        }
        if blessing() {
            fs::write(&path, serde_json::to_string_pretty(&schema).unwrap() + "\n").unwrap();
        } else {
            drifted.push(name);
        }
    }
    assert!(
        drifted.is_empty(),
        "{drifted:?} no longer describe the types. If the change keeps to docs/formats.md, run \
         WATCHFOLD_BLESS=1 cargo test -p watchfold-schemas and commit what it writes"
    );
    let known: BTreeSet<String> = schemas().into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(
        names_in(&folder),
        known,
        "schemas/json holds a file that no type stands behind"
    );
}

#[test]
fn every_frozen_sample_decodes_to_its_twin() {
    let mut failures = Vec::new();
    let mut count = 0;
    for folder in version_folders() {
        for name in names_in(&folder)
            .iter()
            .filter_map(|name| name.strip_suffix(".msgpack"))
        {
            count += 1;
            if let Err(why) = check(&folder, name) {
                failures.push(format!("{}/{name}: {why}", folder.display()));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {count} samples:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(
        blessing() || count >= samples::all().len(),
        "only {count} samples were found"
    );
}

#[test]
fn everything_that_can_be_stored_today_has_a_sample() {
    let mut missing = Vec::new();
    for sample in samples::all() {
        let folder = root().join("samples").join(format!("v{}", sample.version()));
        let bytes = folder.join(format!("{}.msgpack", sample.name()));
        if bytes.exists() {
            continue;
        }
        if blessing() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&bytes, sample.encode()).unwrap();
            fs::write(folder.join(format!("{}.json", sample.name())), sample.json()).unwrap();
        } else {
            missing.push(bytes);
        }
    }
    assert!(
        missing.is_empty(),
        "write them with WATCHFOLD_BLESS=1: {missing:#?}"
    );
}

/// Every field and every variant that a schema names stands in some sample, so that a new one cannot be forgotten.
#[test]
fn the_samples_use_every_field_and_every_variant() {
    let mut used = BTreeSet::new();
    for folder in version_folders() {
        for name in names_in(&folder).iter().filter(|name| name.ends_with(".json")) {
            let twin: Value = serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap();
            words(&twin, &mut used);
        }
    }
    let mut named = BTreeSet::new();
    for (_, schema) in schemas() {
        named_by(&schema, &mut named);
    }
    let unused: Vec<_> = named.difference(&used).collect();
    assert!(
        unused.is_empty(),
        "no sample has {unused:?}: extend schemas/tests/samples/mod.rs, then bless"
    );
    assert!(
        named.len() > 100,
        "the walk over the schemas finds too little: {named:?}"
    );
}

/// Of each variant there is a sample, so a kind that is not listed is noticed.
#[test]
fn every_kind_of_event_is_listed() {
    let kinds: BTreeSet<&str> = samples::all()
        .iter()
        .filter_map(|sample| match sample {
            Sample::Event(_, event) => Some(event.body.kind()),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, BTreeSet::from(EventBody::KINDS));
}

#[test]
fn a_lost_field_and_a_changed_value_are_noticed() {
    let twin = serde_json::json!({"v": 1, "body": {"tick": {"now": "t", "interval_ms": 1_000}}});
    let more = serde_json::json!({"v": 1, "new": null, "body": {"tick": {"now": "t", "interval_ms": 1_000, "x": 1}}});
    let lost = serde_json::json!({"v": 1, "body": {"tick": {"now": "t"}}});
    let other = serde_json::json!({"v": 1, "body": {"tick": {"now": "t", "interval_ms": 1_001}}});
    assert_eq!(missing_from(&twin, &more, ""), None);
    assert_eq!(
        missing_from(&twin, &lost, "").as_deref(),
        Some("/body/tick/interval_ms")
    );
    assert_eq!(
        missing_from(&twin, &other, "").as_deref(),
        Some("/body/tick/interval_ms")
    );
}

/// A sample's bytes and its twin are read alike, and everything that the twin says is still there after reading: a
/// field that was renamed behind a default would otherwise vanish unseen.
fn check(folder: &Path, name: &str) -> Result<(), String> {
    let bytes = fs::read(folder.join(format!("{name}.msgpack"))).map_err(|error| error.to_string())?;
    let text = fs::read_to_string(folder.join(format!("{name}.json"))).map_err(|error| error.to_string())?;
    match name.split('.').next() {
        Some("observation") => compare(decode_observation(&bytes), &text),
        Some("event") => compare(decode_event(&bytes), &text),
        Some("snapshot_record") => compare(
            decode_versioned::<SnapshotRecord>(&bytes, "snapshot", SNAPSHOT_VERSION),
            &text,
        ),
        Some("snapshot_state") => compare(
            decode_versioned::<SnapshotState>(&bytes, "snapshot", SNAPSHOT_VERSION),
            &text,
        ),
        _ => Err("begins with no stored type's name".to_owned()),
    }
}

fn compare<T: DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug>(
    decoded: Result<T, watchfold_schemas::CodecError>,
    twin: &str,
) -> Result<(), String> {
    let decoded = decoded.map_err(|error| error.to_string())?;
    let expected: T = serde_json::from_str(twin).map_err(|error| format!("its twin: {error}"))?;
    if decoded != expected {
        return Err(format!("reads as {decoded:?}, its twin as {expected:?}"));
    }
    let now = serde_json::to_value(&decoded).map_err(|error| error.to_string())?;
    let twin: Value = serde_json::from_str(twin).map_err(|error| error.to_string())?;
    match missing_from(&twin, &now, "") {
        Some(path) => Err(format!("{path} of the sample is lost or changed in reading")),
        None => Ok(()),
    }
}

/// The first place in `old` that `now` does not hold; more in `now` is fine.
fn missing_from(old: &Value, now: &Value, path: &str) -> Option<String> {
    match (old, now) {
        (Value::Object(old), Value::Object(now)) => old.iter().find_map(|(key, value)| {
            let path = format!("{path}/{key}");
            now.get(key)
                .map_or(Some(path.clone()), |now| missing_from(value, now, &path))
        }),
        (Value::Array(old), Value::Array(now)) if old.len() == now.len() => old
            .iter()
            .zip(now)
            .enumerate()
            .find_map(|(i, (old, now))| missing_from(old, now, &format!("{path}/{i}"))),
        _ if old == now => None,
        _ => Some(path.to_owned()),
    }
}

/// Every key and every string of a JSON value.
fn words(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            into.insert(key.clone());
            words(value, into);
        }),
        Value::Array(list) => list.iter().for_each(|value| words(value, into)),
        Value::String(text) => drop(into.insert(text.clone())),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Every property and every string constant that a schema allows.
fn named_by(schema: &Value, into: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => map.iter().for_each(|(key, value)| match (key.as_str(), value) {
            ("const", Value::String(text)) => drop(into.insert(text.clone())),
            ("enum", Value::Array(list)) => {
                into.extend(list.iter().filter_map(|text| text.as_str().map(str::to_owned)));
            }
            ("properties", Value::Object(properties)) => {
                into.extend(properties.keys().cloned());
                properties.values().for_each(|property| named_by(property, into));
            }
            _ => named_by(value, into),
        }),
        Value::Array(list) => list.iter().for_each(|value| named_by(value, into)),
        _ => {}
    }
}

fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("event.json", schemars::schema_for!(Event).to_value()),
        ("observation.json", schemars::schema_for!(Observation).to_value()),
        ("site_config.json", schemars::schema_for!(SiteConfig).to_value()),
        (
            "snapshot_record.json",
            schemars::schema_for!(SnapshotRecord).to_value(),
        ),
        (
            "snapshot_state.json",
            schemars::schema_for!(SnapshotState).to_value(),
        ),
    ]
}

fn version_folders() -> Vec<PathBuf> {
    names_in(&root().join("samples"))
        .iter()
        .map(|name| root().join("samples").join(name))
        .collect()
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn blessing() -> bool {
    std::env::var_os("WATCHFOLD_BLESS").is_some()
}

impl Sample {
    fn version(&self) -> u16 {
        match self {
            Sample::Observation(..) => OBSERVATION_VERSION,
            Sample::Event(..) => EVENT_VERSION,
            Sample::SnapshotRecord(..) | Sample::SnapshotState(..) => SNAPSHOT_VERSION,
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Sample::Observation(_, value) => encode(&**value),
            Sample::Event(_, value) => encode(&**value),
            Sample::SnapshotRecord(_, value) => encode(&**value),
            Sample::SnapshotState(value) => encode(&**value),
        }
        .unwrap()
    }

    fn json(&self) -> String {
        match self {
            Sample::Observation(_, value) => serde_json::to_string_pretty(value),
            Sample::Event(_, value) => serde_json::to_string_pretty(value),
            Sample::SnapshotRecord(_, value) => serde_json::to_string_pretty(value),
            Sample::SnapshotState(value) => serde_json::to_string_pretty(value),
        }
        .unwrap()
            + "\n"
    }
}
