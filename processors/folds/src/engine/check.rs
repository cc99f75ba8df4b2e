//! A field against values, compiled: what can be known before the first row is known here.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use watchfold_schemas::fields::{Field, Kind};
use watchfold_schemas::rules::{Compare, FieldTest, VALUES_MAX, Value};

use super::cell::{Cell, parse_mac};
use super::ranges::Ranges;

/// What a field is held against. A row that lacks the field meets none of them but `Exists(false)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    Exists(bool),
    Truth(bool),
    Numbers(Ranges<i64>),
    Addresses(Addresses),
    Macs(Vec<[u8; 6]>),
    Texts { tests: Vec<TextTest>, all: bool },
}

/// Addresses of both families; a network of one holds none of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

/// One comparison of a text, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextTest {
    Equals(String),
    Contains(String),
    StartsWith(String),
    EndsWith(String),
    Like(Vec<Piece>),
}

/// A byte of a pattern: one to be found, or what stands for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    Byte(u8),
    /// One character.
    One,
    /// Anything, or nothing.
    Any,
}

impl Check {
    /// Compiles a test, or says in a sentence why the comparison does not fit the field.
    pub fn compile(field: Field, test: &FieldTest) -> Result<Check, String> {
        if test.values.is_empty() {
            return Err("there is nothing to compare it with: give it a value".to_owned());
        }
        if test.values.len() > VALUES_MAX {
            return Err(format!(
                "more than {VALUES_MAX} values: split the test into several rules"
            ));
        }
        if test.compare == Compare::Exists {
            return match test.values.as_slice() {
                [Value::Truth(truth)] => Ok(Check::Exists(*truth)),
                _ => Err("`exists` is compared with true or false alone".to_owned()),
            };
        }
        match field.kind() {
            Kind::Number => numbers(test),
            Kind::Truth => truths(test),
            Kind::Address => addresses(test),
            Kind::Mac => macs(test),
            Kind::Text => texts(test, None),
            Kind::Word(words) => texts(test, Some(words)),
        }
    }

    pub fn holds(&self, cell: Option<&Cell<'_>>) -> bool {
        let Some(cell) = cell else {
            return matches!(self, Check::Exists(false));
        };
        match (self, cell) {
            (Check::Exists(wanted), _) => *wanted,
            (Check::Truth(wanted), Cell::Truth(truth)) => wanted == truth,
            (Check::Numbers(ranges), Cell::Number(number)) => ranges.contains(*number),
            (Check::Addresses(addresses), Cell::Address(address)) => addresses.contains(*address),
            (Check::Macs(macs), Cell::Mac(mac)) => macs.contains(mac),
            (Check::Texts { .. }, Cell::Text(text)) => self.holds_text(text),
            _ => false,
        }
    }

    pub fn holds_text(&self, text: &str) -> bool {
        match self {
            Check::Exists(wanted) => *wanted,
            Check::Texts { tests, all: true } => tests.iter().all(|test| test.holds(text)),
            Check::Texts { tests, all: false } => tests.iter().any(|test| test.holds(text)),
            _ => false,
        }
    }
}

impl Addresses {
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(address.to_bits()),
            IpAddr::V6(address) => self.v6.contains(address.to_bits()),
        }
    }

    /// An address, or a network as `192.0.2.0/24`.
    pub fn parse(text: &str) -> Option<Addresses> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        match address.parse().ok()? {
            IpAddr::V4(address) => v4_network(address, length.unwrap_or(32)),
            IpAddr::V6(address) => v6_network(address, length.unwrap_or(128)),
        }
    }
}

fn v4_network(address: Ipv4Addr, length: u32) -> Option<Addresses> {
    let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
    (length <= 32).then(|| Addresses {
        v4: Ranges::one(address.to_bits() & !hosts, address.to_bits() | hosts),
        v6: Ranges::none(),
    })
}

fn v6_network(address: Ipv6Addr, length: u32) -> Option<Addresses> {
    let hosts = u128::MAX.checked_shr(length).unwrap_or(0);
    (length <= 128).then(|| Addresses {
        v4: Ranges::none(),
        v6: Ranges::one(address.to_bits() & !hosts, address.to_bits() | hosts),
    })
}

/// All values as sets, and of these the union, or what they share.
fn combined<T>(
    test: &FieldTest,
    sets: Vec<T>,
    or: impl Fn(T, T) -> T,
    and: impl Fn(T, T) -> T,
) -> Result<T, String> {
    let combine = |one, other| if test.all { and(one, other) } else { or(one, other) };
    sets.into_iter()
        .reduce(combine)
        .ok_or_else(|| "there is nothing to compare it with: give it a value".to_owned())
}

fn numbers(test: &FieldTest) -> Result<Check, String> {
    let set = |value: &Value| {
        let Value::Number(number) = value else {
            return Err(format!("it is a number, and {} is none", shown(value)));
        };
        let number = *number;
        Ok(match test.compare {
            Compare::Equals => Ranges::one(number, number),
            Compare::Greater => number
                .checked_add(1)
                .map_or(Ranges::none(), |least| Ranges::one(least, i64::MAX)),
            Compare::AtLeast => Ranges::one(number, i64::MAX),
            Compare::Less => number
                .checked_sub(1)
                .map_or(Ranges::none(), |most| Ranges::one(i64::MIN, most)),
            Compare::AtMost => Ranges::one(i64::MIN, number),
            _ => return Err(misfit(test, "a number", "`equals`, `gt`, `gte`, `lt` or `lte`")),
        })
    };
    let sets = test.values.iter().map(set).collect::<Result<_, String>>()?;
    combined(test, sets, Ranges::or, |one: Ranges<i64>, other| one.and(&other)).map(Check::Numbers)
}

fn truths(test: &FieldTest) -> Result<Check, String> {
    if test.compare != Compare::Equals {
        return Err(misfit(test, "true or false", "`equals`"));
    }
    match test.values.as_slice() {
        [Value::Truth(truth)] => Ok(Check::Truth(*truth)),
        [value] => Err(format!("it is true or false, and {} is neither", shown(value))),
        _ => Err("it is true or false: give it one value, or ask whether it exists".to_owned()),
    }
}

fn addresses(test: &FieldTest) -> Result<Check, String> {
    let set = |value: &Value| {
        let text = match value {
            Value::Text(text) => text.as_str(),
            _ => return Err(format!("it is an address, and {} is none", shown(value))),
        };
        match test.compare {
            Compare::Equals if text.contains('/') => {
                return Err(format!("{text} is a network: compare it with `cidr`"));
            }
            Compare::Equals | Compare::Cidr => {}
            _ => return Err(misfit(test, "an address", "`equals` or `cidr`")),
        }
        Addresses::parse(text)
            .ok_or_else(|| format!("{text:?} is neither an address nor a network such as 192.0.2.0/24"))
    };
    let sets = test.values.iter().map(set).collect::<Result<_, String>>()?;
    let or = |one: Addresses, other: Addresses| Addresses {
        v4: one.v4.or(other.v4),
        v6: one.v6.or(other.v6),
    };
    let and = |one: Addresses, other: Addresses| Addresses {
        v4: one.v4.and(&other.v4),
        v6: one.v6.and(&other.v6),
    };
    combined(test, sets, or, and).map(Check::Addresses)
}

fn macs(test: &FieldTest) -> Result<Check, String> {
    if test.compare != Compare::Equals {
        return Err(misfit(test, "a hardware address", "`equals`"));
    }
    let mac = |value: &Value| match value {
        Value::Text(text) => parse_mac(text)
            .ok_or_else(|| format!("{text:?} is no hardware address such as 0a:00:27:00:00:01")),
        _ => Err(format!("it is a hardware address, and {} is none", shown(value))),
    };
    let mut macs = test.values.iter().map(mac).collect::<Result<Vec<_>, _>>()?;
    macs.sort_unstable();
    macs.dedup();
    if test.all && macs.len() > 1 {
        macs.clear();
    }
    Ok(Check::Macs(macs))
}

fn texts(test: &FieldTest, words: Option<&[&str]>) -> Result<Check, String> {
    let one = |value: &Value| {
        let text = match value {
            Value::Text(text) => text.to_ascii_lowercase(),
            Value::Number(number) => number.to_string(),
            Value::Truth(_) => return Err(format!("it is a text, and {} is none", shown(value))),
        };
        if let Some(words) = words
            && test.compare == Compare::Equals
            && !words.contains(&text.as_str())
        {
            return Err(format!("{text:?} is none of its words: {}", words.join(", ")));
        }
        Ok(match test.compare {
            Compare::Equals => TextTest::Equals(text),
            Compare::Contains => TextTest::Contains(text),
            Compare::StartsWith => TextTest::StartsWith(text),
            Compare::EndsWith => TextTest::EndsWith(text),
            Compare::Like => TextTest::Like(pieces(&text)),
            _ => {
                return Err(misfit(
                    test,
                    "a text",
                    "`equals`, `contains`, `startswith`, `endswith` or wildcards",
                ));
            }
        })
    };
    let tests = test.values.iter().map(one).collect::<Result<_, String>>()?;
    Ok(Check::Texts { tests, all: test.all })
}

fn misfit(test: &FieldTest, is: &str, takes: &str) -> String {
    format!("{:?} does not fit {is}, which takes {takes}", test.compare)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Number(number) => number.to_string(),
        Value::Truth(truth) => truth.to_string(),
    }
}

impl TextTest {
    fn holds(&self, text: &str) -> bool {
        let text = text.as_bytes();
        let same = |part: &[u8], wanted: &str| part.eq_ignore_ascii_case(wanted.as_bytes());
        match self {
            TextTest::Equals(wanted) => same(text, wanted),
            TextTest::StartsWith(wanted) => text.get(..wanted.len()).is_some_and(|part| same(part, wanted)),
            TextTest::EndsWith(wanted) => ends_with(text, wanted.as_bytes()),
            TextTest::Contains(wanted) => contains(text, wanted.as_bytes()),
            TextTest::Like(pattern) => like(pattern, text),
        }
    }
}

/// Without regard to case. Most texts differ in one of their last bytes.
fn ends_with(text: &[u8], wanted: &[u8]) -> bool {
    let mut pairs = text.iter().rev().zip(wanted.iter().rev());
    text.len() >= wanted.len() && pairs.all(|(byte, wanted)| byte.eq_ignore_ascii_case(wanted))
}

/// Without regard to case. Most places are passed over by their first byte alone.
fn contains(text: &[u8], wanted: &[u8]) -> bool {
    let Some((first, rest)) = wanted.split_first() else {
        return true;
    };
    let Some(last) = text.len().checked_sub(wanted.len()) else {
        return false;
    };
    let first = [first.to_ascii_lowercase(), first.to_ascii_uppercase()];
    let mut begins = text[..=last]
        .iter()
        .enumerate()
        .filter(|(_, byte)| first.contains(byte));
    begins.any(|(at, _)| text[at + 1..at + wanted.len()].eq_ignore_ascii_case(rest))
}

/// `*` stands for anything and `?` for one character; behind a `\` these two and `\` are themselves, as in Sigma.
fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut bytes = pattern.bytes().peekable();
    while let Some(byte) = bytes.next() {
        pieces.push(match byte {
            b'*' => Piece::Any,
            b'?' => Piece::One,
            b'\\' => Piece::Byte(bytes.next_if(|next| b"*?\\".contains(next)).unwrap_or(b'\\')),
            byte => Piece::Byte(byte),
        });
    }
    pieces
}

/// Goes back to the last `Any` alone, so it never takes longer than the two lengths multiplied.
fn like(pattern: &[Piece], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(Piece::Any) => {
                star = Some((at, from));
                at += 1;
            }
            Some(Piece::One) => {
                at += 1;
                from += character_bytes(text[from]);
            }
            Some(Piece::Byte(wanted)) if *wanted == text[from].to_ascii_lowercase() => {
                at += 1;
                from += 1;
            }
            _ => match &mut star {
                Some((star_at, star_from)) => {
                    *star_from += 1;
                    (at, from) = (*star_at + 1, *star_from);
                }
                None => return false,
            },
        }
    }
    pattern[at.min(pattern.len())..]
        .iter()
        .all(|rest| *rest == Piece::Any)
}

/// How long the UTF-8 character is that begins with this byte.
const fn character_bytes(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(compare: Compare, values: &[Value], all: bool) -> FieldTest {
        FieldTest {
            field: String::new(),
            compare,
            values: values.to_vec(),
            all,
        }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn check(field: Field, compare: Compare, values: &[Value], cell: Cell<'_>, want: bool) {
        let compiled = Check::compile(field, &test(compare, values, false)).unwrap();
        assert_eq!(
            compiled.holds(Some(&cell)),
            want,
            "{field:?} {compare:?} {values:?} {cell:?}"
        );
        assert!(!compiled.holds(None), "a row that lacks {field:?} meets nothing");
    }

    #[test]
    fn texts_are_compared_in_every_way_without_regard_to_case() {
        for (compare, value, given, want) in [
            (Compare::Equals, "Example.org", "exAmple.org", true),
            (Compare::Equals, "example.org", "example.or", false),
            (Compare::Contains, "PLE.", "example.org", true),
            (Compare::Contains, "pool", "example.org", false),
            (Compare::Contains, "longer than the text", "text", false),
            (Compare::StartsWith, "ex", "Example", true),
            (Compare::StartsWith, "am", "example", false),
            (Compare::EndsWith, ".ORG", "example.org", true),
            (Compare::EndsWith, "example", "example.org", false),
            (Compare::Like, "ex*.o?g", "EXample.org", true),
            (Compare::Like, "*", "", true),
            (Compare::Like, "?", "", false),
            (Compare::Like, "a?b", "aüb", true),
            (Compare::Like, "a*b*c", "a-b-b-c", true),
            (Compare::Like, "a*b*c", "a-b-b-d", false),
            (Compare::Like, "ab", "abc", false),
            (Compare::Like, "*a\\*b*", "xA*by", true),
            (Compare::Like, "*a\\*b*", "xa-by", false),
            (Compare::Like, "a\\?*", "a?", true),
            (Compare::Like, "a\\?*", "ab", false),
            (Compare::Like, "a\\\\*", "a\\b", true),
            (Compare::Like, "a\\b*", "a\\bc", true),
        ] {
            check(Field::DnsName, compare, &[text(value)], Cell::text(given), want);
        }
    }

    #[test]
    fn numbers_are_compared_in_every_way() {
        for (compare, value, given, want) in [
            (Compare::Equals, 53, 53, true),
            (Compare::Equals, 53, 54, false),
            (Compare::Greater, 53, 53, false),
            (Compare::Greater, 53, 54, true),
            (Compare::AtLeast, 53, 53, true),
            (Compare::AtLeast, 53, 52, false),
            (Compare::Less, 53, 53, false),
            (Compare::Less, 53, 52, true),
            (Compare::AtMost, 53, 53, true),
            (Compare::AtMost, 53, 54, false),
            (Compare::Greater, i64::MAX, i64::MAX, false),
            (Compare::Less, i64::MIN, i64::MIN, false),
        ] {
            check(
                Field::DestinationPort,
                compare,
                &[Value::Number(value)],
                Cell::Number(given),
                want,
            );
        }
        let ports = [Value::Number(80), Value::Number(443)];
        check(
            Field::DestinationPort,
            Compare::Equals,
            &ports,
            Cell::Number(443),
            true,
        );
    }

    #[test]
    fn addresses_networks_and_hardware_addresses() {
        for (compare, value, given, want) in [
            (Compare::Equals, "192.0.2.1", "192.0.2.1", true),
            (Compare::Equals, "192.0.2.1", "192.0.2.2", false),
            (Compare::Equals, "192.0.2.1", "::ffff:192.0.2.1", true),
            (Compare::Cidr, "192.0.2.0/24", "192.0.2.255", true),
            (Compare::Cidr, "192.0.2.77/24", "192.0.3.0", false),
            (Compare::Cidr, "0.0.0.0/0", "2001:db8::1", false),
            (Compare::Cidr, "::/0", "2001:db8::1", true),
            (Compare::Cidr, "2001:db8::/32", "2001:db9::", false),
        ] {
            let given = Cell::Address(given.parse().unwrap());
            check(Field::SourceIp, compare, &[text(value)], given, want);
        }
        let mac = [text("0A:00:27:00:00:01")];
        check(
            Field::NeighbourMac,
            Compare::Equals,
            &mac,
            Cell::Mac([10, 0, 0x27, 0, 0, 1]),
            true,
        );
        check(
            Field::NeighbourMac,
            Compare::Equals,
            &mac,
            Cell::Mac([10, 0, 0x27, 0, 0, 2]),
            false,
        );
        check(
            Field::TcpSyn,
            Compare::Equals,
            &[Value::Truth(false)],
            Cell::Truth(false),
            true,
        );
    }

    #[test]
    fn all_values_may_be_wanted_and_a_missing_field_can_be_asked_for() {
        let both = test(Compare::Contains, &[text("a"), text("b")], true);
        let compiled = Check::compile(Field::DnsName, &both).unwrap();
        assert!(compiled.holds_text("xbxa") && !compiled.holds_text("a"));
        let between = test(Compare::Equals, &[Value::Number(1), Value::Number(2)], true);
        let compiled = Check::compile(Field::DnsType, &between).unwrap();
        assert!(!compiled.holds(Some(&Cell::Number(1))), "nothing is 1 and 2");
        let missing = test(Compare::Exists, &[Value::Truth(false)], false);
        let compiled = Check::compile(Field::Vlan, &missing).unwrap();
        assert!(compiled.holds(None) && !compiled.holds(Some(&Cell::Number(1))));
    }

    #[test]
    fn what_does_not_fit_a_field_is_said() {
        for (field, compare, value, want) in [
            (
                Field::DestinationPort,
                Compare::Contains,
                Value::Number(8),
                "does not fit a number",
            ),
            (
                Field::DestinationPort,
                Compare::Equals,
                text("http"),
                "it is a number",
            ),
            (Field::TcpSyn, Compare::Equals, Value::Number(1), "true or false"),
            (
                Field::TcpSyn,
                Compare::Greater,
                Value::Truth(true),
                "does not fit true or false",
            ),
            (
                Field::SourceIp,
                Compare::Cidr,
                text("192.0.2.0/33"),
                "neither an address",
            ),
            (Field::SourceIp, Compare::Equals, text("192.0.2.0/24"), "`cidr`"),
            (
                Field::SourceIp,
                Compare::StartsWith,
                text("192."),
                "does not fit an address",
            ),
            (
                Field::NeighbourMac,
                Compare::Equals,
                text("nonsense"),
                "no hardware address",
            ),
            (Field::Transport, Compare::Equals, text("tpc"), "tcp, udp"),
            (Field::DnsName, Compare::Cidr, text("a"), "does not fit a text"),
            (Field::DnsName, Compare::Exists, text("a"), "true or false alone"),
        ] {
            let error = Check::compile(field, &test(compare, &[value], false)).unwrap_err();
            assert!(error.contains(want), "{field:?} {compare:?}: {error}");
        }
        assert!(Check::compile(Field::DnsName, &test(Compare::Equals, &[], false)).is_err());
    }
}
