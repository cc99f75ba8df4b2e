//! Load: collectors that write without rest, and know how much they wrote.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchfold_kit::Publisher;
use watchfold_schemas::Body;

/// Between two records of one collector: some hundreds of records a second from all of them, which a single server
/// takes on a busy machine, one acknowledgement after the other.
pub const EVERY: Duration = Duration::from_millis(10);

/// One that writes.
pub struct Load {
    pub collector: String,
    writing: JoinHandle<u64>,
}

impl Load {
    /// Writes a record each `every`, and more at once after a late wake, until cancelled.
    pub fn start(
        collector: &str,
        publisher: Arc<Publisher>,
        every: Duration,
        cancel: CancellationToken,
    ) -> Load {
        let writing = tokio::spawn(async move {
            let mut due = tokio::time::interval(every);
            let mut written = 0;
            loop {
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return written,
                    _ = due.tick() => {
                        publisher.submit(Body::Quiet).unwrap();
                        written += 1;
                    }
                }
            }
        });
        Load {
            collector: collector.to_owned(),
            writing,
        }
    }

    /// How many it wrote, once it was told to end.
    pub async fn written(self) -> u64 {
        self.writing.await.unwrap()
    }
}
