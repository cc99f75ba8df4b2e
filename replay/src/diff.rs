//! What two derivations of the same observations differ in: outcomes gained, lost and changed, with their fields.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value, json};
use watchfold_schemas::Time;

use crate::outcomes::{Fate, Key, Outcomes};

/// What says when an outcome was over; null, or not there, while it goes on.
const ENDED_AT: &str = "ended_at";

/// Kinds of outcomes that begin and end.
const LASTING: [&str; 3] = ["incident", "session", "attack"];

const STILL_OPEN: &str = "still open";

/// The result of a comparison. Equal outcomes are only counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Diff {
    pub same: u64,
    pub gained: u64,
    pub lost: u64,
    pub changed: u64,
    /// By time, site, kind and subject.
    pub differences: Vec<Difference>,
}

/// One outcome that the two sides disagree about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub change: Change,
    pub site: String,
    /// `incident`, `session`, `jitter`, `attack` or `alert`.
    pub kind: &'static str,
    /// An incident's class, an attack's or alert's category.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub class: String,
    pub subject: String,
    pub started_at: Time,
    /// All fields of what was gained or lost, and those that differ of what was changed.
    pub fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the second side has it.
    Gained,
    /// Only the first side has it.
    Lost,
    Changed,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Field {
    pub name: String,
    pub before: Value,
    pub after: Value,
}

impl Diff {
    pub fn is_same(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Compares what became of the first side with what became of the second. An attack that both sides see and date otherwise has changed.
pub fn diff(before: &Outcomes, after: &Outcomes) -> Diff {
    let mut diff = Diff::default();
    // An incident of an attack says nothing beside the attack.
    let is_told = |fate: &Fate| {
        let is_among = |attack| before.attacks.contains(attack) || after.attacks.contains(attack);
        !fate.attack.as_ref().is_some_and(is_among)
    };
    let keys = |side: &Outcomes| -> BTreeSet<Key> {
        let told = side.by_key.iter().filter(|(_, fate)| is_told(fate));
        told.map(|(key, _)| key.clone()).collect()
    };
    let (left, right) = (keys(before), keys(after));
    let twins = twins(&left, before, &right, after);
    let moved: BTreeSet<&Key> = twins.values().collect();
    let nothing = Map::new();
    let fields_of = |side: &'_ Outcomes, key: &Key| side.by_key.get(key).map(|fate| fate.fields.clone());
    for key in left.union(&right) {
        if moved.contains(key) {
            // Told with the attack that it is.
            continue;
        }
        let twin = twins.get(key);
        let (was, is) = (fields_of(before, key), fields_of(after, twin.unwrap_or(key)));
        let (was, is) = (
            was.filter(|_| left.contains(key)),
            is.filter(|_| twin.is_some() || right.contains(key)),
        );
        let (change, count) = match (&was, &is) {
            (Some(was), Some(is)) if was == is && twin.is_none() => {
                diff.same += 1;
                continue;
            }
            (Some(_), Some(_)) => (Change::Changed, &mut diff.changed),
            (Some(_), None) => (Change::Lost, &mut diff.lost),
            (None, _) => (Change::Gained, &mut diff.gained),
        };
        *count += 1;
        let mut fields = fields(was.as_ref().unwrap_or(&nothing), is.as_ref().unwrap_or(&nothing));
        if let Some(twin) = twin {
            let moved = Field {
                name: "began_at".to_owned(),
                before: json!(key.started_at),
                after: json!(twin.started_at),
            };
            fields.insert(0, moved);
        }
        diff.differences.push(Difference {
            change,
            site: key.site.clone(),
            kind: key.kind,
            class: key.class.clone(),
            subject: key.subject.clone(),
            started_at: key.started_at,
            fields,
        });
    }
    diff
}

/// Attacks of one category and subject that only one side dates so, each with the other side's that overlaps it.
fn twins(
    left: &BTreeSet<Key>,
    before: &Outcomes,
    right: &BTreeSet<Key>,
    after: &Outcomes,
) -> BTreeMap<Key, Key> {
    let is_attack = |key: &&Key| key.kind == "attack";
    type Of<'k> = (&'k str, &'k str, &'k str, &'k str);
    fn of(key: &Key) -> Of<'_> {
        (&key.site, &key.class, &key.subject, &key.collector)
    }
    let mut others: BTreeMap<Of<'_>, Vec<&Key>> = BTreeMap::new();
    for key in right.difference(left).filter(is_attack) {
        others.entry(of(key)).or_default().push(key);
    }
    let until = |side: &Outcomes, key: &Key| side.by_key.get(key).map_or(key.started_at, |fate| fate.until);
    let mut twins = BTreeMap::new();
    for key in left.difference(right).filter(is_attack) {
        let Some(others) = others.get_mut(&of(key)) else {
            continue;
        };
        let is_twin =
            |other: &&Key| other.started_at <= until(before, key) && key.started_at <= until(after, other);
        if let Some(found) = others.iter().position(is_twin) {
            twins.insert(key.clone(), others.remove(found).clone());
        }
    }
    twins
}

fn fields(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Field> {
    let value = |side: &Map<String, Value>, name: &str| side.get(name).cloned().unwrap_or(Value::Null);
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let field = |name: &String| Field {
        name: name.clone(),
        before: value(before, name),
        after: value(after, name),
    };
    names
        .into_iter()
        .map(field)
        .filter(|field| field.before != field.after)
        .collect()
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        write!(
            f,
            "{} gained, {} lost, {} changed, {} the same",
            self.gained, self.lost, self.changed, self.same
        )
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.change {
            Change::Gained => '+',
            Change::Lost => '-',
            Change::Changed => '~',
        };
        let Difference {
            site,
            kind,
            subject,
            started_at,
            ..
        } = self;
        write!(f, "{mark} {started_at}  {site}  {kind}")?;
        if !self.class.is_empty() {
            write!(f, " ({})", self.class)?;
        }
        write!(f, "  {subject}")?;
        for field in &self.fields {
            match self.change {
                Change::Changed => write!(
                    f,
                    "\n    {}: {} -> {}",
                    field.name,
                    text(field, &field.before),
                    text(field, &field.after)
                )?,
                // Of one that stands alone, how long it was says most.
                Change::Gained => alone(f, field, &field.after)?,
                Change::Lost => alone(f, field, &field.before)?,
            }
        }
        let has_end = self.fields.iter().any(|field| field.name == ENDED_AT);
        if self.change != Change::Changed && LASTING.contains(kind) && !has_end {
            write!(f, "  {STILL_OPEN}")?;
        }
        Ok(())
    }
}

/// What is said of an outcome that only one side has.
fn alone(f: &mut fmt::Formatter<'_>, field: &Field, value: &Value) -> fmt::Result {
    let name = field.name.as_str();
    match name {
        "duration_ms" => write!(f, "  {} ms", text(field, value)),
        "rule" | "severity" => write!(f, "  {}", text(field, value)),
        "observed" | "threshold" => write!(f, "  {name} {}", text(field, value)),
        _ => Ok(()),
    }
}

fn text(field: &Field, value: &Value) -> String {
    match value {
        // Whatever has no end goes on.
        Value::Null if field.name == ENDED_AT => STILL_OPEN.to_owned(),
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
