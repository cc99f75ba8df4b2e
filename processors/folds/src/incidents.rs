//! Incidents from their opening to their closing, and the jitter that never became one.

mod attacks;
mod floods;
mod parity;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use watchfold_schemas::alert::Finding;
use watchfold_schemas::event::{
    Causes, CloseReason, EventBody, Incident, IncidentClass, JitterRecorded, Severity,
};
use watchfold_schemas::observation::{Act, Fault, OperatorAct, Parity};
use watchfold_schemas::why::ProbeReason;
use watchfold_schemas::{Chain, SiteConfig, Span, Time};

use floods::{Course, Joined, Recent};

use crate::fold::{Ctx, EndedOutage, Fact, Fold, FoldState, Moment, TimerKind};
use crate::table::Table;
use crate::timers::TimerClock;

/// An incident opened longer than this after it had lasted long enough learnt of it late.
pub const LATE_AFTER: Span = Span::from_seconds(60);

/// The fold.
pub struct Incidents;

timers! { Incidents:
    /// A flapping target had no jitter for a whole window.
    Calm = "calm",
    /// An outage has lasted long enough to be critical.
    Escalate = "escalate",
    /// No attack joined a flood for a whole window.
    Quiet = "quiet",
    /// The next reminder of an open incident is due.
    Remind = "remind",
    /// Nothing was reported of an attack for so long that the report of its end must be lost.
    Unheard = "unheard",
}

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
    attacks_refused: u64,
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
    stored! { open, jitters, differing, recent, courses, joined, subjects }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("attacks_refused", self.attacks_refused)]
    }
}

impl Fold for Incidents {
    const NAME: &'static str = "incidents";
    const VERSION: u32 = 1;
    type State = IncidentsState;
    type Timer = Timer;

    fn before(state: &mut IncidentsState, ctx: &mut Ctx<'_>) {
        for fact in std::mem::take(&mut ctx.facts) {
            state.take(fact, ctx);
        }
    }

    fn timer(state: &mut IncidentsState, timer: Timer, key: &str, ctx: &mut Ctx<'_>) {
        match timer {
            Timer::Remind => state.remind(key, ctx),
            Timer::Escalate => state.escalate(key, ctx),
            Timer::Calm => state.calm(key, ctx),
            Timer::Unheard => state.unheard(key, ctx),
            Timer::Quiet => state.quiet(key, ctx),
        }
    }

    fn collector_silent(state: &mut IncidentsState, collector: &str, heard_at: Time, ctx: &mut Ctx<'_>) {
        let since = Moment {
            at: heard_at,
            steady: ctx.moment.steady,
        };
        let detail = "nothing is heard of it; what it watches keeps its last state".to_owned();
        let (class, subject) = (IncidentClass::CollectorSilent, collector_subject(collector));
        state.open(class, &subject, since, Opening::of(detail), ctx);
    }

    fn collector_back(state: &mut IncidentsState, collector: &str, ctx: &mut Ctx<'_>) {
        let (class, subject) = (IncidentClass::CollectorSilent, collector_subject(collector));
        state.close(class, &subject, CloseReason::Recovered, Span::ZERO, ctx);
    }

    fn collector_forgotten(state: &mut IncidentsState, collector: &str, ctx: &mut Ctx<'_>) {
        let (class, subject) = (IncidentClass::CollectorSilent, collector_subject(collector));
        state.close(class, &subject, CloseReason::Removed, Span::ZERO, ctx);
        state.attacks_forgotten(collector, ctx);
    }

    fn finding(state: &mut IncidentsState, finding: &Finding, ctx: &mut Ctx<'_>) {
        state.attack(finding.stage, &finding.attack, Causes::default(), ctx);
    }

    fn operator(state: &mut IncidentsState, act: &OperatorAct, ctx: &mut Ctx<'_>) {
        state.operator(act, ctx);
    }

    fn activated(state: &mut IncidentsState, previous: &SiteConfig, ctx: &mut Ctx<'_>) {
        state.activated(previous, ctx);
    }

    fn parity(state: &mut IncidentsState, parity: &Parity, ctx: &mut Ctx<'_>) {
        state.parity(parity, ctx);
    }

    fn lost(state: &mut IncidentsState, records: u64, ctx: &mut Ctx<'_>) {
        state.lost(records, ctx);
    }

    /// Time goes on, so the chain is past what it lost.
    fn tick(state: &mut IncidentsState, _previous: Option<Time>, ctx: &mut Ctx<'_>) {
        let (class, subject) = (IncidentClass::MeasurementFault, chain_subject(Chain::Site));
        state.close(class, &subject, CloseReason::Recovered, Span::ZERO, ctx);
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
            Fact::OutageEnded { subject, outage } if outage.confirmed => {
                let reason = CloseReason::Recovered;
                self.close(IncidentClass::Outage, &subject, reason, outage.unmeasured, ctx);
            }
            Fact::OutageEnded { subject, outage } => self.jitter(&subject, &outage, ctx),
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
        set_if(ctx, Timer::Remind, key, ctx.config.network.remind_every_ms);
        if class == IncidentClass::Outage {
            set_if(ctx, Timer::Escalate, key, ctx.config.network.escalate_after_ms);
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
        for timer in Timer::ALL.iter().copied() {
            ctx.cancel_timer(timer, key);
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
            ctx.set_timer(Timer::Calm, &key, clock, deadline);
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
        set_if(ctx, Timer::Remind, key, every);
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
        for timer in [Timer::Remind, Timer::Escalate] {
            ctx.cancel_timer(timer, &key);
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
            ctx.cancel_timer(Timer::Remind, &key);
            if self
                .open
                .get(&key)
                .is_some_and(|open| open.incident.acknowledged_at.is_none())
            {
                set_if(ctx, Timer::Remind, &key, ctx.config.network.remind_every_ms);
            }
        }
    }
}

/// The class and subject of an incident about faults of a collector, or of a destination.
fn faulty(of: &str) -> (IncidentClass, String) {
    match Fault::is_of_destination(of) {
        true => (IncidentClass::DeliveryFault, of.to_owned()),
        false => (IncidentClass::MeasurementFault, collector_subject(of)),
    }
}

/// What an incident about a collector is about.
fn collector_subject(collector: &str) -> String {
    format!("collector:{collector}")
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
fn set_if(ctx: &mut Ctx<'_>, timer: Timer, key: &str, after_ms: u64) {
    if after_ms > 0 {
        let deadline: Time = ctx.now.steady + Span::from_millis(after_ms as i64);
        ctx.set_timer(timer, key, TimerClock::Site, deadline);
    }
}
