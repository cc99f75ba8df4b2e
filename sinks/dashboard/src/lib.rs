//! The HTTP API, the live page and its projection.
