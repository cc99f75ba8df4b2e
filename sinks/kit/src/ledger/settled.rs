//! The ids of settled requests, each until its request has expired. Pure.
//!
//! An event's id is derived from its cause, so a request that the chain derives again has the id that its receipt names.

use std::collections::{BTreeSet, HashMap};

use watchfold_schemas::observation::{DeliveryOutcome, Receipt};
use watchfold_schemas::{EventId, Span, Time};

/// Ids that are kept; four days of 45 messages a minute. Those that expire first go first, and their requests could be
/// sent again if they were also derived again.
pub(crate) const SETTLED_MAX: usize = 262_144;

/// How long the id of a receipt is kept whose request was not read; a day longer than the longest request lives.
const RECEIPT_LIVES: Span = Span::from_seconds(4 * 86_400);

#[derive(Debug, Default)]
pub(super) struct Settled {
    requests: HashMap<EventId, One>,
    by_end: BTreeSet<(Time, EventId)>,
}

#[derive(Debug)]
struct One {
    until: Time,
    /// The message that shows its incident.
    message: Option<String>,
}

/// The message that a receipt says shows its request alone.
pub(super) fn shown_by(receipt: &Receipt) -> Option<String> {
    let is_own = receipt.outcome == DeliveryOutcome::Delivered;
    receipt.message.clone().filter(|_| is_own)
}

impl Settled {
    pub(super) fn from_stored(stored: Vec<(EventId, Time)>) -> Settled {
        let mut settled = Settled::default();
        for (id, until) in stored {
            settled.insert(&id, until, None);
        }
        settled
    }

    pub(super) fn stored(&self) -> Vec<(EventId, Time)> {
        self.by_end
            .iter()
            .map(|(until, id)| (id.clone(), *until))
            .collect()
    }

    /// `None` for a request that is not settled, else the message that shows it, if one is known.
    pub(super) fn message(&self, id: &EventId) -> Option<Option<String>> {
        self.requests.get(id).map(|one| one.message.clone())
    }

    /// Keeps the ids that a receipt names. Returns whether the limit was reached.
    pub(super) fn receipt(&mut self, receipt: &Receipt) -> bool {
        let message = shown_by(receipt);
        let mut overflowed = false;
        for id in &receipt.requests {
            overflowed |= self.insert(id, receipt.at + RECEIPT_LIVES, message.clone());
        }
        overflowed
    }

    /// Keeps an id, until the later of what is known of it and `until`. Returns whether the limit was reached.
    pub(super) fn insert(&mut self, id: &EventId, until: Time, message: Option<String>) -> bool {
        let known = self.requests.remove(id);
        let mut one = One { until, message };
        if let Some(known) = known {
            self.by_end.remove(&(known.until, id.clone()));
            one.until = one.until.max(known.until);
            one.message = one.message.or(known.message);
        }
        self.by_end.insert((one.until, id.clone()));
        self.requests.insert(id.clone(), one);
        if self.requests.len() <= SETTLED_MAX {
            return false;
        }
        if let Some((_, first)) = self.by_end.pop_first() {
            self.requests.remove(&first);
        }
        true
    }

    pub(super) fn forget_before(&mut self, now: Time) {
        while self.by_end.first().is_some_and(|(until, _)| *until < now) {
            if let Some((_, id)) = self.by_end.pop_first() {
                self.requests.remove(&id);
            }
        }
    }
}
