//! What the rows of one collector did so far: the windows of each rule, its attacks, and the last records that counted.

use std::collections::{BTreeMap, VecDeque};

use watchfold_schemas::Time;
use watchfold_schemas::alert::Measured;
use watchfold_schemas::event::Causes;
use watchfold_schemas::origin::MessageId;
use watchfold_schemas::rules::Rule;

use crate::detections::attacks::Attacks;
use crate::engine::cell::Row;
use crate::engine::compile::{Compiled, CompiledRule, When, judges_alike};
use crate::engine::measure::{Measured as Counted, measure};
use crate::engine::window::{Limits, Windows};

/// The bounds of one rule's windows at one collector: as many keys as a site has targets, and room for the rows of each.
pub const LIMITS: Limits = Limits {
    keys: 16_384,
    cells: 262_144,
};

/// The last records in which a row met a condition, to name the first that counted; about a quarter of an hour of them.
const RECORDS_MAX: usize = 256;

/// One collector.
#[derive(Debug, Default)]
pub struct Watch {
    /// By rule.
    pub windows: BTreeMap<String, Windows>,
    pub attacks: Attacks,
    /// Records that counted, numbered as they came.
    pub records: VecDeque<(u64, MessageId)>,
    pub next_record: u64,
    /// When the timer of its attacks is due.
    pub timer: Option<Time>,
    pub dirty: bool,
}

/// A condition that holds: how far it went, and the records behind it.
pub struct Reached {
    pub measured: Measured,
    pub causes: Causes,
}

impl Watch {
    /// Counts a row that meets a rule's condition; tells when it makes the rule's trigger hold.
    pub fn measure(
        &mut self,
        compiled: &Compiled,
        rule: &CompiledRule,
        row: &dyn Row,
        at: Time,
        message: Option<&MessageId>,
    ) -> Option<Reached> {
        self.dirty = true;
        let number = self.number_of(message);
        let windows = self.windows_of(rule);
        let measured = measure(compiled, rule, windows, row, at, number)?;
        (measured.observed >= measured.base_threshold).then(|| self.reached(rule, measured))
    }

    /// `None` for a rule without a window.
    fn windows_of(&mut self, rule: &CompiledRule) -> Option<&mut Windows> {
        let When::Window(window) = &rule.when else {
            return None;
        };
        let name = &rule.rule.name;
        if !self.windows.contains_key(name) {
            self.windows.insert(name.clone(), Windows::new(window, LIMITS));
        }
        self.windows.get_mut(name)
    }

    fn reached(&self, rule: &CompiledRule, counted: Counted) -> Reached {
        let measured = Measured {
            observed: counted.observed,
            threshold: counted.base_threshold,
            base_threshold: counted.base_threshold,
            window_ms: u64::try_from(rule.window().as_millis()).unwrap_or_default(),
        };
        let first = self.records.iter().find(|(number, _)| *number == counted.first);
        let last = self.records.back().filter(|last| Some(*last) != first);
        let named = first.into_iter().chain(last).map(|(_, message)| message.clone());
        let causes = Causes {
            messages: named.collect(),
            total: counted.total,
        };
        Reached { measured, causes }
    }

    fn number_of(&mut self, message: Option<&MessageId>) -> u64 {
        let Some(message) = message else {
            return self.next_record;
        };
        if let Some((number, last)) = self.records.back()
            && last == message
        {
            return *number;
        }
        let number = self.next_record;
        self.next_record += 1;
        self.records.push_back((number, message.clone()));
        if self.records.len() > RECORDS_MAX {
            self.records.pop_front();
        }
        number
    }

    /// Rules that count the same rows in the same way keep their windows. Tells what is stored of the others.
    pub fn keep_unchanged(&mut self, collector: &str, before: &[Rule], after: &[Rule]) -> Vec<Vec<u8>> {
        let mut gone = Vec::new();
        self.windows.retain(|name, _| {
            let of = |rules: &'_ [Rule]| rules.iter().position(|rule| rule.name == *name);
            let kept = match (of(before), of(after)) {
                (Some(old), Some(new)) => judges_alike(&before[old], &after[new]),
                _ => false,
            };
            if !kept {
                gone.extend(super::stored::shard_keys(collector, name));
            }
            kept
        });
        gone
    }

    /// What was forgotten before its time, or never begun, since the last call.
    pub fn take_forgotten(&mut self) -> u64 {
        let of_windows: u64 = self.windows.values_mut().map(Windows::take_evicted).sum();
        let of_attacks = [&mut self.attacks.evicted, &mut self.attacks.refused];
        of_windows + of_attacks.into_iter().map(std::mem::take).sum::<u64>()
    }
}
