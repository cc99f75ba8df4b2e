//! Incidents from their opening to their closing, and the jitter that never became one.

mod attacks;
mod floods;
mod parity;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use watchfold_schemas::event::{
    Causes, CloseReason, EventBody, Incident, IncidentClass, JitterRecorded, Severity,
};
use watchfold_schemas::observation::{Act, Fault, OperatorAct};
use watchfold_schemas::why::ProbeReason;
use watchfold_schemas::{Chain, SiteConfig, Span, Time};

use floods::{Course, Joined, Recent};

use crate::fold::{Ctx, EndedOutage, Fact, Fold, FoldId, FoldState, Moment, Step};
use crate::table::{Change, Table};
use crate::timers::TimerClock;

const REMIND: &str = "remind";
const ESCALATE: &str = "escalate";
const CALM: &str = "calm";
const UNHEARD: &str = "unheard";
const QUIET: &str = "quiet";

/// An incident opened longer than this after it had lasted long enough learnt of it late.
pub const LATE_AFTER: Span = Span::from_seconds(60);

/// The fold.
pub struct Incidents;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenIncident {
    incident: Incident,
    since: Moment,
    causes: Causes,
}

/// The latest jitters of one target, oldest first; at most one more than flapping needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Jitters {
    times: VecDeque<Moment>,
}

#[derive(Debug)]
pub struct IncidentsState {
    /// By `class subject`: one of a class and subject at a time; an attack by its id.
    open: Table<OpenIncident>,
    jitters: Table<Jitters>,
    /// By subject, the latest hour that differed while its incident is open.
    differing: Table<Time>,
    /// By category and severity.
    recent: Table<Recent>,
    /// Floods by their keys in `open`.
    courses: Table<Course>,
    /// By the attack's id.
    joined: Table<Joined>,
    /// By flood and subject.
    subjects: Table<bool>,
    /// Attacks beyond [`attacks::OPEN_ATTACKS_MAX`] or [`floods::JOINED_MAX`]; not stored.
    pub attacks_refused: u64,
}

impl Default for IncidentsState {
    fn default() -> IncidentsState {
        IncidentsState {
            open: Table::new("incidents/open/"),
            jitters: Table::new("incidents/jitter/"),
            differing: Table::new("incidents/differing/"),
            recent: Table::new("incidents/recent/"),
            courses: Table::new("incidents/flood/"),
            joined: Table::new("incidents/joined/"),
            subjects: Table::new("incidents/flooding/"),
            attacks_refused: 0,
        }
    }
}

impl FoldState for IncidentsState {
    fn drain_dirty(&mut self, out: &mut Vec<Change>) {
        self.open.drain_dirty(out);
        self.jitters.drain_dirty(out);
        self.differing.drain_dirty(out);
        self.recent.drain_dirty(out);
        self.courses.drain_dirty(out);
        self.joined.drain_dirty(out);
        self.subjects.drain_dirty(out);
    }

    fn store_all(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        self.open.store_all(out);
        self.jitters.store_all(out);
        self.differing.store_all(out);
        self.recent.store_all(out);
        self.courses.store_all(out);
        self.joined.store_all(out);
        self.subjects.store_all(out);
    }

    fn load(&mut self, _version: u32, key: &[u8], bytes: &[u8]) -> Result<bool, String> {
        Ok(self.open.load(key, bytes)?
            || self.jitters.load(key, bytes)?
            || self.differing.load(key, bytes)?
            || self.recent.load(key, bytes)?
            || self.courses.load(key, bytes)?
            || self.joined.load(key, bytes)?
            || self.subjects.load(key, bytes)?)
    }
}

impl Fold for Incidents {
    const ID: FoldId = FoldId::Incidents;
    const VERSION: u32 = 1;
    type State = IncidentsState;

    fn apply(&self, state: &mut IncidentsState, step: &Step<'_>, ctx: &mut Ctx<'_>) {
        for fact in std::mem::take(&mut ctx.facts) {
            state.take(fact, ctx);
        }
        match step {
            Step::Timer {
                fold: FoldId::Incidents,
                name: REMIND,
                key,
            } => state.remind(key, ctx),
            Step::Timer {
                fold: FoldId::Incidents,
                name: ESCALATE,
                key,
            } => state.escalate(key, ctx),
            Step::Timer {
                fold: FoldId::Incidents,
                name: CALM,
                key,
            } => state.calm(key, ctx),
            Step::Timer {
                fold: FoldId::Incidents,
                name: UNHEARD,
                key,
            } => state.unheard(key, ctx),
            Step::Timer {
                fold: FoldId::Incidents,
                name: QUIET,
                key,
            } => state.quiet(key, ctx),
            Step::CollectorSilent { collector, heard_at } => {
                let since = Moment {
                    at: *heard_at,
                    steady: ctx.moment.steady,
                };
                let detail = "nothing is heard of it; what it watches keeps its last state".to_owned();
                let class = IncidentClass::CollectorSilent;
                state.open(
                    class,
                    &format!("collector:{collector}"),
                    since,
                    Opening::of(detail),
                    ctx,
                );
            }
            Step::CollectorBack { collector } => {
                let subject = format!("collector:{collector}");
                state.close(
                    IncidentClass::CollectorSilent,
                    &subject,
                    CloseReason::Recovered,
                    Span::ZERO,
                    ctx,
                );
            }
            Step::CollectorForgotten { collector } => {
                let subject = format!("collector:{collector}");
                let reason = CloseReason::Removed;
                state.close(IncidentClass::CollectorSilent, &subject, reason, Span::ZERO, ctx);
                state.attacks_forgotten(collector, ctx);
            }
            Step::Finding(finding) => {
                state.attack(finding.stage, &finding.attack, Causes::default(), ctx);
            }
            Step::Operator(act) => state.operator(act, ctx),
            Step::Activated { previous } => state.activated(previous, ctx),
            Step::Parity(parity) => state.parity(parity, ctx),
            Step::Lost { records } => state.lost(*records, ctx),
            // Time goes on, so the chain is past what it lost.
            Step::Tick { .. } => {
                let class = IncidentClass::MeasurementFault;
                let (subject, reason) = (chain_subject(Chain::Site), CloseReason::Recovered);
                state.close(class, &subject, reason, Span::ZERO, ctx);
            }
            Step::Row(_) | Step::Timer { .. } | Step::Jump { .. } | Step::Fault(_) | Step::Rules(_) => {}
        }
    }
}

/// What is known when an incident opens, besides its class, subject and start.
#[derive(Default)]
struct Opening {
    detail: Option<String>,
    reasons: Vec<ProbeReason>,
    suppressed: Vec<String>,
    causes: Causes,
}

impl Opening {
    fn of(detail: String) -> Opening {
        Opening {
            detail: Some(detail),
            ..Opening::default()
        }
    }
}

impl IncidentsState {
    fn take(&mut self, fact: Fact, ctx: &mut Ctx<'_>) {
        match fact {
            Fact::OutageConfirmed {
                subject,
                since,
                suppressed,
                detail,
                reasons,
                causes,
            } => {
                let opening = Opening {
                    detail,
                    reasons,
                    suppressed,
                    causes,
                };
                self.open(IncidentClass::Outage, &subject, since, opening, ctx);
            }
            Fact::OutageEnded {
                subject,
                outage,
                suppressed: _,
            } if outage.confirmed => {
                let reason = CloseReason::Recovered;
                self.close(IncidentClass::Outage, &subject, reason, outage.unmeasured, ctx);
            }
            Fact::OutageEnded {
                subject,
                outage,
                suppressed: _,
            } => self.jitter(&subject, &outage, ctx),
            Fact::FaultConfirmed {
                collector,
                since,
                detail,
            } => {
                let (class, subject) = faulty(&collector);
                self.open(class, &subject, since, Opening::of(detail), ctx);
            }
            Fact::FaultEnded { collector } => {
                let (class, subject) = faulty(&collector);
                self.close(class, &subject, CloseReason::Recovered, Span::ZERO, ctx);
            }
            Fact::SubjectRemoved { subject } => {
                for class in [IncidentClass::Outage, IncidentClass::Flapping] {
                    self.close(class, &subject, CloseReason::Removed, Span::ZERO, ctx);
                }
                self.jitters.remove(&subject);
            }
            Fact::Attack {
                stage,
                attack,
                causes,
            } => self.attack(stage, &attack, causes, ctx),
        }
    }

    fn open(
        &mut self,
        class: IncidentClass,
        subject: &str,
        since: Moment,
        opening: Opening,
        ctx: &mut Ctx<'_>,
    ) {
        let id = Incident::derive_id(&ctx.config.site, class, subject, since.at);
        let incident = Incident {
            suppressed: opening.suppressed,
            detail: opening.detail,
            reasons: opening.reasons,
            ..fresh(class, id, subject, since, ctx)
        };
        self.begin(&open_key(class, subject), incident, since, opening.causes, ctx);
    }

    fn begin(&mut self, key: &str, incident: Incident, since: Moment, causes: Causes, ctx: &mut Ctx<'_>) {
        if self.open.get(key).is_some() {
            return;
        }
        let mut causes = causes;
        if causes.total == 0
            && let Some(message) = ctx.message()
        {
            causes.push(message);
        }
        let class = incident.class;
        ctx.emit_with(
            &incident.id,
            incident.opened_at,
            causes.clone(),
            EventBody::IncidentOpened(incident.clone()),
        );
        self.open.insert(
            key,
            OpenIncident {
                incident,
                since,
                causes,
            },
        );
        set_if(ctx, REMIND, key, ctx.config.network.remind_every_ms);
        if class == IncidentClass::Outage {
            set_if(ctx, ESCALATE, key, ctx.config.network.escalate_after_ms);
        }
    }

    fn close(
        &mut self,
        class: IncidentClass,
        subject: &str,
        reason: CloseReason,
        unmeasured: Span,
        ctx: &mut Ctx<'_>,
    ) {
        self.end(&open_key(class, subject), reason, ctx.moment, unmeasured, ctx);
    }

    fn end(&mut self, key: &str, reason: CloseReason, until: Moment, unmeasured: Span, ctx: &mut Ctx<'_>) {
        let Some(open) = self.open.remove(key) else {
            return;
        };
        for timer in [REMIND, ESCALATE, CALM, UNHEARD, QUIET] {
            ctx.cancel_timer(FoldId::Incidents, timer, key);
        }
        let mut incident = open.incident;
        let wall = until.at.since(incident.started_at);
        // A clock that was set back makes the wall's span short or negative; what was measured still counts.
        let steady = if on_collector_clock(incident.class) && ctx.collector.is_some() {
            until.steady.since(open.since.steady)
        } else {
            wall
        };
        incident.ended_at = Some(until.at);
        incident.duration_ms = Some(wall.max(steady).max(Span::ZERO).as_millis() as u64);
        incident.unmeasured_ms = unmeasured.max(Span::ZERO).as_millis() as u64;
        incident.close_reason = Some(reason);
        let mut causes = open.causes;
        if let Some(message) = ctx.message() {
            causes.push(message);
        }
        ctx.emit_with(
            &incident.id.clone(),
            ctx.moment.at,
            causes,
            EventBody::IncidentClosed(incident),
        );
    }

    fn jitter(&mut self, subject: &str, outage: &EndedOutage, ctx: &mut Ctx<'_>) {
        let duration_ms = outage.active.max(Span::ZERO).as_millis() as u64;
        let body = JitterRecorded {
            subject: subject.to_owned(),
            since: outage.since.at,
            until: ctx.moment.at,
            duration_ms,
        };
        ctx.emit(subject, EventBody::JitterRecorded(body));
        let network = &ctx.config.network;
        let window = Span::from_millis(network.flapping_window_ms as i64);
        let needed = network.flapping_count as usize + 1;
        let times = &mut self.jitters.entry_or_default(subject).times;
        times.push_back(ctx.moment);
        while times.len() > needed
            || times
                .front()
                .is_some_and(|first| ctx.moment.steady.since(first.steady) > window)
        {
            times.pop_front();
        }
        let key = open_key(IncidentClass::Flapping, subject);
        if times.len() >= needed && self.open.get(&key).is_none() {
            let since = times.front().copied().unwrap_or(ctx.moment);
            let minutes = network.flapping_window_ms / 60_000;
            let detail = format!(
                "dropped out {} times within {minutes} min, each shorter than an incident",
                times.len()
            );
            self.open(IncidentClass::Flapping, subject, since, Opening::of(detail), ctx);
        }
        if self.open.get(&key).is_some()
            && let Some(collector) = ctx.collector
        {
            let clock = TimerClock::Collector(collector.to_owned());
            let deadline = ctx.moment.steady + window;
            ctx.set_timer(FoldId::Incidents, CALM, &key, clock, deadline);
        }
    }

    /// A whole window passed without jitter.
    fn calm(&mut self, key: &str, ctx: &mut Ctx<'_>) {
        let Some(subject) = self.open.get(key).map(|open| open.incident.subject.clone()) else {
            return;
        };
        self.jitters.remove(&subject);
        self.close(
            IncidentClass::Flapping,
            &subject,
            CloseReason::Recovered,
            Span::ZERO,
            ctx,
        );
    }

    fn remind(&mut self, key: &str, ctx: &mut Ctx<'_>) {
        let every = ctx.config.network.remind_every_ms;
        let Some(open) = self.open.get_mut(key) else {
            return;
        };
        if open.incident.acknowledged_at.is_some() || every == 0 {
            return;
        }
        open.incident.reminders += 1;
        let (incident, causes) = (open.incident.clone(), open.causes.clone());
        ctx.emit_with(
            &incident.id.clone(),
            ctx.moment.at,
            causes,
            EventBody::IncidentReminded(incident),
        );
        set_if(ctx, REMIND, key, every);
    }

    fn escalate(&mut self, key: &str, ctx: &mut Ctx<'_>) {
        let Some(open) = self.open.get_mut(key) else {
            return;
        };
        if open.incident.acknowledged_at.is_some() || open.incident.severity == Severity::Critical {
            return;
        }
        open.incident.severity = Severity::Critical;
        let (incident, causes) = (open.incident.clone(), open.causes.clone());
        ctx.emit_with(
            &incident.id.clone(),
            ctx.moment.at,
            causes,
            EventBody::IncidentEscalated(incident),
        );
    }

    /// It lasts from the last tick before what was lost to the first one after it.
    fn lost(&mut self, records: u64, ctx: &mut Ctx<'_>) {
        let detail = format!(
            "{records} records were gone from the log before they were judged, and what they held is unknown: keep \
             more of the log, or find out why judging fell so far behind"
        );
        let (class, subject) = (IncidentClass::MeasurementFault, chain_subject(Chain::Site));
        self.open(class, &subject, ctx.moment, Opening::of(detail), ctx);
    }

    fn operator(&mut self, act: &OperatorAct, ctx: &mut Ctx<'_>) {
        let Act::Acknowledge { incident: id } = &act.act else {
            return;
        };
        let Some(key) = self
            .open
            .iter()
            .find(|(_, open)| open.incident.id == *id)
            .map(|(key, _)| key.clone())
        else {
            return;
        };
        let Some(open) = self.open.get_mut(&key) else {
            return;
        };
        if open.incident.acknowledged_at.is_some() {
            return;
        }
        open.incident.acknowledged_at = Some(act.at);
        open.incident.acknowledged_by = Some(act.who.clone());
        let incident = open.incident.clone();
        for timer in [REMIND, ESCALATE] {
            ctx.cancel_timer(FoldId::Incidents, timer, &key);
        }
        ctx.emit(&incident.id.clone(), EventBody::IncidentAcknowledged(incident));
    }

    /// Reminders follow the new configuration from now on.
    fn activated(&mut self, previous: &SiteConfig, ctx: &mut Ctx<'_>) {
        let network = &ctx.config.network;
        if previous.network.remind_every_ms == network.remind_every_ms {
            return;
        }
        for key in self.open.keys() {
            ctx.cancel_timer(FoldId::Incidents, REMIND, &key);
            if self
                .open
                .get(&key)
                .is_some_and(|open| open.incident.acknowledged_at.is_none())
            {
                set_if(ctx, REMIND, &key, ctx.config.network.remind_every_ms);
            }
        }
    }
}

/// The class and subject of an incident about faults of a collector, or of a destination.
fn faulty(of: &str) -> (IncidentClass, String) {
    match Fault::is_of_destination(of) {
        true => (IncidentClass::DeliveryFault, of.to_owned()),
        false => (IncidentClass::MeasurementFault, format!("collector:{of}")),
    }
}

/// What an incident of a chain itself is about.
fn chain_subject(chain: Chain) -> String {
    format!("chain:{}", chain.token())
}

/// An incident that opens at this step, as far as its class says.
fn fresh(class: IncidentClass, id: String, subject: &str, since: Moment, ctx: &Ctx<'_>) -> Incident {
    let opened_at = ctx.moment.at;
    Incident {
        id,
        class,
        subject: subject.to_owned(),
        severity: severity(class),
        started_at: since.at,
        opened_at,
        ended_at: None,
        duration_ms: None,
        unmeasured_ms: 0,
        late: ctx.now.at.since(opened_at) > LATE_AFTER,
        acknowledged_by: None,
        acknowledged_at: None,
        reminders: 0,
        suppressed: Vec::new(),
        close_reason: None,
        detail: None,
        reasons: Vec::new(),
        attack: None,
        flood: None,
    }
}

fn open_key(class: IncidentClass, subject: &str) -> String {
    format!("{} {subject}", class.name())
}

fn severity(class: IncidentClass) -> Severity {
    match class {
        IncidentClass::Outage
        | IncidentClass::CollectorSilent
        | IncidentClass::Attack
        | IncidentClass::DeliveryFault => Severity::High,
        IncidentClass::Flapping | IncidentClass::MeasurementFault | IncidentClass::Parity => Severity::Medium,
    }
}

fn on_collector_clock(class: IncidentClass) -> bool {
    !matches!(
        class,
        IncidentClass::CollectorSilent
            | IncidentClass::Parity
            | IncidentClass::Attack
            | IncidentClass::DeliveryFault
    )
}

/// Sets a timer on the site's clock, unless its span is 0 and it is switched off.
fn set_if(ctx: &mut Ctx<'_>, name: &str, key: &str, after_ms: u64) {
    if after_ms > 0 {
        let deadline: Time = ctx.now.steady + Span::from_millis(after_ms as i64);
        ctx.set_timer(FoldId::Incidents, name, key, TimerClock::Site, deadline);
    }
}
