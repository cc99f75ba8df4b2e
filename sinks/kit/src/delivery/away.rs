//! A log that is away: a sink waits for it, and what it has under way goes on meanwhile.
//!
//! It decides nothing about requests. Errors that waiting does not mend end the sink.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use watchfold_log::LogError;

use super::{Courier, Done};
use crate::destination::{Destination, SinkContext};
use crate::error::SinkError;

/// Between two looks for a log that is away, doubling from the first to the last: it is back within seconds of being
/// needed, and a log that waits by itself is not asked more often for it.
const LOOK_MS_FIRST: u64 = 250;
const LOOK_MS_LAST: u64 = 4_000;

/// How often it was looked for a log that is away.
#[derive(Default)]
pub(super) struct Away {
    looks: u32,
}

impl Away {
    /// Waits before the next look, or ends with an error that waiting does not mend.
    pub(super) async fn wait(
        &mut self,
        error: SinkError,
        context: &SinkContext,
        cancel: &CancellationToken,
    ) -> Result<(), SinkError> {
        let SinkError::Log(LogError::Unreachable { .. }) = &error else {
            return Err(error);
        };
        if self.looks == 0 {
            tracing::warn!(sink = context.sink, %error, "the log is away; the sink waits for it");
        }
        context.progress.fail(error.to_string());
        let pause = Duration::from_millis((LOOK_MS_FIRST << self.looks.min(8)).min(LOOK_MS_LAST));
        self.looks += 1;
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        Ok(())
    }
}

/// Opens the sink once the log is there; `None` when it was cancelled before.
pub(super) async fn open<D: Destination>(
    context: SinkContext,
    destination: Arc<D>,
    cancel: &CancellationToken,
) -> Result<Option<Courier<D>>, SinkError> {
    let mut away = Away::default();
    loop {
        let opened = tokio::select! {
            () = cancel.cancelled() => return Ok(None),
            opened = Courier::open(context.clone(), destination.clone()) => opened,
        };
        match opened {
            Ok(courier) => return Ok(Some(courier)),
            Err(error) => away.wait(error, &context, cancel).await?,
        }
    }
}

/// Work that goes on while the sink waits for the log: an answer of the far side that nobody takes until its time
/// limit has passed would count as none, and the message be sent again. It ends with the sink.
pub(super) fn on_its_own(work: impl Future<Output = Done> + Send + 'static) -> BoxFuture<'static, Done> {
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    Box::pin(async move {
        match task.await {
            Ok(done) => done,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and this with it.
                Err(_) => std::future::pending().await,
            },
        }
    })
}
