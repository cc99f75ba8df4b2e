//! The status port of a small program: `/livez`, `/readyz` and `/metrics`.
//!
//! `/livez` and `/readyz` are open and say only that. `/metrics` is open on loopback; elsewhere it takes the token.

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
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::token::{Token, TokenError};

/// Connections at once: probes and a scraper or two. Further ones are closed at once.
const CONNECTIONS_MAX: usize = 64;
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
        let desk = Arc::new(Desk {
            told,
            token: self.token,
        });
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, _)) => match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => {
                        let (desk, cancel) = (desk.clone(), cancel.clone());
                        tokio::spawn(async move {
                            serve(socket, desk, cancel).await;
                            drop(place);
                        });
                    }
                    Err(_) => {
                        tracing::warn!(
                            limit = CONNECTIONS_MAX,
                            "the status port refused a connection: too many"
                        );
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "the status port could not accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
                }
            }
        }
    }
}

async fn serve(socket: TcpStream, desk: Arc<Desk>, cancel: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = desk.answer(&request);
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
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the status port ended early");
        },
    }
}

/// Answers requests.
struct Desk {
    told: Arc<dyn Told>,
    token: Option<Token>,
}

impl Desk {
    fn answer<B>(&self, request: &Request<B>) -> Response<String> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return said(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        match request.uri().path() {
            "/livez" => said(StatusCode::OK, "ok"),
            "/readyz" => match self.told.health().readiness() {
                Ok(()) => said(StatusCode::OK, "ok"),
                Err(_) => said(StatusCode::SERVICE_UNAVAILABLE, "not ready"),
            },
            "/metrics" if self.lets_in(request) => {
                let mut answer = said(StatusCode::OK, &self.told.metrics());
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
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
        let Some(token) = &self.token else { return true };
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
        assert_eq!(
            (answer.status().as_u16(), answer.body().as_str()),
            want,
            "{path} {bearer:?}"
        );
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
        };
        check(&guarded, Method::GET, "/readyz", None, (503, "not ready"));
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
