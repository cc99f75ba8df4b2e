//! `watchfold ready URL`: whether a process here is ready, as its exit status. For health checks of containers, whose
//! image has no other HTTP client. It speaks plain HTTP to an address beside it, and takes no token: /readyz is open.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use watchfold_kit::exit::Usage;

use crate::cli::ReadyArgs;
use watchfold_kit::{console, outln};

/// Connecting, asking and reading together: less than the three seconds that a health check has.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(2_500);

/// The head of an answer and its reason are some hundred bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

pub fn ready(args: &ReadyArgs) -> anyhow::Result<ExitCode> {
    match asked(&args.url)? {
        Ok((200, _)) => Ok(ExitCode::SUCCESS),
        Ok((status, text)) => {
            say(&format!("not ready ({status}): {}", text.trim()))?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) => {
            say(&format!("not ready: {error:#}"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The status is the answer, whether or not anybody reads the reason.
fn say(why: &str) -> anyhow::Result<()> {
    console::while_read(outln!("{why}").map_err(Into::into)).map(drop)
}

/// Status and text of what answers at `url`, or why nothing does.
pub fn asked(url: &str) -> anyhow::Result<anyhow::Result<(u16, String)>> {
    let place = Place::parse(url)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    Ok(runtime.block_on(ask(&place)))
}

/// Where to ask.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// Host and port.
    authority: String,
    path: String,
}

impl Place {
    fn parse(url: &str) -> Result<Place, Usage> {
        let wrong = || {
            Usage(format!(
                "{url:?} is no place to ask: give http://127.0.0.1:9100, the --status address of a process or the \
                 page's"
            ))
        };
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host_and_port = authority.rsplit_once(':');
        let is_whole =
            host_and_port.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_whole || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong());
        }
        Ok(Place {
            authority: authority.to_owned(),
            path: format!("/{}", if path.is_empty() { "readyz" } else { path }),
        })
    }
}

/// Status and text of the answer.
async fn ask(place: &Place) -> anyhow::Result<(u16, String)> {
    let authority = &place.authority;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, talk(place)).await;
    let answer = answer
        .with_context(|| {
            format!(
                "{authority} did not answer within {} ms",
                ANSWER_TIMEOUT.as_millis()
            )
        })?
        .with_context(|| format!("{authority} does not answer"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
        .with_context(|| format!("{authority} does not speak HTTP"))?;
    Ok((status, text.to_owned()))
}

async fn talk(Place { authority, path }: &Place) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(authority.as_str()).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_place_is_a_host_with_a_port() {
        let place = |authority: &str, path: &str| {
            Some(Place {
                authority: authority.to_owned(),
                path: path.to_owned(),
            })
        };
        for (url, want) in [
            ("http://127.0.0.1:9100", place("127.0.0.1:9100", "/readyz")),
            ("http://127.0.0.1:9100/", place("127.0.0.1:9100", "/readyz")),
            ("http://[::1]:8737/livez", place("[::1]:8737", "/livez")),
            ("https://127.0.0.1:9100", None),
            ("127.0.0.1:9100", None),
            ("http://127.0.0.1", None),
            ("http://:80", None),
            ("http://a:1/x y", None),
            ("http://a:1/x\r\nHost: b", None),
        ] {
            assert_eq!(Place::parse(url).ok(), want, "{url}");
        }
    }

    /// What is asked of somebody who answers this.
    async fn check(answer: &'static str) -> Result<(u16, String), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1_024];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let answer = ask(&Place::parse(&url).unwrap()).await;
        assert!(served.await.unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
        answer.map_err(|error| format!("{error:#}"))
    }

    #[tokio::test]
    async fn the_status_of_the_answer_counts() {
        assert_eq!(
            check("HTTP/1.1 200 OK\r\n\r\nready").await,
            Ok((200, "ready".to_owned()))
        );
        let starting = check("HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nstarting\n").await;
        assert_eq!(starting, Ok((503, "starting\n".to_owned())));
        for silent in ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1"] {
            let error = check(silent).await.unwrap_err();
            assert!(error.contains("does not speak HTTP"), "{silent:?}: {error}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = Place::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        drop(listener);
        let error = ask(&place).await.unwrap_err();
        assert!(format!("{error:#}").contains("does not answer"), "{error:#}");
    }
}
