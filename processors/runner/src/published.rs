//! The last place that a chain published, found in the log of events and held against the chain's input.
//!
//! A refold is silent up to it. It is not enough to read the last event: when the input lost its tail, sequences are
//! given out again, and an event of the lost part would silence the new one.

use watchfold_log::{LogError, MessageLog, Record, Start, StreamInfo};
use watchfold_schemas::event::Place;
use watchfold_schemas::origin::Cause;
use watchfold_schemas::{Chain, CodecError, Event, Stream, decode_event, subjects};

use crate::error::RunnerError;

/// How far back from the end of the events a contradiction is looked for before the last one is believed, in
/// sequences of the stream.
const TAIL_EVENTS: u64 = 4_096;

/// Events per read.
const READ_EVENTS: usize = 256;

/// What is known of the chain's input.
pub(crate) struct Input<'a> {
    pub(crate) stream: Stream,
    pub(crate) info: &'a StreamInfo,
    /// A store or a snapshot that agrees with the log proves everything up to its position.
    pub(crate) proven: u64,
    /// A store or a snapshot disagrees with the log, so events of its lost part may be about.
    pub(crate) suspicious: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Agrees,
    Disagrees,
    /// The event does not say enough, or its input is gone.
    Unknown,
}

/// The last published place of the input as it is now; `None` when nothing of it was published.
pub(crate) async fn last_published(
    log: &dyn MessageLog,
    site: &str,
    chain: Chain,
    input: &Input<'_>,
) -> Result<Option<Place>, RunnerError> {
    let filter = subjects::chain_events_filter(site, chain);
    let Some(last) = log.last(Stream::Events, &filter).await? else {
        return Ok(None);
    };
    if let Some(event) = event_of(&last)?
        && input.judge(log, &event).await? == Verdict::Agrees
    {
        return Ok(Some(event.place));
    }
    let tail = last.sequence.saturating_sub(TAIL_EVENTS).max(1);
    let seen = search(log, &filter, Start::Sequence(tail), input).await?;
    if !seen.contradicted && !input.suspicious {
        return Ok(seen.last);
    }
    tracing::warn!(
        site,
        chain = chain.token(),
        "published events disagree with their input; searching all of them"
    );
    Ok(search(log, &filter, Start::First, input).await?.agreed)
}

#[derive(Default)]
struct Seen {
    last: Option<Place>,
    /// The greatest place that agrees.
    agreed: Option<Place>,
    contradicted: bool,
}

async fn search(
    log: &dyn MessageLog,
    filter: &str,
    start: Start,
    input: &Input<'_>,
) -> Result<Seen, RunnerError> {
    let mut reader = log.reader(Stream::Events, filter, start).await?;
    let mut seen = Seen::default();
    loop {
        let batch = reader.try_next(READ_EVENTS).await?;
        if batch.records.is_empty() && batch.lost.is_none() {
            return Ok(seen);
        }
        for record in &batch.records {
            let Some(event) = event_of(record)? else { continue };
            seen.last = Some(event.place);
            match input.judge(log, &event).await? {
                Verdict::Agrees => seen.agreed = seen.agreed.max(Some(event.place)),
                Verdict::Disagrees => seen.contradicted = true,
                Verdict::Unknown => {}
            }
        }
    }
}

impl Input<'_> {
    async fn judge(&self, log: &dyn MessageLog, event: &Event) -> Result<Verdict, LogError> {
        let sequence = event.place.input;
        if sequence > self.info.last_sequence {
            return Ok(Verdict::Disagrees);
        }
        let at = match &event.cause {
            Cause::Message(id) => log
                .get(self.stream, sequence)
                .await?
                .map(|record| record.id == *id),
            Cause::Timer { .. } | Cause::Packet { .. } => None,
        };
        Ok(match at {
            Some(true) => Verdict::Agrees,
            Some(false) => Verdict::Disagrees,
            None if sequence <= self.proven => Verdict::Agrees,
            None => Verdict::Unknown,
        })
    }
}

/// An event that is damaged tells nothing. One of newer software must stop the start: without it, everything since
/// would be told again.
fn event_of(record: &Record) -> Result<Option<Event>, CodecError> {
    match decode_event(&record.payload) {
        Ok(event) => Ok(Some(event)),
        Err(error @ CodecError::Newer { .. }) => Err(error),
        Err(error) => {
            tracing::warn!(sequence = record.sequence, %error, "an event in the log cannot be read");
            Ok(None)
        }
    }
}
