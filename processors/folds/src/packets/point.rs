//! What is kept of one capture point: windows of each rule, attempts to connect, neighbours, packets that may be copied, attacks,
//! questions.

use watchfold_schemas::rules::Rule;

use super::attacks::Attacks;
use super::duplicates::Duplicates;
use super::extract::connections::Connections;
use super::extract::neighbours::Neighbours;
use super::reputation::Questions;
use super::rulebook::Rulebook;
use crate::engine::compile::{When, judges_alike};
use crate::engine::window::Windows;

/// The state of one collector. Capture points have clocks of their own, so nothing is shared between them.
#[derive(Debug, Default)]
pub struct Point {
    /// By rule; `None` for rules without a window.
    pub windows: Vec<Option<Windows>>,
    pub connections: Connections,
    pub neighbours: Neighbours,
    pub duplicates: Duplicates,
    /// Copies of packets since the last look.
    pub copies: u64,
    pub attacks: Attacks,
    pub questions: Questions,
}

impl Point {
    /// Nothing yet, for an incarnation under these rules. The incarnation is what senders of packets do not know.
    pub fn new(book: Option<&Rulebook>, incarnation: u64) -> Point {
        let mut out = Point {
            connections: Connections::new(incarnation),
            neighbours: Neighbours::new(incarnation),
            ..Point::default()
        };
        out.follow(None, book);
        out
    }

    /// Other rules: those that judge the same way keep their windows. Tells which rules of the old book lost theirs.
    pub fn follow(&mut self, old: Option<&Rulebook>, new: Option<&Rulebook>) -> Vec<String> {
        let mut before: Vec<(&Rule, Option<Windows>)> = Vec::new();
        if let Some(old) = old {
            let windows = std::mem::take(&mut self.windows);
            before.extend(old.compiled.rules.iter().map(|rule| &rule.rule).zip(windows));
        }
        self.windows.clear();
        let Some(new) = new else {
            return before.into_iter().map(|(rule, _)| rule.name.clone()).collect();
        };
        for rule in &new.compiled.rules {
            let When::Window(window) = &rule.when else {
                self.windows.push(None);
                continue;
            };
            let limits = new.limits(rule);
            let same = before
                .iter_mut()
                .find(|(old, windows)| windows.is_some() && judges_alike(old, &rule.rule));
            let windows = match same.and_then(|(_, windows)| windows.take()) {
                Some(mut windows) => {
                    windows.set_limits(limits);
                    windows
                }
                None => Windows::new(window, limits),
            };
            self.windows.push(Some(windows));
        }
        let lost = before.into_iter().filter(|(_, windows)| windows.is_some());
        lost.map(|(rule, _)| rule.name.clone()).collect()
    }

    /// Keys that windows forgot before their time, and the same of everything else, since the last call.
    pub fn take_evicted(&mut self) -> (u64, u64) {
        let windows = self.windows.iter_mut().flatten().map(Windows::take_evicted).sum();
        let facts = [
            &mut self.connections.evicted,
            &mut self.neighbours.evicted,
            &mut self.attacks.evicted,
            &mut self.attacks.refused,
        ];
        (windows, facts.into_iter().map(std::mem::take).sum())
    }
}
