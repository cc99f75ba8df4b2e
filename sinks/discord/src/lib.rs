//! Tells Discord, within its limits.
