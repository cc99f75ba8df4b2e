//! The small programs as processes: started, asked, told, stopped, killed. Judges nothing.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::process::{Child, Command};
use watchfold_tests::command::built_programs;
pub use watchfold_tests::{LIMIT, until};

/// A stop is promised within five seconds; the rest is for a loaded machine to notice.
const DRAINED: Duration = Duration::from_secs(10);

/// The packages whose programs these tests start.
const PACKAGES: [&str; 9] = [
    "watchfold",
    "watchfold-capture",
    "watchfold-clock",
    "watchfold-dashboard",
    "watchfold-discord",
    "watchfold-healthchecks",
    "watchfold-ping",
    "watchfold-processors",
    "watchfold-virustotal",
];

/// A program, built from the sources as they are now, in the profile of this test.
pub fn built(program: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built_programs(&PACKAGES)).join(program)
}

/// A directory for processes, each with its state and what it says.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        drop(rustls::crypto::ring::default_provider().install_default());
        Place {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The URL of an embedded log in this place.
    pub fn file_log(&self) -> String {
        format!("file:{}", self.path("log").display())
    }

    /// Runs a program to its end.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(built(program));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        command.env_clear().current_dir(self.directory.path());
        tokio::time::timeout(LIMIT, command.output())
            .await
            .unwrap_or_else(|_| panic!("{program} {arguments:?} does not end"))
            .unwrap()
    }

    /// Starts a program called `name` here, with a status port and, if asked for, a manager that listens.
    pub fn start(&self, name: &str, program: &str, log: &str, arguments: &[&str]) -> Running {
        self.start_under(name, program, log, arguments, None)
    }

    pub fn start_under(
        &self,
        name: &str,
        program: &str,
        log: &str,
        arguments: &[&str],
        manager: Option<&Manager>,
    ) -> Running {
        let said = self.path(&format!("{name}.said"));
        let file = std::fs::File::create(&said).unwrap();
        let status = free_port();
        let mut command = Command::new(built(program));
        command
            .args(["--log", log, "--status", &status.to_string(), "--state"])
            .arg(self.path(name))
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .kill_on_drop(true);
        if let Some(manager) = manager {
            command.env("NOTIFY_SOCKET", &manager.path);
            command.env("WATCHDOG_USEC", "1000000");
        }
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5));
        Running {
            child: command.spawn().unwrap(),
            client: client.build().unwrap(),
            status,
            said,
        }
    }
}

/// A port that nobody listens on just now, and that no outgoing connection gets.
pub fn free_port() -> SocketAddr {
    let port = watchfold_jetstream::testing::free_port().unwrap();
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A running process; killed when dropped.
pub struct Running {
    child: Child,
    client: reqwest::Client,
    status: SocketAddr,
    said: PathBuf,
}

impl Running {
    /// What it wrote to its terminal so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Status and text of an answer of the status port, if it answers.
    pub async fn ask(&self, path: &str) -> Option<(u16, String)> {
        let request = self.client.get(format!("http://{}{path}", self.status));
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    pub async fn ready(&self) {
        self.until("ready", async || {
            self.ask("/readyz").await.filter(|(status, _)| *status == 200)
        })
        .await;
    }

    /// Waits until it says so.
    pub async fn says(&self, words: &str) {
        self.until(words, async || self.said().contains(words).then_some(()))
            .await;
    }

    pub async fn until<T>(&self, what: &str, attempt: impl AsyncFnMut() -> Option<T>) -> T {
        until(what, attempt, || self.said()).await
    }

    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL, at whatever it is doing.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args([name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// SIGTERM, and how it ended.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        match tokio::time::timeout(DRAINED, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("it did not end within {DRAINED:?} of SIGTERM\n{}", self.said()),
        }
    }
}

/// Said by a process that got the lease of a site.
pub const SERVES: &str = "this process serves the site";

/// Which of two serves the site, the other one last.
pub async fn leading(first: Running, second: Running) -> (Running, Running) {
    let serves = |running: &Running| running.said().contains(SERVES);
    let found = until(
        "one of two serves the site",
        async || (serves(&first) || serves(&second)).then_some(()),
        || first.said() + &second.said(),
    );
    found.await;
    assert!(!(serves(&first) && serves(&second)), "both serve it");
    match serves(&first) {
        true => (first, second),
        false => (second, first),
    }
}

/// A service manager that listens.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    pub fn new(place: &Place) -> Manager {
        let path = place.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Manager { socket, path }
    }

    /// Everything that it heard since it was asked last.
    pub fn heard(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut buffer = [0; 1_024];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            words.extend(
                String::from_utf8_lossy(&buffer[..length])
                    .lines()
                    .map(str::to_owned),
            );
        }
        words
    }
}
