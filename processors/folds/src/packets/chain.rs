//! The packet chain: records in the order of the log, each in its collector's own time, under the rules in force.

mod machine;
mod stored;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use watchfold_schemas::Time;
use watchfold_schemas::alert::Attack;
use watchfold_schemas::observation::{Gap, Observation};
use watchfold_schemas::origin::{Cause, MessageId};
use watchfold_schemas::packets::{CaptureCounts, PacketBatch};
use watchfold_schemas::rules::{RuleState, RulesActivation};

use super::attacks::{Said, Seen};
use super::clock::{CAPTURES_MAX, CaptureClock, CaptureClocks, Order, PacketCounters};
use super::emit::Emitter;
use super::extract::connections::Connections;
use super::point::Point;
use super::reputation::Verdicts;
use super::rulebook::Rulebook;
use super::store::Blobs;
use super::turn::Turn;
use crate::table::Table;

/// Everything of one site that judges packets.
#[derive(Debug)]
pub struct PacketChain {
    site: String,
    begun: Table<Begun>,
    book: Option<Rulebook>,
    clocks: CaptureClocks,
    points: BTreeMap<String, Point>,
    verdicts: Verdicts,
    counters: PacketCounters,
    /// What each capture said last of what it received and what was dropped; for metrics alone.
    counts: BTreeMap<String, CaptureCounts>,
    blobs: Blobs,
    /// What has to be stored again.
    unstored: Unstored,
}

/// What the chain remembers of its beginning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Begun {
    began_ms: u64,
}

/// Which parts of the state changed since they were stored.
#[derive(Debug, Default)]
struct Unstored {
    rules: bool,
    verdicts: bool,
    /// Collectors.
    points: std::collections::BTreeSet<String>,
    /// Beginnings of names of what was dropped.
    gone: Vec<String>,
}

impl PacketChain {
    pub fn new(site: &str) -> PacketChain {
        PacketChain {
            site: site.to_owned(),
            begun: Table::new("packets/begun/"),
            book: None,
            clocks: CaptureClocks::new(),
            points: BTreeMap::new(),
            verdicts: Verdicts::default(),
            counters: PacketCounters::default(),
            counts: BTreeMap::new(),
            blobs: Blobs::default(),
            unstored: Unstored::default(),
        }
    }

    pub fn counters(&self) -> PacketCounters {
        self.counters
    }

    /// The rules in force.
    pub fn rules(&self) -> Option<&RulesActivation> {
        self.book.as_ref().map(|book| &book.activation)
    }

    /// `observed_at` of the first record that was ever folded, in milliseconds: the incarnation of this chain's findings.
    /// 0 before that.
    pub fn began_ms(&self) -> u64 {
        self.begun.get("").map_or(0, |begun| begun.began_ms)
    }

    /// The greatest time of any capture point.
    pub fn now(&self) -> Option<Time> {
        self.clocks.now()
    }

    fn note_counts(&mut self, collector: &str, counts: CaptureCounts) {
        if let Some(known) = self.counts.get_mut(collector) {
            *known = counts;
        } else if self.counts.len() < CAPTURES_MAX {
            self.counts.insert(collector.to_owned(), counts);
        }
    }

    /// Attacks that have not ended, as they stand, each with how far the packets of its capture point go.
    pub fn open_attacks(&self) -> impl Iterator<Item = (&Attack, Time)> {
        self.points.iter().flat_map(|(collector, point)| {
            let clock = self.clocks.captures.get(collector);
            let through = clock.map(|clock| clock.newest).unwrap_or_default();
            point.attacks.open().map(move |attack| (attack, through))
        })
    }

    fn activate(&mut self, activation: &RulesActivation, message: MessageId, out: &mut Emitter) {
        let book = Rulebook::of(activation.clone());
        self.counters.rules_refused += book.refused;
        for (collector, point) in &mut self.points {
            let lost = point.follow(self.book.as_ref(), Some(&book));
            let windows = lost.iter().map(|rule| stored::windows_of(collector, rule));
            self.unstored.gone.extend(windows);
            self.unstored.points.insert(collector.clone());
            let clock = self.clocks.captures.get(collector);
            let at = clock.map_or(activation.at, |clock| clock.newest);
            if !(follows_connections(self.book.as_ref()) && follows_connections(Some(&book))) {
                // Nobody looked meanwhile: what waits for an answer from before may have had it.
                point.connections = Connections::new(clock.map_or(0, |clock| clock.incarnation));
            }
            let mut said = Vec::new();
            let is_in_force = |category: &str, state: RuleState| {
                let mut rules = book.compiled.rules.iter().map(|rule| &rule.rule);
                rules.any(|rule| rule.category == category && rule.state == state)
            };
            point.attacks.keep_only(at, is_in_force, &mut said);
            for Said { at, attack, body, .. } in said {
                out.emit(&attack, at, Cause::Message(message.clone()), body);
            }
        }
        self.book = Some(book);
        self.unstored.rules = true;
    }

    /// A record of a capture point.
    fn record(
        &mut self,
        observation: &Observation,
        batch: Option<&PacketBatch>,
        gap: Option<&Gap>,
        out: &mut Emitter,
    ) {
        let collector = &observation.origin.collector;
        while !self.clocks.admits(collector) {
            self.forget_oldest(out);
        }
        let view = match batch.map(PacketBatch::view).transpose() {
            Ok(view) => view,
            Err(_) => {
                self.counters.malformed_batches += 1;
                None
            }
        };
        self.renew(observation, out);
        let first = view
            .filter(|view| !view.is_empty())
            .map_or(observation.through, |view| view.at(0).min(observation.through));
        self.jump_over_unseen(observation, first, gap);
        let clock = self.clocks.captures.entry_or_default(collector);
        let mut times = Vec::new();
        if let Some(view) = view {
            clock.interface.clone_from(&view.batch().source.name);
            times.reserve_exact(view.len());
            self.counters.packets += view.len() as u64;
            for row in 0..view.len() {
                let (at, order) = clock.count(view.at(row), observation.through);
                self.counters.late_packets += u64::from(order == Order::Late);
                self.counters.ahead_packets += u64::from(order == Order::Ahead);
                times.push(at);
            }
        }
        clock.newest = clock.newest.max(observation.through);
        let (through, interface) = (clock.newest, clock.interface.clone());
        let Some(book) = &self.book else {
            return;
        };
        let point = self
            .points
            .entry(collector.clone())
            .or_insert_with(|| Point::new(Some(book), observation.origin.incarnation));
        let mut turn = Turn {
            book,
            verdicts: &self.verdicts,
            seen: Seen {
                site: &self.site,
                collector,
                incarnation: observation.origin.incarnation,
                interface: &interface,
            },
            point,
            out,
        };
        match view {
            Some(view) => {
                turn.batch(view, &times, through);
                self.counters.batches_without_heads += u64::from(book.reads_heads && lacks_heads(&view));
            }
            None => turn.quiet(through),
        }
        self.counters.duplicate_packets += std::mem::take(&mut point.copies);
        self.counters.originals_evicted += std::mem::take(&mut point.duplicates.evicted);
        let (windows, facts) = point.take_evicted();
        self.counters.windows_evicted += windows;
        self.counters.facts_evicted += facts;
        self.counters.lookups_withheld += std::mem::take(&mut point.questions.put_off);
        self.unstored.points.insert(collector.clone());
    }

    /// Too many capture points: the one whose packets are oldest goes, and its attacks are over.
    fn forget_oldest(&mut self, out: &mut Emitter) {
        let Some(collector) = self.clocks.oldest() else {
            return;
        };
        let clock = self.clocks.captures.remove(&collector).unwrap_or_default();
        if let (Some(book), Some(mut point)) = (&self.book, self.points.remove(&collector)) {
            let mut turn = Turn {
                book,
                verdicts: &self.verdicts,
                seen: Seen {
                    site: &self.site,
                    collector: &collector,
                    incarnation: clock.incarnation,
                    interface: &clock.interface,
                },
                point: &mut point,
                out,
            };
            turn.end_all(clock.newest);
        }
        self.counters.captures_forgotten += 1;
        self.unstored.points.remove(&collector);
        let gone = [stored::point_of(&collector), stored::windows_of_all(&collector)];
        self.unstored.gone.extend(gone);
    }

    /// A new incarnation: windows begin anew and attacks end. Who has which address is still known.
    fn renew(&mut self, observation: &Observation, out: &mut Emitter) {
        let (collector, incarnation) = (&observation.origin.collector, observation.origin.incarnation);
        let before = self.clocks.captures.get(collector).cloned();
        let Some(before) = before.filter(|clock| clock.incarnation != incarnation) else {
            let clock = self.clocks.captures.entry_or_default(collector);
            clock.incarnation = incarnation;
            return;
        };
        if let (Some(book), Some(point)) = (&self.book, self.points.get_mut(collector)) {
            let mut turn = Turn {
                book,
                verdicts: &self.verdicts,
                seen: Seen {
                    site: &self.site,
                    collector,
                    incarnation: before.incarnation,
                    interface: &before.interface,
                },
                point,
                out,
            };
            turn.end_all(before.newest);
            let fresh = Point::new(Some(book), incarnation);
            let old = std::mem::replace(point, fresh);
            point.neighbours = old.neighbours;
            point.questions = old.questions;
            self.unstored.gone.push(stored::windows_of_all(collector));
        }
        self.clocks.captures.insert(
            collector,
            CaptureClock {
                incarnation,
                ..CaptureClock::default()
            },
        );
    }

    /// A span of which no packets are left, whether its collector or the log lost them: what waits for its end waits longer.
    fn jump_over_unseen(&mut self, observation: &Observation, first: Time, gap: Option<&Gap>) {
        let Some(clock) = self.clocks.captures.get_mut(&observation.origin.collector) else {
            return;
        };
        let was_lost = std::mem::take(&mut clock.lost);
        let until = match gap {
            Some(gap) => gap.to,
            None if was_lost => first,
            None => return,
        };
        if clock.newest == Time::default() {
            return;
        }
        let from = gap.map_or(clock.newest, |gap| gap.from.max(clock.newest));
        let span = until.since(from);
        if !span.is_positive() {
            return;
        }
        clock.newest = clock.newest.max(until);
        if let Some(point) = self.points.get_mut(&observation.origin.collector) {
            point.attacks.postpone(span);
            point.connections.forget_waiting();
        }
    }
}

fn follows_connections(book: Option<&Rulebook>) -> bool {
    book.is_some_and(|book| !book.of_connections().is_empty())
}

/// There are payloads and the beginning of none: the capture keeps none, or not of these ports.
fn lacks_heads(view: &watchfold_schemas::packets::PacketView<'_>) -> bool {
    use watchfold_schemas::packets::marks::PAYLOAD;
    view.batch().heads.is_empty() && view.all_marks().iter().any(|bits| bits & PAYLOAD != 0)
}

#[cfg(test)]
mod tests;
