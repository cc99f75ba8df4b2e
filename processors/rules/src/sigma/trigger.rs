//! What a correlation counts, and how much of it in which time makes it fire.

use rsigma_parser::{ConditionOperator, CorrelationCondition, CorrelationRule, CorrelationType};
use watchfold_schemas::fields::{Kind, Source};
use watchfold_schemas::rules::{GROUP_FIELDS_MAX, THRESHOLD_MAX, Trigger, WINDOW_MS_MAX};
use yaml_serde::Value;

use super::attributes::{Attributes, span_ms};
use super::detection::known_field;
use super::document::Document;
use super::parts::TYPES;
use crate::error::Problem;

/// The trigger of a correlation on rows of `source`; `None` after a problem.
pub fn trigger_of(
    document: &Document,
    correlation: &CorrelationRule,
    source: Source,
    attributes: &Attributes,
    problems: &mut Vec<Problem>,
) -> Option<Trigger> {
    let wrong = |key: &str, reason: String, instead: Option<String>| Problem {
        instead,
        ..document.problem(&["correlation", key], reason)
    };
    let before = problems.len();
    let group_by = group_by(document, correlation, source, problems);
    let window =
        span_ms(&correlation.timespan.original).filter(|span| (1_000..=WINDOW_MS_MAX).contains(span));
    if window.is_none() {
        let key = if document
            .map
            .get("correlation")
            .is_some_and(|part| part.get("timeframe").is_some())
        {
            "timeframe"
        } else {
            "timespan"
        };
        problems.push(wrong(
            key,
            "a window is from 1s to 1d".to_owned(),
            Some("write it as 10s, 5m or 1h".to_owned()),
        ));
    }
    let at_least = at_least(document, correlation, problems);
    let field = counted_field(document, correlation, source, problems);
    if attributes.scaled.is_some() {
        let (_, path) = document.attribute("watchfold.scaled")?;
        problems.push(document.problem(
            &path,
            "`watchfold.scaled` is for detections: the threshold of a correlation scales by itself",
        ));
    }
    let is_sum = correlation.correlation_type == CorrelationType::ValueSum;
    if attributes.parts.is_some() && !is_sum {
        let (_, path) = document.attribute("watchfold.parts")?;
        problems.push(document.problem(&path, "`watchfold.parts` is for value_sum"));
    }
    if attributes.withdrawn_by.is_some() && correlation.correlation_type != CorrelationType::ValueCount {
        let (_, path) = document.attribute("watchfold.withdrawn_by")?;
        problems.push(document.problem(&path, "`watchfold.withdrawn_by` is for value_count"));
    }
    let (window_ms, at_least) = (window?, at_least?);
    if !is_sum && at_least > THRESHOLD_MAX {
        problems.push(wrong(
            "condition",
            format!("a threshold of {at_least}, and the limit is {THRESHOLD_MAX}: what is kept for each key grows with it"),
            None,
        ));
    }
    let trigger = match correlation.correlation_type {
        CorrelationType::EventCount => Trigger::Count {
            group_by,
            window_ms,
            at_least,
        },
        CorrelationType::ValueCount => Trigger::Distinct {
            field: field?,
            group_by,
            window_ms,
            at_least,
        },
        CorrelationType::ValueSum => Trigger::Sum {
            field: field?,
            group_by,
            window_ms,
            at_least,
            parts: attributes.parts,
        },
        _ => {
            problems.push(wrong(
                "type",
                "correlations of this type are not supported".to_owned(),
                Some(format!("use one of {}", TYPES.join(", "))),
            ));
            return None;
        }
    };
    (problems.len() == before).then_some(trigger)
}

fn group_by(
    document: &Document,
    correlation: &CorrelationRule,
    source: Source,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let path = ["correlation", "group-by"];
    if correlation.group_by.len() > GROUP_FIELDS_MAX {
        problems.push(document.problem(&path, format!("a group has at most {GROUP_FIELDS_MAX} fields")));
    }
    let given = document
        .map
        .get("correlation")
        .and_then(|part| part.get("group-by"));
    let listed = match given {
        None => 0,
        Some(Value::Sequence(fields)) => fields.len(),
        Some(_) => 1,
    };
    if listed != correlation.group_by.len() {
        problems.push(document.problem(&path, "`group-by` is a list of fields"));
    }
    for name in &correlation.group_by {
        if let Err(unknown) = known_field(name, source) {
            problems.push(Problem {
                instead: unknown.instead,
                ..document.problem_with(&path, name, unknown.reason)
            });
        }
    }
    correlation.group_by.clone()
}

fn at_least(document: &Document, correlation: &CorrelationRule, problems: &mut Vec<Problem>) -> Option<u64> {
    let path = ["correlation", "condition"];
    let instead = Some("write `gte: 10`".to_owned());
    let CorrelationCondition::Threshold {
        predicates,
        percentile,
        ..
    } = &correlation.condition
    else {
        let reason = "the condition of a correlation is a number that must be reached";
        problems.push(Problem {
            instead,
            ..document.problem(&path, reason)
        });
        return None;
    };
    let known = ["gte", "gt", "field", "lt", "lte", "eq", "neq", "percentile"];
    let given = document
        .map
        .get("correlation")
        .and_then(|part| part.get("condition"))
        .and_then(Value::as_mapping);
    for key in given.into_iter().flat_map(|given| given.keys()) {
        let key = key.as_str().unwrap_or_default();
        if !known.contains(&key) {
            problems.push(document.problem(
                &["correlation", "condition", key],
                format!("`{key}` is no key of a condition"),
            ));
            return None;
        }
    }
    let at_least = match predicates.as_slice() {
        [(ConditionOperator::Gte, number)] => Some(*number),
        [(ConditionOperator::Gt, number)] => number.checked_add(1),
        _ => None,
    };
    let at_least = at_least.filter(|number| (1..=i64::MAX as u64).contains(number));
    if at_least.is_none() || percentile.is_some() {
        problems.push(Problem {
            instead,
            ..document.problem(
                &path,
                "a rule fires when enough has been seen: one `gte` or `gt`, above 0",
            )
        });
        return None;
    }
    at_least
}

/// The field whose values are counted or added up.
fn counted_field(
    document: &Document,
    correlation: &CorrelationRule,
    source: Source,
    problems: &mut Vec<Problem>,
) -> Option<String> {
    let CorrelationCondition::Threshold { field, .. } = &correlation.condition else {
        return None;
    };
    let path = ["correlation", "condition", "field"];
    let names = field.as_deref().unwrap_or_default();
    let kind = correlation.correlation_type;
    let wants = matches!(kind, CorrelationType::ValueCount | CorrelationType::ValueSum);
    match names {
        [] if wants => {
            problems.push(Problem {
                instead: Some("write `field: destination.port` beside `gte`".to_owned()),
                ..document.problem(
                    &["correlation", "condition"],
                    "the condition does not say of which field",
                )
            });
            None
        }
        [name] if wants => match known_field(name, source) {
            Ok(field) if kind == CorrelationType::ValueSum && field.kind() != Kind::Number => {
                problems
                    .push(document.problem(&path, format!("`{name}` is no number, and cannot be added up")));
                None
            }
            Ok(field) => Some(field.name().to_owned()),
            Err(unknown) => {
                problems.push(Problem {
                    instead: unknown.instead,
                    ..document.problem(&path, unknown.reason)
                });
                None
            }
        },
        [] => None,
        _ => {
            let reason = if wants {
                "one field is counted, and there are several"
            } else {
                "event_count counts rows, and has no field"
            };
            problems.push(document.problem(&path, reason));
            None
        }
    }
}
