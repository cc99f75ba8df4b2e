//! Words for sites: verdicts, and that something is wrong with the key or not any more, by the publisher of each site.
//!
//! It decides neither what is said nor when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use watchfold_kit::{KitError, Publisher};
use watchfold_schemas::Body;
use watchfold_schemas::alert::Verdict;
use watchfold_schemas::observation::Fault;

use crate::deliver::{LookupContext, load_memory, save_memory};
use crate::subject::Subject;

/// Sites that one process answers; as many as a process knows.
pub(crate) const SITES_MAX: usize = 10_000;

/// How long the end of a fault may take to reach the log when look-ups are switched off.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// What goes to a site.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    Verdict(Subject, Box<Verdict>),
    Fault { active: bool, reason: String },
}

/// What became of it.
pub(crate) struct Told {
    pub site: String,
    pub word: Word,
    pub result: Result<(), KitError>,
}

pub(crate) type Slot = Arc<OnceCell<Arc<Publisher>>>;

/// The publisher of each site, opened when it is first needed and kept for as long as look-ups run.
#[derive(Clone, Default)]
pub(crate) struct Slots(Arc<Mutex<BTreeMap<String, Slot>>>);

impl Slots {
    /// `None` when there are too many.
    pub fn of(&self, site: &str) -> Option<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !slots.contains_key(site) && slots.len() >= SITES_MAX {
            return None;
        }
        Some(slots.entry(site.to_owned()).or_default().clone())
    }
}

impl Word {
    /// What it is about; none is a fault.
    pub fn subject(&self) -> Option<Subject> {
        match self {
            Word::Verdict(subject, _) => Some(subject.clone()),
            Word::Fault { .. } => None,
        }
    }
}

/// That a fault is over.
pub(crate) fn over() -> Word {
    Word::Fault {
        active: false,
        reason: "VirusTotal answers again".to_owned(),
    }
}

/// Opens the site's publisher if need be, and waits until the log has the word.
pub(crate) async fn say(context: LookupContext, slot: Slot, site: String, word: Word) -> Told {
    let publisher = slot.get_or_try_init(|| (context.publishers)(site.clone())).await;
    let result = match publisher {
        Ok(publisher) => publish(publisher, &word).await,
        Err(error) => Err(error),
    };
    Told { site, word, result }
}

async fn publish(publisher: &Publisher, word: &Word) -> Result<(), KitError> {
    let acknowledged = match word {
        Word::Verdict(_, verdict) => publisher.publish(Body::Verdict(verdict.clone())).await,
        Word::Fault { active, reason } => {
            let fault = |at| Fault {
                subject: String::new(),
                at,
                reason: reason.clone(),
                active: *active,
            };
            publisher
                .publish_with(|stamp| Body::Fault(fault(stamp.now())))
                .await
        }
    };
    acknowledged.map(drop)
}

/// Tells the sites that know of a fault that it is over, because nothing is asked any more.
pub(crate) async fn end_faults(context: &LookupContext, slots: &Slots, reason: &str) {
    let mut memory = load_memory(context).await;
    if memory.faulted.is_empty() {
        return;
    }
    for site in memory.faulted.clone() {
        let word = Word::Fault {
            active: false,
            reason: reason.to_owned(),
        };
        let Some(slot) = slots.of(&site) else { return };
        let telling = say(context.clone(), slot, site, word);
        match tokio::time::timeout(END_TIMEOUT, telling).await {
            Ok(told) if told.result.is_ok() => drop(memory.faulted.remove(&told.site)),
            _ => tracing::warn!("that VirusTotal is not asked any more did not reach the log"),
        }
    }
    save_memory(context, &memory, true).await;
}
