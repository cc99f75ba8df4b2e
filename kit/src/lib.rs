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
mod context;
mod error;
pub mod exit;
pub mod figures;
pub mod files;
mod frame;
pub mod health;
pub mod in_force;
pub mod metrics;
mod namesake;
pub mod notify;
pub mod observed;
pub mod open_files;
pub mod part;
pub mod places;
mod progress;
mod publish;
mod pulse;
pub mod reload;
pub mod rules;
mod run;
pub mod sections;
pub mod share;
pub mod signals;
mod sites;
pub mod stages;
pub mod status;
pub mod supervise;
pub mod token;
pub mod tracing_setup;

pub use activation::{activate, follow_activations};
pub use args::ProcessArgs;
pub use context::Context;
pub use error::KitError;
pub use frame::{COLLECTORS, Frame, Gate, SPOOL_BYTES_MAX, Scope, Setup};
pub use part::{Kind, Part, Parts};
pub use progress::{Progress, ProgressSnapshot};
pub use publish::{
    Clock, IN_FLIGHT_MAX, InFlight, ManualClock, Moment, Publisher, PublisherOptions, PublisherStats,
    QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX, STEP_SPAN_MIN, SpoolOptions, Stamp, SystemClock, published_from,
};
pub use run::{Process, Program, main};
pub use sections::{Loaded, Sections};
pub use share::Site;
pub use sites::follow_sites;
pub use watchfold_log::Ack;
