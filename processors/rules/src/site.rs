//! What a site's `[rules]` section makes of a set: its states, thresholds, cooldown and exclusions folded in.

use std::path::Path;

use watchfold_config::RulesConfig;
use watchfold_schemas::rules::RuleSet;

use crate::error::RulesError;
use crate::source::{RuleSource, load};

/// The rules of a site, for all chains ([`RuleSet::of_chain`]). A set that is no pack is looked for in `directory`, which
/// is the configuration file's.
pub fn rule_set(config: &RulesConfig, directory: &Path) -> Result<RuleSet, RulesError> {
    let source = match crate::PackName::from_name(&config.set) {
        Some(pack) => RuleSource::Pack(pack),
        None => RuleSource::Directory(directory.join(&config.set)),
    };
    load(&source)
}
