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
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use watchfold_config::PageAccess;
use watchfold_kit::open_files;
use watchfold_kit::places::{Place, PlaceLimits, Places, REPORT_EVERY, Reported};
use watchfold_kit::token::{Token, TokenError};

use crate::auth::Auth;
use crate::guard::Guard;
use crate::hosts::Hosts;
use crate::requests::Requests;
use crate::routes::Routes;
use crate::sessions::Sessions;

/// Connections that wait for an answer or a further request; those that became streams have left this count. Beyond it the oldest
/// idle one leaves.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Connections that became streams.
pub const UPGRADED_MAX: usize = 2_000;
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
/// Requests get this long to end.
const DRAIN: Duration = Duration::from_millis(800);
/// After a failed accept: out of file descriptors, as a rule.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    #[error("{listen} is in use by another program: stop that one, or choose another address with --listen")]
    AddressInUse { listen: SocketAddr },
    #[error("cannot listen on {listen}: {source}; choose another address with --listen")]
    Listen {
        listen: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// What the server is given.
pub struct ServerOptions {
    pub listen: SocketAddr,
    /// Under which names and through which proxies it is reached.
    pub access: PageAccess,
    /// Holds `token` and `sessions.json`.
    pub data_dir: PathBuf,
}

/// A server that listens and does not answer yet.
pub struct Server {
    /// Where it listens; the port is known even if 0 was asked for.
    pub addr: SocketAddr,
    /// The file that holds the access token, readable by its owner only.
    pub token_path: PathBuf,
    /// The places for connections.
    pub places: Arc<Places>,
    /// How many connections may become streams: [`UPGRADED_MAX`], or fewer where the limit of open files says so.
    pub upgraded_max: usize,
    listener: TcpListener,
    auth: Auth,
    /// Counts answers.
    pub requests: Arc<Requests>,
}

impl Server {
    /// Listens, and makes the access token if there is none.
    pub async fn bind(options: ServerOptions) -> Result<Server, WebError> {
        let listen = options.listen;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| match source.kind() {
                ErrorKind::AddrInUse => WebError::AddressInUse { listen },
                _ => WebError::Listen { listen, source },
            })?;
        let addr = listener
            .local_addr()
            .map_err(|source| WebError::Listen { listen, source })?;
        let token_path = options.data_dir.join("token");
        let token = Token::given_or_kept(&token_path)?;
        let sessions = Sessions::load(options.data_dir.join("sessions.json"), &token);
        let auth = Auth::new(token, addr.port(), Hosts::new(addr, options.access), sessions);
        let (places, upgraded_max) = shares_of_sockets(open_files::sockets_max());
        Ok(Server {
            addr,
            token_path,
            places,
            upgraded_max,
            listener,
            auth,
            requests: Arc::default(),
        })
    }

    /// The link that lets a browser in. It holds the access token: for the owner's terminal only.
    pub fn link(&self) -> String {
        format!("{}?token={}", self.address(), self.auth.token.expose())
    }

    /// The address without the token.
    pub fn address(&self) -> String {
        match self.addr.ip() {
            ip if ip.is_unspecified() => format!("http://localhost:{}/", self.addr.port()),
            _ => format!("http://{}/", self.addr),
        }
    }

    /// Serves `routes` until stopped, then lets requests end within [`DRAIN`].
    pub async fn run(self, routes: Routes, stop: CancellationToken) {
        let router = Guard::around(routes, self.auth, self.requests);
        let places = self.places;
        let mut reported = Reported::default();
        let mut report = interval(REPORT_EVERY);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let connections = TaskTracker::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
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
        }
        drop(self.listener);
        connections.close();
        if timeout(DRAIN, connections.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time and were cut");
        }
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

/// Places for connections, and the number of streams, within the sockets that the process may have.
fn shares_of_sockets(sockets: u64) -> (Arc<Places>, usize) {
    let sockets = usize::try_from(sockets).unwrap_or(usize::MAX);
    let connections = CONNECTIONS_MAX.min(sockets / 3);
    let upgraded = UPGRADED_MAX.min(sockets - sockets / 3);
    if (connections, upgraded) != (CONNECTIONS_MAX, UPGRADED_MAX) {
        tracing::warn!(
            connections,
            upgraded,
            "the limit of open files leaves room for fewer connections: raise it (LimitNOFILE, or `ulimit -Hn`)"
        );
    }
    (Places::new(PlaceLimits::shares_of(connections)), upgraded)
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
