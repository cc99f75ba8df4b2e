//! The server: listens, accepts, serves, and drains.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchfold_kit::answers::LogAnswers;
use watchfold_kit::open_files;
use watchfold_kit::places::{Place, PlaceLimits, Places, REPORT_EVERY, Reported};
use watchfold_kit::token::Token;
use watchfold_log::LogError;

use crate::api::explain::Explaining;
use crate::api::packets::Cutting;
use crate::api::{App, router};
use crate::auth::Auth;
use crate::feed::{Feed, FeedCounters};
use crate::freshness::Freshness;
use crate::hosts::Hosts;
use crate::live::{Identity, Live};
use crate::metrics::HttpCounters;
use crate::sessions::Sessions;
use crate::stream::VIEWERS_MAX;
use crate::{DashboardError, DashboardOptions};

/// Connections that wait for an answer or a further request; viewers have left this count. Beyond it the oldest idle one leaves.
pub const CONNECTIONS_MAX: usize = 1_024;
/// A connection that has sent nothing by then is closed.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that takes nothing of its answer for this long is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection that has not sent the whole head of a request by then is closed; an idle one too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a request's head; a longer one is answered with 431.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Header lines of a request; more are answered with 431.
const HEADERS_MAX: usize = 64;
/// Bytes that the kernel holds for a client that does not read; Linux takes the double.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// Requests and viewers get this long to end.
const DRAIN: Duration = Duration::from_millis(800);
/// After a failed accept: out of file descriptors, as a rule.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);

/// A dashboard that listens and does not answer yet.
pub struct Dashboard {
    /// Where it listens; the port is known even if 0 was asked for.
    pub addr: SocketAddr,
    /// The file that holds the access token, readable by its owner only.
    pub token_path: PathBuf,
    listener: TcpListener,
    app: Arc<App>,
    feed: Feed,
}

impl Dashboard {
    /// Listens, and makes the access token if there is none.
    pub async fn bind(options: DashboardOptions) -> Result<Dashboard, DashboardError> {
        let listen = options.listen;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| match source.kind() {
                ErrorKind::AddrInUse => DashboardError::AddressInUse { listen },
                _ => DashboardError::Listen { listen, source },
            })?;
        let addr = listener
            .local_addr()
            .map_err(|source| DashboardError::Listen { listen, source })?;
        let token_path = options.data_dir.join("token");
        let token = Token::given_or_kept(&token_path)?;
        let sessions = Sessions::load(options.data_dir.join("sessions.json"), &token);
        let auth = Auth::new(token, addr.port(), Hosts::new(addr, options.access), sessions);
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
        let (places, viewers_max) = shares_of_sockets(open_files::sockets_max());
        let app = Arc::new(App {
            live: Arc::clone(&live),
            log: Arc::clone(&options.log),
            started_at: options.operator.as_ref().map(|operator| operator.now()),
            operator: options.operator.clone(),
            freshness: Arc::clone(&freshness),
            stages: Arc::clone(&options.stages),
            figures: options.figures,
            feed: Arc::clone(&counters),
            auth,
            http: HttpCounters::default(),
            explaining: Explaining::new(options.explain),
            cutting: Cutting::new(options.packets),
            places,
            viewers_max,
            viewer_places: Arc::new(Semaphore::new(viewers_max)),
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
            addr,
            token_path,
            listener,
            app,
            feed,
        })
    }

    /// The link that lets a browser in. It holds the access token: for the owner's terminal only.
    pub fn link(&self) -> String {
        format!("{}?token={}", self.address(), self.app.auth.token.expose())
    }

    /// The address without the token.
    pub fn address(&self) -> String {
        match self.addr.ip() {
            ip if ip.is_unspecified() => format!("http://localhost:{}/", self.addr.port()),
            _ => format!("http://{}/", self.addr),
        }
    }

    /// Serves until cancelled, then ends within a second.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), DashboardError> {
        let stop = self.app.cancel.clone();
        let _stopping = stop.clone().drop_guard();
        let mut feed = tokio::spawn(self.feed.run(stop.clone()));
        let places = Arc::clone(&self.app.places);
        let router = router(self.app);
        let mut reported = Reported::default();
        let mut report = interval(REPORT_EVERY);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let connections = TaskTracker::new();
        let outcome = loop {
            tokio::select! {
                () = cancel.cancelled() => break Ok(()),
                ended = &mut feed => {
                    let reason = ended.err().map_or("it ended".to_owned(), |error| error.to_string());
                    break Err(DashboardError::Log(LogError::Stopped(format!("the page's reader: {reason}"))));
                }
                _ = report.tick() => places.report("page", &mut reported),
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, peer)) => if let Some(place) = places.take(peer.ip()) {
                        let peer = Peer { address: peer.ip(), place: Arc::new(place) };
                        connections.spawn(serve(socket, router.clone(), peer, stop.clone()));
                    },
                    Err(error) => {
                        places.failed(&error);
                        tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
                    }
                },
            }
        };
        drop(self.listener);
        stop.cancel();
        connections.close();
        let ended = timeout(DRAIN, async {
            connections.wait().await;
            if outcome.is_ok() {
                // How it ended was told in the log.
                let _ = feed.await;
            }
        });
        if ended.await.is_err() {
            tracing::warn!("some connections did not end in time and were cut");
        }
        outcome
    }
}

/// A connection's socket.
pub type Socket = Pin<Box<TimeoutStream<TcpStream>>>;
/// The same as hyper takes and gives it.
pub type Io = TokioIo<Socket>;

/// Whose connection a request came by.
#[derive(Clone)]
pub struct Peer {
    pub address: IpAddr,
    pub place: Arc<Place>,
}

/// Places for connections, and the number of viewers, within the sockets that the process may have.
fn shares_of_sockets(sockets: u64) -> (Arc<Places>, usize) {
    let sockets = usize::try_from(sockets).unwrap_or(usize::MAX);
    let connections = CONNECTIONS_MAX.min(sockets / 3);
    let viewers = VIEWERS_MAX.min(sockets - sockets / 3);
    if (connections, viewers) != (CONNECTIONS_MAX, VIEWERS_MAX) {
        tracing::warn!(
            connections,
            viewers,
            "the limit of open files leaves room for fewer connections: raise it (LimitNOFILE, or `ulimit -Hn`)"
        );
    }
    (Places::new(PlaceLimits::shares_of(connections)), viewers)
}

async fn serve(socket: TcpStream, router: Router, peer: Peer, stop: CancellationToken) {
    let place = Arc::clone(&peer.place);
    let mut byte = [0];
    let first = tokio::select! {
        () = stop.cancelled() => return,
        () = place.displaced() => return,
        first = timeout(FIRST_BYTES_TIMEOUT, socket.peek(&mut byte)) => first,
    };
    if !matches!(first, Ok(Ok(1))) {
        return;
    }
    // Deltas are small and should not wait for company. Without it they are only slower.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps small writes back");
    }
    if let Err(error) = SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER_BYTES) {
        tracing::debug!(%error, "a connection keeps the system's send buffer");
    }
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        // The guard measures exactly; this bounds what is read before that.
        .max_buf_size(2 * HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.call(request)
    });
    let mut socket = Box::pin(TimeoutStream::new(socket));
    socket.as_mut().set_write_timeout_pinned(Some(WRITE_TIMEOUT));
    let connection = builder
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.displaced() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match timeout(DRAIN, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
