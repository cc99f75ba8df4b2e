//! Many attacks of one category that are one incident.

use serde::{Deserialize, Serialize};

/// The most subjects that a flood names; the total is always kept.
pub const FLOOD_SUBJECTS_NAMED_MAX: usize = 16;

/// Attacks of one category that are one incident, because too many began within a short time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
pub struct Flood {
    pub category: String,
    /// Of the rule of the first attack.
    pub title: String,
    pub of: FloodOf,
    /// What the attacks are about, the first [`FLOOD_SUBJECTS_NAMED_MAX`].
    pub subjects: Vec<String>,
    /// Different subjects; a lower bound beyond the fold's limit.
    pub subjects_total: u64,
    /// Attacks so far, with the first few that are incidents of their own as well.
    pub attacks_total: u64,
}

/// Which end of its attacks a flood counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FloodOf {
    Sources,
    Targets,
    /// What the rule groups by is neither address alone.
    Subjects,
}

impl FloodOf {
    pub const fn name(self) -> &'static str {
        match self {
            FloodOf::Sources => "sources",
            FloodOf::Targets => "targets",
            FloodOf::Subjects => "subjects",
        }
    }
}

impl Flood {
    /// Returns how many there are and the first of them, as one line for a person.
    pub fn in_words(&self) -> String {
        let mut words = format!(
            "{} attacks from {} {}: {}",
            self.attacks_total,
            self.subjects_total,
            self.of.name(),
            self.subjects.join(", ")
        );
        if self.of == FloodOf::Targets {
            words = words.replacen(" from ", " on ", 1);
        }
        let unnamed = self.subjects_total.saturating_sub(self.subjects.len() as u64);
        if unnamed > 0 {
            words.push_str(&format!(" and {unnamed} more"));
        }
        words
    }
}
