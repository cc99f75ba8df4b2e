//! Runs a test again in namespaces of its own: network, mounts and processes. When it ends, however it ends, the
//! kernel removes all of it.

use std::future::Future;
use std::process::Command;

use crate::watchfold::built_command;

/// Tells a test that it runs inside.
const INSIDE: &str = "WATCHFOLD_TEST_NAMESPACE";

/// Runs the test called `test` in fresh namespaces with loopback up and nothing else.
pub fn inside<F: Future<Output = ()>>(test: &str, story: fn() -> F) {
    if std::env::var(INSIDE).as_deref() == Ok(test) {
        sh("mount -t tmpfs tmpfs /run && mkdir -p /run/netns && ip link set lo up");
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        return runtime.unwrap().block_on(story());
    }
    require_namespaces();
    // Built outside: inside there is no network to fetch anything from.
    let command = built_command();
    let output = unshare()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        .env("WATCHFOLD_TEST_COMMAND", command)
        .output()
        .expect("unshare comes with util-linux");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    println!("{text}");
    assert!(
        output.status.success(),
        "{test} failed inside its namespaces, see above"
    );
    // A test that was renamed would pass without having run.
    assert!(
        text.contains("1 passed"),
        "{test} did not run inside its namespaces"
    );
}

fn unshare() -> Command {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command.args((!root).then_some("--map-root-user")).arg("--");
    command
}

fn require_namespaces() {
    let output = unshare()
        .args(["mount", "-t", "tmpfs", "tmpfs", "/run"])
        .output()
        .expect("unshare comes with util-linux");
    assert!(
        output.status.success(),
        "these tests make namespaces, and may not here: run them as root, or allow user namespaces \
         (kernel.unprivileged_userns_clone=1, user.max_user_namespaces>0). {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs a line of shell that must succeed.
pub fn sh(line: &str) {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
