//! The pure folds: observations in, events out.
