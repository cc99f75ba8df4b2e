//! A site on loopback: a service that a test takes away and brings back, probed by the real collector.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The service's name in the configuration.
pub const SERVICE: &str = "service";

/// Accepts connections while it is up.
pub struct Service {
    pub address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl Service {
    pub async fn open() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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

    /// A site that watches it, as fast as the configuration allows.
    pub fn config(&self, site: &str, webhook: &str) -> String {
        format!(
            r#"
site = "{site}"
time_zone = "UTC"
[network]
interval = "200ms"
timeout = "200ms"
retry_delay = "50ms"
min_incident = "1s"
remind_every = "0"
escalate_after = "0"
[[network.targets]]
name = "{SERVICE}"
address = "127.0.0.1"
signals = [{{ tcp = {} }}]
[sinks.discord]
alerts = "{webhook}"
"#,
            self.address.port()
        )
    }
}

fn accept(listener: TcpListener) -> JoinHandle<()> {
    // Whoever asks has seen enough once the connection stands.
    tokio::spawn(async move { while listener.accept().await.is_ok() {} })
}
