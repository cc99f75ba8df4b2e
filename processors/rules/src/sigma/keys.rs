//! The keys of one document, each of them known: what Sigma's parser passes over is refused here, before it is asked.

use rsigma_parser::Modifier;
use watchfold_schemas::subjects::{TOKEN_BYTES_MAX, is_token};
use yaml_serde::{Mapping, Value};

use super::lines::Lines;
use crate::error::Problem;
use crate::suggest::nearest;

/// The longest condition, and how deep its parentheses may nest.
const CONDITION_BYTES_MAX: usize = 2_048;
const CONDITION_DEPTH_MAX: usize = 32;

/// The longest title, in characters: it stands in every alert.
const TITLE_CHARS_MAX: usize = 160;

/// Keys of Sigma that describe a rule and mean nothing to what it does.
const TOLD: [&str; 15] = [
    "author",
    "date",
    "description",
    "falsepositives",
    "fields",
    "license",
    "modified",
    "references",
    "related",
    "scope",
    "sigma-version",
    "tags",
    "taxonomy",
    "status",
    "level",
];

/// Keys of our own.
pub const ATTRIBUTES: [&str; 10] = [
    "watchfold.category",
    "watchfold.subject",
    "watchfold.cooldown",
    "watchfold.reputation",
    "watchfold.state",
    "watchfold.exclude",
    "watchfold.version",
    "watchfold.message",
    "watchfold.parts",
    "watchfold.scaled",
];

/// The modifiers that are read.
const MODIFIERS: [&str; 11] = [
    "contains",
    "startswith",
    "endswith",
    "all",
    "cidr",
    "gt",
    "gte",
    "lt",
    "lte",
    "neq",
    "exists",
];

/// What Sigma calls the window of a correlation, now and before.
pub const WINDOWS: [&str; 2] = ["timespan", "timeframe"];

const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];
const STATUSES: [&str; 5] = ["stable", "test", "experimental", "deprecated", "unsupported"];

/// A document whose keys are being looked at.
pub struct Draft<'d> {
    pub file: &'d str,
    pub lines: &'d Lines,
    pub map: &'d Mapping,
}

impl Draft<'_> {
    pub fn problem(&self, path: &[&str], reason: impl Into<String>) -> Problem {
        Problem {
            file: self.file.to_owned(),
            line: self.lines.line(path),
            reason: reason.into(),
            instead: None,
        }
    }

    /// Whether the condition is no larger than anything should parse; else that is told.
    pub fn check_size(&self, problems: &mut Vec<Problem>) -> bool {
        let before = problems.len();
        for part in ["correlation", "detection"] {
            let condition = self.map.get(part).and_then(|part| part.get("condition"));
            let Some(condition) = condition.and_then(Value::as_str) else {
                continue;
            };
            let depth = condition.bytes().filter(|byte| *byte == b'(').count();
            if condition.len() > CONDITION_BYTES_MAX || depth > CONDITION_DEPTH_MAX {
                let reason = format!(
                    "a condition has at most {CONDITION_BYTES_MAX} characters and {CONDITION_DEPTH_MAX} parentheses"
                );
                problems.push(self.problem(&[part, "condition"], reason));
            }
        }
        problems.len() == before
    }

    pub fn check(&self, problems: &mut Vec<Problem>) {
        self.check_top(problems);
        self.check_told(problems);
        if let Some(custom) = self.map.get("custom_attributes") {
            self.check_custom(custom, problems);
        }
        let is_correlation = self.map.contains_key("correlation");
        let parts = ["correlation", "detection", "filter", "action"];
        if !parts.iter().any(|part| self.map.contains_key(*part)) {
            let reason = "neither `detection` nor `correlation`: it says nothing about what it looks for";
            problems.push(self.problem(&[], reason));
        }
        if is_correlation {
            let known = [
                "type",
                "rules",
                "group-by",
                "timespan",
                "timeframe",
                "condition",
                "generate",
            ];
            self.check_inner("correlation", &known, problems);
            self.check_window(problems);
        } else {
            self.check_inner(
                "logsource",
                &["category", "product", "service", "definition"],
                problems,
            );
            if self.map.get("detection").is_some_and(|given| !given.is_mapping()) {
                problems.push(self.problem(&["detection"], "`detection` is keys and values"));
            }
            self.check_modifiers(problems);
        }
    }

    fn check_top(&self, problems: &mut Vec<Problem>) {
        let correlation = self.map.contains_key("correlation");
        let own: &[&str] = if correlation {
            &[
                "title",
                "id",
                "name",
                "correlation",
                "generate",
                "custom_attributes",
            ]
        } else {
            &[
                "title",
                "id",
                "name",
                "logsource",
                "detection",
                "custom_attributes",
            ]
        };
        for key in self.map.keys() {
            let Some(key) = key.as_str() else {
                problems.push(self.problem(&[], format!("a key that is no text: {key:?}")));
                continue;
            };
            if own.contains(&key) || TOLD.contains(&key) || ATTRIBUTES.contains(&key) {
                continue;
            }
            let reason = match key {
                "filter" => "filters of Sigma are not read".to_owned(),
                "action" => "collections of Sigma (`action: global`) are not read".to_owned(),
                "detection" | "logsource" => format!("a correlation has no `{key}`"),
                _ => format!("`{key}` is no key of a rule"),
            };
            let instead = match key {
                "filter" => Some("write `watchfold.exclude` into the rule".to_owned()),
                "action" => Some("write every rule whole".to_owned()),
                "detection" | "logsource" => Some(
                    "write the detection as a rule of its own, and name it in `correlation.rules`".to_owned(),
                ),
                "generate" => Some("it belongs to a correlation".to_owned()),
                _ => {
                    let known = own.iter().chain(&TOLD).chain(&ATTRIBUTES);
                    nearest(key, known.copied()).map(|near| format!("did you mean `{near}`?"))
                }
            };
            problems.push(Problem {
                instead,
                ..self.problem(&[key], reason)
            });
        }
    }

    fn check_custom(&self, custom: &Value, problems: &mut Vec<Problem>) {
        let Some(custom) = custom.as_mapping() else {
            problems.push(self.problem(&["custom_attributes"], "`custom_attributes` is keys and values"));
            return;
        };
        for key in custom.keys() {
            let key = key.as_str().unwrap_or_default();
            let path = ["custom_attributes", key];
            if !ATTRIBUTES.contains(&key) {
                let near = nearest(key, ATTRIBUTES.into_iter());
                problems.push(Problem {
                    instead: near.map(|near| format!("did you mean `{near}`?")),
                    ..self.problem(&path, format!("`{key}` is no attribute of a rule"))
                });
            } else if self.map.contains_key(key) {
                problems.push(self.problem(&path, format!("`{key}` is given twice")));
            }
        }
    }

    /// What describes the rule: its types alone, and the few that have known words.
    fn check_told(&self, problems: &mut Vec<Problem>) {
        match self
            .map
            .get("title")
            .and_then(Value::as_str)
            .map(|title| title.chars().count())
        {
            None | Some(0) => {
                problems.push(self.problem(&["title"], "the rule has no title: begin with `title: …`"))
            }
            Some(1..=TITLE_CHARS_MAX) => {}
            Some(_) => problems.push(self.problem(
                &["title"],
                format!("a title has at most {TITLE_CHARS_MAX} characters"),
            )),
        }
        let words = [("level", &LEVELS), ("status", &STATUSES)];
        for (key, known) in words {
            let Some(given) = self.map.get(key) else { continue };
            let word = given.as_str().unwrap_or_default();
            if !known.contains(&word) {
                let near = nearest(word, known.iter().copied());
                problems.push(Problem {
                    instead: near.map(|near| format!("did you mean `{near}`?")),
                    ..self.problem(&[key], format!("`{key}` is one of {}", known.join(", ")))
                });
            }
        }
        if let Some(id) = self.map.get("id")
            && !id.as_str().is_some_and(is_uuid)
        {
            let instead = "write one as in `uuidgen`, or leave it out".to_owned();
            problems.push(Problem {
                instead: Some(instead),
                ..self.problem(&["id"], "`id` is a UUID")
            });
        }
        if let Some(name) = self.map.get("name")
            && !name.as_str().is_some_and(is_token)
        {
            let reason =
                format!("`name` is 1 to {TOKEN_BYTES_MAX} of the letters a-z, A-Z, digits, '-' and '_'");
            problems.push(self.problem(&["name"], reason));
        }
    }

    fn check_inner(&self, part: &str, known: &[&str], problems: &mut Vec<Problem>) {
        let Some(value) = self.map.get(part) else { return };
        let Some(map) = value.as_mapping() else {
            problems.push(self.problem(&[part], format!("`{part}` is keys and values")));
            return;
        };
        for key in map.keys() {
            let key = key.as_str().unwrap_or_default();
            if known.contains(&key) {
                continue;
            }
            let (reason, instead) = match key {
                "aliases" => (
                    "aliases of fields are not read".to_owned(),
                    Some("correlate rules that look at the same rows".to_owned()),
                ),
                "window" | "gap" => (
                    "other windows than sliding ones are not read".to_owned(),
                    Some(format!("take `{key}` out")),
                ),
                _ => (
                    format!("`{key}` is no key of `{part}`"),
                    nearest(key, known.iter().copied()).map(|near| format!("did you mean `{near}`?")),
                ),
            };
            problems.push(Problem {
                instead,
                ..self.problem(&[part, key], reason)
            });
        }
    }

    fn check_window(&self, problems: &mut Vec<Problem>) {
        for key in WINDOWS {
            let given = self.map.get("correlation").and_then(|part| part.get(key));
            let Some(given) = given else { continue };
            let text = given.as_str().map_or_else(|| format!("{given:?}"), str::to_owned);
            if !is_window(&text) {
                problems.push(Problem {
                    instead: Some("write it as 10s, 5m or 1h".to_owned()),
                    ..self.problem(
                        &["correlation", key],
                        format!("`{key}` is a number with a unit, and `{text}` is none"),
                    )
                });
            }
        }
    }

    /// Modifiers that Sigma does not have; those that it has and we do not are told with their reason later.
    fn check_modifiers(&self, problems: &mut Vec<Problem>) {
        let selections = self.map.get("detection").and_then(Value::as_mapping);
        for (name, selection) in selections.into_iter().flatten() {
            let name = name.as_str().unwrap_or_default();
            let maps = selection
                .as_sequence()
                .into_iter()
                .flatten()
                .chain(std::iter::once(selection));
            for key in maps.filter_map(Value::as_mapping).flat_map(Mapping::keys) {
                let key = key.as_str().unwrap_or_default();
                let unknown = key
                    .split('|')
                    .skip(1)
                    .filter(|word| word.parse::<Modifier>().is_err());
                for word in unknown {
                    let near =
                        nearest(word, MODIFIERS.into_iter()).map(|near| format!("did you mean `{near}`?"));
                    let told = if word == "not" {
                        "put it into a selection of its own, and `not` before it in the condition".to_owned()
                    } else {
                        format!("there are {}", MODIFIERS.join(", "))
                    };
                    problems.push(Problem {
                        instead: Some(near.unwrap_or(told)),
                        ..self.problem(
                            &["detection", name, key],
                            format!("there is no modifier `{word}`"),
                        )
                    });
                }
            }
        }
    }
}

/// A number and one of Sigma's units.
fn is_window(text: &str) -> bool {
    let number = text.trim_end_matches(['s', 'm', 'h', 'd', 'w', 'M', 'y']);
    text.len() == number.len() + 1 && number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty()
}

fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
