//! Selections and their condition, as one test of a row.

use std::collections::{BTreeMap, BTreeSet};

use rsigma_parser::{ConditionExpr, Quantifier, SelectorPattern, SigmaRule, SigmaValue};
use watchfold_schemas::fields::{Field, Source};
use watchfold_schemas::rules::{Compare, Test, Value as RuleValue};
use yaml_serde::{Mapping, Value};

use super::document::Document;
use super::modifiers::split;
use super::values;
use crate::error::Problem;
use crate::suggest::nearest;

/// The most values in all tests of one rule: what is tried for each row.
const RULE_VALUES_MAX: usize = 4_096;

/// What rows a detection looks at, by its `logsource`; after a problem, what was probably meant, so that the fields are looked at, too.
pub fn source_of(document: &Document, rule: &SigmaRule, problems: &mut Vec<Problem>) -> Option<Source> {
    let known: Vec<&str> = Source::ALL.iter().map(|source| source.name()).collect();
    let told = format!("there are {}", known.join(", "));
    for (key, given) in [
        ("product", &rule.logsource.product),
        ("service", &rule.logsource.service),
    ] {
        if let Some(given) = given.as_deref().filter(|given| *given != "watchfold") {
            problems.push(Problem {
                instead: Some("take it out: the category alone says which rows".to_owned()),
                ..document.problem(
                    &["logsource", key],
                    format!("there are no rows of {key} {given:?}"),
                )
            });
        }
    }
    let Some(category) = &rule.logsource.category else {
        if document
            .map
            .get("logsource")
            .is_some_and(|given| !given.is_mapping())
        {
            return None;
        }
        problems.push(Problem {
            instead: Some(told),
            ..document.problem(
                &["logsource"],
                "`logsource.category` says which rows are looked at, and is missing",
            )
        });
        return None;
    };
    let source = Source::from_name(category);
    if source.is_none() {
        let near = nearest(category, known.iter().copied());
        let meant = near.and_then(Source::from_name);
        problems.push(Problem {
            instead: Some(match (near, elsewhere(category)) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, Some(advice)) => advice.to_owned(),
                (None, None) => told,
            }),
            ..document.problem(
                &["logsource", "category"],
                format!("there are no rows of category {category:?}"),
            )
        });
        return meant;
    }
    source
}

/// Where the rows are that Sigma calls by another category.
fn elsewhere(category: &str) -> Option<&'static str> {
    Some(match category {
        "dns" | "dns_query" => "use `packet`, whose rows have `dns.question.name` and more",
        "firewall" | "network_connection" | "netflow" => "use `connection`, or `packet` for single packets",
        "proxy" | "webserver" => "use `packet`, whose rows have `http.host` and `tls.client.server_name`",
        _ => return None,
    })
}

/// The whole `detection` as one test.
pub fn test_of(document: &Document, rule: &SigmaRule, source: Source, problems: &mut Vec<Problem>) -> Test {
    let nothing = Mapping::new();
    let detection = document
        .map
        .get("detection")
        .and_then(Value::as_mapping)
        .unwrap_or(&nothing);
    let mut named = BTreeMap::new();
    for (name, value) in detection {
        let name = name.as_str().unwrap_or_default();
        if name != "condition" && name != "timeframe" {
            let test = selection(document, source, &["detection", name], value, problems);
            named.insert(name.to_owned(), test);
        }
    }
    let condition = match rule.detection.conditions.as_slice() {
        [condition] => condition,
        _ => {
            problems.push(Problem {
                instead: Some("join them with `or`".to_owned()),
                ..document.problem(&["detection", "condition"], "there are several conditions")
            });
            return Test::All(Vec::new());
        }
    };
    let mut joined = Joined {
        document,
        named: &named,
        used: BTreeSet::new(),
        values: 0,
        problems,
    };
    let test = joined.test(condition);
    let Joined {
        used,
        values,
        problems,
        ..
    } = joined;
    if values > RULE_VALUES_MAX {
        let reason = format!("more than {RULE_VALUES_MAX} values are tried for each row");
        problems.push(document.problem(&["detection", "condition"], reason));
    }
    for name in named.keys().filter(|name| !used.contains(*name)) {
        problems.push(Problem {
            instead: Some("name it there, or take it out".to_owned()),
            ..document.problem(&["detection", name], format!("`{name}` is not in the condition"))
        });
    }
    test
}

/// A condition being made of its selections.
struct Joined<'d> {
    document: &'d Document,
    named: &'d BTreeMap<String, Test>,
    used: BTreeSet<String>,
    values: usize,
    problems: &'d mut Vec<Problem>,
}

impl Joined<'_> {
    fn test(&mut self, condition: &ConditionExpr) -> Test {
        match condition {
            ConditionExpr::And(parts) => all(parts.iter().map(|part| self.test(part)).collect()),
            ConditionExpr::Or(parts) => any(parts.iter().map(|part| self.test(part)).collect()),
            ConditionExpr::Not(inner) => Test::Not(Box::new(self.test(inner))),
            ConditionExpr::Identifier(name) => self.named(name),
            ConditionExpr::Selector { quantifier, pattern } => self.several(quantifier, pattern),
        }
    }

    fn named(&mut self, name: &str) -> Test {
        if let Some(test) = self.named.get(name) {
            self.used.insert(name.to_owned());
            self.values = self.values.saturating_add(values_in(test));
            // Past the limit nothing is copied any more: a condition may name a large selection very often.
            return if self.values > RULE_VALUES_MAX {
                Test::All(Vec::new())
            } else {
                test.clone()
            };
        }
        let near = nearest(name, self.named.keys().map(String::as_str));
        let problem = self.wrong(format!(
            "the condition names `{name}`, and there is no such selection"
        ));
        self.problems.push(Problem {
            instead: near.map(|near| format!("did you mean `{near}`?")),
            ..problem
        });
        Test::All(Vec::new())
    }

    fn several(&mut self, quantifier: &Quantifier, pattern: &SelectorPattern) -> Test {
        let named = self.named;
        let names: Vec<&String> = named
            .keys()
            .filter(|name| pattern.matches_detection_name(name))
            .collect();
        if names.is_empty() {
            let problem = self.wrong(format!("no selection is `{pattern}`"));
            self.problems.push(problem);
        }
        let tests: Vec<Test> = names.into_iter().map(|name| self.named(name)).collect();
        match quantifier {
            Quantifier::All => all(tests),
            Quantifier::Any => any(tests),
            Quantifier::Count(count) => {
                let problem = self.wrong(format!("`{count} of {pattern}` is not read"));
                self.problems.push(Problem {
                    instead: Some("use `1 of` or `all of`, or join selections with and, or".to_owned()),
                    ..problem
                });
                any(tests)
            }
        }
    }

    fn wrong(&self, reason: String) -> Problem {
        self.document.problem(&["detection", "condition"], reason)
    }
}

fn all(mut tests: Vec<Test>) -> Test {
    match tests.pop() {
        Some(only) if tests.is_empty() => only,
        Some(last) => {
            tests.push(last);
            Test::All(tests)
        }
        None => Test::All(tests),
    }
}

fn any(mut tests: Vec<Test>) -> Test {
    match tests.pop() {
        Some(only) if tests.is_empty() => only,
        Some(last) => {
            tests.push(last);
            Test::Any(tests)
        }
        None => Test::Any(tests),
    }
}

fn values_in(test: &Test) -> usize {
    match test {
        Test::All(tests) | Test::Any(tests) => 1 + tests.iter().map(values_in).sum::<usize>(),
        Test::Not(inner) => 1 + values_in(inner),
        Test::Field(field) => field.values.len(),
    }
}

/// A selection: fields of which all must hold, or a list of such of which one must.
pub fn selection(
    document: &Document,
    source: Source,
    path: &[&str],
    value: &Value,
    problems: &mut Vec<Problem>,
) -> Test {
    match value {
        Value::Mapping(fields) if !fields.is_empty() => {
            let tests = fields.iter().filter_map(|(key, value)| {
                let key = key.as_str().unwrap_or_default();
                let path = [path, &[key]].concat();
                field_test(document, source, &path, value, problems)
            });
            all(tests.collect())
        }
        Value::Sequence(several) if !several.is_empty() && several.iter().all(Value::is_mapping) => {
            any(several
                .iter()
                .map(|one| selection(document, source, path, one, problems))
                .collect())
        }
        Value::Mapping(_) | Value::Sequence(_) if is_empty(value) => {
            problems.push(document.problem(path, "an empty selection"));
            Test::All(Vec::new())
        }
        _ => {
            problems.push(Problem {
                instead: Some("name the field: `payload.text|contains: …`".to_owned()),
                ..document.problem(path, "words without a field are not looked for")
            });
            Test::All(Vec::new())
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_mapping().is_some_and(Mapping::is_empty) || value.as_sequence().is_some_and(Vec::is_empty)
}

fn field_test(
    document: &Document,
    source: Source,
    path: &[&str],
    value: &Value,
    problems: &mut Vec<Problem>,
) -> Option<Test> {
    let (name, modifiers) = split(path.last().copied().unwrap_or_default());
    let before = problems.len();
    // Those of a detection are told already, with the same words: equal problems are told once.
    problems.extend(modifiers.wrong.iter().map(|wrong| Problem {
        instead: wrong.instead.clone(),
        ..document.problem(path, wrong.reason.clone())
    }));
    let field = match known_field(name, source) {
        Ok(field) => field,
        Err(unknown) => {
            problems.push(Problem {
                instead: unknown.instead,
                ..document.problem(path, unknown.reason)
            });
            unknown.meant?
        }
    };
    let given: Vec<&Value> = match value {
        Value::Sequence(values) => values.iter().collect(),
        one => vec![one],
    };
    if given
        .iter()
        .any(|value| value.is_mapping() || value.is_sequence())
    {
        problems.push(document.problem(
            path,
            format!("the values of `{name}` are a value or a list of values"),
        ));
        return None;
    }
    let given: Vec<SigmaValue> = given.into_iter().map(SigmaValue::from_yaml).collect();
    match values::of_key(field, &modifiers, &given) {
        Ok(test) => test.filter(|_| problems.len() == before),
        Err(found) => {
            problems.extend(found.into_iter().map(|wrong| Problem {
                instead: wrong.instead,
                ..document.problem_with(path, &wrong.value.unwrap_or_default(), wrong.reason)
            }));
            None
        }
    }
}

/// A name that is not a field of such rows.
#[derive(Debug)]
pub struct UnknownField {
    pub reason: String,
    pub instead: Option<String>,
    /// The field that was probably meant.
    pub meant: Option<Field>,
}

/// A field that rows of `source` may have; else the reason and what was probably meant.
pub fn known_field(name: &str, source: Source) -> Result<Field, UnknownField> {
    if let Some(field) = Field::from_name(name) {
        if field.is_of(source) {
            return Ok(field);
        }
        let of: Vec<&str> = field.sources().iter().map(|source| source.name()).collect();
        let reason = format!(
            "`{name}` is a field of {} rows, and this rule looks at {} rows",
            of.join(" and "),
            source.name()
        );
        return Err(UnknownField {
            reason,
            instead: None,
            meant: Some(field),
        });
    }
    let fields = || Field::ALL.iter().filter(|field| field.is_of(source));
    let wanted = name.to_ascii_lowercase();
    let known_elsewhere = fields().find(|field| {
        let mut others = field.like().split(", ");
        others.any(|other| !other.is_empty() && other.to_ascii_lowercase() == wanted)
    });
    let near = known_elsewhere
        .map(|field| field.name())
        .or_else(|| nearest(&wanted, fields().map(|field| field.name())));
    let instead = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "the fields are listed in docs/fields.md".to_owned(),
    };
    Err(UnknownField {
        reason: format!("there is no field `{name}` in {} rows", source.name()),
        instead: Some(instead),
        meant: near.and_then(Field::from_name),
    })
}

/// Takes `field|gte: n` out of a test that demands it, for a threshold that reputation may scale.
pub fn take_threshold(test: Test, field: Field) -> Result<(Test, u64), String> {
    let is_it = |test: &Test| matches!(test, Test::Field(one) if one.field == field.name() && one.compare == Compare::AtLeast);
    let mut parts = match test {
        Test::All(parts) => parts,
        one => vec![one],
    };
    let threshold = match parts
        .iter()
        .filter(|part| is_it(part))
        .collect::<Vec<_>>()
        .as_slice()
    {
        [Test::Field(one)] => match one.values.as_slice() {
            [RuleValue::Number(number)] => u64::try_from(*number).ok(),
            _ => None,
        },
        _ => None,
    };
    let Some(threshold) = threshold.filter(|threshold| *threshold > 0) else {
        return Err(format!(
            "the selection must demand `{}|gte:` once, with a number above 0",
            field.name()
        ));
    };
    parts.retain(|part| !is_it(part));
    if parts.iter().any(|part| mentions(part, field)) {
        return Err(format!(
            "`{}` stands in the detection more than once",
            field.name()
        ));
    }
    Ok((all(parts), threshold))
}

fn mentions(test: &Test, field: Field) -> bool {
    match test {
        Test::All(tests) | Test::Any(tests) => tests.iter().any(|test| mentions(test, field)),
        Test::Not(inner) => mentions(inner, field),
        Test::Field(one) => one.field == field.name(),
    }
}
