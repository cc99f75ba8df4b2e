//! A document as Sigma's own parser reads it. The parser gets only what was checked here before, with harmless parts in
//! place of faulty ones: so it refuses nothing, its words reach nobody, and one mistake hides no other.

use rsigma_parser::parse_sigma_yaml;
use yaml_serde::{Mapping, Value};

use super::condition;
use super::document::Sigma;
use super::keys::{Draft, WINDOWS, is_window};
use crate::error::Problem;
use crate::suggest::nearest;

/// The correlations that are supported.
pub const TYPES: [&str; 3] = ["event_count", "value_count", "value_sum"];

/// Those that Sigma has beside them.
const OTHER_TYPES: [&str; 6] = [
    "temporal",
    "temporal_ordered",
    "value_avg",
    "value_percentile",
    "value_median",
    "value_stddev",
];

/// What the condition of a correlation may compare with; which of them are supported is for others.
const OPERATORS: [&str; 6] = ["gte", "gt", "lt", "lte", "eq", "neq"];

/// The document, every mistake of it added to the problems; `None` where there is neither a detection nor a correlation.
pub fn sigma(draft: &Draft<'_>, problems: &mut Vec<Problem>) -> Option<Sigma> {
    let is_small = draft.check_size(problems);
    let (section, value) = if draft.map.contains_key("correlation") {
        let given = draft.map.get("correlation")?.as_mapping()?;
        ("correlation", correlation(draft, given, problems))
    } else {
        let given = draft.map.get("detection")?.as_mapping()?;
        ("detection", detection(draft, given, is_small, problems))
    };
    let sigma = read(draft.map, section, &value);
    if sigma.is_none() && problems.is_empty() {
        problems.push(Problem {
            instead: Some("compare it with the examples in docs/rules.md".to_owned()),
            ..draft.problem(
                &[section],
                format!("`{section}` is not supported as it is written here"),
            )
        });
    }
    sigma
}

/// Every row, by selections with the given names: what selections say is read elsewhere.
fn detection(draft: &Draft<'_>, given: &Mapping, is_small: bool, problems: &mut Vec<Problem>) -> Mapping {
    let names: Vec<&str> = given
        .keys()
        .filter_map(Value::as_str)
        .filter(|name| !["condition", "timeframe"].contains(name))
        .collect();
    let anything = Mapping::from_iter([("x".into(), 1.into())]);
    let mut left: Mapping = names
        .iter()
        .map(|name| ((*name).into(), anything.clone().into()))
        .collect();
    let mut condition: Value = "all of them".into();
    if is_small {
        let wrong = |(reason, instead)| Problem {
            instead,
            ..draft.problem(&["detection", "condition"], reason)
        };
        let found = condition::mistakes(draft, given, &names);
        match given.get("condition") {
            Some(given) if found.is_empty() => condition = given.clone(),
            _ => problems.extend(found.into_iter().map(wrong)),
        }
    }
    left.insert("condition".into(), condition);
    left
}

/// Once a minute, of the given rules and groups, wherever what is given cannot be read; what else is given tells which type was
/// probably meant.
fn correlation(draft: &Draft<'_>, given: &Mapping, problems: &mut Vec<Problem>) -> Mapping {
    let mut left = Mapping::new();
    for key in ["rules", "group-by", "generate"] {
        left.extend(given.get(key).map(|value| (key.into(), value.clone())));
    }
    let has_field = given
        .get("condition")
        .is_some_and(|condition| condition.get("field").is_some());
    let kind = if has_field { "value_count" } else { "event_count" };
    left.insert(
        "type".into(),
        kind_of(draft, given, problems).unwrap_or(kind).into(),
    );
    let window = WINDOWS.iter().find_map(|key| given.get(*key));
    match window.and_then(Value::as_str).filter(|text| is_window(text)) {
        Some(text) => left.insert("timespan".into(), text.into()),
        None => left.insert("timespan".into(), "1m".into()),
    };
    if window.is_none() {
        problems.push(Problem {
            instead: Some("write `timespan: 1m`, for example".to_owned()),
            ..draft.problem(&["correlation"], "the correlation has no window")
        });
    }
    left.insert("condition".into(), threshold(draft, given, problems).into());
    left
}

fn kind_of<'g>(draft: &Draft<'_>, given: &'g Mapping, problems: &mut Vec<Problem>) -> Option<&'g str> {
    let kind = given.get("type").and_then(Value::as_str);
    if let Some(kind) = kind.filter(|kind| TYPES.contains(kind)) {
        return Some(kind);
    }
    let (known, instead) = (TYPES.join(", "), TYPES[0]);
    let (path, reason, instead): (&[&str], _, _) = match (given.get("type"), kind) {
        (None, _) => (
            &["correlation"],
            format!("the correlation has no `type`; there are {known}"),
            Some(format!("write `type: {instead}`")),
        ),
        (_, Some(kind)) if OTHER_TYPES.contains(&kind) => (
            &["correlation", "type"],
            format!(
                "correlations of type `{kind}` are not supported: rows are counted or added up, in any order"
            ),
            Some(format!("use one of {known}")),
        ),
        (_, kind) => (
            &["correlation", "type"],
            format!(
                "`type` is one of {known}, and `{}` is none",
                kind.unwrap_or("this value")
            ),
            nearest(kind.unwrap_or_default(), TYPES.into_iter())
                .map(|near| format!("did you mean `{near}`?")),
        ),
    };
    problems.push(Problem {
        instead,
        ..draft.problem(path, reason)
    });
    None
}

/// The condition with numbers that can be read; what is compared, and whether it may be, is for others.
fn threshold(draft: &Draft<'_>, given: &Mapping, problems: &mut Vec<Problem>) -> Mapping {
    let mut left = Mapping::new();
    let wrong = |path: &[&str], reason: String| Problem {
        instead: Some("write `gte: 10`, for example".to_owned()),
        ..draft.problem(path, reason)
    };
    let path = ["correlation", "condition"];
    match given.get("condition") {
        None => problems.push(wrong(&path[..1], "the correlation has no `condition`".to_owned())),
        Some(Value::Mapping(condition)) => {
            left.extend(
                condition
                    .get("field")
                    .map(|field| ("field".into(), field.clone())),
            );
            left.extend(
                condition
                    .get("percentile")
                    .map(|value| ("percentile".into(), value.clone())),
            );
            let mut compares = false;
            for operator in OPERATORS {
                let Some(number) = condition.get(operator) else {
                    continue;
                };
                compares = true;
                if number.is_u64() || number.is_i64() {
                    left.insert(operator.into(), number.clone());
                } else {
                    let path = ["correlation", "condition", operator];
                    problems.push(wrong(
                        &path,
                        format!("`{operator}` is a whole number without quotes"),
                    ));
                }
            }
            if !compares {
                problems.push(wrong(
                    &path,
                    "the condition does not say how much is enough".to_owned(),
                ));
            }
        }
        Some(_) => problems.push(wrong(
            &path,
            "the condition of a correlation is a number that must be reached".to_owned(),
        )),
    }
    if !OPERATORS.iter().any(|operator| left.contains_key(*operator)) {
        left.insert("gte".into(), 1.into());
    }
    left
}

/// What the parser makes of this section, with as much else as it needs.
fn read(map: &Mapping, section: &str, value: &Mapping) -> Option<Sigma> {
    let mut document = Mapping::new();
    let title = map.get("title").and_then(Value::as_str).unwrap_or("untitled");
    document.insert("title".into(), title.into());
    for key in ["id", "level", "generate"] {
        document.extend(map.get(key).map(|value| (key.into(), value.clone())));
    }
    let logsource = map.get("logsource").filter(|given| given.is_mapping());
    document.extend(logsource.map(|value| ("logsource".into(), value.clone())));
    document.insert(section.into(), value.clone().into());
    let mut collection = parse_sigma_yaml(&yaml_serde::to_string(&document).ok()?).ok()?;
    let rule = collection
        .rules
        .pop()
        .map(|rule| Sigma::Detection(Box::new(rule)));
    rule.or_else(|| Some(Sigma::Correlation(Box::new(collection.correlations.pop()?))))
}
