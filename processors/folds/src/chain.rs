//! The site chain: takes a record apart into steps in time order, and gives each step to the folds in their order.
//!
//! Rows and timers of a collector run in time order up to the record's `through`; rows after it wait. Timers that
//! are due at the instant of a row run before it, so that "at least ten seconds" holds at exactly ten.

mod machine;
mod stored;

pub(crate) use stored::versions;

use watchfold_schemas::alert::{Attack, Finding};
use watchfold_schemas::event::{Causes, EventBody};
use watchfold_schemas::observation::{Activation, Fault, Gap, Observation, PingRow, PingRowRef, Tick};
use watchfold_schemas::origin::Cause;
use watchfold_schemas::rules::RulesActivation;
use watchfold_schemas::{Chain, SiteConfig, Span, Time};

use crate::clocks::{Clocks, FORGET_AFTER, TickTaken, WAITING_ROWS_MAX};
use crate::fold::{Board, Ctx, Fold, FoldId, Moment, Output, Step};
use crate::history::History;
use crate::hours::Hours;
use crate::incidents::Incidents;
use crate::liveness::Liveness;
use crate::notify::Notify;
use crate::occupancy::Occupancy;
use crate::rules::Rules;
use crate::table::Table;
use crate::timers::{TimerClock, Timers};

/// All folds of one site over its observations.
#[derive(Debug)]
pub struct SiteChain {
    site: String,
    config: SiteConfig,
    stored_config: Table<SiteConfig>,
    clocks: Clocks,
    timers: Timers,
    board: Board,
    liveness: <Liveness as Fold>::State,
    occupancy: <Occupancy as Fold>::State,
    history: <History as Fold>::State,
    rules: <Rules as Fold>::State,
    incidents: <Incidents as Fold>::State,
    notify: <Notify as Fold>::State,
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

/// What the chain had to do without, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainCounters {
    /// Ping rounds whose columns disagreed; their rows were not used.
    pub malformed_rounds: u64,
    /// Rows folded before their turn because too many waited for `through` to pass them.
    pub waiting_overflows: u64,
    /// Records of collectors beyond the most that one site may have.
    pub collectors_refused: u64,
    /// Attacks that became no incident because too many were open.
    pub attacks_refused: u64,
    /// Rules that were activated and that this version cannot hold against rows; they judge nothing.
    pub rules_refused: u64,
    /// Keys of rules' windows and attacks forgotten before their time, or never begun, because there were too many.
    pub rules_forgotten: u64,
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
            timers: Timers::new(),
            board: Board::default(),
            liveness: Default::default(),
            occupancy: Default::default(),
            history: Default::default(),
            rules: Default::default(),
            incidents: Default::default(),
            notify: Default::default(),
            hours: Hours::new(),
            counters: ChainCounters::default(),
        }
    }

    /// The digest of an hour comes after everything that its last tick made.
    fn end_hour(&mut self, tick: &Cause, out: &mut Output) {
        let at = self.clocks.now().at;
        let Some(digest) = self.hours.tick(at) else {
            return;
        };
        let mut causes = Causes::default();
        if let Some(message) = &out.message {
            causes.push(message);
        }
        let body = EventBody::Digest(digest);
        out.emit(Chain::Site.token(), at, tick, causes, body);
    }

    pub fn counters(&self) -> ChainCounters {
        ChainCounters {
            attacks_refused: self.incidents.attacks_refused,
            rules_refused: self.rules.refused,
            rules_forgotten: self.rules.forgotten,
            ..self.counters
        }
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
        self.rules.open_attacks().map(|(collector, attack)| {
            let clock = self.clocks.collectors.get(collector);
            (attack, clock.map(|clock| clock.through).unwrap_or_default())
        })
    }

    fn tick(&mut self, tick: &Tick, cause: &Cause, out: &mut Output) {
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
            let cause = timer_cause(timer.fold, &timer.name, &timer.key, moment);
            let step = Step::Timer {
                fold: timer.fold,
                name: &timer.name,
                key: &timer.key,
            };
            self.run(step, moment, None, &cause, out);
        }
        self.watch_collectors(now, cause, out);
        self.run(Step::Tick { previous }, now, None, cause, out);
    }

    /// Looks for collectors of which nothing was heard for longer than the limit.
    fn watch_collectors(&mut self, now: Moment, cause: &Cause, out: &mut Output) {
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

    fn activate(&mut self, activation: &Activation, cause: &Cause, out: &mut Output) {
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
    fn activate_rules(&mut self, activation: &RulesActivation, cause: &Cause, out: &mut Output) {
        if activation.chain != Chain::Site {
            return;
        }
        let moment = Moment {
            at: activation.at,
            steady: self.clocks.now().steady,
        };
        self.run(Step::Rules(activation), moment, None, cause, out);
    }

    /// What every record of a measuring collector does: bring it back, jump over what it did not measure, then run
    /// rows and timers up to its `through`.
    fn collector_record(
        &mut self,
        turn: &Turn<'_>,
        rows: &[PingRowRef<'_>],
        gap: Option<&Gap>,
        out: &mut Output,
    ) {
        let (collector, through) = (turn.collector, turn.through);
        if !self.clocks.admits(collector) {
            self.counters.collectors_refused += 1;
            return;
        }
        self.hear(turn, out);
        let first = rows.first().map_or(through, |row| row.at.min(through));
        let clock = self.clocks.collectors.entry_or_default(collector);
        if clock.measures {
            self.jump_over_unmeasured(turn, first, gap, out);
        } else {
            clock.measures = true;
            clock.incarnation = turn.incarnation;
            clock.through = first;
        }
        let mut waiting = match self.clocks.collectors.get_mut(collector) {
            Some(clock) => std::mem::take(&mut clock.waiting),
            None => Vec::new(),
        };
        if waiting.is_empty() {
            self.run_rows(turn, rows.iter().copied(), through, out);
        } else {
            waiting.extend(rows.iter().map(|row| row.to_row()));
            waiting.sort_by_key(|row| row.at);
            let until = self.no_more_than_wait(&waiting, through);
            self.run_rows(turn, waiting.iter().map(PingRow::as_row), until, out);
        }
        if let Some(shift) = self.shift_of(collector) {
            self.run_timers(turn, Moment::of_wall(through, shift), shift, out);
        }
        if let Some(clock) = self.clocks.collectors.get_mut(collector) {
            clock.through = clock.through.max(through);
        }
    }

    /// Where too many rows would wait, the earliest of them are folded before their turn.
    fn no_more_than_wait(&mut self, rows: &[PingRow], through: Time) -> Time {
        let Some(last_folded) = rows.len().checked_sub(WAITING_ROWS_MAX + 1) else {
            return through;
        };
        let forced = rows[..=last_folded].iter().filter(|row| row.at > through).count();
        self.counters.waiting_overflows += forced as u64;
        through.max(rows[last_folded].at)
    }

    fn hear(&mut self, turn: &Turn<'_>, out: &mut Output) {
        let now = self.clocks.now();
        let clock = self.clocks.collectors.entry_or_default(turn.collector);
        clock.heard = now;
        if std::mem::take(&mut clock.silent) {
            let step = Step::CollectorBack {
                collector: turn.collector,
            };
            self.run(step, now, Some(turn.collector), turn.cause, out);
        }
    }

    fn jump_over_unmeasured(&mut self, turn: &Turn<'_>, first: Time, gap: Option<&Gap>, out: &mut Output) {
        let silence = Span::from_millis(self.config.network.silence_ms as i64);
        let Some(clock) = self.clocks.collectors.get(turn.collector) else {
            return;
        };
        let reborn = turn.incarnation != clock.incarnation;
        if reborn && !clock.waiting.is_empty() {
            self.flush_waiting(turn, out);
        }
        let Some(clock) = self.clocks.collectors.get_mut(turn.collector) else {
            return;
        };
        let mut span = first.since(clock.through);
        if let Some(gap) = gap {
            // A new incarnation begins on a clock of its own, so the old one's times say nothing about the gap's.
            span = if reborn {
                gap.to.since(clock.through)
            } else {
                gap.to.since(clock.through.max(gap.from)).max(Span::ZERO)
            };
        } else if !reborn && span <= silence {
            return;
        }
        clock.incarnation = turn.incarnation;
        clock.shift = clock.shift + span;
        clock.through = clock.through + span;
        let moment = clock.moment(clock.through);
        self.run(Step::Jump { span }, moment, Some(turn.collector), turn.cause, out);
    }

    /// The last rows of an incarnation that ended: nothing earlier can come any more.
    fn flush_waiting(&mut self, turn: &Turn<'_>, out: &mut Output) {
        let Some(clock) = self.clocks.collectors.get_mut(turn.collector) else {
            return;
        };
        let waiting = std::mem::take(&mut clock.waiting);
        let Some(last) = waiting.iter().map(|row| row.at).max() else {
            return;
        };
        self.run_rows(turn, waiting.iter().map(PingRow::as_row), last, out);
        if let Some(clock) = self.clocks.collectors.get_mut(turn.collector) {
            clock.through = clock.through.max(last);
        }
    }

    /// Rows up to `through`, each after the timers that are due by its time; the rest waits.
    fn run_rows<'r>(
        &mut self,
        turn: &Turn<'_>,
        rows: impl Iterator<Item = PingRowRef<'r>>,
        through: Time,
        out: &mut Output,
    ) {
        // No fold moves a clock, so it stays as it is for all of the rows.
        let Some(shift) = self.shift_of(turn.collector) else {
            return;
        };
        for row in rows {
            if row.at > through {
                if let Some(clock) = self.clocks.collectors.get_mut(turn.collector) {
                    clock.waiting.push(row.to_row());
                }
                continue;
            }
            let moment = Moment::of_wall(row.at, shift);
            self.run_timers(turn, moment, shift, out);
            self.run(Step::Row(row), moment, Some(turn.collector), turn.cause, out);
        }
    }

    fn run_timers(&mut self, turn: &Turn<'_>, until: Moment, shift: Span, out: &mut Output) {
        while let Some(timer) = self.timers.pop_due(&turn.clock, until.steady) {
            let moment = Moment::of_steady(timer.deadline, shift);
            let cause = timer_cause(timer.fold, &timer.name, &timer.key, moment);
            let step = Step::Timer {
                fold: timer.fold,
                name: &timer.name,
                key: &timer.key,
            };
            self.run(step, moment, Some(turn.collector), &cause, out);
        }
    }

    /// How far the wall clock of a collector is ahead of its steady one.
    fn shift_of(&self, collector: &str) -> Option<Span> {
        self.clocks.collectors.get(collector).map(|clock| clock.shift)
    }

    fn fault(&mut self, turn: &Turn<'_>, fault: &Fault, out: &mut Output) {
        let Some(clock) = self.clocks.collectors.get(turn.collector) else {
            return;
        };
        let moment = clock.moment(fault.at);
        self.run(Step::Fault(fault), moment, Some(turn.collector), turn.cause, out);
    }

    /// No record of a collector that measures: no clock runs on it, and its absence is no silence.
    fn finding(&mut self, finding: &Finding, at: Time, cause: &Cause, out: &mut Output) {
        let steady = self.clocks.now().steady;
        self.run(Step::Finding(finding), Moment { at, steady }, None, cause, out);
    }

    /// A fault of somebody who measures nothing, a sink say: its silence is no news, and the site's clock judges it.
    fn fault_of_other(&mut self, turn: &Turn<'_>, fault: &Fault, out: &mut Output) {
        let moment = Moment {
            at: fault.at,
            steady: self.clocks.now().steady,
        };
        self.run(Step::Fault(fault), moment, Some(turn.collector), turn.cause, out);
    }

    /// A step that is nobody's measurement.
    fn run_now(&mut self, step: Step<'_>, cause: &Cause, out: &mut Output) {
        self.run(step, self.clocks.now(), None, cause, out);
    }

    fn run(
        &mut self,
        step: Step<'_>,
        moment: Moment,
        collector: Option<&str>,
        cause: &Cause,
        out: &mut Output,
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
        };
        Liveness.apply(&mut self.liveness, &step, &mut ctx);
        Occupancy.apply(&mut self.occupancy, &step, &mut ctx);
        History.apply(&mut self.history, &step, &mut ctx);
        Rules.apply(&mut self.rules, &step, &mut ctx);
        Incidents.apply(&mut self.incidents, &step, &mut ctx);
        Notify.apply(&mut self.notify, &step, &mut ctx);
    }
}

fn timer_cause(fold: FoldId, name: &str, key: &str, moment: Moment) -> Cause {
    // The steady deadline: by a wall clock that was set back, one timer could be due twice at one time.
    Cause::Timer {
        timer: format!("{}/{name}/{key}", fold.name()),
        deadline: moment.steady,
    }
}
