//! Connections that send nothing, from several loopback addresses: they take places from each other, and from nobody who has a right
//! to one.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::harness::{LIMIT, Served};

async fn connect_from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    timeout(LIMIT, socket.connect(to)).await.unwrap().unwrap()
}

async fn ask(socket: &mut TcpStream, path: &str, served: &Served, token: bool) -> String {
    let bearer = match token {
        true => format!("authorization: Bearer {}\r\n", served.token),
        false => String::new(),
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{bearer}\r\n", served.addr);
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 15];
    timeout(LIMIT, socket.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(answer).unwrap()
}

async fn closed(socket: &mut TcpStream) {
    let mut bytes = [0; 1];
    let end = timeout(LIMIT, socket.read(&mut bytes))
        .await
        .expect("it stays open");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_lock_out_neither_probes_nor_token_holders() {
    watchfold_kit::open_files::raise();
    let served = Served::furnished().await;
    let mut member = connect_from("127.0.0.30", served.addr).await;
    assert_eq!(
        ask(&mut member, "/api/v1/health", &served, true).await,
        "HTTP/1.1 200 OK"
    );
    let mut idle = Vec::new();
    for n in 0..1_200 {
        idle.push(connect_from(&format!("127.0.0.{}", 2 + n % 10), served.addr).await);
    }
    served
        .until("the oldest have left", async || {
            served.metric("watchfold_connections_displaced_total").await >= Some(200.0)
        })
        .await;
    closed(&mut idle[0]).await;
    for address in ["127.0.0.2", "127.0.0.30", "127.0.0.99"] {
        let mut socket = connect_from(address, served.addr).await;
        assert_eq!(
            ask(&mut socket, "/livez", &served, false).await,
            "HTTP/1.1 200 OK",
            "{address}"
        );
        let mut socket = connect_from(address, served.addr).await;
        assert_eq!(
            ask(&mut socket, "/api/v1/state", &served, true).await,
            "HTTP/1.1 200 OK",
            "{address}"
        );
    }
    served.stop().await;
}

#[tokio::test]
async fn one_address_has_a_share_and_others_keep_their_connections() {
    watchfold_kit::open_files::raise();
    let served = Served::furnished().await;
    let mut other = connect_from("127.0.0.3", served.addr).await;
    let mut greedy = Vec::new();
    for _ in 0..258 {
        greedy.push(connect_from("127.0.0.2", served.addr).await);
    }
    served
        .until("two have left", async || {
            served.metric("watchfold_connections_displaced_total").await == Some(2.0)
        })
        .await;
    closed(&mut greedy[0]).await;
    closed(&mut greedy[1]).await;
    assert_eq!(
        ask(&mut greedy[2], "/livez", &served, false).await,
        "HTTP/1.1 200 OK"
    );
    assert_eq!(ask(&mut other, "/livez", &served, false).await, "HTTP/1.1 200 OK");
    served.stop().await;
}

#[tokio::test]
async fn a_connection_without_first_bytes_is_closed_long_before_an_idle_one() {
    let served = Served::furnished().await;
    let mut silent = connect_from("127.0.0.2", served.addr).await;
    let mut talked = connect_from("127.0.0.2", served.addr).await;
    assert_eq!(
        ask(&mut talked, "/livez", &served, false).await,
        "HTTP/1.1 200 OK"
    );
    closed(&mut silent).await;
    let mut rest = [0; 4_096];
    timeout(LIMIT, talked.read(&mut rest)).await.unwrap().unwrap();
    assert_eq!(
        ask(&mut talked, "/livez", &served, false).await,
        "HTTP/1.1 200 OK"
    );
    served.stop().await;
}

#[tokio::test]
async fn heads_beyond_the_stated_limits_are_answered_with_431() {
    let served = Served::furnished().await;
    let answer_to = async |lines: String| {
        let mut socket = connect_from("127.0.0.2", served.addr).await;
        let request = format!("GET /livez HTTP/1.1\r\nhost: {}\r\n{lines}\r\n", served.addr);
        // The server may answer and close before it has read all.
        let _ = socket.write_all(request.as_bytes()).await;
        let mut answer = vec![0; 12];
        timeout(LIMIT, socket.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        String::from_utf8(answer).unwrap()
    };
    let long = |bytes: usize| format!("x: {}\r\n", "y".repeat(bytes));
    let many = |lines: usize| "a: b\r\n".repeat(lines);
    assert_eq!(answer_to(long(30 * 1024)).await, "HTTP/1.1 200");
    assert_eq!(answer_to(long(33 * 1024)).await, "HTTP/1.1 431");
    assert_eq!(answer_to(many(63)).await, "HTTP/1.1 200");
    assert_eq!(answer_to(many(64)).await, "HTTP/1.1 431");
    served.stop().await;
}
