//! Which requests are undelivered: a fold of the requests in `WF_EVT` and of this sink's receipts in `WF_OBS`. Pure.
//!
//! A receipt always wins, by the id of its request and whatever the order: a request that is derived and published again,
//! days after its receipt or in another log, is settled already. Ids are kept until their requests have expired.

mod settled;

use std::collections::{BTreeMap, HashMap, VecDeque};

use watchfold_schemas::event::{Event, EventBody, Notice};
use watchfold_schemas::observation::Receipt;
use watchfold_schemas::{EventId, Time};

use settled::Settled;

use crate::destination::Edit;
use crate::plan::{PendingRequest, incident_of};
use crate::state::StateFile;

/// Undelivered requests held at a time. When it is reached the sink reads no further: the rest waits in the log.
pub(crate) const PENDING_MAX: usize = 1_024;

/// Messages of open incidents that can be edited; more than a site has open incidents. The oldest go first.
pub(crate) const MESSAGES_MAX: usize = 4_096;

/// Edits that wait; each is one closed incident. The oldest go first.
pub(crate) const EDITS_MAX: usize = 256;

/// Destinations whose faults are kept; more than any sink has.
const FAULTS_MAX: usize = 64;

/// What became of a request on being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Pending,
    AlreadySettled,
    TooOld,
    NoRequest,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub pending: BTreeMap<u64, PendingRequest>,
    sequences: HashMap<EventId, u64>,
    settled: Settled,
    /// Receipts that are not durable yet, by ticket; each entry is one act of delivery, in the order to write.
    pub due: BTreeMap<u64, Vec<Receipt>>,
    next_ticket: u64,
    /// (incident, message), oldest first.
    messages: VecDeque<(String, String)>,
    pub edits: VecDeque<Edit>,
    /// Destinations that take nothing as far as the log knows, with the reason.
    pub faults: BTreeMap<String, String>,
    /// Requests that expired before this may have lost their receipts to retention, or their ids were forgotten.
    pub receipts_from: Option<Time>,
}

impl Ledger {
    pub fn from_state(state: StateFile) -> Ledger {
        let mut ledger = Ledger {
            messages: state.messages.into(),
            edits: state.edits.into(),
            faults: state.faults,
            settled: Settled::from_stored(state.settled),
            receipts_from: state.receipts_from,
            ..Ledger::default()
        };
        for receipts in state.due {
            for receipt in &receipts {
                ledger.settled.receipt(receipt);
            }
            ledger.owe(receipts);
        }
        for waiting in state.pending {
            ledger.sequences.insert(waiting.id.clone(), waiting.sequence);
            ledger.pending.insert(waiting.sequence, waiting);
        }
        ledger
    }

    pub fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_MAX
    }

    pub fn messages(&self) -> impl Iterator<Item = &(String, String)> {
        self.messages.iter()
    }

    /// A request that was read from the log.
    pub fn request(&mut self, sequence: u64, event: Event) -> Taken {
        let EventBody::NotificationRequested(request) = event.body else {
            return Taken::NoRequest;
        };
        if let Some(message) = self.settled.message(&event.id) {
            self.note_told(&request.notice, message);
            return Taken::AlreadySettled;
        }
        if self.sequences.contains_key(&event.id) {
            return Taken::AlreadySettled;
        }
        if self.receipts_from.is_some_and(|from| request.expires_at < from) {
            return Taken::TooOld;
        }
        self.sequences.insert(event.id.clone(), sequence);
        let waiting = PendingRequest {
            sequence,
            id: event.id,
            request: *request,
            attempts: 0,
            last_error: None,
        };
        self.pending.insert(sequence, waiting);
        Taken::Pending
    }

    /// A receipt of this sink that was read from the log. Returns whether a limit was reached.
    pub fn receipt(&mut self, receipt: Receipt) -> bool {
        self.due.retain(|_, owed| {
            owed.retain(|due| due.requests != receipt.requests || due.outcome != receipt.outcome);
            !owed.is_empty()
        });
        let overflowed = self.settled.receipt(&receipt);
        for id in &receipt.requests {
            let Some(waiting) = self.sequences.get(id).copied().and_then(|at| self.remove(at)) else {
                continue;
            };
            self.note_told(&waiting.request.notice, settled::shown_by(&receipt));
        }
        overflowed
    }

    /// Everything in both streams has been read at `now`: forgets the ids of requests that have expired, and whatever
    /// expired before is not asked for again.
    pub fn caught_up(&mut self, now: Time) {
        self.settled.forget_before(now);
        self.receipts_from = self.receipts_from.max(Some(now));
    }

    pub fn settled(&self) -> Vec<(EventId, Time)> {
        self.settled.stored()
    }

    /// Takes a request out of what is undelivered for good. Returns it, and whether a limit was reached.
    pub fn settle(&mut self, sequence: u64) -> (Option<PendingRequest>, bool) {
        let waiting = self.remove(sequence);
        let overflowed = waiting
            .as_ref()
            .is_some_and(|waiting| self.settled.insert(&waiting.id, waiting.request.expires_at, None));
        (waiting, overflowed)
    }

    fn remove(&mut self, sequence: u64) -> Option<PendingRequest> {
        let waiting = self.pending.remove(&sequence)?;
        self.sequences.remove(&waiting.id);
        Some(waiting)
    }

    /// Notes receipts to write and gives the ticket under which they are owed.
    pub fn owe(&mut self, receipts: Vec<Receipt>) -> u64 {
        self.next_ticket += 1;
        self.due.insert(self.next_ticket, receipts);
        self.next_ticket
    }

    /// The log holds that a destination takes nothing, or does again.
    pub fn note_fault(&mut self, subject: String, reason: String, active: bool) {
        if !active {
            self.faults.remove(&subject);
        } else if self.faults.len() < FAULTS_MAX || self.faults.contains_key(&subject) {
            self.faults.insert(subject, reason);
        }
    }

    /// A message that shows an incident exists, or its incident is over.
    pub fn note_told(&mut self, notice: &Notice, message: Option<String>) {
        let Some(incident) = incident_of(notice) else {
            return;
        };
        match (notice, message) {
            (Notice::IncidentClosed { .. }, _) => self.forget_message(incident),
            (_, Some(message)) if self.message(incident).is_none() => {
                self.messages.push_back((incident.to_owned(), message));
                if self.messages.len() > MESSAGES_MAX
                    && let Some((incident, _)) = self.messages.pop_front()
                {
                    tracing::warn!(
                        incident,
                        limit = MESSAGES_MAX,
                        "too many open incidents; one is not edited any more"
                    );
                }
            }
            _ => {}
        }
    }

    pub fn message(&self, incident: &str) -> Option<String> {
        self.messages
            .iter()
            .find(|(known, _)| known == incident)
            .map(|(_, message)| message.clone())
    }

    pub fn forget_message(&mut self, incident: &str) {
        self.messages.retain(|(known, _)| known != incident);
    }

    /// Everything up to here is settled, given that requests were read up to `scanned`.
    pub fn settled_to(&self, scanned: u64) -> u64 {
        self.pending
            .keys()
            .next()
            .map_or(scanned, |first| first.saturating_sub(1))
    }
}
