//! The events that were derived when they were recorded, as far as they belong to the span that is looked at.

use std::collections::BTreeMap;

use watchfold_schemas::event::Place;
use watchfold_schemas::{Chain, Event, Stream, decode_event};

use crate::input::Step;

/// Follows the records of an input and lets through the recorded events of its span, each once.
///
/// An event belongs to the span when its input does; it stands after its input in every log. A tail that was published twice after
/// a crash is told by its places.
#[derive(Debug, Default)]
pub struct RecordedEvents {
    chains: BTreeMap<(String, Chain), Span>,
    /// Events that could not be decoded.
    pub unreadable: u64,
    /// Events published again.
    pub repeated: u64,
}

#[derive(Debug)]
struct Span {
    first_input: u64,
    last_input: u64,
    last_place: Option<Place>,
}

impl RecordedEvents {
    pub fn take(&mut self, step: &Step) -> Option<Event> {
        if let Step::Begins { sites, .. } = step {
            let is_among = |site: &String| sites.as_ref().is_none_or(|sites| sites.contains(site));
            self.chains.retain(|(site, _), _| !is_among(site));
        }
        let Step::Record {
            stream,
            record,
            site,
            lead_in,
        } = step
        else {
            return None;
        };
        let reader = match stream {
            Stream::Observations => Some(Chain::Site),
            Stream::Packets => Some(Chain::Packets),
            Stream::Events | Stream::Commands | Stream::Snapshots => None,
        };
        if let Some(chain) = reader {
            self.note_input(site, chain, record.sequence, *lead_in);
            return None;
        }
        let event = match decode_event(&record.payload) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(sequence = record.sequence, %error, "a recorded event cannot be read");
                self.unreadable += 1;
                return None;
            }
        };
        let span = self.chains.get_mut(&(event.site.clone(), event.chain))?;
        if !(span.first_input..=span.last_input).contains(&event.place.input) {
            return None;
        }
        if span.last_place.is_some_and(|last| event.place <= last) {
            self.repeated += 1;
            return None;
        }
        span.last_place = Some(event.place);
        Some(event)
    }

    fn note_input(&mut self, site: &str, chain: Chain, sequence: u64, lead_in: bool) {
        if lead_in {
            return;
        }
        let begins = Span {
            first_input: sequence,
            last_input: sequence,
            last_place: None,
        };
        let span = self.chains.entry((site.to_owned(), chain)).or_insert(begins);
        span.last_input = sequence;
    }
}
