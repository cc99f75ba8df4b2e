//! A new fold of the site chain is one file and one line. A copy of the package gets a fold that nobody needs, and builds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tree::{files, read, root};

/// What the copy is made of.
const PACKAGES: [&str; 2] = ["schemas", "processors/folds"];

const FILE: &str = "processors/folds/src/ticks.rs";
const LIST: &str = "processors/folds/src/lib.rs";

/// A fold with state, a timer and two steps.
const FOLD: &str = r#"//! Counts ticks, and forgets them a minute after the first.

use watchfold_schemas::{Span, Time};

use crate::fold::{Ctx, Fold, FoldState};
use crate::table::Table;
use crate::timers::TimerClock;

/// The fold.
pub struct Ticks;

timers! { Ticks:
    /// The count is forgotten.
    Forget = "forget",
}

#[derive(Debug)]
pub struct TicksState {
    count: Table<u64>,
}

impl Default for TicksState {
    fn default() -> TicksState {
        TicksState {
            count: Table::new("ticks/count/"),
        }
    }
}

impl FoldState for TicksState {
    stored! { count }
}

impl Fold for Ticks {
    const NAME: &'static str = "ticks";
    const VERSION: u32 = 1;
    type State = TicksState;
    type Timer = Timer;

    fn tick(state: &mut TicksState, _previous: Option<Time>, ctx: &mut Ctx<'_>) {
        if state.count.get("").is_none() {
            let deadline = ctx.now.steady + Span::from_seconds(60);
            ctx.set_timer(Timer::Forget, "", TimerClock::Site, deadline);
        }
        *state.count.entry_or_default("") += 1;
    }

    fn timer(state: &mut TicksState, timer: Timer, key: &str, _ctx: &mut Ctx<'_>) {
        match timer {
            Timer::Forget => state.count.remove(key),
        };
    }
}
"#;

#[test]
fn a_new_fold_is_one_file_and_one_line() {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-fold");
    let copy = made.join("tree");
    // The folder for what is built stays, so only the two packages are compiled again.
    let _ = fs::remove_dir_all(&copy);
    let originals = copy_packages(&copy);

    fs::write(copy.join(FILE), FOLD).unwrap();
    let list = read(LIST).replace(
        "    history: History,\n",
        "    history: History,\n    ticks: Ticks,\n",
    );
    fs::write(copy.join(LIST), list).unwrap();

    let touched: Vec<String> = all_files(&copy)
        .into_iter()
        .filter(|path| originals.get(path) != fs::read(copy.join(path)).ok().as_ref())
        .collect();
    assert_eq!(touched, [LIST, FILE]);
    let lines = |text: &str| text.lines().count();
    assert_eq!(
        lines(&fs::read_to_string(copy.join(LIST)).unwrap()),
        lines(&read(LIST)) + 1
    );

    let output = Command::new(env!("CARGO"))
        .args([
            "check",
            "--offline",
            "--package",
            "watchfold-folds",
            "--target-dir",
        ])
        .arg(made.join("target"))
        .current_dir(&copy)
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("warning"), "{said}");
}

/// Copies the packages into a workspace of their own. Returns the content of each copied file by its path.
fn copy_packages(copy: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    manifest.retain(|key, _| key == "workspace");
    let members = toml::Value::from(PACKAGES.to_vec());
    let workspace = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut);
    let workspace = workspace.expect("the root is a workspace");
    workspace.insert("members".to_owned(), members);
    workspace.remove("default-members");
    workspace.remove("exclude");
    fs::create_dir_all(copy).unwrap();
    fs::write(copy.join("Cargo.toml"), manifest.to_string()).unwrap();
    fs::copy(root().join("Cargo.lock"), copy.join("Cargo.lock")).unwrap();
    let sources = [".rs", ".toml"].into_iter().flat_map(files);
    for path in sources.filter(|path| {
        PACKAGES
            .iter()
            .any(|package| path.starts_with(&format!("{package}/")))
    }) {
        let to = copy.join(&path);
        fs::create_dir_all(to.parent().expect("it has a folder")).unwrap();
        fs::copy(root().join(&path), to).unwrap();
    }
    all_files(copy)
        .into_iter()
        .map(|path| (path.clone(), fs::read(copy.join(&path)).unwrap()))
        .collect()
}

/// Every file below a folder, by its path below it with slashes, in order.
fn all_files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(
                    path.strip_prefix(folder)
                        .unwrap()
                        .to_string_lossy()
                        .replace('\\', "/"),
                ),
            }
        }
    }
    found.sort();
    found
}
