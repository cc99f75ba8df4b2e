//! What every collector shares: the clock, identity and publishing.
