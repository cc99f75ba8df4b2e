//! Both transports of this package pass the one contract.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use watchfold_log::contract::{Transport, check_all, message};
use watchfold_log::memory::MemoryLog;
use watchfold_log::{Embedded, MessageLog, Options, StreamOptions};
use watchfold_schemas::Stream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_log_passes() {
    check_all(&InMemory::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_log_passes() {
    for segment_bytes in [64 * 1024 * 1024, 2_000] {
        let root = tempfile::tempdir().unwrap();
        check_all(&OnDisk {
            root: root.path().to_owned(),
            made: AtomicU64::new(0),
            segment_bytes,
        })
        .await;
    }
}

/// Keeps the concrete log, because the faults are not part of the trait.
#[derive(Default)]
struct InMemory(std::sync::Mutex<Option<Arc<MemoryLog>>>);

impl InMemory {
    fn last(&self) -> Arc<MemoryLog> {
        self.0.lock().unwrap().clone().unwrap()
    }
}

impl Transport for InMemory {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn MessageLog>> {
        let log = MemoryLog::new();
        *self.0.lock().unwrap() = Some(log.clone());
        async move { log as Arc<dyn MessageLog> }.boxed()
    }

    fn reopen(&self, log: Arc<dyn MessageLog>) -> BoxFuture<'_, Arc<dyn MessageLog>> {
        async move { log }.boxed()
    }

    fn drop_oldest<'a>(&'a self, _log: &'a Arc<dyn MessageLog>) -> BoxFuture<'a, ()> {
        async move { self.last().truncate_front(Stream::Observations, 6) }.boxed()
    }

    fn lose_tail(&self, log: Arc<dyn MessageLog>) -> BoxFuture<'_, Arc<dyn MessageLog>> {
        self.last().truncate_tail(Stream::Observations, 2);
        async move { log }.boxed()
    }
}

struct OnDisk {
    root: PathBuf,
    made: AtomicU64,
    segment_bytes: u64,
}

impl OnDisk {
    fn dir(&self) -> PathBuf {
        self.root.join(self.made.load(Ordering::SeqCst).to_string())
    }

    fn open(&self) -> Arc<dyn MessageLog> {
        let options = StreamOptions {
            segment_bytes: self.segment_bytes,
            ..StreamOptions::new(4 * 1024 * 1024, None)
        };
        Embedded::open(&self.dir(), Options::uniform(options)).unwrap()
    }
}

impl Transport for OnDisk {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn MessageLog>> {
        self.made.fetch_add(1, Ordering::SeqCst);
        let log = self.open();
        async move { log }.boxed()
    }

    fn reopen(&self, log: Arc<dyn MessageLog>) -> BoxFuture<'_, Arc<dyn MessageLog>> {
        drop(log);
        let log = self.open();
        async move { log }.boxed()
    }

    fn drop_oldest<'a>(&'a self, log: &'a Arc<dyn MessageLog>) -> BoxFuture<'a, ()> {
        async move {
            for number in 1_000.. {
                let filler = message(
                    Stream::Observations,
                    "wf.obs.site.filler.x",
                    number,
                    vec![1; 100_000],
                );
                log.append(vec![filler]).await.unwrap();
                if log.info(Stream::Observations).await.unwrap().first_sequence > 1 {
                    return;
                }
                assert!(number < 1_100, "retention never came");
            }
        }
        .boxed()
    }

    /// The end of a file is gone, and no clean end of the process vouches for it.
    fn lose_tail(&self, log: Arc<dyn MessageLog>) -> BoxFuture<'_, Arc<dyn MessageLog>> {
        let dir = self.dir().join(Stream::Observations.name());
        let before_close = std::fs::read(dir.join("stream")).unwrap();
        drop(log);
        std::fs::write(dir.join("stream"), before_close).unwrap();
        let names = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let last = names
            .filter(|path| path.extension().is_some_and(|e| e == "wfl"))
            .max()
            .unwrap();
        let file = OpenOptions::new().write(true).open(&last).unwrap();
        let bytes = file.metadata().unwrap().len();
        file.set_len(bytes - 150).unwrap();
        let log = self.open();
        async move { log }.boxed()
    }
}
