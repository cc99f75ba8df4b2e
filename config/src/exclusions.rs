//! `[[rules.exclude]]` as it is written: a rule, fields with values, a reason and an end.
//!
//! What the file alone can tell is checked here. Whether the rule exists, has the field and can compare it with the
//! values is checked where rules are loaded.

use core::fmt;

use jiff::civil;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use toml::Spanned;
use watchfold_schemas::Time;
use watchfold_schemas::fields::Field;
use watchfold_schemas::rules::Value;

use super::Problems;
use super::check::Given;
use super::rules::is_network;
use super::suggest::{line_of, nearest};

/// The longest reason, in characters: it is shown in lists.
const REASON_CHARS_MAX: usize = 200;

/// The keys that are older than fields as keys, and the fields that they mean.
const SHORT: [(&str, Field); 3] = [
    ("source", Field::SourceIp),
    ("destination", Field::DestinationIp),
    ("port", Field::DestinationPort),
];

/// What people call the keys that are no fields.
const WORDS: [(&str, &str); 8] = [
    ("expiry", "until"),
    ("expire", "until"),
    ("expires", "until"),
    ("end", "until"),
    ("comment", "reason"),
    ("description", "reason"),
    ("note", "reason"),
    ("why", "reason"),
];

/// Traffic that a rule does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleExclusion {
    /// The rule's name.
    pub rule: String,
    /// The configuration file; empty where it is from none.
    pub file: String,
    /// The line of its first key in the file; 0 where it is from no file.
    pub line: usize,
    /// What a row must meet, all of it, to be passed over.
    pub fields: Vec<ExcludedField>,
    /// Why, for the people who read it.
    pub reason: Option<String>,
    /// The instant from which rows count again.
    pub until: Option<Time>,
}

/// A field of an exclusion and the values of which it must have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcludedField {
    /// As it is written: `source`, `dns.question.zone`, `dns.question.name|endswith`.
    pub key: String,
    /// The field's name in rules.
    pub field: String,
    /// What stands behind the field's name, each after a `|` in the key.
    pub modifiers: Vec<String>,
    pub line: usize,
    pub values: Vec<Value>,
}

/// The table as it is written, with the places of its keys.
#[derive(Clone, Debug)]
pub struct Table {
    at: usize,
    entries: Vec<(String, usize, toml::Value)>,
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Table, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Table;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table [[rules.exclude]]")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let at = key.span().start;
                    flatten(key.into_inner(), at, map.next_value()?, &mut entries);
                }
                // In the order of the file, which keys of a map have lost.
                entries.sort_by_key(|(_, at, _)| *at);
                let at = entries.first().map_or(0, |(_, at, _)| *at);
                Ok(Table { at, entries })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A field's name without quotes is a path of tables: `dns.question.zone = "x"`.
fn flatten(key: String, at: usize, value: toml::Value, entries: &mut Vec<(String, usize, toml::Value)>) {
    match value {
        toml::Value::Table(table) if !table.is_empty() => {
            for (inner, value) in table {
                flatten(format!("{key}.{inner}"), at, value, entries);
            }
        }
        value => entries.push((key, at, value)),
    }
}

/// Checks one table of the file, the one with this index.
pub fn check(
    table: Table,
    index: usize,
    given: &Given<'_>,
    zone: &TimeZone,
    problems: &mut Problems,
) -> RuleExclusion {
    let text = given.text;
    let line = line_of(text, table.at);
    let rule = table
        .entries
        .iter()
        .find(|(key, ..)| key == "rule")
        .and_then(|(_, _, value)| value.as_str());
    let mut reader = Reader {
        of: rule.map_or_else(
            || "rules.exclude".to_owned(),
            |rule| format!("rules.exclude of {rule:?}"),
        ),
        path: format!("rules.exclude[{index}]"),
        key: "",
        at: table.at,
        line,
        problems,
    };
    let mut exclusion = RuleExclusion {
        rule: rule.unwrap_or_default().to_owned(),
        file: given.path.display().to_string(),
        line,
        ..RuleExclusion::default()
    };
    if rule.is_none_or(str::is_empty) {
        reader.wrong("name the rule: rule = \"port_scan\"");
    }
    let mut names_field = false;
    for (key, at, value) in &table.entries {
        (reader.key, reader.at, reader.line) = (key.as_str(), *at, line_of(text, *at));
        match key.as_str() {
            "rule" => {}
            "reason" => exclusion.reason = reader.reason(value),
            "until" => exclusion.until = reader.until(value, zone),
            key => {
                names_field = true;
                exclusion.fields.extend(reader.field(key, value));
            }
        }
    }
    (reader.key, reader.at) = ("", table.at);
    if !names_field {
        reader.wrong(
            "it excludes everything: give source, destination, port or a field of the rule, or set the rule's state to \"off\" in \
             [rules.states]",
        );
    }
    exclusion
}

struct Reader<'p> {
    of: String,
    path: String,
    /// The key in the table; empty for the table itself.
    key: &'p str,
    at: usize,
    line: usize,
    problems: &'p mut Problems,
}

impl Reader<'_> {
    fn wrong(&mut self, what: impl fmt::Display) {
        let Reader {
            of, path, key, at, ..
        } = self;
        let key = match *key {
            "" => path.clone(),
            key => format!("{path}.{key}"),
        };
        self.problems.push_at(*at, key, format!("{of}: {what}"));
    }

    fn reason(&mut self, value: &toml::Value) -> Option<String> {
        let text = value.as_str().unwrap_or_default();
        let length = text.chars().count();
        if length == 0 || length > REASON_CHARS_MAX || text.chars().any(char::is_control) {
            self.wrong(format_args!(
                "reason is one line of 1 to {REASON_CHARS_MAX} characters"
            ));
            return None;
        }
        Some(text.to_owned())
    }

    fn until(&mut self, value: &toml::Value, zone: &TimeZone) -> Option<Time> {
        let text = match value {
            toml::Value::Datetime(at) => at.to_string(),
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let until = end_of(&text, zone);
        if until.is_none() {
            self.wrong(format_args!(
                "until {text:?} is not a day or an instant before the year 2262: write until = 2026-12-31, which includes that day, or until = \
                 2026-12-31T18:00:00Z"
            ));
        }
        until
    }

    fn field(&mut self, key: &str, value: &toml::Value) -> Option<ExcludedField> {
        let mut parts = key.split('|');
        let name = parts.next().unwrap_or_default();
        let short = SHORT.iter().find(|(short, _)| *short == name);
        let known = short.map(|(_, field)| *field).or_else(|| Field::from_name(name));
        if known.is_none() {
            let instead = match meant(name) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "docs/fields.md lists the fields".to_owned(),
            };
            self.wrong(format_args!(
                "`{name}` is neither a key of an exclusion nor a field; {instead}"
            ));
        }
        let values = self.values(key, value)?;
        let is_address = |value: &Value| matches!(value, Value::Text(text) if is_network(text));
        if key == "source" || key == "destination" {
            for value in values.iter().filter(|value| !is_address(value)) {
                self.wrong(format_args!(
                    "{key} {} is neither an address nor a network like \"10.0.0.0/8\"",
                    shown(value)
                ));
            }
        }
        Some(ExcludedField {
            key: key.to_owned(),
            field: known?.name().to_owned(),
            modifiers: parts.map(str::to_owned).collect(),
            line: self.line,
            values,
        })
    }

    fn values(&mut self, key: &str, value: &toml::Value) -> Option<Vec<Value>> {
        let several = match value {
            toml::Value::Array(several) => several.as_slice(),
            one => std::slice::from_ref(one),
        };
        let values: Option<Vec<Value>> = several.iter().map(scalar).collect();
        let values = values.filter(|values| !values.is_empty());
        if values.is_none() {
            self.wrong(format_args!(
                "`{key}` is a text, a whole number, true, false, or a list of these"
            ));
        }
        values
    }
}

fn scalar(value: &toml::Value) -> Option<Value> {
    Some(match value {
        toml::Value::String(text) => Value::Text(text.clone()),
        toml::Value::Integer(number) => Value::Number(*number),
        toml::Value::Boolean(truth) => Value::Truth(*truth),
        _ => return None,
    })
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Number(number) => number.to_string(),
        Value::Truth(truth) => truth.to_string(),
    }
}

/// The key or field that was probably meant, by its own name, the one that other tools use, or its last part.
fn meant(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if let Some((_, key)) = WORDS.iter().find(|(word, _)| *word == lower) {
        return Some((*key).to_owned());
    }
    let elsewhere = Field::ALL.iter().find(|field| {
        let mut others = field.like().split(", ");
        others.any(|other| !other.is_empty() && other.eq_ignore_ascii_case(&lower))
    });
    if let Some(field) = elsewhere {
        return Some(field.name().to_owned());
    }
    let keys = SHORT
        .iter()
        .map(|(key, _)| *key)
        .chain(["rule", "reason", "until"]);
    let names = Field::ALL.iter().map(|field| field.name());
    nearest(&lower, keys.chain(names)).or_else(|| {
        let last = |field: &&Field| field.name().split('.').any(|part| part == lower);
        Field::ALL.iter().find(last).map(|field| field.name().to_owned())
    })
}

/// The first instant after a day, or an instant; without an offset both are in the site's zone.
fn end_of(text: &str, zone: &TimeZone) -> Option<Time> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Time>() {
        return Some(at);
    }
    let local = match text.parse::<civil::Date>() {
        Ok(day) if !text.contains([':', 'T', 't', ' ']) => {
            day.tomorrow().ok()?.to_datetime(civil::Time::midnight())
        }
        _ => text.parse::<civil::DateTime>().ok()?,
    };
    let at = local.to_zoned(zone.clone()).ok()?.timestamp();
    i64::try_from(at.as_nanosecond()).ok().map(Time)
}
