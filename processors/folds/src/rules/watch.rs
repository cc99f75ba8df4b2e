//! What the rows of one collector did so far: the windows of each rule, its attacks, and the last records that counted.

use std::collections::{BTreeMap, VecDeque};

use watchfold_schemas::Time;
use watchfold_schemas::alert::Measured;
use watchfold_schemas::event::Causes;
use watchfold_schemas::fields::Field;
use watchfold_schemas::origin::MessageId;
use watchfold_schemas::rules::Rule;

use crate::engine::cell::{Cell, Row};
use crate::engine::compile::{Compiled, CompiledRule, Measure, When, WindowRule};
use crate::engine::print::Print;
use crate::engine::window::{Entry, Limits, Windows};
use crate::packets::attacks::Attacks;

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
    pub windows_evicted: u64,
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
        match &rule.when {
            When::Each => Some(self.reached(1, 1, 0, (number, 1))),
            When::Value { field, at_least } => {
                let value = number_in(row, *field)?;
                (value >= *at_least).then(|| self.reached(value, *at_least, 0, (number, 1)))
            }
            When::Window(window) => {
                let key = print_of_all(&compiled.groups[window.group], row)?;
                let entry = Entry {
                    at,
                    number,
                    amount: amount(&window.measure, row)?,
                };
                let windows = self.windows_of(rule, window);
                let pushed = windows.push(key, entry);
                let (causes, evicted) = (windows.causes(pushed.window), windows.take_evicted());
                self.windows_evicted += evicted;
                let window_ms = window.span.as_millis() as u64;
                let reached = pushed.observed >= window.at_least;
                reached.then(|| self.reached(pushed.observed, window.at_least, window_ms, causes))
            }
        }
    }

    fn windows_of(&mut self, rule: &CompiledRule, window: &WindowRule) -> &mut Windows {
        let name = &rule.rule.name;
        if !self.windows.contains_key(name) {
            self.windows.insert(name.clone(), Windows::new(window, LIMITS));
        }
        match self.windows.get_mut(name) {
            Some(windows) => windows,
            None => unreachable!("it was inserted just now"),
        }
    }

    /// `first` is the number of the first record that counts, and how many rows do.
    fn reached(&self, observed: u64, threshold: u64, window_ms: u64, (first, rows): (u64, u64)) -> Reached {
        let measured = Measured {
            observed,
            threshold,
            base_threshold: threshold,
            window_ms,
        };
        let first = self.records.iter().find(|(number, _)| *number == first);
        let last = self.records.back().filter(|last| Some(*last) != first);
        let named = first.into_iter().chain(last).map(|(_, message)| message.clone());
        let causes = Causes {
            messages: named.collect(),
            total: rows,
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

    /// Rules that are as they were keep their windows. Tells what is stored of the others.
    pub fn keep_unchanged(&mut self, collector: &str, before: &[Rule], after: &[Rule]) -> Vec<Vec<u8>> {
        let mut gone = Vec::new();
        self.windows.retain(|name, _| {
            let of = |rules: &[Rule]| rules.iter().find(|rule| rule.name == *name).cloned();
            let kept = of(before) == of(after);
            if !kept {
                gone.extend(super::stored::shard_keys(collector, name));
            }
            kept
        });
        gone
    }

    pub fn forgotten(&self) -> u64 {
        self.windows_evicted + self.attacks.evicted + self.attacks.refused
    }
}

/// What is added up or told apart; `None` where the row lacks it.
fn amount(measure: &Measure, row: &dyn Row) -> Option<u64> {
    match measure {
        Measure::Rows => Some(1),
        Measure::Distinct(field) => row.cell(*field).map(|cell| Print::of(&cell).short()),
        Measure::Sum { field, .. } => number_in(row, *field),
    }
}

fn number_in(row: &dyn Row, field: Field) -> Option<u64> {
    match row.cell(field)? {
        Cell::Number(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

/// The key of a group; a row that lacks a field of it belongs to none.
fn print_of_all(fields: &[Field], row: &dyn Row) -> Option<Print> {
    fields.iter().try_fold(Print::default(), |print, field| {
        row.cell(*field).map(|cell| print.with(Print::of(&cell)))
    })
}

/// The key of a subject, in which a value may be missing.
pub fn print_of(fields: &[Field], row: &dyn Row) -> Print {
    fields.iter().fold(Print::default(), |print, field| {
        let value = row.cell(*field).map_or(Print::default(), |cell| Print::of(&cell));
        print.with(value)
    })
}
