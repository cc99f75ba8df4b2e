//! The frame of a process: arguments, log lines, signals, opening the log, supervision, sites and their leases, the
//! status port, and what a service manager is told.
//!
//! A small program is a [`Program`] and a `main` of one line; the all-in-one takes what it shares with them from here.
//! The frame knows no collector, no chain and no sink, and it judges nothing but whether the process itself gets on.

mod activation;
pub mod address_space;
pub mod answers;
pub mod args;
pub mod configured;
pub mod console;
pub mod exit;
pub mod figures;
pub mod files;
mod frame;
pub mod health;
pub mod in_force;
mod namesake;
pub mod notify;
pub mod observed;
pub mod open_files;
pub mod places;
mod pulse;
pub mod reload;
pub mod rules;
mod run;
pub mod share;
pub mod signals;
mod sites;
pub mod stages;
pub mod status;
pub mod supervise;
pub mod token;
pub mod tracing_setup;

pub use activation::{activate, follow_activations};
pub use args::{ProcessArgs, SitesArgs};
pub use frame::{COLLECTORS, Frame, SPOOL_BYTES_MAX};
pub use run::{Program, run};
pub use sites::follow_sites;
