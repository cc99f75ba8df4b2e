//! Discord from the log to the channel: golden bodies, limits, and every way to fail.

mod delivery;
mod faults;
mod floods;
mod limits;
mod messages;
mod sample;
