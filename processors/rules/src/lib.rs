//! Rules written in Sigma, checked whole and turned into the data that folds compile; and the packs that ship.
//!
//! Nothing here judges a packet: what a rule means for a row is the folds' business. What cannot be done exactly as the
//! rule says is refused, with file, line, reason and what to write instead; nothing of a rule is passed over.

mod error;
mod pack;
mod site;
mod source;

pub use error::{Problem, RulesError};
pub use pack::PackName;
pub use site::rule_set;
pub use source::{RuleSource, load};
pub use watchfold_config::{Found, RulesConfig};
