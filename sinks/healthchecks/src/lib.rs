//! Pings healthchecks.io while every stage advances.
