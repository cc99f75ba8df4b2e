//! Real nats-servers on loopback ports, for tests: started, killed and started again on the same port and store. They
//! end when they are dropped. Panics where a test could not go on anyway; never for use outside of tests.

#![expect(clippy::print_stderr, reason = "the harness shows it when a test fails")]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::JetStreamOptions;

/// How long a server may take until it answers; far beyond what one needs on a loaded machine.
const START_MAX: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Ports to choose from: below those that outgoing connections get, so that one stays free while its server is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Ports between the first ports of two processes that run at the same time.
const PORTS_OF_A_SLOT: u64 = 500;
/// Ports that are tried one after the other.
const PORT_TRIES: u32 = 100;
/// Where a distribution puts the server, besides the search path.
const PLACES: [&str; 3] = ["/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// Why no server is there to test with.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(
        "nats-server is not installed: install the package nats-server (Debian), or set WATCHFOLD_NATS_SERVER to its path"
    )]
    NotInstalled,
    #[error("nats-server did not start; it says:\n{log}")]
    Failed { log: String },
    #[error("failed to prepare a nats-server: {0}")]
    Io(#[from] std::io::Error),
}

/// How a server differs from a plain one with JetStream.
#[derive(Clone, Debug)]
pub struct Setup {
    pub jetstream: bool,
    /// More lines of its configuration: accounts, TLS, limits.
    pub config: String,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            jetstream: true,
            config: String::new(),
        }
    }
}

/// A server of its own, with its own store.
pub struct NatsServer {
    child: Option<Child>,
    port: u16,
    /// Where other servers of its cluster reach it.
    cluster_port: u16,
    name: String,
    dir: Arc<TempDir>,
}

impl NatsServer {
    /// A plain server with JetStream, once it answers.
    pub async fn start() -> Result<NatsServer, ServerError> {
        NatsServer::start_with(&Setup::default()).await
    }

    pub async fn start_with(setup: &Setup) -> Result<NatsServer, ServerError> {
        let mut server = NatsServer::prepare("single", setup, &[])?;
        server.spawn()?;
        server.wait_until_it_answers().await?;
        Ok(server)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// How to work with it. Streams are small, and calls give up soon enough for tests of outages.
    pub fn options(&self) -> JetStreamOptions {
        JetStreamOptions::new([self.url()])
    }

    /// The process, while one runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its configuration, store and log.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Kills it as a power cut would kill a process: without a chance to write anything.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended by itself is as dead.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Removes all that it stored. It must not run.
    pub fn wipe(&self) {
        assert!(self.child.is_none(), "a running server keeps its files open");
        let store = self.dir().join(format!("{}.store", self.name));
        // A server that never stored anything has none.
        let _ = std::fs::remove_dir_all(store);
    }

    /// Starts it again on the same port and store, killing it first if it runs.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.spawn()?;
        self.wait_until_it_answers().await
    }

    /// Starts it again without waiting for it.
    pub fn spawn(&mut self) -> Result<(), ServerError> {
        self.kill();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir().join(format!("{}.log", self.name)))?;
        let child = Command::new(binary()?)
            .arg("-c")
            .arg(self.dir().join(format!("{}.conf", self.name)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.dir().join(format!("{}.log", self.name))).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    async fn wait_until_it_answers(&mut self) -> Result<(), ServerError> {
        let give_up = Instant::now() + START_MAX;
        while Instant::now() < give_up {
            let ended = match self.child.as_mut() {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if ended {
                break;
            }
            if greets(self.port) {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        Err(ServerError::Failed { log: self.log() })
    }

    fn prepare(name: &str, setup: &Setup, peers: &[u16]) -> Result<NatsServer, ServerError> {
        binary()?;
        let server = NatsServer {
            child: None,
            port: free_port()?,
            cluster_port: free_port()?,
            name: name.to_owned(),
            dir: Arc::new(TempDir::new()?),
        };
        server.configure(setup, peers)?;
        Ok(server)
    }

    fn configure(&self, setup: &Setup, peers: &[u16]) -> Result<(), ServerError> {
        let Setup { jetstream, config } = setup;
        let mut text = format!(
            "server_name: {}\nlisten: \"127.0.0.1:{}\"\n",
            self.name, self.port
        );
        if *jetstream {
            let store = self.dir().join(format!("{}.store", self.name));
            text += &format!(
                "jetstream {{ store_dir: \"{}\", max_file_store: 64GB, max_memory_store: 256MB }}\n",
                store.display()
            );
        }
        if !peers.is_empty() {
            let routes: Vec<String> = peers
                .iter()
                .map(|port| format!("\"nats://127.0.0.1:{port}\""))
                .collect();
            text += &format!(
                "cluster {{ name: loopback, listen: \"127.0.0.1:{}\", routes: [{}] }}\n",
                self.cluster_port,
                routes.join(", ")
            );
        }
        text += config;
        text.push('\n');
        Ok(std::fs::write(
            self.dir().join(format!("{}.conf", self.name)),
            text,
        )?)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.log());
        }
    }
}

/// Three servers that keep streams together.
pub struct NatsCluster {
    pub servers: Vec<NatsServer>,
}

impl NatsCluster {
    /// Servers that answer; streams can be made a few seconds later, once they have elected a leader.
    pub async fn start() -> Result<NatsCluster, ServerError> {
        let setup = Setup::default();
        let mut servers = Vec::new();
        for name in ["one", "two", "three"] {
            servers.push(NatsServer::prepare(name, &setup, &[])?);
        }
        let peers: Vec<u16> = servers.iter().map(|server| server.cluster_port).collect();
        for server in &mut servers {
            server.configure(&setup, &peers)?;
            server.spawn()?;
        }
        for server in &mut servers {
            server.wait_until_it_answers().await?;
        }
        Ok(NatsCluster { servers })
    }

    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsServer::url).collect()
    }

    pub fn options(&self) -> JetStreamOptions {
        JetStreamOptions::new(self.urls())
    }

    /// The server of that name; `JetStream::leader` tells names.
    pub fn server(&mut self, name: &str) -> Option<&mut NatsServer> {
        self.servers.iter_mut().find(|server| server.name == name)
    }
}

/// The installed server.
pub fn binary() -> Result<PathBuf, ServerError> {
    if let Some(path) = std::env::var_os("WATCHFOLD_NATS_SERVER") {
        let path = PathBuf::from(path);
        return if path.exists() {
            Ok(path)
        } else {
            Err(ServerError::NotInstalled)
        };
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search)
        .chain(PLACES.map(PathBuf::from))
        .map(|folder| folder.join("nats-server"))
        .find(|path| path.exists())
        .ok_or(ServerError::NotInstalled)
}

/// Whether a server says hello on the port.
pub fn greets(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    let mut greeting = [0; 5];
    stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
        && stream.read_exact(&mut greeting).is_ok()
        && greeting == *b"INFO "
}

/// Returns a port on which no process listens now. One process never gets a port twice, or two servers that are about
/// to start could get the same one. Test runners that run each test in a process of its own give each running process
/// a slot, and each slot has its own range of ports.
pub fn free_port() -> std::io::Result<u16> {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| {
        let slot = std::env::var("NEXTEST_TEST_GLOBAL_SLOT")
            .ok()
            .and_then(|slot| slot.parse::<u64>().ok());
        AtomicU64::new(match slot {
            Some(slot) => slot * PORTS_OF_A_SLOT,
            None => RandomState::new().hash_one(std::process::id()),
        })
    });
    let count = u64::from(PORTS.end - PORTS.start);
    let mut error = None;
    for _ in 0..PORT_TRIES {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % count;
        let port = PORTS.start + u16::try_from(offset).unwrap_or(0);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(taken) => error = Some(taken),
        }
    }
    Err(error.unwrap_or_else(|| std::io::Error::other("no free port")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let given: std::collections::BTreeSet<u16> = (0..1_000).map(|_| free_port().unwrap()).collect();
        assert_eq!(given.len(), 1_000);
    }
}
