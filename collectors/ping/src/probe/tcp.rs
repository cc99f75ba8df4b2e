//! A TCP connection, opened and closed.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::parse::{self, Measured};
use crate::platform;

pub(super) async fn connect(to: SocketAddr, timeout: Duration) -> Measured {
    if let Err(error) = platform::route_to(to) {
        return parse::from_error(&error);
    }
    let began = Instant::now();
    match tokio::time::timeout(timeout, TcpStream::connect(to)).await {
        Ok(Ok(_)) => Measured::ok(began.elapsed()),
        Ok(Err(error)) => parse::from_remote_error(&error),
        Err(_) => Measured::timed_out(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use watchfold_schemas::observation::Outcome;

    use super::*;

    #[tokio::test]
    async fn a_listener_answers_and_a_closed_port_refuses() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(loopback).await.unwrap();
            let to = listener.local_addr().unwrap();
            assert_eq!(connect(to, Duration::from_secs(10)).await.outcome, Outcome::Ok);
            drop(listener);
            assert_eq!(
                connect(to, Duration::from_secs(10)).await.outcome,
                Outcome::Refused
            );
        }
    }
}
