//! Events on their way into the log: emitted, then committed, then published, in one order.

use std::collections::VecDeque;

use watchfold_log::Append;
use watchfold_schemas::event::Place;
use watchfold_schemas::snapshot::StoredEvent;
use watchfold_schemas::{
    CodecError, Event, MessageId, Observation, Stream, encode_event, encode_observation, subjects,
};

/// Events in one append. Also the most that are ever unacknowledged at once; readers tell a repeated event among
/// the last 65,536, so this must stay below.
pub const PUBLISH_EVENTS_MAX: usize = 512;

/// Payload bytes in one append: a few of the largest messages.
const PUBLISH_BYTES_MAX: usize = 4 * 1024 * 1024;

const _: () = assert!(PUBLISH_EVENTS_MAX < 65_536);

/// The outbox in memory; its committed part stands in the store as well.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    events: VecDeque<StoredEvent>,
    /// So many from the front are committed; only these may be published.
    committed: usize,
    bytes: usize,
    /// Acknowledged since the last commit; the store still holds them.
    removed: Vec<Place>,
}

impl Outbox {
    /// What a store or a snapshot held.
    pub(crate) fn restored(events: Vec<StoredEvent>) -> Outbox {
        let bytes = events.iter().map(|event| event.payload.len()).sum();
        let committed = events.len();
        Outbox {
            events: events.into(),
            committed,
            bytes,
            removed: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, event: StoredEvent) {
        self.bytes += event.payload.len();
        self.events.push_back(event);
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &StoredEvent> {
        self.events.iter()
    }

    pub(crate) fn uncommitted(&self) -> impl Iterator<Item = &StoredEvent> {
        self.events.range(self.committed..)
    }

    pub(crate) fn removed(&self) -> &[Place] {
        &self.removed
    }

    pub(crate) fn mark_committed(&mut self) {
        self.committed = self.events.len();
        self.removed.clear();
    }

    /// The first committed events, in order.
    pub(crate) fn front(&self, events_max: usize) -> impl Iterator<Item = &StoredEvent> {
        let mut bytes = 0;
        let fits = move |event: &&StoredEvent| {
            let first = bytes == 0;
            bytes += event.payload.len();
            first || bytes <= PUBLISH_BYTES_MAX
        };
        self.events
            .range(..self.committed)
            .take(events_max)
            .take_while(fits)
    }

    /// The first `count` events are in the log (or never will be). Returns the place of the last one.
    pub(crate) fn remove_front(&mut self, count: usize) -> Option<Place> {
        let count = count.min(self.committed);
        self.committed -= count;
        for event in self.events.drain(..count) {
            self.bytes -= event.payload.len();
            self.removed.push(event.place);
        }
        self.removed.last().copied()
    }
}

/// An event in the form in which it is stored and appended; the error says why it cannot be.
pub(crate) fn stored(event: &Event) -> Result<StoredEvent, CodecError> {
    Ok(StoredEvent {
        place: event.place,
        subject: subjects::event(&event.site, event.chain, event.body.kind(), &event.key),
        id: event.id.message_id().0,
        payload: encode_event(event)?,
    })
}

pub(crate) fn append(event: &StoredEvent) -> Append {
    Append {
        stream: Stream::Events,
        subject: event.subject.clone(),
        id: MessageId(event.id.clone()),
        payload: event.payload.clone().into(),
    }
}

/// An observation of a chain itself as a message.
pub(crate) fn told(observation: &Observation) -> Result<Append, CodecError> {
    let origin = &observation.origin;
    let (stream, kind) = (observation.body.stream(), observation.body.kind());
    Ok(Append {
        stream,
        subject: subjects::of_observation(stream, &origin.site, kind, &origin.collector),
        id: observation.message_id(),
        payload: encode_observation(observation)?.into(),
    })
}
