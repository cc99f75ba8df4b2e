//! What a rule measures with one row, for rows that come one by one.

use watchfold_schemas::Time;
use watchfold_schemas::fields::Field;

use super::cell::{Cell, Row};
use super::compile::{Compiled, CompiledRule, Measure, When, WindowRule};
use super::print::Print;
use super::window::{Entry, Windows};

/// A rule's figure after a row, and the threshold before any reputation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    pub observed: u64,
    pub base_threshold: u64,
    /// The first packet that counted, and how many rows did.
    pub first: u64,
    pub total: u64,
}

/// Takes a row that meets a rule's condition. `None` where the row lacks a field that is grouped by or measured.
pub fn measure(
    compiled: &Compiled,
    rule: &CompiledRule,
    windows: Option<&mut Windows>,
    row: &dyn Row,
    at: Time,
    number: u64,
) -> Option<Measured> {
    let alone = |observed, base_threshold| Measured {
        observed,
        base_threshold,
        first: number,
        total: 1,
    };
    match &rule.when {
        When::Each => Some(alone(1, 1)),
        When::Value { field, at_least } => Some(alone(amount_of(&row.cell(*field)?)?, *at_least)),
        When::Window(window) => {
            let key = key_of(&compiled.groups[window.group], row)?;
            let amount = amount(window, row)?;
            let windows = windows?;
            let pushed = windows.push(key, Entry { at, number, amount });
            let (first, total) = windows.causes(pushed.window);
            Some(Measured {
                observed: pushed.observed,
                base_threshold: window.at_least,
                first,
                total,
            })
        }
    }
}

/// The key of a row within a group of fields; `None` where it lacks one.
pub fn key_of(group: &[Field], row: &dyn Row) -> Option<Print> {
    joined(group, |field| row.print(field))
}

/// What an alert about this row is about. A field that the row lacks is a value like others.
pub fn subject_of(rule: &CompiledRule, row: &dyn Row) -> Print {
    let print = |field| Some(row.print(field).unwrap_or_default());
    joined(&rule.subject, print).unwrap_or_default()
}

/// The print of several fields, in their order; `None` where one is missing.
pub fn joined(fields: &[Field], print: impl Fn(Field) -> Option<Print>) -> Option<Print> {
    let mut out: Option<Print> = None;
    for field in fields {
        let print = print(*field)?;
        out = Some(out.map_or(print, |out| out.with(print)));
    }
    Some(out.unwrap_or_default())
}

fn amount(window: &WindowRule, row: &dyn Row) -> Option<u64> {
    match window.measure {
        Measure::Rows => Some(1),
        Measure::Distinct(field) => value_of(row, field),
        Measure::Sum { field, .. } => amount_of(&row.cell(field)?),
    }
}

/// What a row adds to a sum; a negative number adds nothing.
pub fn amount_of(cell: &Cell<'_>) -> Option<u64> {
    match cell {
        Cell::Number(number) => Some(u64::try_from(*number).unwrap_or_default()),
        _ => None,
    }
}

/// What tells a value apart within a window: numbers as they are.
pub fn value_of(row: &dyn Row, field: Field) -> Option<u64> {
    match row.cell(field)? {
        Cell::Number(number) => Some(number as u64),
        _ => row.print(field).map(Print::short),
    }
}

/// Takes back what a row says: its value no longer counts for its key.
pub fn withdraw(compiled: &Compiled, window: &WindowRule, windows: &mut Windows, row: &dyn Row) {
    let key = key_of(&compiled.groups[window.group], row);
    if let (Some(key), Some(value)) = (key, amount(window, row)) {
        windows.withdraw(key, value);
    }
}
