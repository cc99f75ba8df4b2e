//! Rules: compiled once, then held against rows of any kind. Which rows there are, what is cooled down and what an attack
//! is belongs to the chains.
//!
//! A rule is a condition on one row ([`compile`]) and a trigger over the rows that meet it ([`window`]). Conditions of
//! packets are evaluated over whole columns, those of other rows one by one; both share the checks of [`check`].

pub mod cell;
pub mod check;
pub mod compile;
pub mod expression;
pub mod keyed;
pub mod measure;
pub mod message;
pub mod print;
mod ranges;
pub mod segment;
pub mod varint;
pub mod window;

pub use compile::{RuleProblem, rules_problems};
