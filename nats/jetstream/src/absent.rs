//! Reads a stream that is missing and that this log, opened for reading alone, does not make: there is nothing in it until another
//! process makes it.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::sleep;
use watchfold_log::{Batch, LogError, LogReader, Start};
use watchfold_schemas::Stream;

use crate::log::Shared;
use crate::reader::Reader;

/// How often somebody who waits for a record looks whether the stream is there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Absent {
    shared: Arc<Shared>,
    stream: Stream,
    filter: String,
    start: Start,
    /// Once the stream is there.
    reader: Option<Reader>,
}

impl Absent {
    pub(crate) fn new(shared: Arc<Shared>, stream: Stream, filter: String, start: Start) -> Absent {
        Absent {
            shared,
            stream,
            filter,
            start,
            reader: None,
        }
    }

    async fn reader(&mut self) -> Result<Option<&mut Reader>, LogError> {
        if self.reader.is_none() && !self.shared.is_absent(self.stream).await? {
            // Every record is one that was not there when this was opened.
            let start = match &self.start {
                Start::New => Start::First,
                other => other.clone(),
            };
            let opened = Reader::open(self.shared.clone(), self.stream, self.filter.clone(), start);
            self.reader = Some(opened.await?);
        }
        Ok(self.reader.as_mut())
    }
}

impl LogReader for Absent {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        async move {
            while self.reader().await?.is_none() {
                sleep(LOOK_EVERY).await;
            }
            match &mut self.reader {
                Some(reader) => reader.next(max).await,
                None => Ok(Batch::default()),
            }
        }
        .boxed()
    }

    fn try_next(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        async move {
            match self.reader().await? {
                Some(reader) => reader.try_next(max).await,
                None => Ok(Batch::default()),
            }
        }
        .boxed()
    }
}
