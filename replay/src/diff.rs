//! What two derivations of the same observations differ in: outcomes gained, lost and changed, with their fields.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};
use watchfold_schemas::Time;

use crate::outcomes::{Key, Outcomes};

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
    /// `incident`, `session` or `jitter`.
    pub kind: &'static str,
    /// An incident's class.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub class: &'static str,
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

/// Compares what became of the first side with what became of the second.
pub fn diff(before: &Outcomes, after: &Outcomes) -> Diff {
    let mut diff = Diff::default();
    let mut keys: Vec<&Key> = before.by_key.keys().chain(after.by_key.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let nothing = Map::new();
    for key in keys {
        let (left, right) = (before.by_key.get(key), after.by_key.get(key));
        let (change, count) = match (left, right) {
            (Some(left), Some(right)) if left == right => {
                diff.same += 1;
                continue;
            }
            (Some(_), Some(_)) => (Change::Changed, &mut diff.changed),
            (Some(_), None) => (Change::Lost, &mut diff.lost),
            (None, _) => (Change::Gained, &mut diff.gained),
        };
        *count += 1;
        diff.differences.push(Difference {
            change,
            site: key.site.clone(),
            kind: key.kind,
            class: key.class,
            subject: key.subject.clone(),
            started_at: key.started_at,
            fields: fields(left.unwrap_or(&nothing), right.unwrap_or(&nothing)),
        });
    }
    diff
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
                    text(&field.before),
                    text(&field.after)
                )?,
                // Of one that stands alone, how long it was says most.
                Change::Gained if field.name == "duration_ms" => write!(f, "  {} ms", text(&field.after))?,
                Change::Lost if field.name == "duration_ms" => write!(f, "  {} ms", text(&field.before))?,
                Change::Gained | Change::Lost => {}
            }
        }
        Ok(())
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
