//! Rules in words, for lists that people read; and the field reference.

use std::fmt::Write as _;

use watchfold_schemas::fields::{Field, Kind, Source};
use watchfold_schemas::rules::{Compare, FieldTest, Test, Trigger, Value};

use crate::sigma::escaped;

/// What makes a rule fire: `15 different destination.port in 10s of one source.ip`.
pub fn trigger_in_words(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Each => "each row".to_owned(),
        Trigger::Value { field, at_least } => format!("{field} of {at_least} or more"),
        Trigger::Count {
            group_by,
            window_ms,
            at_least,
        } => format!(
            "{at_least} rows in {}{}",
            span_in_words(*window_ms),
            of_one(group_by)
        ),
        Trigger::Distinct {
            field,
            group_by,
            window_ms,
            at_least,
        } => format!(
            "{at_least} different {field} in {}{}",
            span_in_words(*window_ms),
            of_one(group_by)
        ),
        Trigger::Sum {
            field,
            group_by,
            window_ms,
            at_least,
            ..
        } => format!(
            "{field} adding up to {at_least} in {}{}",
            span_in_words(*window_ms),
            of_one(group_by)
        ),
    }
}

fn of_one(group_by: &[String]) -> String {
    match group_by {
        [] => String::new(),
        fields => format!(" of one {}", fields.join(" and ")),
    }
}

/// A span as rules write it.
pub fn span_in_words(ms: u64) -> String {
    match ms {
        ms if ms % 86_400_000 == 0 => format!("{}d", ms / 86_400_000),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// Which rows a rule looks at.
pub fn test_in_words(test: &Test) -> String {
    match test {
        Test::All(tests) if tests.is_empty() => "every row".to_owned(),
        Test::Any(tests) if tests.is_empty() => "no row".to_owned(),
        Test::All(tests) => joined(tests, " and "),
        Test::Any(tests) => joined(tests, " or "),
        Test::Not(inner) => format!("not ({})", test_in_words(inner)),
        Test::Field(field) => field_in_words(field),
    }
}

fn joined(tests: &[Test], word: &str) -> String {
    let parts = tests.iter().map(|test| match test {
        Test::All(several) | Test::Any(several) if several.len() > 1 => format!("({})", test_in_words(test)),
        _ => test_in_words(test),
    });
    parts.collect::<Vec<_>>().join(word)
}

fn field_in_words(test: &FieldTest) -> String {
    let how = match test.compare {
        Compare::Equals => "is",
        Compare::Contains => "contains",
        Compare::StartsWith => "begins with",
        Compare::EndsWith => "ends with",
        Compare::Like => "is like",
        Compare::Cidr => "lies in",
        Compare::Greater => ">",
        Compare::AtLeast => ">=",
        Compare::Less => "<",
        Compare::AtMost => "<=",
        Compare::Exists => "exists:",
    };
    let word = |value: &Value| match value {
        // A pattern is spelled as in Sigma already.
        Value::Text(text) if test.compare != Compare::Like => escaped(text),
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Truth(truth) => truth.to_string(),
    };
    let values: Vec<String> = test.values.iter().map(word).collect();
    format!(
        "{} {how} {}",
        test.field,
        values.join(if test.all { " and " } else { ", " })
    )
}

/// `docs/fields.md`, made of the table in `schemas/src/fields.rs`.
pub fn field_reference() -> String {
    let mut text = String::from(
        "# Fields that rules may name\n\nMade from `schemas/src/fields.rs`; a test holds it equal. How a rule is written: \
         [rules.md](rules.md). The column *like* has the names of the\nsame thing in Zeek, ECS and Sigma. A row that lacks a field meets no test of it \
         but `field|exists: false`.\n",
    );
    for source in Source::ALL {
        let rows = match source {
            Source::Packet => "One row for each packet.",
            Source::Connection => {
                "One row for each step of an attempt to open a TCP connection: when it is tried, when it is known what came of it, when the connection is first used, and when it ends."
            }
            Source::Neighbour => {
                "One row for each ARP message and each neighbour advertisement, with what was known before."
            }
            Source::Ping => "One row for each probe of an address.",
        };
        let name = source.name();
        let _ = write!(
            text,
            "\n## `category: {name}`\n\n{rows}\n\n| field | values | like | what |\n|---|---|---|---|\n"
        );
        for field in Field::ALL.iter().filter(|field| field.is_of(source)) {
            let values = match field.kind() {
                Kind::Address => "address".to_owned(),
                Kind::Mac => "hardware address".to_owned(),
                Kind::Number => "number".to_owned(),
                Kind::Truth => "true, false".to_owned(),
                Kind::Text => "text".to_owned(),
                Kind::Word(words) => words.join(", "),
            };
            let like: Vec<String> = field
                .like()
                .split(", ")
                .filter(|like| !like.is_empty())
                .map(|like| format!("`{like}`"))
                .collect();
            let _ = writeln!(
                text,
                "| `{}` | {values} | {} | {} |",
                field.name(),
                like.join(", "),
                field.what()
            );
        }
    }
    text
}
