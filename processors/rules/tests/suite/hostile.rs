//! Text that wants to hurt: it is refused, and never panics or takes long.

use proptest::prelude::*;
use watchfold_rules::PackName;

use super::read;

#[track_caller]
fn refused(text: &str, words: &str) {
    let problems = read(text).expect_err("it was read");
    assert!(
        problems.iter().any(|problem| problem.to_string().contains(words)),
        "{words:?} is not in {problems:#?}"
    );
}

#[test]
fn bombs_are_refused() {
    let mut bomb = String::from("title: T\na: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (one, other) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        bomb += &format!(
            "{other}: &{other} [*{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}]\n"
        );
    }
    refused(&bomb, "YAML");
    refused(
        &format!("title: T\ndetection: {}", "[".repeat(100_000)),
        "brackets",
    );
    refused(
        &format!("title: T\ndetection: {}", "{a: ".repeat(50_000)),
        "brackets",
    );
    refused(
        &format!("title: T\ndetection: {}{}", "[".repeat(60), "]".repeat(60)),
        "nests deeper",
    );
    refused(&format!("title: T\n{}x", "- ".repeat(100_000)), "YAML");
    refused(
        &format!("title: T\nx:\n{}", "  - a\n".repeat(30_000)),
        "20000 values",
    );
    refused(&format!("title: T\n{}", "k: &k\n".repeat(10)), "duplicate");
    let deep: String = (0..200)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    refused(&deep, "nests deeper");
    refused(&"a: b\n---\n".repeat(1_000), "more than 256 rules");
    refused(&"#".repeat(300_000), "longer than");
    refused("%YAML 1.2\n---\ntitle: T\n", "directive");
    let condition = format!(
        "title: T\nlevel: low\nlogsource:\n  category: packet\ndetection:\n  s:\n    tcp.syn: true\n  condition: {}s\n",
        "not ".repeat(20_000)
    );
    refused(&condition, "2048");
    let many: String = (0..600)
        .map(|number| {
            format!(
                "  s{number:03}:\n    destination.port: [{}]\n",
                vec!["1"; 100].join(",")
            )
        })
        .collect();
    refused(
        &format!(
            "title: T\nlevel: low\nlogsource:\n  category: packet\ndetection:\n{many}  condition: all of them\n"
        ),
        "values",
    );
}

#[test]
fn a_condition_as_deep_as_allowed_is_read() {
    let condition = format!("{}s", "not ".repeat(500));
    let text = format!(
        "title: T\nlevel: low\nlogsource:\n  category: packet\ndetection:\n  s:\n    tcp.syn: true\n  condition: {condition}\n"
    );
    // Five hundred and no more: what tests a row need not nest deeper than people write.
    let _ = read(&text);
}

/// All text that ships, in one file.
fn shipped() -> String {
    let files = PackName::ALL.into_iter().flat_map(PackName::files);
    files.map(|file| file.text + "\n---\n").collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text_never_panics(text in "[ -~\\n\\t\u{e9}\u{1f600}]{0,400}") {
        let _ = read(&text);
    }

    #[test]
    fn random_yaml_never_panics(text in "(title|level|detection|correlation|condition|name|s|a)?(: |:\\n  |- |\\[|\\{|\\*|&|\\||>|'|\"|x|,|\\]|\\}|\\n|#|!|%|---\\n|\\?){0,60}") {
        let _ = read(&text);
    }

    #[test]
    fn damaged_rules_never_panic(at in 0_usize..20_000, cut in 0_usize..200, put in "[ -~\\n]{0,8}") {
        let shipped = shipped();
        let start = (0..=at.min(shipped.len())).rev().find(|at| shipped.is_char_boundary(*at)).unwrap();
        let end = (start..=(start + cut).min(shipped.len())).rev().find(|at| shipped.is_char_boundary(*at)).unwrap();
        let _ = read(&format!("{}{put}{}", &shipped[..start], &shipped[end..]));
    }
}
