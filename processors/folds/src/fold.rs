//! What a fold is, what it is given, and how it emits.

use watchfold_schemas::alert::{Attack, AttackStage, Finding};
use watchfold_schemas::event::{Causes, Event, EventBody};
use watchfold_schemas::observation::{Fault, OperatorAct, Parity};
use watchfold_schemas::origin::{Cause, MessageId};
use watchfold_schemas::rules::RulesActivation;
use watchfold_schemas::why::ProbeReason;
use watchfold_schemas::{SiteConfig, Span, Time};

use crate::clocks::Clocks;
use crate::emit::Emitter;
use crate::rows::Row;
use crate::table::Change;
use crate::timers::{FoldTimers, TimerClock, TimerId, Timers};

pub use crate::moment::Moment;

/// One judgement over the steps of a site, with state of its own. It is infallible and pure, and implements only the
/// steps that concern it.
///
/// For each step the fold runs `before`, the method of the step, and `after`. It sees in `ctx` what the folds before it
/// emitted in the same step.
pub trait Fold {
    /// Its name in versions, in stored keys (each begins with it and a slash) and in causes. It never changes.
    const NAME: &'static str;
    /// Raised when the meaning of its state changes; [`FoldState::load`] then gets entries of the version before.
    const VERSION: u32;
    type State: FoldState;
    /// The kinds of its timers, or [`NoTimer`].
    type Timer: TimerKind;

    fn before(_state: &mut Self::State, _ctx: &mut Ctx<'_>) {}

    /// A collector measured something.
    fn row(_state: &mut Self::State, _row: &Row<'_>, _ctx: &mut Ctx<'_>) {}

    /// One of its timers is due.
    fn timer(_state: &mut Self::State, _timer: Self::Timer, _key: &str, _ctx: &mut Ctx<'_>) {}

    /// Nobody measured what this collector watches for this long; its clock stood still.
    fn jump(_state: &mut Self::State, _span: Span, _ctx: &mut Ctx<'_>) {}

    /// A collector says that it cannot measure, or can again.
    fn fault(_state: &mut Self::State, _fault: &Fault, _ctx: &mut Ctx<'_>) {}

    /// A record of a collector that was silent.
    fn collector_back(_state: &mut Self::State, _collector: &str, _ctx: &mut Ctx<'_>) {}

    /// Nothing was heard of a collector for longer than the limit.
    fn collector_silent(_state: &mut Self::State, _collector: &str, _heard_at: Time, _ctx: &mut Ctx<'_>) {}

    /// A collector was silent for so long that it is not expected back.
    fn collector_forgotten(_state: &mut Self::State, _collector: &str, _ctx: &mut Ctx<'_>) {}

    /// The site's clock advanced. `previous` is absent after an absence of our own.
    fn tick(_state: &mut Self::State, _previous: Option<Time>, _ctx: &mut Ctx<'_>) {}

    fn operator(_state: &mut Self::State, _act: &OperatorAct, _ctx: &mut Ctx<'_>) {}

    /// The packet chain found something.
    fn finding(_state: &mut Self::State, _finding: &Finding, _ctx: &mut Ctx<'_>) {}

    /// Rules for this chain's own rows came into force.
    fn rules(_state: &mut Self::State, _activation: &RulesActivation, _ctx: &mut Ctx<'_>) {}

    /// A stretch of a chain was folded again and compared.
    fn parity(_state: &mut Self::State, _parity: &Parity, _ctx: &mut Ctx<'_>) {}

    /// Records of the chain's own stream were gone before they could be folded.
    fn lost(_state: &mut Self::State, _records: u64, _ctx: &mut Ctx<'_>) {}

    /// Another configuration is in force; `ctx.config` holds it.
    fn activated(_state: &mut Self::State, _previous: &SiteConfig, _ctx: &mut Ctx<'_>) {}

    fn after(_state: &mut Self::State, _ctx: &mut Ctx<'_>) {}
}

/// How the state of a fold is stored: as entries, by key.
pub trait FoldState: Default {
    fn drain_dirty(&mut self, out: &mut Vec<Change>);
    fn store_all(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>);
    /// Takes the entry if it is this fold's. `version` is the version of the fold that wrote it.
    fn load(&mut self, version: u32, key: &[u8], bytes: &[u8]) -> Result<bool, String>;

    /// Makes what is not stored from what is, once everything is loaded. An error says what of the stored is damaged.
    fn rebuild(&mut self, _config: &SiteConfig, _board: &mut Board) -> Result<(), String> {
        Ok(())
    }

    /// What it had to do without, for metrics: (name, how often). Not stored.
    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// The kinds of timers of one fold, declared with `timers!`.
pub trait TimerKind: Copy + 'static {
    /// The name of the fold.
    const FOLD: &'static str;
    /// In the order in which timers of one deadline fire.
    const ALL: &'static [Self];
    /// What state and causes call each of them. A name never changes.
    const NAMES: &'static [&'static str];

    /// Its place in [`TimerKind::ALL`].
    fn place(self) -> u8;
}

/// Of a fold that sets no timers.
#[derive(Clone, Copy, Debug)]
pub enum NoTimer {}

impl TimerKind for NoTimer {
    const FOLD: &'static str = "";
    const ALL: &'static [NoTimer] = &[];
    const NAMES: &'static [&'static str] = &[];

    fn place(self) -> u8 {
        match self {}
    }
}

/// The timers of a fold, as the list of folds gives them to [`Timers`].
pub const fn timers_of<F: Fold>() -> FoldTimers {
    FoldTimers {
        fold: F::NAME,
        kinds: F::Timer::NAMES,
    }
}

/// Whether a stored entry is this fold's.
pub fn owns<F: Fold>(key: &[u8]) -> bool {
    key.strip_prefix(F::NAME.as_bytes())
        .is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Gives a step to the fold at `place` in the list of folds.
pub fn apply<F: Fold>(place: u8, state: &mut F::State, step: &Step<'_>, ctx: &mut Ctx<'_>) {
    ctx.fold = place;
    F::before(state, ctx);
    match *step {
        Step::Row(ref row) => F::row(state, row, ctx),
        Step::Timer { id, key } => {
            let timer = F::Timer::ALL.get(usize::from(id.kind));
            if let Some(timer) = timer.filter(|_| id.fold == place) {
                F::timer(state, *timer, key, ctx);
            }
        }
        Step::Jump { span } => F::jump(state, span, ctx),
        Step::Fault(fault) => F::fault(state, fault, ctx),
        Step::CollectorBack { collector } => F::collector_back(state, collector, ctx),
        Step::CollectorSilent { collector, heard_at } => F::collector_silent(state, collector, heard_at, ctx),
        Step::CollectorForgotten { collector } => F::collector_forgotten(state, collector, ctx),
        Step::Tick { previous } => F::tick(state, previous, ctx),
        Step::Operator(act) => F::operator(state, act, ctx),
        Step::Finding(finding) => F::finding(state, finding, ctx),
        Step::Rules(activation) => F::rules(state, activation, ctx),
        Step::Parity(parity) => F::parity(state, parity, ctx),
        Step::Lost { records } => F::lost(state, records, ctx),
        Step::Activated { previous } => F::activated(state, previous, ctx),
    }
    F::after(state, ctx);
}

/// The smallest thing that happens: records are taken apart into steps, in time order. A method of [`Fold`] says what each
/// of them is.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    Row(Row<'a>),
    Timer { id: TimerId, key: &'a str },
    Jump { span: Span },
    Fault(&'a Fault),
    CollectorBack { collector: &'a str },
    CollectorSilent { collector: &'a str, heard_at: Time },
    CollectorForgotten { collector: &'a str },
    Tick { previous: Option<Time> },
    Operator(&'a OperatorAct),
    Finding(&'a Finding),
    Rules(&'a RulesActivation),
    Parity(&'a Parity),
    Lost { records: u64 },
    Activated { previous: &'a SiteConfig },
}

/// What one fold tells those after it in the same step; it is not stored.
#[derive(Clone, Debug)]
pub enum Fact {
    /// An outage has lasted long enough, and no ancestor is to blame.
    OutageConfirmed {
        subject: String,
        since: Moment,
        suppressed: Vec<String>,
        detail: Option<String>,
        reasons: Vec<ProbeReason>,
        causes: Causes,
    },
    /// An outage is over. `confirmed` tells whether it was announced by [`Fact::OutageConfirmed`].
    OutageEnded {
        subject: String,
        outage: EndedOutage,
    },
    /// A collector could not measure something for long enough.
    FaultConfirmed {
        /// Or the destination, `sink:discord/alerts`.
        collector: String,
        since: Moment,
        detail: String,
    },
    FaultEnded {
        collector: String,
    },
    /// A subject is no longer configured.
    SubjectRemoved {
        subject: String,
    },
    /// A rule on this chain's own rows says that an attack began, grew or ended.
    Attack {
        stage: AttackStage,
        attack: Box<Attack>,
        causes: Causes,
    },
}

#[derive(Clone, Debug)]
pub struct EndedOutage {
    pub since: Moment,
    pub confirmed: bool,
    /// Without the time in which its clock stood still because an ancestor was down.
    pub active: Span,
    pub unmeasured: Span,
}

/// What one step knows and collects.
pub struct Ctx<'a> {
    pub config: &'a SiteConfig,
    /// The time of this step, by the clock that it belongs to.
    pub moment: Moment,
    /// The greatest tick, with and without our own absences.
    pub now: Moment,
    /// The collector whose record this is; `None` for ticks, operators and site timers.
    pub collector: Option<&'a str>,
    pub clocks: &'a Clocks,
    pub timers: &'a mut Timers,
    pub facts: Vec<Fact>,
    pub board: &'a mut Board,
    pub(crate) out: &'a mut Emitter,
    pub(crate) cause: &'a Cause,
    /// The place of the running fold in the list of folds.
    pub(crate) fold: u8,
    pub(crate) first_event: usize,
}

/// The few things that later folds ask of earlier ones. Derived from their states, so never stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Board {
    /// Why occupancy is frozen, if it is.
    pub occupancy_blame: Option<Blame>,
    pub pcs_present: u32,
    pub pcs_total: u32,
}

/// The topmost ancestor that is down, and the time after which what broke it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    pub root: String,
    pub cause_after: Moment,
    /// By whose clock that is.
    pub collector: String,
}

impl Blame {
    /// Whether what began at `since`, seen by `collector`, is the doing of what broke the root.
    pub fn covers(&self, since: Moment, collector: &str) -> bool {
        since.not_before(self.cause_after, self.collector == collector)
    }
}

impl Ctx<'_> {
    /// Emits an event caused by this step alone.
    pub fn emit(&mut self, key: &str, body: EventBody) {
        self.out.emit(key, self.moment.at, self.cause.clone(), body);
    }

    pub fn emit_with(&mut self, key: &str, at: Time, causes: Causes, body: EventBody) {
        self.out.emit_with(key, at, self.cause.clone(), causes, body);
    }

    /// What this step made so far.
    pub fn emitted(&self) -> &[Event] {
        &self.out.events[self.first_event..]
    }

    /// This step's time by the clock of `collector`, which may be another one's or none's step.
    pub fn moment_for(&self, collector: &str) -> Moment {
        if self.collector == Some(collector) {
            return self.moment;
        }
        let clock = self.clocks.collectors.get(collector);
        clock.map_or(self.moment, |clock| clock.moment(self.moment.at))
    }

    /// The message that this step comes from.
    pub fn message(&self) -> Option<&MessageId> {
        self.out.message()
    }

    /// Sets a timer of the running fold, in place of an earlier one of the same kind and key.
    pub fn set_timer<K: TimerKind>(&mut self, kind: K, key: &str, clock: TimerClock, deadline: Time) {
        let id = self.timer_id(kind);
        self.timers.set(id, key, clock, deadline);
    }

    pub fn cancel_timer<K: TimerKind>(&mut self, kind: K, key: &str) {
        let id = self.timer_id(kind);
        self.timers.cancel(id, key);
    }

    fn timer_id<K: TimerKind>(&self, kind: K) -> TimerId {
        debug_assert_eq!(
            self.timers.fold(self.fold),
            Some(K::FOLD),
            "a fold sets its own timers alone"
        );
        TimerId {
            fold: self.fold,
            kind: kind.place(),
        }
    }
}
