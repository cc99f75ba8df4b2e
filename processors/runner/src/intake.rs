//! From a record to the fold: decoding, quarantine, and the collectors' numbers that tell duplicates.
//!
//! The live runner and a replay take their input through here, so that both fold the same observations.

use std::collections::{BTreeMap, BTreeSet};

use watchfold_folds::StateMachine;
use watchfold_log::{LogError, LogReader, Record};
use watchfold_schemas::event::Place;
use watchfold_schemas::snapshot::CollectorPosition;
use watchfold_schemas::{Event, Observation, decode_observation};

/// The most collectors of one site that are told apart: far above any site, and bounded against a forged flood of
/// names. The one heard of longest ago is forgotten first.
pub const COLLECTORS_MAX: usize = 1_024;

/// Records per read in [`fold_all`].
const REPLAY_BATCH_RECORDS: usize = 256;

/// What a record turned out to be.
pub(crate) enum Taken {
    Observation(Box<Observation>),
    /// Its number was seen, or its incarnation is over.
    Duplicate,
    /// Why it cannot be folded.
    Quarantined(String),
}

/// How far each collector was read.
pub(crate) struct Intake {
    site: String,
    collectors: BTreeMap<String, CollectorPosition>,
    changed: BTreeSet<String>,
    pub(crate) evicted: u64,
}

impl Intake {
    pub(crate) fn new(site: &str, collectors: Vec<CollectorPosition>) -> Intake {
        let collectors = collectors
            .into_iter()
            .map(|entry| (entry.collector.clone(), entry))
            .collect();
        Intake {
            site: site.to_owned(),
            collectors,
            changed: BTreeSet::new(),
            evicted: 0,
        }
    }

    pub(crate) fn take(&mut self, record: &Record) -> Taken {
        let observation = match decode_observation(&record.payload) {
            Ok(observation) => observation,
            Err(error) => return Taken::Quarantined(error.to_string()),
        };
        let origin = &observation.origin;
        if origin.site != self.site {
            return Taken::Quarantined(format!("it names the site {:?}", origin.site));
        }
        if let Err(why) = observation.check_identity(&record.subject, &record.id.0) {
            return Taken::Quarantined(why);
        }
        if let Some(known) = self.collectors.get_mut(&origin.collector) {
            if (origin.incarnation, origin.number) <= (known.incarnation, known.number) {
                return Taken::Duplicate;
            }
            known.incarnation = origin.incarnation;
            known.number = origin.number;
            known.sequence = record.sequence;
        } else {
            let entry = CollectorPosition {
                collector: origin.collector.clone(),
                incarnation: origin.incarnation,
                number: origin.number,
                sequence: record.sequence,
            };
            self.collectors.insert(entry.collector.clone(), entry);
            self.evict();
        }
        if !self.changed.contains(&origin.collector) {
            self.changed.insert(origin.collector.clone());
        }
        Taken::Observation(Box::new(observation))
    }

    pub(crate) fn collectors(&self) -> impl Iterator<Item = &CollectorPosition> {
        self.collectors.values()
    }

    /// The entries changed since the last call; `None` for one that was forgotten.
    pub(crate) fn drain_changed(&mut self) -> Vec<(String, Option<CollectorPosition>)> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .map(|name| (name.clone(), self.collectors.get(&name).cloned()))
            .collect()
    }

    fn evict(&mut self) {
        if self.collectors.len() <= COLLECTORS_MAX {
            return;
        }
        let oldest = self
            .collectors
            .values()
            .min_by_key(|entry| (entry.sequence, &entry.collector));
        let Some(oldest) = oldest.map(|entry| entry.collector.clone()) else {
            return;
        };
        tracing::warn!(
            site = self.site,
            collector = oldest,
            limit = COLLECTORS_MAX,
            "forgot a collector's number"
        );
        self.collectors.remove(&oldest);
        self.changed.insert(oldest);
        self.evicted += 1;
    }
}

/// The events of the record at `sequence`, each with its place.
pub(crate) fn placed(sequence: u64, mut events: Vec<Event>) -> Vec<Event> {
    for (index, event) in (0_u32..).zip(&mut events) {
        event.place = Place {
            input: sequence,
            index,
        };
    }
    events
}

/// What [`fold_all`] made of a stream.
#[derive(Debug, Default, PartialEq)]
pub struct Folded {
    pub events: Vec<Event>,
    pub records: u64,
    pub quarantined: u64,
    pub duplicates: u64,
    pub lost_records: u64,
    /// The last sequence dealt with.
    pub last_sequence: u64,
}

/// Folds everything that is synced, without a store and without publishing: for replay and for tests.
pub async fn fold_all(
    reader: &mut dyn LogReader,
    site: &str,
    fold: &mut dyn StateMachine,
) -> Result<Folded, LogError> {
    let mut intake = Intake::new(site, Vec::new());
    let mut folded = Folded::default();
    loop {
        let batch = reader.try_next(REPLAY_BATCH_RECORDS).await?;
        if batch.records.is_empty() && batch.lost.is_none() {
            return Ok(folded);
        }
        if let Some(lost) = batch.lost {
            folded.lost_records += lost.to - lost.from + 1;
            folded.last_sequence = lost.to;
            let events = fold.apply_lost(lost.from, lost.to);
            folded.events.extend(placed(lost.to, events));
        }
        for record in batch.records {
            folded.last_sequence = record.sequence;
            match intake.take(&record) {
                Taken::Observation(observation) => {
                    folded.records += 1;
                    let events = fold.apply(record.sequence, &observation);
                    folded.events.extend(placed(record.sequence, events));
                }
                Taken::Duplicate => folded.duplicates += 1,
                Taken::Quarantined(_) => folded.quarantined += 1,
            }
        }
    }
}
