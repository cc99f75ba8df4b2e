//! One GET to the probed address, whatever the name in the URL resolves to; captive portals do not pass for it.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::{Client, Response, Url};
use tokio::time::Instant;
use watchfold_schemas::observation::Outcome;

use crate::parse::{self, Measured};
use crate::platform;

/// The expected text must stand in this much of the body.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The most clients kept; each pins one name to one address.
const CLIENTS_MAX: usize = 1_024;

#[derive(Default)]
pub(super) struct HttpsClients {
    clients: Mutex<HashMap<(String, IpAddr), Client>>,
    /// Trusted instead of the system's certificates; for tests.
    trusted: Vec<reqwest::Certificate>,
}

impl HttpsClients {
    pub(super) async fn get(
        &self,
        to: SocketAddr,
        url: &str,
        want: (u16, Option<&str>),
        timeout: Duration,
    ) -> Measured {
        let fault = |why: String| Measured::with(Outcome::Fault, why);
        let Ok(url) = Url::parse(url) else {
            return fault(format!("{url:?} is not a URL"));
        };
        let Some(host) = url.host_str() else {
            return fault(format!("{url} names no host"));
        };
        if let Err(error) = platform::route_to(to) {
            return parse::from_error(&error);
        }
        let client = match self.client(host, to.ip()) {
            Ok(client) => client,
            Err(error) => return fault(format!("no TLS here: {}", innermost(&error))),
        };
        let exchange = async {
            let began = Instant::now();
            let response = client.get(url).send().await?;
            let round_trip = began.elapsed();
            let status = response.status().as_u16();
            let redirected_to = redirected_to(&response);
            let body = if want.1.is_some() {
                read_some(response).await?
            } else {
                Vec::new()
            };
            Ok(parse::from_http(
                want,
                (status, &body),
                redirected_to.as_deref(),
                round_trip,
            ))
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok(measured)) => measured,
            Ok(Err(error)) => from_error(&error),
            Err(_) => Measured::timed_out(),
        }
    }

    fn client(&self, host: &str, to: IpAddr) -> Result<Client, reqwest::Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.to_owned(), to);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        // Without a provider the builder would panic; a process that installed one keeps its own.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let raced = rustls::crypto::ring::default_provider().install_default();
            tracing::debug!(raced = raced.is_err(), "installed the TLS provider");
        }
        let mut builder = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // Every probe opens a connection of its own: a kept one would hide that new ones fail.
            .pool_max_idle_per_host(0)
            .user_agent("watchfold")
            .resolve(host, SocketAddr::new(to, 0));
        if !self.trusted.is_empty() {
            builder = builder.tls_certs_only(self.trusted.clone());
        }
        let client = builder.build()?;
        if clients.len() >= CLIENTS_MAX {
            tracing::warn!(
                limit = CLIENTS_MAX,
                "the table of HTTPS clients is full and starts anew"
            );
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// The host that an answer redirects to: enough to recognise a portal, without the secrets of its link.
fn redirected_to(response: &Response) -> Option<String> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    response.url().join(location).ok()?.host_str().map(str::to_owned)
}

async fn read_some(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == BODY_BYTES_MAX {
            break;
        }
    }
    Ok(body)
}

/// The socket's error where there is one; TLS and HTTP errors are answers of somebody, though not the expected one.
fn from_error(error: &reqwest::Error) -> Measured {
    if error.is_timeout() {
        return Measured::timed_out();
    }
    let mut socket_error = None;
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = next {
        socket_error = cause.downcast_ref::<io::Error>().or(socket_error);
        next = cause.source();
    }
    match socket_error {
        Some(error) if error.raw_os_error().is_some() => parse::from_remote_error(error),
        _ => Measured::with(Outcome::Unexpected, innermost(error)),
    }
}

fn innermost(error: &dyn Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A TLS server for `probe.test` that gives every client this answer, and clients that trust it.
    async fn server(answer: &'static str) -> (SocketAddr, HttpsClients) {
        let made = rcgen::generate_simple_self_signed(["probe.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that does not trust us hangs up.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut request = [0; 2_048];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let trusted = vec![reqwest::Certificate::from_der(made.cert.der()).unwrap()];
        (
            address,
            HttpsClients {
                trusted,
                ..HttpsClients::default()
            },
        )
    }

    async fn check(answer: &'static str, want: (u16, Option<&str>), outcome: Outcome) -> Option<String> {
        let (address, clients) = server(answer).await;
        let url = format!("https://probe.test:{}/", address.port());
        let got = clients.get(address, &url, want, Duration::from_secs(20)).await;
        assert_eq!(got.outcome, outcome, "{got:?}");
        got.detail
    }

    #[tokio::test]
    async fn only_the_expected_answer_will_do() {
        const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\nhello there";
        const PORTAL: &str = "HTTP/1.1 302 Found\r\nlocation: http://login.hotel.example/?key=secret\r\ncontent-length: 0\r\n\r\n";
        check(HELLO, (200, None), Outcome::Ok).await;
        check(HELLO, (200, Some("hello")), Outcome::Ok).await;
        check(HELLO, (200, Some("goodbye")), Outcome::Unexpected).await;
        check(HELLO, (204, None), Outcome::Unexpected).await;
        let detail = check(PORTAL, (200, None), Outcome::Unexpected).await;
        assert_eq!(
            detail.unwrap(),
            "status 302 to login.hotel.example instead of 200"
        );
        check("garbage\r\n\r\n", (200, None), Outcome::Unexpected).await;
    }

    #[tokio::test]
    async fn a_certificate_that_nobody_trusts_is_unexpected() {
        let (address, _) = server("").await;
        let (_, strangers) = server("").await;
        let url = format!("https://probe.test:{}/", address.port());
        let got = strangers
            .get(address, &url, (200, None), Duration::from_secs(20))
            .await;
        assert_eq!(got.outcome, Outcome::Unexpected, "{got:?}");
    }

    #[tokio::test]
    async fn a_closed_port_refuses_and_a_silent_one_times_out() {
        let (_, clients) = server("").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("https://probe.test:{}/", address.port());
        let got = clients
            .get(address, &url, (200, None), Duration::from_millis(50))
            .await;
        assert_eq!(got.outcome, Outcome::TimedOut, "{got:?}");
        drop(listener);
        let got = clients
            .get(address, &url, (200, None), Duration::from_secs(20))
            .await;
        assert_eq!(got.outcome, Outcome::Refused, "{got:?}");
        let got = clients
            .get(address, "not a url", (200, None), Duration::from_secs(20))
            .await;
        assert_eq!(got.outcome, Outcome::Fault, "{got:?}");
    }
}
