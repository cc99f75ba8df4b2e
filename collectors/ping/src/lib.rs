//! Probes targets and PCs, by echo, neighbour table, DNS, TCP and HTTPS, and publishes one record for each round.
//!
//! It measures and never judges: what an outage is, who is present and who is told, is decided elsewhere. What could
//! not be measured (no permission, no route of our own, no resolver) is a fault, and never looks like an answer.

mod body;
mod config;
mod fault;
mod parse;
pub mod part;
mod platform;
mod probe;
mod resolve;
mod round;
mod schedule;

pub use config::PingPlan;
pub use part::Ping;
pub use platform::{
    EchoAccess, GatewayInfo, NeighbourAccess, PermissionReport, Subnet, check_permissions, default_gateway,
    local_subnets,
};
pub use schedule::run;

use watchfold_kit::KitError;

/// Why probing ended.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    #[error("results of probes cannot be published: {0}")]
    Publish(#[from] KitError),
}
