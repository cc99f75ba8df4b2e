//! The packet chain's state as entries of a store or a snapshot. It is encoded whole, so it is for checkpoints and not for
//! every record.

use serde::Serialize;
use serde::de::DeserializeOwned;
use watchfold_schemas::rules::RulesActivation;

use super::{PacketChain, Point, Rulebook, Unstored};
use crate::machine::{LoadError, StateEntries};
use crate::packets::attacks::Attacks;
use crate::packets::duplicates::Duplicates;
use crate::packets::extract::connections::Connections;
use crate::packets::extract::neighbours::Neighbours;
use crate::packets::reputation::{Questions, Verdicts};
use crate::packets::store::{Blob, Loading};

/// The version of the state of the packet chain.
pub const PACKETS_VERSION: u32 = 2;

const RULES: &str = "packets/rules";
const VERDICTS: &str = "packets/verdicts";
const POINTS: &str = "packets/point/";
const WINDOWS: &str = "packets/windows/";

impl PacketChain {
    pub fn take_entries(&mut self, entries: StateEntries) -> Result<(), LoadError> {
        let mut loading = Loading::default();
        for (key, bytes) in entries {
            let taken = self
                .begun
                .load(&key, &bytes)
                .and_then(|taken| Ok(taken || self.clocks.load(&key, &bytes)?));
            if !taken.map_err(LoadError::Damaged)? {
                loading
                    .take(&key, bytes)
                    .map_err(|key| LoadError::UnknownEntry { key })?;
            }
        }
        let (blobs, stored) = loading.finish().map_err(LoadError::Damaged)?;
        // Rules say which windows there are, and which points.
        for (name, bytes) in &blobs {
            if name == RULES {
                let activation: RulesActivation = decoded(name, bytes)?;
                self.book = Some(Rulebook::of(activation));
            }
        }
        for (name, bytes) in &blobs {
            self.take_blob(name, bytes)?;
        }
        self.blobs = stored;
        Ok(())
    }

    fn take_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), LoadError> {
        let unknown = || LoadError::UnknownEntry { key: name.to_owned() };
        if name == RULES {
            return Ok(());
        }
        if name == VERDICTS {
            self.verdicts = Verdicts::load(decoded(name, bytes)?);
            return Ok(());
        }
        let (rest, is_windows) = match name.strip_prefix(POINTS) {
            Some(rest) => (rest, false),
            None => (name.strip_prefix(WINDOWS).ok_or_else(unknown)?, true),
        };
        let (collector, part) = rest.split_once('/').ok_or_else(unknown)?;
        let incarnation = self
            .clocks
            .captures
            .get(collector)
            .ok_or_else(unknown)?
            .incarnation;
        let book = self.book.as_ref();
        let fresh = || Point::new(book, incarnation);
        let point = self.points.entry(collector.to_owned()).or_insert_with(fresh);
        if is_windows {
            let (rule, shard) = part.split_once('/').ok_or_else(unknown)?;
            let mut rules = book.iter().flat_map(|book| &book.compiled.rules);
            let number = rules
                .position(|compiled| compiled.rule.name == rule)
                .ok_or_else(unknown)?;
            let windows = point
                .windows
                .get_mut(number)
                .and_then(Option::as_mut)
                .ok_or_else(unknown)?;
            let shard = shard.parse().map_err(|_| unknown())?;
            return windows
                .load(shard, bytes)
                .ok_or_else(|| LoadError::Damaged(format!("{name} cannot be read")));
        }
        match part {
            "connections" => point.connections = Connections::load(decoded(name, bytes)?, incarnation),
            "duplicates" => point.duplicates = Duplicates::load(decoded(name, bytes)?),
            "neighbours" => point.neighbours = Neighbours::load(decoded(name, bytes)?, incarnation),
            "attacks" => point.attacks = Attacks::load(decoded(name, bytes)?),
            "questions" => point.questions = Questions::load(decoded(name, bytes)?),
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// What changed, or everything.
    pub(super) fn blobs_of(&self, unstored: Option<&Unstored>) -> Vec<Blob> {
        let mut out = Vec::new();
        if let Some(book) = &self.book
            && unstored.is_none_or(|unstored| unstored.rules)
        {
            // A stored type of its own, which later versions read by its names.
            let activation = rmp_serde::to_vec_named(&book.activation).unwrap_or_default();
            out.push((RULES.to_owned(), activation));
        }
        if unstored.map_or(!self.verdicts.is_empty(), |unstored| unstored.verdicts) {
            out.push((VERDICTS.to_owned(), encoded(&self.verdicts.store())));
        }
        for (collector, point) in &self.points {
            if unstored.is_none_or(|unstored| unstored.points.contains(collector)) {
                self.blobs_of_point(collector, point, unstored.is_none(), &mut out);
            }
        }
        out
    }

    fn blobs_of_point(&self, collector: &str, point: &Point, all: bool, out: &mut Vec<Blob>) {
        let part = |part: &str| format!("{POINTS}{collector}/{part}");
        out.push((part("connections"), encoded(&point.connections.store())));
        out.push((part("duplicates"), encoded(&point.duplicates.store())));
        out.push((part("neighbours"), encoded(&point.neighbours.store())));
        out.push((part("attacks"), encoded(&point.attacks.store())));
        out.push((part("questions"), encoded(&point.questions.store())));
        let rules = self.book.iter().flat_map(|book| &book.compiled.rules);
        for (rule, windows) in rules.zip(&point.windows) {
            for (shard, bytes) in windows.iter().flat_map(|windows| windows.store(all)) {
                let prefix = windows_of(collector, &rule.rule.name);
                out.push((format!("{prefix}{shard:02}"), bytes));
            }
        }
    }
}

/// What the names of everything else of a capture point begin with.
pub fn point_of(collector: &str) -> String {
    format!("{POINTS}{collector}/")
}

/// What the names of a rule's stored windows begin with.
pub fn windows_of(collector: &str, rule: &str) -> String {
    format!("{WINDOWS}{collector}/{rule}/")
}

/// The same of all rules.
pub fn windows_of_all(collector: &str) -> String {
    format!("{WINDOWS}{collector}/")
}

/// By position and not by name, because there are many: the version says what stands where. What it is made of always
/// encodes; an entry that did not would read as damaged and be derived again from the log.
fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec(value).unwrap_or_default()
}

fn decoded<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, LoadError> {
    rmp_serde::from_slice(bytes)
        .map_err(|error| LoadError::Damaged(format!("{name} cannot be read: {error}")))
}
