//! Destinations that take nothing, as the log learns of them: one fault for each, ended when the destination takes
//! something again or is no longer configured.
//!
//! Only what is recorded is decided here. That a lasting fault is an incident, and who is notified, is up to the chain.

use std::time::Duration;

use tokio::time::Instant;
use watchfold_kit::KitError;
use watchfold_schemas::Time;
use watchfold_schemas::observation::{Body, Fault};

use super::{Courier, Done, FAILURES_TOLD, Lane};
use crate::backoff::backoff;
use crate::destination::{Destination, SinkContext};
use crate::state::{self, StateFile};

/// How long the end of faults may take to reach the log when a sink is no longer configured.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(5);

/// What the log is to learn of a destination.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word {
    subject: String,
    at: Time,
    reason: String,
    active: bool,
}

impl<D: Destination> Courier<D> {
    /// Records the faults that began and ended, unless they are recorded already or on their way.
    pub(super) fn report_faults(&mut self) {
        if self.report_after.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.renew_reasons();
        for word in self.faults_to_report() {
            if !self.reporting.insert(word.subject.clone()) {
                continue;
            }
            let publisher = self.context.publisher.clone();
            let body = Body::Fault(Fault {
                subject: word.subject.clone(),
                at: word.at,
                reason: word.reason.clone(),
                active: word.active,
            });
            self.work.push(Box::pin(async move {
                let result = publisher.publish(body).await;
                Done::Reported(word, result.map(drop))
            }));
        }
    }

    /// A recorded fault may have got another reason: a destination that was away may refuse for good later. The log learns
    /// of a fault once; the state file, and `doctor` by it, follow the reason.
    fn renew_reasons(&mut self) {
        let now = self.context.publisher.now();
        for (name, lane) in &self.lanes {
            let subject = Fault::destination(&self.context.sink, Some(name));
            let Some((_, reason)) = lane.reach.fault(now) else {
                continue;
            };
            if self
                .ledger
                .faults
                .get(&subject)
                .is_some_and(|known| *known != reason)
            {
                self.ledger.note_fault(subject, reason, true);
            }
        }
    }

    fn faults_to_report(&self) -> Vec<Word> {
        let now = self.context.publisher.now();
        let known = &self.ledger.faults;
        let mut words = Vec::new();
        let mut configured = Vec::new();
        for name in self.destination.lanes().into_keys() {
            let subject = Fault::destination(&self.context.sink, Some(&name));
            configured.push(subject.clone());
            let Some(lane) = self.lanes.get(&name) else {
                continue;
            };
            let is_known = known.contains_key(&subject);
            if let Some((at, reason)) = lane.reach.fault(now).filter(|_| !is_known) {
                words.push(Word {
                    subject,
                    at,
                    reason,
                    active: true,
                });
            } else if let Some(reason) = lane.reach.over().filter(|_| is_known) {
                words.push(over(subject, now, reason));
            }
        }
        let gone = known.keys().filter(|subject| !configured.contains(subject));
        words.extend(gone.map(|subject| over(subject.clone(), now, "it is not configured any more")));
        words
    }

    pub(super) fn finish_report(&mut self, word: Word, result: Result<(), KitError>) {
        self.reporting.remove(&word.subject);
        match result {
            Ok(()) | Err(KitError::Spooled) => {
                if word.active {
                    tracing::warn!(
                        sink = self.context.sink,
                        destination = word.subject,
                        reason = word.reason,
                        "a destination takes nothing"
                    );
                } else {
                    tracing::info!(
                        sink = self.context.sink,
                        destination = word.subject,
                        reason = word.reason,
                        "a destination that took nothing is well again"
                    );
                }
                self.ledger.note_fault(word.subject, word.reason, word.active);
            }
            Err(error) => {
                self.report_after = Some(Instant::now() + backoff(2));
                tracing::debug!(sink = self.context.sink, %error, "a fault of a destination could not be recorded yet");
            }
        }
    }

    /// What is wrong with the configured destinations, for health pages.
    pub(super) fn trouble(&self) -> Option<String> {
        let now = self.context.publisher.now();
        let troubles: Vec<String> = self
            .destination
            .lanes()
            .into_keys()
            .filter_map(|name| {
                let subject = Fault::destination(&self.context.sink, Some(&name));
                let recorded = self.ledger.faults.get(&subject);
                let why = match self.lanes.get(&name) {
                    Some(lane) if !lane.reach.is_unknown() => trouble_of(lane, now),
                    // Nothing was sent since the start: what the log knows still holds.
                    Some(_) | None => recorded.cloned(),
                };
                why.map(|why| format!("{name}: {why}"))
            })
            .collect();
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }

    /// The configuration changed. Blocked destinations are tried again; one with another address begins anew. A wait that
    /// the far side asked for remains.
    pub(super) fn unblock(&mut self) {
        let configured = self.destination.lanes();
        self.lanes
            .retain(|name, lane| lane.busy || configured.contains_key(name));
        for (name, lane) in &mut self.lanes {
            if lane.blocked.take().is_some() {
                lane.failures = 0;
            }
            if self.configured.get(name) != configured.get(name) {
                lane.reach.renew();
                lane.failures = 0;
            }
        }
        self.configured = configured;
        self.dirty = true;
    }
}

fn trouble_of(lane: &Lane, now: Time) -> Option<String> {
    match (&lane.blocked, &lane.last_error) {
        (Some(blocked), _) => Some(blocked.clone()),
        (None, Some(error)) if lane.failures >= FAILURES_TOLD => Some(error.clone()),
        _ => lane.reach.fault(now).map(|(_, reason)| reason),
    }
}

fn over(subject: String, at: Time, reason: &str) -> Word {
    Word {
        subject,
        at,
        reason: reason.to_owned(),
        active: false,
    }
}

/// Ends the faults of a sink that is no longer configured, as far as its state file knows of them.
pub async fn withdraw(context: &SinkContext) {
    let Ok(Some(state)) = state::read_state::<StateFile>(&context.state_path) else {
        return;
    };
    let is_own = state.site == context.site && state.sink == context.sink;
    if !is_own || state.faults.is_empty() {
        return;
    }
    let ending = async {
        for subject in state.faults.keys() {
            let fault = |at| Fault {
                subject: subject.clone(),
                at,
                reason: "it is not configured any more".to_owned(),
                active: false,
            };
            let publishing = context
                .publisher
                .publish_with(|stamp| Body::Fault(fault(stamp.now())));
            publishing.await?;
        }
        Ok::<(), KitError>(())
    };
    match tokio::time::timeout(WITHDRAW_TIMEOUT, ending).await {
        Ok(Ok(())) => {
            let emptied = StateFile {
                faults: Default::default(),
                ..state
            };
            if let Err(error) = state::save_state(&context.state_path, &emptied) {
                tracing::warn!(sink = context.sink, %error, "failed to write a sink's state");
            }
        }
        _ => tracing::warn!(
            sink = context.sink,
            "the log did not learn that a sink is no longer configured"
        ),
    }
}
