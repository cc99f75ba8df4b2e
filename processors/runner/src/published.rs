//! What a chain published: the last place, found in the log of events and held against the chain's input, and the ids
//! of the last events.
//!
//! A refold is silent about it. It is not enough to read the last event: when the input lost its tail, sequences are
//! given out again, and an event of the lost part would silence the new one; and of one append that was cut short a
//! transport that sends ahead may have stored the end and not the beginning.

use std::collections::{HashSet, VecDeque};

use watchfold_log::{LogError, MessageLog, Record, Start, StreamInfo};
use watchfold_schemas::event::Place;
use watchfold_schemas::origin::{Cause, Origin};
use watchfold_schemas::{Chain, CodecError, Event, Stream, decode_event, subjects};

use crate::error::RunnerError;
use crate::outbox::PUBLISH_EVENTS_MAX;

/// How far back from the end of the events a contradiction is looked for before the last one is believed, in
/// sequences of the stream.
const TAIL_EVENTS: u64 = 4_096;

/// How far back the chain's last events are looked for, in sequences of the stream, which other chains share. The
/// second when the first holds too few of them.
const RECENT_SEQUENCES: [u64; 2] = [TAIL_EVENTS, 65_536];

/// Events whose ids are kept: those of some appends that were cut short one after the other.
const RECENT_EVENTS_MAX: usize = 8 * PUBLISH_EVENTS_MAX;

/// With fewer the search goes farther back: those of the last append, and those that tell where it began.
const RECENT_EVENTS_MIN: usize = 2 * PUBLISH_EVENTS_MAX;

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

/// Which events are in the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    /// The greatest place; nothing after it was published.
    pub(crate) until: Option<Place>,
    /// Everything up to here was published; between here and `until`, what is among `recent`.
    complete_until: Option<Place>,
    recent: HashSet<String>,
}

impl Published {
    pub(crate) fn holds(&self, place: Place, id: impl FnOnce() -> String) -> bool {
        Some(place) <= self.until && (Some(place) <= self.complete_until || self.recent.contains(&id()))
    }

    /// With what a state takes for published, where the log of events no longer holds anything.
    pub(crate) fn or_claimed(mut self, claimed: Option<Place>) -> Published {
        if self.until < claimed {
            (self.until, self.complete_until) = (claimed, claimed);
        }
        self
    }

    /// Other software gives other ids to what it derives at the same places.
    pub(crate) fn by_place_alone(mut self) -> Published {
        self.complete_until = self.until;
        self.recent.clear();
        self
    }
}

/// What was published of the input as it is now.
pub(crate) async fn last_published(
    log: &dyn MessageLog,
    site: &str,
    chain: Chain,
    input: &Input<'_>,
    events: &StreamInfo,
) -> Result<Published, RunnerError> {
    let filter = subjects::chain_events_filter(site, chain);
    let Some(last) = log.last(Stream::Events, &filter).await? else {
        return Ok(Published::default());
    };
    let recent = Recent::read(log, &filter, last.sequence, events.first_sequence).await?;
    let until = last_place(log, (site, chain), input, &last, &recent).await?;
    Ok(Published {
        until,
        complete_until: recent.complete_until(),
        recent: recent.ids(),
    })
}

async fn last_place(
    log: &dyn MessageLog,
    (site, chain): (&str, Chain),
    input: &Input<'_>,
    last: &Record,
    recent: &Recent,
) -> Result<Option<Place>, RunnerError> {
    if let Some(event) = event_of(last)?
        && input.judge(log, &event).await? == Verdict::Agrees
    {
        return Ok(Some(recent.greatest_after(event.place, log, input).await?));
    }
    let filter = subjects::chain_events_filter(site, chain);
    let tail = last.sequence.saturating_sub(TAIL_EVENTS).max(1);
    let seen = search(log, &filter, Start::Sequence(tail), input).await?;
    if !seen.contradicted && !input.suspicious {
        return Ok(seen.last.max(seen.agreed));
    }
    tracing::warn!(
        site,
        chain = chain.token(),
        "published events disagree with their input; searching all of them"
    );
    Ok(search(log, &filter, Start::First, input).await?.agreed)
}

/// The chain's last events, in the order of the log.
#[derive(Default)]
struct Recent {
    /// The place of one that cannot be read is the least.
    events: VecDeque<(Place, String, u64)>,
    /// There are none before.
    whole: bool,
}

impl Recent {
    async fn read(log: &dyn MessageLog, filter: &str, last: u64, first: u64) -> Result<Recent, RunnerError> {
        let mut recent = Recent::default();
        for sequences in RECENT_SEQUENCES {
            let from = last.saturating_sub(sequences - 1).max(1);
            recent = Recent::read_from(log, filter, from).await?;
            recent.whole &= from.max(first) == 1;
            if recent.events.len() >= RECENT_EVENTS_MIN || from <= first {
                break;
            }
        }
        Ok(recent)
    }

    async fn read_from(log: &dyn MessageLog, filter: &str, from: u64) -> Result<Recent, RunnerError> {
        let mut recent = Recent {
            events: VecDeque::new(),
            whole: true,
        };
        let mut reader = log.reader(Stream::Events, filter, Start::Sequence(from)).await?;
        loop {
            let batch = reader.try_next(READ_EVENTS).await?;
            if batch.records.is_empty() && batch.lost.is_none() {
                return Ok(recent);
            }
            for record in batch.records {
                let place = decode_event(&record.payload).map_or(Place::default(), |event| event.place);
                recent.events.push_back((place, record.id.0, record.sequence));
                if recent.events.len() > RECENT_EVENTS_MAX {
                    recent.events.pop_front();
                    recent.whole = false;
                }
            }
        }
    }

    /// Appends follow one another, so what stands before these events has no greater place than the first of them,
    /// unless their append was turned around; with one append's worth of them, not even then.
    fn complete_until(&self) -> Option<Place> {
        if self.whole {
            return None;
        }
        let first = (self.events.len() / 2).clamp(1, PUBLISH_EVENTS_MAX);
        self.events.iter().take(first).map(|(place, ..)| *place).max()
    }

    /// The greatest place that agrees with the input, when the last event in the log has not the greatest.
    async fn greatest_after(
        &self,
        last: Place,
        log: &dyn MessageLog,
        input: &Input<'_>,
    ) -> Result<Place, RunnerError> {
        let mut greatest = last;
        for (place, _, sequence) in &self.events {
            if *place <= greatest {
                continue;
            }
            let Some(record) = log.get(Stream::Events, *sequence).await? else {
                continue;
            };
            if let Some(event) = event_of(&record)?
                && input.judge(log, &event).await? == Verdict::Agrees
            {
                greatest = event.place;
            }
        }
        Ok(greatest)
    }

    fn ids(self) -> HashSet<String> {
        self.events.into_iter().map(|(_, id, _)| id).collect()
    }
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
            // A packet's record may have been told with a later one of its collector.
            Cause::Packet {
                collector,
                incarnation,
                ..
            } => log.get(self.stream, sequence).await?.and_then(|record| {
                let origin: Origin = record.id.0.parse().ok()?;
                match origin.collector == *collector {
                    true if origin.incarnation == *incarnation => Some(true),
                    true if origin.incarnation > *incarnation => None,
                    _ => Some(false),
                }
            }),
            Cause::Timer { .. } => None,
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
