//! Rules written in Sigma, checked whole and turned into the data that folds compile; and the packs that ship.
//!
//! Nothing here judges a packet: what a rule means for a row is the folds' business. What cannot be done exactly as the
//! rule says is refused, with file, line, reason and what to write instead; nothing of a rule is passed over.

mod error;
mod lists;
mod network;
mod pack;
mod sigma;
mod site;
mod source;
mod suggest;
mod words;

pub use error::{Problem, RulesError, SectionProblem};
pub use pack::PackName;
pub use sigma::File;
pub use site::{fold_in, rule_set};
pub use source::{RuleSource, load, load_together};
pub use watchfold_config::{Found, RulesConfig};
pub use words::{field_reference, span_in_words, test_in_words, trigger_in_words};
