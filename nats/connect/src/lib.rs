//! Opens a log by its URL: the embedded log of a directory, or a broker's streams. The one place where options of the
//! command line, the environment and `nats` contexts become a log. It knows nothing of what is in one.

mod broker;
mod context;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use watchfold_jetstream::{JetStream, JetStreamOptions};
use watchfold_log::{Embedded, Leases, LocalLeases, LogError, MessageLog, Options};

/// Where the log is, and who we are there.
#[derive(clap::Args, Clone, Default)]
pub struct ConnectArgs {
    /// The log: `file:PATH`, `nats://host:4222[,…]`, `tls://host:4222`, or `nats:` for the selected `nats` context.
    #[arg(
        long = "log",
        value_name = "URL",
        env = "WATCHFOLD_LOG_URL",
        hide_env_values = true
    )]
    pub log: Option<String>,

    /// A context of the `nats` command, by name.
    #[arg(long, value_name = "NAME", env = "WATCHFOLD_NATS_CONTEXT")]
    pub nats_context: Option<String>,

    /// Copies of each stream, where streams have to be made: without it 3 on a cluster, else 1.
    #[arg(long, value_name = "N", env = "WATCHFOLD_NATS_REPLICAS")]
    pub nats_replicas: Option<usize>,

    /// A credentials file (`.creds`) for the broker.
    #[arg(long, value_name = "FILE", env = "WATCHFOLD_CREDS")]
    pub creds: Option<PathBuf>,

    /// A user of the broker.
    #[arg(long, value_name = "NAME", env = "WATCHFOLD_NATS_USER")]
    pub nats_user: Option<String>,

    /// A file with the user's password.
    #[arg(long, value_name = "FILE", env = "WATCHFOLD_NATS_PASSWORD_FILE")]
    pub nats_password_file: Option<PathBuf>,

    /// Where answers reach us, for a user who may not see those of others: `_INBOX_cafe-1`, say.
    #[arg(long, value_name = "PREFIX", env = "WATCHFOLD_NATS_INBOX_PREFIX")]
    pub nats_inbox_prefix: Option<String>,

    /// Certificates of whom to trust (PEM) instead of those of the system.
    #[arg(long, value_name = "FILE", env = "WATCHFOLD_TLS_CA")]
    pub tls_ca: Option<PathBuf>,

    /// Our certificate (PEM).
    #[arg(long, value_name = "FILE", env = "WATCHFOLD_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The key of our certificate (PEM).
    #[arg(long, value_name = "FILE", env = "WATCHFOLD_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
}

impl ConnectArgs {
    /// A log that is no directory of this machine is named.
    pub fn is_elsewhere(&self) -> bool {
        let is_file = |url: &str| url.starts_with("file:");
        self.nats_context.is_some() || self.log.as_deref().is_some_and(|url| !is_file(url))
    }
}

/// The URL may hold a password.
impl fmt::Debug for ConnectArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectArgs")
            .field("log", &self.log.as_deref().map(broker::shown))
            .field("nats_context", &self.nats_context)
            .field("creds", &self.creds)
            .field("nats_user", &self.nats_user)
            .finish_non_exhaustive()
    }
}

/// How long opening may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// For processes that stay: returns at once and connects in the background. What is asked of the log before that
    /// fails with an error that is worth another try.
    Forever,
    /// For commands.
    AtMost(Duration),
}

/// An open log.
pub struct Opened {
    pub log: Arc<dyn MessageLog>,
    pub leases: Arc<dyn Leases>,
    /// For people, without secrets.
    pub place: String,
    embedded: Option<Arc<Embedded>>,
    broker: Option<Arc<JetStream>>,
}

impl Opened {
    /// For health pages: why nothing gets through to the log just now, without secrets. `None` while all is well.
    pub fn trouble(&self) -> Option<String> {
        self.broker.as_ref().and_then(|broker| broker.trouble())
    }

    /// Takes nothing more, and returns once everything taken is synced. With a broker, once the leases that were dropped
    /// are given back, or 2 s later.
    pub async fn close(&self) {
        if let Some(broker) = &self.broker {
            broker.close().await;
        }
        let Some(embedded) = self.embedded.clone() else {
            return;
        };
        if let Err(error) = tokio::task::spawn_blocking(move || embedded.close()).await {
            tracing::error!(%error, "closing the log panicked; the next open recovers it");
        }
    }
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no log is named: give --log file:PATH or --log nats://host:4222, or set WATCHFOLD_LOG_URL")]
    NoLog,
    #[error(
        "a directory and a nats context are named: leave out --log {url}, or --nats-context (WATCHFOLD_NATS_CONTEXT)"
    )]
    TwoLogs { url: String },
    #[error("{url} is no log: use file:PATH, nats://host:4222 or tls://host:4222")]
    UnknownUrl { url: String },
    #[error("there is no nats context {name:?}; there are: {known}")]
    UnknownContext { name: String, known: String },
    #[error(
        "no nats context is selected: run `nats context select`, or give --nats-context; there are: {known}"
    )]
    NoSelectedContext { known: String },
    #[error(
        "neither HOME nor XDG_CONFIG_HOME is set, so no nats context can be found: give --log nats://host:4222"
    )]
    NoHome,
    #[error("{} is no nats context ({at}): write it again with `nats context edit`", path.display())]
    BadContext { path: PathBuf, at: String },
    #[error("the {what} {} cannot be read: {source}; check the path and who may read it", path.display())]
    Unreadable {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("--nats-user needs --nats-password-file")]
    NoPassword,
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("opening the log stopped half way ({0}): try again, and report this if it stays")]
    Panicked(String),
}

/// Opens the log that `args` name. A process that does TLS has chosen its rustls provider before.
pub async fn open(args: &ConnectArgs, patience: Patience) -> Result<Opened, ConnectError> {
    match (args.log.as_deref(), &args.nats_context) {
        (None, None) => Err(ConnectError::NoLog),
        (Some(url), Some(_)) if url.starts_with("file:") => {
            Err(ConnectError::TwoLogs { url: url.to_owned() })
        }
        (Some(url), None) if url.starts_with("file:") => open_file(&url["file:".len()..]).await,
        _ => open_broker(args, patience, false).await,
    }
}

/// Opens a broker's log for a command that only reads: it makes no stream, and appends are refused.
pub async fn open_to_read(args: &ConnectArgs, within: Duration) -> Result<Opened, ConnectError> {
    match (args.log.as_deref(), &args.nats_context) {
        (None, None) => Err(ConnectError::NoLog),
        (Some(url), _) if url.starts_with("file:") => Err(ConnectError::UnknownUrl { url: url.to_owned() }),
        _ => open_broker(args, Patience::AtMost(within), true).await,
    }
}

async fn open_file(path: &str) -> Result<Opened, ConnectError> {
    let directory = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
    let place = format!("file:{}", directory.display());
    let opened = tokio::task::spawn_blocking(move || Embedded::open(&directory, Options::default()));
    let embedded = opened
        .await
        .map_err(|error| ConnectError::Panicked(error.to_string()))??;
    Ok(Opened {
        log: embedded.clone(),
        leases: Arc::new(LocalLeases),
        place,
        embedded: Some(embedded),
        broker: None,
    })
}

async fn open_broker(
    args: &ConnectArgs,
    patience: Patience,
    read_only: bool,
) -> Result<Opened, ConnectError> {
    let options = JetStreamOptions {
        read_only,
        ..broker::options(args, context::folder().as_deref())?
    };
    let place = options.place();
    let log = JetStream::start(options);
    if let Patience::AtMost(within) = patience {
        log.ready(within).await?;
    }
    Ok(Opened {
        leases: log.leases(),
        log: log.clone(),
        place,
        embedded: None,
        broker: Some(log),
    })
}

#[cfg(test)]
mod tests {
    use watchfold_jetstream::testing::NatsServer;

    use super::*;

    fn args(log: Option<String>) -> ConnectArgs {
        ConnectArgs {
            log,
            ..ConnectArgs::default()
        }
    }

    #[tokio::test]
    async fn a_file_url_opens_the_embedded_log_once() {
        let dir = tempfile::tempdir().unwrap();
        let args = args(Some(format!("file:{}", dir.path().join("log").display())));
        let opened = open(&args, Patience::Forever).await.unwrap();
        assert!(opened.leases.acquire("site/cafe-1").await.unwrap().is_some());
        let second = open(&args, Patience::Forever).await.err().unwrap();
        assert!(
            matches!(second, ConnectError::Log(LogError::Locked { .. })),
            "{second}"
        );
        opened.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_broker_is_opened_with_patience_or_without() {
        let mut server = NatsServer::start().await.unwrap();
        let args = args(Some(server.url()));
        let opened = open(&args, Patience::AtMost(Duration::from_secs(60)))
            .await
            .unwrap();
        assert_eq!((opened.place.clone(), opened.trouble()), (server.url(), None));
        assert_eq!(
            opened
                .log
                .info(watchfold_schemas::Stream::Events)
                .await
                .unwrap()
                .last_sequence,
            0
        );
        let lease = opened.leases.acquire("site/cafe-1").await.unwrap();
        let other = open(&args, Patience::AtMost(Duration::from_secs(60)))
            .await
            .unwrap();
        assert!(other.leases.acquire("site/cafe-1").await.unwrap().is_none());
        drop(lease);
        opened.close().await;
        assert!(
            other.leases.acquire("site/cafe-1").await.unwrap().is_some(),
            "what was closed gave its leases back"
        );
        server.kill();
        let later = open(&args, Patience::Forever).await.unwrap();
        assert!(later.trouble().is_some());
        let error = open(&args, Patience::AtMost(Duration::from_secs(1)))
            .await
            .err()
            .unwrap();
        assert!(
            matches!(error, ConnectError::Log(LogError::Unreachable { .. })),
            "{error}"
        );
        assert!(error.to_string().contains(&server.url()), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_log_is_refused_with_what_is_one() {
        for (log, want) in [
            (None, "no log is named"),
            (Some("http://x".to_owned()), "is no log"),
        ] {
            let error = open(&args(log), Patience::Forever)
                .await
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[tokio::test]
    async fn a_context_is_a_log_elsewhere_and_no_directory_beside_it() {
        let context = Some("hub".to_owned());
        for (log, nats_context, elsewhere) in [
            (None, None, false),
            (Some("file:log"), None, false),
            (Some("nats://hub"), None, true),
            (None, context.clone(), true),
            (Some("file:log"), context, true),
        ] {
            let args = ConnectArgs {
                nats_context,
                ..args(log.map(str::to_owned))
            };
            assert_eq!(args.is_elsewhere(), elsewhere, "{args:?}");
            if log == Some("file:log") && elsewhere {
                let refused = open(&args, Patience::Forever).await.err().unwrap();
                assert!(matches!(refused, ConnectError::TwoLogs { .. }), "{refused}");
            }
        }
    }

    #[test]
    fn what_is_printed_holds_no_password() {
        let args = args(Some("nats://u:hunt,er2@hub:4222".to_owned()));
        let printed = format!("{args:?}");
        assert!(
            printed.contains("hub:4222") && !printed.contains("hunt") && !printed.contains("er2"),
            "{printed}"
        );
    }
}
