//! From Sigma's text to rules as data. Pure: files are read elsewhere.

mod attributes;
mod detection;
mod document;
mod keys;
mod lines;
mod parts;
mod set;
mod trigger;
mod values;
mod yaml;

pub use document::{FILE_BYTES_MAX, File};
pub use set::rules_of;
