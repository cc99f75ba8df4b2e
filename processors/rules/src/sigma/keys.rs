//! The keys of one document, each of them known: what Sigma's parser passes over is refused here, before it is asked.

use watchfold_schemas::subjects::{TOKEN_BYTES_MAX, is_token};
use yaml_serde::{Mapping, Value};

use super::document::name_of;
use super::lines::Lines;
use super::modifiers::split;
use crate::error::Problem;
use crate::suggest::nearest;

/// The longest condition, and how deep its parentheses may nest.
const CONDITION_BYTES_MAX: usize = 2_048;
const CONDITION_DEPTH_MAX: usize = 32;

/// The longest title, in characters: it stands in every alert.
const TITLE_CHARS_MAX: usize = 160;

/// Keys of Sigma that describe a rule and mean nothing to what it does.
const TOLD: [&str; 17] = [
    "author",
    "date",
    "description",
    "falsepositives",
    "fields",
    "license",
    "modified",
    "references",
    "regression_tests_path",
    "related",
    "scope",
    "sigma-version",
    "simulation",
    "tags",
    "taxonomy",
    "status",
    "level",
];

/// Keys of our own.
pub const ATTRIBUTES: [&str; 12] = [
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
    "watchfold.duplicates",
    "watchfold.withdrawn_by",
];

/// What Sigma calls the window of a correlation, now and before.
pub const WINDOWS: [&str; 2] = ["timespan", "timeframe"];

const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];
/// How Sigma relates rules; `obsoletes` is its older word.
const RELATIONS: [&str; 6] = ["derived", "obsolete", "obsoletes", "merged", "renamed", "similar"];
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
            self.check_timeframe(problems);
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
        self.check_related(problems);
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

    /// Modifiers that are not supported or unknown, whichever rows the rule looks at.
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
                let (_, modifiers) = split(key);
                problems.extend(modifiers.wrong.into_iter().map(|wrong| Problem {
                    instead: wrong.instead,
                    ..self.problem(&["detection", name, key], wrong.reason)
                }));
            }
        }
    }

    /// A window belongs to a correlation; older Sigma has it here.
    fn check_timeframe(&self, problems: &mut Vec<Problem>) {
        let Some(given) = self.map.get("detection").and_then(|part| part.get("timeframe")) else {
            return;
        };
        let span = given.as_str().filter(|text| is_window(text)).unwrap_or("1m");
        let counts = |condition: &Value| condition.as_str().is_some_and(|text| text.contains('|'));
        let is_legacy = self
            .map
            .get("detection")
            .and_then(|part| part.get("condition"))
            .is_some_and(counts);
        let instead = if is_legacy {
            format!("it becomes `timespan: {span}` of a correlation")
        } else {
            format!(
                "take it out, and where rows are to be counted add a rule with a title, a level and `correlation: {{type: event_count, rules: [{}], \
             timespan: {span}, condition: {{gte: 10}}}}`",
                name_of(self.map)
            )
        };
        problems.push(Problem {
            instead: Some(instead),
            ..self.problem(
                &["detection", "timeframe"],
                "`timeframe` is not supported: a detection looks at each row by itself",
            )
        });
    }

    /// Which other rules this one is related to: for people, and in Sigma's words.
    fn check_related(&self, problems: &mut Vec<Problem>) {
        let Some(given) = self.map.get("related") else {
            return;
        };
        let entries = given.as_sequence().map(Vec::as_slice).unwrap_or_default();
        let is_entry = |entry: &Value| {
            let kind = entry.get("type").and_then(Value::as_str);
            entry.get("id").is_some_and(Value::is_string)
                && kind.is_some_and(|kind| RELATIONS.contains(&kind))
        };
        if !given.is_sequence() || !entries.iter().all(is_entry) {
            problems.push(Problem {
                instead: Some("write `- id: …` and below it `type: derived`".to_owned()),
                ..self.problem(
                    &["related"],
                    format!(
                        "`related` is a list of an `id` and a `type`, which is one of {}",
                        RELATIONS.join(", ")
                    ),
                )
            });
        }
    }
}

/// A number and one of Sigma's units.
pub fn is_window(text: &str) -> bool {
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
