//! What Sigma's own parser makes of a document. It stops at the first thing that it cannot read; so each part is held against it by
//! itself, and one mistake hides no other.

use rsigma_parser::parse_sigma_yaml;
use yaml_serde::{Mapping, Value};

use super::document::Sigma;
use super::keys::{Draft, WINDOWS};
use crate::error::Problem;

/// The parts of a correlation that the parser may refuse, by their keys.
const CORRELATION: [&[&str]; 3] = [&["type"], &WINDOWS, &["condition"]];

/// Those of a detection; selections are read by us.
const DETECTION: [&[&str]; 1] = [&["condition"]];

/// The document as the parser reads it, and what it has to say beside the problems of this document that are told already. After
/// a problem, harmless parts stand for those that it refuses, so that the others can be looked at; `None` where that leaves nothing.
pub fn sigma(draft: &Draft<'_>, text: &str, problems: &mut Vec<Problem>) -> Option<Sigma> {
    if !draft.check_size(problems) {
        return without_faults(draft, false, problems);
    }
    let Read { sigma, mut said } = read(text);
    let refusal = if sigma.is_none() { said.pop() } else { None };
    let news = said.iter().filter(|said| !is_told(said));
    problems.extend(news.map(|said| wrong(draft, said)));
    if sigma.is_some() {
        return sigma;
    }
    let left = without_faults(draft, true, problems);
    if problems.is_empty() {
        problems.push(wrong(draft, &refusal.unwrap_or_default()));
        return None;
    }
    left
}

/// Tries each part among harmless ones, and tells which are refused; one too large to be tried is told already.
fn without_faults(draft: &Draft<'_>, is_small: bool, problems: &mut Vec<Problem>) -> Option<Sigma> {
    let is_correlation = draft.map.contains_key("correlation");
    let (section, parts) = match is_correlation {
        true => ("correlation", &CORRELATION[..]),
        false => ("detection", &DETECTION[..]),
    };
    let given = draft.map.get(section)?.as_mapping()?;
    let mut left = match is_correlation {
        true => harmless_correlation(given),
        false => harmless_detection(given),
    };
    for keys in parts {
        if !is_small && keys.contains(&"condition") {
            continue;
        }
        let mut tried = left.clone();
        for key in *keys {
            match given.get(*key) {
                Some(value) => tried.insert((*key).into(), value.clone()),
                None => tried.remove(*key),
            };
        }
        let Read { sigma, mut said } = read_section(draft.map, section, &tried);
        match sigma {
            Some(_) => left = tried,
            None => {
                let key = keys.iter().find(|key| given.contains_key(**key));
                // A window that is given and is none is told with what to write instead.
                if key.is_some() && *keys == WINDOWS {
                    continue;
                }
                let path: Vec<&str> = [section].into_iter().chain(key.copied()).collect();
                problems.extend(said.pop().map(|said| draft.problem(&path, first_line(&said))));
            }
        }
    }
    read_section(draft.map, section, &left).sigma
}

/// Every row, by selections with the given names.
fn harmless_detection(given: &Mapping) -> Mapping {
    let names = given
        .keys()
        .filter(|name| !["condition", "timeframe"].map(Some).contains(&name.as_str()));
    let anything = Mapping::from_iter([("x".into(), 1.into())]);
    let mut left: Mapping = names
        .map(|name| (name.clone(), anything.clone().into()))
        .collect();
    left.insert("condition".into(), "all of them".into());
    left
}

/// Once a minute, of the given rules and groups; what else is given tells which type was probably meant.
fn harmless_correlation(given: &Mapping) -> Mapping {
    let mut condition = Mapping::from_iter([("gte".into(), 1.into())]);
    let field = given
        .get("condition")
        .and_then(|condition| condition.get("field"));
    if let Some(field) = field {
        condition.insert("field".into(), field.clone());
    }
    let kind = if field.is_some() {
        "value_count"
    } else {
        "event_count"
    };
    let mut left = Mapping::new();
    left.insert("type".into(), kind.into());
    left.insert("timespan".into(), "1m".into());
    left.insert("condition".into(), condition.into());
    for key in ["rules", "group-by", "generate"] {
        left.extend(given.get(key).map(|value| (key.into(), value.clone())));
    }
    left
}

/// What the parser makes of a text, and what it says of it; of what it refuses, why stands last.
struct Read {
    sigma: Option<Sigma>,
    said: Vec<String>,
}

fn read(text: &str) -> Read {
    let mut collection = match parse_sigma_yaml(text) {
        Ok(collection) => collection,
        Err(error) => {
            return Read {
                sigma: None,
                said: vec![error.to_string()],
            };
        }
    };
    let mut said = std::mem::take(&mut collection.errors);
    let rule = collection
        .rules
        .pop()
        .map(|rule| Sigma::Detection(Box::new(rule)));
    let correlation = collection.correlations.pop();
    let sigma = rule.or_else(|| Some(Sigma::Correlation(Box::new(correlation?))));
    if sigma.is_none() && said.is_empty() {
        said.push("neither a rule nor a correlation".to_owned());
    }
    Read { sigma, said }
}

/// The same of a document with this section, and with as much else as the parser needs.
fn read_section(map: &Mapping, section: &str, value: &Mapping) -> Read {
    let mut document = Mapping::new();
    let title = map.get("title").and_then(Value::as_str).unwrap_or("untitled");
    document.insert("title".into(), title.into());
    for key in ["id", "level", "generate"] {
        document.extend(map.get(key).map(|value| (key.into(), value.clone())));
    }
    let logsource = map.get("logsource").filter(|given| given.is_mapping());
    document.extend(logsource.map(|value| ("logsource".into(), value.clone())));
    document.insert(section.into(), value.clone().into());
    match yaml_serde::to_string(&document) {
        Ok(text) => read(&text),
        Err(error) => Read {
            sigma: None,
            said: vec![error.to_string()],
        },
    }
}

/// Words that are known are told with what was probably meant, before the parser is asked.
fn is_told(said: &str) -> bool {
    said.starts_with("invalid level") || said.starts_with("invalid status")
}

/// A problem with the document as a whole.
fn wrong(draft: &Draft<'_>, message: &str) -> Problem {
    let part = if draft.map.contains_key("correlation") {
        "correlation"
    } else {
        "detection"
    };
    draft.problem(&[part], first_line(message))
}

/// The parser draws arrows below its first line; what it expected stands in the last one.
fn first_line(message: &str) -> String {
    let mut lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().to_owned();
    match lines.next_back().and_then(|last| last.strip_prefix("= ")) {
        Some(expected) => format!("{} ({expected})", first.trim_end_matches("-->").trim_end()),
        None => first,
    }
}
