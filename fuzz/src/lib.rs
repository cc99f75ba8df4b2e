//! What the fuzz targets share: a chain that checks itself, stories of packets, and bytes as a file.

pub mod chain;
pub mod scratch;
pub mod story;
