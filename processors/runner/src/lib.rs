//! Runs chains: reads the log, folds, commits to the store, publishes.
