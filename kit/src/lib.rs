//! What every part of a process shares: publishing observations, progress, supervision, secrets, and the frame of the process around
//! them: arguments, log lines, signals, opening the log, sites and their leases, the status port and the service manager.
//!
//! The kit knows no collector, no chain and no sink, and evaluates nothing but whether the process itself advances.

mod activation;
pub mod address_space;
pub mod answers;
pub mod args;
pub mod configured;
pub mod console;
mod error;
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
mod progress;
mod publish;
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
pub use error::KitError;
pub use frame::{COLLECTORS, Frame, SPOOL_BYTES_MAX};
pub use progress::{Progress, ProgressSnapshot};
pub use publish::{
    Clock, IN_FLIGHT_MAX, InFlight, ManualClock, Moment, Publisher, PublisherOptions, PublisherStats,
    QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX, STEP_SPAN_MIN, SpoolOptions, Stamp, SystemClock, published_from,
};
pub use run::{Program, run};
pub use sites::follow_sites;
pub use watchfold_log::Ack;
