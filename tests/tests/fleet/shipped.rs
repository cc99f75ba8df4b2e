//! nats-server on the files that ship: what a test has to change (ports, stores, names that do not resolve here) and
//! nothing else. Servers end when they are dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::time::{Instant, sleep};
use watchfold_jetstream::testing::{binary, free_port, greets};
use watchfold_jetstream::{Auth, JetStream, JetStreamOptions, Secret};
pub use watchfold_tests::LIMIT;
use watchfold_tests::LOOK_EVERY;

pub use crate::site::until;

/// The folder of the files.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../nats/server")
}

/// The file with its store below `place`: the one thing that no argument of the server changes.
pub fn with_a_store(place: &Path, name: &str, file: &Path) -> PathBuf {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("/var/lib/nats"), "{text}");
    let store = place.join(name);
    let copy = place.join(format!("{name}.server.conf"));
    let text = text.replace("/var/lib/nats", &store.display().to_string());
    std::fs::write(&copy, text).unwrap();
    copy
}

/// The installed server's version, major and minor.
pub fn installed() -> (u32, u32) {
    let output = Command::new(binary().unwrap()).arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.rsplit_once('v').map(|(_, version)| version.to_owned());
    let version = version.unwrap_or_else(|| panic!("{text}"));
    let mut numbers = version.trim().split('.').map(|number| number.parse::<u32>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => panic!("{text}"),
    }
}

/// Whether it is new enough for a file that says so.
pub fn is_at_least(major: u32, minor: u32) -> bool {
    installed() >= (major, minor)
}

/// A server on a file.
pub struct Shipped {
    child: Option<Child>,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    pub port: u16,
}

impl Shipped {
    /// Starts a server on `file`, with its state and what it says below `place`.
    pub async fn start(place: &Path, name: &str, file: &Path, environment: &[(&str, &str)]) -> Shipped {
        let mut server = Shipped::prepare(place, name, file, environment);
        server.spawn();
        server.answers().await;
        server
    }

    pub fn prepare(place: &Path, name: &str, file: &Path, environment: &[(&str, &str)]) -> Shipped {
        let (port, monitor) = (free_port().unwrap(), free_port().unwrap());
        let file = with_a_store(place, name, file);
        let command = [
            "-c",
            &file.display().to_string(),
            "-a",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-m",
            &monitor.to_string(),
        ];
        Shipped {
            child: None,
            command: command.map(str::to_owned).to_vec(),
            environment: environment
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            log: place.join(format!("{name}.said")),
            port,
        }
    }

    pub fn spawn(&mut self) {
        self.kill();
        let said = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let mut command = Command::new(binary().unwrap());
        command.args(&self.command).env_clear().stdin(Stdio::null());
        command.envs(self.environment.iter().cloned());
        command.stdout(said.try_clone().unwrap()).stderr(said);
        self.child = Some(command.spawn().unwrap());
    }

    pub async fn answers(&mut self) {
        let began = Instant::now();
        while !greets(self.port) {
            let ended = self
                .child
                .as_mut()
                .is_none_or(|child| child.try_wait().unwrap().is_some());
            assert!(!ended && began.elapsed() < LIMIT, "{}", self.said());
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for a server that refuses its file, and gives what it says.
    pub async fn refuses(&mut self) -> String {
        self.spawn();
        let began = Instant::now();
        loop {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            if let Some(status) = ended {
                assert!(!status.success(), "{}", self.said());
                return self.said();
            }
            assert!(began.elapsed() < LIMIT, "it runs: {}", self.said());
            sleep(LOOK_EVERY).await;
        }
    }

    /// Without a chance to write anything.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Has it read its files again.
    pub fn reload(&self) {
        let pid = self.child.as_ref().expect("it runs").id();
        let sent = Command::new("kill").args(["-HUP", &pid.to_string()]).status();
        assert!(sent.unwrap().success());
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The product's transport, as that user.
    pub fn options(&self, user: Option<(&str, &str)>) -> JetStreamOptions {
        JetStreamOptions {
            auth: user.map_or(Auth::None, |(user, password)| Auth::UserPassword {
                user: user.to_owned(),
                password: Secret::new(password),
            }),
            ..JetStreamOptions::new([self.url()])
        }
    }

    /// The transport once the streams are there.
    pub async fn log(&self, user: Option<(&str, &str)>) -> std::sync::Arc<JetStream> {
        let log = JetStream::start(self.options(user));
        if let Err(error) = log.ready(LIMIT).await {
            panic!("{error}\n{}", self.said());
        }
        log
    }

    /// A client that knows nothing of the product.
    pub async fn raw(&self, user: Option<(&str, &str)>) -> async_nats::Client {
        let mut options = async_nats::ConnectOptions::new();
        if let Some((user, password)) = user {
            options = options
                .user_and_password(user.to_owned(), password.to_owned())
                .custom_inbox_prefix(format!("_INBOX_{user}"));
        }
        options.connect(self.url()).await.unwrap()
    }
}

impl Drop for Shipped {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.log.display(), self.said());
        }
    }
}

/// Asks JetStream itself; its answer as it stands.
pub async fn api(client: &async_nats::Client, subject: &str, body: &Value) -> Value {
    let payload = if body.is_null() {
        Vec::new()
    } else {
        serde_json::to_vec(body).unwrap()
    };
    let answer = client.request(subject.to_owned(), payload.into()).await;
    let answer = answer.unwrap_or_else(|error| panic!("{subject}: {error}"));
    serde_json::from_slice(&answer.payload).unwrap()
}
