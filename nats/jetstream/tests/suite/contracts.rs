//! JetStream passes the contract of the message plane, on a real server.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Mutex;
use watchfold_jetstream::testing::NatsServer;
use watchfold_log::MessageLog;
use watchfold_log::contract::{Transport, check_all};
use watchfold_schemas::Stream;

use crate::{log, operator, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jetstream_passes() {
    check_all(&OnBroker::default()).await;
}

/// Each log is a server of its own.
#[derive(Default)]
struct OnBroker(Mutex<Option<NatsServer>>);

impl Transport for OnBroker {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn MessageLog>> {
        async move {
            let server = server().await;
            let log = log(server.options()).await;
            *self.0.lock().await = Some(server);
            log as Arc<dyn MessageLog>
        }
        .boxed()
    }

    /// Both ends go: ours is dropped, the server is killed and started again.
    fn reopen(&self, old: Arc<dyn MessageLog>) -> BoxFuture<'_, Arc<dyn MessageLog>> {
        async move {
            drop(old);
            let mut server = self.0.lock().await;
            let server = server.as_mut().unwrap();
            server.restart().await.unwrap();
            log(server.options()).await as Arc<dyn MessageLog>
        }
        .boxed()
    }

    fn drop_oldest<'a>(&'a self, _log: &'a Arc<dyn MessageLog>) -> BoxFuture<'a, ()> {
        async move {
            let server = self.0.lock().await;
            let operator = operator(server.as_ref().unwrap()).await;
            let stream = operator.get_stream(Stream::Observations.name()).await.unwrap();
            stream.purge().sequence(7).await.unwrap();
        }
        .boxed()
    }

    /// As a server that acknowledged before it synced: what is left of the store ends earlier.
    fn lose_tail(&self, old: Arc<dyn MessageLog>) -> BoxFuture<'_, Arc<dyn MessageLog>> {
        async move {
            drop(old);
            let mut server = self.0.lock().await;
            let server = server.as_mut().unwrap();
            server.kill();
            let store = server.dir().join("single.store/jetstream/$G/streams/WF_OBS/msgs");
            let block = std::fs::read_dir(&store)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .find(|path| path.extension().is_some_and(|kind| kind == "blk"))
                .unwrap();
            let file = std::fs::OpenOptions::new().write(true).open(&block).unwrap();
            file.set_len(file.metadata().unwrap().len() - 150).unwrap();
            std::fs::remove_file(store.join("1.idx")).ok();
            server.restart().await.unwrap();
            log(server.options()).await as Arc<dyn MessageLog>
        }
        .boxed()
    }
}
