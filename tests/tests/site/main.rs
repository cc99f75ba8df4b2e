//! The built command as a whole, on networks made for it: one binary, so that it is linked once. Needs root or user
//! namespaces, because every test runs in namespaces of its own; nothing outside them is sent a packet.

mod browser;
mod crash;
mod failures;
mod first_start;
mod inside;
mod network;
mod outage;
mod record;
mod story;
mod watchfold;
