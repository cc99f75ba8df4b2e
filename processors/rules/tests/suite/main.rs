//! Sigma in, rules out: what is read, what is refused and where, what ships, and what it says about packets.

mod attacks;
mod classic;
mod documents;
mod hostile;
mod ordinary;
mod packs;
mod refused;
mod site;
mod story;

use watchfold_rules::{Problem, RuleSource, RulesError, load};
use watchfold_schemas::rules::RuleSet;

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
