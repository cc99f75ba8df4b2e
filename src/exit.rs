//! Exit statuses of the command: those of every process, and the page's.

use std::process::ExitCode;

use watchfold_dashboard::DashboardError;
use watchfold_process::exit::{IO, UNAVAILABLE, status};

pub use watchfold_process::exit::of_usage;

/// The status of an error that ends the command.
pub fn of(error: &anyhow::Error) -> ExitCode {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<DashboardError>() {
            let taken = matches!(
                error,
                DashboardError::AddressInUse { .. } | DashboardError::Listen { .. }
            );
            return ExitCode::from(if taken { UNAVAILABLE } else { IO });
        }
        if let Some(status) = status(cause) {
            return ExitCode::from(status);
        }
    }
    ExitCode::FAILURE
}
