//! `promtool check metrics`, from the package `prometheus`.

use std::io::Write;
use std::process::{Command, Stdio};

/// Panics with what promtool says about this text, if it says anything.
pub fn check(metrics: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs; the package prometheus has it, and .ci/setup test installs it");
    let mut input = promtool.stdin.take().expect("promtool takes input");
    input.write_all(metrics.as_bytes()).expect("promtool reads");
    drop(input);
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}\n{metrics}");
}
