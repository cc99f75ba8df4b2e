//! From Sigma's text to rules as data. Pure: files are read elsewhere.

mod attributes;
mod condition;
mod detection;
mod document;
mod keys;
mod lines;
mod modifiers;
mod parts;
mod set;
mod trigger;
mod values;
mod yaml;

pub use detection::known_field;
pub use document::{FILE_BYTES_MAX, File};
pub use set::rules_of;
pub use values::{escaped, excluded_test};
