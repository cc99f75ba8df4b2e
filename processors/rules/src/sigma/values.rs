//! One field against its values, held against the field's kind.

use core::net::IpAddr;

use rsigma_parser::{Modifier, SigmaString, SigmaValue, SpecialChar, StringPart};
use watchfold_schemas::fields::{Field, Kind};
use watchfold_schemas::rules::{Compare, FieldTest, Test, VALUES_MAX, Value};

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

fn wrong<T>(reason: String, instead: impl Into<Option<String>>) -> Result<T, Wrong> {
    Err(Wrong {
        value: None,
        reason,
        instead: instead.into(),
    })
}

/// The test of a field with Sigma's modifiers.
pub fn test_of(field: Field, modifiers: &[Modifier], values: &[SigmaValue]) -> Result<Test, Wrong> {
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
    let others: Vec<Modifier> = modifiers
        .iter()
        .copied()
        .filter(|one| *one != Modifier::All)
        .collect();
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

fn how(modifier: Modifier) -> Result<How, Wrong> {
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
        Modifier::Re | Modifier::IgnoreCase | Modifier::Multiline | Modifier::DotAll => {
            let instead = "use contains, startswith, endswith, or `*` and `?` in the value";
            return wrong(
                "regular expressions are not read: they have no bound on what a row may cost".to_owned(),
                instead.to_owned(),
            );
        }
        Modifier::Cased => {
            return wrong(
                "texts are compared without regard to case".to_owned(),
                "take `cased` out".to_owned(),
            );
        }
        Modifier::FieldRef => {
            return wrong(
                "fields are not compared with each other".to_owned(),
                "give the value".to_owned(),
            );
        }
        _ => {
            let known = "contains, startswith, endswith, all, cidr, gt, gte, lt, lte, neq, exists";
            return wrong(
                "this modifier is not read".to_owned(),
                format!("there are {known}"),
            );
        }
    })
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

fn single(field: Field, modifier: &str, values: &[SigmaValue]) -> Result<(), Wrong> {
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

fn exists(field: Field, values: &[SigmaValue]) -> Result<Test, Wrong> {
    match values {
        [SigmaValue::Bool(there)] => Ok(one(field, Compare::Exists, Value::Truth(*there))),
        _ => wrong(format!("`{}|exists` is true or false", field.name()), None),
    }
}

/// Plain values, of any kind of field.
fn equals(field: Field, values: &[SigmaValue], all: bool) -> Result<Test, Wrong> {
    if field.kind() == Kind::Text {
        return texts(field, Compare::Equals, values, all);
    }
    let values = values.iter().map(|value| plain(field, value));
    Ok(any(field, Compare::Equals, values.collect::<Result<_, _>>()?))
}

fn part(field: Field, compare: Compare, values: &[SigmaValue], all: bool) -> Result<Test, Wrong> {
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
fn texts(field: Field, compare: Compare, values: &[SigmaValue], all: bool) -> Result<Test, Wrong> {
    let (mut plain, mut patterns) = (Vec::new(), Vec::new());
    for value in values {
        let text = text(field, value)?;
        match text.as_plain() {
            Some(text) => plain.push(Value::Text(text)),
            None => patterns.push(Value::Text(pattern(field, compare, &text)?)),
        }
    }
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

fn text(field: Field, value: &SigmaValue) -> Result<SigmaString, Wrong> {
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

/// A pattern of `*` and `?`, which has no way to say these two themselves.
fn pattern(field: Field, compare: Compare, text: &SigmaString) -> Result<String, Wrong> {
    let mut pattern = String::new();
    if matches!(compare, Compare::Contains | Compare::EndsWith) {
        pattern.push('*');
    }
    for part in &text.parts {
        match part {
            StringPart::Plain(plain) if plain.contains(['*', '?']) => {
                return Err(Wrong {
                    value: Some(text.original.clone()),
                    reason: format!(
                        "a value of `{}` has wildcards and, escaped, the characters themselves",
                        field.name()
                    ),
                    instead: Some("write two selections".to_owned()),
                });
            }
            StringPart::Plain(plain) => pattern.push_str(plain),
            StringPart::Special(SpecialChar::WildcardMulti) => pattern.push('*'),
            StringPart::Special(SpecialChar::WildcardSingle) => pattern.push('?'),
        }
    }
    if matches!(compare, Compare::Contains | Compare::StartsWith) {
        pattern.push('*');
    }
    Ok(pattern)
}

fn number_test(field: Field, compare: Compare, values: &[SigmaValue]) -> Result<Test, Wrong> {
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

fn networks(field: Field, values: &[SigmaValue]) -> Result<Test, Wrong> {
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
        SigmaValue::String(text) => network(&text.original).map(Value::Text).ok_or_else(|| Wrong {
            value: Some(text.original.clone()),
            reason: format!("`{}` is no network in CIDR notation", text.original),
            instead: Some("write it as 192.168.0.0/16 or 2001:db8::/32".to_owned()),
        }),
        other => not_of_kind(field, other, "write it as 192.168.0.0/16 or 2001:db8::/32"),
    };
    let values: Result<Vec<Value>, Wrong> = values.iter().map(one_of).collect();
    Ok(any(field, Compare::Cidr, values?))
}

/// A value of a field that is no text.
fn plain(field: Field, value: &SigmaValue) -> Result<Value, Wrong> {
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

fn in_range(field: Field, number: i64) -> Result<Value, Wrong> {
    let most = match field {
        Field::SourcePort | Field::DestinationPort | Field::Bytes | Field::DnsType => i64::from(u16::MAX),
        Field::TcpFlags | Field::IcmpType | Field::IcmpCode | Field::DnsResponseCode => i64::from(u8::MAX),
        _ => i64::MAX,
    };
    if (0..=most).contains(&number) {
        return Ok(Value::Number(number));
    }
    Err(Wrong {
        value: Some(number.to_string()),
        reason: format!("{number} is no value that `{}` can have", field.name()),
        instead: (most < i64::MAX).then(|| format!("it is from 0 to {most}")),
    })
}

fn mac(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    (parts.len() == 6 && parts.iter().all(is_byte)).then(|| parts.join(":").to_ascii_lowercase())
}

fn null<T>(field: Field) -> Result<T, Wrong> {
    wrong(
        format!("`{}` has no value", field.name()),
        format!("for rows without it write `{}|exists: false`", field.name()),
    )
}

fn not_of_kind<T>(field: Field, value: &SigmaValue, instead: &str) -> Result<T, Wrong> {
    let kind = kind_in_words(field.kind());
    let text = match value {
        SigmaValue::String(text) => text.original.clone(),
        other => other.to_string(),
    };
    Err(Wrong {
        reason: format!("`{}` is {kind}, and `{text}` is none", field.name()),
        instead: (!instead.is_empty()).then(|| instead.to_owned()),
        value: Some(text),
    })
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
