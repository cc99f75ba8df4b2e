//! From a stored observation to the fold: decoding, quarantine, and the collectors' numbers that tell duplicates, by the same
//! rules as the live runner's.

use std::collections::BTreeMap;

use watchfold_schemas::snapshot::CollectorPosition;
use watchfold_schemas::{Observation, decode_observation};

use crate::recording::StoredRecord;

/// The most collectors of one site that are told apart; the live runner's limit, so that both forget alike.
const COLLECTORS_MAX: usize = 1_024;

/// What a record turned out to be.
pub(crate) enum Taken {
    Observation(Box<Observation>),
    /// Its number was seen, or its incarnation is over.
    Duplicate,
    /// It cannot be decoded, names another site, or does not belong to its subject.
    Quarantined,
}

/// How far each collector of a site was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intake {
    site: String,
    collectors: BTreeMap<String, CollectorPosition>,
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
        }
    }

    pub(crate) fn take(&mut self, record: &StoredRecord) -> Taken {
        let sequence = record.sequence;
        let observation = match decode_observation(&record.payload) {
            Ok(observation) => observation,
            Err(error) => {
                tracing::warn!(site = self.site, sequence, %error, "a record cannot be folded");
                return Taken::Quarantined;
            }
        };
        let origin = &observation.origin;
        if origin.site != self.site {
            return Taken::Quarantined;
        }
        if let Err(why) = observation.check_identity(&record.subject, &record.id) {
            tracing::warn!(site = self.site, sequence, why, "a record cannot be folded");
            return Taken::Quarantined;
        }
        if let Some(known) = self.collectors.get_mut(&origin.collector) {
            if (origin.incarnation, origin.number) <= (known.incarnation, known.number) {
                return Taken::Duplicate;
            }
            (known.incarnation, known.number, known.sequence) = (origin.incarnation, origin.number, sequence);
        } else {
            let entry = CollectorPosition {
                collector: origin.collector.clone(),
                incarnation: origin.incarnation,
                number: origin.number,
                sequence,
            };
            self.collectors.insert(entry.collector.clone(), entry);
            self.forget_oldest();
        }
        Taken::Observation(Box::new(observation))
    }

    pub(crate) fn positions(&self) -> Vec<CollectorPosition> {
        self.collectors.values().cloned().collect()
    }

    /// Whether these positions are where it stands, by the collectors' numbers.
    pub(crate) fn stands_at(&self, collectors: &[CollectorPosition]) -> bool {
        collectors.len() == self.collectors.len()
            && collectors.iter().all(|other| {
                self.collectors.get(&other.collector).is_some_and(|known| {
                    (known.incarnation, known.number) == (other.incarnation, other.number)
                })
            })
    }

    /// Whether this record has the number that its collector's next one must have, or one of the next few where a collector's numbers
    /// run on through two streams.
    pub(crate) fn goes_on_with(&self, payload: &[u8], numbers: u64) -> bool {
        let Ok(Observation { origin, .. }) = decode_observation(payload) else {
            return false;
        };
        self.collectors.get(&origin.collector).is_some_and(|known| {
            let passed = origin.number.saturating_sub(known.number);
            known.incarnation == origin.incarnation && (1..=numbers).contains(&passed)
        })
    }

    fn forget_oldest(&mut self) {
        if self.collectors.len() <= COLLECTORS_MAX {
            return;
        }
        let oldest = self
            .collectors
            .values()
            .min_by_key(|entry| (entry.sequence, &entry.collector));
        if let Some(oldest) = oldest.map(|entry| entry.collector.clone()) {
            tracing::warn!(
                site = self.site,
                collector = oldest,
                limit = COLLECTORS_MAX,
                "forgot a collector's number"
            );
            self.collectors.remove(&oldest);
        }
    }
}
