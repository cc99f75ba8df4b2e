//! A log whose readers return one record at a time, as a broker's may while its messages are on their way.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use watchfold_log::{
    Ack, Append, Batch, LogError, LogReader, MessageLog, Position, Record, Start, StreamInfo,
};
use watchfold_schemas::Stream;

/// The log behind it, read in the shortest batches that the plane allows.
pub struct ShortReads(pub Arc<dyn MessageLog>);

struct ShortReader(Box<dyn LogReader>);

impl LogReader for ShortReader {
    fn next(&mut self, _max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        self.0.next(1)
    }

    fn try_next(&mut self, _max: usize) -> BoxFuture<'_, Result<Batch, LogError>> {
        self.0.try_next(1)
    }
}

impl MessageLog for ShortReads {
    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Ack>, LogError>> {
        self.0.append(messages)
    }

    fn reader(
        &self,
        stream: Stream,
        filter: &str,
        start: Start,
    ) -> BoxFuture<'_, Result<Box<dyn LogReader>, LogError>> {
        let filter = filter.to_owned();
        async move {
            let reader = self.0.reader(stream, &filter, start).await?;
            Ok(Box::new(ShortReader(reader)) as Box<dyn LogReader>)
        }
        .boxed()
    }

    fn info(&self, stream: Stream) -> BoxFuture<'_, Result<StreamInfo, LogError>> {
        self.0.info(stream)
    }

    fn get(&self, stream: Stream, sequence: u64) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        self.0.get(stream, sequence)
    }

    fn last(&self, stream: Stream, filter: &str) -> BoxFuture<'_, Result<Option<Record>, LogError>> {
        self.0.last(stream, filter)
    }

    fn load_position(&self, name: &str) -> BoxFuture<'_, Result<Option<Position>, LogError>> {
        self.0.load_position(name)
    }

    fn save_position(&self, name: &str, position: Position) -> BoxFuture<'_, Result<(), LogError>> {
        self.0.save_position(name, position)
    }
}
