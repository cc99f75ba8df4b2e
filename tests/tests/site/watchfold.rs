//! The command as a process: started, asked over HTTP, stopped, killed. Judges nothing.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::{Child, Command};
pub use watchfold_tests::LIMIT;
use watchfold_tests::LOOK_EVERY;
pub use watchfold_tests::command::built_command;

/// Each test has a network of its own, so that the default port is always free.
const ADDRESS: &str = "http://127.0.0.1:8737";

/// A data directory, and how to reach what runs on it.
#[derive(Clone, Debug)]
pub struct House {
    pub data: PathBuf,
    client: reqwest::Client,
}

impl House {
    /// Writes `config` as the configuration of a new data directory.
    pub fn new(data: &Path, config: &str) -> House {
        std::fs::create_dir_all(data).unwrap();
        std::fs::write(data.join("watchfold.toml"), config).unwrap();
        House::at(data)
    }

    /// Whatever serves the page with its token in this directory.
    pub fn at(data: &Path) -> House {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5));
        House {
            data: data.to_owned(),
            client: client.build().unwrap(),
        }
    }

    /// Starts `watchfold up` and waits for nothing.
    pub fn spawn(&self) -> Running {
        self.spawn_with(&[])
    }

    /// [`House::spawn`] with more arguments.
    pub fn spawn_with(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new(built_command());
        command.args(["up", "--data"]).arg(&self.data).args(arguments);
        self.without_environment(command)
    }

    /// The same under a limit of the shell, `-v 600000` for example.
    pub fn spawn_under(&self, limit: &str) -> Running {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")])
            .arg(built_command())
            .args(["up", "--data"])
            .arg(&self.data);
        self.without_environment(command)
    }

    fn without_environment(&self, mut command: Command) -> Running {
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        self.beside(command)
    }

    /// Starts `watchfold up` and waits until it is ready.
    pub async fn start(&self) -> Running {
        let running = self.spawn();
        self.ready().await;
        running
    }

    pub async fn ready(&self) {
        until("ready", self, async || {
            self.status("/readyz").await.filter(|status| *status == 200)
        })
        .await;
    }

    /// The status of an answer that needs no token.
    pub async fn status(&self, path: &str) -> Option<u16> {
        let answer = self.client.get(format!("{ADDRESS}{path}")).send().await.ok()?;
        Some(answer.status().as_u16())
    }

    /// Status and text of an answer that needs no token.
    pub async fn open_get(&self, path: &str) -> Option<(u16, String)> {
        let answer = self.client.get(format!("{ADDRESS}{path}")).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// What the API says, if it answers.
    pub async fn try_get(&self, path: &str) -> Option<Value> {
        let request = self.client.get(format!("{ADDRESS}/api/v1/{path}"));
        let answer = request.bearer_auth(self.token()?).send().await.ok()?;
        answer.error_for_status().ok()?.json().await.ok()
    }

    /// The first sample of a figure, if there is one.
    pub async fn figure(&self, name: &str) -> Option<f64> {
        let request = self
            .client
            .get(format!("{ADDRESS}/metrics"))
            .bearer_auth(self.token()?);
        let text = request.send().await.ok()?.text().await.ok()?;
        watchfold_tests::promtool::check(&text);
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().last()?.parse().ok()
    }

    pub async fn get(&self, path: &str) -> Value {
        until(path, self, async || self.try_get(path).await).await
    }

    /// The answer to an act, once it is in the log.
    pub async fn try_post(&self, path: &str, body: &Value) -> Option<Value> {
        let request = self.client.post(format!("{ADDRESS}/api/v1/{path}"));
        let answer = request.bearer_auth(self.token()?).json(body).send().await.ok()?;
        answer.error_for_status().ok()?.json().await.ok()
    }

    /// Asks `path` until `found` finds something in the answer.
    pub async fn wait<T>(&self, what: &str, path: &str, found: impl Fn(&Value) -> Option<T>) -> T {
        // A loop of its own: what waits here may be spawned, and no async closure is known to be sent between threads.
        let (mut last, began) = (Value::Null, Instant::now());
        loop {
            if let Some(answer) = self.try_get(path).await {
                if let Some(found) = found(&answer) {
                    println!("{what}: after {:.1?}", began.elapsed());
                    return found;
                }
                last = answer;
            }
            assert!(
                began.elapsed() < LIMIT,
                "{what} did not come about within {LIMIT:?}; /{path} says {last:#}\n{}",
                self.said()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Like [`House::wait`], for a plain condition.
    pub async fn wait_for(&self, what: &str, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.wait(what, path, |answer| holds(answer).then(|| answer.clone()))
            .await
    }

    /// Starts `watchfold record --follow` beside what runs on the directory.
    pub fn record(&self, out: &Path) -> Running {
        let mut command = Command::new(built_command());
        command.args(["record", "--follow", "--data"]).arg(&self.data);
        command.arg("--out").arg(out);
        self.beside(command)
    }

    /// Starts what writes beside the data directory what it says.
    fn beside(&self, mut command: Command) -> Running {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.errors())
            .unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command.stdin(Stdio::null()).kill_on_drop(true);
        Running {
            child: command.spawn().unwrap(),
            errors: self.errors(),
        }
    }

    /// Runs the command to its end, on this directory.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let data = self.data.to_str().unwrap();
        self.run_plain(&[arguments, &["--data", data]].concat()).await
    }

    /// Runs the command to its end.
    pub async fn run_plain(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(built_command());
        command.args(arguments);
        command.stdin(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(LIMIT, command.output())
            .await
            .unwrap_or_else(|_| panic!("watchfold {arguments:?} does not end"))
            .unwrap()
    }

    /// What the processes of this directory wrote to their terminals.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.errors()).unwrap_or_default()
    }

    pub fn token(&self) -> Option<String> {
        let token = std::fs::read_to_string(self.data.join("token")).ok()?;
        Some(token.trim().to_owned())
    }

    /// Beside the data directory: on a full disk it can still be written.
    fn errors(&self) -> PathBuf {
        self.data.with_extension("said")
    }
}

/// A running process; killed when dropped.
pub struct Running {
    child: Child,
    errors: PathBuf,
}

impl Running {
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// A signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let name = format!("-{name}");
        let sent = std::process::Command::new("kill").args([&name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// SIGKILL, at whatever it is doing.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// How it ends by itself.
    pub async fn ended(mut self) -> ExitStatus {
        match tokio::time::timeout(LIMIT, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!(
                "it does not end\n{}",
                std::fs::read_to_string(&self.errors).unwrap_or_default()
            ),
        }
    }

    /// SIGTERM, and how it ended.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        match tokio::time::timeout(DRAINED, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!(
                "it did not end within {DRAINED:?} of SIGTERM\n{}",
                std::fs::read_to_string(&self.errors).unwrap_or_default()
            ),
        }
    }
}

/// The command promises five seconds; the rest is for a loaded machine to notice.
const DRAINED: Duration = Duration::from_secs(8);

/// Tries until something is there.
pub async fn until<T>(what: &str, house: &House, attempt: impl AsyncFnMut() -> Option<T>) -> T {
    watchfold_tests::until(what, attempt, || house.said()).await
}
