//! Reads events from a position, each once: the one library by which every reader of events drops repetitions.
//!
//! A processor that crashed publishes the tail of its outbox again. An event is dropped when its id is among the last
//! [`DEDUP_WINDOW`] read, or when its place is not after what has left that window. Records that cannot be decoded are
//! quarantined: counted, named in a warning, and passed over. It does not judge what it reads.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use serde::Deserialize;
use watchfold_log::{Batch, LogError, LogReader, LostRange, MessageLog, Position, Record, Start};
use watchfold_schemas::event::Place;
use watchfold_schemas::{Chain, Event, EventId, Stream, decode_event};

/// How many ids are remembered. Publishers keep fewer events than this unacknowledged, so that a repetition is always
/// closer than the window is long.
pub const DEDUP_WINDOW: usize = 65_536;

/// How many (site, chain) pairs have a floor below which a place is old; more sites than a hub serves.
const FLOORS_MAX: usize = 65_536;

/// What a reader dropped since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderCounts {
    /// Dropped: their id was in the window.
    pub repeated: u64,
    /// Dropped: their place was older than the window.
    pub old_places: u64,
    /// Passed over: they could not be decoded.
    pub quarantined: u64,
    /// Gone from the log before they were read.
    pub lost: u64,
}

/// Events in order, and what was missed before them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventBatch {
    /// Records that the log no longer had.
    pub lost: Option<LostRange>,
    /// (sequence, event).
    pub events: Vec<(u64, Event)>,
    /// Everything that matches up to here has been read.
    pub scanned: u64,
    /// The last synced sequence of the stream.
    pub last_sequence: u64,
    /// Nothing more was synced when this was read.
    pub drained: bool,
}

/// Reads `WF_EVT`.
pub struct EventReader {
    log: Arc<dyn MessageLog>,
    reader: Box<dyn LogReader>,
    log_id: String,
    /// Records before this one only fill the window.
    from: u64,
    last: Option<(u64, String)>,
    scanned: u64,
    window: Window,
    counts: ReaderCounts,
}

impl EventReader {
    /// Reads what matches the NATS subject filter from `start` on. Before a start in the middle of the stream the
    /// window is filled from the [`DEDUP_WINDOW`] sequences in front of it, while the first batch is read.
    pub async fn open(log: Arc<dyn MessageLog>, filter: &str, start: Start) -> Result<EventReader, LogError> {
        let info = log.info(Stream::Events).await?;
        let (from, start) = match start {
            Start::Sequence(sequence) => {
                let primed = sequence
                    .saturating_sub(DEDUP_WINDOW as u64)
                    .max(info.first_sequence);
                (sequence, Start::Sequence(primed.min(sequence)))
            }
            other => (0, other),
        };
        let reader = log.reader(Stream::Events, filter, start).await?;
        Ok(EventReader {
            log,
            reader,
            log_id: info.log_id,
            from,
            last: None,
            scanned: from.saturating_sub(1),
            window: Window::default(),
            counts: ReaderCounts::default(),
        })
    }

    /// Reads on after `position`; the caller has checked that it agrees with the log.
    pub async fn open_after(
        log: Arc<dyn MessageLog>,
        filter: &str,
        position: &Position,
    ) -> Result<EventReader, LogError> {
        let mut reader = EventReader::open(log, filter, Start::Sequence(position.sequence + 1)).await?;
        reader.last = Some((position.sequence, position.id.clone()));
        Ok(reader)
    }

    /// The next events, at most `max`, waiting until there is one or a loss to tell. Dropping the future loses nothing.
    pub async fn next(&mut self, max: usize) -> Result<EventBatch, LogError> {
        loop {
            let batch = self.reader.next(max).await?;
            let out = self.take(batch);
            if !out.events.is_empty() || out.lost.is_some() {
                return Ok(out);
            }
        }
    }

    /// Like [`EventReader::next`] but does not wait; `drained` tells whether more may follow at once.
    pub async fn try_next(&mut self, max: usize) -> Result<EventBatch, LogError> {
        let batch = self.reader.try_next(max).await?;
        Ok(self.take(batch))
    }

    /// The last record read, for [`EventReader::open_after`]; `None` before the first.
    pub fn position(&self) -> Option<Position> {
        let (sequence, id) = self.last.as_ref()?;
        Some(Position {
            log_id: self.log_id.clone(),
            sequence: *sequence,
            id: id.clone(),
        })
    }

    /// Like [`EventReader::position`], but at the last record known not to match either, so that a reader of rare events
    /// need not search the log again.
    pub async fn checkpoint(&mut self) -> Option<Position> {
        let at = Position {
            log_id: self.log_id.clone(),
            sequence: self.scanned,
            id: String::new(),
        };
        match self.log.get(Stream::Events, self.scanned).await {
            Ok(Some(record)) => Some(Position {
                id: record.id.0,
                ..at
            }),
            _ => self.position(),
        }
    }

    pub fn counts(&self) -> ReaderCounts {
        self.counts
    }

    fn take(&mut self, batch: Batch) -> EventBatch {
        // A loss may be told before what stands after it.
        let drained = batch.records.is_empty() && batch.lost.is_none();
        let lost = batch.lost.filter(|lost| lost.to >= self.from);
        if let Some(lost) = lost {
            self.counts.lost += lost.to.saturating_sub(lost.from) + 1;
            tracing::warn!(
                from = lost.from,
                to = lost.to,
                "events are gone from the log before they were read"
            );
        }
        let mut events = Vec::with_capacity(batch.records.len());
        for record in batch.records {
            self.scanned = self.scanned.max(record.sequence);
            if record.sequence < self.from {
                self.remember(&record);
                continue;
            }
            self.last = Some((record.sequence, record.id.0.clone()));
            events.extend(self.decode(&record).map(|event| (record.sequence, event)));
        }
        if drained {
            self.scanned = self.scanned.max(batch.last_sequence);
        }
        EventBatch {
            lost,
            events,
            scanned: self.scanned,
            last_sequence: batch.last_sequence,
            drained,
        }
    }

    /// Fills the window with a record from before the start.
    fn remember(&mut self, record: &Record) {
        if let Ok(head) = rmp_serde::from_slice::<Head>(&record.payload) {
            self.window.insert(&head.id.0, &head.site, head.chain, head.place);
        }
    }

    fn decode(&mut self, record: &Record) -> Option<Event> {
        let event = match decode_event(&record.payload) {
            Ok(event) => event,
            Err(error) => {
                self.counts.quarantined += 1;
                tracing::warn!(sequence = record.sequence, %error, "an event is quarantined and passed over");
                return None;
            }
        };
        match self
            .window
            .insert(&event.id.0, &event.site, event.chain, event.place)
        {
            Novelty::New => Some(event),
            Novelty::Repeated => {
                self.counts.repeated += 1;
                None
            }
            Novelty::OldPlace => {
                self.counts.old_places += 1;
                tracing::warn!(sequence = record.sequence, id = %event.id, "an event older than the window is dropped");
                None
            }
        }
    }
}

/// The part of an event that the window needs.
#[derive(Deserialize)]
struct Head {
    id: EventId,
    site: String,
    chain: Chain,
    place: Place,
}

enum Novelty {
    New,
    Repeated,
    OldPlace,
}

/// The last ids, and for each chain the place behind which everything has left the window.
#[derive(Default)]
struct Window {
    ids: HashSet<String>,
    order: VecDeque<(String, Arc<str>, Chain, Place)>,
    floors: BTreeMap<(Arc<str>, Chain), Place>,
    sites: HashSet<Arc<str>>,
    floors_full_told: bool,
}

impl Window {
    fn insert(&mut self, id: &str, site: &str, chain: Chain, place: Place) -> Novelty {
        if self.ids.contains(id) {
            return Novelty::Repeated;
        }
        let site = self.site(site);
        if self
            .floors
            .get(&(site.clone(), chain))
            .is_some_and(|floor| place <= *floor)
        {
            return Novelty::OldPlace;
        }
        self.ids.insert(id.to_owned());
        self.order.push_back((id.to_owned(), site, chain, place));
        if self.order.len() > DEDUP_WINDOW {
            self.evict();
        }
        Novelty::New
    }

    fn evict(&mut self) {
        let Some((id, site, chain, place)) = self.order.pop_front() else {
            return;
        };
        self.ids.remove(&id);
        if self.floors.len() >= FLOORS_MAX && !self.floors.contains_key(&(site.clone(), chain)) {
            if !self.floors_full_told {
                tracing::warn!(
                    limit = FLOORS_MAX,
                    "too many chains to remember how far each was read"
                );
                self.floors_full_told = true;
            }
            return;
        }
        let floor = self.floors.entry((site, chain)).or_default();
        *floor = (*floor).max(place);
    }

    fn site(&mut self, site: &str) -> Arc<str> {
        if let Some(known) = self.sites.get(site) {
            return known.clone();
        }
        let made: Arc<str> = site.into();
        if self.sites.len() < FLOORS_MAX {
            self.sites.insert(made.clone());
        }
        made
    }
}
