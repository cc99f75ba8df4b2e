//! The rules in force, compiled for batches: which checks run over which columns, and how much each rule may keep.

use watchfold_schemas::Chain;
use watchfold_schemas::fields::{Field, Source};
use watchfold_schemas::rules::RulesActivation;

use super::columns::Columns;
use super::conditions::{ColumnCheck, rows_of};
use super::extract::addresses::Site;
use super::extract::connections::Outcome;
use super::mask::Mask;
use crate::engine::cell::Cell;
use crate::engine::compile::{
    Compiled, CompiledRule, Measure, When, WindowRule, compiled_as_far_as_possible,
};
use crate::engine::window::{Limits, QUEUE_MAX};

/// The most keys of one rule at one capture point. An evicted one had no row for longest.
pub const KEYS_MAX: usize = 65_536;

/// The most rows and values that all rules of one capture point keep for all keys, each of 16 to 40 bytes.
pub const CELLS_MAX: usize = 4 * 1024 * 1024;

/// What each rule may keep at least, however many there are.
const CELLS_MIN: usize = 16 * 1024;

/// A rule whose threshold is high may keep this many times it, or a single key would fill its share.
const CELLS_PER_THRESHOLD: usize = 4;

/// Rules of packets, attempts and neighbours.
#[derive(Debug)]
pub struct Rulebook {
    pub activation: RulesActivation,
    pub compiled: Compiled,
    pub site: Site,
    /// Rules that this version cannot compile.
    pub refused: u64,
    /// Some rule looks at the beginnings of payloads.
    pub reads_heads: bool,
    /// By the number of the check, where a rule of packets has it.
    checks: Vec<Option<ColumnCheck>>,
    by_source: [Vec<usize>; 3],
    /// Rules of connections, by the outcome that they may look at.
    by_outcome: [Vec<usize>; Outcome::ALL.len()],
}

impl Rulebook {
    pub fn of(activation: RulesActivation) -> Rulebook {
        let set = activation.set.of_chain(Chain::Packets);
        let (compiled, refused) = compiled_as_far_as_possible(&set);
        let of = |source: Source| -> Vec<usize> {
            let rules = compiled.rules.iter().enumerate();
            rules
                .filter(|(_, rule)| rule.rule.source == source)
                .map(|(number, _)| number)
                .collect()
        };
        let by_source = [of(Source::Packet), of(Source::Connection), of(Source::Neighbour)];
        let by_outcome = Outcome::ALL.map(|outcome| {
            let rules = by_source[1].iter().copied();
            rules
                .filter(|rule| may_look_at(&compiled, &compiled.rules[*rule], outcome))
                .collect()
        });
        let mut numbers = Vec::new();
        for rule in &by_source[0] {
            compiled.rules[*rule].condition.leaves(&mut numbers);
        }
        let mut checks: Vec<Option<ColumnCheck>> = compiled.leaves.iter().map(|_| None).collect();
        for number in numbers {
            checks[number].get_or_insert_with(|| ColumnCheck::of(&compiled.leaves[number]));
        }
        Rulebook {
            site: Site::of(&activation.surroundings),
            reads_heads: compiled.reads(Source::Packet, Field::PayloadText),
            activation,
            compiled,
            refused,
            checks,
            by_source,
            by_outcome,
        }
    }

    pub fn of_packets(&self) -> &[usize] {
        &self.by_source[0]
    }

    pub fn of_connections(&self) -> &[usize] {
        &self.by_source[1]
    }

    /// Those that may look at an attempt of which this came.
    pub fn of_outcome(&self, outcome: Outcome) -> &[usize] {
        &self.by_outcome[outcome as usize]
    }

    pub fn of_neighbours(&self) -> &[usize] {
        &self.by_source[2]
    }

    pub fn rule(&self, number: usize) -> &CompiledRule {
        &self.compiled.rules[number]
    }

    /// The rows that meet each rule of packets, by rule, without those that none meets.
    pub fn rows(&self, columns: &Columns<'_>) -> Vec<(usize, Mask)> {
        let leaves: Vec<Option<Mask>> = self
            .checks
            .iter()
            .map(|check| check.as_ref().map(|check| check.rows(columns, &self.site)))
            .collect();
        let all = &columns.kinds.all;
        self.of_packets()
            .iter()
            .map(|number| {
                let rule = self.rule(*number);
                let mut rows = rows_of(&rule.condition, &leaves, all, columns.times);
                if !rule.counts_duplicates {
                    rows.without(&columns.duplicates);
                }
                (*number, rows)
            })
            .filter(|(_, rows)| !rows.is_empty())
            .collect()
    }

    /// What a rule with a window may keep.
    pub fn limits(&self, rule: &CompiledRule) -> Limits {
        let windowed = self
            .compiled
            .rules
            .iter()
            .filter(|rule| matches!(rule.when, When::Window(_)));
        let share = CELLS_MAX / windowed.count().max(1);
        let needed = match &rule.when {
            When::Window(window) => cells_needed(window),
            When::Each | When::Value { .. } => 0,
        };
        Limits {
            keys: KEYS_MAX,
            cells: share.max(CELLS_MIN).max(needed),
        }
    }
}

/// Whether a rule's condition can hold, or take something back, for rows of this outcome.
fn may_look_at(compiled: &Compiled, rule: &CompiledRule, outcome: Outcome) -> bool {
    let says = |number: usize| {
        let leaf = &compiled.leaves[number];
        (leaf.field == Field::ConnectionOutcome).then(|| leaf.check.holds(Some(&Cell::text(outcome.name()))))
    };
    let mut conditions = std::iter::once(&rule.condition).chain(&rule.withdrawn);
    conditions.any(|condition| condition.known(&says) != Some(false))
}

/// What a rule needs so that single keys stay exact, whatever its share is.
fn cells_needed(window: &WindowRule) -> usize {
    let per_key = match window.measure {
        Measure::Rows | Measure::Distinct(_) => usize::try_from(window.at_least).unwrap_or(usize::MAX),
        Measure::Sum {
            parts: Some(parts), ..
        } => parts as usize,
        // A threshold is an amount and says nothing of rows.
        Measure::Sum { parts: None, .. } => return QUEUE_MAX,
    };
    per_key.saturating_mul(CELLS_PER_THRESHOLD).min(CELLS_MAX)
}

#[cfg(test)]
mod tests {
    use watchfold_schemas::observation::Body;
    use watchfold_schemas::rules::{Surroundings, Trigger};

    use super::*;
    use crate::packets::testing::activation;
    use crate::packets::testing::rules::{count, rule, set, sum, truth};

    /// One of a hundred rules like it may keep so much.
    fn check(trigger: &Trigger, want: usize) {
        let named = |number| {
            let name = format!("many_{number}");
            rule(&name, truth("tcp.syn", true), trigger.clone(), &["source.ip"])
        };
        let rules = set((0..100).map(named).collect());
        let Body::Rules(activation) = activation(&rules, Surroundings::default()).body else {
            panic!("an activation")
        };
        let book = Rulebook::of(*activation);
        assert_eq!(book.refused, 0);
        assert_eq!(book.limits(book.rule(0)).cells, want, "{trigger:?}");
    }

    #[test]
    fn what_a_rule_may_keep_goes_by_rows_and_not_by_bytes() {
        let (share, by) = (CELLS_MAX / 100, ["source.ip"]);
        check(&count(&by, 1_000, 10), share);
        check(&count(&by, 1_000, 100_000), 400_000);
        check(&sum("network.bytes", &by, 60_000, 5_000_000, None), QUEUE_MAX);
        check(&sum("network.bytes", &by, 60_000, 5_000_000, Some(60)), share);
    }
}
