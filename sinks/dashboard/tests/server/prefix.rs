//! The dashboard behind a proxy that serves it below a path prefix and removes that prefix.

use std::net::SocketAddr;

use reqwest::Url;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::harness::Served;

const PREFIX: &str = "/sites/cafe";

/// A request's head is longer than this in no test.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Passes one request for each connection on to `to`, and answers 404 outside the prefix, where other programs would be.
async fn proxy(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, to));
        }
    });
    address
}

async fn pass(mut client: TcpStream, to: SocketAddr) {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        if client.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let (method, rest) = text.split_once(' ').unwrap();
    let Some(rest) = rest.strip_prefix(PREFIX).filter(|rest| rest.starts_with('/')) else {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let _ = client.write_all(answer).await;
        return;
    };
    let mut server = TcpStream::connect(to).await.unwrap();
    server
        .write_all(format!("{method} {rest}").as_bytes())
        .await
        .unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// The directory of the address that set a cookie without `Path` (RFC 6265 section 5.1.4).
fn default_path(url: &Url) -> &str {
    match url.path().rfind('/') {
        None | Some(0) => "/",
        Some(at) => &url.path()[..at],
    }
}

fn is_below(prefix: &str, url: &Url) -> bool {
    url.path()
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Every `href` and `src` of a page.
fn links(html: &str) -> Vec<&str> {
    ["href=\"", "src=\""]
        .iter()
        .flat_map(|attribute| html.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect()
}

#[tokio::test]
async fn link_page_api_and_stream_work_below_the_prefix_of_a_proxy() {
    let served = Served::furnished().await;
    let proxy = proxy(served.addr).await;
    // A connection for each request, as the proxy wants it.
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .build()
        .unwrap();

    let link = Url::parse(&format!("http://{proxy}{PREFIX}/?token={}", served.token)).unwrap();
    let entered = http.get(link.clone()).send().await.unwrap();
    assert_eq!(entered.status(), 303);
    let page = link
        .join(entered.headers()["location"].to_str().unwrap())
        .unwrap();
    assert_eq!(page.as_str(), format!("http://{proxy}{PREFIX}/"));
    let set_cookie = entered.headers()["set-cookie"].to_str().unwrap();
    assert!(
        !set_cookie.contains("Path="),
        "another program on that host would be sent the token"
    );
    assert_eq!(default_path(&link), PREFIX);
    assert!(
        is_below(default_path(&link), &page),
        "the browser sends the cookie"
    );
    let cookie = set_cookie.split(';').next().unwrap();

    let get = async |url: Url| {
        assert!(is_below(PREFIX, &url), "{url} leaves the prefix");
        let answer = http
            .get(url.clone())
            .header("cookie", cookie)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{url}");
        answer.text().await.unwrap()
    };
    let html = get(page.clone()).await;
    let found = links(&html);
    assert!(!found.is_empty(), "{html}");
    for link in found {
        get(page.join(link).unwrap()).await;
    }

    let described_at = page.join("api/v1/openapi.json").unwrap();
    let description: Value = serde_json::from_str(&get(described_at.clone()).await).unwrap();
    let server = description["servers"][0]["url"].as_str().unwrap();
    assert_eq!(described_at.join(server).unwrap(), page);

    let mut stream = format!("ws://{proxy}{PREFIX}/api/v1/stream")
        .into_client_request()
        .unwrap();
    stream.headers_mut().insert("cookie", cookie.parse().unwrap());
    stream
        .headers_mut()
        .insert("origin", format!("http://{proxy}").parse().unwrap());
    let (mut socket, _) = connect_async(stream).await.unwrap();
    socket.close(None).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn no_page_and_no_file_of_the_page_names_an_absolute_path() {
    let served = Served::furnished().await;
    let (_, sign_in) = served.open_get("/").await;
    let page = served.request("get", "/", None).await.text().await.unwrap();
    for html in [sign_in, page] {
        for link in links(&html) {
            assert!(
                !link.starts_with('/') && !link.contains("://"),
                "{link} in {html}"
            );
        }
    }
    served.stop().await;
}
