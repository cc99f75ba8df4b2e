//! The status port of a small program: `/livez`, `/readyz` and `/metrics`.
//!
//! `/livez` and `/readyz` are open and say no more than which part is not ready. `/metrics` is open on loopback; elsewhere it takes the token.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::metrics::{CONTENT_TYPE as CONTENT_TYPE_OF_METRICS, Page};
use crate::places::{Place, PlaceLimits, Places, REPORT_EVERY, Reported};
use crate::token::{Token, TokenError};

/// Connections at once: probes and a scraper or two. Beyond that one that was idle for longest leaves; see [`crate::places`].
const CONNECTIONS_MAX: usize = 64;
/// A connection that has sent nothing by then is closed.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that has not sent a whole head by then is closed; an idle one too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head; hyper takes no less.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// After a failed accept: out of file descriptors, as a rule.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);

/// Why the port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("{listen} is in use by another program: stop that one, or choose another address with --status")]
    InUse { listen: SocketAddr },
    #[error("cannot listen on {listen}: {source}; choose another address with --status")]
    Listen {
        listen: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// What the port tells.
pub trait Told: Send + Sync + 'static {
    fn health(&self) -> Health;
    fn metrics(&self) -> String;
}

/// A port that listens and does not answer yet.
pub struct StatusPort {
    pub address: SocketAddr,
    /// Where the token for `/metrics` is, if it takes one.
    pub token_path: Option<PathBuf>,
    listener: TcpListener,
    token: Option<Token>,
}

impl StatusPort {
    /// Listens; away from loopback a token is read or made in `directory`.
    pub async fn bind(listen: SocketAddr, directory: &Path) -> Result<StatusPort, StatusError> {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| match source.kind() {
                ErrorKind::AddrInUse => StatusError::InUse { listen },
                _ => StatusError::Listen { listen, source },
            })?;
        let address = listener
            .local_addr()
            .map_err(|source| StatusError::Listen { listen, source })?;
        let token_path = (!address.ip().is_loopback()).then(|| directory.join("token"));
        let token = token_path.as_deref().map(Token::given_or_kept).transpose()?;
        Ok(StatusPort {
            address,
            token_path,
            listener,
            token,
        })
    }

    /// Answers until cancelled.
    pub async fn run(self, told: Arc<dyn Told>, cancel: CancellationToken) {
        let places = Places::new(PlaceLimits::shares_of(CONNECTIONS_MAX));
        let desk = Arc::new(Desk {
            told,
            token: self.token,
            places: Arc::clone(&places),
        });
        let mut reported = Reported::default();
        let mut report = interval(REPORT_EVERY);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => return,
                _ = report.tick() => {
                    places.report("status port", &mut reported);
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    if let Some(place) = places.take(peer.ip()) {
                        tokio::spawn(serve(socket, desk.clone(), place, cancel.clone()));
                    }
                }
                Err(error) => {
                    places.failed(&error);
                    tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
                }
            }
        }
    }
}

async fn serve(socket: TcpStream, desk: Arc<Desk>, place: Place, cancel: CancellationToken) {
    let place = Arc::new(place);
    let mut byte = [0];
    let first = tokio::select! {
        () = cancel.cancelled() => return,
        () = place.displaced() => return,
        first = timeout(FIRST_BYTES_TIMEOUT, socket.peek(&mut byte)) => first,
    };
    if !matches!(first, Ok(Ok(1))) {
        return;
    }
    let held = Arc::clone(&place);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = desk.answer(&request);
        if desk.showed_credential(&request) {
            held.showed_credential();
        }
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        () = cancel.cancelled() => {}
        () = place.displaced() => {}
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the status port ended early");
        },
    }
}

/// Answers requests.
struct Desk {
    told: Arc<dyn Told>,
    token: Option<Token>,
    places: Arc<Places>,
}

impl Desk {
    fn answer<B>(&self, request: &Request<B>) -> Response<String> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return said(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        match request.uri().path() {
            "/livez" => said(StatusCode::OK, "ok"),
            "/readyz" => match self.told.health().unready_in_public() {
                None => said(StatusCode::OK, "ok"),
                Some(why) => said(StatusCode::SERVICE_UNAVAILABLE, &why),
            },
            "/metrics" if self.lets_in(request) => {
                let mut page = Page::default();
                self.places.add_to(&mut page);
                let mut answer = said(StatusCode::OK, &[self.told.metrics(), page.text()].concat());
                let kind = HeaderValue::from_static(CONTENT_TYPE_OF_METRICS);
                answer.headers_mut().insert(CONTENT_TYPE, kind);
                answer
            }
            "/metrics" => {
                let mut answer = said(StatusCode::UNAUTHORIZED, "send the access token as a bearer");
                let scheme = HeaderValue::from_static("Bearer");
                answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                answer
            }
            _ => said(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics"),
        }
    }

    fn lets_in<B>(&self, request: &Request<B>) -> bool {
        self.token.is_none() || self.showed_credential(request)
    }

    /// Whether a token is asked for and the request has it.
    fn showed_credential<B>(&self, request: &Request<B>) -> bool {
        let Some(token) = &self.token else { return false };
        let bearer = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        bearer.is_some_and(|(_, given)| token.is(given.trim()))
    }
}

fn said(status: StatusCode, text: &str) -> Response<String> {
    let mut answer = Response::new(text.to_owned());
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Health);

    impl Told for Fixed {
        fn health(&self) -> Health {
            self.0.clone()
        }
        fn metrics(&self) -> String {
            "figures".to_owned()
        }
    }

    fn check(desk: &Desk, method: Method, path: &str, bearer: Option<&str>, want: (u16, &str)) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        let answer = desk.answer(&request.body(()).unwrap());
        let body = answer
            .body()
            .split("# HELP watchfold_connections")
            .next()
            .unwrap();
        assert_eq!((answer.status().as_u16(), body), want, "{path} {bearer:?}");
    }

    #[test]
    fn open_paths_say_only_that_and_figures_may_take_a_token() {
        let ready = Health {
            log_answers_for: Some(Duration::ZERO),
            started: true,
            stages: Vec::new(),
        };
        let open = Desk {
            told: Arc::new(Fixed(ready.clone())),
            token: None,
            places: Places::new(PlaceLimits::shares_of(CONNECTIONS_MAX)),
        };
        check(&open, Method::GET, "/livez", None, (200, "ok"));
        check(&open, Method::GET, "/readyz", None, (200, "ok"));
        check(&open, Method::GET, "/metrics?x=1", None, (200, "figures"));
        check(
            &open,
            Method::GET,
            "/",
            None,
            (404, "there are /livez, /readyz and /metrics"),
        );
        check(&open, Method::POST, "/livez", None, (405, "only GET"));
        let away = Health {
            log_answers_for: None,
            ..ready
        };
        let guarded = Desk {
            told: Arc::new(Fixed(away)),
            token: Some(Token::known("right")),
            places: Places::new(PlaceLimits::shares_of(CONNECTIONS_MAX)),
        };
        check(
            &guarded,
            Method::GET,
            "/readyz",
            None,
            (503, "the log does not answer"),
        );
        let refusal = (401, "send the access token as a bearer");
        for bearer in [None, Some("Bearer wrong"), Some("Basic right"), Some("right")] {
            check(&guarded, Method::GET, "/metrics", bearer, refusal);
        }
        check(
            &guarded,
            Method::GET,
            "/metrics",
            Some("bearer right"),
            (200, "figures"),
        );
    }
}
