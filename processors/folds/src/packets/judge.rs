//! Holds the rules against a batch: rule by rule over the rows that meet it, so that a rule's windows are at hand while they
//! are needed. What comes of it is put in the order of rows afterwards.

use watchfold_schemas::Time;
use watchfold_schemas::alert::Tier;
use watchfold_schemas::fields::Field;

use super::columns::Columns;
use super::hits::{Hit, Place, What};
use super::mask::Mask;
use super::reputation::{ASK_FROM_PERMILLE, Verdicts, threshold};
use super::rows::PacketRow;
use super::rulebook::Rulebook;
use super::telling::nearness_permille;
use crate::engine::cell::{Cell, Row};
use crate::engine::compile::{CompiledRule, Measure, When, WindowRule};
use crate::engine::measure::{amount_of, joined, value_of};
use crate::engine::print::Print;
use crate::engine::window::{Entry, Table, Window, Windows};

/// Rules over one batch.
pub struct Judge<'a> {
    book: &'a Rulebook,
    verdicts: &'a Verdicts,
    columns: &'a Columns<'a>,
    /// By address: somebody has called it something else than clean.
    suspects: Vec<bool>,
    /// By group of fields, once a rule needs it: the key of each row.
    keys: Vec<Option<Vec<Key>>>,
    /// By group: several rules have windows by it.
    shared: Vec<bool>,
    /// A table of windows by address that no rule uses at the moment.
    spare: Vec<u32>,
    pub hits: Vec<Hit>,
}

/// The key of a row within a group of fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    /// Nobody has asked.
    Unknown,
    /// The row lacks a field of the group.
    Lacking,
    Known(Print),
}

/// How rows get their keys.
enum Keys<'k> {
    /// By an address alone: its print is in the dictionary, and so is where its window was last time.
    Address { column: &'k [u16], windows: Vec<u32> },
    /// By several fields, or another one. Keys that further rules need, too, are known by row.
    Fields {
        fields: &'k [Field],
        known: Option<Vec<Key>>,
    },
}

/// No window is known.
const NO_WINDOW: u32 = u32::MAX;

impl<'a> Judge<'a> {
    pub fn new(book: &'a Rulebook, verdicts: &'a Verdicts, columns: &'a Columns<'a>) -> Judge<'a> {
        let first = columns.times.first().copied().unwrap_or_default();
        let suspects = if verdicts.is_empty() {
            Vec::new()
        } else {
            let tier = |address| verdicts.tier_of_address(address, first);
            columns
                .known
                .iter()
                .map(|known| tier(known.address) != Tier::Clean)
                .collect()
        };
        Judge {
            book,
            verdicts,
            columns,
            suspects,
            keys: book.compiled.groups.iter().map(|_| None).collect(),
            shared: shared_groups(book),
            spare: Vec::new(),
            hits: Vec::new(),
        }
    }

    /// All rules of packets.
    pub fn packets(&mut self, windows: &mut [Option<Windows>]) {
        for (number, rows) in self.book.rows(self.columns) {
            let rule = self.book.rule(number);
            match (&rule.when, windows.get_mut(number)) {
                (When::Each, _) => rows.rows().for_each(|row| self.value(number, rule, row, 1, 1)),
                (When::Value { field, at_least }, _) => {
                    for row in rows.rows() {
                        if let Some(value) = self.amount(*field, row) {
                            self.value(number, rule, row, value, *at_least);
                        }
                    }
                }
                (When::Window(window), Some(Some(windows))) => match windows {
                    Windows::Rows(table) => self.window(number, window, table, &rows),
                    Windows::Distinct(table) => self.window(number, window, table, &rows),
                    Windows::Queue(table) => self.window(number, window, table, &rows),
                    Windows::Parts(table) => self.window(number, window, table, &rows),
                },
                (When::Window(_), _) => {}
            }
        }
    }

    /// A row that is measured alone.
    fn value(&mut self, number: usize, rule: &CompiledRule, row: u16, value: u64, base: u64) {
        let at = self.columns.times[usize::from(row)];
        let tier = self.tier(rule, row, at);
        let threshold = threshold(base, tier);
        let holds = value >= threshold;
        let asks = self.asks(rule, row, value, threshold);
        if holds || asks {
            let packet = self.columns.view.number(usize::from(row));
            let (first, total) = (packet, 1);
            self.hits.push(Hit {
                place: Place::of_row(row),
                rule: number as u16,
                at,
                number: packet,
                what: What::Packet(row),
                observed: value,
                threshold,
                tier,
                first,
                total,
                holds,
                asks,
            });
        }
    }

    fn window<W: Window>(&mut self, number: usize, window: &WindowRule, table: &mut Table<W>, rows: &Mask) {
        let rule = self.book.rule(number);
        let is_plain = rule.reputation.is_none() || (self.suspects.is_empty() && !self.book.site.lookups);
        for (row, key, hint) in self.found(window.group, table, rows) {
            let amount = match window.measure {
                Measure::Rows => Some(1),
                Measure::Distinct(field) => self.value_print(field, row),
                Measure::Sum { field, .. } => self.amount(field, row),
            };
            let Some(amount) = amount else {
                continue;
            };
            let at = self.columns.times[usize::from(row)];
            let packet = self.columns.view.number(usize::from(row));
            let entry = Entry {
                at,
                number: packet,
                amount,
            };
            let pushed = table.push(key, hint, entry);
            let (tier, threshold) = if is_plain {
                (Tier::Clean, window.at_least)
            } else {
                let tier = self.tier(rule, row, at);
                (tier, threshold(window.at_least, tier))
            };
            let holds = pushed.observed >= threshold;
            let asks = !is_plain && self.asks(rule, row, pushed.observed, threshold);
            if holds || asks {
                let (first, total) = table.causes(pushed.window);
                self.hits.push(Hit {
                    place: Place::of_row(row),
                    rule: number as u16,
                    at,
                    number: packet,
                    what: What::Packet(row),
                    observed: pushed.observed,
                    threshold,
                    tier,
                    first,
                    total,
                    holds,
                    asks,
                });
            }
        }
    }

    /// Rows with their keys and where the windows of these are. All are looked up before the first is touched, so that
    /// memory answers for several at a time.
    fn found<W: Window>(
        &mut self,
        group: usize,
        table: &Table<W>,
        rows: &Mask,
    ) -> Vec<(u16, Print, Option<u32>)> {
        let mut keys = self.take_keys(group);
        let mut found = Vec::with_capacity(rows.count());
        for row in rows.rows() {
            if let Some((key, hint)) = keys.of(self, row) {
                let window = hint.or_else(|| table.find(key));
                if let Some(window) = window {
                    keys.remember(row, window);
                }
                found.push((row, key, window));
            }
        }
        self.give_back(group, keys);
        found
    }

    fn row(&self, row: u16) -> PacketRow<'a> {
        PacketRow {
            columns: self.columns,
            site: &self.book.site,
            row,
        }
    }

    fn indices(&self, field: Field) -> Option<&'a [u16]> {
        match field {
            Field::SourceIp => Some(&self.columns.sources),
            Field::DestinationIp => Some(&self.columns.destinations),
            Field::ExternalIp => Some(&self.columns.external),
            _ => None,
        }
    }

    /// The print of a field, as [`Print::of`] its cell has it.
    fn print(&self, field: Field, row: u16) -> Option<Print> {
        if let Some(indices) = self.indices(field) {
            return self
                .columns
                .known(indices[usize::from(row)])
                .map(|known| known.print);
        }
        self.row(row).cell(field).map(|cell| Print::of(&cell))
    }

    fn amount(&self, field: Field, row: u16) -> Option<u64> {
        if field == Field::Bytes {
            return Some(u64::from(self.columns.lengths[usize::from(row)]));
        }
        amount_of(&self.row(row).cell(field)?)
    }

    fn value_print(&self, field: Field, row: u16) -> Option<u64> {
        if field == Field::DestinationPort {
            let has_ports = self.columns.kinds.with_ports.has(row);
            return has_ports.then(|| u64::from(self.columns.destination_ports[usize::from(row)]));
        }
        if let Some(indices) = self.indices(field) {
            let known = self.columns.known(indices[usize::from(row)]);
            return known.map(|known| known.print.short());
        }
        value_of(&self.row(row), field)
    }

    /// What is thought of the address or name that a rule asks about.
    fn tier(&self, rule: &CompiledRule, row: u16, at: Time) -> Tier {
        let Some(field) = rule.reputation else {
            return Tier::Clean;
        };
        if self.suspects.is_empty() {
            return Tier::Clean;
        }
        if let Some(indices) = self.indices(field) {
            let index = usize::from(indices[usize::from(row)]);
            return match self.columns.known.get(index) {
                Some(known) if self.suspects[index] => self.verdicts.tier_of_address(known.address, at),
                _ => Tier::Clean,
            };
        }
        match self.row(row).cell(field) {
            Some(Cell::Text(name)) => self.verdicts.tier_of_name(&name, at),
            _ => Tier::Clean,
        }
    }

    /// Whether this row brings its rule so near that an oracle may be asked. Who was asked when is not looked at here: it
    /// depends on rows before.
    fn asks(&self, rule: &CompiledRule, row: u16, observed: u64, threshold: u64) -> bool {
        let Some(field) = rule.reputation.filter(|_| self.book.site.lookups) else {
            return false;
        };
        if nearness_permille(observed, threshold) < ASK_FROM_PERMILLE {
            return false;
        }
        let Some(indices) = self.indices(field) else {
            return true;
        };
        let index = usize::from(indices[usize::from(row)]);
        let known = self.columns.known.get(index);
        known.is_some_and(|known| known.class.may_ask())
    }

    fn take_keys(&mut self, group: usize) -> Keys<'a> {
        let fields = self.book.compiled.groups[group].as_slice();
        if let [field] = fields
            && let Some(column) = self.indices(*field)
        {
            let mut windows = std::mem::take(&mut self.spare);
            windows.clear();
            windows.resize(self.columns.known.len(), NO_WINDOW);
            return Keys::Address { column, windows };
        }
        let known = self.shared[group].then(|| {
            let known = self.keys[group].take();
            known.unwrap_or_else(|| vec![Key::Unknown; self.columns.len()])
        });
        Keys::Fields { fields, known }
    }

    fn give_back(&mut self, group: usize, keys: Keys<'a>) {
        match keys {
            Keys::Address { windows, .. } => self.spare = windows,
            Keys::Fields { known, .. } => self.keys[group] = known,
        }
    }
}

/// Whether several rules of packets have windows by the same fields.
fn shared_groups(book: &Rulebook) -> Vec<bool> {
    let mut rules = vec![0; book.compiled.groups.len()];
    for number in book.of_packets() {
        if let When::Window(window) = &book.rule(*number).when {
            rules[window.group] += 1;
        }
    }
    rules.into_iter().map(|rules| rules > 1).collect()
}

impl Keys<'_> {
    /// The key of a row, and where its window was when it was last seen.
    fn of(&mut self, judge: &Judge<'_>, row: u16) -> Option<(Print, Option<u32>)> {
        match self {
            Keys::Address { column, windows } => {
                let index = usize::from(column[usize::from(row)]);
                let known = judge.columns.known.get(index)?;
                Some((
                    known.print,
                    Some(windows[index]).filter(|window| *window != NO_WINDOW),
                ))
            }
            Keys::Fields { fields, known } => {
                let joined = || joined(fields, |field| judge.print(field, row));
                let Some(known) = known else {
                    return joined().map(|key| (key, None));
                };
                let key = &mut known[usize::from(row)];
                if *key == Key::Unknown {
                    *key = joined().map_or(Key::Lacking, Key::Known);
                }
                match key {
                    Key::Known(print) => Some((*print, None)),
                    Key::Unknown | Key::Lacking => None,
                }
            }
        }
    }

    fn remember(&mut self, row: u16, window: u32) {
        if let Keys::Address { column, windows } = self {
            windows[usize::from(column[usize::from(row)])] = window;
        }
    }
}
