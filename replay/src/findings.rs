//! What the packet chain finds, made again under other rules, on its way to the site chain: each at the place of the recorded one with its
//! id, or before the first observation that was stored after its packets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use watchfold_folds::finding_of;
use watchfold_schemas::alert::Finding;
use watchfold_schemas::subjects::kind_of_observation;
use watchfold_schemas::{Event, Observation};

use crate::ReplayError;
use crate::input::{Inputs, Selection, Step};

/// How the kind of these records is spelt.
const KIND: &str = "finding";

/// The most findings of one replay under other rules that were recorded: some hundred MB of their ids.
pub const FINDINGS_MAX: usize = 1_000_000;

/// The most that wait for an observation to come after them: a recording of packets alone has none.
pub(crate) const WAITING_MAX: usize = 16_384;

/// The ids of the findings that stand in these inputs. Reads them once, without their packets.
pub fn recorded_findings(paths: &[PathBuf], selection: &Selection) -> Result<BTreeSet<String>, ReplayError> {
    let selection = Selection {
        with_events: false,
        without_packets: true,
        from: None,
        ..selection.clone()
    };
    let mut inputs = Inputs::open(paths, &selection)?;
    let mut found = BTreeSet::new();
    loop {
        match inputs.next_step() {
            Ok(Some(Step::Record { record, .. })) => {
                if kind_of_observation(&record.subject) == Some(KIND) {
                    found.insert(record.id);
                    if found.len() > FINDINGS_MAX {
                        return Err(ReplayError::TooManyFindings { limit: FINDINGS_MAX });
                    }
                }
            }
            Ok(Some(_)) => {}
            // Packets alone have none.
            Ok(None) | Err(ReplayError::EmptySpan { .. }) => return Ok(found),
            Err(error) => return Err(error),
        }
    }
}

/// Those of one site that were made and not handed on yet.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    waiting: VecDeque<Observation>,
    /// By the id that their recorded twins have.
    of_recorded: BTreeMap<String, Observation>,
}

impl Findings {
    /// Takes what follows from packets; `is_lead_in` gives only what was recorded.
    pub(crate) fn note(
        &mut self,
        events: &[Event],
        began_ms: u64,
        recorded: &BTreeSet<String>,
        is_lead_in: bool,
    ) {
        for event in events {
            let Some(observation) = finding_of(event, began_ms) else {
                continue;
            };
            if recorded.contains(&event.id.0) {
                self.of_recorded.insert(event.id.0.clone(), observation);
            } else if !is_lead_in {
                self.waiting.push_back(observation);
            }
        }
    }

    /// What goes before the observation that comes next.
    pub(crate) fn take_waiting(&mut self) -> VecDeque<Observation> {
        std::mem::take(&mut self.waiting)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// What stands in place of a recorded one.
    pub(crate) fn take_twin(&mut self, finding: &Finding) -> Option<Observation> {
        self.of_recorded.remove(&finding.event.0)
    }
}
