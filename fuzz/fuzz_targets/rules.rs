//! Text as a file of rules: refused with its lines, or rules that the folds compile and that judge alike in batches of any size.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watchfold_fuzz::chain::activation_of;
use watchfold_fuzz::{scratch, story};
use watchfold_rules::{RuleSource, RulesError, load, span_in_words, test_in_words, trigger_in_words};
use watchfold_schemas::rules::{RuleSet, Trigger};

fuzz_target!(|text: &str| {
    let path = scratch::file("rules.yml", text.as_bytes());
    match load(&RuleSource::Directory(path.to_owned())) {
        Ok(set) => hold(&set),
        Err(RulesError::Invalid(problems)) => {
            assert!(!problems.is_empty());
            let lines = text.lines().count().max(1);
            for problem in &problems {
                assert!(problem.line <= lines, "{problem}: there are {lines} lines");
                assert!(!problem.file.is_empty() && !problem.reason.is_empty());
                let told = problem.to_string();
                assert!(!told.contains('\n'), "a problem is one line: {told:?}");
            }
            let order = |pair: &[watchfold_rules::Problem]| {
                (&pair[0].file, pair[0].line) <= (&pair[1].file, pair[1].line)
            };
            assert!(
                problems.windows(2).all(order),
                "not in the order of the lines: {problems:#?}"
            );
        }
        Err(RulesError::Read { .. } | RulesError::NotThere { .. }) => panic!("the file is there"),
        Err(RulesError::TooManyFiles { .. } | RulesError::Section(_)) => panic!("there is one file"),
    }
});

fn hold(set: &RuleSet) {
    for rule in &set.rules {
        let _words = (test_in_words(&rule.test), trigger_in_words(&rule.trigger));
        if let Trigger::Count { window_ms, .. } = &rule.trigger {
            let _words = span_in_words(*window_ms);
        }
    }
    let rules = activation_of(set);
    let whole = story::mixed(&rules, 4_096);
    assert!(story::mixed(&rules, 1) == whole, "row by row");
}
