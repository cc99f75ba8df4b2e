//! One outage of one target: when it began, how long its clock stood still, and when it has lasted long enough.

use serde::{Deserialize, Serialize};
use watchfold_schemas::event::Causes;
use watchfold_schemas::origin::MessageId;
use watchfold_schemas::why::ProbeReason;
use watchfold_schemas::{Span, Time};

use super::{LivenessState, Timer};
use crate::fold::{Ctx, EndedOutage, Fact, Moment};
use crate::timers::TimerClock;
use watchfold_schemas::event::SubjectState;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    pub since: Moment,
    /// What caused it happened after this: the last answered probe, less one timeout, because the probes of one round
    /// are in the air together.
    pub cause_after: Moment,
    pub confirmed: bool,
    pub detail: Option<String>,
    /// Why probes got an unexpected answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<ProbeReason>,
    /// What the other probes said, where there are reasons.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rest: String,
    pub unmeasured: Span,
    pub causes: Causes,
    last_cause: Option<MessageId>,
    /// How long its clock stood still, and since when it does.
    paused: Span,
    paused_since: Option<Moment>,
    /// It lasted long enough and waits for results of its ancestors, until then at most.
    waiting_until: Option<Time>,
}

impl Outage {
    pub fn new(since: Moment, cause_after: Moment) -> Outage {
        Outage {
            since,
            cause_after,
            confirmed: false,
            detail: None,
            reasons: Vec::new(),
            rest: String::new(),
            unmeasured: Span::ZERO,
            causes: Causes::default(),
            last_cause: None,
            paused: Span::ZERO,
            paused_since: None,
            waiting_until: None,
        }
    }

    pub fn blame_message(&mut self, message: &MessageId) {
        if self.last_cause.as_ref() != Some(message) {
            self.causes.push(message);
            self.last_cause = Some(message.clone());
        }
    }

    /// Its clock stands still from now on.
    pub fn pause(&mut self, name: &str, now: Moment, ctx: &mut Ctx<'_>) {
        if self.paused_since.is_none() {
            self.paused_since = Some(now);
            self.waiting_until = None;
            ctx.cancel_timer(Timer::OutageDue, name);
        }
    }

    /// Its clock runs, and its deadline stands.
    pub fn resume(&mut self, name: &str, collector: &str, now: Moment, ctx: &mut Ctx<'_>) {
        if let Some(since) = self.paused_since.take() {
            self.paused = self.paused + now.steady.since(since.steady).max(Span::ZERO);
        }
        if !self.confirmed {
            let min_incident = Span::from_millis(ctx.config.network.min_incident_ms as i64);
            let deadline = self.since.steady + min_incident + self.paused;
            let clock = TimerClock::Collector(collector.to_owned());
            ctx.set_timer(Timer::OutageDue, name, clock, deadline);
        }
    }

    pub fn end(self, now: Moment) -> EndedOutage {
        let paused = match self.paused_since {
            Some(since) => self.paused + now.steady.since(since.steady).max(Span::ZERO),
            None => self.paused,
        };
        EndedOutage {
            since: self.since,
            confirmed: self.confirmed,
            active: now.steady.since(self.since.steady) - paused,
            unmeasured: self.unmeasured,
        }
    }
}

impl LivenessState {
    /// The outage has lasted long enough; it is an incident once every ancestor is known to be well.
    pub(super) fn outage_due(&mut self, name: &str, ctx: &mut Ctx<'_>) {
        let ancestors_known = self.ancestors_known(name);
        let bound = self.ancestor_bound(name, ctx);
        let Some(subject) = self.subjects.get_mut(name) else {
            return;
        };
        if subject.state != SubjectState::Down {
            return;
        }
        let collector = subject.collector.clone();
        let Some(outage) = &mut subject.outage else { return };
        let bound_reached = outage
            .waiting_until
            .is_some_and(|until| until <= ctx.moment.steady);
        if ancestors_known || bound_reached {
            self.confirm(name, ctx);
        } else if outage.waiting_until.is_none() {
            let until = ctx.moment.steady + bound;
            outage.waiting_until = Some(until);
            ctx.set_timer(Timer::OutageDue, name, TimerClock::Collector(collector), until);
        }
    }

    /// A result of `ancestor` arrived: outages that only waited for it need not wait longer.
    pub(super) fn children_waiting_for(&mut self, ancestor: &str, ctx: &mut Ctx<'_>) {
        for index in 0..self.graph.descendants(ancestor).len() {
            let child = &self.graph.descendants(ancestor)[index];
            let waits = self.subjects.get(child).is_some_and(|subject| {
                subject.state == SubjectState::Down
                    && subject
                        .outage
                        .as_ref()
                        .is_some_and(|outage| !outage.confirmed && outage.waiting_until.is_some())
            });
            if waits && self.ancestors_known(child) {
                let child = child.clone();
                ctx.cancel_timer(Timer::OutageDue, &child);
                self.confirm(&child, ctx);
            }
        }
    }

    fn confirm(&mut self, name: &str, ctx: &mut Ctx<'_>) {
        let suppressed = self.suppressed_by(name);
        let Some(outage) = self
            .subjects
            .get_mut(name)
            .and_then(|subject| subject.outage.as_mut())
        else {
            return;
        };
        outage.confirmed = true;
        outage.waiting_until = None;
        ctx.facts.push(Fact::OutageConfirmed {
            subject: name.to_owned(),
            since: outage.since,
            suppressed,
            detail: match outage.reasons.is_empty() {
                true => outage.detail.clone(),
                false => Some(outage.rest.clone()).filter(|rest| !rest.is_empty()),
            },
            reasons: outage.reasons.clone(),
            causes: outage.causes.clone(),
        });
    }

    /// Every ancestor gave a result after this outage began, and none of them is in doubt.
    fn ancestors_known(&self, name: &str) -> bool {
        let Some(child) = self.subjects.get(name) else {
            return true;
        };
        let Some(since) = child.outage.as_ref().map(|outage| outage.since) else {
            return true;
        };
        self.graph.ancestors(name).iter().all(|ancestor| {
            self.subjects.get(ancestor).is_some_and(|subject| {
                let same_clock = subject.collector == child.collector;
                let after = !since.not_before(subject.last_result, same_clock);
                after && subject.state != SubjectState::Suspect
            })
        })
    }

    /// The longest that a result of an ancestor may take: its interval, its timeout and one retry.
    fn ancestor_bound(&self, name: &str, ctx: &Ctx<'_>) -> Span {
        let network = &ctx.config.network;
        let longest = self
            .graph
            .ancestors(name)
            .iter()
            .filter_map(|ancestor| self.target(ctx.config, ancestor))
            .map(|target| target.interval_ms + 2 * target.timeout_ms + network.retry_delay_ms)
            .max();
        Span::from_millis(longest.unwrap_or_default() as i64)
    }
}
