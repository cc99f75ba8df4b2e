//! The small programs as processes on loopback, over an embedded log: one binary, so that it is
//! linked once. Nothing leaves the machine.

mod frame;
mod process;
