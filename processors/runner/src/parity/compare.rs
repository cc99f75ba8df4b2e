//! Two orders of events, the recorded and the derived, and the first place at which they part. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use watchfold_schemas::event::Place;
use watchfold_schemas::{Event, decode_event};

/// The longest text about one side, in characters: it stands in an incident that people read.
const TEXT_CHARS_MAX: usize = 240;

/// How much of what both sides share comes before what differs, in characters.
const SHARED_CHARS: usize = 24;

/// The recorded events of a stretch, and how far the derived ones followed them.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    recorded: BTreeMap<Place, Bytes>,
    bytes: usize,
    pub(super) equal: u64,
}

/// Where the two part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parting {
    pub(super) place: Place,
    pub(super) recorded: Option<String>,
    pub(super) derived: Option<String>,
}

impl Comparison {
    /// Notes a recorded event; one that was published again is there already. It is copied: a payload may be a piece of
    /// a whole block that was read, which would stay in memory with it.
    pub(super) fn record(&mut self, place: Place, payload: &[u8]) {
        let bytes = &mut self.bytes;
        self.recorded.entry(place).or_insert_with(|| {
            *bytes += payload.len();
            Bytes::copy_from_slice(payload)
        });
    }

    /// Nothing after this place is compared.
    pub(super) fn cut(&mut self, last: Place) {
        while let Some(event) = self.recorded.last_entry()
            && *event.key() > last
        {
            self.bytes -= event.remove().len();
        }
    }

    /// What is held in memory.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the next derived event.
    pub(super) fn derive(&mut self, derived: &Event) -> Result<(), Parting> {
        match self.recorded.first_key_value() {
            Some((place, _)) if *place < derived.place => return self.finish(),
            Some((place, payload)) if *place == derived.place => {
                let recorded = decode_event(payload);
                if recorded.as_ref().is_ok_and(|recorded| recorded == derived) {
                    self.bytes -= self.recorded.pop_first().map_or(0, |(_, payload)| payload.len());
                    self.equal += 1;
                    return Ok(());
                }
                let recorded = match recorded {
                    Ok(recorded) => text(&recorded),
                    Err(error) => error.to_string(),
                };
                let (recorded, derived_text) = where_they_differ(&recorded, &text(derived));
                return Err(Parting {
                    place: derived.place,
                    recorded: Some(recorded),
                    derived: Some(derived_text),
                });
            }
            Some(_) | None => {}
        }
        Err(Parting {
            place: derived.place,
            recorded: None,
            derived: Some(shorten(&text(derived))),
        })
    }

    /// Nothing more is derived.
    pub(super) fn finish(&self) -> Result<(), Parting> {
        let Some((place, payload)) = self.recorded.first_key_value() else {
            return Ok(());
        };
        let recorded = match decode_event(payload) {
            Ok(recorded) => text(&recorded),
            Err(error) => error.to_string(),
        };
        Err(Parting {
            place: *place,
            recorded: Some(shorten(&recorded)),
            derived: None,
        })
    }
}

/// Two states after the same record, by key.
pub(super) fn compare_entries(
    place: Place,
    recorded: BTreeMap<Vec<u8>, Vec<u8>>,
    derived: BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<(), Parting> {
    let mut keys = recorded.keys().chain(derived.keys());
    let Some(key) = keys.find(|key| recorded.get(*key) != derived.get(*key)) else {
        return Ok(());
    };
    let text = |side: Option<&Vec<u8>>| {
        let value = side?;
        let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
        Some(shorten(&format!("the state {key} after it, {value:?}")))
    };
    Err(Parting {
        place,
        recorded: text(recorded.get(key)),
        derived: text(derived.get(key)),
    })
}

/// An event for people: its head, and then everything.
fn text(event: &Event) -> String {
    let Event {
        at,
        key,
        cause,
        n,
        body,
        ..
    } = event;
    format!("{} of {key} at {at}: {body:?}, by {cause}, {n}", body.kind())
}

/// Both texts from shortly before the first character that differs, behind what they begin with.
fn where_they_differ(left: &str, right: &str) -> (String, String) {
    let shared = left
        .chars()
        .zip(right.chars())
        .take_while(|(a, b)| a == b)
        .count();
    if shared < TEXT_CHARS_MAX / 2 {
        return (shorten(left), shorten(right));
    }
    let cut = |text: &str| {
        let head: String = text.chars().take(TEXT_CHARS_MAX / 3).collect();
        let rest: String = text.chars().skip(shared - SHARED_CHARS).collect();
        shorten(&format!("{head}… {rest}"))
    };
    (cut(left), cut(right))
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= TEXT_CHARS_MAX {
        return text.to_owned();
    }
    let kept: String = text.chars().take(TEXT_CHARS_MAX).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_shown_where_they_differ() {
        let same = "x".repeat(900);
        let (left, right) = where_they_differ(&format!("{same} recorded"), &format!("{same} derived"));
        assert!(
            left.ends_with("recorded") && right.ends_with("derived"),
            "{left} {right}"
        );
        assert!(left.chars().count() <= TEXT_CHARS_MAX);
        assert_eq!(where_they_differ("a", "b"), ("a".to_owned(), "b".to_owned()));
        assert!(shorten(&"ü".repeat(500)).chars().count() <= TEXT_CHARS_MAX + 1);
    }
}
