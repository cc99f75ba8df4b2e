//! Rules on this chain's own rows: the same rules and windows as for packets, held against probes.
//!
//! They run on the clock of whoever measures, so a span that nobody measured ends nothing and begins nothing. What they say
//! becomes incidents by a [`Fact`]; whom to tell is decided later.

mod probe;
mod stored;
mod watch;

use std::collections::BTreeMap;

use watchfold_schemas::alert::{Attack, AttackStage};
use watchfold_schemas::event::{Causes, EventBody};
use watchfold_schemas::rules::{Rule, RuleState, RulesActivation};
use watchfold_schemas::{Chain, Time};

use crate::detections::attacks::{Hold, Said, Seen};
use crate::detections::reputation::Verdicts;
use crate::engine::compile::{Compiled, compiled_as_far_as_possible};
use crate::engine::measure::subject_of;
use crate::fold::{Ctx, Fact, Fold};
use crate::rows::Row;
use crate::table::Table;
use crate::timers::TimerClock;

use probe::{JudgedRow, Probe};
use watch::Watch;

/// The fold.
pub struct Rules;

timers! { Rules:
    /// The next attack of a collector may end.
    Attacks = "attacks",
}

#[derive(Debug)]
pub struct RulesState {
    active: Table<RulesActivation>,
    compiled: Compiled,
    /// By collector, what its rows did so far.
    watches: BTreeMap<String, Watch>,
    /// Stored entries that hold nothing any more.
    gone: Vec<Vec<u8>>,
    /// Windows as they were stored, until their rules are compiled.
    loaded: Vec<stored::LoadedShard>,
    /// Oracles are asked about what packets show; nobody asks here.
    verdicts: Verdicts,
    /// Rules that were activated and that this version cannot hold against rows; they judge nothing.
    refused: u64,
    /// Keys of windows and attacks forgotten before their time, and attacks that never began, because there were too many.
    forgotten: u64,
}

impl Fold for Rules {
    const NAME: &'static str = "rules";
    const VERSION: u32 = 1;
    type State = RulesState;
    type Timer = Timer;

    fn row(state: &mut RulesState, row: &Row<'_>, ctx: &mut Ctx<'_>) {
        match row {
            Row::Ping(row) => state.row(&Probe(row), ctx),
        }
    }

    fn timer(state: &mut RulesState, timer: Timer, key: &str, ctx: &mut Ctx<'_>) {
        match timer {
            Timer::Attacks => state.end_due(key, ctx),
        }
    }

    fn rules(state: &mut RulesState, activation: &RulesActivation, ctx: &mut Ctx<'_>) {
        state.activate(activation, ctx);
    }

    fn collector_forgotten(state: &mut RulesState, collector: &str, ctx: &mut Ctx<'_>) {
        state.forget(collector, ctx);
    }
}

impl RulesState {
    /// Attacks that have not ended, each with whose rows it is about.
    pub fn open_attacks(&self) -> impl Iterator<Item = (&str, &Attack)> {
        self.watches.iter().flat_map(|(collector, watch)| {
            let open = watch.attacks.open();
            open.map(move |attack| (collector.as_str(), attack))
        })
    }

    fn row<R: JudgedRow>(&mut self, row: &R, ctx: &mut Ctx<'_>) {
        let Some(collector) = ctx.collector.filter(|_| !self.compiled.rules.is_empty()) else {
            return;
        };
        let incarnation = ctx
            .clocks
            .collectors
            .get(collector)
            .map(|clock| clock.incarnation);
        let seen = Seen {
            site: &ctx.config.site,
            collector,
            incarnation: incarnation.unwrap_or_default(),
            interface: "",
        };
        let mut told = Vec::new();
        let at = ctx.moment.steady;
        for rule in &self.compiled.rules {
            // People write the end of an exclusion by their clocks, which is what the wall time of the row follows.
            if rule.rule.source != R::SOURCE || !self.compiled.holds(rule, row, ctx.moment.at) {
                continue;
            }
            if !self.watches.contains_key(collector) {
                self.watches.insert(collector.to_owned(), Watch::default());
            }
            let Some(watch) = self.watches.get_mut(collector) else {
                continue;
            };
            let Some(reached) = watch.measure(&self.compiled, rule, row, at, ctx.message()) else {
                continue;
            };
            let hold = Hold {
                rule,
                key: subject_of(rule, row),
                at,
                packet: None,
                measured: reached.measured,
                tier: Default::default(),
                victim: row.victim(),
            };
            let mut said = Vec::new();
            watch.attacks.set_shift(ctx.moment.at.since(at));
            watch.attacks.hold(seen, &hold, row, &self.verdicts, &mut said);
            self.forgotten += watch.take_forgotten();
            told.extend(said.into_iter().map(|said| (said, reached.causes.clone())));
        }
        for (said, causes) in told {
            tell(said, causes, ctx);
        }
        self.follow_due(collector, ctx);
    }

    /// The collector's timer is due when its next attack may end.
    fn follow_due(&mut self, collector: &str, ctx: &mut Ctx<'_>) {
        let Some(watch) = self.watches.get_mut(collector) else {
            return;
        };
        let due = watch.attacks.next_due();
        if due == watch.timer {
            return;
        }
        watch.timer = due;
        match due {
            Some(due) => {
                let clock = TimerClock::Collector(collector.to_owned());
                ctx.set_timer(Timer::Attacks, collector, clock, due);
            }
            None => ctx.cancel_timer(Timer::Attacks, collector),
        }
    }

    fn end_due(&mut self, collector: &str, ctx: &mut Ctx<'_>) {
        let at = ctx.moment.steady;
        self.end(collector, ctx, |watch, said| {
            // It was taken from the timers when it fired.
            watch.timer = None;
            watch.attacks.pop_due(at, said);
        });
    }

    /// Nothing is expected of it any more.
    fn forget(&mut self, collector: &str, ctx: &mut Ctx<'_>) {
        let at = ctx.moment_for(collector).steady;
        self.end(collector, ctx, |watch, said| watch.attacks.end_all(at, said));
        if let Some(watch) = self.watches.remove(collector) {
            self.gone.extend(watch.stored_keys(collector));
        }
    }

    fn activate(&mut self, activation: &RulesActivation, ctx: &mut Ctx<'_>) {
        let before = self.in_force();
        self.active.insert("", activation.clone());
        self.compile();
        let after = self.in_force();
        let collectors: Vec<String> = self.watches.keys().cloned().collect();
        for collector in collectors {
            let at = ctx.moment_for(&collector).steady;
            if let Some(watch) = self.watches.get_mut(&collector) {
                self.gone
                    .extend(watch.keep_unchanged(&collector, &before, &after));
            }
            self.end(&collector, ctx, |watch, said| {
                let has =
                    |rule: &Rule, category: &str, state| rule.category == category && rule.state == state;
                let keep =
                    |category: &str, state: RuleState| after.iter().any(|rule| has(rule, category, state));
                watch.attacks.keep_only(at, keep, said);
            });
        }
    }

    fn in_force(&self) -> Vec<Rule> {
        self.compiled
            .rules
            .iter()
            .map(|compiled| compiled.rule.clone())
            .collect()
    }

    /// Rules that this version cannot hold against rows judge nothing.
    fn compile(&mut self) {
        let set = self
            .active
            .get("")
            .map(|activation| activation.set.of_chain(Chain::Site));
        let (compiled, refused) = compiled_as_far_as_possible(&set.unwrap_or_default());
        self.compiled = compiled;
        self.refused += refused;
    }

    fn end(&mut self, collector: &str, ctx: &mut Ctx<'_>, end: impl FnOnce(&mut Watch, &mut Vec<Said>)) {
        let moment = ctx.moment_for(collector);
        let Some(watch) = self.watches.get_mut(collector) else {
            return;
        };
        let mut said = Vec::new();
        watch.attacks.set_shift(moment.at.since(moment.steady));
        watch.dirty = true;
        end(watch, &mut said);
        for said in said {
            let mut causes = Causes::default();
            if let Some(message) = ctx.message() {
                causes.push(message);
            }
            tell(said, causes, ctx);
        }
        self.follow_due(collector, ctx);
    }
}

/// Emits what follows and tells the folds after this one.
fn tell(said: Said, causes: Causes, ctx: &mut Ctx<'_>) {
    let told = match &said.body {
        EventBody::AttackBegan(attack) => Some((AttackStage::Began, attack)),
        EventBody::AttackGrew(attack) => Some((AttackStage::Grew, attack)),
        EventBody::AttackEnded(attack) => Some((AttackStage::Ended, attack)),
        _ => None,
    };
    if let Some((stage, attack)) = told {
        ctx.facts.push(Fact::Attack {
            stage,
            attack: attack.clone(),
            causes: causes.clone(),
        });
    }
    let at: Time = said.at;
    ctx.emit_with(&said.attack, at, causes, said.body);
}

#[cfg(test)]
mod tests;
