//! What older Sigma, other tools and editors write: each is read, or refused in words of our own with what to write instead.

use watchfold_schemas::rules::{Compare, FieldTest, Test, Value};

use super::{Files, read};

/// A rule whose detection begins on line 6.
fn detection(lines: &str) -> String {
    format!("title: Many things\nlevel: low\nlogsource:\n  category: packet\ndetection:\n{lines}\n")
}

fn condition(text: &str) -> String {
    detection(&format!(
        "  one:\n    tcp.syn: true\n  other:\n    tcp.ack: true\n  condition: {text}"
    ))
}

/// How the libraries beneath speak.
const FOREIGN: [&str; 12] = [
    "parse error",
    "expected EOI",
    "-->",
    "Invalid",
    "Missing",
    "Unknown",
    "deserializ",
    "while parsing",
    "did not find",
    "invalid type",
    "requires a",
    "not allowed in this context",
];

/// The problems, each with its line.
#[track_caller]
fn told(text: &str) -> Vec<(usize, String)> {
    let problems = read(text).expect_err(text);
    let told: Vec<(usize, String)> = problems
        .iter()
        .map(|problem| {
            let text = problem.to_string();
            (
                problem.line,
                text.split_once(&format!(":{}: ", problem.line))
                    .unwrap()
                    .1
                    .to_owned(),
            )
        })
        .collect();
    for (_, told) in &told {
        assert!(!FOREIGN.iter().any(|word| told.contains(word)), "{told}");
    }
    told
}

/// These are all the problems, by words of each.
#[track_caller]
fn check(text: &str, want: &[(usize, &str)]) {
    let told = told(text);
    assert_eq!(told.len(), want.len(), "{told:#?}\n{text}");
    for ((line, told), (want_line, words)) in told.iter().zip(want) {
        assert!(
            line == want_line && told.contains(words),
            "{want_line}, {words:?} is not in {line}, {told:?}"
        );
    }
}

#[test]
fn counting_of_older_sigma_comes_with_the_correlation_that_says_the_same() {
    for (aggregation, correlation) in [
        (
            "count() > 10",
            "{type: event_count, rules: [many_things], timespan: 1m, condition: {gt: 10}}",
        ),
        (
            "count() by src_ip >= 10",
            "{type: event_count, rules: [many_things], group-by: [source.ip], timespan: 1m, condition: {gte: 10}}",
        ),
        (
            "count(dst_port) by source.ip, destination.ip > 5",
            "{type: value_count, rules: [many_things], group-by: [source.ip, destination.ip], timespan: 1m, condition: {field: \
             destination.port, gt: 5}}",
        ),
        (
            "sum(network.bytes) by source.ip == 1000",
            "{type: value_sum, rules: [many_things], group-by: [source.ip], timespan: 1m, condition: {field: network.bytes, gte: 1000}}",
        ),
        (
            "count() by source.ip < 5",
            "condition: {gte: 10}}` (a rule fires when enough was seen",
        ),
        ("avg(network.bytes) by source.ip > 5", "`network.bytes|gte: 10`"),
        ("near other", "an event_count correlation that names both"),
        ("frobnicate", "event_count, value_count or value_sum"),
    ] {
        let told = told(&condition(&format!("one or other | {aggregation}")));
        assert_eq!((told.len(), told[0].0), (1, 10), "{told:#?}");
        assert!(told[0].1.starts_with(&format!("`| {aggregation}`")), "{told:#?}");
        assert!(told[0].1.contains(correlation), "{correlation}\n{told:#?}");
    }
    // The advice is a correlation that is read.
    let advised = detection("  one:\n    tcp.syn: true\n  condition: one")
        + "---\ntitle: C\nlevel: low\ncorrelation: {type: value_count, rules: [many_things], group-by: [source.ip], timespan: 24h, condition: \
           {field: destination.ip, gt: 10}}\n";
    assert_eq!(read(&advised).unwrap().rules.len(), 1);
    let with_time =
        condition("one or othr | count() > 3").replace("  condition", "  timeframe: 24h\n  condition");
    check(
        &with_time,
        &[
            (
                10,
                "`timeframe` is not supported: a detection looks at each row by itself; it becomes `timespan: 24h`",
            ),
            (11, "timespan: 24h, condition: {gt: 3}"),
            (
                11,
                "`othr`, and there is no such selection; did you mean `other`?",
            ),
        ],
    );
    check(
        &detection("  one:\n    tcp.syn: true\n  timeframe: 5m\n  condition: one"),
        &[(8, "rules: [many_things], timespan: 5m")],
    );
}

#[test]
fn every_mistake_of_a_condition_is_named() {
    for (text, want) in [
        (
            "one && other",
            &["`&&` has no meaning in a condition; write `and`"][..],
        ),
        ("one || other", &["write `or`"]),
        (
            "one AND other",
            &["`AND` is not a word of a condition; write it in lower case: `and`"],
        ),
        ("one AND NOT other", &["`AND`", "`NOT`"]),
        (
            "one other",
            &["neither `and` nor `or` stands between `one` and `other`"],
        ),
        ("(one or other", &["a `(` is not closed"]),
        ("one or other)", &["a `)` closes nothing"]),
        (
            "one and or other",
            &["`or` joins two selections, and it follows `and`"],
        ),
        (
            "or one or other",
            &["`or` joins two selections, and nothing stands before it"],
        ),
        ("one or other or not", &["ends with `not`"]),
        ("1 of", &["`1 of` does not say of which selections"]),
        ("some of them", &["`some of` is not a quantity"]),
        ("them", &["`them` alone names no selection; write `1 of them`"]),
        ("o*", &["`o*` is a pattern"]),
        ("one and () and other", &["`)` follows `(`"]),
        ("''", &["names no selection"]),
        (
            "7 and",
            &["`7`, and there is no such selection", "ends with `and`"],
        ),
        ("[one, 7]", &["a text that joins selections"]),
        ("{one: 1}", &["a text that joins selections"]),
        (
            "'one & & othr and (other'",
            &[
                "`&` has no meaning",
                "`&` has no meaning",
                "`and` joins two",
                "a `(` is not closed",
                "`othr`",
            ],
        ),
    ] {
        let told = told(&condition(text));
        for words in want {
            assert!(
                told.iter()
                    .any(|(line, told)| *line == 10 && told.contains(words)),
                "{words:?} is not in {told:#?}"
            );
        }
    }
}

#[test]
fn unsupported_modifiers_and_unknown_ones_are_told_apart() {
    for (key, want) in [
        (
            "dns.question.name|re",
            "the modifier `re` of Sigma is not supported",
        ),
        (
            "dns.question.name|re|i",
            "the modifier `i` of Sigma is not supported",
        ),
        (
            "dns.question.name|base64offset|contains",
            "the modifier `base64offset` of Sigma is not supported",
        ),
        (
            "dns.question.name|wide",
            "the modifier `wide` of Sigma is not supported",
        ),
        (
            "dns.question.name|utf16le",
            "the modifier `utf16le` of Sigma is not supported",
        ),
        (
            "dns.question.name|windash",
            "the modifier `windash` of Sigma is not supported",
        ),
        (
            "dns.question.name|cased",
            "the modifier `cased` of Sigma is not supported",
        ),
        (
            "dns.question.name|fieldref",
            "the modifier `fieldref` of Sigma is not supported",
        ),
        (
            "dns.question.name|hour",
            "the modifier `hour` of Sigma is not supported",
        ),
        (
            "dns.question.name|expand",
            "`x` is not a list of values; there are `%dns_reputation_zones%`",
        ),
        (
            "dns.question.name|contians",
            "there is no modifier `contians`; did you mean `contains`?",
        ),
        (
            "dns.question.name|Contains",
            "there is no modifier `Contains`; did you mean `contains`?",
        ),
        (
            "dns.question.name|frobnicate",
            "there is no modifier `frobnicate`; there are contains",
        ),
        (
            "dns.question.name|",
            "there is no modifier ``; there are contains",
        ),
    ] {
        let told = told(&detection(&format!("  s:\n    {key}: x\n  condition: s")));
        assert!(
            told.iter()
                .any(|(line, told)| *line == 7 && told.starts_with(want)),
            "{want}\n{told:#?}"
        );
    }
}

#[test]
fn no_mistake_of_a_line_hides_another() {
    let one = |line: &str| detection(&format!("  s:\n    {line}\n  condition: s"));
    check(
        &one("query|re|windash|contians: x"),
        &[
            (7, "`re` of Sigma"),
            (7, "`windash` of Sigma"),
            (7, "did you mean `dns.question.name`?"),
            (7, "did you mean `contains`?"),
        ],
    );
    check(
        &one("dst_port: 70000"),
        &[(7, "70000"), (7, "did you mean `destination.port`?")],
    );
    check(
        &one("destination.port: [70000, x, '23', 24]"),
        &[(7, "70000"), (7, "`23` is none"), (7, "`x` is none")],
    );
    check(
        &one("destination.port|gtee: 70000"),
        &[(7, "70000"), (7, "did you mean `gte`?")],
    );
    check(
        &one("source.ip|cidr: [10.0.0.0/33, 10.0.0.0/8, 10.0.0.0]"),
        &[(7, "`10.0.0.0/33`"), (7, "`10.0.0.0`")].map(|want| want),
    );
    check(
        &one("neighbour.mac: zz"),
        &[(7, "a field of neighbour rows"), (7, "`zz` is none")],
    );
    let elsewhere = one("tcp.syn: true").replace("  category: packet", "  product: linux\n  service: auditd");
    check(
        &elsewhere,
        &[
            (3, "`logsource.category`"),
            (4, "product \"linux\""),
            (5, "service \"auditd\""),
        ],
    );
    for (category, advice) in [
        ("dns", "use `packet`"),
        ("network_connection", "use `connection`"),
    ] {
        check(
            &one("tcp.syn: true").replace("category: packet", &format!("category: {category}")),
            &[(4, advice)],
        );
    }
}

#[test]
fn mistakes_of_yaml_are_named_in_words_of_our_own() {
    let one = |line: &str| detection(&format!("  s:\n    {line}\n  condition: s"));
    for (text, want) in [
        (
            one("dns.question.name: *foo"),
            "refers to an anchor that is not there; put it into quotes",
        ),
        (
            one("dns.question.name: @foo"),
            "has a meaning of its own in YAML; put it into quotes",
        ),
        (one("dns.question.name: a: b"), "a second colon in one value"),
        (one("dns.question.name: [a, b"), "a bracket that is not closed"),
        (one("dns.question.name: {a: b"), "not closed"),
        (one("dns.question.name: 'a"), "not closed"),
        (
            one("dns.question.name: \"\\w\""),
            "a backslash that means nothing",
        ),
        (one("dns.question.name: a\n   tcp.syn: true"), "indent"),
        (one("dns.question.name: a\n     tcp.syn: true"), "colon"),
        (one("dns.question.name\n    tcp.syn: true"), "colon"),
        (one("- a\n    b: c"), "indent"),
        (one("dns.question.name: a\u{7}b"), "a control character"),
    ] {
        let told = told(&text);
        assert!(
            told.iter().any(|(_, told)| told.contains(want)),
            "{want}\n{told:#?}\n{text}"
        );
    }
}

#[test]
fn keys_for_people_and_older_words_are_read() {
    let text = detection("  s:\n    tcp.syn: true\n  condition: s")
        + "regression_tests_path: x\nsimulation:\n  - type: atomic\nrelated:\n  - id: 1f06a3a5-6a09-413f-8743-e6cf35561297\n    type: obsoletes\n";
    read(&text).unwrap();
    check(
        &text.replace("obsoletes", "father"),
        &[(12, "`related` is a list")],
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_rule() {
    let rule = |name: &str| {
        format!(
            "{}name: {name}\n",
            detection("  s:\n    tcp.syn: true\n  condition: s")
        )
    };
    let names = |bytes: &[u8]| -> Result<Vec<String>, String> {
        let files = Files::new(&[("a.yml", "")]);
        std::fs::write(files.0.join("a.yml"), bytes).unwrap();
        let set = files.load().map_err(|error| error.to_string())?;
        Ok(set.rules.into_iter().map(|rule| rule.name).collect())
    };
    let two = ["a".to_owned(), "b".to_owned()];
    // Once at the beginning, and where files were joined.
    for text in [
        format!("\u{feff}{}---\n{}", rule("a"), rule("b")),
        format!("\u{feff}---\n{}---\n\u{feff}{}", rule("a"), rule("b")),
        format!("\u{feff}# first\n---\n{}\u{feff}---\n{}", rule("a"), rule("b")),
        format!("\u{feff}{}---\n{}", rule("a"), rule("b")).replace('\n', "\r\n"),
    ] {
        assert_eq!(names(text.as_bytes()).as_deref(), Ok(&two[..]), "{text:?}");
        for unit in [u16::to_le_bytes, u16::to_be_bytes] {
            let utf16: Vec<u8> = text.encode_utf16().flat_map(unit).collect();
            assert_eq!(names(&utf16).as_deref(), Ok(&two[..]), "{text:?}");
        }
    }
    let bare: Vec<u8> = rule("a").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(
        names(&bare)
            .unwrap_err()
            .contains("UTF-16 without a byte order mark")
    );
    assert!(names(b"\x1f\x8b\x08").unwrap_err().contains("compressed by gzip"));
}

#[test]
fn a_star_itself_and_a_wildcard_are_read_and_shown_apart() {
    let of = |value: &str| {
        let text = detection(&format!("  s:\n    dns.question.name: {value}\n  condition: s"));
        read(&text).unwrap().rules.remove(0).test
    };
    let words = |value: &str| watchfold_rules::test_in_words(&of(value));
    assert_eq!(words(r"'a\*b'"), r"dns.question.name is a\*b");
    assert_eq!(words("'a*b'"), "dns.question.name is like a*b");
    assert_eq!(words(r"'*a\*b*'"), r"dns.question.name is like *a\*b*");
    assert_eq!(words(r"'*a*b*'"), "dns.question.name is like *a*b*");
    assert_eq!(words(r"'a\b'"), r"dns.question.name is a\b");
    assert_eq!(words(r"'a\\*'"), r"dns.question.name is like a\\*");
    assert_eq!(words(r"'a\?'"), r"dns.question.name is a\?");
    let literal = Test::Field(FieldTest {
        field: "dns.question.name".into(),
        compare: Compare::Equals,
        values: vec![Value::Text("a*b".into())],
        all: false,
    });
    assert_eq!(of(r"'a\*b'"), literal);
}
