//! Holds the rules against rows that come one by one: what became of attempts to connect, and neighbours.

use watchfold_schemas::Time;
use watchfold_schemas::alert::Tier;

use super::hits::{Hit, Place, What};
use super::reputation::{ASK_FROM_PERMILLE, Verdicts, threshold};
use super::rulebook::Rulebook;
use super::telling::nearness_permille;
use crate::engine::cell::{Cell, Row};
use crate::engine::compile::{CompiledRule, When};
use crate::engine::measure::{measure, withdraw};
use crate::engine::window::Windows;

/// A row that is no packet, and the packet that made it.
#[derive(Clone, Copy)]
pub struct SingleRow<'a> {
    pub row: &'a dyn Row,
    pub what: What,
    pub place: Place,
    pub at: Time,
    pub number: u64,
}

/// Tries rules on one row and adds what comes of it.
pub fn judge_row(
    book: &Rulebook,
    rules: &[usize],
    verdicts: &Verdicts,
    windows: &mut [Option<Windows>],
    single: SingleRow<'_>,
    hits: &mut Vec<Hit>,
) {
    for number in rules {
        let rule = book.rule(*number);
        let mut windows = windows.get_mut(*number).and_then(Option::as_mut);
        if book.compiled.is_withdrawn(rule, single.row, single.at)
            && let (When::Window(window), Some(windows)) = (&rule.when, windows.as_deref_mut())
        {
            withdraw(&book.compiled, window, windows, single.row);
        }
        if !book.compiled.holds(rule, single.row, single.at) {
            continue;
        }
        let measured = measure(
            &book.compiled,
            rule,
            windows,
            single.row,
            single.at,
            single.number,
        );
        let Some(measured) = measured else {
            continue;
        };
        let tier = tier(rule, verdicts, single);
        let threshold = threshold(measured.base_threshold, tier);
        let holds = measured.observed >= threshold;
        let is_near = nearness_permille(measured.observed, threshold) >= ASK_FROM_PERMILLE;
        let asks = book.site.lookups && rule.reputation.is_some() && is_near;
        if holds || asks {
            hits.push(Hit {
                place: single.place,
                rule: *number as u16,
                at: single.at,
                number: single.number,
                what: single.what,
                observed: measured.observed,
                threshold,
                tier,
                first: measured.first,
                total: measured.total,
                holds,
                asks,
            });
        }
    }
}

fn tier(rule: &CompiledRule, verdicts: &Verdicts, single: SingleRow<'_>) -> Tier {
    let subject = rule.reputation.filter(|_| !verdicts.is_empty());
    match subject.and_then(|field| single.row.cell(field)) {
        Some(Cell::Address(address)) => verdicts.tier_of_address(address, single.at),
        Some(Cell::Text(name)) => verdicts.tier_of_name(&name, single.at),
        _ => Tier::Clean,
    }
}
