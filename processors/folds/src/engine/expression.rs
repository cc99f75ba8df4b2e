//! Conditions as expressions over numbered checks, so that a check that several rules share is evaluated once.

use watchfold_schemas::Time;

/// The deepest that conditions may be nested.
pub const DEPTH_MAX: usize = 32;

/// A condition on one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// True when empty.
    All(Vec<Expression>),
    /// False when empty.
    Any(Vec<Expression>),
    Not(Box<Expression>),
    /// A check, by its number among those of the set.
    Leaf(usize),
    /// True of rows before this instant, by their own time.
    Before(Time),
}

impl Expression {
    /// Whether it holds of a row of time `at`, given what each check says.
    pub fn holds(&self, at: Time, leaf: &mut dyn FnMut(usize) -> bool) -> bool {
        match self {
            Expression::All(parts) => parts.iter().all(|part| part.holds(at, leaf)),
            Expression::Any(parts) => parts.iter().any(|part| part.holds(at, leaf)),
            Expression::Not(part) => !part.holds(at, leaf),
            Expression::Leaf(number) => leaf(*number),
            Expression::Before(until) => at < *until,
        }
    }

    /// Whether it holds, given what some checks say; `None` where it depends on others.
    pub fn known(&self, leaf: &dyn Fn(usize) -> Option<bool>) -> Option<bool> {
        let several = |parts: &[Expression], decides: bool| {
            let mut is_open = false;
            for part in parts {
                match part.known(leaf) {
                    Some(holds) if holds == decides => return Some(decides),
                    Some(_) => {}
                    None => is_open = true,
                }
            }
            (!is_open).then_some(!decides)
        };
        match self {
            Expression::All(parts) => several(parts, false),
            Expression::Any(parts) => several(parts, true),
            Expression::Not(part) => part.known(leaf).map(|holds| !holds),
            Expression::Leaf(number) => leaf(*number),
            Expression::Before(_) => None,
        }
    }

    /// The numbers of the checks in it.
    pub fn leaves(&self, out: &mut Vec<usize>) {
        match self {
            Expression::All(parts) | Expression::Any(parts) => parts.iter().for_each(|part| part.leaves(out)),
            Expression::Not(part) => part.leaves(out),
            Expression::Leaf(number) => out.push(*number),
            Expression::Before(_) => {}
        }
    }
}
