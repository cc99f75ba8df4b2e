//! What is wrong with the condition of a detection, in words of our own and all of it at once.

use watchfold_schemas::fields::Field;
use yaml_serde::{Mapping, Value};

use super::document::name_of;
use super::keys::Draft;
use crate::suggest::nearest;

/// A reason, and what to write instead.
pub type Mistake = (String, Option<String>);

/// Words that join selections and name none.
const WORDS: [&str; 7] = ["and", "or", "not", "of", "all", "any", "them"];

/// What other languages and older Sigma write for them.
const SYMBOLS: [(&str, &str); 6] = [
    ("&&", "and"),
    ("&", "and"),
    ("||", "or"),
    ("!", "not"),
    ("~", "not"),
    (",", "or"),
];

/// Everything that is wrong with the condition of this detection, whose selections have these names.
pub fn mistakes(draft: &Draft<'_>, detection: &Mapping, names: &[&str]) -> Vec<Mistake> {
    let texts: Vec<&Value> = match detection.get("condition") {
        None => {
            let instead = names.first().map_or("selection", |name| name);
            return vec![(
                "the detection has no `condition`".to_owned(),
                Some(format!("write `condition: {instead}`")),
            )];
        }
        Some(Value::Sequence(several)) => several.iter().collect(),
        Some(one) => vec![one],
    };
    let mut found = Vec::new();
    for text in texts {
        match text.as_str() {
            Some(text) => of_text(draft, detection, text, names, &mut found),
            None => found.push((
                "`condition` is a text that joins selections".to_owned(),
                Some("write `condition: selection`, for example".to_owned()),
            )),
        }
    }
    found
}

fn of_text(draft: &Draft<'_>, detection: &Mapping, text: &str, names: &[&str], found: &mut Vec<Mistake>) {
    let (condition, aggregation) = match pipe(text) {
        Some(at) => (&text[..at], Some(text[at + 1..].trim())),
        None => (text, None),
    };
    let before = found.len();
    let tokens = tokens(condition, found);
    grammar(&tokens, found);
    if let Some(aggregation) = aggregation {
        let (name, timeframe) = (
            name_of(draft.map),
            detection.get("timeframe").and_then(Value::as_str),
        );
        found.push(legacy(aggregation, &name, timeframe));
    }
    if found.len() == before {
        return;
    }
    // A condition that cannot be read is not resolved later.
    let mut told: Vec<&str> = Vec::new();
    let is_target = |at: usize| at > 0 && tokens[at - 1] == "of";
    for (at, token) in tokens.iter().enumerate() {
        let is_word = token.chars().all(is_of_name);
        let is_count = tokens.get(at + 1).is_some_and(|next| next == "of");
        let joins = WORDS.contains(&token.to_ascii_lowercase().as_str());
        if !is_word
            || joins
            || is_count
            || is_target(at)
            || names.contains(&token.as_str())
            || told.contains(&token.as_str())
        {
            continue;
        }
        told.push(token);
        found.push((
            format!("the condition names `{token}`, and there is no such selection"),
            nearest(token, names.iter().copied()).map(|near| format!("did you mean `{near}`?")),
        ));
    }
}

/// Where a single `|` is, which only the counting of older Sigma has.
fn pipe(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find(|at| {
        let is_pipe = |at: Option<usize>| at.and_then(|at| bytes.get(at)) == Some(&b'|');
        is_pipe(Some(*at)) && !is_pipe(at.checked_sub(1)) && !is_pipe(Some(at + 1))
    })
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_-*".contains(letter)
}

/// Words and parentheses; what is neither is a mistake, and stands for what it probably means.
fn tokens(text: &str, found: &mut Vec<Mistake>) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = if first == '(' || first == ')' {
            1
        } else {
            let same = |letter: char| {
                is_of_name(letter) == is_of_name(first) && !letter.is_whitespace() && !"()".contains(letter)
            };
            rest.find(|letter| !same(letter)).unwrap_or(rest.len())
        };
        let (token, after) = rest.split_at(len);
        rest = after.trim_start();
        if first == '(' || first == ')' {
            tokens.push(token.to_owned());
        } else if !is_of_name(first) {
            let meant = SYMBOLS.iter().find(|(symbol, _)| *symbol == token);
            tokens.extend(meant.map(|(_, word)| (*word).to_owned()));
            let instead = match meant {
                Some((_, word)) => format!("write `{word}`"),
                None => "a condition has names of selections, and, or, not, 1 of, all of, and parentheses"
                    .to_owned(),
            };
            found.push((format!("`{token}` has no meaning in a condition"), Some(instead)));
        } else {
            let lower = token.to_ascii_lowercase();
            if lower != token && WORDS.contains(&lower.as_str()) {
                found.push((
                    format!("`{token}` is not a word of a condition"),
                    Some(format!("write it in lower case: `{lower}`")),
                ));
                tokens.push(lower);
            } else {
                tokens.push(token.to_owned());
            }
        }
    }
    tokens
}

/// Whether operands and operators alternate, and parentheses have partners.
fn grammar(tokens: &[String], found: &mut Vec<Mistake>) {
    let name_one = Some("name a selection there".to_owned());
    let (mut open, mut wants_operand, mut previous) = (0_usize, true, "");
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let token = token.as_str();
        at += 1;
        match token {
            "and" | "or" => {
                if wants_operand {
                    let where_ = if previous.is_empty() {
                        "nothing stands before it".to_owned()
                    } else {
                        format!("it follows `{previous}`")
                    };
                    found.push((
                        format!("`{token}` joins two selections, and {where_}"),
                        name_one.clone(),
                    ));
                }
                wants_operand = true;
            }
            ")" => {
                if wants_operand && !previous.is_empty() {
                    found.push((format!("`)` follows `{previous}`"), name_one.clone()));
                }
                match open.checked_sub(1) {
                    Some(left) => open = left,
                    None => found.push(("a `)` closes nothing".to_owned(), Some("take it out".to_owned()))),
                }
                wants_operand = false;
            }
            _ => {
                if !wants_operand {
                    found.push((
                        format!("neither `and` nor `or` stands between `{previous}` and `{token}`"),
                        Some(format!(
                            "write `{previous} and {token}` or `{previous} or {token}`"
                        )),
                    ));
                }
                wants_operand = token == "not" || token == "(";
                open += usize::from(token == "(");
                if tokens.get(at).is_some_and(|next| next == "of") {
                    at += 1;
                    of(token, tokens.get(at).map(String::as_str), found);
                    if tokens.get(at).is_some_and(|target| {
                        target.chars().all(is_of_name) && !["and", "or", "not"].contains(&target.as_str())
                    }) {
                        at += 1;
                    }
                } else if token != "not" && token != "(" {
                    operand(token, found);
                }
            }
        }
        previous = &tokens[at - 1];
    }
    if tokens.is_empty() {
        found.push(("the condition names no selection".to_owned(), name_one));
    } else if wants_operand {
        found.push((format!("the condition ends with `{previous}`"), name_one));
    }
    if open > 0 {
        found.push((
            "a `(` is not closed".to_owned(),
            Some("write the `)` that is missing".to_owned()),
        ));
    }
}

fn operand(token: &str, found: &mut Vec<Mistake>) {
    if token == "of" || WORDS.contains(&token) {
        found.push((
            format!("`{token}` alone names no selection"),
            Some("write `1 of them`, `all of them`, or the selection's name".to_owned()),
        ));
    } else if token.contains('*') {
        found.push((
            format!("`{token}` is a pattern, and does not say how many of its selections must match"),
            Some(format!("write `1 of {token}` or `all of {token}`")),
        ));
    }
}

/// `1 of selection_*`: a quantity, and whose.
fn of(quantity: &str, target: Option<&str>, found: &mut Vec<Mistake>) {
    let is_quantity =
        ["all", "any"].contains(&quantity) || quantity.bytes().all(|byte| byte.is_ascii_digit());
    if !is_quantity {
        found.push((
            format!("`{quantity} of` is not a quantity"),
            Some("use `1 of` or `all of`".to_owned()),
        ));
    }
    let is_target =
        |target: &str| target.chars().all(is_of_name) && (target == "them" || !WORDS.contains(&target));
    if !target.is_some_and(is_target) {
        found.push((
            format!("`{quantity} of` does not say of which selections"),
            Some(format!(
                "write `{quantity} of them` or `{quantity} of selection_*`"
            )),
        ));
    }
}

/// The counting of older Sigma, behind a `|`, and the correlation that says the same.
fn legacy(text: &str, rule: &str, timeframe: Option<&str>) -> Mistake {
    let reason = format!("`| {text}` is how older Sigma counts, and is not supported");
    let function: String = text
        .chars()
        .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
        .collect();
    if function == "near" {
        return (
            format!("`| {text}` looks for rows that follow each other, and is not supported"),
            Some(
                "write one rule for each kind of row, and an event_count correlation that names both"
                    .to_owned(),
            ),
        );
    }
    let rest = text[function.len()..].trim_start();
    let inside = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let (counted, rest) = inside.unwrap_or(("", rest));
    let counted = counted.trim();
    let kind = match (function.as_str(), counted) {
        ("count", "" | "*") => "event_count",
        ("count", _) => "value_count",
        ("sum", _) => "value_sum",
        ("min" | "max" | "avg" | "median", _) => {
            return (
                reason,
                Some(format!(
                    "nothing computes `{function}`: test each row, as in `{}|gte: 10`, or count rows with a correlation",
                    if counted.is_empty() {
                        "network.bytes"
                    } else {
                        counted
                    }
                )),
            );
        }
        _ => {
            return (
                reason,
                Some("write a correlation of type event_count, value_count or value_sum".to_owned()),
            );
        }
    };
    let operator_at = rest.find(['<', '>', '=', '!']);
    let (grouped, compared) = rest.split_at(operator_at.unwrap_or(rest.len()));
    let groups: Vec<&str> = grouped
        .trim()
        .strip_prefix("by ")
        .unwrap_or_default()
        .split([',', ' '])
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(known)
        .collect();
    let number = compared.trim_start_matches(['<', '>', '=', '!']).trim();
    let operator = &compared[..compared.len() - compared.trim_start_matches(['<', '>', '=', '!']).len()];
    let threshold = match (operator, number.parse::<u64>()) {
        (">", Ok(number)) => format!("gt: {number}"),
        (">=" | "=" | "==", Ok(number)) => format!("gte: {number}"),
        _ => "gte: 10".to_owned(),
    };
    let field = match kind {
        "event_count" => String::new(),
        _ => format!("field: {}, ", known(counted)),
    };
    let group_by = match groups.as_slice() {
        [] => String::new(),
        groups => format!("group-by: [{}], ", groups.join(", ")),
    };
    let correlation = format!(
        "correlation: {{type: {kind}, rules: [{rule}], {group_by}timespan: {}, condition: {{{field}{threshold}}}}}",
        timeframe.unwrap_or("1m")
    );
    let remark = if operator.starts_with(['<', '!']) {
        " (a rule fires when enough was seen, never when little was)"
    } else {
        ""
    };
    (
        reason,
        Some(format!(
            "end the condition before the `|`, and add a rule with a title, a level and `{correlation}`{remark}"
        )),
    )
}

/// Our name of a field that other tools call so.
fn known(name: &str) -> &str {
    let is_like = |field: &&Field| {
        field
            .like()
            .split(", ")
            .any(|like| like.eq_ignore_ascii_case(name))
    };
    Field::ALL.iter().find(is_like).map_or(name, |field| field.name())
}
