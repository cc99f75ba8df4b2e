//! The site chain: takes a record apart into steps in time order, and gives each step to the folds in their order.
//!
//! Rows and timers of a collector run in time order up to the record's `through`; rows after it wait. Timers that
//! are due at the instant of a row run before it, so that "at least ten seconds" holds at exactly ten.

mod machine;
mod record;
#[cfg(test)]
mod tests;

use watchfold_schemas::alert::{Attack, Finding};
use watchfold_schemas::event::EventBody;
use watchfold_schemas::observation::{Activation, Fault, Observation, Tick};
use watchfold_schemas::origin::Cause;
use watchfold_schemas::rules::RulesActivation;
use watchfold_schemas::{Chain, SiteConfig, Span, Time};

use crate::SiteFolds;
use crate::clocks::{Clocks, FORGET_AFTER, TickTaken};
use crate::emit::Emitter;
use crate::fold::{Board, Ctx, Moment, Step};
use crate::hours::Hours;
use crate::machine::software;
use crate::table::Table;
use crate::timers::{Timer, TimerClock, Timers};

/// The version of what the chain itself keeps: clocks, timers, configuration. 2: rows that wait are of any kind, and
/// timers are named by fold and kind.
const CHAIN_VERSION: u32 = 2;

/// All folds of one site over its observations.
#[derive(Debug)]
pub struct SiteChain {
    site: String,
    config: SiteConfig,
    stored_config: Table<SiteConfig>,
    clocks: Clocks,
    timers: Timers,
    board: Board,
    folds: SiteFolds,
    hours: Hours,
    counters: ChainCounters,
}

/// The record of a measuring collector, as everything in it needs it.
struct Turn<'a> {
    collector: &'a str,
    incarnation: u64,
    through: Time,
    cause: &'a Cause,
    /// Timers about what this collector measures run on it.
    clock: TimerClock,
}

impl<'a> Turn<'a> {
    fn new(observation: &'a Observation, cause: &'a Cause) -> Turn<'a> {
        let collector = observation.origin.collector.as_str();
        Turn {
            collector,
            incarnation: observation.origin.incarnation,
            through: observation.through,
            cause,
            clock: TimerClock::Collector(collector.to_owned()),
        }
    }
}

/// What the chain itself had to do without, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ChainCounters {
    /// Ping rounds whose columns disagreed; their rows were not used.
    malformed_rounds: u64,
    /// Rows folded before their turn because too many waited for `through` to pass them.
    waiting_overflows: u64,
    /// Records of collectors beyond the most that one site may have.
    collectors_refused: u64,
}

impl SiteChain {
    pub fn new(site: &str) -> SiteChain {
        SiteChain {
            site: site.to_owned(),
            config: SiteConfig {
                site: site.to_owned(),
                ..SiteConfig::default()
            },
            stored_config: Table::new("chain/config/"),
            clocks: Clocks::new(),
            timers: Timers::new(SiteFolds::TIMERS),
            board: Board::default(),
            folds: SiteFolds::default(),
            hours: Hours::new(SiteChain::software()),
            counters: ChainCounters::default(),
        }
    }

    /// The digest of an hour comes after everything that its last tick made.
    fn end_hour(&mut self, tick: &Cause, out: &mut Emitter) {
        let at = self.clocks.now().at;
        let Some(digest) = self.hours.tick(at) else {
            return;
        };
        out.emit(Chain::Site.token(), at, tick.clone(), EventBody::Digest(digest));
    }

    /// Returns what derives in this chain, as a digest names it.
    pub fn software() -> String {
        software(SiteChain::own_versions())
    }

    /// The versions of everything that keeps state here.
    fn own_versions() -> impl Iterator<Item = (&'static str, u32)> {
        let folds = SiteFolds::VERSIONS.iter().copied();
        std::iter::once(("chain", CHAIN_VERSION)).chain(folds)
    }

    pub fn config(&self) -> &SiteConfig {
        &self.config
    }

    /// The greatest tick so far.
    pub fn now(&self) -> Option<Time> {
        self.clocks.has_ticked().then(|| self.clocks.now().at)
    }

    /// Attacks that rules on probes found and that have not ended, as they stand, each with how far its collector has come.
    pub fn open_attacks(&self) -> impl Iterator<Item = (&Attack, Time)> {
        self.folds.rules.open_attacks().map(|(collector, attack)| {
            let clock = self.clocks.collectors.get(collector);
            (attack, clock.map(|clock| clock.through).unwrap_or_default())
        })
    }

    fn tick(&mut self, tick: &Tick, cause: &Cause, out: &mut Emitter) {
        let silence = Span::from_millis(self.config.network.silence_ms as i64);
        let previous = match self.clocks.tick(tick.now, tick.interval_ms, silence) {
            TickTaken::Old => return,
            // What others told while we were absent may still be on its way.
            TickTaken::First | TickTaken::Resumed => {
                self.clocks.hear_all();
                None
            }
            TickTaken::After(previous) => Some(previous),
        };
        let now = self.clocks.now();
        while let Some(timer) = self.timers.pop_due(&TimerClock::Site, now.steady) {
            let moment = self.clocks.moment_of_steady(timer.deadline);
            self.run_timer(&timer, moment, None, out);
        }
        self.watch_collectors(now, cause, out);
        self.run(Step::Tick { previous }, now, None, cause, out);
    }

    /// Looks for collectors of which nothing was heard for longer than the limit.
    fn watch_collectors(&mut self, now: Moment, cause: &Cause, out: &mut Emitter) {
        let limit = Span::from_millis(self.config.network.silence_ms as i64);
        for collector in self.clocks.collectors.keys() {
            let Some(clock) = self.clocks.collectors.get(&collector) else {
                continue;
            };
            let silent_for = now.steady.since(clock.heard.steady);
            if clock.silent && silent_for > FORGET_AFTER {
                self.clocks.collectors.remove(&collector);
                let step = Step::CollectorForgotten {
                    collector: &collector,
                };
                self.run(step, now, None, cause, out);
                continue;
            }
            if !clock.measures || clock.silent || silent_for <= limit {
                continue;
            }
            let heard_at = clock.heard.at;
            if let Some(clock) = self.clocks.collectors.get_mut(&collector) {
                clock.silent = true;
            }
            let step = Step::CollectorSilent {
                collector: &collector,
                heard_at,
            };
            self.run(step, now, None, cause, out);
        }
    }

    fn activate(&mut self, activation: &Activation, cause: &Cause, out: &mut Emitter) {
        let mut config = activation.config.clone();
        config.site.clone_from(&self.site);
        let previous = std::mem::replace(&mut self.config, config);
        self.stored_config.insert("", self.config.clone());
        let moment = Moment {
            at: activation.at,
            steady: self.clocks.now().steady,
        };
        self.run(Step::Activated { previous: &previous }, moment, None, cause, out);
    }

    /// Rules for the other chain's rows judge nothing here.
    fn activate_rules(&mut self, activation: &RulesActivation, cause: &Cause, out: &mut Emitter) {
        if activation.chain != Chain::Site {
            return;
        }
        let moment = Moment {
            at: activation.at,
            steady: self.clocks.now().steady,
        };
        self.run(Step::Rules(activation), moment, None, cause, out);
    }

    fn fault(&mut self, turn: &Turn<'_>, fault: &Fault, out: &mut Emitter) {
        let Some(clock) = self.clocks.collectors.get(turn.collector) else {
            return;
        };
        let moment = clock.moment(fault.at);
        self.run(Step::Fault(fault), moment, Some(turn.collector), turn.cause, out);
    }

    /// No record of a collector that measures: no clock runs on it, and its absence is no silence.
    fn finding(&mut self, finding: &Finding, at: Time, cause: &Cause, out: &mut Emitter) {
        let steady = self.clocks.now().steady;
        self.run(Step::Finding(finding), Moment { at, steady }, None, cause, out);
    }

    /// A fault of somebody who measures nothing, a sink say: its silence is no news, and the site's clock judges it.
    fn fault_of_other(&mut self, turn: &Turn<'_>, fault: &Fault, out: &mut Emitter) {
        let moment = Moment {
            at: fault.at,
            steady: self.clocks.now().steady,
        };
        self.run(Step::Fault(fault), moment, Some(turn.collector), turn.cause, out);
    }

    /// A step that is nobody's measurement.
    fn run_now(&mut self, step: Step<'_>, cause: &Cause, out: &mut Emitter) {
        self.run(step, self.clocks.now(), None, cause, out);
    }

    fn run(
        &mut self,
        step: Step<'_>,
        moment: Moment,
        collector: Option<&str>,
        cause: &Cause,
        out: &mut Emitter,
    ) {
        let first_event = out.events.len();
        let mut ctx = Ctx {
            config: &self.config,
            moment,
            now: self.clocks.now(),
            collector,
            clocks: &self.clocks,
            timers: &mut self.timers,
            facts: Vec::new(),
            board: &mut self.board,
            out,
            cause,
            first_event,
            fold: 0,
        };
        self.folds.run(&step, &mut ctx);
    }

    fn run_timer(&mut self, timer: &Timer, moment: Moment, collector: Option<&str>, out: &mut Emitter) {
        // The steady deadline: by a wall clock that was set back, one timer could be due twice at one time.
        let cause = Cause::Timer {
            timer: self.timers.name(timer.id, &timer.key),
            deadline: moment.steady,
        };
        let step = Step::Timer {
            id: timer.id,
            key: &timer.key,
        };
        self.run(step, moment, collector, &cause, out);
    }
}
