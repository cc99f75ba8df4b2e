//! Bytes that are no request, frames that are no frames: the one who sends them loses the connection, nobody else does.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::harness::{LIMIT, Served};

#[tokio::test]
async fn garbage_instead_of_http_ends_that_connection_only() {
    let served = Served::furnished().await;
    let long_header = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5_000));
    for bytes in [
        &b"\x00\x01\x02\x03\xff\xfe\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /api/v1/state?%zz=%ff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /api/v1/maintenance HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /api/v1/maintenance HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        long_header.as_bytes(),
        many_headers.as_bytes(),
    ] {
        let mut socket = TcpStream::connect(served.addr).await.unwrap();
        // The server may close before it has read all.
        let _ = socket.write_all(bytes).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(LIMIT, socket.read_to_end(&mut answer)).await.expect("it stays open");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert_eq!(served.open_get("/livez").await.0, 200);
    }
    served.stop().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_does_not_keep_the_server_from_stopping() {
    let served = Served::furnished().await;
    let mut silent = Vec::new();
    for bytes in [&b""[..], b"GET /livez HTTP/1.1\r\nhost:"] {
        let mut socket = TcpStream::connect(served.addr).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        silent.push(socket);
    }
    let mut viewer = served.watch(None).await;
    viewer.expect("snapshot").await;
    served.stop().await;
    while viewer.next().await.is_some() {}
}

#[tokio::test]
async fn garbage_frames_end_that_viewer_only() {
    let served = Served::furnished().await;
    let mut other = served.watch(None).await;
    other.expect("snapshot").await;
    for bytes in [
        &b"\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        // Unmasked, reserved bits, an unknown opcode, a text that is no UTF-8, a frame of 2^63 bytes.
        b"\x81\x05hello",
        b"\xf1\x80\x00\x00\x00\x00",
        b"\x83\x80\x00\x00\x00\x00",
        b"\x81\x82\x00\x00\x00\x00\xff\xfe",
        b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",
    ] {
        let mut viewer = served.watch(None).await;
        viewer.expect("snapshot").await;
        let tokio_tungstenite::MaybeTlsStream::Plain(socket) = viewer.socket.get_mut() else {
            panic!("no TLS here")
        };
        socket.write_all(bytes).await.unwrap();
        while viewer.next().await.is_some() {}
    }
    let mut talker = served.watch(None).await;
    talker.expect("snapshot").await;
    for message in [
        Message::text("{\"what\":1}"),
        Message::binary(vec![0xff; 100]),
        Message::Ping(vec![1].into()),
    ] {
        talker.socket.send(message).await.unwrap();
    }
    let pong = async {
        loop {
            if let Message::Pong(payload) = talker.socket.next().await.unwrap().unwrap() {
                return payload;
            }
        }
    };
    assert_eq!(&timeout(Duration::from_secs(20), pong).await.unwrap()[..], [1]);
    talker
        .socket
        .send(Message::binary(vec![0; 100_000]))
        .await
        .unwrap();
    while talker.next().await.is_some() {}
    served.ground.round(99, Some(1)).await;
    other.until(|change| change["samples"].is_array()).await;
    served.stop().await;
}
