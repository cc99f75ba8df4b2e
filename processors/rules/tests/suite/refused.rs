//! What is refused: by which line, for which reason, and with which advice.

use super::{Files, read};

/// A rule with this detection, whose first line is line 5.
fn detection(lines: &str) -> String {
    format!("title: T\nlevel: low\nlogsource:\n  category: packet\ndetection:\n{lines}\n")
}

/// A selection of one field and its values, on line 7.
fn field(line: &str) -> String {
    detection(&format!("  s:\n    {line}\n  condition: s"))
}

/// A correlation with these lines from line 10 on; the detection stands before it.
fn correlation(lines: &str) -> String {
    format!(
        "title: T\nname: base\nlogsource:\n  category: packet\ndetection:\n  s:\n    tcp.syn: true\n  condition: s\n---\ntitle: C\nlevel: \
         low\ncorrelation:\n{lines}\n"
    )
}

fn counted(lines: &str) -> String {
    correlation(&format!("  rules: [base]\n{lines}"))
}

/// The file has one problem: on this line, with these words in it.
#[track_caller]
fn check(text: &str, line: usize, words: &[&str]) {
    let problems = read(text).expect_err(text);
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let [problem] = problems.as_slice() else {
        panic!("not one problem: {told:#?}\n{text}");
    };
    assert_eq!(problem.line, line, "{}\n{text}", told[0]);
    for word in words {
        assert!(told[0].contains(word), "{word:?} is not in {:?}", told[0]);
    }
}

#[test]
fn unknown_keys() {
    let good = field("tcp.syn: true");
    check(
        &format!("{good}lvel: low\n"),
        9,
        &["`lvel` is no key", "did you mean `level`?"],
    );
    check(
        &format!("{good}watchfold.cooldwn: 5s\n"),
        9,
        &["did you mean `watchfold.cooldown`?"],
    );
    check(
        &format!("{good}custom_attributes:\n  watchfold.stat: off\n"),
        10,
        &["did you mean `watchfold.state`?"],
    );
    check(
        &format!("{good}custom_attributes:\n  mine: 1\n"),
        10,
        &["`mine` is no attribute"],
    );
    check(
        &format!("{good}generate: true\n"),
        9,
        &["`generate`", "correlation"],
    );
    check(
        &good.replace("logsource:", "logsource:\n  categry: x"),
        4,
        &["did you mean `category`?"],
    );
    check(
        &counted("  type: event_count\n  group_by: [source.ip]\n  timespan: 5s\n  condition:\n    gte: 3"),
        15,
        &["did you mean `group-by`?"],
    );
    check(
        &counted("  type: event_count\n  timespan: 5s\n  condition:\n    gte: 3\n    fild: x"),
        18,
        &["`fild`"],
    );
    check(
        &counted("  type: event_count\n  timespan: 5s\n  window: session\n  condition:\n    gte: 3"),
        16,
        &["sliding"],
    );
    check(
        &counted(
            "  type: event_count\n  timespan: 5s\n  aliases:\n    a:\n      b: c\n  condition:\n    gte: 3",
        ),
        16,
        &["aliases"],
    );
    check(
        &counted("  type: event_count\n  timespan: 5min\n  condition:\n    gte: 3"),
        15,
        &["`timespan` is a number with a unit", "5m"],
    );
    check(
        &good.replace("  category: packet", "\tcategory: packet"),
        4,
        &["a tab", "spaces"],
    );
    check("title: F\nfilter:\n  rules: any\n", 2, &["filters"]);
    check("title: F\nlevel: low\n", 1, &["neither"]);
    check(
        &format!("{good}filter: x\n"),
        9,
        &["filters", "watchfold.exclude"],
    );
    check(
        &format!("action: global\n{good}"),
        1,
        &["action", "every rule whole"],
    );
}

#[test]
fn what_a_rule_says_of_itself() {
    let good = field("tcp.syn: true");
    check(&good.replace("level: low\n", ""), 1, &["no level"]);
    check(
        &good.replace("level: low", "level: hihg"),
        2,
        &["did you mean `high`?"],
    );
    check(
        &good.replace("level: low", "level: low\nstatus: stabl"),
        3,
        &["did you mean `stable`?"],
    );
    check(&good.replace("title: T", "title: 7"), 1, &["no title"]);
    check(&good.replace("title: T", "title: T\nid: 7"), 2, &["UUID"]);
    check(&good.replace("title: T", "title: T\nname: a b"), 2, &["`name`"]);
    check(
        &good.replace("category: packet", "category: packets"),
        4,
        &["did you mean `packet`?"],
    );
    check(
        &good.replace("  category: packet", "  product: windows\n  category: packet"),
        4,
        &["windows"],
    );
    check(
        &good.replace("  category: packet", "  definition: x"),
        3,
        &["category", "packet, connection, neighbour, ping"],
    );
    check("- a\n- b\n", 1, &["keys and values"]);
    // The text ends within the quotes, and the line after its last one is none.
    check("title: 'T\nlevel: low\n", 2, &["unexpected end"]);
}

#[test]
fn fields_and_their_values() {
    for (line, words) in [
        (
            "src_ip: 10.0.0.1",
            &["no field `src_ip`", "did you mean `source.ip`?"][..],
        ),
        ("destination.prt: 80", &["did you mean `destination.port`?"]),
        ("CommandLine: whoami", &["no field", "docs/fields.md"]),
        (
            "neighbour.mac: 02:00:00:00:00:01",
            &["neighbour rows", "packet rows"],
        ),
        ("dns.question.length|gte: x", &["a number", "`x` is none"]),
        ("dns.question.name|gte: 5", &["a text", "no meaning"]),
        ("destination.port: '22'", &["take the quotes away"]),
        ("destination.port: 70000", &["70000", "from 0 to 65535"]),
        ("destination.port: -1", &["-1"]),
        ("destination.port: 1.5", &["a number"]),
        ("destination.port|gte: [1, 2]", &["2 values"]),
        ("destination.port|contains: 2", &["no parts"]),
        ("destination.port: []", &["no value"]),
        ("destination.port:", &["exists: false"]),
        ("destination.port: {a: 1}", &["a list of values"]),
        ("source.ip: 10.0.0.0/8", &["source.ip|cidr"]),
        ("source.ip: '10.*'", &["source.ip|cidr"]),
        ("source.ip|startswith: '10.'", &["source.ip|cidr"]),
        ("source.ip|cidr: 10.0.0.0/33", &["no network"]),
        ("source.ip|cidr: 10.0.0.1", &["no network"]),
        ("tcp.syn|cidr: 10.0.0.0/8", &["lies in no network"]),
        ("tcp.syn: 1", &["true or false"]),
        ("network.transport: tpc", &["did you mean `tcp`?"]),
        ("network.transport: 6", &["there are tcp, udp"]),
        ("dns.question.name|re: '.*'", &["regular expressions", "contains"]),
        ("dns.question.name|cased: A", &["take `cased` out"]),
        ("dns.question.name|contain: a", &["did you mean `contains`?"]),
        ("dns.question.name|not: a", &["`not` before it"]),
        ("dns.question.name|base64: a", &["not supported", "startswith"]),
        ("dns.question.name|contains|startswith: a", &["combined"]),
        ("dns.question.name|neq: [a, b]", &["selection of its own"]),
        ("dns.question.name|exists: 5", &["true or false"]),
        ("destination.port|all: [1, 2]", &["one value"]),
        ("source.ip[any]: 10.0.0.1", &["no field"]),
        ("tcp.syn: !x true", &["tag"]),
    ] {
        check(&field(line), 7, words);
    }
    let list =
        detection("  s:\n    source.ip|cidr:\n      - 10.0.0.0/8\n      - 192.168.0.0/99\n  condition: s");
    check(&list, 9, &["192.168.0.0/99"]);
    let long = format!("destination.port: [{}]", vec!["1"; 1_025].join(", "));
    check(&field(&long), 7, &["1025 values", "1024"]);
}

#[test]
fn conditions() {
    let with = |condition: &str| {
        detection(&format!(
            "  one:\n    tcp.syn: true\n  other:\n    tcp.ack: true\n  condition: {condition}"
        ))
    };
    check(
        &with("one or othr or other"),
        10,
        &["`othr`", "did you mean `other`?"],
    );
    check(&with("one"), 8, &["`other` is not in the condition"]);
    check(&with("1 of x* or one or other"), 10, &["`x*`"]);
    check(&with("2 of them"), 10, &["not read", "`1 of`"]);
    check(&with("one and"), 10, &["ends with `and`"]);
    check(&with("[one, other]"), 10, &["join them with `or`"]);
    check(
        &with(&format!("{}one{} or other", "(".repeat(40), ")".repeat(40))),
        10,
        &["32 parentheses"],
    );
    check(&with(&format!("other{}", " or one".repeat(400))), 10, &["2048"]);
    check(
        &detection("  one: [a, b]\n  condition: one"),
        6,
        &["words without a field"],
    );
    check(
        &detection("  one: a\n  condition: one"),
        6,
        &["words without a field"],
    );
    check(&detection("  one: {}\n  condition: one"), 6, &["empty"]);
    check(
        &detection("  one:\n    tcp.syn: true\n  timeframe: 5s\n  condition: one"),
        8,
        &["correlation"],
    );
    check(&detection("  one:\n    tcp.syn: true"), 5, &["condition"]);
    check(
        &detection("  one:\n    tcp.syn: true\n    tcp.syn: false\n  condition: one"),
        7,
        &["duplicate"],
    );
}

#[test]
fn correlations() {
    let good = "  type: event_count\n  group-by: [source.ip]\n  timespan: 5s\n  condition:\n    gte: 3";
    read(&counted(good)).unwrap();
    check(
        &counted(&good.replace("event_count", "temporal")),
        14,
        &["temporal", "value_count"],
    );
    check(
        &counted(&good.replace("source.ip", "src_ip")),
        15,
        &["did you mean `source.ip`?"],
    );
    check(
        &counted(&good.replace("[source.ip]", "[source.ip, 5]")),
        15,
        &["a list of fields"],
    );
    check(
        &counted(&good.replace(
            "[source.ip]",
            "[source.ip, source.port, destination.ip, destination.port, tcp.syn]",
        )),
        15,
        &["at most 4"],
    );
    check(&counted(&good.replace("5s", "5x")), 16, &["5x"]);
    check(&counted(&good.replace("5s", "2d")), 16, &["from 1s to 1d"]);
    check(&counted(&good.replace("gte: 3", "lte: 3")), 17, &["gte"]);
    check(
        &counted(&good.replace("gte: 3", "gte: 3\n    lt: 9")),
        17,
        &["one `gte`"],
    );
    check(&counted(&good.replace("gte: 3", "gte: 0")), 17, &["above 0"]);
    check(&counted(&good.replace("gte: 3", "gte: -3")), 17, &["above 0"]);
    check(
        &counted(&good.replace("gte: 3", "gte: 200000")),
        17,
        &["200000", "100000"],
    );
    check(
        &counted(&good.replace("gte: 3", "gte: 3\n    field: source.ip")),
        19,
        &["has no field"],
    );
    let distinct = good.replace("event_count", "value_count");
    check(&counted(&distinct), 17, &["of which field"]);
    check(
        &counted(&distinct.replace("gte: 3", "gte: 3\n    field: dst_port")),
        19,
        &["did you mean `destination.port`?"],
    );
    check(
        &counted(&distinct.replace("gte: 3", "gte: 3\n    field: [source.ip, tcp.syn]")),
        19,
        &["several"],
    );
    let sum = good.replace("event_count", "value_sum");
    check(
        &counted(&sum.replace("gte: 3", "gte: 3\n    field: source.ip")),
        19,
        &["no number"],
    );
    check(
        &correlation(&format!("  rules: [bse]\n{good}")),
        13,
        &["no rule `bse`", "did you mean `base`?"],
    );
    check(&correlation(good), 12, &["names no rule"]);
    let twice = format!(
        "{}---\ntitle: D\nlevel: low\ncorrelation:\n  rules: [c]\n{good}\n",
        counted(good)
    );
    check(&twice, 23, &["is a correlation"]);
    let mixed = format!(
        "{}---\ntitle: E\nname: other\nlogsource:\n  category: connection\ndetection:\n  s:\n    destination.port: 1\n  condition: s\n",
        correlation(&format!("  rules: [base, other]\n{good}"))
    );
    check(&mixed, 13, &["different rows"]);
}

#[test]
fn attributes() {
    let with = |line: &str| format!("{}{line}\n", field("tcp.syn: true"));
    for (line, words) in [
        ("watchfold.category: a b", &["a word"][..]),
        ("watchfold.subject: src_ip", &["did you mean `source.ip`?"]),
        ("watchfold.subject: []", &["1 to 4"]),
        ("watchfold.subject: {a: 1}", &["a list of fields"]),
        ("watchfold.cooldown: 15", &["15s"]),
        ("watchfold.cooldown: 0s", &["from 1s"]),
        (
            "watchfold.reputation: destination.port",
            &["neither an address nor a name"],
        ),
        ("watchfold.state: on", &["enforce, record or off"]),
        ("watchfold.version: 0", &["from 1"]),
        ("watchfold.message: '{src_ip}'", &["did you mean `source.ip`?"]),
        ("watchfold.message: 'a { b'", &["partner"]),
        ("watchfold.message: ''", &["1 to 300"]),
        (
            "watchfold.exclude: [{src_ip: 10.0.0.1}]",
            &["did you mean `source.ip`?"],
        ),
        ("watchfold.parts: 5", &["value_sum"]),
        ("watchfold.parts: 5000", &["1 to 1000"]),
        ("watchfold.scaled: source.ip", &["no number"]),
        ("watchfold.duplicates: both", &["skip or count"]),
        (
            "watchfold.withdrawn_by: {tcp.rst: true}",
            &["for rules on `category: connection`"],
        ),
    ] {
        check(&with(line), 9, words);
    }
    check(
        &with("watchfold.scaled: dns.question.length"),
        5,
        &["demand `dns.question.length|gte:` once"],
    );
    let good = counted("  type: event_count\n  timespan: 5s\n  condition:\n    gte: 3");
    check(&format!("{good}watchfold.parts: 5\n"), 18, &["value_sum"]);
    check(
        &format!("{good}watchfold.scaled: network.bytes\n"),
        18,
        &["scales by itself"],
    );
    check(
        &good.replace("---", "watchfold.state: off\n---"),
        9,
        &["no effect", "correlation"],
    );
}

#[test]
fn names_and_ids_are_told_apart() {
    let one = |name: &str, id: &str| format!("{}name: {name}\nid: {id}\n", field("tcp.syn: true"));
    let (id, other) = (
        "1fb7a3f2-6d5e-4a38-b7f5-2f9f0a4f8d11",
        "2fb7a3f2-6d5e-4a38-b7f5-2f9f0a4f8d11",
    );
    read(&format!("{}---\n{}", one("a", id), one("b", other))).unwrap();
    check(
        &format!("{}---\n{}", one("a", id), one("a", other)),
        20,
        &["name `a`", "rules.yml:9"],
    );
    check(
        &format!("{}---\n{}", one("a", id), one("b", &id.to_uppercase())),
        21,
        &["is that of the rule at"],
    );
}

/// The file has exactly these problems, in the order of its lines: on which line, and with which words in it.
#[track_caller]
fn check_all(text: &str, want: &[(usize, &str)]) {
    let problems = read(text).expect_err(text);
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
    let wanted: Vec<usize> = want.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, wanted, "{told:#?}\n{text}");
    for ((_, words), told) in want.iter().zip(&told) {
        assert!(told.contains(words), "{words:?} is not in {told:?}");
    }
}

#[test]
fn no_problem_of_a_rule_hides_another() {
    let selection = "  s:\n    src_ip: 10.0.0.1\n    destination.port: 70000";
    let rule = |condition: &str| detection(&format!("{selection}\n  condition: {condition}"));
    let fields = [(7, "`source.ip`"), (8, "70000")];
    let and_fields = |line, words| [&[(line, words)][..], &fields].concat();
    let wrong_level = rule("s").replace("level: low", "level: hihg");
    check_all(&wrong_level, &and_fields(2, "did you mean `high`?"));
    check_all(
        &rule("s").replace("title: T", "title: 7"),
        &and_fields(1, "no title"),
    );
    check_all(
        &rule("s").replace("packet", "packets"),
        &and_fields(4, "did you mean `packet`?"),
    );
    check_all(&rule("s and"), &[&fields[..], &[(9, "ends with `and`")]].concat());
    check_all(&rule("7"), &[&fields[..], &[(9, "condition")]].concat());
    check_all(
        &rule(&"not ".repeat(600)),
        &[&fields[..], &[(9, "2048")]].concat(),
    );
    check_all(
        &rule("s and")
            .replace("src_ip", "src_ip|contain")
            .replace("level: low", "level: lo\nx: 1"),
        &[
            (2, "did you mean `low`?"),
            (3, "`x`"),
            (8, "did you mean `source.ip`?"),
            (8, "did you mean `contains`?"),
            (9, "70000"),
            (10, "ends with `and`"),
        ],
    );
    check_all(
        &format!(
            "{}watchfold.subject: [src_ip, dst_ip]\nwatchfold.message: '{{src_ip}} {{port}}'\n",
            wrong_level
        ),
        &[
            (2, "did you mean `high`?"),
            (7, "`source.ip`"),
            (8, "70000"),
            (10, "`dst_ip`"),
            (10, "`src_ip`"),
            (11, "`port`"),
            (11, "`src_ip`"),
        ],
    );
    check_all(
        &counted("  type: evnt_count\n  group-by: [src_ip]\n  timespan: 5\n  condition:\n    gte: x\n  x: 1")
            .replace("level: low", "level: lo"),
        &[
            (11, "did you mean `low`?"),
            (14, "evnt_count"),
            (15, "`source.ip`"),
            (16, "a number with a unit"),
            (18, "`gte` is a whole number"),
            (19, "`x`"),
        ],
    );
    check_all(
        &correlation("  rules: [bse]\n  type: event_count\n  timespan: 5s\n  condition:\n    gte: 3")
            .replace("tcp.syn", "tcp.syyn"),
        &[(7, "`tcp.syn`"), (13, "did you mean `base`?")],
    );
    check_all(
        "title: T\nlevel: lo\nlogsource: packet\ndetection: s\n",
        &[(2, "`low`"), (3, "keys and values"), (4, "keys and values")],
    );
}

#[test]
fn all_problems_of_all_files_come_at_once() {
    let files = Files::new(&[
        (
            "b.yml",
            &field("src_ip: 10.0.0.1").replace("title: T", "title: B"),
        ),
        (
            "a/c.yaml",
            &format!("{}watchfold.state: on\nx: 1\n", field("tcp.syn: true")),
        ),
        ("notes.txt", "not a rule"),
        ("d.yml", "title: [\n"),
    ]);
    let told = files.load().unwrap_err().to_string();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    for (line, words) in lines.iter().zip([
        "c.yaml:9: `watchfold.state`",
        "c.yaml:10: `x`",
        "b.yml:7: there is no field",
        "d.yml:1",
    ]) {
        assert!(line.contains(words), "{words:?} is not in {line:?}");
    }
}

#[test]
fn places_without_rules() {
    use watchfold_rules::load;
    let told = |text: &str| load(&text.parse().unwrap()).unwrap_err().to_string();
    assert!(told("clasic").contains("did you mean the pack `classic`?"));
    assert!(told("/no/such/directory").contains("classic and default"));
    let empty = Files::new(&[("readme.txt", "x")]);
    assert!(empty.load().unwrap_err().to_string().contains(".yml"));
    let nothing = Files::new(&[("a.yml", "# nothing yet\n")]);
    assert!(
        nothing
            .load()
            .unwrap_err()
            .to_string()
            .contains("there is no rule")
    );
    let bytes = Files::new(&[("a.yml", "")]);
    std::fs::write(bytes.0.join("a.yml"), b"title: Gr\xfc\xdfe\n").unwrap();
    assert!(bytes.load().unwrap_err().to_string().contains("UTF-8"));
}

/// What Sigma's own parser stops at does not hide what else is wrong.
#[test]
fn a_wrong_word_at_the_top_hides_nothing_below() {
    let text = field("src_ip: 10.0.0.1").replace("level: low", "level: hihg\nstatus: good\nid: 12");
    assert!(text.contains("hihg"), "{text}");
    let problems = read(&text).expect_err(&text);
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let expected = ["`high`", "`status` is one of", "`id` is a UUID", "`source.ip`"];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for word in expected {
        assert!(told.iter().any(|told| told.contains(word)), "{word}: {told:#?}");
    }
}
