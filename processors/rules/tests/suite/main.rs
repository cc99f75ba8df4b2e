//! Sigma in, rules out: what is read, what is refused and where, what ships, and what it says about packets.

mod attacks;
mod classic;
mod dialects;
mod documents;
mod exclusions;
mod hostile;
mod ordinary;
mod packs;
mod refused;
mod site;
mod story;

use watchfold_config::{ExcludedField, RuleExclusion};
use watchfold_rules::{Problem, RuleSource, RulesError, load};
use watchfold_schemas::rules::{RuleSet, Value};

/// A directory of files that is gone after the test.
struct Files(std::path::PathBuf);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("watchfold-rules-{}-{number}", std::process::id()));
        for (name, text) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        Files(path)
    }

    fn load(&self) -> Result<RuleSet, RulesError> {
        load(&RuleSource::Directory(self.0.clone()))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The rules of one file.
fn read(text: &str) -> Result<RuleSet, Vec<Problem>> {
    match Files::new(&[("rules.yml", text)]).load() {
        Ok(set) => Ok(set),
        Err(RulesError::Invalid(problems)) => Err(problems),
        Err(other) => panic!("{other}"),
    }
}

/// Traffic that a site does not want counted, by keys as `[[rules.exclude]]` has them.
fn excluded(rule: &str, fields: &[(&str, Value)]) -> RuleExclusion {
    let field = |(key, value): &(&str, Value)| {
        let mut parts = key.split('|').map(str::to_owned);
        ExcludedField {
            key: (*key).to_owned(),
            field: parts.next().unwrap(),
            modifiers: parts.collect(),
            line: 7,
            values: vec![value.clone()],
        }
    };
    RuleExclusion {
        rule: rule.to_owned(),
        file: "watchfold.toml".to_owned(),
        line: 6,
        fields: fields.iter().map(field).collect(),
        reason: None,
        until: None,
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
