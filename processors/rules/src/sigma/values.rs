//! One field against its values, held against the field's kind.

use core::net::IpAddr;

use rsigma_parser::{Modifier, SigmaString, SigmaValue, SpecialChar, StringPart};
use watchfold_schemas::fields::{Field, Kind};
use watchfold_schemas::rules::{Compare, FieldTest, Test, VALUES_MAX, Value};

use super::modifiers::{Modifiers, Values};
use crate::lists::{LISTS, list};
use crate::network::network;
use crate::suggest::nearest;

/// The longest text that is compared; no field holds a longer one.
const TEXT_BYTES_MAX: usize = 512;

/// What is wrong with a field's test.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The value, as it stands in the file.
    pub value: Option<String>,
    pub reason: String,
    pub instead: Option<String>,
}

fn wrong<T>(reason: String, instead: impl Into<Option<String>>) -> Result<T, Vec<Wrong>> {
    Err(vec![Wrong {
        value: None,
        reason,
        instead: instead.into(),
    }])
}

/// The test of a field and its values as a key with modifiers names them; `None` where the modifiers leave open what the values
/// mean, which is a problem of the key.
pub fn of_key(field: Field, modifiers: &Modifiers, given: &[SigmaValue]) -> Result<Option<Test>, Vec<Wrong>> {
    if modifiers.values == Values::Unknown {
        return Ok(None);
    }
    let listed;
    let mut values = given;
    if modifiers.read.contains(&Modifier::Expand) {
        listed = each(given, from_list)?.concat();
        values = &listed;
    }
    match test_of(field, &modifiers.read, values) {
        Ok(test) => Ok(Some(test)),
        Err(mut found) => {
            if modifiers.values == Values::Guessed {
                // Whether a modifier fits is unknown while the modifier is.
                found.retain(|wrong| wrong.value.is_some());
            }
            if found.is_empty() { Ok(None) } else { Err(found) }
        }
    }
}

/// The test of a field of an exclusion, with the words behind its name and plain values.
pub fn excluded_test<'w>(
    field: Field,
    words: impl Iterator<Item = &'w str>,
    values: &[&Value],
) -> Result<Test, Vec<Wrong>> {
    let given: Vec<SigmaValue> = values
        .iter()
        .map(|value| match value {
            Value::Text(text) => SigmaValue::String(SigmaString::new(text)),
            Value::Number(number) => SigmaValue::Integer(*number),
            Value::Truth(truth) => SigmaValue::Bool(*truth),
        })
        .collect();
    let modifiers = Modifiers::of(words);
    let values = of_key(field, &modifiers, &given);
    let mut found = modifiers.wrong;
    match values {
        Ok(Some(test)) if found.is_empty() => return Ok(test),
        Ok(_) => {}
        Err(wrong) => found.extend(wrong),
    }
    Err(found)
}

/// The values of a list that ships, by its name between percent signs.
fn from_list(value: &SigmaValue) -> Result<Vec<SigmaValue>, Vec<Wrong>> {
    let text = match value {
        SigmaValue::String(text) => text.original.as_str(),
        _ => "",
    };
    let name = text.strip_prefix('%').and_then(|text| text.strip_suffix('%'));
    match name.and_then(list) {
        Some(texts) => Ok(texts
            .into_iter()
            .map(|text| SigmaValue::String(SigmaString::new(text)))
            .collect()),
        None => {
            let known: Vec<String> = LISTS.iter().map(|(name, _)| format!("`%{name}%`")).collect();
            Err(vec![Wrong {
                value: Some(text.to_owned()),
                reason: format!("`{text}` is not a list of values"),
                instead: Some(format!(
                    "there are {}; write values of your own without `expand`",
                    known.join(", ")
                )),
            }])
        }
    }
}

/// The test of a field with Sigma's modifiers.
fn test_of(field: Field, modifiers: &[Modifier], values: &[SigmaValue]) -> Result<Test, Vec<Wrong>> {
    let name = field.name();
    if values.is_empty() {
        return wrong(format!("`{name}` has no value"), None);
    }
    if values.len() > VALUES_MAX {
        return wrong(
            format!(
                "{} values of `{name}`, and the limit is {VALUES_MAX}",
                values.len()
            ),
            None,
        );
    }
    let all = modifiers.contains(&Modifier::All);
    // Lists have been put in its place.
    let is_how = |one: &Modifier| *one != Modifier::All && *one != Modifier::Expand;
    let others: Vec<Modifier> = modifiers.iter().copied().filter(is_how).collect();
    let how = match others.as_slice() {
        [] => How::Equals,
        [one] => how(*one)?,
        _ => {
            return wrong(
                format!("modifiers of `{name}` that cannot be combined"),
                "give one, and `all` beside it".to_owned(),
            );
        }
    };
    let is_text = matches!(how, How::Part(_)) || (how == How::Equals && field.kind() == Kind::Text);
    if all && !is_text {
        return wrong(
            format!("`all` has no meaning for `{name}` here: it has one value"),
            "use it with contains, startswith or endswith".to_owned(),
        );
    }
    match how {
        How::Exists => exists(field, values),
        How::Differs => {
            single(field, "neq", values)?;
            let equal = equals(field, values, false)?;
            let there = one(field, Compare::Exists, Value::Truth(true));
            Ok(Test::All(vec![there, Test::Not(Box::new(equal))]))
        }
        How::Equals => equals(field, values, all),
        How::Part(compare) => part(field, compare, values, all),
        How::Number(compare) => number_test(field, compare, values),
        How::Cidr => networks(field, values),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Equals,
    Part(Compare),
    Number(Compare),
    Cidr,
    Exists,
    Differs,
}

/// What one modifier asks for. Those that are not supported are refused before values are looked at.
fn how(modifier: Modifier) -> Result<How, Vec<Wrong>> {
    Ok(match modifier {
        Modifier::Contains => How::Part(Compare::Contains),
        Modifier::StartsWith => How::Part(Compare::StartsWith),
        Modifier::EndsWith => How::Part(Compare::EndsWith),
        Modifier::Cidr => How::Cidr,
        Modifier::Gt => How::Number(Compare::Greater),
        Modifier::Gte => How::Number(Compare::AtLeast),
        Modifier::Lt => How::Number(Compare::Less),
        Modifier::Lte => How::Number(Compare::AtMost),
        Modifier::Exists => How::Exists,
        Modifier::Neq => How::Differs,
        _ => {
            return wrong(
                "a modifier that is not supported".to_owned(),
                "take it out".to_owned(),
            );
        }
    })
}

/// All values, or everything that is wrong with any of them.
fn each<T>(
    values: &[SigmaValue],
    one: impl Fn(&SigmaValue) -> Result<T, Vec<Wrong>>,
) -> Result<Vec<T>, Vec<Wrong>> {
    let (mut read, mut found) = (Vec::new(), Vec::new());
    for value in values {
        match one(value) {
            Ok(value) => read.push(value),
            Err(wrong) => found.extend(wrong),
        }
    }
    if found.is_empty() { Ok(read) } else { Err(found) }
}

fn one(field: Field, compare: Compare, value: Value) -> Test {
    any(field, compare, vec![value])
}

fn any(field: Field, compare: Compare, values: Vec<Value>) -> Test {
    Test::Field(FieldTest {
        field: field.name().to_owned(),
        compare,
        values,
        all: false,
    })
}

fn single(field: Field, modifier: &str, values: &[SigmaValue]) -> Result<(), Vec<Wrong>> {
    if values.len() == 1 {
        return Ok(());
    }
    let instead = if modifier == "neq" {
        "put the list into a selection of its own, and `not` before it in the condition"
    } else {
        "give one"
    };
    wrong(
        format!("`{}|{modifier}` has {} values", field.name(), values.len()),
        instead.to_owned(),
    )
}

fn exists(field: Field, values: &[SigmaValue]) -> Result<Test, Vec<Wrong>> {
    match values {
        [SigmaValue::Bool(there)] => Ok(one(field, Compare::Exists, Value::Truth(*there))),
        _ => wrong(format!("`{}|exists` is true or false", field.name()), None),
    }
}

/// Plain values, of any kind of field.
fn equals(field: Field, values: &[SigmaValue], all: bool) -> Result<Test, Vec<Wrong>> {
    if field.kind() == Kind::Text {
        return texts(field, Compare::Equals, values, all);
    }
    Ok(any(
        field,
        Compare::Equals,
        each(values, |value| plain(field, value))?,
    ))
}

fn part(field: Field, compare: Compare, values: &[SigmaValue], all: bool) -> Result<Test, Vec<Wrong>> {
    match field.kind() {
        Kind::Text => texts(field, compare, values, all),
        Kind::Address => wrong(
            format!(
                "`{}` is an address, and parts of it are not looked for",
                field.name()
            ),
            format!("write `{}|cidr: 192.168.0.0/16`", field.name()),
        ),
        kind => wrong(
            format!("`{}` is {}, and has no parts", field.name(), kind_in_words(kind)),
            None,
        ),
    }
}

/// Texts, with wildcards where they have them.
fn texts(field: Field, compare: Compare, values: &[SigmaValue], all: bool) -> Result<Test, Vec<Wrong>> {
    let read = each(values, |value| {
        let text = text(field, value)?;
        Ok(match text.as_plain() {
            Some(text) => (false, Value::Text(text)),
            None => (true, Value::Text(pattern(compare, &text))),
        })
    })?;
    let (patterns, plain): (Vec<_>, Vec<_>) = read.into_iter().partition(|(is_pattern, _)| *is_pattern);
    let values = |several: Vec<(bool, Value)>| several.into_iter().map(|(_, value)| value).collect();
    let (plain, patterns): (Vec<Value>, Vec<Value>) = (values(plain), values(patterns));
    let test = |compare, values| {
        Test::Field(FieldTest {
            field: field.name().to_owned(),
            compare,
            values,
            all,
        })
    };
    Ok(match (plain.is_empty(), patterns.is_empty()) {
        (_, true) => test(compare, plain),
        (true, false) => test(Compare::Like, patterns),
        (false, false) => {
            let both = vec![test(compare, plain), test(Compare::Like, patterns)];
            if all { Test::All(both) } else { Test::Any(both) }
        }
    })
}

fn text(field: Field, value: &SigmaValue) -> Result<SigmaString, Vec<Wrong>> {
    let text = match value {
        SigmaValue::String(text) => text.clone(),
        SigmaValue::Integer(number) => SigmaString::from_raw(&number.to_string()),
        SigmaValue::Null => return null(field),
        SigmaValue::Float(_) | SigmaValue::Bool(_) => return not_of_kind(field, value, "put it in quotes"),
    };
    if text.original.len() > TEXT_BYTES_MAX || text.original.is_empty() {
        return wrong(
            format!(
                "a text of `{}` has 1 to {TEXT_BYTES_MAX} characters",
                field.name()
            ),
            None,
        );
    }
    Ok(text)
}

/// A pattern in which `*` and `?` are wildcards, and the characters themselves stand behind a `\`.
fn pattern(compare: Compare, text: &SigmaString) -> String {
    let mut pattern = String::new();
    if matches!(compare, Compare::Contains | Compare::EndsWith) {
        pattern.push('*');
    }
    for part in &text.parts {
        match part {
            StringPart::Plain(plain) => pattern.push_str(&escaped(plain)),
            StringPart::Special(SpecialChar::WildcardMulti) => pattern.push('*'),
            StringPart::Special(SpecialChar::WildcardSingle) => pattern.push('?'),
        }
    }
    if matches!(compare, Compare::Contains | Compare::StartsWith) {
        pattern.push('*');
    }
    pattern
}

/// A text as Sigma spells it where it has no wildcards: `a\*b` for `a*b`.
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let means_something = |next: &char| ['*', '?', '\\'].contains(next);
        let needs = match letter {
            '*' | '?' => true,
            '\\' => letters.peek().is_none_or(means_something),
            _ => false,
        };
        if needs {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

fn number_test(field: Field, compare: Compare, values: &[SigmaValue]) -> Result<Test, Vec<Wrong>> {
    if field.kind() != Kind::Number {
        let reason = format!(
            "`{}` is {}, and greater or less has no meaning for it",
            field.name(),
            kind_in_words(field.kind())
        );
        return wrong(reason, None);
    }
    single(field, "gt, gte, lt, lte", values)?;
    Ok(one(field, compare, plain(field, &values[0])?))
}

fn networks(field: Field, values: &[SigmaValue]) -> Result<Test, Vec<Wrong>> {
    if field.kind() != Kind::Address {
        return wrong(
            format!(
                "`{}` is {}, and lies in no network",
                field.name(),
                kind_in_words(field.kind())
            ),
            None,
        );
    }
    let one_of = |value: &SigmaValue| match value {
        SigmaValue::String(text) => network(&text.original).map(Value::Text).ok_or_else(|| {
            vec![Wrong {
                value: Some(text.original.clone()),
                reason: format!("`{}` is no network in CIDR notation", text.original),
                instead: Some("write it as 192.168.0.0/16 or 2001:db8::/32".to_owned()),
            }]
        }),
        other => not_of_kind(field, other, "write it as 192.168.0.0/16 or 2001:db8::/32"),
    };
    Ok(any(field, Compare::Cidr, each(values, one_of)?))
}

/// A value of a field that is no text.
fn plain(field: Field, value: &SigmaValue) -> Result<Value, Vec<Wrong>> {
    if *value == SigmaValue::Null {
        return null(field);
    }
    let word = match value {
        SigmaValue::String(text) => text.original.as_str(),
        _ => "",
    };
    match (field.kind(), value) {
        (Kind::Number, SigmaValue::Integer(number)) => in_range(field, *number),
        (Kind::Number, SigmaValue::String(text)) if text.original.parse::<i64>().is_ok() => {
            not_of_kind(field, value, "take the quotes away")
        }
        (Kind::Truth, SigmaValue::Bool(truth)) => Ok(Value::Truth(*truth)),
        (Kind::Truth, _) => not_of_kind(field, value, "write true or false"),
        (Kind::Address, SigmaValue::String(_)) => match word.parse::<IpAddr>() {
            Ok(address) => Ok(Value::Text(address.to_string())),
            Err(_) => {
                let instead = format!(
                    "write an address, or a network as `{}|cidr: 192.168.0.0/16`",
                    field.name()
                );
                not_of_kind(field, value, &instead)
            }
        },
        (Kind::Mac, SigmaValue::String(_)) => match mac(word) {
            Some(mac) => Ok(Value::Text(mac)),
            None => not_of_kind(field, value, "write it as 02:00:5e:10:00:01"),
        },
        (Kind::Word(words), SigmaValue::String(_)) => {
            let lower = word.to_ascii_lowercase();
            if words.contains(&lower.as_str()) {
                return Ok(Value::Text(lower));
            }
            let known = format!("there are {}", words.join(", "));
            let instead = nearest(&lower, words.iter().copied())
                .map_or(known, |near| format!("did you mean `{near}`?"));
            not_of_kind(field, value, &instead)
        }
        (Kind::Word(words), _) => not_of_kind(field, value, &format!("there are {}", words.join(", "))),
        _ => not_of_kind(field, value, ""),
    }
}

fn in_range(field: Field, number: i64) -> Result<Value, Vec<Wrong>> {
    let most = match field {
        Field::SourcePort | Field::DestinationPort | Field::Bytes | Field::DnsType => i64::from(u16::MAX),
        Field::Vlan => 4_094,
        Field::TcpFlags | Field::IcmpType | Field::IcmpCode | Field::DnsResponseCode => i64::from(u8::MAX),
        _ => i64::MAX,
    };
    if (0..=most).contains(&number) {
        return Ok(Value::Number(number));
    }
    Err(vec![Wrong {
        value: Some(number.to_string()),
        reason: format!("{number} is no value that `{}` can have", field.name()),
        instead: (most < i64::MAX).then(|| format!("it is from 0 to {most}")),
    }])
}

fn mac(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    (parts.len() == 6 && parts.iter().all(is_byte)).then(|| parts.join(":").to_ascii_lowercase())
}

fn null<T>(field: Field) -> Result<T, Vec<Wrong>> {
    wrong(
        format!("`{}` has no value", field.name()),
        format!("for rows without it write `{}|exists: false`", field.name()),
    )
}

fn not_of_kind<T>(field: Field, value: &SigmaValue, instead: &str) -> Result<T, Vec<Wrong>> {
    let kind = kind_in_words(field.kind());
    let text = match value {
        SigmaValue::String(text) => text.original.clone(),
        other => other.to_string(),
    };
    Err(vec![Wrong {
        reason: format!("`{}` is {kind}, and `{text}` is none", field.name()),
        instead: (!instead.is_empty()).then(|| instead.to_owned()),
        value: Some(text),
    }])
}

pub fn kind_in_words(kind: Kind) -> &'static str {
    match kind {
        Kind::Address => "an address",
        Kind::Mac => "a hardware address",
        Kind::Number => "a number",
        Kind::Truth => "true or false",
        Kind::Text => "a text",
        Kind::Word(_) => "one of some words",
    }
}
