//! One GET to the probed address, whatever the name in the URL resolves to; captive portals do not pass for it.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, LOCATION};
use reqwest::{Client, Response, Url};
use tokio::time::Instant;
use watchfold_schemas::observation::Outcome;
use watchfold_schemas::why::Why;

use crate::body::{Body, WIRE_BYTES_MAX};
use crate::parse::{self, Measured};
use crate::platform;

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
                Body::default()
            };
            Ok(parse::from_http(
                want,
                (status, body),
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

async fn read_some(mut response: Response) -> Result<Body, reqwest::Error> {
    let all = |name: HeaderName| {
        let values = response.headers().get_all(name);
        let values: Vec<&str> = values.iter().filter_map(|value| value.to_str().ok()).collect();
        values.join(",")
    };
    let mut body = Body {
        encodings: all(CONTENT_ENCODING),
        content_type: all(CONTENT_TYPE),
        ..Body::default()
    };
    while let Some(chunk) = response.chunk().await? {
        let room = WIRE_BYTES_MAX - body.bytes.len();
        body.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            body.is_cut = true;
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
        let as_io = cause.downcast_ref::<io::Error>();
        socket_error = as_io.or(socket_error);
        if let Some(rustls::Error::InvalidCertificate(problem)) = cause.downcast_ref()
            && let Some(problem) = parse::from_certificate(problem)
        {
            return Measured::unexpected(Why::Certificate(problem));
        }
        // What an `io::Error` wraps is not its source.
        next = match as_io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    match socket_error {
        Some(error) if error.raw_os_error().is_some() => parse::from_remote_error(error),
        _ => Measured::unexpected(Why::Protocol {
            problem: parse::short(&innermost(error)),
        }),
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
    use std::io::Write;
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use watchfold_schemas::why::CertificateProblem;

    use super::*;

    /// A TLS server for `probe.test` that gives every client this answer, and clients that trust it.
    async fn server(answer: impl Into<Vec<u8>>) -> (SocketAddr, HttpsClients) {
        let params = rcgen::CertificateParams::new(["probe.test".to_owned()]).unwrap();
        server_under(params, answer).await
    }

    async fn server_under(
        params: rcgen::CertificateParams,
        answer: impl Into<Vec<u8>>,
    ) -> (SocketAddr, HttpsClients) {
        let answer = answer.into();
        let signing_key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&signing_key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
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
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        });
        let trusted = vec![reqwest::Certificate::from_der(cert.der()).unwrap()];
        (
            address,
            HttpsClients {
                trusted,
                ..HttpsClients::default()
            },
        )
    }

    async fn check(answer: impl Into<Vec<u8>>, want: (u16, Option<&str>), outcome: Outcome) -> Option<Why> {
        let (address, clients) = server(answer).await;
        let url = format!("https://probe.test:{}/", address.port());
        let got = clients.get(address, &url, want, Duration::from_secs(20)).await;
        assert_eq!(got.outcome, outcome, "{got:?}");
        got.why
    }

    #[tokio::test]
    async fn only_the_expected_answer_will_do() {
        const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\nhello there";
        const PORTAL: &str = "HTTP/1.1 302 Found\r\nlocation: http://login.hotel.example/?key=secret\r\ncontent-length: 0\r\n\r\n";
        check(HELLO, (200, None), Outcome::Ok).await;
        check(HELLO, (200, Some("hello")), Outcome::Ok).await;
        check(HELLO, (200, Some("goodbye")), Outcome::Unexpected).await;
        check(HELLO, (204, None), Outcome::Unexpected).await;
        let why = check(PORTAL, (200, None), Outcome::Unexpected).await;
        assert_eq!(
            why.unwrap().to_string(),
            "status 302 to login.hotel.example instead of 200"
        );
        let why = check("garbage\r\n\r\n", (200, None), Outcome::Unexpected).await;
        assert!(matches!(why, Some(Why::Protocol { .. })), "{why:?}");
    }

    #[tokio::test]
    async fn a_compressed_page_in_another_charset_holds_the_text() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(b"<p>Gr\xfc\xdfe aus K\xf6ln</p>").unwrap();
        let body = encoder.finish().unwrap();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=iso-8859-1\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        let answer = [head.as_bytes(), &body].concat();
        check(answer.clone(), (200, Some("Grüße aus Köln")), Outcome::Ok).await;
        let why = check(answer, (200, Some("Aachen")), Outcome::Unexpected).await;
        assert_eq!(why.unwrap().to_string(), "the expected text is missing");
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_certificate_is_named() {
        let params = || rcgen::CertificateParams::new(["probe.test".to_owned()]).unwrap();
        let mut expired = params();
        expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let mut future = params();
        future.not_before = rcgen::date_time_ymd(3000, 1, 1);
        let other = rcgen::CertificateParams::new(["other.test".to_owned()]).unwrap();
        for (params, want) in [
            (expired, CertificateProblem::Expired),
            (future, CertificateProblem::NotYetValid),
            (other, CertificateProblem::WrongName),
        ] {
            let (address, clients) = server_under(params, "").await;
            let url = format!("https://probe.test:{}/", address.port());
            let got = clients
                .get(address, &url, (200, None), Duration::from_secs(20))
                .await;
            assert_eq!(got.why, Some(Why::Certificate(want)), "{got:?}");
        }
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
        assert!(matches!(got.why, Some(Why::Certificate(_))), "{got:?}");
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
