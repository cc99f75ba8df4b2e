//! Everything about the log that needs a disk, a crash, or time to go wrong: one binary, a module for each way.

mod model;
mod sim;
mod sim_disk;
