//! Who gets in, how, and what the answers carry.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use watchfold_dashboard::{Dashboard, DashboardError, DashboardOptions, WebError};
use watchfold_kit::Progress;

use super::harness::{Ground, SITE, Served};

#[tokio::test]
async fn nothing_but_liveness_answers_without_the_token() {
    let served = Served::furnished().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(served.open_get(path).await, (200, "ok".to_owned()), "{path}");
    }
    for path in [
        "/",
        "/index.html",
        "/assets/none.js",
        "/metrics",
        "/api/v1/state",
        "/api/v1/stream",
        "/api/v1/openapi.json",
        "/api/v1/nothing",
        "/api/v1/state?token=",
        "/livez/",
        "//livez",
    ] {
        let (status, body) = served.open_get(path).await;
        assert_eq!(status, 401, "{path}: {body}");
        assert!(!body.contains(&served.token));
    }
    let with_link = format!("/api/v1/state?token={}", served.token);
    assert_eq!(
        served.open_get(&with_link).await.0,
        401,
        "the link works for the page only"
    );
    for (method, path) in [
        ("POST", "/api/v1/incidents/x/ack"),
        ("DELETE", "/api/v1/maintenance/x"),
    ] {
        let request = served.http.request(method.parse().unwrap(), served.url(path));
        assert_eq!(
            request.send().await.unwrap().status().as_u16(),
            401,
            "{method} {path}"
        );
    }
    let (_, page) = served.open_get("/").await;
    assert!(
        page.contains("token</code> in Watchfold's data directory"),
        "{page}"
    );
    let socket = connect_async(format!("ws://{}/api/v1/stream", served.addr)).await;
    assert!(socket.is_err());
    served.stop().await;
}

#[tokio::test]
async fn the_link_sets_a_cookie_once_and_the_cookie_lets_the_page_in() {
    let served = Served::furnished().await;
    let enter = served
        .http
        .get(served.url(&format!("/?token={}", served.token)))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (enter.status().as_u16(), &enter.headers()["location"]),
        (303, &"./".parse().unwrap())
    );
    let cookie = enter.headers()["set-cookie"].to_str().unwrap().to_owned();
    for attribute in ["; HttpOnly", "; SameSite=Strict", "; Max-Age="] {
        assert!(cookie.contains(attribute), "{attribute} in {cookie}");
    }
    for absent in [&*served.token, "Path", "Secure"] {
        assert!(!cookie.contains(absent), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap();
    let own = format!("http://{}", served.addr);
    let ask = async |method: &str, path: &str, origin: Option<&str>| {
        let request = served
            .http
            .request(method.parse().unwrap(), served.url(path))
            .header("cookie", cookie);
        let request = origin
            .into_iter()
            .fold(request, |request, origin| request.header("origin", origin));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("GET", "/", None).await, 200);
    assert_eq!(
        ask("GET", "/api/v1/state", Some("http://evil.example")).await,
        200,
        "no CORS header lets it be read"
    );
    let ack = "/api/v1/incidents/router-open/ack";
    assert_eq!(ask("POST", ack, None).await, 403);
    assert_eq!(ask("POST", ack, Some("http://evil.example")).await, 403);
    assert_eq!(ask("POST", ack, Some("null")).await, 403);
    assert_eq!(ask("POST", ack, Some(&own)).await, 202);
    for (origin, want) in [("http://evil.example", false), (&*own, true)] {
        let mut request = format!("ws://{}/api/v1/stream", served.addr)
            .into_client_request()
            .unwrap();
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        request.headers_mut().insert("origin", origin.parse().unwrap());
        assert_eq!(connect_async(request).await.is_ok(), want, "{origin}");
    }
    served.stop().await;
}

#[tokio::test]
async fn wrong_tokens_are_limited_and_the_owner_still_gets_in() {
    let served = Served::furnished().await;
    let mut limited = 0;
    for n in 0..100 {
        let wrong = served
            .http
            .get(served.url("/api/v1/state"))
            .bearer_auth(format!("wrong{n}"));
        let response = wrong.send().await.unwrap();
        match response.status().as_u16() {
            401 => assert!(response.headers().contains_key("www-authenticate")),
            429 => {
                assert!(response.headers().contains_key("retry-after"));
                limited += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(limited, 40);
    assert_eq!(served.get("/api/v1/state").await.0, 200);
    served.stop().await;
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let served = Served::furnished().await;
    for path in ["/livez", "/", "/api/v1/state", "/api/v1/nothing", "/nothing"] {
        let response = served.request("get", path, None).await;
        let headers = response.headers();
        for (name, want) in [
            ("content-security-policy", "frame-ancestors 'none'"),
            ("content-security-policy", "default-src 'self'"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-"),
        ] {
            let value = headers
                .get(name)
                .map(|value| value.to_str().unwrap())
                .unwrap_or_default();
            assert!(value.contains(want), "{path}: {name}: {value}");
        }
        assert!(
            !headers["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("script-src")
        );
    }
    served.stop().await;
}

#[tokio::test]
async fn an_address_in_use_names_the_remedy() {
    let served = Served::furnished().await;
    let ground = Ground::new();
    let bind = async |listen: SocketAddr| {
        let options = DashboardOptions {
            log: ground.log.clone(),
            site: SITE.into(),
            listen,
            access: Default::default(),
            data_dir: ground.folder.path().to_owned(),
            operator: None,
            explain: None,
            packets: None,
            figures: Arc::new(|_| ()),
            stages: Arc::new(Vec::new),
            progress: Progress::new("dashboard"),
            software: "test".into(),
        };
        Dashboard::bind(options).await
    };
    let Err(error) = bind(served.addr).await else {
        panic!("bound twice")
    };
    assert!(matches!(
        error,
        DashboardError::Web(WebError::AddressInUse { .. })
    ));
    assert!(error.to_string().contains("--listen"), "{error}");
    let Err(error) = bind("203.0.113.1:80".parse().unwrap()).await else {
        panic!("bound a foreign address")
    };
    assert!(error.to_string().contains("--listen"), "{error}");
    served.stop().await;
}

#[tokio::test]
async fn a_session_survives_a_restart_and_ends_with_the_token() {
    let served = Served::furnished().await;
    let cookie = sign_in(&served, &[]).await;
    let value = cookie
        .split(';')
        .next()
        .unwrap()
        .split_once('=')
        .unwrap()
        .1
        .to_owned();
    let asked = async |served: &Served| {
        let name = format!("watchfold_{}", served.addr.port());
        let request = served.http.get(served.url("/api/v1/health"));
        let response = request
            .header("cookie", format!("{name}={value}"))
            .send()
            .await
            .unwrap();
        response.status().as_u16()
    };
    assert_eq!(asked(&served).await, 200);
    let other = sign_in(&served, &[]).await;
    assert_ne!(cookie, other, "each browser has its own value");
    served
        .until("both sessions are on disk", async || {
            let file = served.ground.folder.path().join("sessions.json");
            std::fs::read_to_string(file).is_ok_and(|text| text.matches("\"id\"").count() == 2)
        })
        .await;
    let ground = served.stop().await;
    let served = Served::start(ground, true).await;
    assert_eq!(asked(&served).await, 200);
    let ground = served.stop().await;
    std::fs::remove_file(ground.folder.path().join("token")).unwrap();
    let served = Served::start(ground, true).await;
    assert_eq!(asked(&served).await, 401);
    served.stop().await;
}

async fn sign_in(served: &Served, headers: &[(&str, &str)]) -> String {
    let link = served.url(&format!("/?token={}", served.token));
    let request = headers
        .iter()
        .fold(served.http.get(link), |request, (name, value)| {
            request.header(*name, *value)
        });
    let response = request.send().await.unwrap();
    assert_eq!(response.status().as_u16(), 303);
    response.headers()["set-cookie"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_cookie_is_secure_when_the_browser_came_by_https() {
    let ground = Ground::new();
    ground.access.lock().unwrap().proxies = vec!["127.0.0.1".parse().unwrap()];
    ground.access.lock().unwrap().public_url = Some("https://watch.example.org".into());
    let served = Served::start(ground, true).await;
    for (headers, want) in [
        (&[][..], false),
        (&[("x-forwarded-proto", "https")], true),
        (&[("x-forwarded-proto", "http")], false),
        (&[("host", "watch.example.org")], true),
    ] {
        let cookie = sign_in(&served, headers).await;
        assert_eq!(cookie.contains("; Secure"), want, "{headers:?}: {cookie}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_request_under_a_foreign_name_is_refused_and_names_the_key() {
    let ground = Ground::new();
    ground.access.lock().unwrap().hosts = vec!["watch.cafe".into()];
    let served = Served::start(ground, true).await;
    let ask = async |path: &str, hosts: &str| {
        let mut socket = tokio::net::TcpStream::connect(served.addr).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\n{hosts}authorization: Bearer {}\r\nconnection: close\r\n\r\n",
            served.token
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    for (hosts, want) in [
        ("host: watch.cafe:1\r\n", "HTTP/1.1 200"),
        ("host: localhost\r\n", "HTTP/1.1 200"),
        ("host: evil.example\r\n", "HTTP/1.1 421"),
        ("", "HTTP/1.1 400"),
        ("host: localhost\r\nhost: localhost\r\n", "HTTP/1.1 400"),
        ("host: a b\r\n", "HTTP/1.1 400"),
    ] {
        let answer = ask("/api/v1/health", hosts).await;
        assert!(answer.starts_with(want), "{hosts:?}: {answer}");
    }
    let refusal = ask("/", "host: evil.example\r\n").await;
    assert!(refusal.contains("hosts = [\\\"evil.example\\\"]"), "{refusal}");
    assert!(
        ask("/livez", "host: evil.example\r\n")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(ask("/livez", "").await.starts_with("HTTP/1.1 400"));
    served.stop().await;
}
