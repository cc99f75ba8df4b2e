//! The events of one record: their ids, their places, and what caused them.

use std::collections::BTreeMap;

use watchfold_schemas::event::{Causes, EVENT_VERSION, Event, EventBody, Place};
use watchfold_schemas::origin::{Cause, EventId, MessageId};
use watchfold_schemas::{Chain, Time};

/// Collects the events of a chain.
#[derive(Debug)]
pub struct Emitter {
    chain: Chain,
    site: String,
    input: u64,
    /// The record that is folded; none where records are gone.
    message: Option<MessageId>,
    pub events: Vec<Event>,
    /// How many events of a kind and key came from a cause, less one.
    counts: BTreeMap<(&'static str, String, Cause), u32>,
}

impl Emitter {
    pub fn new(chain: Chain, site: &str, input: u64, message: Option<MessageId>) -> Emitter {
        Emitter {
            chain,
            site: site.to_owned(),
            input,
            message,
            events: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    pub fn message(&self) -> Option<&MessageId> {
        self.message.as_ref()
    }

    /// Emits an event that follows from this record alone.
    pub fn emit(&mut self, key: &str, at: Time, cause: Cause, body: EventBody) {
        let mut causes = Causes::default();
        if let Some(message) = &self.message {
            causes.push(message);
        }
        self.emit_with(key, at, cause, causes, body);
    }

    pub fn emit_with(&mut self, key: &str, at: Time, cause: Cause, causes: Causes, body: EventBody) {
        let kind = body.kind();
        let counted = (kind, key.to_owned(), cause.clone());
        let n = *self.counts.entry(counted).and_modify(|n| *n += 1).or_insert(0);
        self.events.push(Event {
            v: EVENT_VERSION,
            id: EventId::derive(&self.site, self.chain, kind, key, &cause, n),
            site: self.site.clone(),
            chain: self.chain,
            at,
            key: key.to_owned(),
            cause,
            n,
            place: Place {
                input: self.input,
                index: self.events.len() as u32,
            },
            causes,
            body,
        });
    }
}
