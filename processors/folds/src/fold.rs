//! What a fold is, what it is given, and how it speaks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::alert::{Attack, AttackStage, Finding};
use watchfold_schemas::event::{Causes, Event, EventBody, Place};
use watchfold_schemas::observation::{Fault, OperatorAct, Parity, PingRowRef};
use watchfold_schemas::origin::{Cause, EventId, MessageId};
use watchfold_schemas::rules::RulesActivation;
use watchfold_schemas::why::ProbeReason;
use watchfold_schemas::{Chain, SiteConfig, Span, Time};

use crate::clocks::Clocks;
use crate::table::Change;
use crate::timers::{Timer, TimerClock, Timers};

/// One judgement over the steps of a site, with state of its own.
pub trait Fold {
    const ID: FoldId;
    /// Raised when the meaning of its state changes; [`FoldState::load`] then gets entries of the version before.
    const VERSION: u32;
    type State: FoldState;

    /// Infallible and pure. It sees in `ctx` what the folds before it emitted in the same step.
    fn apply(&self, state: &mut Self::State, step: &Step<'_>, ctx: &mut Ctx<'_>);
}

/// How the state of a fold is stored: as entries, by key.
pub trait FoldState: Default {
    fn drain_dirty(&mut self, out: &mut Vec<Change>);
    fn store_all(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>);
    /// Takes the entry if it is this fold's. `version` is the version of the fold that wrote it.
    fn load(&mut self, version: u32, key: &[u8], bytes: &[u8]) -> Result<bool, String>;
}

/// The folds of the site chain, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoldId {
    Liveness,
    Occupancy,
    History,
    Rules,
    Incidents,
    Notify,
}

impl FoldId {
    pub const fn name(self) -> &'static str {
        match self {
            FoldId::Liveness => "liveness",
            FoldId::Occupancy => "occupancy",
            FoldId::History => "history",
            FoldId::Rules => "rules",
            FoldId::Incidents => "incidents",
            FoldId::Notify => "notify",
        }
    }

    /// Sorts as the folds run. Stored timers hold it, so those of old stay as they are.
    pub const fn order(self) -> &'static str {
        match self {
            FoldId::Liveness => "a",
            FoldId::Occupancy => "b",
            FoldId::History => "c",
            FoldId::Rules => "cr",
            FoldId::Incidents => "d",
            FoldId::Notify => "e",
        }
    }
}

/// The smallest thing that happens: records are taken apart into steps, in time order.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    /// A probe's result.
    Row(PingRowRef<'a>),
    /// A timer of this fold is due.
    Timer {
        fold: FoldId,
        name: &'a str,
        key: &'a str,
    },
    /// Nobody measured what this collector watches for this long; its clock stood still.
    Jump {
        span: Span,
    },
    /// A collector says that it cannot measure, or can again.
    Fault(&'a Fault),
    /// A record of a collector that was silent.
    CollectorBack {
        collector: &'a str,
    },
    /// Nothing was heard of a collector for longer than the limit.
    CollectorSilent {
        collector: &'a str,
        heard_at: Time,
    },
    /// A collector was silent for so long that it is not expected back.
    CollectorForgotten {
        collector: &'a str,
    },
    /// Time went on.
    Tick {
        previous: Option<Time>,
    },
    Operator(&'a OperatorAct),
    /// The packet chain found something.
    Finding(&'a Finding),
    /// Rules for this chain's own rows came into force.
    Rules(&'a RulesActivation),
    /// A stretch of a chain was folded again and compared.
    Parity(&'a Parity),
    /// Records of the chain's own stream were gone before they could be folded.
    Lost {
        records: u64,
    },
    /// Another configuration is in force; `ctx.config` holds it.
    Activated {
        previous: &'a SiteConfig,
    },
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
        suppressed: Vec<String>,
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

/// An instant by the wall clock of its collector and by that collector's clock without jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Moment {
    pub at: Time,
    pub steady: Time,
}

#[derive(Clone, Debug)]
pub struct EndedOutage {
    pub since: Moment,
    pub confirmed: bool,
    /// Without the time in which its clock stood still because an ancestor was down.
    pub active: Span,
    pub unmeasured: Span,
}

impl Moment {
    /// By a clock whose wall time is `shift` ahead of its steady time.
    pub fn of_wall(at: Time, shift: Span) -> Moment {
        Moment {
            at,
            steady: at - shift,
        }
    }

    /// The same from a steady time.
    pub fn of_steady(steady: Time, shift: Span) -> Moment {
        Moment {
            at: steady + shift,
            steady,
        }
    }

    /// Whether it is not before `other`. Steady times of one clock are exact; between two clocks the wall decides.
    pub fn not_before(self, other: Moment, same_clock: bool) -> bool {
        if same_clock {
            self.steady >= other.steady
        } else {
            self.at >= other.at
        }
    }
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
    pub(crate) out: &'a mut Output,
    pub(crate) cause: &'a Cause,
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

/// The events of one record.
#[derive(Debug, Default)]
pub struct Output {
    pub events: Vec<Event>,
    pub site: String,
    pub input: u64,
    pub message: Option<MessageId>,
    /// How many events of a kind and key came from a cause, less one.
    pub counts: BTreeMap<(&'static str, String, Cause), u32>,
}

impl Output {
    pub fn emit(&mut self, key: &str, at: Time, cause: &Cause, causes: Causes, body: EventBody) {
        let kind = body.kind();
        let counted = (kind, key.to_owned(), cause.clone());
        let n = *self.counts.entry(counted).and_modify(|n| *n += 1).or_insert(0);
        let event = Event {
            v: watchfold_schemas::event::EVENT_VERSION,
            id: EventId::derive(&self.site, Chain::Site, kind, key, cause, n),
            site: self.site.clone(),
            chain: Chain::Site,
            at,
            key: key.to_owned(),
            cause: cause.clone(),
            n,
            place: Place {
                input: self.input,
                index: self.events.len() as u32,
            },
            causes,
            body,
        };
        self.events.push(event);
    }
}

impl Ctx<'_> {
    /// Emits an event caused by this step alone.
    pub fn emit(&mut self, key: &str, body: EventBody) {
        let mut causes = Causes::default();
        if let Some(message) = &self.out.message {
            causes.push(message);
        }
        self.emit_with(key, self.moment.at, causes, body);
    }

    pub fn emit_with(&mut self, key: &str, at: Time, causes: Causes, body: EventBody) {
        self.out.emit(key, at, self.cause, causes, body);
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
        self.out.message.as_ref()
    }

    pub fn set_timer(&mut self, fold: FoldId, name: &str, key: &str, clock: TimerClock, deadline: Time) {
        self.timers.set(Timer {
            fold,
            name: name.to_owned(),
            key: key.to_owned(),
            clock,
            deadline,
        });
    }

    pub fn cancel_timer(&mut self, fold: FoldId, name: &str, key: &str) {
        self.timers.cancel(fold, name, key);
    }
}
