//! The transport against real servers: one binary, a module for each way to use or to fail it.

mod contracts;
mod faults;
mod leases;
mod refusals;

use std::sync::Arc;
use std::time::Duration;

use watchfold_jetstream::testing::{NatsServer, Setup};
use watchfold_jetstream::{JetStream, JetStreamOptions};

/// How long a test waits for what must come, on a loaded machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

async fn server() -> NatsServer {
    NatsServer::start().await.unwrap()
}

async fn server_with(config: &str) -> NatsServer {
    let setup = Setup {
        config: config.to_owned(),
        ..Setup::default()
    };
    NatsServer::start_with(&setup).await.unwrap()
}

/// A log that is connected and has its streams.
async fn log(options: JetStreamOptions) -> Arc<JetStream> {
    let log = JetStream::start(options);
    log.ready(WAIT_MAX).await.unwrap();
    log
}

/// A connection beside the one under test, for what an operator does.
async fn operator(server: &NatsServer) -> async_nats::jetstream::Context {
    async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap())
}
