//! Something to watch: a port that a test takes away and brings back. Judges nothing.

use std::net::SocketAddr;

use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::task::JoinHandle;

/// Nobody else is here: outgoing connections start from 127.0.0.1, so the port stays free while it is down.
const ADDRESS: &str = "127.0.0.77:0";

/// Accepts connections while it is up.
pub struct Service {
    pub address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl Service {
    pub async fn open() -> Service {
        Service::at(ADDRESS).await
    }

    /// One where a test wants it.
    pub async fn at(address: impl ToSocketAddrs) -> Service {
        let listener = TcpListener::bind(address).await.unwrap();
        Service {
            address: listener.local_addr().unwrap(),
            accepting: Some(accept(listener)),
        }
    }

    pub async fn up(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.accepting = Some(accept(listener));
    }

    pub async fn down(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // The port is free once the task is gone.
            drop(accepting.await);
        }
    }
}

fn accept(listener: TcpListener) -> JoinHandle<()> {
    // Whoever asks has seen enough once the connection stands.
    tokio::spawn(async move { while listener.accept().await.is_ok() {} })
}
