//! The programs of the repository, built from the sources as they are now, in the profile of the test that asks for them.
//!
//! `WATCHFOLD_TEST_COMMAND` names the command where it is built already, with the other programs beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The command `watchfold`.
pub fn built_command() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = || {
        let name = format!("watchfold{}", std::env::consts::EXE_SUFFIX);
        given().unwrap_or_else(|| build(&["watchfold"]).join(name))
    };
    BUILT.get_or_init(built).clone()
}

/// Where the programs of these packages are.
pub fn built_programs(packages: &[&str]) -> PathBuf {
    match given() {
        Some(command) => command.parent().expect("a path of a file").to_owned(),
        None => build(packages),
    }
}

fn given() -> Option<PathBuf> {
    std::env::var_os("WATCHFOLD_TEST_COMMAND").map(PathBuf::from)
}

fn build(packages: &[&str]) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--bins", "--manifest-path"]);
    cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    for package in packages {
        cargo.args(["--package", package]);
    }
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    cargo.args((!cfg!(debug_assertions)).then_some("--release"));
    let output = cargo.output().expect("cargo runs these tests");
    assert!(
        output.status.success(),
        "{packages:?} do not build: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    profile.to_owned()
}
