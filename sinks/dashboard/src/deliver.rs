//! The dashboard as a whole: the server with the routes of the page and its API, and the feed behind them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use watchfold_kit::answers::LogAnswers;
use watchfold_log::LogError;
use watchfold_web::{Server, ServerOptions};

use crate::api::App;
use crate::api::explain::Explaining;
use crate::api::packets::Cutting;
use crate::feed::{Feed, FeedCounters};
use crate::freshness::Freshness;
use crate::live::{Identity, Live};
use crate::routes::routes;
use crate::{DashboardError, DashboardOptions};

/// The feed gets this long to keep its snapshot.
const FEED_STOP_TIMEOUT: Duration = Duration::from_millis(800);

/// A dashboard that listens and does not answer yet.
pub struct Dashboard {
    /// Where it listens; the port is known even if 0 was asked for.
    pub addr: SocketAddr,
    /// The file that holds the access token, readable by its owner only.
    pub token_path: PathBuf,
    server: Server,
    app: Arc<App>,
    feed: Feed,
}

impl Dashboard {
    /// Listens, and makes the access token if there is none.
    pub async fn bind(options: DashboardOptions) -> Result<Dashboard, DashboardError> {
        let server = Server::bind(ServerOptions {
            listen: options.listen,
            access: options.access,
            data_dir: options.data_dir.clone(),
        })
        .await?;
        let answers = options
            .operator
            .is_some()
            .then(|| LogAnswers::new(Arc::clone(&options.log), "the log", None));
        let freshness = Freshness::new(answers);
        let identity = Identity {
            site: options.site.clone(),
            software: options.software,
            read_only: options.operator.is_none(),
            explains: options.explain.is_some(),
            packets: options.packets.is_some(),
        };
        let live = Arc::new(Live::new(identity, Arc::clone(&freshness)));
        let counters = Arc::new(FeedCounters::default());
        let app = Arc::new(App {
            live: Arc::clone(&live),
            log: Arc::clone(&options.log),
            started_at: options.operator.as_ref().map(|operator| operator.now()),
            operator: options.operator.clone(),
            freshness: Arc::clone(&freshness),
            stages: Arc::clone(&options.stages),
            figures: options.figures,
            feed: Arc::clone(&counters),
            requests: Arc::clone(&server.requests),
            explaining: Explaining::new(options.explain),
            cutting: Cutting::new(options.packets),
            places: Arc::clone(&server.places),
            viewers_max: server.upgraded_max,
            viewer_places: Arc::new(Semaphore::new(server.upgraded_max)),
            cancel: CancellationToken::new(),
        });
        let feed = Feed {
            log: options.log,
            site: options.site,
            live,
            freshness,
            operator: options.operator,
            snapshot_path: options.data_dir.join("dashboard.snapshot"),
            stages: options.stages,
            progress: options.progress,
            counters,
        };
        Ok(Dashboard {
            addr: server.addr,
            token_path: server.token_path.clone(),
            server,
            app,
            feed,
        })
    }

    /// The link that lets a browser in. It holds the access token: for the owner's terminal only.
    pub fn link(&self) -> String {
        self.server.link()
    }

    /// The address without the token.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// Serves until cancelled, then ends within a second.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), DashboardError> {
        let stop = self.app.cancel.clone();
        let _stopping = stop.clone().drop_guard();
        let mut feed = tokio::spawn(self.feed.run(stop.clone()));
        let mut served = tokio::spawn(self.server.run(routes(self.app), stop.clone()));
        let stopped = |what: &str, error: Option<tokio::task::JoinError>| {
            let reason = error.map_or("it ended".to_owned(), |error| error.to_string());
            Err(DashboardError::Log(LogError::Stopped(format!(
                "the page's {what}: {reason}"
            ))))
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            ended = &mut feed => return stopped("reader", ended.err()),
            ended = &mut served => return stopped("server", ended.err()),
        }
        stop.cancel();
        let (_, kept) = tokio::join!(served, timeout(FEED_STOP_TIMEOUT, feed));
        if kept.is_err() {
            tracing::warn!("the page's snapshot was not kept in time; the next start takes longer");
        }
        Ok(())
    }
}
