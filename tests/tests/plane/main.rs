//! The small programs as processes on loopback, over an embedded log and over a real broker: one binary, so that it is
//! linked once. Nothing leaves the machine.

mod frame;
mod packets;
mod process;
mod reading;
mod site;
mod telling;
mod topology;
